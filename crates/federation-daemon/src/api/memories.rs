//! Memories: create, read, update, delete, list.

pub(super) mod find;
mod list;

pub(super) use list::list;

use axum::Json;
use axum::body::Body as HttpBody;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use federation_core::decide::{Condition, Mutation, WriteRefusal};
use federation_core::id::{AgentId, Namespace, RecordId};
use federation_core::op::Body;
use federation_core::vector_clock::VectorClock;
use federation_net::WriteReceipt;
use federation_net::error::WriteError;
use federation_wire::api::error::from_json;
use federation_wire::api::memory::{CreateMemory, CurrentMemory, MemoryWrite, UpdateMemory};
use federation_wire::api::status::Deleted;
use federation_wire::api::view::{Include, MemoryView, QuorumView};
use federation_wire::api::{DotText, ErrorBody, QuorumReceipt};
use federation_wire::memory::{JsonObject, parse_payload};
use serde_json::Value;

use crate::api::auth::{AGENT_FIELD, Caller};
use crate::api::body::{self, BODY_BYTES_MAX, Media};
use crate::api::causal::Causal;
use crate::api::error::ApiError;
use crate::api::memories::find::Base;
use crate::api::params::{self, OneQuery, Promise};
use crate::api::state::ApiState;
use crate::random;

/// How often an update is tried anew on the version that got in between.
const UPDATE_TRIES: usize = 8;

pub(super) type PathOf<T> = Result<Path<T>, PathRejection>;
pub(super) type QueryOf<T> = Result<Query<T>, QueryRejection>;

/// `POST /api/v1/memories`
pub(super) async fn create(
    State(state): State<ApiState>,
    caller: Caller,
    headers: HeaderMap,
    body: HttpBody,
) -> Result<Response, ApiError> {
    Media::of(&headers, &[Media::Json])?;
    let (author, promise) = (caller.author(&headers)?, params::promise(&headers)?);
    let causal = Causal::of(&state, &headers)?.of_nothing()?;
    let bytes = body::read(&headers, body, BODY_BYTES_MAX, state.body_deadline).await?;
    let (id, receipt) = create_one(&state, &caller.renewed()?, &author, promise, &bytes).await?;
    let view = view_of(&receipt, &id)?;
    let location = format!("/api/v1/memories/{id}");
    let answer = (StatusCode::CREATED, [(header::LOCATION, location)], Json(view));
    Ok(causal.answer_write(&state, &receipt, answer))
}

/// Creates the memory that these bytes describe, as one row of a bulk write or as a request of its own.
pub(super) async fn create_one(
    state: &ApiState,
    caller: &Caller,
    author: &AgentId,
    promise: Promise,
    bytes: &[u8],
) -> Result<(RecordId, WriteReceipt), ApiError> {
    let create: CreateMemory = from_json(bytes).map_err(ApiError::json)?;
    if let Some(JsonObject(metadata)) = &create.metadata {
        caller.may_name(author, metadata, None)?;
    }
    let now = state.wall.now();
    let fresh = params::record_id(&random::record_id(now))?;
    let write = create.into_write(fresh, now).map_err(|faults| ApiError::faults(&faults))?;
    caller.may_write(author, &write.key.namespace)?;
    let id = write.key.id.clone();
    // What stands where the caller does not reach must not show, and cannot be in its way.
    let condition = Condition::AbsentIn(caller.scope());
    let mutation = mutation(write, author.clone(), condition, None);
    match state.node.write_proven(mutation, promise.level, promise.proof).await {
        Ok(receipt) => Ok((id, receipt)),
        Err(error) => Err(ApiError::of_write(error, id.as_str())),
    }
}

/// `GET /api/v1/memories/{id}`
pub(super) async fn read(
    State(state): State<ApiState>,
    caller: Caller,
    id: PathOf<String>,
    query: QueryOf<OneQuery>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let (id, query) = (params::record_id(&params::path(id)?)?, params::query(query)?);
    let include = params::include(query.include.as_deref())?;
    let namespace = query.namespace()?;
    let causal = Causal::of(&state, &headers)?;
    causal.wait(&state).await?;
    let found = find::visible(&state.node, &caller, &id, namespace.as_ref()).await?;
    let view = MemoryView::of(&found.op, include, state.embedding_space.as_ref()).ok().flatten();
    let mut view = view.ok_or_else(|| ApiError::unreadable(id.as_str()))?;
    view.conflict = found.is_conflict()?;
    Ok(causal.answer(&state, &found.op.key, found.read.record.versions(), Json(view)))
}

/// What a write of a memory that is there says before its body.
pub(super) struct WriteHead {
    pub(super) id: RecordId,
    pub(super) namespace: Option<Namespace>,
    pub(super) author: AgentId,
    pub(super) promise: Promise,
    pub(super) causal: Causal,
}

impl WriteHead {
    /// Reads it.
    ///
    /// # Errors
    /// What is malformed, and 403 if it names a namespace that the caller may not write.
    pub(super) fn of(
        state: &ApiState,
        caller: &Caller,
        id: PathOf<String>,
        query: QueryOf<OneQuery>,
        headers: &HeaderMap,
    ) -> Result<Self, ApiError> {
        let (id, query) = (params::record_id(&params::path(id)?)?, params::query(query)?);
        let (author, namespace) = (caller.author(headers)?, query.namespace()?);
        let (promise, causal) = (params::promise(headers)?, Causal::of(state, headers)?);
        if let Some(namespace) = &namespace {
            caller.may_write(&author, namespace)?;
        }
        Ok(Self { id, namespace, author, promise, causal })
    }
}

