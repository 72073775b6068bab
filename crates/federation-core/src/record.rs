//! A record: the set of its live versions.

use crate::dot::Dot;
use crate::hlc::Hlc;
use crate::id::OpHash;
use crate::op::{Body, Op};
use crate::planted::{Defect, is_planted};
use crate::vector_clock::VectorClock;

/// What the merge knows of an op that is live on a record. The content stays in the log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Version {
    /// The op's name.
    pub dot: Dot,
    /// Hash of its bytes.
    pub hash: OpHash,
    /// When it was made.
    pub hlc: Hlc,
    /// What its writer had seen.
    pub context: VectorClock,
    /// What it says of the record's presence.
    pub state: VersionState,
}

/// What a version says of its record's presence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum VersionState {
    /// There, and listed.
    Present,
    /// There, put away.
    Archived,
    /// Deleted: a tombstone.
    Tombstone,
}

impl Version {
    /// The version that `op` with this `hash` is.
    pub fn of(op: &Op, hash: OpHash) -> Self {
        let state = match &op.body {
            Body::Put { archived: false, .. } => VersionState::Present,
            Body::Put { archived: true, .. } => VersionState::Archived,
            Body::Delete => VersionState::Tombstone,
        };
        Self { dot: op.dot.clone(), hash, hlc: op.hlc, context: op.context.clone(), state }
    }

    /// Whether it is a tombstone.
    pub fn is_tombstone(&self) -> bool {
        self.state == VersionState::Tombstone
    }

    /// The order by which the visible version is picked among concurrent ones.
    fn rank(&self) -> (Hlc, &Dot) {
        (self.hlc, &self.dot)
    }
}

/// The live versions of one record, in order of their dots: one normally, more when writes were concurrent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Record {
    versions: Vec<Version>,
}

impl Record {
    /// The record nobody has written.
    pub const fn new() -> Self {
        Self { versions: Vec::new() }
    }

    /// Whether it has no live version.
    pub fn is_empty(&self) -> bool {
        self.versions.is_empty()
    }

    /// Its live versions, in order of their dots.
    pub fn versions(&self) -> &[Version] {
        &self.versions
    }

    /// The live version of that name.
    pub fn version(&self, dot: &Dot) -> Option<&Version> {
        self.versions.iter().find(|v| v.dot == *dot)
    }

    /// What a reader sees: the Put with the greatest (HLC, dot). None if only tombstones are live, or nothing.
    pub fn visible(&self) -> Option<&Version> {
        let competes = |v: &&Version| !v.is_tombstone() || is_planted(Defect::TombstoneHides);
        let winner = self.versions.iter().filter(competes).max_by(|a, b| a.rank().cmp(&b.rank()));
        winner.filter(|v| !v.is_tombstone())
    }

    /// Whether it was deleted: it has live versions, all of them tombstones.
    pub fn is_deleted(&self) -> bool {
        !self.versions.is_empty() && self.visible().is_none()
    }

    /// Whether some live version's writer had seen `dot`.
    pub fn covers(&self, dot: &Dot) -> bool {
        self.versions.iter().any(|v| v.context.contains(dot))
    }

    pub(crate) fn insert(&mut self, version: Version) {
        let at = self.versions.partition_point(|v| v.dot < version.dot);
        self.versions.insert(at, version);
    }

    pub(crate) fn remove_where(&mut self, gone: impl Fn(&Version) -> bool) -> Vec<Dot> {
        let removed = self.versions.iter().filter(|v| gone(v)).map(|v| v.dot.clone()).collect();
        self.versions.retain(|v| !gone(v));
        removed
    }
}

impl FromIterator<Version> for Record {
    /// The record of these versions; a later one replaces an earlier one of the same dot.
    fn from_iter<I: IntoIterator<Item = Version>>(versions: I) -> Self {
        let mut out = Self::new();
        for version in versions {
            out.remove_where(|v| v.dot == version.dot);
            out.insert(version);
        }
        out
    }
}
