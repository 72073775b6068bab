//! One group: decide, seal, append, sync, index, publish.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::vec::IntoIter;

use federation_core::decide::{Change, Decision, GroupPlan, OpSource, PlannedOp, decide};
use federation_core::dot::Dot;
use federation_core::dot_set::DotSet;
use federation_core::id::{LogPosition, NodeId, OpHash};
use federation_core::op::{Body, SealedOp};
use federation_core::port::store::{
    Committed, Fact, Facts, Health, Outcome, Request, SessionId, SessionStart, StoreError, Written,
};
use federation_core::session::withhold;
use federation_core::vector_clock::VectorClock;

use super::view::View;
use super::{Answer, Engine, Submission, Weight};
use crate::disk::Disk;
use crate::index::{Batch, Index, IndexOpener};
use crate::log::{Place, RecordKind};
use crate::schema::facts::LogFact;
use crate::schema::keys;
use crate::schema::values::{Stored, encode_clock, encode_drop};
use crate::state::{Ghosts, LookupError, Transition, key_of, stored, write_clock};

/// What a request waits for.
enum Slot {
    Change,
    Fact(Fact),
    Begin(NodeId),
    End(SessionId),
}

/// What a plan came to, once its ops have their places in the group.
struct Placed {
    /// Own ops, by their index in the plan.
    written: BTreeMap<usize, Arc<Written>>,
    /// Place of each op, counted from the start of the group.
    places: Vec<Place>,
    /// Dots that enter the clock.
    gained: DotSet,
}

impl<D: Disk, O: IndexOpener> Engine<D, O> {
    pub(super) fn write(&mut self, submissions: Vec<Submission>) -> Vec<Answer> {
        let mut lengths = Vec::with_capacity(submissions.len());
        let mut requests = Vec::new();
        for submission in submissions {
            lengths.push((submission.requests.len(), submission.done));
            requests.extend(submission.requests);
        }
        let mut outcomes = Ok(Vec::with_capacity(requests.len()));
        for run in runs(requests) {
            outcomes = outcomes.and_then(|mut all: Vec<Outcome>| {
                all.extend(self.commit(run)?);
                Ok(all)
            });
        }
        let position = LogPosition(self.log.end());
        let mut outcomes = outcomes.map(Vec::into_iter);
        let answer = |(length, done)| {
            let result = match &mut outcomes {
                Ok(all) => Ok(Committed { outcomes: all.take(length).collect(), position }),
                Err(error) => Err(*error),
            };
            Answer { done, result }
        };
        lengths.into_iter().map(answer).collect()
    }

    /// Commits `requests` with one sync, or with none if nothing is to be written.
    fn commit(&mut self, requests: Vec<Request>) -> Result<Vec<Outcome>, StoreError> {
        if self.is_closed {
            return Err(StoreError::Closed);
        }
        if self.health == Health::Poisoned {
            return Err(StoreError::ReadOnly);
        }
        let (changes, slots) = sort(requests);
        let now = self.clock.now();
        let view = View {
            index: &self.shared.index,
            clock: &self.state.clock,
            own_origin: self.own_origin.as_ref(),
            last_hlc: self.last_hlc,
            own_space: self.embedding_space.as_ref(),
            loaded: RefCell::default(),
        };
        let decided = decide(&view, &*self.sealer, now, changes);
        let loaded = view.loaded.into_inner();
        let mut plan = decided.map_err(|error| self.poison("read of the index", &error))?;

        self.builder.clear();
        let ops = std::mem::take(&mut plan.ops);
        let placed = self.build_ops(ops);
        let facts =
            self.build_rest(&plan, &slots).map_err(|error| self.poison("read of the index", &error))?;
        if !self.builder.is_empty() {
            if !self.log.has_room() {
                return Err(self.refuse_for_now());
            }
            let start = self.append()?;
            // The group is in the log: the next start has it.
            self.index_group(start, &plan, &placed, loaded, facts).map_err(|_| StoreError::InDoubt)?;
        }
        self.own_origin = plan.opened.take().or(self.own_origin.take());
        if slots.iter().any(|slot| matches!(slot, Slot::Fact(Fact::RebootstrapBegun { .. }))) {
            // The epoch may have dots that are forgotten here: the next own op begins one anew.
            self.own_origin = None;
        }
        self.last_hlc = plan.last_hlc;
        self.publish();
        let outcomes = self.outcomes(plan.decisions.into_iter(), slots, &placed.written);
        outcomes.map_err(|_| StoreError::InDoubt)
    }

