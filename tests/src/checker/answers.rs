//! G7, as far as a history shows it: every answer that promises nothing has a shape that is documented.

use super::{Guarantee, Violation};
use crate::history::{Answer, Call};

/// Checks every answer.
pub fn check(calls: &[Call]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for call in calls {
        if let Answer::Undocumented { status, body } = &call.answer {
            violations.push(Violation {
                guarantee: Guarantee::G7,
                node: Some(call.node),
                key: Some(call.key.clone()),
                seen: format!("{} was answered {status} with {body:?}", call.request),
                calls: vec![call.clone()],
            });
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::sample::*;

    #[test]
    fn an_answer_that_no_document_names_is_seen() {
        let odd = Answer::Undocumented { status: 500, body: "oops".to_owned() };
        let calls = [put("a", acknowledged(1)), put("b", refused()), put("c", Answer::Cut), put("d", odd)];
        let found: Vec<_> = check(&calls).into_iter().map(|violation| violation.guarantee).collect();
        assert_eq!(found, [Guarantee::G7]);
    }
}
