//! Listing the memories that a caller reaches.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use federation_core::id::{Kind, Namespace, RecordId, RecordKey};
use federation_core::op::SealedOp;
use federation_core::port::store::{ListPage, ListQuery, Listed};
use federation_core::record::Version;
use federation_wire::api::status::MemoryList;
use federation_wire::api::view::{Include, MemoryView};
use federation_wire::v1::op::decode_op;

use super::QueryOf;
use crate::api::auth::{Caller, Step, step_over};
use crate::api::error::ApiError;
use crate::api::params::{self, ListParams};
use crate::api::state::ApiState;

/// Bytes of ops on one page of a list.
const PAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Records that one request for a list looks at; past it the page ends early, with a cursor.
const RECORDS_SCANNED_MAX: usize = 10_000;
/// Namespaces out of the caller's reach that one request steps over. No cursor can stand there: it would name one.
const NAMESPACES_STEPPED_MAX: usize = 10_000;

/// `GET /api/v1/memories`
pub(in crate::api) async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    query: QueryOf<ListParams>,
) -> Result<Json<MemoryList>, ApiError> {
    let query = params::query(query)?;
    let include = params::include(query.include.as_deref())?;
    let limit = params::limit(query.limit)?;
    let namespace = query.namespace.as_deref().map(params::namespace).transpose()?;
    let after = query.cursor.as_deref().map(params::cursor).transpose()?;
    let mut memories = Vec::new();
    if namespace.as_ref().is_some_and(|namespace| !caller.sees(namespace)) {
        return Ok(Json(MemoryList { memories, next_cursor: None }));
    }
    let mut walk = Walk { state: &state, caller: &caller, namespace, position: after, stepped: 0 };
    let (mut scanned, mut bytes) = (0, 0);
    let next = loop {
        let found = walk.page(limit - memories.len()).await?;
        scanned += found.records.len();
        for (key, _, sealed) in &found.records {
            let view = view_of_bytes(&state, &sealed.op.bytes, include)
                .ok_or_else(|| ApiError::unreadable(key.id.as_str()))?;
            if !view.archived && query.tag.as_deref().is_none_or(|tag| has_tag(&view, tag)) {
                memories.push(view);
                bytes += sealed.op.bytes.len();
            }
        }
        let last = found.records.last().filter(|_| found.end != End::Last);
        let Some((last, ..)) = last else { break None };
        walk.position = Some(last.clone());
        let is_full = memories.len() >= limit || scanned >= RECORDS_SCANNED_MAX || bytes >= PAGE_BYTES_MAX;
        // A page is also cut by its bytes: what came is enough for one answer.
        let is_cut = found.end == End::Cut && query.tag.is_none() && !memories.is_empty();
        if is_full || is_cut {
            // That there is more to come must not tell of what the caller does not reach.
            break walk.has_more().await?.then(|| params::cursor_of(last));
        }
    };
    Ok(Json(MemoryList { memories, next_cursor: next }))
}

/// A way through the records, in key order, that touches only what the caller reaches.
struct Walk<'a> {
    state: &'a ApiState,
    caller: &'a Caller,
    /// In this namespace alone.
    namespace: Option<Namespace>,
    /// Behind this key.
    position: Option<RecordKey>,
    stepped: usize,
}

/// Records that the caller reaches, and no others.
struct Found {
    records: Vec<(RecordKey, Version, SealedOp)>,
    end: End,
}

/// Why no more records were found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// There are none.
    Last,
    /// There are others first, or it was a short look.
    Edge,
    /// They were as many, or as large, as was asked for.
    Cut,
}

impl Walk<'_> {
    /// The next records that the caller reaches: none only at the end.
    async fn page(&mut self, limit: usize) -> Result<Found, ApiError> {
        let mut limit_now = limit;
        loop {
            let wanted = ListQuery {
                kind: Kind::memory(),
                namespace: self.namespace.clone(),
                after: self.position.take(),
                which: Listed::Visible,
                looks_max: usize::MAX,
                limit: limit_now,
                bytes_max: PAGE_BYTES_MAX,
            };
            let ListPage { mut records, next } =
                self.state.node.list(wanted).await.map_err(ApiError::of_read)?;
            let edge = records.iter().position(|(key, ..)| !self.caller.sees(&key.namespace));
            let Some((edge, (outside, ..))) = edge.and_then(|at| Some((at, records.get(at)?))) else {
                let end = match next {
                    None => End::Last,
                    Some(_) if limit_now < limit => End::Edge,
                    Some(_) => End::Cut,
                };
                return Ok(Found { records, end });
            };
            let outside = outside.namespace.clone();
            records.truncate(edge);
            if !records.is_empty() {
                return Ok(Found { records, end: End::Edge });
            }
            let Some(position) = self.over(&outside) else {
                return Ok(Found { records, end: End::Last });
            };
            self.stepped += 1;
            if self.stepped > NAMESPACES_STEPPED_MAX {
                return Err(too_wide());
            }
            self.position = Some(position);
            // What lies behind may be out of reach as well: one record tells.
            limit_now = 1;
        }
    }

    /// Whether the caller reaches anything behind the position.
    async fn has_more(&mut self) -> Result<bool, ApiError> {
        if self.caller.is_unbounded() {
            return Ok(true);
        }
        Ok(!self.page(1).await?.records.is_empty())
    }

    /// Where to go on from a namespace that the caller does not reach.
    fn over(&self, namespace: &Namespace) -> Option<RecordKey> {
        match step_over(&self.caller.scope(), namespace)? {
            Step::Behind => behind(namespace),
            Step::To(next) => before(next),
        }
    }
}

/// A key behind all memories of a namespace: no id is greater.
fn behind(namespace: &Namespace) -> Option<RecordKey> {
    let greatest = "z".repeat(federation_core::limits::RECORD_ID_BYTES_MAX);
    let id = RecordId::new(&greatest).ok()?;
    Some(RecordKey { namespace: namespace.clone(), kind: Kind::memory(), id })
}

/// A key before all memories of a namespace: no kind is less.
fn before(namespace: Namespace) -> Option<RecordKey> {
    let (kind, id) = (Kind::new("a").ok()?, RecordId::new("a").ok()?);
    Some(RecordKey { namespace, kind, id })
}

fn too_wide() -> ApiError {
    let message = format!(
        "more than {NAMESPACES_STEPPED_MAX} namespaces that the token does not reach lie between: name one with \
         ?namespace="
    );
    ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "scope_too_wide", message)
}

fn view_of_bytes(state: &ApiState, bytes: &[u8], include: Include) -> Option<MemoryView> {
    MemoryView::of(&decode_op(bytes).ok()?, include, state.embedding_space.as_ref()).ok()?
}

fn has_tag(view: &MemoryView, tag: &str) -> bool {
    let tags = view.fields.get("tags").and_then(serde_json::Value::as_array);
    tags.is_some_and(|tags| tags.iter().any(|found| found.as_str() == Some(tag)))
}
