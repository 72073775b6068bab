//! A set of dots: what a vector clock and a node clock are made of.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::dot::{Dot, Origin};
use crate::seq_ranges::{SeqRange, SeqRanges};

/// Per origin a set of sequence numbers. Cloning is cheap: origins share their ranges until one side changes.
///
/// No origin has an empty set, so that equal sets are equal values.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct DotSet {
    origins: BTreeMap<Origin, Arc<SeqRanges>>,
}

impl DotSet {
    /// The empty set.
    pub const fn new() -> Self {
        Self { origins: BTreeMap::new() }
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.origins.is_empty()
    }

    /// Its origins and their numbers, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&Origin, &SeqRanges)> {
        self.origins.iter().map(|(origin, seqs)| (origin, &**seqs))
    }

    /// The numbers of one origin.
    pub fn seqs(&self, origin: &Origin) -> Option<&SeqRanges> {
        self.origins.get(origin).map(|seqs| &**seqs)
    }

    /// The greatest number of one origin, zero if it has none.
    pub fn max_seq(&self, origin: &Origin) -> u64 {
        self.seqs(origin).and_then(SeqRanges::max).unwrap_or(0)
    }

    /// How many ranges it takes: the measure of its size.
    pub fn range_count(&self) -> usize {
        self.origins.values().map(|seqs| seqs.ranges().len()).sum()
    }

    /// How many dots it holds, at most `u64::MAX`: what a peer claims may be more.
    pub fn dot_count(&self) -> u64 {
        self.origins.values().map(|seqs| seqs.count()).fold(0, u64::saturating_add)
    }

    /// Whether it holds `dot`.
    pub fn contains(&self, dot: &Dot) -> bool {
        self.seqs(&dot.origin).is_some_and(|seqs| seqs.contains(dot.seq))
    }

    /// Whether it holds every dot of `range` of `origin`.
    pub fn contains_range(&self, origin: &Origin, range: SeqRange) -> bool {
        self.seqs(origin).is_some_and(|seqs| seqs.contains_range(range))
    }

    /// Whether it holds any dot of `range` of `origin`.
    pub fn meets(&self, origin: &Origin, range: SeqRange) -> bool {
        self.seqs(origin).is_some_and(|seqs| seqs.meets(range))
    }

    /// Whether it holds every dot of `other`.
    pub fn contains_all(&self, other: &Self) -> bool {
        other
            .origins
            .iter()
            .all(|(origin, seqs)| self.seqs(origin).is_some_and(|mine| mine.contains_all(seqs)))
    }

    /// Adds one dot. True if it was new.
    pub fn insert(&mut self, dot: &Dot) -> bool {
        !self.contains(dot) && Arc::make_mut(self.entry(&dot.origin)).insert(dot.seq)
    }

    /// Adds every dot of `range` of `origin`.
    pub fn insert_range(&mut self, origin: &Origin, range: SeqRange) {
        Arc::make_mut(self.entry(origin)).insert_range(range);
    }

    /// Adds every dot of `other`.
    pub fn join(&mut self, other: &Self) {
        for (origin, seqs) in &other.origins {
            match self.origins.get_mut(origin) {
                Some(mine) if mine.contains_all(seqs) => {}
                Some(mine) => Arc::make_mut(mine).join(seqs),
                None => {
                    self.origins.insert(origin.clone(), Arc::clone(seqs));
                }
            }
        }
    }

    /// Removes every dot of `other`.
    pub fn subtract(&mut self, other: &Self) {
        for (origin, seqs) in &other.origins {
            if let Some(mine) = self.origins.get_mut(origin) {
                Arc::make_mut(mine).subtract(seqs);
                if mine.is_empty() {
                    self.origins.remove(origin);
                }
            }
        }
    }

    /// The dots of this set that `other` lacks.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        let mut out = self.clone();
        out.subtract(other);
        out
    }

    /// The dots of the origins that `is_wanted` names.
    #[must_use]
    pub fn of_origins(&self, is_wanted: impl Fn(&Origin) -> bool) -> Self {
        let wanted = self.origins.iter().filter(|(origin, _)| is_wanted(origin));
        Self { origins: wanted.map(|(origin, seqs)| (origin.clone(), Arc::clone(seqs))).collect() }
    }

    fn entry(&mut self, origin: &Origin) -> &mut Arc<SeqRanges> {
        self.origins.entry(origin.clone()).or_default()
    }
}

impl FromIterator<Dot> for DotSet {
    fn from_iter<I: IntoIterator<Item = Dot>>(dots: I) -> Self {
        let mut out = Self::new();
        for dot in dots {
            out.insert(&dot);
        }
        out
    }
}
