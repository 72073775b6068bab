//! From an id to the memory that it names.

use axum::http::StatusCode;
use federation_core::decide::Condition;
use federation_core::id::{Kind, Namespace, RecordId, RecordKey};
use federation_core::op::Op;
use federation_core::port::store::RecordRead;
use federation_core::record::Record;
use federation_core::vector_clock::VectorClock;
use federation_net::node::Node;
use federation_wire::api::conflict::is_conflict;
use federation_wire::causal_token::CausalToken;
use federation_wire::v1::op::decode_op;

use crate::api::auth::Caller;
use crate::api::causal::Causal;
use crate::api::error::ApiError;
use crate::api::state::ApiState;

/// A record with a visible version.
pub(in crate::api) struct Found {
    /// The visible version's op.
    pub(in crate::api) op: Op,
    /// All of its live versions.
    pub(in crate::api) read: RecordRead,
}

impl Found {
    /// Whether its live versions say different things.
    pub(in crate::api) fn is_conflict(&self) -> Result<bool, ApiError> {
        // Nearly every record has one version, which is decoded already.
        Ok(self.read.ops.len() > 1 && is_conflict(&self.ops()?))
    }

    /// The ops of its live versions, in the record's order.
    pub(in crate::api) fn ops(&self) -> Result<Vec<Op>, ApiError> {
        ops_of(&self.read).ok_or_else(|| ApiError::unreadable(self.op.key.id.as_str()))
    }
}

/// What a write is put on, and what must still hold when it is written.
pub(in crate::api) struct Base {
    /// The version that its writer has read.
    pub(in crate::api) op: Op,
    /// It must still be that.
    pub(in crate::api) condition: Condition,
    /// What its writer has seen: by its token, or all that was live here. None: all that is by then.
    pub(in crate::api) seen: Option<VectorClock>,
}

/// The record that is visible under an id: in the namespace that is named, or in the only one that has it. What the caller
/// does not reach is not there for it.
///
/// # Errors
/// 404, 410 if it was deleted, 409 `ambiguous_id` if several namespaces have it, and what reading fails with.
pub(in crate::api) async fn visible(
    node: &Node,
    caller: &Caller,
    id: &RecordId,
    namespace: Option<&Namespace>,
) -> Result<Found, ApiError> {
    let keys = match namespace {
        Some(namespace) => {
            vec![RecordKey { namespace: namespace.clone(), kind: Kind::memory(), id: id.clone() }]
        }
        None => node.keys_of(Kind::memory(), id.clone()).await.map_err(ApiError::of_read)?,
    };
    let mut found = Vec::new();
    let mut was_deleted = false;
    for key in keys.into_iter().filter(|key| caller.sees(&key.namespace)) {
        let read = node.read(key).await.map_err(ApiError::of_read)?;
        was_deleted |= read.record.is_deleted();
        if read.record.visible().is_some() {
            let op = op_of_visible(&read.record, &read).ok_or_else(|| ApiError::unreadable(id.as_str()))?;
            found.push(Found { op, read });
        }
    }
    if found.len() > 1 {
        return Err(ambiguous(id, &found));
    }
    match found.pop() {
        Some(found) => Ok(found),
        None if was_deleted => Err(ApiError::deleted(id.as_str())),
        None => Err(ApiError::missing(id.as_str())),
    }
}

/// What a write of the memory `id` is put on: what is visible, or with a token what its writer was shown.
///
/// # Errors
/// As [`visible`]; with a token 422 if it is of another record, 503 `not_caught_up`, and 409 `changed` if all that it
/// names has been replaced.
pub(in crate::api) async fn base(
    state: &ApiState,
    caller: &Caller,
    causal: &Causal,
    id: &RecordId,
    namespace: Option<&Namespace>,
) -> Result<Base, ApiError> {
    let Causal::Since(token) = causal else {
        let Found { op, read } = visible(&state.node, caller, id, namespace).await?;
        // A version that comes between this look and the write was seen by nobody: it stays beside what is written.
        let seen = Some(CausalToken::of(op.key.clone(), read.record.versions()).seen);
        return Ok(Base { condition: Condition::Visible(op.dot.clone()), op, seen });
    };
    let key = &token.key;
    let is_named = key.kind == Kind::memory() && key.id == *id;
    if !is_named || namespace.is_some_and(|namespace| *namespace != key.namespace) {
        return Err(Causal::of_another_record());
    }
    if !caller.sees(&key.namespace) {
        return Err(ApiError::missing(id.as_str()));
    }
    causal.wait(state).await?;
    let read = state.node.read(key.clone()).await.map_err(ApiError::of_read)?;
    let shown = shown(&read, token);
    if shown.is_empty() {
        return Err(ApiError::changed(id.as_str()));
    }
    if shown.is_deleted() {
        return Err(ApiError::deleted(id.as_str()));
    }
    let op = op_of_visible(&shown, &read).ok_or_else(|| ApiError::unreadable(id.as_str()))?;
    Ok(Base { condition: Condition::Live(op.dot.clone()), op, seen: Some(token.seen.clone()) })
}

/// The ops of a record's live versions, in the record's order; none if one of them cannot be read.
pub(in crate::api) fn ops_of(read: &RecordRead) -> Option<Vec<Op>> {
    read.ops.iter().map(|sealed| decode_op(&sealed.op.bytes).ok()).collect()
}

/// The versions that the token names and that are still live.
fn shown(read: &RecordRead, token: &CausalToken) -> Record {
    read.record.versions().iter().filter(|version| token.versions.contains(&version.dot)).cloned().collect()
}

/// The op of the visible version of `record`, which has no other versions than `read`.
fn op_of_visible(record: &Record, read: &RecordRead) -> Option<Op> {
    let visible = record.visible()?;
    let at = read.record.versions().iter().position(|version| version.dot == visible.dot)?;
    decode_op(&read.ops.get(at)?.op.bytes).ok()
}

fn ambiguous(id: &RecordId, found: &[Found]) -> ApiError {
    let namespaces: Vec<_> = found.iter().map(|found| found.op.key.namespace.as_str()).collect();
    ApiError::new(
        StatusCode::CONFLICT,
        "ambiguous_id",
        "several namespaces have a memory of this id: name one with ?namespace=",
    )
    .with("id", id.as_str())
    .with("namespaces", namespaces)
}
