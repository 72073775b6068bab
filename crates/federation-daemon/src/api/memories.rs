//! Memories: create, read, update, delete, list.

mod find;

use axum::Json;
use axum::body::Body as HttpBody;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use federation_core::decide::{Condition, Mutation, WriteRefusal};
use federation_core::id::{AgentId, Kind, RecordId};
use federation_core::op::Body;
use federation_core::port::store::ListQuery;
use federation_net::WriteReceipt;
use federation_net::error::WriteError;
use federation_wire::api::error::from_json;
use federation_wire::api::memory::{CreateMemory, CurrentMemory, MemoryWrite, UpdateMemory};
use federation_wire::api::status::{Deleted, MemoryList};
use federation_wire::api::view::{Include, MemoryView, QuorumView};
use federation_wire::api::{DotText, ErrorBody};
use federation_wire::v1::op::decode_op;

use crate::api::body::{self, BODY_BYTES_MAX, Media};
use crate::api::error::ApiError;
use crate::api::params::{self, ListParams, OneQuery};
use crate::api::state::ApiState;
use crate::random;

/// How often an update is tried anew on the version that got in between.
const UPDATE_TRIES: usize = 8;
/// Bytes of ops on one page of a list.
const PAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Records that one request for a list looks at; past it the page ends early, with a cursor.
const RECORDS_SCANNED_MAX: usize = 10_000;

type PathOf<T> = Result<Path<T>, PathRejection>;
type QueryOf<T> = Result<Query<T>, QueryRejection>;

/// `POST /api/v1/memories`
pub(super) async fn create(
    State(state): State<ApiState>,
    headers: HeaderMap,
    body: HttpBody,
) -> Result<Response, ApiError> {
    Media::of(&headers, &[Media::Json])?;
    let author = params::author(&headers)?;
    let bytes = body::read(&headers, body, BODY_BYTES_MAX, state.body_deadline).await?;
    let (id, receipt) = create_one(&state, &author, &bytes).await?;
    let view = view_of(&receipt, &id)?;
    let location = format!("/api/v1/memories/{id}");
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(view)).into_response())
}

/// Creates the memory that these bytes describe, as one row of a bulk write or as a request of its own.
pub(super) async fn create_one(
    state: &ApiState,
    author: &AgentId,
    bytes: &[u8],
) -> Result<(RecordId, WriteReceipt), ApiError> {
    let create: CreateMemory = from_json(bytes).map_err(ApiError::json)?;
    let now = state.wall.now();
    let fresh = params::record_id(&random::record_id(now))?;
    let write = create.into_write(fresh, now).map_err(|faults| ApiError::faults(&faults))?;
    let id = write.key.id.clone();
    let result = state.node.write(mutation(write, author.clone(), Condition::Absent), None).await;
    match result {
        Ok(receipt) => Ok((id, receipt)),
        Err(error) => Err(ApiError::of_write(error, id.as_str())),
    }
}

/// `GET /api/v1/memories/{id}`
pub(super) async fn read(
    State(state): State<ApiState>,
    id: PathOf<String>,
    query: QueryOf<OneQuery>,
) -> Result<Json<MemoryView>, ApiError> {
    let (id, query) = (params::record_id(&params::path(id)?)?, params::query(query)?);
    let include = params::include(query.include.as_deref())?;
    let op = find::visible(&state.node, &id, query.namespace.as_deref()).await?;
    let view = MemoryView::of(&op, include).ok().flatten();
    view.map(Json).ok_or_else(|| ApiError::unreadable(id.as_str()))
}

/// `PUT /api/v1/memories/{id}`
pub(super) async fn update(
    State(state): State<ApiState>,
    id: PathOf<String>,
    query: QueryOf<OneQuery>,
    headers: HeaderMap,
    body: HttpBody,
) -> Result<Json<MemoryView>, ApiError> {
    let (id, query) = (params::record_id(&params::path(id)?)?, params::query(query)?);
    Media::of(&headers, &[Media::Json])?;
    let author = params::author(&headers)?;
    let bytes = body::read(&headers, body, BODY_BYTES_MAX, state.body_deadline).await?;
    let change: UpdateMemory = from_json(&bytes).map_err(ApiError::json)?;
    let mut tries = 1;
    loop {
        // What the change is put on is the version that must still be visible when it is written.
        let current = find::visible(&state.node, &id, query.namespace.as_deref()).await?;
        let Body::Put { payload, embedding, .. } = &current.body else {
            return Err(ApiError::deleted(id.as_str()));
        };
        let before = CurrentMemory { key: &current.key, payload, embedding: embedding.as_ref() };
        let write = change
            .clone()
            .into_write(before, state.wall.now())
            .map_err(|faults| ApiError::faults(&faults))?;
        let condition = Condition::Visible(current.dot.clone());
        match state.node.write(mutation(write, author.clone(), condition), None).await {
            Ok(receipt) => return view_of(&receipt, &id).map(Json),
            Err(WriteError::Refused(WriteRefusal::Changed)) if tries < UPDATE_TRIES => tries += 1,
            Err(error) => return Err(ApiError::of_write(error, id.as_str())),
        }
    }
}

