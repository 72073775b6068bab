//! Reads: records, lists, sessions.

use std::collections::{BTreeMap, BTreeSet};

use federation_core::attest::Trust;
use federation_core::decide::Change;
use federation_core::dot::Dot;
use federation_core::dot_set::DotSet;
use federation_core::id::{Kind, Namespace, RecordId};
use federation_core::node_clock::NodeClock;
use federation_core::port::store::{
    Fact, ListPage, ListQuery, Listed, RefusalReason, Request, SessionPage, SessionQuery, SessionStart,
    StoreError,
};
use federation_core::scope::Scope;
use federation_core::seq_ranges::SeqRange;
use federation_core::vector_clock::VectorClock;

use crate::model::{Model, origin};
use crate::script::{KEYS, delete, key, open_epoch, put};
use crate::world::{SimulatedEngine, World, begin_session, commit, node};

fn open() -> SimulatedEngine {
    let (mut engine, _) = World::new().open();
    commit(&mut engine, vec![open_epoch()]).unwrap();
    engine
}

fn write(engine: &mut SimulatedEngine, changes: impl IntoIterator<Item = Change>) {
    commit(engine, changes.into_iter().map(Request::Change).collect()).unwrap();
}

fn dot(seq: u64) -> Dot {
    Dot { origin: origin("a"), seq }
}

fn known(ranges: &[(u64, u64)]) -> NodeClock {
    let mut dots = DotSet::new();
    for (first, last) in ranges {
        dots.insert_range(&origin("a"), SeqRange { first: *first, last: *last });
    }
    dots.into()
}

fn query(start: &SessionStart, known: &NodeClock, after: Option<Dot>, ops_max: usize) -> SessionQuery {
    let (session, known, trust) = (start.session, known.clone(), Trust::full());
    SessionQuery { session, known, trust, after, ops_max, bytes_max: 1 << 20 }
}

/// Walks a session to its end; `between` runs after each page. Returns the seqs of each page.
fn walk(
    engine: &mut SimulatedEngine,
    start: &SessionStart,
    known: &NodeClock,
    ops_max: usize,
    mut between: impl FnMut(&mut SimulatedEngine, usize),
) -> Vec<Vec<u64>> {
    let (mut pages, mut after) = (Vec::new(), None);
    loop {
        let SessionPage { ops, next } =
            engine.reads().session_page(&query(start, known, after, ops_max)).unwrap();
        assert!(ops.len() <= ops_max);
        pages.push(ops.iter().map(|op| op.dot.seq).collect());
        between(engine, pages.len());
        match next {
            Some(next) => after = Some(next),
            None => return pages,
        }
    }
}

#[test]
fn a_session_delivers_the_live_dots_that_the_other_side_lacks() {
    let mut engine = open();
    write(&mut engine, (0..20).map(|id| put(id, "first")));
    write(&mut engine, [put(0, "second"), put(19, "second"), delete(5)]);
    let start = begin_session(&mut engine, "b");
    assert_eq!(start.clock, engine.snapshot().clock);
    assert!(start.withheld.is_empty());
    let all = walk(&mut engine, &start, &NodeClock::new(), 7, |_, _| {}).concat();
    let live: Vec<u64> = (2..=19).filter(|seq| *seq != 6).chain([21, 22, 23]).collect();
    assert_eq!(all, live);
    let check = |engine: &mut SimulatedEngine, has: &[(u64, u64)], expected: &[u64]| {
        for ops_max in [1, 2, 100] {
            assert_eq!(walk(engine, &start, &known(has), ops_max, |_, _| {}).concat(), expected, "{has:?}");
        }
    };
    check(&mut engine, &[(1, 23)], &[]);
    check(&mut engine, &[(1, 1_000_000)], &[]);
    check(&mut engine, &[(1, 20)], &[21, 22, 23]);
    check(&mut engine, &[(1, 3), (5, 9), (11, 22)], &[4, 10, 23]);
    check(&mut engine, &[(3, 23)], &[2]);
}

