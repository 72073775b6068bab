//! What whoever has a copy of a key tries with it, once it is retired or revoked.

use std::sync::Arc;

use federation_core::dot::Origin;
use federation_core::id::BootId;
use federation_wire::frame::Route;

use super::{Attacker, Judged, judge_acks};
use crate::history::{Intrusion, IntrusionAnswer};
use crate::simulation::keys::OldKey;

impl Attacker {
    /// Sends a node what it has taken of the key's owner, signed by the key. The node has retired or revoked it.
    pub async fn call_with(&mut self, old: &OldKey, victim: usize) -> Intrusion {
        let answer = self.frame_by(old, victim).await.unwrap_or(IntrusionAnswer::None);
        Intrusion { kind: "call by an ended key".to_owned(), node: victim, answer }
    }

    /// Brings a node ops of the key's owner beyond what is taken under the key, sealed by it. The node has revoked it.
    pub async fn write_with(&mut self, old: &OldKey, victim: usize) -> Intrusion {
        let answer = self.ops_by(old, victim).await.unwrap_or(IntrusionAnswer::None);
        Intrusion { kind: "ops by a revoked key".to_owned(), node: victim, answer }
    }

    async fn frame_by(&mut self, old: &OldKey, victim: usize) -> Option<IntrusionAnswer> {
        let owner = self.nodes.get(old.node)?.0.clone();
        let mut sound = self.sound(victim, |heard| heard.frame.from == owner).await?;
        sound.key = Arc::clone(&old.key);
        self.send(victim, sound.route(), sound.sealed()).await
    }

    async fn ops_by(&mut self, old: &OldKey, victim: usize) -> Option<IntrusionAnswer> {
        let node = self.nodes.get(old.node)?.0.clone();
        let mut sound = self.sound(victim, |_| true).await?;
        let epoch = old.accepted.keys().next_back().copied().unwrap_or(BootId(1));
        let first = old.accepted.get(&epoch).map_or(1, |last| last + 1);
        let ops = self.sealed_from(&old.key, &Origin { node, epoch }, first);
        let (body, count) = super::forger::page(&ops);
        (sound.envelope.route, sound.body) = (Route::Push, body);
        let answer = self.deliver(victim, Route::Push, sound.sealed()).await?;
        Some(match self.judge(victim, answer).await {
            Judged::Refused(slug) => IntrusionAnswer::Refused { slug },
            Judged::Handled { what, body } => judge_acks(&what, &body, count),
        })
    }
}
