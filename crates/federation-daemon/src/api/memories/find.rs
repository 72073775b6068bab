//! From an id to the memory that it names.

use federation_core::id::{Kind, Namespace, RecordId, RecordKey};
use federation_core::op::Op;
use federation_core::port::store::RecordRead;
use federation_net::node::Node;
use federation_wire::v1::op::decode_op;

use axum::http::StatusCode;

use crate::api::auth::Caller;
use crate::api::error::ApiError;

/// The op that is visible under an id: in the namespace that is named, or in the only one that has it. What the caller
/// does not reach is not there for it.
///
/// # Errors
/// 404, 410 if it was deleted, 409 `ambiguous_id` if several namespaces have it, and what reading fails with.
pub(super) async fn visible(
    node: &Node,
    caller: &Caller,
    id: &RecordId,
    namespace: Option<&Namespace>,
) -> Result<Op, ApiError> {
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
            found.push(op_of_visible(&read).ok_or_else(|| ApiError::unreadable(id.as_str()))?);
        }
    }
    if found.len() > 1 {
        return Err(ambiguous(id, &found));
    }
    match found.pop() {
        Some(op) => Ok(op),
        None if was_deleted => Err(ApiError::deleted(id.as_str())),
        None => Err(ApiError::missing(id.as_str())),
    }
}

fn op_of_visible(read: &RecordRead) -> Option<Op> {
    let visible = read.record.visible()?;
    let at = read.record.versions().iter().position(|version| version.dot == visible.dot)?;
    decode_op(&read.ops.get(at)?.op.bytes).ok()
}

fn ambiguous(id: &RecordId, found: &[Op]) -> ApiError {
    let namespaces: Vec<_> = found.iter().map(|op| op.key.namespace.as_str()).collect();
    ApiError::new(
        StatusCode::CONFLICT,
        "ambiguous_id",
        "several namespaces have a memory of this id: name one with ?namespace=",
    )
    .with("id", id.as_str())
    .with("namespaces", namespaces)
}
