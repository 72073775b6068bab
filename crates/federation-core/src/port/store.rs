//! The store port: all that the network side sees of durable state.
//!
//! Synchronous: a call hands its work over and returns; the answer comes through a callback, from
//! the store's own threads (or inline, in a simulation). No caller ever waits for the disk in place.

mod letters;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::attest::Trust;
use crate::decide::{Admission, Change, WriteRefusal};
use crate::dot::{Dot, Origin};
use crate::dot_set::DotSet;
use crate::epoch::LastEpoch;
use crate::id::{BootId, Kind, LogPosition, Namespace, NodeId, RecordId, RecordKey, StoreId};
use crate::node_clock::NodeClock;
use crate::op::{Op, SealedOp};
use crate::record::{Record, Version};
use crate::scope::Scope;
use crate::time::WallMs;
use crate::vector_clock::VectorClock;

pub use letters::{DeadLetter, RefusalReason};

/// Called once with the answer.
pub type Done<T> = Box<dyn FnOnce(T) + Send>;

/// Durable state behind one writer.
pub trait ReplicaStore: Send + Sync + 'static {
    /// Hands a batch to the writer. Batches commit in the order they are handed over; one batch shares one sync,
    /// often with others. `done` gets one outcome for each request, after all of them are durable.
    ///
    /// # Errors
    /// [`StoreError::Busy`] if the writer's queue is full, at once; `done` is then never called.
    fn submit(
        &self,
        batch: Vec<Request>,
        done: Done<Result<Committed, StoreError>>,
    ) -> Result<(), StoreError>;

    /// State as of the last group commit. Cheap: a pointer.
    fn snapshot(&self) -> Arc<Snapshot>;

    /// The live versions of one record with their ops.
    fn read(&self, key: RecordKey, done: Done<Result<RecordRead, StoreError>>);

    /// The keys with live versions of this kind and id, in any namespace, at most 64.
    fn keys_of(&self, kind: Kind, id: RecordId, done: Done<Result<Vec<RecordKey>, StoreError>>);

    /// The record of each of these dots that is live, in their order.
    fn keys_of_dots(&self, dots: Vec<Dot>, done: Done<Result<Vec<Option<RecordKey>>, StoreError>>);

    /// A page of records in key order.
    fn list(&self, query: ListQuery, done: Done<Result<ListPage, StoreError>>);

    /// The next page of a session: live ops (or what replaced them) that the other side lacks.
    fn session_page(&self, query: SessionQuery, done: Done<Result<SessionPage, StoreError>>);

    /// Which of `dots` are neither live here nor covered by a live version. Reads the whole index unless all are found
    /// before: for what should be empty.
    fn uncovered(&self, dots: DotSet, done: Done<Result<DotSet, StoreError>>);

    /// Hash over the live state in `scope`, computed on request: blake3 over the sorted live (key, dot).
    fn state_hash(&self, scope: Scope, done: Done<Result<StateHash, StoreError>>);
}

/// One request to the writer.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// A change of replicated state.
    Change(Change),
    /// Something to remember about the mesh.
    Remember(Fact),
    /// Opens a session towards a peer: fixes what it is to deliver at one instant.
    BeginSession {
        /// The receiver: its dead letters are left out of the completion.
        peer: NodeId,
    },
    /// Closes a session; what was kept for it may go.
    EndSession(SessionId),
}

/// What a request came to.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Durable, and nothing to say.
    Done,
    /// The write is this op, durable here.
    Written(Arc<Written>),
    /// The write was refused; nothing of it is stored.
    Refused(WriteRefusal),
    /// The op from elsewhere was handled.
    Admitted(Admission),
    /// The session is open.
    Session(SessionStart),
}

/// An own op that is durable here.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    /// The op.
    pub op: Op,
    /// Its bytes and proof, as they go to every peer.
    pub sealed: SealedOp,
}

/// A batch that is durable.
#[derive(Clone, Debug, PartialEq)]
pub struct Committed {
    /// One for each request, in order.
    pub outcomes: Vec<Outcome>,
    /// The log position after the sync that made it durable.
    pub position: LogPosition,
}

