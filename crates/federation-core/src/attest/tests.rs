//! Every row of the table of who takes what.

use proptest::prelude::*;

use super::*;
use crate::dot::{Dot, Origin};
use crate::hlc::Hlc;
use crate::id::{BootId, RecordId, RecordKey};
use crate::op::Body;
use crate::time::WallMs;
use crate::vector_clock::VectorClock;

fn scope(globs: &[&str]) -> Scope {
    Scope::parse(globs.iter().copied()).unwrap()
}

fn op(namespace: &str, author: &str, kind: &str) -> Op {
    let origin = Origin { node: NodeId::new("c").unwrap(), epoch: BootId(1) };
    Op {
        dot: Dot { origin, seq: 1 },
        hlc: Hlc::at(WallMs(1)),
        key: RecordKey {
            namespace: Namespace::new(namespace).unwrap(),
            kind: Kind::new(kind).unwrap(),
            id: RecordId::new("r").unwrap(),
        },
        author: AgentId::new(author).unwrap(),
        context: VectorClock::new(),
        body: Body::Delete,
    }
}

#[test]
fn an_op_enters_by_its_namespace_author_and_kind() {
    use Forbidden::{AuthorNotAllowed, KindNotAllowed, NamespaceOutOfScope};

    let trust = Trust {
        accept: scope(&["x/**", "z"]),
        authors: Authors::parse(["ai:one", "team/*"]).unwrap(),
        kinds: Kinds::parse(["memory"]).unwrap(),
        ..Trust::default()
    };
    let check = |namespace, author, kind, expect| {
        let own = scope(&["x/**", "y"]);
        assert_eq!(trust.lets_in(&own, &op(namespace, author, kind)), expect, "{namespace} {author} {kind}");
    };
    check("x/1", "ai:one", "memory", Ok(()));
    check("x", "team/b", "memory", Ok(()));
    check("y", "ai:one", "memory", Err(NamespaceOutOfScope));
    check("z", "ai:one", "memory", Err(NamespaceOutOfScope));
    check("x", "ai:one2", "memory", Err(AuthorNotAllowed));
    check("x", "team", "memory", Err(AuthorNotAllowed));
    check("x", "ai:one", "link", Err(KindNotAllowed));
    check("y", "nobody", "link", Err(NamespaceOutOfScope));
}

#[test]
fn what_is_not_given_is_nothing() {
    let op = op("x", "a", "memory");
    let nothing = Trust::default();
    assert!(nothing.lets_in(&Scope::everything(), &op).is_err());
    assert!(!nothing.lets_out(&op.key.namespace));
    let accepted = Trust { accept: Scope::everything(), ..Trust::default() };
    assert_eq!(accepted.lets_in(&Scope::everything(), &op), Err(Forbidden::AuthorNotAllowed));
    let spoken_for = Trust { authors: Authors::any(), ..accepted };
    assert_eq!(spoken_for.lets_in(&Scope::everything(), &op), Err(Forbidden::KindNotAllowed));
    let full = Trust { kinds: Kinds::Any, ..spoken_for };
    assert_eq!(full.lets_in(&Scope::everything(), &op), Ok(()));
    assert_eq!(keeps(&scope(&["y"]), &op), Err(Forbidden::NamespaceOutOfScope));
    assert_eq!(keeps(&scope(&["x"]), &op), Ok(()));
}

#[test]
fn an_op_leaves_to_who_may_have_it_and_keeps_it() {
    let trust = Trust { replicates: scope(&["x", "y"]), grant: scope(&["y", "z"]), ..Trust::default() };
    let leaves = ["x", "y", "z"].map(|n| trust.lets_out(&Namespace::new(n).unwrap()));
    assert_eq!(leaves, [false, true, false]);
}

