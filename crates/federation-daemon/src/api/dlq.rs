//! Dead letters: listed, shown, sent once more, given up.

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use federation_core::dot::Dot;
use federation_core::id::{NodeId, RecordKey};
use federation_net::error::LetterError;
use federation_net::node::letters::LetterStatus;
use federation_wire::api::DotText;
use federation_wire::api::dlq::{
    DeadLetterDetail, DeadLetterList, DeadLetterView, DeadLettersRetried, RecordName,
};
use federation_wire::api::memory::rfc3339;
use federation_wire::hex;
use federation_wire::v1::op::decode_op;

use crate::api::error::ApiError;
use crate::api::params::{self, LettersParams};
use crate::api::state::ApiState;

/// What names a letter in a path: the peer, and the three parts of a dot.
type LetterPath = Result<Path<(String, String, String, String)>, PathRejection>;

/// `GET /api/v1/dlq`
pub(super) async fn list(
    State(state): State<ApiState>,
    query: Result<Query<LettersParams>, QueryRejection>,
) -> Result<Json<DeadLetterList>, ApiError> {
    let query = params::query(query)?;
    let peer = query.peer.as_deref().map(peer_id).transpose()?;
    let after = query.cursor.as_deref().map(params::letter_cursor).transpose()?;
    let limit = params::limit(query.limit)?;
    let page = state.node.dead_letters(peer.as_ref(), after.as_ref(), limit).await;
    let page = page.map_err(ApiError::store)?;
    Ok(Json(DeadLetterList {
        letters: page.letters.into_iter().map(view).collect(),
        next_cursor: page.next.map(|(peer, dot)| params::letter_cursor_of(&peer, &dot)),
    }))
}

/// `GET /api/v1/dlq/{peer}/{node}/{epoch}/{seq}`
pub(super) async fn show(
    State(state): State<ApiState>,
    path: LetterPath,
) -> Result<Json<DeadLetterDetail>, ApiError> {
    let (peer, dot) = letter(path)?;
    let found = state.node.dead_letter(&peer, &dot).await.map_err(ApiError::letter)?;
    let op = decode_op(&found.sealed.op.bytes).map_err(|_| ApiError::unreadable(&dot.to_string()))?;
    Ok(Json(DeadLetterDetail {
        author: op.author.to_string(),
        written_at: rfc3339(found.version.hlc.wall()),
        deletes: found.version.is_tombstone(),
        bytes: found.sealed.size_bytes() as u64,
        hash: hex::write(&found.version.hash.0),
        letter: view(found.status),
    }))
}

/// `POST /api/v1/dlq/{peer}/retry`
pub(super) async fn retry_all(
    State(state): State<ApiState>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Json<DeadLettersRetried>, ApiError> {
    let peer = peer_id(&params::path(path)?)?;
    let retried = state.node.retry_dead_letters(&peer).await.map_err(ApiError::letter)?;
    Ok(Json(DeadLettersRetried { retried }))
}

/// `POST /api/v1/dlq/{peer}/{node}/{epoch}/{seq}/retry`
pub(super) async fn retry(
    State(state): State<ApiState>,
    path: LetterPath,
) -> Result<Json<DeadLettersRetried>, ApiError> {
    let (peer, dot) = letter(path)?;
    state.node.retry_dead_letter(&peer, &dot).await.map_err(ApiError::letter)?;
    Ok(Json(DeadLettersRetried { retried: 1 }))
}

/// `POST /api/v1/dlq/{peer}/{node}/{epoch}/{seq}/discard`
pub(super) async fn discard(
    state: State<ApiState>,
    path: LetterPath,
) -> Result<Json<DeadLetterDetail>, ApiError> {
    let (peer, dot) = letter(path)?;
    state.node.discard_dead_letter(&peer, &dot).await.map_err(ApiError::letter)?;
    let (node, epoch) = (dot.origin.node.to_string(), dot.origin.epoch.to_string());
    show(state, Ok(Path((peer.to_string(), node, epoch, dot.seq.to_string())))).await
}

fn letter(path: LetterPath) -> Result<(NodeId, Dot), ApiError> {
    let (peer, node, epoch, seq) = params::path(path)?;
    let dot = params::dot(&node, &epoch, &seq)?;
    Ok((peer_id(&peer)?, dot))
}

fn peer_id(text: &str) -> Result<NodeId, ApiError> {
    NodeId::new(text)
        .map_err(|fault| ApiError::new(StatusCode::BAD_REQUEST, "invalid_peer", fault.to_string()))
}

fn view(found: LetterStatus) -> DeadLetterView {
    let LetterStatus { peer, dot, letter, key } = found;
    let record = |RecordKey { namespace, kind, id }: RecordKey| RecordName {
        namespace: namespace.to_string(),
        kind: kind.to_string(),
        id: id.to_string(),
    };
    DeadLetterView {
        peer: peer.to_string(),
        dot: DotText(dot),
        reason: letter.reason.slug().to_owned(),
        state: if letter.is_discarded { "discarded" } else { "refused" }.to_owned(),
        record: key.map(record),
    }
}

impl ApiError {
    fn letter(error: LetterError) -> Self {
        match error {
            LetterError::NoSuchLetter => Self::new(
                StatusCode::NOT_FOUND,
                "no_such_letter",
                "the peer has refused no such op, or it was replaced",
            ),
            LetterError::NotDialled => {
                let message = "the peer is not dialled: nothing goes to it";
                Self::new(StatusCode::CONFLICT, "peer_not_dialled", message)
            }
            LetterError::Store(error) => Self::store(error),
        }
    }
}