/// Names a running session within this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// What a session delivers, fixed at one instant in the writer.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionStart {
    /// Names it.
    pub session: SessionId,
    /// T: the clock at that instant.
    pub clock: NodeClock,
    /// X: what completion must leave out, the dead letters of the receiver and their contexts.
    pub withheld: VectorClock,
    /// What was remembered at that instant, those dead letters among it: they are not sent.
    pub facts: Arc<Facts>,
    /// The present origin of own ops; none before the first under the present scope, store and disk.
    pub own: Option<Origin>,
}

/// State as of one group commit.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// What the node has.
    pub clock: NodeClock,
    /// Position of the last sync.
    pub position: LogPosition,
    /// What is remembered of the mesh.
    pub facts: Arc<Facts>,
    /// Whether the store takes writes.
    pub health: Health,
}

/// Whether the store takes writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It does.
    Writable,
    /// No room for the next segment: refused for now, resumes when there is room.
    DiskFull,
    /// A write, sync or index batch failed: read-only until restart.
    Poisoned,
}

/// What a node remembers of itself and of the mesh, durably.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// This life of the data directory.
    pub store: Option<StoreId>,
    /// This node's boots, oldest first, this one last and without an end.
    pub boots: Vec<Boot>,
    /// The epoch of the own ops, of this or an earlier boot.
    pub own_epoch: Option<BootId>,
    /// Whether each boot that had that epoch, this one aside, has ended in order. Once one has not, it stays so until
    /// a new epoch begins: what the disk lost then, no later end in order brings back.
    pub ended_in_order: bool,
    /// Whether the node is re-bootstrapping, and which peers it has drained.
    pub rebootstrap: Option<Rebootstrap>,
    /// Begun with `--new-mesh` and never collected a tombstone: then a peer without history here is just new.
    pub pristine: bool,
    /// What this node keeps, as it was last opened.
    pub replica_scope: Scope,
    /// What is remembered of each peer.
    pub peers: BTreeMap<NodeId, PeerFact>,
    /// Live ops that a peer refused for good, by peer.
    pub dead_letters: BTreeMap<NodeId, BTreeMap<Dot, DeadLetter>>,
}

/// One start of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Boot {
    /// Its id.
    pub id: BootId,
    /// The log position at which it ended; none for the running one.
    pub ended_at: Option<LogPosition>,
}

/// A re-bootstrap under way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rebootstrap {
    /// Peers that have been drained in full since it began.
    pub drained: Vec<NodeId>,
}

/// What is remembered of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerFact {
    /// Its store at the last contact.
    pub store: StoreId,
    /// Its boot at the last contact.
    pub boot: BootId,
    /// Its log position at the last contact that was recorded.
    pub position: LogPosition,
}

/// Something to remember.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// What is known of a peer.
    Peer(NodeId, PeerFact),
    /// A peer refused an op for good.
    DeadLetter {
        /// The peer.
        peer: NodeId,
        /// The op.
        dot: Dot,
        /// Why.
        reason: RefusalReason,
    },
    /// A peer takes other ops than it did: those that it refused for what they are go to it once more, but for those that
    /// were given up.
    DeadLettersRetried(NodeId),
    /// An op that a peer refused for good goes to it once more, also if it was given up.
    DeadLetterRetried {
        /// The peer.
        peer: NodeId,
        /// The op.
        dot: Dot,
    },
    /// Somebody has given up to bring a peer an op that it refused for good.
    DeadLetterDiscarded {
        /// The peer.
        peer: NodeId,
        /// The op.
        dot: Dot,
    },
    /// The node must re-bootstrap: a new store id is drawn and said in every hello until it is done.
    RebootstrapBegun {
        /// The new life of the directory.
        store: StoreId,
    },
    /// A peer has been drained in full.
    RebootstrapDrained(NodeId),
    /// The re-bootstrap is done.
    RebootstrapDone,
}

/// One record with its ops.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordRead {
    /// The live versions.
    pub record: Record,
    /// The op of each live version, in the same order.
    pub ops: Vec<SealedOp>,
}

