//! Dead letters: what is remembered of the ops that a peer refused for good, and its keys in the index.

use std::sync::Arc;

use federation_core::dot::Dot;
use federation_core::id::NodeId;
use federation_core::port::store::{DeadLetter, Facts, RefusalReason};
use federation_wire::codec;
use federation_wire::v1::types::Wire;

use super::facts::{Memory, peer_key, split_peer};
use super::values::decode;
use super::{SchemaError, keys};
use crate::index::Batch;

/// The tag of its keys among those of facts.
pub(super) const LETTER: u8 = b'l';
/// Stands behind the reason of a letter that is discarded.
const DISCARDED: u8 = b'd';

impl Memory {
    /// Forgets the dead letters of ops that are not live any more: what replaced them is delivered or refused itself.
    pub(crate) fn forget_letters<'a>(&mut self, gone: impl Iterator<Item = &'a Dot>, batch: &mut Batch) {
        if self.facts.dead_letters.is_empty() {
            return;
        }
        for dot in gone {
            if !self.facts.dead_letters.values().any(|letters| letters.contains_key(dot)) {
                continue;
            }
            let facts = Arc::make_mut(&mut self.facts);
            for (peer, letters) in &mut facts.dead_letters {
                if letters.remove(dot).is_some() {
                    batch.remove(key(peer, dot));
                }
            }
            facts.dead_letters.retain(|_, letters| !letters.is_empty());
        }
    }
}

/// The peer refused the op. One that is discarded stays so.
pub(super) fn note(facts: &mut Facts, peer: NodeId, dot: Dot, reason: RefusalReason, batch: &mut Batch) {
    let is_discarded = facts.dead_letter(&peer, &dot).is_some_and(|known| known.is_discarded);
    let letter = DeadLetter { reason, is_discarded };
    batch.put(key(&peer, &dot), encode(letter));
    facts.dead_letters.entry(peer).or_default().insert(dot, letter);
}

/// The op is given up, as far as this peer goes.
pub(super) fn discard(facts: &mut Facts, peer: &NodeId, dot: &Dot, batch: &mut Batch) {
    if let Some(letter) = facts.dead_letters.get_mut(peer).and_then(|letters| letters.get_mut(dot)) {
        letter.is_discarded = true;
        batch.put(key(peer, dot), encode(*letter));
    }
}

/// What the peer refused for what it is, and nobody has given up, is no dead letter any more.
pub(super) fn end_those_that_may(facts: &mut Facts, peer: &NodeId, batch: &mut Batch) {
    let Some(letters) = facts.dead_letters.get_mut(peer) else { return };
    for (dot, _) in letters.extract_if(.., |_, letter| letter.may_end()) {
        batch.remove(key(peer, &dot));
    }
    facts.dead_letters.retain(|_, letters| !letters.is_empty());
}

/// The op is no dead letter of the peer any more.
pub(super) fn end(facts: &mut Facts, peer: &NodeId, dot: &Dot, batch: &mut Batch) {
    if let Some(letters) = facts.dead_letters.get_mut(peer)
        && letters.remove(dot).is_some()
    {
        batch.remove(key(peer, dot));
        facts.dead_letters.retain(|_, letters| !letters.is_empty());
    }
}

/// Takes in the key of a letter, without what all facts begin with.
pub(super) fn read(facts: &mut Facts, rest: &[u8], value: &[u8]) -> Result<(), SchemaError> {
    const WHAT: &str = "a dead letter of the index";
    let (peer, dot) = split_peer(rest).ok_or(SchemaError::Key { what: WHAT })?;
    let (reason, is_discarded) = match value.split_last() {
        Some((&DISCARDED, reason)) => (reason, true),
        _ => (value, false),
    };
    let Wire(reason): Wire<RefusalReason> = decode(WHAT, reason)?;
    let letter = DeadLetter { reason, is_discarded };
    facts.dead_letters.entry(peer).or_default().insert(keys::read_dot(dot)?, letter);
    Ok(())
}

/// Takes all of their keys out of the index.
pub(super) fn forget(facts: &Facts, batch: &mut Batch) {
    for (peer, letters) in &facts.dead_letters {
        for dot in letters.keys() {
            batch.remove(key(peer, dot));
        }
    }
}

fn encode(letter: DeadLetter) -> Vec<u8> {
    let mut out = codec::encode(&Wire(letter.reason));
    if letter.is_discarded {
        out.push(DISCARDED);
    }
    out
}

fn key(peer: &NodeId, dot: &Dot) -> Vec<u8> {
    let mut out = peer_key(LETTER, peer);
    out.extend_from_slice(&keys::dot(keys::LIVE, dot));
    out
}
