//! What an enrolled node can say that is not so, in frames and with proofs that are sound.

use federation_core::dot::Origin;
use federation_core::dot_set::DotSet;
use federation_core::id::BootId;
use federation_core::op::{Body, Op};
use federation_core::port::sealer::Sealer;
use federation_core::port::store::SessionId;
use federation_core::scope::Scope;
use federation_core::seq_ranges::SeqRange;
use federation_wire::frame::Route;
use federation_wire::seal::GroupSealer;
use federation_wire::v1::clock_page::ClockPage;
use federation_wire::v1::delivery::{Complete, Lane, Page, PageOp};
use federation_wire::v1::op::{decode_op, encode_op};
use federation_wire::v1::push::{Completion, PushAnswer};
use rand::{Rng, RngExt};

use super::{Attacker, Judged, judge_acks};
use crate::history::IntrusionAnswer;

/// What a second op under a dot says.
const EQUIVOCAL: &[u8] = b"equivocal";

/// Whether an op is the second one under a dot that an attacker has made.
pub(in crate::simulation) fn is_equivocal(op: &Op) -> bool {
    matches!(&op.body, Body::Put { payload, .. } if **payload == *EQUIVOCAL)
}

/// Farther than any run makes ops.
const BEYOND: u64 = 1_000_000;

impl Attacker {
    /// Sends the node another op under the dot of one that it has made in its present boot: so it surely has had that dot.
    /// [`IntrusionAnswer::None`] if it has replaced its own since: then it cannot tell, and takes nothing.
    pub(super) async fn equivocate(&mut self, victim: usize) -> Option<IntrusionAnswer> {
        let (id, key) = self.nodes.get(victim).cloned()?;
        let boot = self.address(victim).await?.boot;
        let mut made = self.ops_sent_by(&id, boot).into_iter().filter_map(|bytes| decode_op(&bytes).ok());
        let mut op = made.rfind(|op| op.dot.origin.node == id && op.body.is_put())?;
        op.body = Body::Put { payload: EQUIVOCAL.into(), embedding: None, archived: false };
        let encoded = encode_op(&op);
        let proof = GroupSealer::new(key).seal(&op.dot.origin, &[encoded.hash]).pop()?;
        let ops = vec![PageOp { op: &encoded.bytes, proof: &proof }];
        let body = Page { lane: Lane::Live, receipts: Vec::new(), ops }.to_bytes();
        let (what, body) = match self.push(victim, body).await? {
            Judged::Refused(slug) => return Some(IntrusionAnswer::Refused { slug }),
            Judged::Handled { what, body } => (what, body),
        };
        match judge_acks(&what, &body, 1) {
            IntrusionAnswer::Accepted { what } if what.ends_with("duplicate") => None,
            answer => Some(answer),
        }
    }

    /// Ends a session that had no page with a claim of ops that are still to be made, by the node or by another.
    pub(super) async fn claim_beyond(&mut self, victim: usize) -> Option<IntrusionAnswer> {
        let at = self.random.random_range(0..self.nodes.len());
        let node = self.nodes.get(at)?.0.clone();
        let epoch = self.epoch_of(&node).unwrap_or(BootId(self.random.next_u64()));
        let mut dots = DotSet::new();
        dots.insert_range(&Origin { node, epoch }, SeqRange::new(BEYOND, 2 * BEYOND)?);
        let complete = Complete {
            session: SessionId(self.random.next_u64()),
            pages: 0,
            claim: ClockPage::of(&dots, None),
            replica_scope: Scope::everything(),
            grant: Scope::everything(),
        };
        Some(match self.push(victim, complete.to_bytes()).await? {
            Judged::Refused(slug) => IntrusionAnswer::Refused { slug },
            Judged::Handled { what, body } => {
                match PushAnswer::from_bytes(&body).map(|answer| answer.completion) {
                    Ok(Some(Completion::Beyond)) => {
                        IntrusionAnswer::Refused { slug: "completion_beyond".to_owned() }
                    }
                    other => IntrusionAnswer::Accepted { what: format!("{what}: {other:?}") },
                }
            }
        })
    }

    /// Pushes this in a sound frame of an enrolled node.
    async fn push(&mut self, victim: usize, body: Vec<u8>) -> Option<Judged> {
        let mut sound = self.sound(victim, |_| true).await?;
        sound.envelope.route = Route::Push;
        sound.body = body;
        let answer = self.deliver(victim, Route::Push, sound.sealed()).await?;
        Some(self.judge(victim, answer).await)
    }
}
