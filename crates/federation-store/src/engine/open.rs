//! Opening a directory: recover the log, bring the index up to it, begin a boot.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use federation_core::id::{LogPosition, StoreId};
use federation_core::node_clock::NodeClock;
use federation_core::port::store::{Fact, Health, Snapshot, StoreError};

use super::compact::Compaction;
use super::write::clear_ghosts;
use super::{Engine, OpenReport, RebuildReason, Setup, Shared};
use crate::disk::{Disk, DiskAction, DiskError};
use crate::error::OpenError;
use crate::format::{FORMAT_VERSION, Format};
use crate::index::{Batch, Index, IndexOpener};
use crate::log::{Corruption, GroupBuilder, Log, LogGeometry, Recovered, Scan, salt_of};
use crate::metrics::Metrics;
use crate::replay::{Replay, checkpoint_in};
use crate::schema::facts::LogFact;
use crate::schema::keys;
use crate::schema::values::IndexMark;
use crate::state::{LookupError, State, live_clock, remove_clock, write_clock};

/// The index as it is behind the whole log.
struct Caught<I> {
    index: I,
    state: State,
    replayed_ops: u64,
    rebuilt: Option<RebuildReason>,
}

impl<D: Disk, O: IndexOpener> Engine<D, O> {
    /// Opens the directory on `disk`, with its index where `opener` says, and begins a boot in it, durably.
    ///
    /// `progress` is told bytes of log done and to do while the index is brought up to the log.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(
        disk: D,
        opener: &O,
        setup: Setup,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(Self, OpenReport), OpenError> {
        let format = format_of(&disk, &setup)?;
        let salt = format.salt;
        let scan = Scan::open(disk, salt, format.first_segment)?;
        let Found { index, recovered } = recover(&scan, opener, salt)?;
        let is_new = recovered.end == 0;
        if setup.ids.new_mesh && !is_new {
            return Err(OpenError::NotEmpty);
        }
        if is_new || scan.has_removed() || format.version < FORMAT_VERSION {
            // Also if it is there: its name may not be durable, and without it nothing that follows can be read, nor
            // does anything tell a segment that was removed from one that is missing.
            format.write(scan.disk())?;
        }
        // First of all: an index must never hold, nor anyone be told, what a power cut may take from the log.
        scan.settle(recovered)?;
        let caught = catch_up(&scan, opener, salt, Found { index, recovered }, progress)?;
        if let Some(found) = caught.state.memory.node.clone().filter(|found| *found != setup.node) {
            return Err(OpenError::OtherNode { found, given: setup.node });
        }
        let geometry = LogGeometry {
            segment_bytes_max: setup.options.segment_bytes,
            salt,
            reserve_bytes: setup.options.reserve_bytes,
        };
        let log = scan.into_log(recovered.end, geometry);
        let ended_in_order = caught.state.memory.is_closed;
        let mut engine = Self {
            shared: Arc::new(shared(caught.index, &log, &caught.state)),
            log,
            state: caught.state,
            format,
            own_origin: None,
            last_hlc: None,
            sealer: setup.sealer.clone(),
            clock: setup.clock.clone(),
            embedding_space: setup.embedding_space.clone(),
            options: setup.options,
            builder: GroupBuilder::new(),
            health: Health::Writable,
            is_closed: false,
            last_session: 0,
            has_ghosts: false,
            indexed_to: recovered.end,
            checkpointed_to: 0,
            compaction: Compaction::default(),
        };
        engine.begin_boot(&setup, is_new)?;
        if caught.rebuilt.is_some() {
            engine.shared.metrics.rebuilds.add(u64::from(!is_new));
            engine.checkpoint().map_err(refused)?;
        }
        engine.checkpointed_to = engine.indexed_to;
        let report = OpenReport {
            store: engine.state.memory.facts.store.unwrap_or(StoreId { created_ms: 0, random: 0 }),
            is_new,
            ended_in_order,
            recovered_to: recovered.end,
            torn_bytes: recovered.torn_bytes,
            replayed_ops: caught.replayed_ops,
            rebuilt: caught.rebuilt.filter(|_| !is_new),
        };
        Ok((engine, report))
    }