#[test]
fn long_known_ranges_are_skipped_and_not_walked() {
    let mut engine = open();
    for chunk in 0..20 {
        let text = format!("{chunk}");
        write(
            &mut engine,
            (0..100).map(|i| {
                let mut change = put(1, &text);
                if let Change::Write(mutation) = &mut change {
                    mutation.key.id = RecordId::new(&format!("many-{chunk}-{i}")).unwrap();
                }
                change
            }),
        );
    }
    let start = begin_session(&mut engine, "b");
    let pages = walk(&mut engine, &start, &known(&[(1, 700), (702, 1_990)]), 1_000, |_, _| {});
    assert_eq!(pages, vec![[vec![701], (1_991..=2_000).collect()].concat()]);
}

#[test]
fn what_is_superseded_during_a_session_is_delivered_as_what_replaced_it() {
    let mut engine = open();
    write(&mut engine, (0..10).map(|id| put(id, "first")));
    let start = begin_session(&mut engine, "b");
    // Behind the walk, ahead of it, and at the very place where it stands.
    let pages = walk(&mut engine, &start, &NodeClock::new(), 4, |engine, pages| {
        if pages == 1 {
            write(engine, [put(1, "replaces 2"), put(4, "replaces 5"), put(8, "replaces 9")]);
        }
    });
    let delivered: BTreeSet<u64> = pages.concat().into_iter().collect();
    assert!(delivered.is_superset(&(1..=8).filter(|seq| *seq != 5).chain([10, 11, 12, 13]).collect()));
    // Everything of the start is now covered at the receiver: its own dot, or a later version's context.
    let mut receiver = Model::default();
    let ops = engine.reads().session_page(&query(&start, &NodeClock::new(), None, 100)).unwrap().ops;
    assert_eq!(ops.len(), 10);
    for op in ops {
        let decoded = federation_wire::v1::op::decode_op(&op.sealed.op.bytes).unwrap();
        assert_eq!((&decoded.dot, &decoded.context), (&op.dot, &op.context));
        receiver
            .run(vec![Change::Admit(federation_core::decide::Received { op: decoded, sealed: op.sealed })]);
    }
    receiver.run(vec![Change::Complete(start.clock.clone())]);
    receiver.check_i1();
}

#[test]
fn a_ghost_stands_for_a_version_that_the_walk_has_passed() {
    // b's second op is ahead of the walk in dot order, and is replaced by an own one that sorts behind it.
    let mut b = Model::of_node("b");
    b.run(vec![put(8, "b's first"), put(9, "b's second")]);
    let check = |known: &NodeClock, page_ops: usize, expected: &[&[u64]]| {
        let mut engine = open();
        write(&mut engine, (0..6).map(|id| put(id, "own")));
        write(&mut engine, b.ops.values().cloned().map(Change::Admit));
        let start = begin_session(&mut engine, "c");
        let pages = walk(&mut engine, &start, known, page_ops, |engine, pages| {
            if pages == 1 {
                write(engine, [put(9, "covers b's second")]);
            }
        });
        assert_eq!(pages, expected);
    };
    check(&NodeClock::new(), 7, &[&[1, 2, 3, 4, 5, 6, 1], &[7]]);
    check(&known(&[(1, 6)]), 1, &[&[1], &[7]]);
    check(&known(&[(7, 7)]), 7, &[&[1, 2, 3, 4, 5, 6, 1], &[]]);
}