#[test]
fn lists_are_read() {
    assert_eq!(Kinds::parse(["link", "*"]), Ok(Kinds::Any));
    assert_eq!(Kinds::parse(["b", "a", "a"]).unwrap().names(), ["a", "b"]);
    assert!(Kinds::parse(["Memory"]).is_err());
    assert_eq!(Authors::parse(["*"]), Ok(Authors::any()));
    let authors = Authors::parse(["b*", "a", "a"]).unwrap();
    assert_eq!(authors.patterns().collect::<Vec<_>>(), ["a", "b*"]);
    for bad in ["", "a*b", "**", "*a", "a b"] {
        assert!(Authors::parse([bad]).is_err(), "{bad}");
    }
    let many = vec!["a"; AUTHOR_PATTERNS_MAX + 1];
    assert_eq!(Authors::parse(many), Err(ListError::TooMany { limit: AUTHOR_PATTERNS_MAX }));
}

#[test]
fn completion_is_worth_what_the_scopes_say() {
    use Claimable::{Everything, Nothing, OwnOrigins};

    let all = &["**"][..];
    let (x, y, xy) = (&["x"][..], &["y"][..], &["x", "y"][..]);
    let check = |[sender, grant, relay, receiver]: [&[&str]; 4], expect| {
        let (sender, grant) = (&scope(sender), &scope(grant));
        let (relay, receiver) = (&scope(relay), &scope(receiver));
        let scopes = CompletionScopes { sender, grant, relay, receiver };
        assert_eq!(scopes.claimable(), expect, "{scopes:?}");
    };
    //     sender grant relay receiver
    check([all, all, all, all], Everything);
    check([all, x, x, x], Everything);
    check([xy, xy, xy, xy], Everything);
    check([xy, all, all, x], Everything);
    // Counterexample 5: the grant is smaller than what both keep.
    check([all, y, all, xy], Nothing);
    check([xy, y, all, xy], Nothing);
    // The sender keeps less than the receiver: of others it may lack ops.
    check([x, all, all, xy], OwnOrigins);
    check([x, x, all, xy], OwnOrigins);
    check([xy, x, all, x], Everything);
    // Not believed for others.
    check([xy, xy, x, xy], OwnOrigins);
    check([all, all, &[], all], OwnOrigins);
    check([all, x, &[], x], OwnOrigins);
    // Nothing in common: nothing of the sender's is kept by the receiver.
    check([x, &[], all, y], OwnOrigins);
    check([x, &[], all, x], Nothing);
    check([x, all, all, &[]], Everything);
}

#[test]
fn what_is_claimed_is_cut_to_what_may_be_merged() {
    let dot =
        |node: &str| Dot { origin: Origin { node: NodeId::new(node).unwrap(), epoch: BootId(1) }, seq: 3 };
    let claimed: DotSet = [dot("a"), dot("b")].into_iter().collect();
    let a = NodeId::new("a").unwrap();
    assert_eq!(Claimable::Everything.of(&claimed, &a), claimed);
    assert_eq!(Claimable::OwnOrigins.of(&claimed, &a), [dot("a")].into_iter().collect());
    assert_eq!(Claimable::Nothing.of(&claimed, &a), DotSet::new());
}

/// Some of three namespaces.
fn some() -> impl Strategy<Value = Vec<&'static str>> {
    proptest::sample::subsequence(vec!["x", "y", "z"], 0..=3)
}

proptest! {
    /// By the definition, namespace by namespace: nothing is merged of a record that the receiver keeps and that was
    /// held back, and of others only where the sender has all and is believed.
    #[test]
    fn no_completion_covers_what_was_held_back(s in some(), g in some(), b in some(), r in some()) {
        let [sender, grant, relay, receiver] = [&s, &g, &b, &r].map(|names| scope(names));
        let scopes = CompletionScopes { sender: &sender, grant: &grant, relay: &relay, receiver: &receiver };
        let claimable = scopes.claimable();
        let is_own_sent = r.iter().all(|n| !s.contains(n) || g.contains(n));
        let is_all_sent = r.iter().all(|n| s.contains(n) && g.contains(n) && b.contains(n));
        prop_assert_eq!(claimable >= Claimable::OwnOrigins, is_own_sent);
        prop_assert_eq!(claimable == Claimable::Everything, is_all_sent);
    }
}
