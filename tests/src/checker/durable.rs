//! G2: when a write is acknowledged, as many disks hold it as its quorum asks for.

use super::books::Books;
use super::{Guarantee, Violation};

/// Checks every sample that was taken.
pub fn check(books: &Books<'_>) -> Vec<Violation> {
    let mut violations = Vec::new();
    for sample in &books.history.durable {
        let holders = sample.holders.iter().filter(|node| **node < books.history.nodes).count();
        if holders < sample.needed {
            let (dot, needed, nodes) = (&sample.dot, sample.needed, &sample.holders);
            let seen = format!(
                "{dot} was acknowledged with {holders} of {needed} disks holding it: nodes {nodes:?}"
            );
            violations.push(books.violation_by(Guarantee::G2, dot, seen));
        }
    }
    violations
}
