//! A page of a session: the live ops that the other side lacks, or what has replaced them.

use std::collections::BTreeSet;
use std::sync::PoisonError;

use federation_core::attest::Trust;
use federation_core::dot::Dot;
use federation_core::node_clock::NodeClock;
use federation_core::planted::{Defect, is_planted};
use federation_core::port::store::{SessionOp, SessionPage, SessionQuery, StoreError};
use federation_core::record::Version;

use super::Reads;
use crate::disk::Disk;
use crate::index::{Entry, Index};
use crate::log::{Pin, Place};
use crate::schema::{keys, values};
use crate::state::{LookupError, stored};

/// The page behind `query.after`.
///
/// Live dots and ghosts are walked together in dot order. For each stretch the live dots are read *before* the
/// ghosts: a dot moves from one table to the other in one batch and never back, so one that had left the first when
/// that was read is in the second when that is.
///
/// A dot that is not live any more stands for the present versions of its record. Those of them whose own dot is
/// sure to come in this walk are left to it; so the same op is rarely sent twice, and never within a page. Sure is what
/// this stretch has read, or what lies behind it and will be read: a version written since the stretch was read, with a
/// dot before its end, comes no more.
pub(super) fn page<D: Disk, I: Index>(
    reads: &Reads<D, I>,
    query: &SessionQuery,
) -> Result<SessionPage, StoreError> {
    let is_open =
        reads.shared.sessions.lock().unwrap_or_else(PoisonError::into_inner).contains(&query.session);
    if !is_open {
        tracing::warn!(session = query.session.0, "a page was asked for of a session that is not open");
        return Err(StoreError::Unreadable);
    }
    let pin = reads.shared.log.pin();
    let mut page = Page { reads, pin, query, ops: Vec::new(), bytes: 0, sent: BTreeSet::new() };
    let mut last = query.after.clone();
    let mut stretch = FIRST_STRETCH;
    let mut walked = 0;
    loop {
        let Stretch { dots, end } =
            reads.answer(Stretch::behind(&reads.shared.index, last.as_ref(), stretch, &query.trust))?;
        let mut skip_to: Option<Dot> = None;
        let is_to_come = |later: &Dot| dots.contains(later) || end.as_ref().is_some_and(|end| later > end);
        for dot in dots.iter().cloned() {
            if skip_to.as_ref().is_some_and(|known| dot <= *known) {
                continue;
            }
            if let Some(end) = known_to(&query.known, &dot) {
                skip_to = Some(end.clone());
                last = Some(end);
                continue;
            }
            if is_planted(Defect::CursorSkips) && dot.seq.is_multiple_of(SKIPPED_EVERY) {
                last = Some(dot);
                continue;
            }
            if !page.add(&dot, is_to_come)? {
                return Ok(SessionPage { ops: page.ops, next: last });
            }
            last = Some(dot);
        }
        if end.is_none() {
            return Ok(SessionPage { ops: page.ops, next: None });
        }
        // What is not let out or is known may be all that a stretch has, and more: the last known one may lie behind it.
        last = last.max(end);
        walked += stretch;
        if walked >= WALKED_MAX {
            return Ok(SessionPage { ops: page.ops, next: last });
        }
        stretch = (2 * stretch).min(LONGEST_STRETCH);
    }
}

struct Page<'a, D: Disk, I> {
    reads: &'a Reads<D, I>,
    pin: Pin,
    query: &'a SessionQuery,
    ops: Vec<SessionOp>,
    bytes: usize,
    sent: BTreeSet<Dot>,
}

