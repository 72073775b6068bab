//! Histories by hand.

use std::collections::{BTreeMap, BTreeSet};

use federation_wire::api::DotText;

use crate::checker::books::Books;
use crate::checker::{Guarantee, Violation, check_claims};
use crate::history::{Answer, Call, Fate, FinalStates, History, OpFact, Request, Seen, Sharing};

/// A history of the record "k" at three nodes that were looked into.
pub(crate) struct Scene(pub(crate) History);

impl Scene {
    pub(crate) fn new() -> Self {
        Self(History { nodes: 3, ..History::default() })
    }

    /// An op of this content whose writer had seen those; some disk has kept it. Its rank is its seq.
    pub(crate) fn put(self, seq: u64, content: &str, seen: &[u64]) -> Self {
        self.op(seq, Some(content), seen)
    }

    /// A delete whose writer had seen those; some disk has kept it.
    pub(crate) fn delete(self, seq: u64, seen: &[u64]) -> Self {
        self.op(seq, None, seen)
    }

    /// Changes an op.
    pub(crate) fn with(mut self, seq: u64, change: impl FnOnce(&mut OpFact)) -> Self {
        change(self.0.ops.get_mut(&dot(seq)).unwrap());
        self
    }

    pub(crate) fn fate(self, seq: u64, fate: Fate) -> Self {
        self.with(seq, |op| op.fate = fate)
    }

    /// The op covers those; what its writer had seen stays.
    pub(crate) fn covering(self, seq: u64, covers: &[u64]) -> Self {
        self.with(seq, |op| op.covers = dots(covers))
    }

    pub(crate) fn call(mut self, call: Call) -> Self {
        self.0.calls.push(call);
        self
    }

    /// What the nodes hold in the end.
    pub(crate) fn live(mut self, by_node: [&[u64]; 3]) -> Self {
        self.0.finals.live.insert("k".to_owned(), by_node.map(dots).to_vec());
        self
    }

    /// What all nodes hold in the end.
    pub(crate) fn live_at_all(self, live: &[u64]) -> Self {
        self.live([live, live, live])
    }

    /// What the nodes show in the end.
    pub(crate) fn shown(mut self, by_node: [Seen; 3]) -> Self {
        self.0.finals.records.insert("k".to_owned(), by_node.into());
        self
    }

    /// At which nodes this checker finds something.
    pub(crate) fn found_by(&self, checker: fn(&Books<'_>) -> Vec<Violation>) -> Vec<Option<usize>> {
        checker(&Books::of(&self.0)).iter().map(|violation| violation.node).collect()
    }

    fn op(mut self, seq: u64, content: Option<&str>, seen: &[u64]) -> Self {
        let fact = OpFact {
            key: "k".to_owned(),
            hash: format!("{seq:064x}"),
            content: content.map(str::to_owned),
            hlc: seq,
            covers: dots(seen),
            knew: dots(seen),
            fate: Fate::Durable,
        };
        self.0.ops.insert(dot(seq), fact);
        self
    }
}

/// The n-th op of a node.
pub(crate) fn dot(seq: u64) -> DotText {
    format!("node-1/00000000000000ab/{seq}").parse().unwrap()
}

pub(crate) fn dots(seqs: &[u64]) -> BTreeSet<DotText> {
    seqs.iter().map(|seq| dot(*seq)).collect()
}

pub(crate) fn acknowledged(seq: u64) -> Answer {
    Answer::Acknowledged { dot: dot(seq) }
}

pub(crate) fn not_promised(seq: u64) -> Answer {
    Answer::NotPromised { dot: dot(seq), got: 1, needed: 2, reason: "timeout".to_owned() }
}

pub(crate) fn refused() -> Answer {
    Answer::Refused { status: 409, slug: "already_exists".to_owned() }
}

pub(crate) fn put(content: &str, answer: Answer) -> Call {
    call(Request::Update { content: content.to_owned() }, answer)
}

pub(crate) fn delete(answer: Answer) -> Call {
    call(Request::Delete, answer)
}

pub(crate) fn shared(call: Call) -> Call {
    Call { sharing: Sharing::Contended, ..call }
}

/// A read that sees these live versions, and this of them.
pub(crate) fn read(seen: Seen, live: &[u64]) -> Call {
    call(Request::Read, Answer::Read { seen, live: dots(live) })
}

/// The call, begun and answered at these times.
pub(crate) fn at(begin_us: u64, end_us: u64, call: Call) -> Call {
    Call { begin_us, end_us, ..call }
}

pub(crate) fn value(content: &str, seq: u64) -> Seen {
    Seen::Value { content: content.to_owned(), dot: dot(seq) }
}

/// What of G1 and G4 is found violated when three nodes show this of the one record of the history.
pub(crate) fn found(calls: &[Call], seen: &[Seen; 3]) -> Vec<(Guarantee, Option<usize>)> {
    let records = BTreeMap::from([("k".to_owned(), seen.to_vec())]);
    found_in(calls, &FinalStates { records, ..FinalStates::default() })
}

pub(crate) fn found_in(calls: &[Call], finals: &FinalStates) -> Vec<(Guarantee, Option<usize>)> {
    let (calls, finals) = (calls.to_vec(), finals.clone());
    let history = History { nodes: 3, calls, finals, ..History::default() };
    named(&check_claims(&history, &[Guarantee::G1, Guarantee::G4].into()))
}

/// Which guarantees were violated at which nodes.
pub(crate) fn named(violations: &[Violation]) -> Vec<(Guarantee, Option<usize>)> {
    violations.iter().map(|violation| (violation.guarantee, violation.node)).collect()
}

/// What all three nodes show alike.
pub(crate) fn all(seen: &Seen) -> [Seen; 3] {
    [seen.clone(), seen.clone(), seen.clone()]
}

fn call(request: Request, answer: Answer) -> Call {
    Call {
        client: 1,
        node: 0,
        key: "k".to_owned(),
        sharing: Sharing::Owned,
        session: None,
        level: None,
        went_back: false,
        idempotency_key: None,
        request,
        begin_us: 0,
        end_us: 1,
        answer,
    }
}
