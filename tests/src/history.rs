//! What clients asked, when, and what they were told: the record that the checkers hold the nodes against.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use federation_wire::api::DotText;
use serde::{Deserialize, Serialize};

use crate::checker::Settling;

/// All that was recorded of one run: what clients were told, and what was seen of the nodes.
///
/// A harness that cannot look into a store (real processes) leaves `ops` and `durable` empty; the checkers then go by
/// calls and final states alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// How many nodes there are.
    pub nodes: usize,
    /// Calls of clients, in the order of their answers.
    pub calls: Vec<Call>,
    /// Every op that was ever committed at its origin.
    pub ops: BTreeMap<DotText, OpFact>,
    /// For some acknowledged writes, which disks held them at the moment of the answer.
    pub durable: Vec<DurableSample>,
    /// How the nodes became equal, each time that all faults had ended.
    pub settlings: Vec<Settling>,
    /// What was tried against the nodes by who may not, and what came of it.
    pub intrusions: Vec<Intrusion>,
    /// What no node may do, seen while it happened.
    pub incidents: Vec<Incident>,
    /// What the nodes hold in the end.
    pub finals: FinalStates,
}

/// An op, by what the harness knows of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpFact {
    /// The record.
    pub key: String,
    /// Its hash, in hexadecimal.
    pub hash: String,
    /// What it writes; none for a delete.
    pub content: Option<String>,
    /// Its rank among concurrent versions: the greatest wins. Its HLC; the dot decides between equals.
    pub hlc: u64,
    /// The ops of this record that its causal context names, of those that were ever made.
    pub covers: BTreeSet<DotText>,
    /// The ops of this record that its writer had seen, by the harness's own books, with what those had seen.
    pub knew: BTreeSet<DotText>,
    /// What the mesh owes.
    pub fate: Fate,
}

/// What the mesh owes of an op.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// Acknowledged: it must be there, or replaced by one that had seen it.
    Promised,
    /// Not promised, but at least one disk that held it was never lost: as if promised.
    Durable,
    /// Every disk that held it was lost before anyone was promised anything: it may be gone.
    MayBeGone,
}

/// Which disks held an acknowledged write when its client was told so, by what a power cut would leave of each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DurableSample {
    /// The op.
    pub dot: DotText,
    /// How many had to hold it.
    pub needed: usize,
    /// The nodes whose disks held it, or a version that covers it.
    pub holders: BTreeSet<usize>,
}

/// One try of somebody who may not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intrusion {
    /// What was tried.
    pub kind: String,
    /// The node it was tried on.
    pub node: usize,
    /// What the node answered.
    pub answer: IntrusionAnswer,
}

/// What a node answered to an intrusion.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum IntrusionAnswer {
    /// It said no, or that much happened as the sender may not do.
    Refused {
        /// The slug of the refusal.
        slug: String,
    },
    /// It went on to handle what it was sent.
    Accepted {
        /// What it said, for people.
        what: String,
    },
    /// It did not answer: it was down, or the frame was lost.
    None,
}

/// Something that no node may do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incident {
    /// The node, if it is one.
    pub node: Option<usize>,
    /// What was seen, for people.
    pub what: String,
}

/// One call of one client, from its begin to its answer.
///
/// Calls of one client never overlap, so the calls on a key with one owner stand in the order in which they were made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// Who called.
    pub client: u32,
    /// The node that was called, from 0.
    pub node: usize,
    /// The record.
    pub key: String,
    /// Who else writes the record.
    pub sharing: Sharing,
    /// The session whose reads must not go back in causal order, if it belongs to one: at one node, or with a causal
    /// token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<u64>,
    /// How many nodes a read had to ask, or had to hold the write; none: one for a read, what the node was started with
    /// for a write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<usize>,
    /// Whether the disk of the node had gone back to an older copy, and no peer had told it so yet: what it shows until
    /// then is owed to nobody.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub went_back: bool,
    /// The key under which a write may be repeated without a second record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    /// What was asked.
    pub request: Request,
    /// When it was sent: microseconds since the history began.
    pub begin_us: u64,
    /// When the answer was there.
    pub end_us: u64,
    /// What the client was told.
    pub answer: Answer,
}

/// Who writes a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sharing {
    /// One client, one call after the other, each at a node that has its previous write: later calls causally follow.
    Owned,
    /// Anyone at any node: writes may be concurrent.
    Contended,
}

/// What was asked. The content names the write: no two have the same, but for those that repeat one under its
/// idempotency key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Request {
    /// A new record, or one anew after its deletion.
    Create {
        /// Its content.
        content: String,
    },
    /// Another content.
    Update {
        /// The content.
        content: String,
    },
    /// No such record any more.
    Delete,
    /// What is there.
    Read,
}

