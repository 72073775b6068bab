//! G9: no node crashes, hangs, or grows without bound.

use super::books::Books;
use super::{Guarantee, Violation};

/// Checks that nothing was seen that no node may do.
pub fn check(books: &Books<'_>) -> Vec<Violation> {
    let incidents = books.history.incidents.iter();
    incidents
        .map(|incident| Violation {
            guarantee: Guarantee::G9,
            node: incident.node,
            key: None,
            seen: incident.what.clone(),
            calls: Vec::new(),
        })
        .collect()
}
