//! A set of dots in pages: a node clock can be larger than a frame.

use federation_core::dot::Dot;
use federation_core::dot_set::DotSet;
use federation_core::limits::{CLOCK_PAGES_MAX, CLOCK_RANGES_PER_PAGE_MAX};
use federation_core::node_clock::NodeClock;
use federation_core::seq_ranges::SeqRange;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::types::Wire;

/// All dots of a clock that lie behind `after` and up to `next`, in dot order.
///
/// A page is exact for its part of the order, whatever changed meanwhile in the parts of other pages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClockPage {
    /// Where it begins; none for the first page.
    pub after: Option<Dot>,
    /// At most [`CLOCK_RANGES_PER_PAGE_MAX`] ranges.
    pub dots: NodeClock,
    /// Its last dot, behind which the next page begins; none for the last page.
    pub next: Option<Dot>,
}

impl ClockPage {
    /// The page of `clock` that begins behind `after`.
    pub fn of(clock: &DotSet, after: Option<&Dot>) -> Self {
        Self::cut(clock, after, CLOCK_RANGES_PER_PAGE_MAX)
    }

    /// All pages of `clock`, at least one.
    pub fn all(clock: &DotSet) -> Vec<Self> {
        let mut pages = vec![Self::of(clock, None)];
        while let Some(after) = pages.last().and_then(|page| page.next.clone()) {
            pages.push(Self::of(clock, Some(&after)));
        }
        pages
    }

    fn cut(clock: &DotSet, after: Option<&Dot>, ranges_max: usize) -> Self {
        let behind = clock.iter().filter(|(origin, _)| after.is_none_or(|after| **origin >= after.origin));
        let mut ranges = behind.flat_map(|(origin, seqs)| {
            let from = after.filter(|after| after.origin == *origin).map_or(0, |after| after.seq);
            let clip = move |r: &SeqRange| SeqRange::new(r.first.max(from.saturating_add(1)), r.last);
            seqs.ranges().iter().filter(move |r| r.last > from).filter_map(clip).map(move |r| (origin, r))
        });
        let mut dots = NodeClock::new();
        let mut last = None;
        for (origin, range) in ranges.by_ref().take(ranges_max) {
            dots.insert_range(origin, range);
            last = Some((origin, range.last));
        }
        let more = ranges.next().is_some();
        let next = last.filter(|_| more).map(|(origin, seq)| Dot { origin: origin.clone(), seq });
        Self { after: after.cloned(), dots, next }
    }

    /// Whether the dots lie where the page says.
    fn is_consistent(&self) -> bool {
        let first = self.dots.iter().next().and_then(|(origin, seqs)| {
            seqs.ranges().first().map(|range| Dot { origin: origin.clone(), seq: range.first })
        });
        let last = self
            .dots
            .iter()
            .last()
            .and_then(|(origin, seqs)| seqs.max().map(|seq| Dot { origin: origin.clone(), seq }));
        let begins_behind = match (&self.after, &first) {
            (Some(after), Some(first)) => after < first,
            _ => true,
        };
        begins_behind && (self.next.is_none() || self.next == last)
    }
}

impl Serialize for ClockPage {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (Wire(&self.after), Wire(&self.dots), Wire(&self.next)).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for ClockPage {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (Wire(after), Wire(dots), Wire(next)) = Deserialize::deserialize(deserializer)?;
        let page = Self { after, dots, next };
        if page.is_consistent() {
            Ok(page)
        } else {
            Err(serde::de::Error::custom("a page of a clock with dots outside of it"))
        }
    }
}

/// A clock that comes in pages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClockAssembly {
    dots: NodeClock,
    next: Option<Dot>,
    pages: usize,
}

/// Why a page of a clock is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClockPageError {
    /// It does not begin where the last one ended.
    #[error("the page does not begin where the last one ended")]
    OutOfOrder,
    /// There are too many.
    #[error("the clock has more than {limit} pages")]
    TooMany {
        /// The limit.
        limit: usize,
    },
}

