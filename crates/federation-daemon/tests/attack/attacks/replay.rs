//! Bytes as they were recorded: sent again, elsewhere, later, or in another envelope.

use federation_core::id::BootId;
use federation_wire::frame::{Envelope, Route};
use federation_wire::slug::Slug;
use tokio::io::AsyncWriteExt as _;

use super::{Attack, Gets, Shot, push};
use crate::bench::{Bench, OTHER, VICTIM, WITHIN};
use crate::line::{ATTACKER, connect};
use crate::loot::{Loot, bodies, envelope, nonce, now, with_envelope};
use crate::poll::until;

pub(crate) const ATTACKS: &[Attack] = &[
    Attack {
        name: "recorded frames, to the same node",
        gets: Gets::Refused(Slug::Replayed),
        shots: |loot| addressed(loot).map(|(envelope, frame)| shot(VICTIM, envelope.route, frame)).collect(),
    },
    Attack {
        name: "first hellos, which name no boot",
        gets: Gets::Refused(Slug::WrongBoot),
        shots: |loot| {
            let first = loot.frames.iter().filter(|frame| envelope(frame).recipient_boot == BootId(0));
            first.map(|frame| shot(VICTIM, Route::Hello, frame.clone())).collect()
        },
    },
    Attack {
        name: "recorded frames, to another node",
        gets: Gets::Refused(Slug::WrongRecipient),
        shots: |loot| addressed(loot).map(|(envelope, frame)| shot(OTHER, envelope.route, frame)).collect(),
    },
    Attack {
        name: "recorded frames, by another route",
        gets: Gets::Refused(Slug::WrongRoute),
        shots: |loot| {
            let other = |route| if route == Route::Push { Route::Hello } else { Route::Push };
            addressed(loot).map(|(envelope, frame)| shot(VICTIM, other(envelope.route), frame)).collect()
        },
    },
    Attack {
        name: "a fresh push, by each route that it was not signed for",
        gets: Gets::Refused(Slug::WrongRoute),
        shots: |loot| {
            let others = Route::ALL.into_iter().filter(|route| *route != Route::Push);
            others.map(|route| shot(VICTIM, route, loot.undelivered[0].clone())).collect()
        },
    },
    Attack {
        name: "answers, sent back to who gave them",
        gets: Gets::Refused(Slug::UnknownPeer),
        shots: |loot| loot.answers.iter().map(|frame| push(frame.clone())).collect(),
    },
    Attack {
        name: "answers, as requests to a third node",
        gets: Gets::Refused(Slug::WrongRecipient),
        shots: |loot| loot.answers.iter().map(|frame| shot(OTHER, Route::Push, frame.clone())).collect(),
    },
    Attack {
        name: "an old envelope with a nonce of today",
        gets: Gets::Refused(Slug::SignatureInvalid),
        shots: |loot| changed(loot, |_, envelope| envelope.nonce = nonce()),
    },
    Attack {
        name: "an old envelope with a time of today",
        gets: Gets::Refused(Slug::SignatureInvalid),
        shots: |loot| changed(loot, |_, envelope| envelope.sent_at.0 = now().0 + 1),
    },
    Attack {
        name: "an envelope of long ago",
        gets: Gets::Refused(Slug::Stale),
        shots: |loot| changed(loot, |_, envelope| envelope.sent_at.0 -= 130_000),
    },
    Attack {
        name: "an envelope of another boot of the sender",
        gets: Gets::Refused(Slug::SignatureInvalid),
        shots: |loot| {
            changed(loot, |_, envelope| {
                envelope.sender_boot.0 ^= 1;
                envelope.nonce = nonce();
            })
        },
    },
    Attack {
        name: "an envelope in the name of another who is enrolled",
        gets: Gets::Refused(Slug::UnknownPeer),
        shots: |loot| changed(loot, |loot, envelope| envelope.sender = loot.mallory.id.clone()),
    },
    Attack {
        name: "an envelope that names another node and its boot, to that node",
        gets: Gets::Refused(Slug::SignatureInvalid),
        shots: |loot| {
            let mut shots = changed(loot, |loot, envelope| {
                envelope.recipient = loot.other.id.clone();
                envelope.recipient_boot = loot.other.boot;
            });
            for shot in &mut shots {
                shot.to = OTHER;
            }
            shots
        },
    },
    Attack {
        name: "an envelope that names another route, by that route",
        gets: Gets::Refused(Slug::SignatureInvalid),
        shots: |loot| {
            let mut shots = changed(loot, |_, envelope| {
                envelope.route = Route::Pull;
                envelope.nonce = nonce();
            });
            for shot in &mut shots {
                shot.by = Route::Pull;
            }
            shots
        },
    },
];

