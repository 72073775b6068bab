//! A set of sequence numbers, kept as ranges.

/// A set of `u64 >= 1`, as sorted, disjoint, non-adjacent, inclusive ranges: each set has one form.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct SeqRanges {
    ranges: Vec<SeqRange>,
}

/// An inclusive range of sequence numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeqRange {
    /// The first number, at least 1.
    pub first: u64,
    /// The last number, at least `first`.
    pub last: u64,
}

impl SeqRange {
    /// The range from `first` to `last`, or none if it would be empty or hold zero.
    pub fn new(first: u64, last: u64) -> Option<Self> {
        (1 <= first && first <= last).then_some(Self { first, last })
    }

    /// Whether `seq` lies in it.
    pub fn contains(self, seq: u64) -> bool {
        self.first <= seq && seq <= self.last
    }
}

impl SeqRanges {
    /// The empty set.
    pub const fn new() -> Self {
        Self { ranges: Vec::new() }
    }

    /// The set of the given ranges, or none unless they are in the one form this type keeps.
    pub fn from_canonical(ranges: Vec<SeqRange>) -> Option<Self> {
        let each = ranges.iter().all(|r| SeqRange::new(r.first, r.last).is_some());
        let apart = ranges.windows(2).all(|pair| match pair {
            [a, b] => a.last.checked_add(1).is_some_and(|next| next < b.first),
            _ => true,
        });
        (each && apart).then_some(Self { ranges })
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Its ranges in order.
    pub fn ranges(&self) -> &[SeqRange] {
        &self.ranges
    }

    /// How many numbers it holds.
    pub fn count(&self) -> u64 {
        self.ranges.iter().map(|r| r.last - r.first + 1).sum()
    }

    /// Its greatest number.
    pub fn max(&self) -> Option<u64> {
        self.ranges.last().map(|r| r.last)
    }

    /// Whether it holds `seq`.
    pub fn contains(&self, seq: u64) -> bool {
        let after = self.ranges.partition_point(|r| r.first <= seq);
        after.checked_sub(1).and_then(|i| self.ranges.get(i)).is_some_and(|r| r.contains(seq))
    }

    /// Whether it holds every number of `range`.
    pub fn contains_range(&self, range: SeqRange) -> bool {
        let after = self.ranges.partition_point(|r| r.first <= range.first);
        after.checked_sub(1).and_then(|i| self.ranges.get(i)).is_some_and(|r| range.last <= r.last)
    }

    /// Whether it holds any number of `range`.
    pub fn meets(&self, range: SeqRange) -> bool {
        let at = self.ranges.partition_point(|r| r.last < range.first);
        self.ranges.get(at).is_some_and(|r| r.first <= range.last)
    }

    /// Adds one number. True if it was new.
    pub fn insert(&mut self, seq: u64) -> bool {
        debug_assert!(seq >= 1, "sequence numbers begin at 1");
        if self.contains(seq) {
            return false;
        }
        self.insert_range(SeqRange { first: seq, last: seq });
        true
    }

    /// Adds every number of `range`.
    pub fn insert_range(&mut self, range: SeqRange) {
        // The ranges that overlap or touch `range` become one with it.
        let from = self.ranges.partition_point(|r| r.last.saturating_add(1) < range.first);
        let to = self.ranges.partition_point(|r| r.first <= range.last.saturating_add(1));
        let joined = self
            .ranges
            .get(from..to)
            .unwrap_or_default()
            .iter()
            .fold(range, |all, r| SeqRange { first: all.first.min(r.first), last: all.last.max(r.last) });
        self.ranges.splice(from..to.max(from), [joined]);
    }

    /// Removes every number of `range`.
    pub fn remove_range(&mut self, range: SeqRange) {
        let from = self.ranges.partition_point(|r| r.last < range.first);
        let to = self.ranges.partition_point(|r| r.first <= range.last);
        let hit = self.ranges.get(from..to).unwrap_or_default();
        let left = hit.first().and_then(|r| SeqRange::new(r.first, range.first - 1));
        let right = hit.last().and_then(|r| {
            SeqRange::new(range.last.saturating_add(1), r.last).filter(|_| r.last > range.last)
        });
        if from < to {
            self.ranges.splice(from..to, left.into_iter().chain(right));
        }
    }

    /// Adds every number of `other`.
    pub fn join(&mut self, other: &Self) {
        if self.ranges.is_empty() {
            self.ranges.clone_from(&other.ranges);
            return;
        }
        for range in &other.ranges {
            if !self.contains_range(*range) {
                self.insert_range(*range);
            }
        }
    }

    /// Removes every number of `other`.
    pub fn subtract(&mut self, other: &Self) {
        for range in &other.ranges {
            self.remove_range(*range);
        }
    }

    /// Whether it holds every number of `other`.
    pub fn contains_all(&self, other: &Self) -> bool {
        other.ranges.iter().all(|r| self.contains_range(*r))
    }

    /// The whole holes below its maximum, the one before its first number included.
    pub fn holes(&self) -> impl Iterator<Item = SeqRange> + '_ {
        let before = std::iter::once(0).chain(self.ranges.iter().map(|r| r.last));
        before
            .zip(&self.ranges)
            .filter_map(|(last, next)| SeqRange::new(last.saturating_add(1), next.first - 1))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn of(set: &BTreeSet<u64>) -> SeqRanges {
        let mut out = SeqRanges::new();
        for seq in set {
            out.insert(*seq);
        }
        out
    }

    fn set() -> impl Strategy<Value = BTreeSet<u64>> {
        proptest::collection::btree_set(1_u64..40, 0..25)
    }

    proptest! {
        #[test]
        fn agrees_with_a_plain_set(a in set(), b in set(), first in 1_u64..40, len in 0_u64..10) {
            let range = SeqRange { first, last: first + len };
            let (ra, rb) = (of(&a), of(&b));
            prop_assert_eq!(SeqRanges::from_canonical(ra.ranges().to_vec()), Some(ra.clone()));
            prop_assert_eq!(ra.count(), a.len() as u64);
            for seq in 1..60 {
                prop_assert_eq!(ra.contains(seq), a.contains(&seq));
            }
            prop_assert_eq!(ra.contains_range(range), (range.first..=range.last).all(|s| a.contains(&s)));
            prop_assert_eq!(ra.meets(range), (range.first..=range.last).any(|s| a.contains(&s)));
            let mut joined = ra.clone();
            joined.join(&rb);
            prop_assert_eq!(joined, of(&a.union(&b).copied().collect()));
            let mut less = ra.clone();
            less.subtract(&rb);
            prop_assert_eq!(less, of(&a.difference(&b).copied().collect()));
            prop_assert_eq!(ra.contains_all(&rb), b.is_subset(&a));
            let holes: BTreeSet<u64> = ra.holes().flat_map(|h| h.first..=h.last).collect();
            let missing: BTreeSet<u64> = (1..ra.max().unwrap_or(1)).filter(|s| !a.contains(s)).collect();
            prop_assert_eq!(holes, missing);
        }
    }

    #[test]
    fn only_the_one_form_is_accepted() {
        let r = |first, last| SeqRange { first, last };
        assert!(SeqRanges::from_canonical(vec![r(1, 2), r(4, 4)]).is_some());
        assert!(SeqRanges::from_canonical(vec![r(1, 2), r(3, 4)]).is_none(), "adjacent");
        assert!(SeqRanges::from_canonical(vec![r(4, 4), r(1, 2)]).is_none(), "unsorted");
        assert!(SeqRanges::from_canonical(vec![r(0, 2)]).is_none(), "zero");
        assert!(SeqRanges::from_canonical(vec![r(3, 2)]).is_none(), "reversed");
        assert!(SeqRanges::from_canonical(vec![r(1, u64::MAX), r(5, 6)]).is_none(), "overlap at the end");
    }
}
