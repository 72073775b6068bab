//! What clients asked, when, and what they were told: the record that the checkers hold the nodes against.

use std::collections::BTreeMap;
use std::fmt;

use federation_wire::api::DotText;
use serde::{Deserialize, Serialize};

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

/// What was asked. The content names the write: no two writes have the same.
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
    pub known_ops: BTreeMap<DotText, Vec<bool>>,
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
            Self::NotPromised { dot, reason } => write!(f, "not promised ({reason}) as {dot}"),
            Self::Refused { status, slug } => write!(f, "refused: {status} {slug}"),
            Self::Unreached => f.write_str("no connection"),
            Self::Cut => f.write_str("cut off"),
            Self::TimedOut => f.write_str("no answer in time"),
            Self::Read { seen } => write!(f, "{seen}"),
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