/// `DELETE /api/v1/memories/{id}`
pub(super) async fn delete(
    State(state): State<ApiState>,
    id: PathOf<String>,
    query: QueryOf<OneQuery>,
    headers: HeaderMap,
) -> Result<Json<Deleted>, ApiError> {
    let (id, query) = (params::record_id(&params::path(id)?)?, params::query(query)?);
    let author = params::author(&headers)?;
    let current = find::visible(&state.node, &id, query.namespace.as_deref()).await?;
    let mutation =
        Mutation { key: current.key, author, body: Body::Delete, condition: Condition::Present, token: None };
    let receipt =
        state.node.write(mutation, None).await.map_err(|error| ApiError::of_write(error, id.as_str()))?;
    let op = &receipt.written.op;
    Ok(Json(Deleted {
        id: op.key.id.to_string(),
        namespace: op.key.namespace.to_string(),
        dot: DotText(op.dot.clone()),
        quorum: quorum_of(&receipt),
    }))
}

/// `GET /api/v1/memories`
pub(super) async fn list(
    State(state): State<ApiState>,
    query: QueryOf<ListParams>,
) -> Result<Json<MemoryList>, ApiError> {
    let query = params::query(query)?;
    let include = params::include(query.include.as_deref())?;
    let limit = params::limit(query.limit)?;
    let namespace = query.namespace.as_deref().map(params::namespace).transpose()?;
    let mut after = query.cursor.as_deref().map(params::cursor).transpose()?;
    let mut memories = Vec::new();
    let mut scanned = 0;
    loop {
        let wanted = ListQuery {
            kind: Kind::memory(),
            namespace: namespace.clone(),
            after: after.take(),
            limit: limit - memories.len(),
            bytes_max: PAGE_BYTES_MAX,
        };
        let page = state.node.list(wanted).await.map_err(ApiError::of_read)?;
        scanned += page.records.len();
        for (key, _, sealed) in &page.records {
            let view = view_of_bytes(&sealed.op.bytes, include)
                .ok_or_else(|| ApiError::unreadable(key.id.as_str()))?;
            if !view.archived && query.tag.as_deref().is_none_or(|tag| has_tag(&view, tag)) {
                memories.push(view);
            }
        }
        after = page.next;
        let is_full = memories.len() >= limit || scanned >= RECORDS_SCANNED_MAX;
        // A page is also cut by its bytes: what came is enough for one answer.
        if after.is_none() || is_full || (query.tag.is_none() && !memories.is_empty()) {
            break;
        }
    }
    Ok(Json(MemoryList { memories, next_cursor: after.as_ref().map(params::cursor_of) }))
}

fn view_of_bytes(bytes: &[u8], include: Include) -> Option<MemoryView> {
    MemoryView::of(&decode_op(bytes).ok()?, include).ok()?
}

fn has_tag(view: &MemoryView, tag: &str) -> bool {
    let tags = view.fields.get("tags").and_then(serde_json::Value::as_array);
    tags.is_some_and(|tags| tags.iter().any(|found| found.as_str() == Some(tag)))
}

fn mutation(write: MemoryWrite, author: AgentId, condition: Condition) -> Mutation {
    let MemoryWrite { key, payload, embedding } = write;
    let body = Body::Put { payload, embedding, archived: false };
    Mutation { key, author, body, condition, token: None }
}

fn view_of(receipt: &WriteReceipt, id: &RecordId) -> Result<MemoryView, ApiError> {
    let view = MemoryView::of(&receipt.written.op, Include::Fields).ok().flatten();
    let mut view = view.ok_or_else(|| ApiError::unreadable(id.as_str()))?;
    view.quorum = Some(quorum_of(receipt));
    Ok(view)
}

/// What a client is told of a write's quorum.
pub(super) fn quorum_of(receipt: &WriteReceipt) -> QuorumView {
    let peers = receipt.peers.iter().map(|(peer, outcome)| (peer.to_string(), outcome.slug().to_owned()));
    QuorumView { got: receipt.got, needed: receipt.needed, peers: peers.collect() }
}

/// The body of an error, for a row of a bulk write.
pub(super) fn error_body(error: &ApiError) -> ErrorBody {
    match &*error.body {
        crate::api::error::ErrorAnswer::Plain(body) => body.clone(),
        crate::api::error::ErrorAnswer::QuorumNotMet(body) => {
            let message = format!(
                "{} of {} nodes hold the write: it is durable here and on its way",
                body.got, body.needed
            );
            let peers: serde_json::Map<_, _> =
                body.peers.iter().map(|(peer, outcome)| (peer.clone(), outcome.clone().into())).collect();
            ErrorBody::new(&body.error, message)
                .with("got", body.got)
                .with("needed", body.needed)
                .with("reason", body.reason.clone())
                .with("durable", body.durable.clone())
                .with("peers", peers)
        }
    }
}
