//! A peer that speaks for another origin: with ops and proofs out of recorded pages, and with claims.

use federation_core::dot::Dot;
use federation_core::id::NodeId;
use federation_core::node_clock::NodeClock;
use federation_core::port::store::SessionId;
use federation_core::scope::Scope;
use federation_wire::frame::Route;
use federation_wire::slug::Slug;
use federation_wire::v1::ack::OpRefusal;
use federation_wire::v1::clock_page::ClockPage;
use federation_wire::v1::delivery::Complete;
use federation_wire::v1::op::{decode_op, encode_op};
use federation_wire::v1::pull::PullRequest;
use federation_wire::v1::push::Completion;

use super::{Attack, Gets, Shot, push};
use crate::loot::{Loot, body};

/// Wrong proofs in one page: past sixteen no more are looked at.
const WRONG: usize = 16;

pub(crate) const ATTACKS: &[Attack] = &[
    Attack {
        name: "recorded ops with their proofs, in a page of another",
        gets: Gets::Known,
        shots: |loot| {
            let parts: Vec<_> =
                loot.ops().iter().map(|op| (op.op.bytes.to_vec(), op.proof.to_vec())).collect();
            vec![push(loot.page_of_mallory(&parts))]
        },
    },
    Attack {
        name: "a page that never arrived, once it has come another way",
        gets: Gets::Known,
        shots: |loot| {
            let page = body(loot.undelivered.last().unwrap());
            vec![push(loot.mallory.sends(&loot.victim, Route::Push, page))]
        },
    },
    Attack {
        name: "recorded ops with the proofs of others",
        gets: Gets::OpRefused(OpRefusal::ProofInvalid),
        shots: |loot| {
            let ops = loot.ops();
            let others = ops.iter().zip(ops.iter().skip(1)).take(WRONG);
            let swapped: Vec<_> =
                others.map(|(op, other)| (op.op.bytes.to_vec(), other.proof.to_vec())).collect();
            vec![push(loot.page_of_mallory(&swapped))]
        },
    },
    Attack {
        name: "ops of an origin, changed, with their proofs",
        gets: Gets::OpRefused(OpRefusal::ProofInvalid),
        shots: |loot| {
            let changed: Vec<_> = loot
                .ops()
                .iter()
                .take(WRONG)
                .map(|sealed| {
                    let mut op = decode_op(&sealed.op.bytes).unwrap();
                    op.dot.seq += 1_000;
                    (encode_op(&op).bytes.to_vec(), sealed.proof.to_vec())
                })
                .collect();
            vec![push(loot.page_of_mallory(&changed))]
        },
    },
    Attack {
        name: "new ops of an origin, sealed by another who is enrolled",
        gets: Gets::OpRefused(OpRefusal::UnknownOrigin),
        shots: |loot| {
            let mut op = decode_op(&loot.ops()[0].op.bytes).unwrap();
            op.dot.seq += 1_000;
            let bytes = encode_op(&op).bytes.to_vec();
            let proof = loot.mallory.proof(&op.dot.origin, &bytes);
            vec![push(loot.page_of_mallory(&[(bytes, proof)]))]
        },
    },
    Attack {
        name: "new ops of the victim itself, sealed by another",
        gets: Gets::OpRefused(OpRefusal::UnknownOrigin),
        shots: |loot| {
            let mut op = loot.op_of_mallory(1);
            op.dot.origin.node = loot.victim.id.clone();
            let bytes = encode_op(&op).bytes.to_vec();
            let proof = loot.mallory.proof(&op.dot.origin, &bytes);
            vec![push(loot.page_of_mallory(&[(bytes, proof)]))]
        },
    },
    Attack {
        name: "ops of an origin that nobody enrolled",
        gets: Gets::OpRefused(OpRefusal::UnknownOrigin),
        shots: |loot| {
            let mut op = loot.op_of_mallory(1);
            op.dot.origin = loot.stranger.origin();
            let bytes = encode_op(&op).bytes.to_vec();
            let proof = loot.stranger.proof(&op.dot.origin, &bytes);
            vec![push(loot.page_of_mallory(&[(bytes, proof)]))]
        },
    },
    Attack {
        name: "recorded ops as the attacker's own, with their proofs",
        gets: Gets::OpRefused(OpRefusal::UnknownOrigin),
        shots: |loot| {
            let proof = loot.ops()[0].proof.to_vec();
            vec![push(loot.page_of_mallory(&[(encode_op(&loot.op_of_mallory(1)).bytes.to_vec(), proof)]))]
        },
    },
    Attack {
        name: "ops with cut and grown proofs",
        gets: Gets::OpRefused(OpRefusal::ProofInvalid),
        shots: |loot| {
            let sealed = &loot.ops()[0];
            let with =
                |proof: &[u8]| push(loot.page_of_mallory(&[(sealed.op.bytes.to_vec(), proof.to_vec())]));
            let proof = &sealed.proof;
            vec![with(&[]), with(&proof[..proof.len() - 1]), with(&[&proof[..], &[0; 32]].concat())]
        },
    },
    Attack {
        name: "a claim to have sent ops of others, from one who is not trusted to relay",
        gets: Gets::Claimed(Completion::MergedOwn),
        shots: |loot| {
            let mut claim = NodeClock::new();
            let origin = decode_op(&loot.ops()[0].op.bytes).unwrap().dot.origin;
            (1..5_000).for_each(|seq| {
                claim.insert(&Dot { origin: origin.clone(), seq });
            });
            vec![push(claiming(loot, &claim))]
        },
    },
    Attack {
        name: "a claim beyond the pages that came",
        gets: Gets::Claimed(Completion::Incomplete { handled: 0 }),
        shots: |loot| {
            let complete = Complete { pages: 7, ..complete(&NodeClock::new()) };
            vec![push(loot.mallory.sends(&loot.victim, Route::Push, &complete.to_bytes()))]
        },
    },
    Attack {
        name: "a pull of one to whom nothing is granted",
        gets: Gets::Nothing,
        shots: |loot| {
            let request = PullRequest { clock: ClockPage::default(), bytes_max: u64::MAX }.to_bytes();
            let frame = loot.mallory.sends(&loot.victim, Route::Pull, &request);
            vec![Shot { by: Route::Pull, ..push(frame) }]
        },
    },
    Attack {
        name: "a hello in the name of another in its body",
        gets: Gets::Refused(Slug::Malformed),
        shots: |loot| {
            let mut hello = loot.hello_of(&loot.mallory);
            hello.node = NodeId::new("node-2").unwrap();
            let frame = loot.mallory.sends(&loot.victim, Route::Hello, &hello.to_bytes());
            vec![Shot { by: Route::Hello, ..push(frame) }]
        },
    },
];

fn claiming(loot: &Loot, claim: &NodeClock) -> Vec<u8> {
    loot.mallory.sends(&loot.victim, Route::Push, &complete(claim).to_bytes())
}

/// A completion that lies about both scopes.
fn complete(claim: &NodeClock) -> Complete {
    Complete {
        session: SessionId(77),
        pages: 0,
        claim: ClockPage::of(claim, None),
        replica_scope: Scope::everything(),
        grant: Scope::everything(),
    }
}