#[test]
fn ghosts_go_with_the_last_session_and_a_closed_session_has_no_pages() {
    let mut engine = open();
    write(&mut engine, [put(1, "first")]);
    let (one, two) = (begin_session(&mut engine, "b"), begin_session(&mut engine, "c"));
    assert_ne!(one.session, two.session);
    write(&mut engine, [put(1, "second")]);
    commit(&mut engine, vec![Request::EndSession(one.session)]).unwrap();
    assert_eq!(
        engine.reads().session_page(&query(&one, &NodeClock::new(), None, 9)),
        Err(StoreError::Unreadable)
    );
    // Known: the second version. The ghost of the first stands for nothing that is lacking.
    let page = engine.reads().session_page(&query(&two, &known(&[(2, 2)]), None, 9)).unwrap();
    assert_eq!(page, SessionPage { ops: Vec::new(), next: None });
    commit(&mut engine, vec![Request::EndSession(two.session)]).unwrap();
    write(&mut engine, [put(2, "clears")]);
    let three = begin_session(&mut engine, "b");
    let page = engine.reads().session_page(&query(&three, &NodeClock::new(), None, 9)).unwrap();
    assert_eq!(page.ops.iter().map(|op| op.dot.seq).collect::<Vec<_>>(), [2, 3]);
}

#[test]
fn dead_letters_are_withheld_with_their_contexts_until_they_are_replaced() {
    let mut engine = open();
    write(&mut engine, [put(1, "first"), put(1, "second"), put(2, "other")]);
    let letter =
        |dot| Request::Remember(Fact::DeadLetter { peer: node("b"), dot, reason: RefusalReason::Forbidden });
    commit(&mut engine, vec![letter(dot(2)), letter(dot(1))]).unwrap();
    assert_eq!(
        engine.snapshot().facts.dead_letters[&node("b")].len(),
        1,
        "an op that is not live needs none"
    );
    assert_eq!(begin_session(&mut engine, "b").withheld, VectorClock::from(known(&[(1, 2)]).into_dots()));
    assert!(begin_session(&mut engine, "c").withheld.is_empty());
    write(&mut engine, [put(1, "third")]);
    assert!(begin_session(&mut engine, "b").withheld.is_empty());
    assert!(engine.snapshot().facts.dead_letters.is_empty());
}

#[test]
fn records_are_listed_in_key_order_by_namespace_or_all() {
    let mut engine = open();
    write(&mut engine, (0..KEYS).map(|id| put(id, "listed")));
    write(&mut engine, [delete(1), delete(9)]);
    let visible = |kind: &str, namespace: Option<&str>| -> Vec<_> {
        let mut keys: Vec<_> = (0..KEYS)
            .filter(|id| ![1, 9].contains(id) && id % 11 != 5)
            .map(key)
            .filter(|k| k.kind.as_str() == kind && namespace.is_none_or(|n| k.namespace.as_str() == n))
            .collect();
        keys.sort();
        keys
    };
    for (kind, namespace) in [
        ("memory", None),
        ("event", None),
        ("zzz", None),
        ("memory", Some("team")),
        ("event", Some("team/notes")),
        ("memory", Some("tea")),
    ] {
        for (limit, bytes_max, looks_max) in [
            (1, 1 << 20, 1_000),
            (4, 1 << 20, 1_000),
            (1_000, 1 << 20, 1_000),
            (1_000, 1, 1_000),
            (1_000, 1 << 20, 1),
            (4, 1 << 20, 3),
        ] {
            let (mut listed, mut after) = (Vec::new(), None);
            loop {
                let query = ListQuery {
                    kind: Kind::new(kind).unwrap(),
                    namespace: namespace.map(|n| Namespace::new(n).unwrap()),
                    after,
                    which: Listed::Visible,
                    looks_max,
                    limit,
                    bytes_max,
                };
                let ListPage { records, next } = engine.reads().list(&query).unwrap();
                assert!(records.len() <= limit.min(looks_max));
                listed.extend(records.into_iter().map(|(key, _, _)| key));
                match next {
                    Some(next) => after = Some(next),
                    None => break,
                }
            }
            assert_eq!(listed, visible(kind, namespace), "{kind} in {namespace:?} by {limit}");
        }
    }
}

