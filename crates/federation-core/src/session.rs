//! Both ends of a session: what may be claimed as complete.
//!
//! A session delivers to a peer all that it lacks, as of one instant T of the sender, and ends with a claim:
//! the receiver's clock may take in T. The claim leaves out each op that the receiver refused, and what that op
//! had replaced: else the receiver's clock would cover versions that are nowhere held
//! (counterexamples 1 and 1b).

use crate::attest::Claimable;
use crate::dot::Dot;
use crate::dot_set::DotSet;
use crate::node_clock::NodeClock;
use crate::planted::{Defect, is_planted};
use crate::port::store::SessionStart;
use crate::seq_ranges::{SeqRange, SeqRanges};
use crate::vector_clock::VectorClock;

/// Gaps between handled pages that are remembered. Pages come nearly in order; one who leaves more gaps gets no
/// completion.
const GAPS_MAX: usize = 64;

/// Ranges of dots that the ops of a session name which are remembered, to hold its claim against: 24 bytes each.
const NAMED_RANGES_MAX: usize = 65_536;

/// The sender's end: collects what must not be claimed.
#[derive(Clone, Debug)]
pub struct SessionSender {
    start: SessionStart,
    claimable: Claimable,
    withheld: VectorClock,
    pages: u64,
}

impl SessionSender {
    /// The session that the store opened, towards a receiver who may be told so much.
    pub fn new(start: SessionStart, claimable: Claimable) -> Self {
        let withheld = start.withheld.clone();
        Self { start, claimable, withheld, pages: 0 }
    }

    /// What the store opened.
    pub fn start(&self) -> &SessionStart {
        &self.start
    }

    /// The number of the next page, from 0.
    pub fn next_page(&mut self) -> u64 {
        let page = self.pages;
        self.pages += 1;
        page
    }

    /// Pages sent so far.
    pub fn pages(&self) -> u64 {
        self.pages
    }

    /// The receiver refused this op, for now or for good.
    pub fn refused(&mut self, dot: &Dot, context: &VectorClock) {
        withhold(&mut self.withheld, dot, context);
    }

    /// Whether the completion leaves anything out.
    pub fn withholds(&self) -> bool {
        !self.withheld.is_empty()
    }

    /// What the receiver may take into its clock once it has durably handled every page.
    ///
    /// Where that is own ops alone, it is those of the present epoch: what this node keeps has not changed since it
    /// began, and its disk has not been lost. Of an earlier epoch the clock may name ops that are not here.
    pub fn complete_to(&self) -> NodeClock {
        let claimed = self.start.clock.minus(&self.withheld);
        NodeClock::from(match self.claimable {
            Claimable::Everything => claimed,
            Claimable::OwnOrigins => claimed.of_origins(|origin| self.start.own.as_ref() == Some(origin)),
            Claimable::Nothing => DotSet::new(),
        })
    }
}

/// Puts what a refused op would have made claimable among what is withheld: its dot, and what it had replaced.
pub fn withhold(withheld: &mut VectorClock, dot: &Dot, context: &VectorClock) {
    if is_planted(Defect::CompleteOverRefused) {
        return;
    }
    if is_planted(Defect::CompleteOverContexts) {
        withheld.insert(dot);
        return;
    }
    withheld.cover(dot, context);
}

/// The receiver's end: counts the pages that were durably handled and takes out what it refused itself.
#[derive(Clone, Debug, Default)]
pub struct SessionReceiver {
    /// Numbers of the handled pages, each plus one.
    handled: SeqRanges,
    withheld: VectorClock,
    /// What the ops of the session name: their dots, and what their writers had seen.
    named: DotSet,
}

/// A completion came before all of its session's pages were handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{handled} of {pages} pages of the session are handled")]
pub struct IncompleteSession {
    /// Pages handled.
    pub handled: u64,
    /// Pages that the completion names.
    pub pages: u64,
}

impl SessionReceiver {
    /// A session of which nothing has come.
    pub const fn new() -> Self {
        Self { handled: SeqRanges::new(), withheld: VectorClock::new(), named: DotSet::new() }
    }

    /// Whether this node leaves anything out of what the other side claims.
    pub fn withholds(&self) -> bool {
        !self.withheld.is_empty()
    }

    /// Page `page`, from 0, is durably handled: each of its ops is applied, had before, or was given to
    /// [`SessionReceiver::refused`]. A page with an op that could not be read is never handled.
    pub fn handled(&mut self, page: u64) {
        let has_room = self.handled.ranges().len() < GAPS_MAX || self.handled.contains(page);
        if let Some(number) = page.checked_add(1)
            && has_room
        {
            self.handled.insert(number);
        }
    }

    /// This node has taken ops that name these dots. Past a bound they are forgotten: what is claimed is then looked up.
    pub fn took(&mut self, named: &DotSet) {
        if self.named.range_count() < NAMED_RANGES_MAX {
            self.named.join(named);
        }
    }

    /// What of `claimed` no op of the session names.
    pub fn unnamed(&self, claimed: &DotSet) -> DotSet {
        claimed.minus(&self.named)
    }

    /// This node refused an op of the session, for now or for good.
    pub fn refused(&mut self, dot: &Dot, context: &VectorClock) {
        withhold(&mut self.withheld, dot, context);
    }

    /// What this node's clock may take in of `claimed`, after `pages` pages.
    ///
    /// # Errors
    /// [`IncompleteSession`] unless every page was handled.
    pub fn complete(&self, pages: u64, claimed: &DotSet) -> Result<NodeClock, IncompleteSession> {
        let whole = SeqRange::new(1, pages).is_none_or(|all| self.handled.contains_range(all));
        if !whole {
            return Err(IncompleteSession { handled: self.handled.count(), pages });
        }
        Ok(NodeClock::from(claimed.minus(&self.withheld)))
    }
}