fn shot(to: usize, by: Route, frame: Vec<u8>) -> Shot {
    Shot { to, by, frame }
}

/// The recorded frames that name a boot.
fn addressed(loot: &Loot) -> impl Iterator<Item = (Envelope, Vec<u8>)> {
    let named = loot.frames.iter().map(|frame| (envelope(frame), frame.clone()));
    named.filter(|(envelope, _)| envelope.recipient_boot != BootId(0))
}

/// The recorded pushes in other envelopes, under the signatures that they had.
fn changed(loot: &Loot, change: fn(&Loot, &mut Envelope)) -> Vec<Shot> {
    let pushes = addressed(loot).filter(|(envelope, _)| envelope.route == Route::Push);
    pushes.map(|(_, frame)| push(with_envelope(&frame, |envelope| change(loot, envelope)))).collect()
}

/// Sends whole connections as they were, and waits until each request on them was refused.
async fn replay_connections(bench: &Bench, loot: &Loot, to: usize, place: &crate::loot::Place, slug: &str) {
    let (before, refused) = (bench.state(to).await, bench.refused(to, slug).await);
    let mut requests = 0;
    let mut streams = Vec::new();
    for recorded in &loot.connections {
        let named = bodies(&recorded.asked).into_iter().map(|(_, frame)| envelope(&frame));
        let is_counted = |envelope: &Envelope| slug != "replayed" || envelope.recipient_boot != BootId(0);
        requests += named.filter(is_counted).count() as u64;
        let mut stream = connect(ATTACKER, place.address).await.unwrap();
        stream.write_all(&recorded.asked).await.unwrap();
        streams.push(stream);
    }
    let are_refused = async || (bench.refused(to, slug).await - refused >= requests).then_some(());
    until(WITHIN, &format!("{requests} are refused: {slug}"), are_refused).await;
    assert!(requests > 0);
    assert_eq!(bench.state(to).await, before, "{slug}: whole connections have left a trace");
    println!("{requests:>4} x requests of {} whole connections: {slug}", streams.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn whole_connections_sent_again_bring_nothing_also_elsewhere_and_after_a_restart() {
    let (mut bench, loot) = Bench::recorded().await;
    replay_connections(&bench, &loot, VICTIM, &loot.victim, "replayed").await;
    replay_connections(&bench, &loot, OTHER, &loot.other, "wrong_recipient").await;

    // The memory of nonces is gone with the process; its boot is another.
    bench.mesh.kill(VICTIM).await.unwrap();
    bench.mesh.start(VICTIM).unwrap();
    bench.mesh.ready(VICTIM, WITHIN).await.unwrap();
    bench.quiet().await;
    let loot = Loot { victim: bench.place(VICTIM).await, ..loot };
    replay_connections(&bench, &loot, VICTIM, &loot.victim, "wrong_boot").await;
    let undelivered = Attack {
        name: "frames that never arrived, after a restart",
        gets: Gets::Refused(Slug::WrongBoot),
        shots: |loot| loot.undelivered.iter().map(|frame| push(frame.clone())).collect(),
    };
    super::play(&bench, &loot, &undelivered).await;
    bench.stop().await;
}