    /// Seals own ops, one signature for each run of one origin, and puts all ops into the group.
    fn build_ops(&mut self, ops: Vec<PlannedOp>) -> Placed {
        let mut proofs = self.seal(&ops).into_iter();
        let mut placed =
            Placed { written: BTreeMap::new(), places: Vec::with_capacity(ops.len()), gained: DotSet::new() };
        for (index, PlannedOp { op, source }) in ops.into_iter().enumerate() {
            placed.gained.insert(&op.dot);
            let sealed = match source {
                OpSource::Received(sealed) => sealed,
                OpSource::Own(encoded) => {
                    #[expect(clippy::expect_used, reason = "the sealer's contract: a proof for each hash")]
                    let proof = proofs.next().expect("the sealer gives a proof for each hash");
                    let sealed = SealedOp { op: encoded, proof };
                    placed.written.insert(index, Arc::new(Written { op, sealed: sealed.clone() }));
                    sealed
                }
            };
            placed.places.push(self.builder.push_op(&sealed.op.bytes, &sealed.proof));
        }
        self.shared.metrics.group_ops.observe(placed.places.len() as u64);
        placed
    }

    fn seal(&self, ops: &[PlannedOp]) -> Vec<Arc<[u8]>> {
        let own: Vec<&PlannedOp> = ops.iter().filter(|op| matches!(op.source, OpSource::Own(_))).collect();
        let mut proofs = Vec::with_capacity(own.len());
        for run in own.chunk_by(|a, b| a.op.dot.origin == b.op.dot.origin) {
            let hashes: Vec<OpHash> = run.iter().map(|op| op.hash()).collect();
            if let Some(first) = run.first() {
                proofs.extend(self.sealer.seal(&first.op.dot.origin, &hashes));
            }
        }
        proofs
    }

    /// Puts what is not an op into the group, and returns the facts among it.
    fn build_rest(&mut self, plan: &GroupPlan, slots: &[Slot]) -> Result<Vec<LogFact>, LookupError> {
        for (key, dots) in &plan.dropped {
            self.builder.push(RecordKind::Drop, &[&encode_drop(key, dots)]);
        }
        for piece in encode_clock(&plan.clock_only) {
            self.builder.push(RecordKind::Clock, &[&piece]);
        }
        let mut facts = Vec::new();
        let last_epoch = self.state.memory.facts.own_epoch;
        if let Some(origin) = plan.opened.as_ref().filter(|origin| last_epoch != Some(origin.epoch)) {
            facts.push(LogFact::Epoch(origin.epoch));
        }
        for slot in slots {
            if let Slot::Fact(fact) = slot
                && self.is_news(fact, plan)?
            {
                facts.push(LogFact::Remember(fact.clone()));
            }
        }
        for fact in &facts {
            let (kind, content) = fact.encode();
            self.builder.push(kind, &[&content]);
        }
        Ok(facts)
    }

    /// Whether remembering `fact` changes anything. A dead letter of an op that is not live is none: what replaced the
    /// op is delivered, or refused itself.
    fn is_news(&self, fact: &Fact, plan: &GroupPlan) -> Result<bool, LookupError> {
        let facts = &self.state.memory.facts;
        Ok(match fact {
            Fact::DeadLetter { peer, dot, reason } => {
                let is_known = facts.dead_letter(peer, dot).is_some_and(|letter| letter.reason == *reason);
                !is_known && self.is_live_after(dot, plan)?
            }
            Fact::Peer(peer, known) => facts.peers.get(peer) != Some(known),
            Fact::DeadLettersRetried(peer) => facts.dead_letters_of(peer).any(|(_, letter)| letter.may_end()),
            Fact::DeadLetterRetried { peer, dot } => facts.dead_letter(peer, dot).is_some(),
            Fact::DeadLetterDiscarded { peer, dot } => {
                facts.dead_letter(peer, dot).is_some_and(|letter| !letter.is_discarded)
            }
            Fact::RebootstrapBegun { .. } | Fact::RebootstrapDrained(_) | Fact::RebootstrapDone => true,
        })
    }

