//! How to get past namespaces that a scope does not hold, without looking at each.

use federation_core::id::Namespace;
use federation_core::scope::Scope;

/// Where the next namespace of a scope can be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Anywhere behind this one.
    Behind,
    /// Not before this one.
    To(Namespace),
}

/// Where to go on, in the order of names, from `namespace`, which is not in `scope`; none if nothing of the scope can
/// follow.
pub fn step_over(scope: &Scope, namespace: &Namespace) -> Option<Step> {
    let at = namespace.as_str();
    let mut nearest: Option<Namespace> = None;
    for glob in scope.globs() {
        let Some(root) = root(glob) else { return Some(Step::Behind) };
        match at.strip_prefix(root.as_str()) {
            // Below the root, or between the root and what is below it, as "a!" is between "a" and "a/b".
            Some(rest) if rest < "0" => return Some(Step::Behind),
            _ if root.as_str() > at => nearest = Some(nearest.map_or(root.clone(), |other| other.min(root))),
            _ => {}
        }
    }
    nearest.map(Step::To)
}

/// What every namespace of a glob is, or is below; none if that is nothing in particular.
fn root(glob: &str) -> Option<Namespace> {
    let segments: Vec<_> = glob.split('/').take_while(|segment| !segment.contains('*')).collect();
    Namespace::new(&segments.join("/")).ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn namespace(text: &str) -> Namespace {
        Namespace::new(text).unwrap()
    }

    #[test]
    fn what_cannot_be_in_the_scope_is_left_out() {
        let check = |globs: &[&str], at: &str, expect: Option<Step>| {
            let scope = Scope::parse(globs.iter().copied()).unwrap();
            assert_eq!(step_over(&scope, &namespace(at)), expect, "{globs:?} at {at}");
        };
        let to = |text| Some(Step::To(namespace(text)));
        check(&["team/**"], "a", to("team"));
        check(&["team/**"], "teams", None);
        check(&["team/**"], "team!", Some(Step::Behind));
        check(&["team/*"], "team/a/b", Some(Step::Behind));
        check(&["d", "b/**", "c/*"], "a", to("b"));
        check(&["d", "b/**", "c/*"], "bb", to("c"));
        check(&["d", "b/**", "c/*"], "e", None);
        check(&["*/x"], "a", Some(Step::Behind));
        check(&[], "a", None);
    }

    fn names() -> impl Strategy<Value = String> {
        prop::collection::vec("[ab!0]{1,2}", 1..4).prop_map(|segments| segments.join("/"))
    }

    fn globs() -> impl Strategy<Value = String> {
        let segment = prop_oneof![3 => "[ab!0]{1,2}".boxed(), 1 => Just("*".to_owned()).boxed()];
        let fixed = prop::collection::vec(segment, 1..3).prop_map(|segments| segments.join("/"));
        (fixed, any::<bool>()).prop_map(|(fixed, open)| if open { format!("{fixed}/**") } else { fixed })
    }

    proptest! {
        /// Going by steps through all namespaces finds those of the scope, each, and no other.
        #[test]
        fn a_walk_misses_nothing(
            all in prop::collection::btree_set(names(), 0..24),
            globs in prop::collection::vec(globs(), 0..4),
        ) {
            let scope = Scope::parse(globs.iter().map(String::as_str)).unwrap();
            let all: BTreeSet<_> = all.iter().map(|name| namespace(name)).collect();
            let mut rest: Vec<_> = all.iter().rev().cloned().collect();
            let mut found = BTreeSet::new();
            while let Some(at) = rest.pop() {
                if scope.contains(&at) {
                    found.insert(at);
                    continue;
                }
                match step_over(&scope, &at) {
                    Some(Step::Behind) => {}
                    Some(Step::To(next)) => {
                        prop_assert!(next > at);
                        while rest.last().is_some_and(|name| *name < next) {
                            rest.pop();
                        }
                    }
                    None => rest.clear(),
                }
            }
            let expected: BTreeSet<_> = all.iter().filter(|name| scope.contains(name)).cloned().collect();
            prop_assert_eq!(found, expected);
        }
    }
}
