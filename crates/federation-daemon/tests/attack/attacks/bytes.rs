//! Frames that are broken: cut, grown, flipped, unsigned, or of nobody.

use federation_core::limits::{FRAME_BYTES_MAX, FRAME_HEADER_BYTES_MAX};
use federation_wire::frame::Route;
use federation_wire::slug::Slug;

use super::{Attack, Gets, Shot, push};
use crate::loot::{Loot, Sender, body, nonce, unsigned, with_envelope};

pub(crate) const ATTACKS: &[Attack] = &[
    Attack {
        name: "cut before the end of the body",
        gets: Gets::Refused(Slug::Malformed),
        shots: |loot| {
            let frame = &loot.undelivered[0];
            let end = unsigned(frame).len();
            (0..end).step_by(17).chain([1, 4, 7, 8, end - 1]).map(|len| push(frame[..len].to_vec())).collect()
        },
    },
    Attack {
        name: "cut in the signature",
        gets: Gets::Refused(Slug::SignatureMalformed),
        shots: |loot| {
            let frame = &loot.undelivered[0];
            let cut = |cut| push(frame[..frame.len() - cut].to_vec());
            [1, 2, 32, 63].map(cut).into()
        },
    },
    Attack {
        name: "without a signature",
        gets: Gets::Refused(Slug::SignatureMissing),
        shots: |loot| loot.undelivered.iter().map(|frame| push(unsigned(frame))).collect(),
    },
    Attack {
        name: "with more behind it",
        gets: Gets::Refused(Slug::SignatureMalformed),
        shots: |loot| {
            let grown = |more: &[u8]| push([&loot.undelivered[0][..], more].concat());
            vec![grown(&[0]), grown(&[0; 64]), grown(&loot.undelivered[0])]
        },
    },
    Attack {
        name: "larger than any frame",
        gets: Gets::Refused(Slug::TooLarge),
        shots: |loot| {
            let mut frame = loot.undelivered[0].clone();
            frame.resize(FRAME_BYTES_MAX + 1, 0);
            vec![push(frame)]
        },
    },
    Attack {
        name: "with a header that is said to be larger than any",
        gets: Gets::Refused(Slug::TooLarge),
        shots: |loot| {
            let lengths = [u32::try_from(FRAME_HEADER_BYTES_MAX).unwrap() + 1, u32::MAX];
            let lying = |length: u32| {
                let mut frame = loot.undelivered[0].clone();
                frame[4..8].copy_from_slice(&length.to_le_bytes());
                push(frame)
            };
            lengths.map(lying).into()
        },
    },
    Attack {
        name: "with one bit flipped, at every third byte",
        gets: Gets::RefusedSomehow,
        shots: |loot| {
            let frame = &loot.undelivered[0];
            (0..frame.len()).step_by(3).map(|at| flipped(frame, at, at % 8)).collect()
        },
    },
    Attack {
        name: "with one bit of the signature flipped",
        gets: Gets::Refused(Slug::SignatureInvalid),
        shots: |loot| {
            let frame = fresh(loot);
            (frame.len() - 64..frame.len()).map(|at| flipped(&frame, at, at % 8)).collect()
        },
    },
    Attack {
        name: "with one bit of the body flipped, under a fresh signature",
        gets: Gets::Refused(Slug::SignatureInvalid),
        shots: |loot| {
            (1..40)
                .map(|number| {
                    let frame = fresh(loot);
                    flipped(&frame, frame.len() - 64 - number, number % 8)
                })
                .collect()
        },
    },
    Attack {
        name: "under the signature of another recorded frame",
        gets: Gets::Refused(Slug::SignatureInvalid),
        shots: |loot| {
            let swap = |other: &Vec<u8>| {
                let mut frame =
                    unsigned(&with_envelope(&loot.frames[1], |envelope| envelope.nonce = nonce()));
                frame.extend_from_slice(&other[other.len() - 64..]);
                Shot { by: crate::loot::envelope(&loot.frames[1]).route, ..push(frame) }
            };
            loot.frames.iter().skip(2).map(swap).collect()
        },
    },
    Attack {
        name: "of nobody who is enrolled",
        gets: Gets::Refused(Slug::UnknownPeer),
        shots: |loot| vec![push(by(&loot.stranger, loot))],
    },
    Attack {
        name: "in the name of a node, under a key of nobody",
        gets: Gets::Refused(Slug::UnknownPeer),
        shots: |loot| {
            let id = crate::loot::envelope(&loot.frames[0]).sender;
            vec![push(by(&Sender { id, ..loot.stranger.clone() }, loot))]
        },
    },
    Attack {
        name: "with a body of another route, under a fresh signature",
        gets: Gets::Refused(Slug::Malformed),
        shots: |loot| {
            let hello = loot.hello_of(&loot.mallory).to_bytes();
            let cross =
                |by: Route, body: &[u8]| Shot { by, ..push(loot.mallory.sends(&loot.victim, by, body)) };
            let page = body(&loot.undelivered[0]);
            vec![cross(Route::Push, &hello), cross(Route::Hello, page), cross(Route::Pull, page)]
        },
    },
];

fn by(sender: &Sender, loot: &Loot) -> Vec<u8> {
    sender.sends(&loot.victim, Route::Push, body(&loot.undelivered[0]))
}

/// A recorded page in a frame of mallory's that has not been sent.
fn fresh(loot: &Loot) -> Vec<u8> {
    by(&loot.mallory, loot)
}

fn flipped(frame: &[u8], at: usize, bit: usize) -> Shot {
    let mut frame = frame.to_vec();
    frame[at] ^= 1 << bit;
    push(frame)
}