    fn is_live_after(&self, dot: &Dot, plan: &GroupPlan) -> Result<bool, LookupError> {
        if plan.added.contains_key(dot) {
            return Ok(true);
        }
        Ok(!plan.removed.contains_key(dot) && key_of(&self.shared.index, dot)?.is_some())
    }

    /// Brings the durable group, which starts at `start`, into the index and the state: all of it or, poisoned, none.
    fn index_group(
        &mut self,
        start: u64,
        plan: &GroupPlan,
        placed: &Placed,
        loaded: BTreeMap<federation_core::id::RecordKey, Stored>,
        facts: Vec<LogFact>,
    ) -> Result<(), StoreError> {
        let mut batch = Batch::new();
        let mut state = self.state.clone();
        let ghosts = if self.has_sessions() { Ghosts::Kept } else { Ghosts::NotNeeded };
        let mut transition = Transition { before: loaded, after: BTreeMap::new() };
        for (key, record) in &plan.records {
            let place = |dot: &Dot| {
                let new = plan.added.get(dot).and_then(|index| placed.places.get(*index));
                let old = || transition.before.get(key).and_then(|b| b.version(dot)).map(|(_, place)| *place);
                new.map(|p| Place { position: start + p.position, bytes: p.bytes }).or_else(old)
            };
            #[expect(clippy::expect_used, reason = "a version is new, or was looked up before it was kept")]
            let after = Stored::new(record, place).expect("each live version has its place in the log");
            transition.after.insert(key.clone(), after);
        }
        let gone = transition.write(&mut batch, &mut state.counts, ghosts);
        state.memory.forget_letters(gone.iter(), &mut batch);
        for fact in facts {
            state.memory.learn(fact, &mut batch);
        }
        let mut gained = placed.gained.clone();
        gained.join(&plan.clock_only);
        write_clock(&mut batch, &state.clock, &plan.clock, &gained);
        state.clock = plan.clock.clone();
        self.has_ghosts |= ghosts == Ghosts::Kept && !gone.is_empty();
        if ghosts == Ghosts::NotNeeded && self.has_ghosts {
            match clear_ghosts(&self.shared.index, &mut batch) {
                Ok(are_left) => self.has_ghosts = are_left,
                Err(error) => tracing::warn!(%error, "cannot clear what was kept for sessions"),
            }
        }
        self.index_batch(start, batch, state)?;
        self.shared.metrics.ops.add(placed.places.len() as u64);
        self.shared.metrics.vectors_indexed.add(plan.vectors.indexed);
        self.shared.metrics.vectors_other_space.add(plan.vectors.other_space);
        Ok(())
    }

    fn outcomes(
        &mut self,
        mut decisions: IntoIter<Decision>,
        slots: Vec<Slot>,
        written: &BTreeMap<usize, Arc<Written>>,
    ) -> Result<Vec<Outcome>, StoreError> {
        let mut outcomes = Vec::with_capacity(slots.len());
        for slot in slots {
            outcomes.push(match slot {
                Slot::Change => match decisions.next() {
                    Some(Decision::Written { op }) => written
                        .get(&op)
                        .map_or(Outcome::Done, |written| Outcome::Written(Arc::clone(written))),
                    Some(Decision::Refused(refusal)) => Outcome::Refused(refusal),
                    Some(Decision::Admitted(admission)) => Outcome::Admitted(admission),
                    Some(Decision::Done) | None => Outcome::Done,
                },
                Slot::Fact(_) => Outcome::Done,
                Slot::Begin(peer) => Outcome::Session(self.begin_session(&peer)?),
                Slot::End(session) => {
                    self.sessions().remove(&session);
                    Outcome::Done
                }
            });
        }
        Ok(outcomes)
    }

