//! Conflicts: memories with versions that were written concurrently, and what resolves them.

use axum::Json;
use axum::body::Body as HttpBody;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use federation_core::decide::{Condition, Mutation};
use federation_core::id::Kind;
use federation_core::op::{Body, Op};
use federation_core::port::store::{ListQuery, Listed, RecordRead};
use federation_wire::api::DotText;
use federation_wire::api::conflict::{ConflictList, ConflictView, ResolveConflict, VersionView, is_conflict};
use federation_wire::api::error::from_json;
use federation_wire::api::view::{Include, MemoryView};

use crate::api::auth::Caller;
use crate::api::body::{self, BODY_BYTES_MAX, Media};
use crate::api::causal::{CAUSAL_HEADER, Causal};
use crate::api::error::ApiError;
use crate::api::memories::find::{self, Base};
use crate::api::memories::{PathOf, QueryOf, WriteHead, changed, delete_of, deleted_of, view_of};
use crate::api::params::{self, ConflictParams, OneQuery};
use crate::api::state::ApiState;

/// Records that one request for a list looks at; past it the page ends early, with a cursor.
const LOOKS_MAX: usize = 10_000;
/// Bytes of ops after which a page takes no further record.
const PAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// `GET /api/v1/conflicts`
pub(super) async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    query: QueryOf<ConflictParams>,
) -> Result<Json<ConflictList>, ApiError> {
    let query = params::query(query)?;
    let limit = params::limit(query.limit)?;
    let namespace = query.namespace.as_deref().map(params::namespace).transpose()?;
    let after = query.cursor.as_deref().map(params::cursor).transpose()?;
    let mut conflicts = Vec::new();
    match &namespace {
        // A cursor names where the look has come to, so that must be where the caller may look.
        None if !caller.is_unbounded() => {
            let message = "a token of some namespaces sees the conflicts of one at a time: name it";
            return Err(ApiError::field("namespace", "namespace_required", message));
        }
        Some(namespace) if !caller.sees(namespace) => {
            return Ok(Json(ConflictList { conflicts, next_cursor: None }));
        }
        _ => {}
    }
    let (kind, which) = (Kind::memory(), Listed::Concurrent);
    let wanted =
        ListQuery { kind, namespace, after, which, looks_max: LOOKS_MAX, limit, bytes_max: PAGE_BYTES_MAX };
    let page = state.node.list(wanted).await.map_err(ApiError::of_read)?;
    let mut bytes = 0;
    let mut next = page.next;
    for (key, ..) in page.records {
        if bytes >= PAGE_BYTES_MAX {
            break;
        }
        let read = state.node.read(key.clone()).await.map_err(ApiError::of_read)?;
        bytes += read.ops.iter().map(|sealed| sealed.op.bytes.len()).sum::<usize>();
        let ops = find::ops_of(&read).ok_or_else(|| ApiError::unreadable(key.id.as_str()))?;
        if is_conflict(&ops) {
            conflicts.push(view(&state, &read, &ops).ok_or_else(|| ApiError::unreadable(key.id.as_str()))?);
        }
        if bytes >= PAGE_BYTES_MAX {
            next = Some(key);
        }
    }
    Ok(Json(ConflictList { conflicts, next_cursor: next.as_ref().map(params::cursor_of) }))
}

/// `GET /api/v1/conflicts/{id}`
pub(super) async fn show(
    State(state): State<ApiState>,
    caller: Caller,
    id: PathOf<String>,
    query: QueryOf<OneQuery>,
) -> Result<Json<ConflictView>, ApiError> {
    let (id, query) = (params::record_id(&params::path(id)?)?, params::query(query)?);
    let found = find::visible(&state.node, &caller, &id, query.namespace()?.as_ref()).await?;
    let view = view(&state, &found.read, &found.ops()?);
    view.map(Json).ok_or_else(|| ApiError::unreadable(id.as_str()))
}