impl ClockAssembly {
    /// Has no page yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a page. The clock comes back with the last one. A first page begins anew.
    ///
    /// # Errors
    /// [`ClockPageError`]; what came before stays.
    pub fn add(&mut self, page: ClockPage) -> Result<Option<NodeClock>, ClockPageError> {
        if page.after.is_none() {
            *self = Self::new();
        } else if page.after != self.next {
            return Err(ClockPageError::OutOfOrder);
        }
        if self.pages == CLOCK_PAGES_MAX {
            return Err(ClockPageError::TooMany { limit: CLOCK_PAGES_MAX });
        }
        self.pages += 1;
        self.dots.join(&page.dots);
        self.next = page.next;
        Ok(self.next.is_none().then(|| std::mem::take(self).dots))
    }

    /// Behind which dot the next page has to begin.
    pub fn next(&self) -> Option<&Dot> {
        self.next.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use federation_core::dot::Origin;
    use federation_core::id::{BootId, NodeId};
    use proptest::prelude::*;

    use super::*;

    fn clock(dots: &[(u8, u64)]) -> NodeClock {
        let origin =
            |n: u8| Origin { node: NodeId::new(&format!("n{n}")).unwrap(), epoch: BootId(u64::from(n)) };
        dots.iter().map(|(n, seq)| Dot { origin: origin(*n), seq: *seq }).collect::<DotSet>().into()
    }

    fn pages(clock: &NodeClock, ranges_max: usize) -> Vec<ClockPage> {
        let mut pages = vec![ClockPage::cut(clock, None, ranges_max)];
        while let Some(after) = pages.last().unwrap().next.clone() {
            pages.push(ClockPage::cut(clock, Some(&after), ranges_max));
        }
        pages
    }

    proptest! {
        #[test]
        fn pages_make_the_clock_again(
            dots in proptest::collection::vec((0_u8..4, 1_u64..40), 0..60),
            ranges_max in 1_usize..6,
        ) {
            let clock = clock(&dots);
            let mut assembly = ClockAssembly::new();
            let mut whole = None;
            for page in pages(&clock, ranges_max) {
                prop_assert!(whole.is_none());
                prop_assert!(page.dots.range_count() <= ranges_max);
                prop_assert!(page.is_consistent());
                whole = assembly.add(page).unwrap();
            }
            prop_assert_eq!(whole, Some(clock));
        }

        #[test]
        fn a_clock_that_grows_between_pages_is_never_overstated(
            dots in proptest::collection::vec((0_u8..4, 1_u64..40), 0..60),
            more in proptest::collection::vec((0_u8..4, 1_u64..40), 0..20),
        ) {
            let (before, mut after) = (clock(&dots), clock(&dots));
            after.join(&clock(&more));
            let mut assembly = ClockAssembly::new();
            let mut page = ClockPage::cut(&before, None, 2);
            let whole = loop {
                let next = page.next.clone();
                if let Some(whole) = assembly.add(page).unwrap() {
                    break whole;
                }
                page = ClockPage::cut(&after, next.as_ref(), 2);
            };
            prop_assert!(after.contains_all(&whole));
            prop_assert!(whole.contains_all(&before));
        }
    }

    #[test]
    fn pages_out_of_order_and_without_end_are_refused() {
        let clock = clock(&[(0, 1), (0, 3), (0, 5)]);
        let [first, second, third] = pages(&clock, 1).try_into().unwrap();
        let mut assembly = ClockAssembly::new();
        assert_eq!(assembly.add(first.clone()), Ok(None));
        assert_eq!(assembly.add(third.clone()), Err(ClockPageError::OutOfOrder));
        assert_eq!(assembly.add(second), Ok(None));
        assert_eq!(assembly.add(third), Ok(Some(clock)));
        assert_eq!(assembly.next(), None);

        let mut page = first;
        for _ in 0..CLOCK_PAGES_MAX {
            assert_eq!(assembly.add(page.clone()), Ok(None));
            page.after = page.next.clone();
        }
        assert_eq!(assembly.add(page), Err(ClockPageError::TooMany { limit: CLOCK_PAGES_MAX }));
    }
}