    /// Writes the store's beginning, if this is it, and the boot's, and clears what an earlier boot kept for sessions.
    fn begin_boot(&mut self, setup: &Setup, is_new: bool) -> Result<(), OpenError> {
        let previous_end = LogPosition(self.log.end());
        let ids = setup.ids;
        let mut facts = Vec::new();
        if is_new {
            let store = StoreId { created_ms: ids.now.0, random: ids.store_random };
            facts.push(LogFact::Store { store, node: setup.node.clone(), new_mesh: ids.new_mesh });
        }
        facts.push(LogFact::Boot { boot: ids.boot, previous_end });
        let known = Arc::clone(&self.state.memory.facts);
        let is_widened = self.state.memory.is_widened_by(&setup.replica_scope);
        if is_new || known.replica_scope != setup.replica_scope {
            facts.push(LogFact::ReplicaScope(setup.replica_scope.clone()));
        }
        if is_widened && let Some(last) = known.store {
            tracing::warn!(scope = %setup.replica_scope, "the replica scope was widened: the node re-bootstraps");
            let created_ms = ids.now.0.max(last.created_ms.saturating_add(1));
            let store = StoreId { created_ms, random: ids.store_random };
            facts.push(LogFact::Remember(Fact::RebootstrapBegun { store }));
        }
        self.builder.clear();
        for fact in &facts {
            let (kind, content) = fact.encode();
            self.builder.push(kind, &[&content]);
        }
        let start = self.append().map_err(refused)?;
        let mut batch = Batch::new();
        if is_widened {
            remove_clock(&mut batch, &self.state.clock);
            self.state.clock = live_clock(&self.shared.index)?;
            write_clock(&mut batch, &NodeClock::new(), &self.state.clock, &self.state.clock);
        }
        for fact in facts {
            self.state.memory.learn(fact, &mut batch);
        }
        self.has_ghosts = clear_ghosts(&self.shared.index, &mut batch)?;
        batch.put(keys::mark(), self.mark(start, self.state.counts).encode());
        self.shared.index.apply(batch)?;
        self.indexed_to = self.log.end();
        self.publish();
        Ok(())
    }
}

/// What readers see before the boot begins.
fn shared<D: Disk, I>(index: I, log: &Log<D>, state: &State) -> Shared<D, I> {
    let snapshot = Snapshot {
        clock: state.clock.clone(),
        position: LogPosition(log.end()),
        facts: Arc::clone(&state.memory.facts),
        health: Health::Writable,
    };
    Shared {
        index,
        log: log.reader(),
        snapshot: ArcSwap::from_pointee(snapshot),
        sessions: Mutex::new(BTreeSet::new()),
        metrics: Arc::new(Metrics::default()),
    }
}

/// The format of the directory, or of the one that is to begin.
fn format_of<D: Disk>(disk: &D, setup: &Setup) -> Result<Format, OpenError> {
    if let Some(format) = Format::read(disk)? {
        return Ok(format);
    }
    let salt = salt_of(setup.ids.store_random, setup.ids.boot.0);
    if Scan::open(disk.clone(), salt, 1).map_or(true, |scan| scan.limit() > 0) {
        return Err(OpenError::FormatUnreadable);
    }
    Ok(Format { version: FORMAT_VERSION, salt, first_segment: 1 })
}

/// Finds the end of the log, and the index if it can be trusted. Writes to neither.
fn recover<D: Disk, O: IndexOpener>(
    scan: &Scan<D>,
    opener: &O,
    salt: u64,
) -> Result<Found<O::Index>, OpenError> {
    Ok(match usable(scan, opener, salt)? {
        Ok((usable, recovered)) => Found { index: Ok(usable), recovered },
        Err(reason) => {
            Found { index: Err(reason), recovered: scan.groups::<OpenError>(scan.begin(), |_| Ok(()))? }
        }
    })
}

