//! Conflicts: records whose live versions were written concurrently and say different things.

use federation_core::op::{Body, Op};
use serde::{Deserialize, Serialize};

use super::dot::DotText;
use super::memory::UpdateMemory;
use super::view::MemoryView;

/// `GET /api/v1/conflicts`. A page may be empty and not the last: `next_cursor` says so.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConflictList {
    /// In key order.
    pub conflicts: Vec<ConflictView>,
    /// Where the next page begins; absent at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// A record and all of its live versions. `GET /api/v1/conflicts/{id}` shows it also where there is no conflict any more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConflictView {
    /// The record's id.
    pub id: String,
    /// Its namespace.
    pub namespace: String,
    /// The causal token of whoever has seen these versions: to be sent as `x-causal-token` with what resolves them. Absent
    /// where what they had seen is too scattered for a header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// The live versions, in order of their dots.
    pub versions: Vec<VersionView>,
}

/// A live version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VersionView {
    /// The op.
    pub dot: DotText,
    /// When it was made: `<milliseconds>.<counter>`.
    pub hlc: String,
    /// Who wrote it.
    pub author: String,
    /// Whether it is what a reader gets.
    pub visible: bool,
    /// Whether it says that the memory is deleted.
    pub deleted: bool,
    /// What it says, unless that it is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemoryView>,
}

/// `POST /api/v1/conflicts/{id}/resolve`, with the token of what was seen as `x-causal-token`: one version takes the place of
/// all that the token names. What was written since and is not named stays beside it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResolveConflict {
    /// What this version says is kept; without it, what the visible one of those in the token says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<DotText>,
    /// Changes to what is kept, as in a `PUT`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<UpdateMemory>,
    /// The memory is deleted, and nothing kept.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub delete: bool,
}

/// Whether these live versions of one record are a conflict: some of them say different things. Equal ones, as of two
/// nodes that wrote the same, are none.
pub fn is_conflict<'a>(versions: impl IntoIterator<Item = &'a Op>) -> bool {
    let mut bodies = versions.into_iter().map(|op| &op.body);
    let first: Option<&Body> = bodies.next();
    bodies.any(|body| Some(body) != first)
}
