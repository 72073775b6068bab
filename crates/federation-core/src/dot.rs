//! The name of an op.

use std::fmt;

use crate::id::{BootId, NodeId};

/// Who makes a series of dots: a node, and the boot in which the series began.
///
/// A node that may have forgotten dots it gave out (a rolled-back or lost disk) begins a new epoch,
/// so that no dot is ever used twice.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    /// The node.
    pub node: NodeId,
    /// The boot in which this series began.
    pub epoch: BootId,
}

/// Names one op for ever: the `seq`-th of its origin, counted from 1.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dot {
    /// Who made the op.
    pub origin: Origin,
    /// Its number there, from 1.
    pub seq: u64,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.node, self.epoch)
    }
}

impl fmt::Display for Dot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.origin, self.seq)
    }
}
