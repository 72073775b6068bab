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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::sample::*;
    use crate::history::DurableSample;

    fn is_violated(needed: usize, holders: &[usize]) -> bool {
        let mut scene = Scene::new().put(1, "a", &[]).call(put("a", acknowledged(1)));
        let holders = holders.iter().copied().collect();
        scene.0.durable.push(DurableSample { dot: dot(1), needed, holders });
        !scene.found_by(check).is_empty()
    }

    #[test]
    fn as_many_disks_as_asked_for_or_more() {
        assert!(!is_violated(1, &[0]));
        assert!(!is_violated(2, &[0, 2]));
        assert!(!is_violated(2, &[0, 1, 2]));
    }

    #[test]
    fn fewer_disks_are_too_few() {
        assert!(is_violated(1, &[]));
        assert!(is_violated(2, &[0]));
        assert!(is_violated(3, &[0, 2]));
    }

    #[test]
    fn a_disk_that_is_no_node_s_does_not_count() {
        assert!(is_violated(2, &[0, 3]));
    }

    #[test]
    fn a_violation_names_the_record_and_its_calls() {
        let mut scene = Scene::new().put(1, "a", &[]).call(put("a", acknowledged(1)));
        scene.0.durable.push(DurableSample { dot: dot(1), needed: 2, holders: [0].into() });
        let found = check(&Books::of(&scene.0));
        assert_eq!(
            found.first().map(|found| (found.key.as_deref(), found.calls.len())),
            Some((Some("k"), 1))
        );
    }
}