/// `POST /api/v1/conflicts/{id}/resolve`
pub(super) async fn resolve(
    State(state): State<ApiState>,
    caller: Caller,
    id: PathOf<String>,
    query: QueryOf<OneQuery>,
    headers: HeaderMap,
    body: HttpBody,
) -> Result<Response, ApiError> {
    let WriteHead { id, namespace, author, promise, causal } =
        WriteHead::of(&state, &caller, id, query, &headers)?;
    Media::of(&headers, &[Media::Json])?;
    let Causal::Since(token) = &causal else {
        let message = "the token that came with the versions: it says which ones are resolved";
        return Err(ApiError::field(CAUSAL_HEADER, "causal_token_required", message));
    };
    let bytes = body::read(&headers, body, BODY_BYTES_MAX, state.body_deadline).await?;
    let caller = caller.renewed()?;
    let ResolveConflict { keep, change, delete } = from_json(&bytes).map_err(ApiError::json)?;
    let mut base = find::base(&state, &caller, &causal, &id, namespace.as_ref()).await?;
    let key = base.op.key.clone();
    if let Some(DotText(dot)) = &keep {
        if !token.versions.contains(dot) {
            return Err(ApiError::field("keep", "not_in_token", "the token names no such version"));
        }
        let read = state.node.read(key.clone()).await.map_err(ApiError::of_read)?;
        let ops = find::ops_of(&read).ok_or_else(|| ApiError::unreadable(id.as_str()))?;
        let op = ops.into_iter().find(|op| op.dot == *dot).ok_or_else(|| ApiError::changed(id.as_str()))?;
        base = Base { condition: Condition::Live(dot.clone()), op, ..base };
    }
    let mutation = match (delete, change) {
        (true, None) if keep.is_none() => {
            let receipt = delete_of(&state, &caller, author, base, promise).await?;
            return Ok(causal.answer_write(&state, &receipt, Json(deleted_of(&receipt))));
        }
        (true, _) => {
            let message = "what is deleted is neither kept nor changed";
            return Err(ApiError::field("delete", "contradiction", message));
        }
        (false, Some(change)) => changed(&state, &caller, &author, base, change)?,
        (false, None) => {
            caller.may_write(&author, &key.namespace)?;
            if base.op.body == Body::Delete {
                let message = "that version says that the memory is deleted: send {\"delete\": true}";
                return Err(ApiError::field("keep", "is_deleted", message));
            }
            let Base { op, condition, seen } = base;
            Mutation { key: op.key, author, body: op.body, condition, token: seen }
        }
    };
    let receipt = state.node.write_proven(mutation, promise.level, promise.proof).await;
    let receipt = receipt.map_err(|error| ApiError::of_write(error, id.as_str()))?;
    let mut answer = view_of(&receipt, &id)?;
    // What was written since the token was given stays beside it.
    let left = state.node.read(key).await.map_err(ApiError::of_read)?;
    answer.conflict = find::ops_of(&left).is_some_and(|ops| is_conflict(&ops));
    Ok(causal.answer_write(&state, &receipt, Json(answer)).into_response())
}

/// All live versions of a record, with the token of whoever has seen them.
fn view(state: &ApiState, read: &RecordRead, ops: &[Op]) -> Option<ConflictView> {
    let key = &ops.first()?.key;
    let visible = read.record.visible().map(|version| &version.dot);
    let versions = ops.iter().map(|op| {
        let memory = MemoryView::of(op, Include::Fields, None).ok()?;
        Some(VersionView {
            dot: DotText(op.dot.clone()),
            hlc: op.hlc.to_string(),
            author: op.author.to_string(),
            visible: visible == Some(&op.dot),
            deleted: op.body == Body::Delete,
            memory,
        })
    });
    Some(ConflictView {
        id: key.id.to_string(),
        namespace: key.namespace.to_string(),
        token: state.node.causal_token(key.clone(), read.record.versions()).ok(),
        versions: versions.collect::<Option<_>>()?,
    })
}