/// What the client was told, by what follows from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Answer {
    /// Written and promised.
    Acknowledged {
        /// The op.
        dot: DotText,
    },
    /// 503 `quorum_not_met`: written at the node that was called, not promised.
    NotPromised {
        /// The op.
        dot: DotText,
        /// Nodes that hold it, as far as the node knew.
        got: usize,
        /// Nodes that had to.
        needed: usize,
        /// Why.
        reason: String,
    },
    /// A documented refusal: nothing was written.
    Refused {
        /// The HTTP status.
        status: u16,
        /// The slug of the error.
        slug: String,
    },
    /// No connection: nothing was sent.
    Unreached,
    /// The connection broke: written or not.
    Cut,
    /// No answer in time: written or not, now or later.
    TimedOut,
    /// A read's answer.
    Read {
        /// What was there.
        seen: Seen,
        /// Every live version, where the harness can see them.
        #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
        live: BTreeSet<DotText>,
    },
    /// An answer that no document names: written or not.
    Undocumented {
        /// The HTTP status.
        status: u16,
        /// The beginning of its body.
        body: String,
    },
}

/// What a node shows of a record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Seen {
    /// A value.
    Value {
        /// Its content.
        content: String,
        /// The op that is visible.
        dot: DotText,
    },
    /// It was deleted.
    Deleted,
    /// It was never there.
    Missing,
    /// The node did not answer with one of these.
    Unknown {
        /// What it did instead.
        what: String,
    },
}

/// What each node shows of each record at the end, in the order of the nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FinalStates {
    /// By record.
    pub records: BTreeMap<String, Vec<Seen>>,
    /// For each acknowledged op of a contended record, whether each node has it: live, or covered by what replaced it.
    /// Filled by a harness that cannot look into the stores.
    pub known_ops: BTreeMap<DotText, Vec<bool>>,
    /// By record, the nodes that are to have it; without an entry all.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub keepers: BTreeMap<String, Keepers>,
    /// By record, the live versions at each node, in the order of the nodes. Filled by a harness that can.
    pub live: BTreeMap<String, Vec<BTreeSet<DotText>>>,
}

/// The nodes that keep a record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keepers {
    /// Who keeps it.
    pub now: BTreeSet<usize>,
    /// Who keeps it, or has kept it since it has its disk: they may hold it.
    pub on_disk: BTreeSet<usize>,
}

impl FinalStates {
    /// Whether a node is to have a record.
    pub fn is_kept_by(&self, record: &str, node: usize) -> bool {
        self.keepers.get(record).is_none_or(|keepers| keepers.now.contains(&node))
    }

    /// Whether a node may hold a record.
    pub fn may_be_held_by(&self, record: &str, node: usize) -> bool {
        self.keepers.get(record).is_none_or(|keepers| keepers.on_disk.contains(&node))
    }
}

impl Call {
    /// Whether it asked for a change.
    pub fn is_write(&self) -> bool {
        self.request != Request::Read
    }

    /// The op that it was promised, if it was.
    pub fn acknowledged(&self) -> Option<&DotText> {
        match &self.answer {
            Answer::Acknowledged { dot } => Some(dot),
            _ => None,
        }
    }

    /// Whether its write may be there although nobody was promised so.
    pub fn is_uncertain(&self) -> bool {
        let may_be = match &self.answer {
            Answer::NotPromised { .. } | Answer::Cut | Answer::TimedOut | Answer::Undocumented { .. } => true,
            Answer::Acknowledged { .. }
            | Answer::Refused { .. }
            | Answer::Unreached
            | Answer::Read { .. } => false,
        };
        self.is_write() && may_be
    }

    /// The content that it writes; none for a delete and for a read.
    pub fn content(&self) -> Option<&str> {
        match &self.request {
            Request::Create { content } | Request::Update { content } => Some(content),
            Request::Delete | Request::Read => None,
        }
    }

    /// Whether `seen` is what is there once this write, and no later one, has taken effect.
    pub fn explains(&self, seen: &Seen) -> bool {
        match (self.content(), seen) {
            (Some(written), Seen::Value { content, dot }) => {
                let is_other_op = self.acknowledged().is_some_and(|promised| promised != dot);
                written == content && !is_other_op
            }
            (None, Seen::Deleted) => self.request == Request::Delete,
            _ => false,
        }
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create { content } => write!(f, "create {content:?}"),
            Self::Update { content } => write!(f, "update {content:?}"),
            Self::Delete => f.write_str("delete"),
            Self::Read => f.write_str("read"),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Acknowledged { dot } => write!(f, "acknowledged as {dot}"),
            Self::NotPromised { dot, got, needed, reason } => {
                write!(f, "not promised ({reason}, {got} of {needed}) as {dot}")
            }
            Self::Refused { status, slug } => write!(f, "refused: {status} {slug}"),
            Self::Unreached => f.write_str("no connection"),
            Self::Cut => f.write_str("cut off"),
            Self::TimedOut => f.write_str("no answer in time"),
            Self::Read { seen, .. } => write!(f, "{seen}"),
            Self::Undocumented { status, body } => write!(f, "undocumented: {status} {body:?}"),
        }
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value { content, dot } => write!(f, "{content:?} of {dot}"),
            Self::Deleted => f.write_str("deleted"),
            Self::Missing => f.write_str("missing"),
            Self::Unknown { what } => write!(f, "unknown: {what}"),
        }
    }
}
