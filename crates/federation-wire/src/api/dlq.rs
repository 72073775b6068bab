//! Dead letters: what is shown of the ops that peers refused for good.

use serde::{Deserialize, Serialize};

use super::DotText;

/// `GET /api/v1/dlq`: a page, in order of peers and dots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetterList {
    /// The letters.
    pub letters: Vec<DeadLetterView>,
    /// Where the next page begins; absent at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// A live op that a peer refused for good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetterView {
    /// The peer.
    pub peer: String,
    /// The op.
    pub dot: DotText,
    /// `forbidden`, `invalid` or `too_large`.
    pub reason: String,
    /// `refused`, or `discarded` once it is given up.
    pub state: String,
    /// The record that it is of; absent if the op was replaced a moment ago.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<RecordName>,
}

/// Names a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordName {
    /// Its namespace.
    pub namespace: String,
    /// Its kind.
    pub kind: String,
    /// Its id.
    pub id: String,
}

/// `GET /api/v1/dlq/{peer}/{node}/{epoch}/{seq}`: one of them with its op, but for what that says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetterDetail {
    /// What the list has of it.
    #[serde(flatten)]
    pub letter: DeadLetterView,
    /// Who wrote it.
    pub author: String,
    /// When, by the clock of the node that took the write: RFC 3339.
    pub written_at: String,
    /// Whether it deletes the record.
    pub deletes: bool,
    /// Bytes of the op with its proof.
    pub bytes: u64,
    /// Hash of the op, 64 hexadecimal digits.
    pub hash: String,
}

/// `POST /api/v1/dlq/{peer}/retry`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLettersRetried {
    /// Ops that go to the peer once more.
    pub retried: usize,
}
