//! The causal context of an op.

use std::ops::{Deref, DerefMut};

use crate::dot::Dot;
use crate::dot_set::DotSet;

/// Which ops the writer of a version had seen of its record: the join of the contexts and dots of the
/// versions it saw (dotted version vector sets: Preguiça, Baquero, Almeida, Fonte, Gonçalves 2012).
///
/// Contexts are transitive: one that covers a version covers all that the version covers. `apply` commutes
/// only because of that. Holes are kept as they are; [`crate::context`] has the one rule by which
/// some are filled.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct VectorClock(DotSet);

impl VectorClock {
    /// The context of a writer that had seen nothing.
    pub const fn new() -> Self {
        Self(DotSet::new())
    }

    /// Adds `dot` and all that its version had seen.
    pub fn cover(&mut self, dot: &Dot, context: &VectorClock) {
        self.0.join(context);
        self.0.insert(dot);
    }
}

impl From<DotSet> for VectorClock {
    fn from(dots: DotSet) -> Self {
        Self(dots)
    }
}

impl Deref for VectorClock {
    type Target = DotSet;
    fn deref(&self) -> &DotSet {
        &self.0
    }
}

impl DerefMut for VectorClock {
    fn deref_mut(&mut self) -> &mut DotSet {
        &mut self.0
    }
}