/// `PUT /api/v1/memories/{id}`
pub(super) async fn update(
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
    let bytes = body::read(&headers, body, BODY_BYTES_MAX, state.body_deadline).await?;
    let caller = caller.renewed()?;
    let change: UpdateMemory = from_json(&bytes).map_err(ApiError::json)?;
    let mut tries = 1;
    loop {
        let base = find::base(&state, &caller, &causal, &id, namespace.as_ref()).await?;
        let mutation = changed(&state, &caller, &author, base, change.clone())?;
        // Without a token the change is put on what is visible by then.
        let may_try_again = !matches!(causal, Causal::Since(_)) && tries < UPDATE_TRIES;
        match state.node.write_proven(mutation, promise.level, promise.proof).await {
            Ok(receipt) => {
                let view = view_of(&receipt, &id)?;
                return Ok(causal.answer_write(&state, &receipt, Json(view)));
            }
            Err(WriteError::Refused(WriteRefusal::Changed)) if may_try_again => tries += 1,
            Err(error) => return Err(ApiError::of_write(error, id.as_str())),
        }
    }
}

/// A change of what `base` says, by a caller who may write it.
pub(super) fn changed(
    state: &ApiState,
    caller: &Caller,
    author: &AgentId,
    base: Base,
    change: UpdateMemory,
) -> Result<Mutation, ApiError> {
    let Base { op, condition, seen } = base;
    caller.may_write(author, &op.key.namespace)?;
    let Body::Put { payload, embedding, .. } = &op.body else {
        return Err(ApiError::deleted(op.key.id.as_str()));
    };
    if let Some(JsonObject(metadata)) = &change.metadata {
        caller.may_name(author, metadata, agent_named_in(payload).as_ref())?;
    }
    let before = CurrentMemory { key: &op.key, payload, embedding: embedding.as_ref() };
    let write = change.into_write(before, state.wall.now()).map_err(|faults| ApiError::faults(&faults))?;
    Ok(mutation(write, author.clone(), condition, seen))
}

/// `DELETE /api/v1/memories/{id}`
pub(super) async fn delete(
    State(state): State<ApiState>,
    caller: Caller,
    id: PathOf<String>,
    query: QueryOf<OneQuery>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let WriteHead { id, namespace, author, promise, causal } =
        WriteHead::of(&state, &caller, id, query, &headers)?;
    let mut base = find::base(&state, &caller, &causal, &id, namespace.as_ref()).await?;
    if !matches!(causal, Causal::Since(_)) {
        // Whatever is there by then is to go.
        (base.condition, base.seen) = (Condition::Present, None);
    }
    let receipt = delete_of(&state, &caller, author, base, promise).await?;
    Ok(causal.answer_write(&state, &receipt, Json(deleted_of(&receipt))))
}

/// Deletes what `base` says, by a caller who may write it.
pub(super) async fn delete_of(
    state: &ApiState,
    caller: &Caller,
    author: AgentId,
    base: Base,
    promise: Promise,
) -> Result<WriteReceipt, ApiError> {
    let Base { op, condition, seen } = base;
    caller.may_write(&author, &op.key.namespace)?;
    let id = op.key.id.clone();
    let mutation = Mutation { key: op.key, author, body: Body::Delete, condition, token: seen };
    let receipt = state.node.write_proven(mutation, promise.level, promise.proof).await;
    receipt.map_err(|error| ApiError::of_write(error, id.as_str()))
}

pub(super) fn deleted_of(receipt: &WriteReceipt) -> Deleted {
    let op = &receipt.written.op;
    Deleted {
        id: op.key.id.to_string(),
        namespace: op.key.namespace.to_string(),
        dot: DotText(op.dot.clone()),
        quorum: quorum_of(receipt),
    }
}

/// The author that a memory's metadata name, as they are stored.
fn agent_named_in(payload: &[u8]) -> Option<Value> {
    parse_payload(payload).ok()?.get("metadata")?.get(AGENT_FIELD).cloned()
}

fn mutation(
    write: MemoryWrite,
    author: AgentId,
    condition: Condition,
    token: Option<VectorClock>,
) -> Mutation {
    let MemoryWrite { key, payload, embedding } = write;
    let body = Body::Put { payload, embedding, archived: false };
    Mutation { key, author, body, condition, token }
}

pub(super) fn view_of(receipt: &WriteReceipt, id: &RecordId) -> Result<MemoryView, ApiError> {
    let view = MemoryView::of(&receipt.written.op, Include::Fields, None).ok().flatten();
    let mut view = view.ok_or_else(|| ApiError::unreadable(id.as_str()))?;
    view.quorum = Some(quorum_of(receipt));
    Ok(view)
}

/// What a client is told of a write's quorum.
pub(super) fn quorum_of(receipt: &WriteReceipt) -> QuorumView {
    let peers = receipt.peers.iter().map(|(peer, outcome)| (peer.to_string(), outcome.slug().to_owned()));
    QuorumView {
        got: receipt.got,
        needed: receipt.needed,
        peers: peers.collect(),
        receipt: QuorumReceipt::of(&receipt.acks),
    }
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
