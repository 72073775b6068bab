//! A history sorted by record, with what each op replaces in the end: made once, read by every checker.

use std::collections::{BTreeMap, BTreeSet};

use federation_wire::api::DotText;

use super::marks::Marks;
use super::{Guarantee, Violation};
use crate::history::{Answer, Call, Fate, History, OpFact, Seen, Sharing};

/// A history, sorted by record.
#[derive(Debug)]
pub struct Books<'h> {
    /// The history.
    pub history: &'h History,
    records: BTreeMap<&'h str, RecordBook<'h>>,
}

/// All that a history has of one record.
#[derive(Debug)]
pub struct RecordBook<'h> {
    /// The record.
    pub key: &'h str,
    /// The calls on it, in the order of the history.
    pub calls: Vec<&'h Call>,
    /// Its ops in the order of their dots. Their place here is their number in [`Marks`].
    pub ops: Vec<BookedOp<'h>>,
}

/// An op and what it replaces.
#[derive(Debug)]
pub struct BookedOp<'h> {
    /// Its name.
    pub dot: &'h DotText,
    /// What the harness knows of it.
    pub fact: &'h OpFact,
    /// Whether a client was told that it is kept.
    pub is_promised: bool,
    /// The ops that its context names.
    pub names: Marks,
    /// These, those that they name, and so on.
    pub covers: Marks,
    /// The ops that its writer had seen, those that their writers had seen, and so on.
    pub knew: Marks,
}

/// By which of its two pasts an op stands for others.
#[derive(Clone, Copy, Debug)]
pub enum Past {
    /// What its context says: what the product goes by.
    Covered,
    /// What its writer had really seen.
    Known,
}

impl<'h> Books<'h> {
    /// Sorts a history.
    pub fn of(history: &'h History) -> Self {
        let mut records: BTreeMap<&str, RecordBook<'_>> = BTreeMap::new();
        for call in &history.calls {
            record_of(&mut records, &call.key).calls.push(call);
        }
        for (dot, fact) in &history.ops {
            record_of(&mut records, &fact.key).ops.push(BookedOp {
                dot,
                fact,
                is_promised: fact.fate == Fate::Promised,
                names: Marks::default(),
                covers: Marks::default(),
                knew: Marks::default(),
            });
        }
        for key in history.finals.records.keys().chain(history.finals.live.keys()) {
            record_of(&mut records, key);
        }
        for record in records.values_mut() {
            record.follow();
        }
        Self { history, records }
    }

    /// Whether the harness could look into the nodes: then checkers go by ops, else by what was shown.
    pub fn is_white_box(&self) -> bool {
        !self.history.ops.is_empty() || !self.history.finals.live.is_empty()
    }

    /// Every record that anything was recorded of.
    pub fn records(&self) -> impl Iterator<Item = &RecordBook<'h>> {
        self.records.values()
    }

    /// A violation by the op of this name, or by one that should have been there.
    pub fn violation_by(&self, guarantee: Guarantee, dot: &DotText, seen: String) -> Violation {
        let record = self.history.ops.get(dot).and_then(|fact| self.records.get(fact.key.as_str()));
        match record {
            Some(record) => record.violation(guarantee, None, seen),
            None => Violation { guarantee, node: None, key: None, seen, calls: Vec::new() },
        }
    }

    /// The live versions that an answer shows; none if it does not tell.
    pub fn shown<'a>(&self, call: &'a Call) -> Option<Vec<&'a DotText>> {
        let Answer::Read { seen, live } = &call.answer else { return None };
        match seen {
            _ if self.history.ops.is_empty() => None,
            Seen::Unknown { .. } => None,
            _ if !live.is_empty() => Some(live.iter().collect()),
            Seen::Value { dot, .. } => Some(vec![dot]),
            Seen::Missing => Some(Vec::new()),
            Seen::Deleted => None,
        }
    }
}

impl RecordBook<'_> {
    /// The number of an op of this record.
    pub fn number(&self, dot: &DotText) -> Option<usize> {
        self.ops.binary_search_by(|op| op.dot.cmp(dot)).ok()
    }

    /// The live versions, and all that these stand for.
    pub fn there<'a>(&self, live: impl IntoIterator<Item = &'a DotText>, past: Past) -> Marks {
        let mut there = Marks::none_of(self.ops.len());
        for number in live.into_iter().filter_map(|dot| self.number(dot)) {
            there.add(number);
            if let Some(op) = self.ops.get(number) {
                there.add_all(match past {
                    Past::Covered => &op.covers,
                    Past::Known => &op.knew,
                });
            }
        }
        there
    }

    /// Whether one client writes it, call after call.
    pub fn is_owned(&self) -> bool {
        self.calls.iter().all(|call| call.sharing == Sharing::Owned)
    }

    /// The latest write that a read may have seen if it saw this: the place of the call. Of a record with one owner.
    pub fn explained_by(&self, read: &Call, seen: &Seen) -> Option<usize> {
        self.calls.iter().rposition(|call| {
            let is_made = call.acknowledged().is_some() || call.is_uncertain();
            is_made && call.begin_us <= read.end_us && call.explains(seen)
        })
    }

    /// A violation on this record.
    pub fn violation(&self, guarantee: Guarantee, node: Option<usize>, seen: String) -> Violation {
        let calls = self.calls.iter().map(|call| (*call).clone()).collect();
        Violation { guarantee, node, key: Some(self.key.to_owned()), seen, calls }
    }

    /// Fills in what every op replaces, however far back.
    fn follow(&mut self) {
        for call in &self.calls {
            let acknowledged = call.acknowledged().and_then(|dot| self.number(dot));
            if let Some(op) = acknowledged.and_then(|number| self.ops.get_mut(number)) {
                op.is_promised = true;
            }
        }
        let mut covers: Vec<_> = self.ops.iter().map(|op| self.numbers(&op.fact.covers)).collect();
        let mut knew: Vec<_> = self.ops.iter().map(|op| self.numbers(&op.fact.knew)).collect();
        for (op, named) in self.ops.iter_mut().zip(&covers) {
            op.names = named.clone();
        }
        Marks::close(&mut covers);
        Marks::close(&mut knew);
        for ((op, covers), knew) in self.ops.iter_mut().zip(covers).zip(knew) {
            (op.covers, op.knew) = (covers, knew);
        }
    }

    /// The numbers of these ops, of those that are of this record. Both are in order: one walk along them finds all.
    fn numbers(&self, dots: &BTreeSet<DotText>) -> Marks {
        let mut marks = Marks::none_of(self.ops.len());
        let mut ops = self.ops.iter().enumerate().peekable();
        for dot in dots {
            while ops.next_if(|(_, op)| op.dot < dot).is_some() {}
            if let Some((number, _)) = ops.next_if(|(_, op)| op.dot == dot) {
                marks.add(number);
            }
        }
        marks
    }
}

impl BookedOp<'_> {
    /// Whether it must be there in the end, or replaced.
    pub fn is_owed(&self) -> bool {
        self.is_promised || self.fact.fate == Fate::Durable
    }

    /// It, for people.
    pub fn describe(&self) -> String {
        match &self.fact.content {
            Some(content) => format!("{} ({content:?})", self.dot),
            None => format!("{} (a delete)", self.dot),
        }
    }
}

fn record_of<'b, 'h>(
    records: &'b mut BTreeMap<&'h str, RecordBook<'h>>,
    key: &'h str,
) -> &'b mut RecordBook<'h> {
    records.entry(key).or_insert_with(|| RecordBook { key, calls: Vec::new(), ops: Vec::new() })
}
