//! The merge: how a version enters a record. The only way in, with [`repair`] and [`drop_dead`] as its named siblings.

use crate::dot::Dot;
use crate::id::OpHash;
use crate::node_clock::NodeClock;
use crate::planted::{Defect, is_planted};
use crate::record::{Record, Version};

/// What [`apply`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied {
    /// The node has had it: live, replaced or collected. Nothing changed.
    Duplicate,
    /// A live version had seen it. It entered the clock and nothing else.
    Superseded,
    /// It is live now.
    Live {
        /// The versions that it replaced.
        removed: Vec<Dot>,
        /// Whether others stayed beside it.
        concurrent: bool,
    },
}

/// Two ops under one dot: the origin signed both, or its key is in two hands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("another op is held under this dot: {held}")]
pub struct Equivocation {
    /// Hash of the op that is held.
    pub held: OpHash,
}

/// Applies `version` to its record: commutative, associative and idempotent over all histories in which
/// contexts are transitive.
///
/// `held` is the hash of the live op under this dot, on whichever record. Pure given record and clock;
/// the caller stores both in one atomic batch.
///
/// # Errors
/// [`Equivocation`] if another op is live under the same dot; nothing changed.
pub fn apply(
    record: &mut Record,
    clock: &mut NodeClock,
    held: Option<OpHash>,
    version: Version,
) -> Result<Applied, Equivocation> {
    if let Some(held) = held {
        return if held == version.hash { Ok(Applied::Duplicate) } else { Err(Equivocation { held }) };
    }
    if clock.contains(&version.dot) {
        return Ok(Applied::Duplicate);
    }
    clock.insert(&version.dot);
    Ok(merge(record, version))
}

/// Applies `version` without asking the clock: for a difference that anti-entropy has confirmed, and for the
/// rebuild of an index from a log in which an op may stand behind the clock that names it.
pub fn repair(record: &mut Record, clock: &mut NodeClock, version: Version) -> Applied {
    clock.insert(&version.dot);
    if record.version(&version.dot).is_some() {
        return Applied::Duplicate;
    }
    merge(record, version)
}

/// Drops the versions of `record` that `is_dead` names, at the end of a re-bootstrap. The clock keeps their dots:
/// nobody holds them, and nobody is to bring them back.
pub fn drop_dead(record: &mut Record, is_dead: impl Fn(&Dot) -> bool) -> Vec<Dot> {
    record.remove_where(|v| is_dead(&v.dot))
}

fn merge(record: &mut Record, version: Version) -> Applied {
    // Where contexts are transitive, what covers the op covers all that it covers, and a superseded op has nothing
    // to remove. Where a peer breaks that, an op that does not become live must not take others along.
    let stays = |v: &&Version| !version.context.contains(&v.dot);
    if record.versions().iter().filter(stays).any(|v| v.context.contains(&version.dot)) {
        return Applied::Superseded;
    }
    let mut removed = record.remove_where(|v| version.context.contains(&v.dot));
    let concurrent = !record.is_empty();
    record.insert(version);
    if is_planted(Defect::LwwDrop) {
        removed.extend(keep_greatest(record, 1));
    }
    if is_planted(Defect::BoundInApply) {
        removed.extend(keep_greatest(record, 2));
    }
    if is_planted(Defect::ForgetTombstone) {
        removed.extend(record.remove_where(Version::is_tombstone));
    }
    Applied::Live { removed, concurrent }
}

/// For planted defects: drops all but the `kept` versions with the greatest rank. The op that has just come in may be
/// among those that go.
fn keep_greatest(record: &mut Record, kept: usize) -> Vec<Dot> {
    let mut ranks: Vec<_> = record.versions().iter().map(|v| (v.hlc, v.dot.clone())).collect();
    ranks.sort_unstable();
    ranks.truncate(ranks.len().saturating_sub(kept));
    record.remove_where(|v| ranks.iter().any(|(_, dot)| v.dot == *dot))
}
