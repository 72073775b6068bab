//! Causal tokens: what each change of one makes of it.

use std::sync::Arc;

use federation_core::hlc::Hlc;
use federation_core::id::{Kind, Namespace, OpHash, RecordId, RecordKey};
use federation_core::record::{Version, VersionState};
use federation_core::vector_clock::VectorClock;
use federation_wire::causal_token::{
    CAUSAL_TOKEN_CHARS_MAX, CausalToken, CausalTokenError, SignedCausalToken,
};
use federation_wire::identity::{Directory, Enrolment, KeyState};
use federation_wire::keys::{NodeKey, OwnKeys};

use crate::samples::{dot, dots, node};

fn version(name: &str, seq: u64, context: &[(&str, u64, u64)]) -> Version {
    Version {
        dot: dot(name, 7, seq),
        hash: OpHash([3; 32]),
        hlc: Hlc::from_bits(seq),
        context: VectorClock::from(dots(context)),
        state: VersionState::Present,
    }
}

fn record(id: &str) -> RecordKey {
    RecordKey {
        namespace: Namespace::new("team/größe").unwrap(),
        kind: Kind::memory(),
        id: RecordId::new(id).unwrap(),
    }
}

fn key() -> NodeKey {
    NodeKey::from_seed(&[5; 32])
}

fn token() -> SignedCausalToken {
    let shown = [version("a", 5, &[("a", 7, 1), ("a", 7, 2)]), version("b", 9, &[("a", 7, 2)])];
    SignedCausalToken::sign(&key(), &node("n"), CausalToken::of(record("r"), &shown))
}

#[test]
fn a_token_names_what_was_shown_and_covers_what_that_had_seen() {
    let CausalToken { key, versions, seen } = token().token;
    assert_eq!((key, versions), (record("r"), vec![dot("a", 7, 5), dot("b", 7, 9)]));
    assert_eq!(seen, VectorClock::from(dots(&[("a", 7, 1), ("a", 7, 2), ("a", 7, 5), ("b", 7, 9)])));
}

#[test]
fn a_token_comes_back_from_its_text_and_holds_for_the_key_that_signed_it() {
    let text = token().to_text().unwrap();
    let again = SignedCausalToken::from_text(&text).unwrap();
    assert_eq!(again, token());
    assert_eq!(again.verify(key().public()), Ok(()));
    assert!(again.verify(NodeKey::from_seed(&[6; 32]).public()).is_err());
}

#[test]
fn whatever_is_changed_of_a_token_it_is_no_token_any_more() {
    let token = token();
    let mut changed = Vec::new();
    let mut change = |f: fn(&mut SignedCausalToken)| {
        let mut token = token.clone();
        f(&mut token);
        changed.push(token);
    };
    change(|token| token.node = node("m"));
    change(|token| token.token.key = record("s"));
    change(|token| token.token.versions.push(dot("c", 1, 1)));
    change(|token| token.token.versions.clear());
    change(|token| {
        token.token.seen.insert(&dot("c", 1, 1));
    });
    for token in changed {
        let again = SignedCausalToken::from_text(&token.to_text().unwrap()).unwrap();
        assert!(again.verify(key().public()).is_err(), "{token:?}");
    }
    let text = token.to_text().unwrap();
    for at in 0..text.len() {
        let mut bytes = text.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        let read = SignedCausalToken::from_text(std::str::from_utf8(&bytes).unwrap());
        assert!(read.is_err() || read.unwrap().verify(key().public()).is_err(), "at {at}");
    }
}

#[test]
fn the_word_of_a_retired_key_counts_and_that_of_a_revoked_one_does_not() {
    for (state, counts) in [(KeyState::Active, true), (KeyState::Retired, true), (KeyState::Revoked, false)] {
        let mut enrolment = Enrolment::full("n", "http://n:1", key().public());
        enrolment.keys[0].state = state;
        let directory = Directory::new(&[enrolment]).unwrap();
        assert_eq!(directory.trusted_key(&node("n"), key().id()).is_some(), counts, "{state:?}");
        assert_eq!(directory.trusted_key(&node("m"), key().id()), None);
    }
    let own = OwnKeys::new(Arc::new(key())).rotated(Arc::new(NodeKey::from_seed(&[6; 32]))).unwrap();
    assert!(own.trusted(key().id()).is_some() && own.trusted(own.active().id()).is_some());
    assert_eq!(own.trusted(NodeKey::from_seed(&[7; 32]).id()), None);
    assert_eq!(own.revoked(key().id(), &[]).unwrap().trusted(key().id()), None);
}

#[test]
fn what_is_no_token_is_told_from_what_is_too_large() {
    for bad in ["", "x", "new", "%%%", &"A".repeat(64), &"A".repeat(400), "größe"] {
        assert_eq!(SignedCausalToken::from_text(bad), Err(CausalTokenError::Malformed), "{bad}");
    }
    let chars = CAUSAL_TOKEN_CHARS_MAX + 1;
    let too_large = CausalTokenError::TooLarge { chars };
    assert_eq!(SignedCausalToken::from_text(&"A".repeat(chars)), Err(too_large));
    let scattered: Vec<_> = (1..10_000).map(|seq| ("a", 7, 2 * seq)).collect();
    let huge = CausalToken::of(record("r"), &[version("a", 30_001, &scattered)]);
    let signed = SignedCausalToken::sign(&key(), &node("n"), huge);
    assert!(matches!(signed.to_text(), Err(CausalTokenError::TooLarge { .. })));
}
