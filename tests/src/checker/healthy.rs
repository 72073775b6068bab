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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::sample::*;
    use crate::history::Incident;

    #[test]
    fn every_incident_is_one() {
        let mut scene = Scene::new();
        assert_eq!(scene.found_by(check), []);
        scene.0.incidents.push(Incident { node: Some(2), what: "a task panicked".to_owned() });
        scene.0.incidents.push(Incident { node: None, what: "the harness hung".to_owned() });
        assert_eq!(scene.found_by(check), [Some(2), None]);
    }
}