/// Brings the index up to the log, or makes it again.
fn catch_up<D: Disk, O: IndexOpener>(
    scan: &Scan<D>,
    opener: &O,
    salt: u64,
    Found { index, recovered }: Found<O::Index>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Caught<O::Index>, OpenError> {
    match index {
        Ok(Usable { index, state, mark }) => {
            let mut replay = Replay::new(&index, state, salt);
            feed(scan, &mut replay, mark.last_start, mark.end, recovered, progress)?;
            let (state, replayed_ops) = replay.finish()?;
            Ok(Caught { index, state, replayed_ops, rebuilt: None })
        }
        Err(reason) => {
            if recovered.end > 0 {
                let bytes = recovered.end - scan.begin();
                tracing::warn!(?reason, bytes, "making the index again from the log");
            }
            let index = opener.create()?;
            let mut replay = Replay::new(&index, State::default(), salt);
            feed(scan, &mut replay, scan.begin(), scan.begin(), recovered, progress)?;
            let (state, replayed_ops) = replay.finish()?;
            Ok(Caught { index, state, replayed_ops, rebuilt: Some(reason) })
        }
    }
}

/// An index that can be trusted, as far as its mark says.
struct Usable<I> {
    index: I,
    state: State,
    mark: IndexMark,
}

/// What is there before anything is written.
struct Found<I> {
    index: Result<Usable<I>, RebuildReason>,
    recovered: Recovered,
}

/// A usable index and the end of the log behind it, or why there is none.
type Trusted<I> = Result<(Usable<I>, Recovered), RebuildReason>;

/// The index with its state, and where the log ends, if the index can be trusted.
fn usable<D: Disk, O: IndexOpener>(
    scan: &Scan<D>,
    opener: &O,
    salt: u64,
) -> Result<Trusted<O::Index>, OpenError> {
    let Ok(index) = opener.open() else { return Ok(Err(RebuildReason::Unreadable)) };
    let mark = match index.read(&keys::mark()) {
        Ok(Some(bytes)) => match IndexMark::decode(&bytes) {
            Ok(mark) => mark,
            Err(_) => return Ok(Err(RebuildReason::Unreadable)),
        },
        Ok(None) => return Ok(Err(RebuildReason::Missing)),
        Err(_) => return Ok(Err(RebuildReason::Unreadable)),
    };
    if mark.last_start >= mark.end {
        return Ok(Err(RebuildReason::Unreadable));
    }
    if mark.salt != salt {
        return Ok(Err(RebuildReason::Foreign));
    }
    if mark.last_start < scan.begin() {
        // What it had made durable since went with the beginning of the log.
        return Ok(Err(RebuildReason::Older));
    }
    let Some((recovered, checkpoint)) = behind(scan, mark)? else {
        // The group that the index took in last is not there, so a part of the log is not.
        return Err(Corruption::BehindIndex { log: scan.limit(), index: mark.end }.into());
    };
    if checkpoint.is_some_and(|position| position > mark.end) {
        return Ok(Err(RebuildReason::Older));
    }
    match State::load(&index, mark) {
        Ok(state) => Ok(Ok((Usable { index, state, mark }, recovered))),
        Err(LookupError::Index(_) | LookupError::Schema(_)) => Ok(Err(RebuildReason::Unreadable)),
    }
}

/// Walks the log from the last group that the index knows. Tells where the log ends and the newest checkpoint
/// in between; none if that group is not there.
fn behind<D: Disk>(scan: &Scan<D>, mark: IndexMark) -> Result<Option<(Recovered, Option<u64>)>, OpenError> {
    if mark.end > scan.limit() {
        return Ok(None);
    }
    let mut is_known = false;
    let mut checkpoint = None;
    let recovered = scan.groups::<OpenError>(mark.last_start, |group| {
        is_known |= group.end == mark.end;
        checkpoint = checkpoint.max(checkpoint_in(group)?);
        Ok(())
    })?;
    Ok(is_known.then_some((recovered, checkpoint)))
}

/// Hands the groups from `from` on that are behind `skip_to` to `replay`.
fn feed<D: Disk, I: Index>(
    scan: &Scan<D>,
    replay: &mut Replay<'_, I>,
    from: u64,
    skip_to: u64,
    recovered: Recovered,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), OpenError> {
    let total = recovered.end.saturating_sub(skip_to);
    let again = scan.groups::<OpenError>(from, |group| {
        if group.start >= skip_to {
            replay.group(group)?;
            progress(group.end - skip_to, total);
        }
        Ok(())
    })?;
    debug_assert_eq!(again.end, recovered.end, "nobody writes while the log is read");
    Ok(())
}

/// What a refusal of the first group of a boot means to whoever opens the store.
fn refused(error: StoreError) -> OpenError {
    let name = "log".to_owned();
    OpenError::Disk(match error {
        StoreError::DiskFull => DiskError::Full { name },
        _ => DiskError::Io { action: DiskAction::Write, name, source: std::io::Error::other(error) },
    })
}