    /// Opens a session at the instant after the group: the clock, the dead letters and the live dots that a page
    /// reads are all of that instant, and what is superseded from the next group on becomes a ghost.
    fn begin_session(&mut self, peer: &NodeId) -> Result<SessionStart, StoreError> {
        let withheld = withheld(&self.shared.index, &self.state.memory.facts, peer)
            .map_err(|error| self.poison("read of the index", &error))?;
        self.last_session += 1;
        let session = SessionId(self.last_session);
        self.sessions().insert(session);
        let facts = Arc::clone(&self.state.memory.facts);
        let own = self.state.memory.node.as_ref().and_then(|node| facts.own_origin(node));
        Ok(SessionStart { session, clock: self.state.clock.clone(), withheld, facts, own })
    }
}

/// Dots and contexts of the live ops that `peer` refused for good, given up or not: to claim them would have its clock say
/// that it has what is nowhere there.
fn withheld<I: Index>(index: &I, facts: &Facts, peer: &NodeId) -> Result<VectorClock, LookupError> {
    let mut out = VectorClock::new();
    for (dot, _) in facts.dead_letters_of(peer) {
        let Some(key) = key_of(index, dot)? else { continue };
        if let Some((version, _)) = stored(index, &key)?.version(dot) {
            withhold(&mut out, &version.dot, &version.context);
        }
    }
    Ok(out)
}

/// Removes some ghosts. True if there may be more: they harm nobody until then.
pub(super) fn clear_ghosts<I: Index>(index: &I, batch: &mut Batch) -> Result<bool, LookupError> {
    let ghosts = index.scan(&[keys::GHOST], &[keys::GHOST + 1], GHOSTS_CLEARED_MAX)?;
    let are_left = ghosts.len() == GHOSTS_CLEARED_MAX;
    for (key, _) in ghosts {
        batch.remove(key);
    }
    Ok(are_left)
}

/// Cuts where a drop stands beside another change: within one group the log says neither which came first.
fn runs(requests: Vec<Request>) -> Vec<Vec<Request>> {
    let is_drop = |request: &Request| matches!(request, Request::Change(Change::DropDead { .. }));
    let is_other = |request: &Request| matches!(request, Request::Change(_)) && !is_drop(request);
    if !requests.iter().any(is_drop) {
        return vec![requests];
    }
    let mut runs: Vec<Vec<Request>> = vec![Vec::new()];
    for request in requests {
        let cuts = runs.last().is_some_and(|run| {
            (is_drop(&request) && run.iter().any(is_other)) || (is_other(&request) && run.iter().any(is_drop))
        });
        match runs.last_mut() {
            Some(run) if !cuts => run.push(request),
            _ => runs.push(vec![request]),
        }
    }
    runs
}

fn sort(requests: Vec<Request>) -> (Vec<Change>, Vec<Slot>) {
    let mut changes = Vec::with_capacity(requests.len());
    let mut slots = Vec::with_capacity(requests.len());
    for request in requests {
        slots.push(match request {
            Request::Change(change) => {
                changes.push(change);
                Slot::Change
            }
            Request::Remember(fact) => Slot::Fact(fact),
            Request::BeginSession { peer } => Slot::Begin(peer),
            Request::EndSession(session) => Slot::End(session),
        });
    }
    (changes, slots)
}

/// What `requests` will about take. What is not an op counts as little.
pub(super) fn weight(requests: &[Request]) -> Weight {
    let bytes = |request: &Request| match request {
        Request::Change(Change::Write(mutation)) => match &mutation.body {
            Body::Put { payload, embedding, .. } => {
                payload.len() + embedding.as_ref().map_or(0, |e| 4 * e.vector.len()) + OVERHEAD_BYTES
            }
            Body::Delete => OVERHEAD_BYTES,
        },
        Request::Change(Change::Admit(received)) => received.sealed.size_bytes(),
        _ => OVERHEAD_BYTES,
    };
    Weight { ops: requests.len(), bytes: requests.iter().map(bytes).sum() }
}

/// What an op takes beside its payload, roughly: ids, context and proof.
const OVERHEAD_BYTES: usize = 512;
/// Ghosts removed with one group: few enough not to be felt.
const GHOSTS_CLEARED_MAX: usize = 1_024;
