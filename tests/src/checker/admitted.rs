//! G8: nothing enters a node that its origin did not make, or that its sender may not send.

use federation_wire::api::DotText;

use super::books::{Books, RecordBook};
use super::{Guarantee, Violation, listed};
use crate::history::{Answer, IntrusionAnswer};

/// Checks what was answered to those who may not, and where every version that a node holds or shows came from.
pub fn check(books: &Books<'_>) -> Vec<Violation> {
    let mut violations = intrusions(books);
    for record in books.records() {
        let finals = &books.history.finals;
        for (node, live) in finals.live.get(record.key).into_iter().flatten().enumerate() {
            if !live.is_empty() && !finals.may_be_held_by(record.key, node) {
                let seen = format!("it has {} and does not keep the record", listed(live));
                violations.push(record.violation(Guarantee::G8, Some(node), seen));
            }
            let strangers = live.iter().filter_map(|dot| strange(books, record, dot));
            violations.extend(strangers.map(|seen| record.violation(Guarantee::G8, Some(node), seen)));
        }
        for call in &record.calls {
            let Answer::Read { live, .. } = &call.answer else { continue };
            let strangers = live.iter().filter_map(|dot| strange(books, record, dot));
            violations.extend(strangers.map(|seen| record.violation(Guarantee::G8, Some(call.node), seen)));
        }
    }
    violations
}

fn intrusions(books: &Books<'_>) -> Vec<Violation> {
    let mut violations = Vec::new();
    for intrusion in &books.history.intrusions {
        let IntrusionAnswer::Accepted { what } = &intrusion.answer else { continue };
        violations.push(Violation {
            guarantee: Guarantee::G8,
            node: Some(intrusion.node),
            key: None,
            seen: format!("{} was not refused: {what}", intrusion.kind),
            calls: Vec::new(),
        });
    }
    violations
}

/// What is wrong with a version of this name being live on the record.
fn strange(books: &Books<'_>, record: &RecordBook<'_>, dot: &DotText) -> Option<String> {
    match books.history.ops.get(dot) {
        Some(fact) if fact.key == record.key => None,
        Some(fact) => Some(format!("it has {dot}, which is an op of {}", fact.key)),
        None => Some(format!("it has {dot}, which its origin never made")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::sample::*;
    use crate::history::{Intrusion, Keepers, Seen};

    fn tried(answer: IntrusionAnswer) -> Vec<Option<usize>> {
        let mut scene = Scene::new();
        scene.0.intrusions.push(Intrusion { kind: "unsigned push".to_owned(), node: 1, answer });
        scene.found_by(check)
    }

    #[test]
    fn who_may_not_is_refused_or_not_heard() {
        assert_eq!(tried(IntrusionAnswer::Refused { slug: "unauthorized".to_owned() }), []);
        assert_eq!(tried(IntrusionAnswer::None), []);
        assert_eq!(tried(IntrusionAnswer::Accepted { what: "200".to_owned() }), [Some(1)]);
    }

    #[test]
    fn what_its_origin_made_may_be_held() {
        assert_eq!(Scene::new().put(1, "a", &[]).live_at_all(&[1]).found_by(check), []);
    }

    #[test]
    fn what_nobody_made_is_not_held() {
        let scene = Scene::new().put(1, "a", &[]).live([&[1], &[1], &[1, 2]]);
        assert_eq!(scene.found_by(check), [Some(2)]);
    }

    #[test]
    fn a_record_is_held_by_those_who_keep_it_or_have_kept_it() {
        let held = |on_disk: &[usize]| {
            let mut scene = Scene::new().put(1, "a", &[]).live_at_all(&[1]);
            let on_disk = on_disk.iter().copied().collect();
            scene.0.finals.keepers.insert("k".to_owned(), Keepers { now: [0].into(), on_disk });
            scene.found_by(check)
        };
        assert_eq!(held(&[0, 1, 2]), []);
        assert_eq!(held(&[0, 2]), [Some(1)]);
    }

    #[test]
    fn an_op_is_not_held_under_another_record() {
        let scene = Scene::new().put(1, "a", &[]).with(1, |op| op.key = "other".to_owned());
        assert_eq!(scene.live([&[], &[1], &[]]).found_by(check), [Some(1)]);
    }

    #[test]
    fn what_nobody_made_is_not_read_either() {
        let scene = Scene::new().put(1, "a", &[]).call(read(value("a", 1), &[1, 2]));
        assert_eq!(scene.found_by(check), [Some(0)]);
        let elsewhere = Scene::new().put(1, "a", &[]).with(1, |op| op.key = "other".to_owned());
        let elsewhere = elsewhere.call(read(Seen::Deleted, &[1]));
        assert_eq!(elsewhere.found_by(check), [Some(0)]);
    }
}