#[test]
fn records_with_several_live_versions_are_listed_by_bounded_looks() {
    let mut engine = open();
    write(&mut engine, (0..KEYS).map(|id| put(id, "alone")));
    let (mut b, mut c) = (Model::of_node("b"), Model::of_node("c"));
    let siblings = [2, 3, 17];
    b.run(siblings.iter().map(|id| put(*id, "b")).collect());
    c.run(vec![delete(3)]);
    let received = b.ops.values().chain(c.ops.values());
    write(&mut engine, received.map(|op| Change::Admit(op.clone())));
    let mut expected: Vec<_> =
        siblings.into_iter().map(key).filter(|key| key.kind == Kind::memory()).collect();
    expected.sort();
    assert!(!expected.is_empty());
    for (limit, looks_max) in [(1_000, 1_000), (1, 1_000), (1_000, 1), (1_000, 7)] {
        let (mut listed, mut after) = (Vec::new(), None);
        loop {
            let (kind, namespace, which) = (Kind::memory(), None, Listed::Concurrent);
            let query = ListQuery { kind, namespace, after, which, looks_max, limit, bytes_max: 1 << 20 };
            let ListPage { records, next } = engine.reads().list(&query).unwrap();
            assert!(records.len() <= limit.min(looks_max));
            for (key, shown, op) in records {
                let record = engine.reads().record(&key).unwrap();
                assert!(record.record.versions().len() > 1, "{key}");
                assert_eq!(Some(&shown), record.record.visible(), "{key}");
                assert!(record.ops.contains(&op), "{key}");
                listed.push(key);
            }
            match next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        assert_eq!(listed, expected, "{limit}, {looks_max}");
    }
}

#[test]
fn keys_of_an_id_are_found_in_any_namespace() {
    let mut engine = open();
    let mut elsewhere = put(1, "elsewhere");
    if let Change::Write(mutation) = &mut elsewhere {
        mutation.key.namespace = Namespace::new("other").unwrap();
    }
    write(&mut engine, [put(1, "here"), elsewhere, put(10, "r10 is not r1")]);
    let namespaces = |engine: &SimulatedEngine, id| {
        let keys = engine.reads().keys_of(&key(id).kind, &key(id).id).unwrap();
        keys.iter().map(|key| key.namespace.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(namespaces(&engine, 1), ["other", "team/notes"]);
    assert_eq!(namespaces(&engine, 2), Vec::<String>::new());
    let drop = Change::DropDead { key: key(1), dots: vec![dot(1)] };
    write(&mut engine, [drop]);
    assert_eq!(namespaces(&engine, 1), ["other"]);
}

#[test]
fn the_state_hash_is_that_of_the_live_state_alone() {
    let (mut one, mut other) = (open(), open());
    let ops = {
        let mut b = Model::of_node("b");
        b.run(vec![put(1, "x"), put(2, "y"), put(1, "z")]);
        b.ops
    };
    let admit = |engine: &mut SimulatedEngine, seq: u64| {
        let op = ops.values().find(|op| op.op.dot.seq == seq).unwrap().clone();
        write(engine, [Change::Admit(op)]);
    };
    for seq in 1..=3 {
        admit(&mut one, seq);
    }
    let hash = |engine: &SimulatedEngine| engine.reads().state_hash(&Scope::everything()).unwrap();
    let hashes: BTreeMap<u64, _> = [3, 2]
        .into_iter()
        .map(|seq| {
            admit(&mut other, seq);
            (seq, hash(&other))
        })
        .collect();
    assert_ne!(hashes[&3], hash(&one));
    assert_eq!(hashes[&2], hash(&one));
    assert_eq!((hashes[&2].versions, hashes[&2].records), (2, 2));
    write(&mut one, [delete(1)]);
    assert_eq!((hash(&one).versions, hash(&one).records), (2, 1));
}

#[test]
fn what_is_neither_live_nor_covered_is_found() {
    let mut engine = open();
    write(&mut engine, [put(0, "x"), put(0, "y"), put(1, "x"), delete(1)]);
    let uncovered = |ranges: &[(u64, u64)]| engine.reads().uncovered(&known(ranges)).unwrap();
    assert!(uncovered(&[(1, 4)]).is_empty(), "live or replaced by what is");
    assert_eq!(uncovered(&[(1, 7)]), *known(&[(5, 7)]));
    assert_eq!(uncovered(&[(9, 9)]), *known(&[(9, 9)]));
}