/// Which records to list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListQuery {
    /// Of this kind.
    pub kind: Kind,
    /// In this namespace alone, or in all.
    pub namespace: Option<Namespace>,
    /// Behind this key, in key order.
    pub after: Option<RecordKey>,
    /// Which of them.
    pub which: Listed,
    /// Looks at so many records at most, whether they are listed or not.
    pub looks_max: usize,
    /// At most this many.
    pub limit: usize,
    /// At most this many bytes of ops.
    pub bytes_max: usize,
}

/// Which records a list is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listed {
    /// Those whose visible version is not archived.
    Visible,
    /// Those with several live versions: written concurrently, and not merged since.
    Concurrent,
}

/// A page of records. It may be short, even empty, and not the last.
#[derive(Clone, Debug, PartialEq)]
pub struct ListPage {
    /// Key, visible version (where only tombstones are live: the last of them) and its op.
    pub records: Vec<(RecordKey, Version, SealedOp)>,
    /// Where the next page begins; none at the end.
    pub next: Option<RecordKey>,
}

/// Where a session stands.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionQuery {
    /// The session.
    pub session: SessionId,
    /// K: what the other side has.
    pub known: NodeClock,
    /// What it is trusted with: ops that this does not let out are passed over.
    pub trust: Trust,
    /// Behind this dot, in dot order.
    pub after: Option<Dot>,
    /// At most this many ops.
    pub ops_max: usize,
    /// At most this many bytes of ops, but at least one op.
    pub bytes_max: usize,
}

/// A page of a session.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionPage {
    /// The ops, with what is needed to name them.
    pub ops: Vec<SessionOp>,
    /// Where the next page begins; none when all is delivered.
    pub next: Option<Dot>,
}

/// An op of a session page.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionOp {
    /// Its name.
    pub dot: Dot,
    /// What its writer had seen: completion leaves it out if the receiver refuses the op.
    pub context: VectorClock,
    /// Its bytes.
    pub sealed: SealedOp,
}

/// Hash over a replica's live state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateHash {
    /// blake3 over the sorted live (key, dot) of the scope that was asked for, tombstones included.
    pub hash: [u8; 32],
    /// Live versions.
    pub versions: u64,
    /// Records that are visible.
    pub records: u64,
}

/// Why the store did not do what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The writer's queue is full: try again.
    #[error("the store is busy")]
    Busy,
    /// No room for the next segment: nothing was written; resumes when there is room.
    #[error("the disk is full")]
    DiskFull,
    /// A write, its sync or its index batch failed: what was asked may be there after a restart, or not. Read-only
    /// until then.
    #[error("the write failed: it may be there after a restart, or not")]
    InDoubt,
    /// An earlier write, sync or index batch failed: nothing was written. Read-only until restart.
    #[error("the store is read-only after a failed write")]
    ReadOnly,
    /// What was to be read could not be.
    #[error("the store could not be read")]
    Unreadable,
    /// The store is closed.
    #[error("the store is closed")]
    Closed,
}

/// What a store is given when it is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenIds {
    /// Drawn by the caller for this start.
    pub boot: BootId,
    /// The random half of a store id, used if the directory is empty.
    pub store_random: u64,
    /// The time, used if the directory is empty.
    pub now: WallMs,
    /// Whether the directory must be empty and the mesh is new.
    pub new_mesh: bool,
}

impl Facts {
    /// The origin of own ops as it was when the store was last closed.
    pub fn own_origin(&self, node: &NodeId) -> Option<Origin> {
        self.own_epoch.map(|epoch| Origin { node: node.clone(), epoch })
    }

    /// The epoch of own ops, and whether it may go on as far as this disk can tell.
    pub fn last_epoch(&self) -> LastEpoch {
        match self.own_epoch {
            None => LastEpoch::None,
            Some(epoch) if self.ended_in_order => LastEpoch::Unbroken(epoch),
            Some(epoch) => LastEpoch::Interrupted(epoch),
        }
    }
}