impl<D: Disk, I: Index> Page<'_, D, I> {
    /// Adds what `dot` stands for. False if the page has no room for all of it; then nothing was added. An empty
    /// page has room for anything, so that a walk always gets on.
    fn add(&mut self, dot: &Dot, is_to_come: impl Fn(&Dot) -> bool) -> Result<bool, StoreError> {
        let index = &self.reads.shared.index;
        let record = self.reads.answer(record_of(index, dot))?;
        let wanted: Vec<&(Version, Place)> = match record.version(dot) {
            Some(live) => vec![live],
            None => record
                .versions()
                .iter()
                .filter(|(v, _)| v.dot < *dot || !is_to_come(&v.dot))
                .filter(|(v, _)| !self.query.known.contains(&v.dot))
                .collect(),
        };
        let wanted: Vec<_> = wanted.into_iter().filter(|(v, _)| !self.sent.contains(&v.dot)).collect();
        let more: usize = wanted.iter().map(|(_, place)| place.bytes as usize).sum();
        let fits =
            self.ops.len() + wanted.len() <= self.query.ops_max && self.bytes + more <= self.query.bytes_max;
        if !fits && !self.ops.is_empty() {
            return Ok(false);
        }
        for (version, place) in wanted {
            let sealed = self.reads.op(&self.pin, version, *place)?;
            let (dot, context) = (version.dot.clone(), version.context.clone());
            self.ops.push(SessionOp { dot, context, sealed });
            self.sent.insert(version.dot.clone());
        }
        self.bytes += more;
        Ok(true)
    }
}

/// The record of a dot that was live or a ghost a moment ago.
fn record_of<I: Index>(index: &I, dot: &Dot) -> Result<values::Stored, LookupError> {
    for table in [keys::LIVE, keys::GHOST] {
        if let Some(value) = index.read(&keys::dot(table, dot))? {
            return stored(index, &values::decode_key(&value)?);
        }
    }
    Ok(values::Stored::default())
}

/// A part of the walk.
struct Stretch {
    /// The live dots and ghosts of records that are let out, in order, without a gap.
    dots: BTreeSet<Dot>,
    /// Where it ends; none: it is the last.
    end: Option<Dot>,
}

impl Stretch {
    /// About `limit` dots of each table behind `after`.
    fn behind<I: Index>(
        index: &I,
        after: Option<&Dot>,
        limit: usize,
        trust: &Trust,
    ) -> Result<Self, LookupError> {
        let from = |table| after.map_or_else(|| vec![table], |dot| keys::after(&keys::dot(table, dot)));
        let live = index.scan(&from(keys::LIVE), &[keys::LIVE + 1], limit)?;
        let ghosts = index.scan(&from(keys::GHOST), &[keys::GHOST + 1], limit)?;
        // Where one table was cut, the other one's dots behind that are for the next stretch.
        let end = match (cut_at(&live, limit)?, cut_at(&ghosts, limit)?) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        let mut dots = BTreeSet::new();
        for (key, value) in live.iter().chain(&ghosts) {
            let dot = keys::read_dot(key)?;
            if end.as_ref().is_none_or(|end| dot <= *end)
                && trust.lets_out(&values::decode_key(value)?.namespace)
            {
                dots.insert(dot);
            }
        }
        Ok(Self { dots, end })
    }
}

/// The last dot of these entries, if there may be more behind it.
fn cut_at(entries: &[Entry], limit: usize) -> Result<Option<Dot>, LookupError> {
    let last = entries.last().filter(|_| entries.len() == limit);
    Ok(last.map(|(key, _)| keys::read_dot(key)).transpose()?)
}

/// If `known` holds `dot`: the last dot of the range that holds it.
fn known_to(known: &NodeClock, dot: &Dot) -> Option<Dot> {
    let ranges = known.seqs(&dot.origin)?.ranges();
    let range = ranges.get(ranges.partition_point(|range| range.last < dot.seq))?;
    range.contains(dot.seq).then(|| Dot { origin: dot.origin.clone(), seq: range.last })
}

/// A stretch that begins with known dots is thrown away, so the first are short.
const FIRST_STRETCH: usize = 16;
const LONGEST_STRETCH: usize = 512;
/// Dots looked at for one page: where little is let out, a page may be short, or empty, and not the last.
const WALKED_MAX: usize = 64 * LONGEST_STRETCH;
/// The ops that a planted defect leaves out.
const SKIPPED_EVERY: u64 = 8;
