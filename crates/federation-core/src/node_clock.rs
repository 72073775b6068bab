//! What a node has.

use std::ops::{Deref, DerefMut};

use crate::dot_set::DotSet;

/// The dots that a node has applied (server-wide clocks: Gonçalves, Almeida, Baquero, Fonte 2017).
///
/// Invariant I1: every dot in the clock is live on the node, or covered by a version live there, or under
/// a tombstone that was collected.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct NodeClock(DotSet);

impl NodeClock {
    /// The clock of a node that has nothing.
    pub const fn new() -> Self {
        Self(DotSet::new())
    }

    /// The dots as a plain set.
    pub fn into_dots(self) -> DotSet {
        self.0
    }
}

impl From<DotSet> for NodeClock {
    fn from(dots: DotSet) -> Self {
        Self(dots)
    }
}

impl Deref for NodeClock {
    type Target = DotSet;
    fn deref(&self) -> &DotSet {
        &self.0
    }
}

impl DerefMut for NodeClock {
    fn deref_mut(&mut self) -> &mut DotSet {
        &mut self.0
    }
}
