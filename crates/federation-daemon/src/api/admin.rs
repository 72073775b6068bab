//! The node itself: ops, peers, status, health, metrics.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use federation_core::id::NodeId;
use federation_net::alarm::{AlarmStatus, EquivocationStatus};
use federation_net::status::{NodeStatus as Node, OpAtPeer, PeerStatus as Peer, Readiness};
use federation_wire::api::DotText;
use federation_wire::api::memory::rfc3339;
use federation_wire::api::reload::ReloadReport;
use federation_wire::api::status::{
    AlarmView, EquivocationView, NodeStatus, OpStatus, OriginList, OriginSeries, PeerList, PeerStatus,
    StateHashView,
};
use federation_wire::hex;
use serde_json::json;

use crate::api::error::ApiError;
use crate::api::params::{self, ReloadParams, StatusParams};
use crate::api::state::ApiState;

/// The media type of `/metrics`.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// `GET /api/v1/ops/{node}/{epoch}/{seq}`
pub(super) async fn op(
    State(state): State<ApiState>,
    path: Result<Path<(String, String, String)>, PathRejection>,
) -> Result<Json<OpStatus>, ApiError> {
    let (node, epoch, seq) = params::path(path)?;
    let dot = DotText(params::dot(&node, &epoch, &seq)?);
    let status = state.node.op_status(&dot.0);
    let held_at_peers = status.peers.values().filter(|at| **at == OpAtPeer::Held).count();
    let is_settled = |at: &OpAtPeer| matches!(at, OpAtPeer::Held | OpAtPeer::NotOwed);
    let is_everywhere = status.here && status.peers.values().all(is_settled);
    let peers = status.peers.iter().map(|(peer, at)| (peer.to_string(), at.slug().to_owned()));
    Ok(Json(OpStatus {
        dot,
        here: if status.here { "held" } else { "unknown" }.to_owned(),
        peers: peers.collect(),
        held_by: held_at_peers + usize::from(status.here),
        is_everywhere,
    }))
}

/// `GET /api/v1/peers`
pub(super) async fn peers(State(state): State<ApiState>) -> Json<PeerList> {
    let facts = &state.store.snapshot().facts;
    let letters_of = |peer: &NodeId| {
        let (discarded, refused): (Vec<_>, Vec<_>) =
            facts.dead_letters_of(peer).partition(|(_, letter)| letter.is_discarded);
        (refused.len() as u64, discarded.len() as u64)
    };
    let Node { peers, alarms, .. } = state.node.status();
    let alarms_of =
        |peer: &NodeId| alarms.iter().filter(|raised| raised.peer == *peer).map(alarm_view).collect();
    let view = |peer: &Peer| peer_view(peer, letters_of(&peer.id), alarms_of(&peer.id));
    let peers = peers.iter().map(view).collect();
    Json(PeerList { peers })
}

/// `GET /api/v1/status`
pub(super) async fn status(
    State(state): State<ApiState>,
    query: Result<Query<StatusParams>, QueryRejection>,
) -> Result<Json<NodeStatus>, ApiError> {
    let query = params::query(query)?;
    let state_hash = if query.hash {
        let within = query.scope()?;
        let found = state.node.state_hash(&within).await.map_err(ApiError::store)?;
        Some(StateHashView {
            hash: hex::write(&found.hash),
            versions: found.versions,
            records: found.records,
        })
    } else {
        None
    };
    let status = state.node.status();
    let (alarms, equivocations) = (&status.alarms, &status.equivocations);
    let (alarms, equivocations) =
        (alarms.iter().map(alarm_view).collect(), equivocations.iter().map(equivocation_view).collect());
    let Node { node, boot, store, n, w, readiness, clock, position, open_writes, .. } = status;
    Ok(Json(NodeStatus {
        node: node.to_string(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        boot: boot.to_string(),
        store: store.to_string(),
        state: readiness.slug().to_owned(),
        n,
        w,
        log_position: position.0,
        config_version: hex::write(&state.node.config_version()),
        dots: clock.dot_count(),
        open_writes: open_writes as u64,
        alarms,
        equivocations,
        state_hash,
    }))
}

/// `GET /api/v1/origins/{node}`
pub(super) async fn origins(
    State(state): State<ApiState>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Json<OriginList>, ApiError> {
    let node = params::path(path)?;
    let clock = &state.store.snapshot().clock;
    let of_node = clock.iter().filter(|(origin, _)| origin.node.as_str() == node);
    let series = of_node.map(|(origin, seqs)| OriginSeries {
        epoch: origin.epoch.to_string(),
        last_seq: seqs.max().unwrap_or(0),
        dots: seqs.count(),
    });
    Ok(Json(OriginList { series: series.collect(), node }))
}

/// `POST /api/v1/admin/reload`: takes in changed settings, all or none, and tells what has changed.
pub(super) async fn reload(
    State(state): State<ApiState>,
    query: Result<Query<ReloadParams>, QueryRejection>,
) -> Result<Json<ReloadReport>, ApiError> {
    let query = params::query(query)?;
    let reloader = Arc::clone(&state.reloader);
    // It reads files.
    let reload = move || if query.dry_run { reloader.preview() } else { reloader.reload() };
    let Ok(result) = tokio::task::spawn_blocking(reload).await else {
        let message = "the reload was cut off: look into the log";
        return Err(ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "reload_failed", message));
    };
    result.map(Json).map_err(|faults| {
        let message = "nothing is changed: mend each fault and reload again";
        let faults: Vec<_> = faults.0.iter().map(ToString::to_string).collect();
        ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "settings_invalid", message).with("faults", faults)
    })
}

/// `GET /healthz`: the process answers.
pub(super) async fn healthz() -> Response {
    Json(json!({ "status": "ok" })).into_response()
}

/// `GET /readyz`: clients are served, or 503 with the reason.
pub(super) async fn readyz(State(state): State<ApiState>) -> Result<Response, ApiError> {
    match state.node.readiness() {
        Readiness::Ready => Ok(Json(json!({ "status": "ready" })).into_response()),
        readiness => Err(ApiError::not_serving(readiness)),
    }
}

/// `GET /metrics`
pub(super) async fn metrics(State(state): State<ApiState>) -> Result<Response, ApiError> {
    let text = state.meters.render().map_err(|error| {
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "metrics_failed", error.to_string())
    })?;
    Ok(([(header::CONTENT_TYPE, OPENMETRICS)], text).into_response())
}

fn alarm_view(raised: &AlarmStatus) -> AlarmView {
    AlarmView {
        peer: raised.peer.to_string(),
        alarm: raised.alarm.slug().to_owned(),
        count: raised.count,
        last_at: rfc3339(raised.last_at),
    }
}

fn equivocation_view(found: &EquivocationStatus) -> EquivocationView {
    EquivocationView {
        dot: DotText(found.dot.clone()),
        held: hex::write(&found.held.0),
        refused: hex::write(&found.refused.0),
        peer: found.peer.to_string(),
        at: rfc3339(found.at),
    }
}

fn peer_view(
    peer: &Peer,
    (dead_letters, discarded_letters): (u64, u64),
    alarms: Vec<AlarmView>,
) -> PeerStatus {
    PeerStatus {
        id: peer.id.to_string(),
        url: Some(peer.url.clone()),
        state: peer.state.slug().to_owned(),
        boot: peer.boot.map(|boot| boot.to_string()),
        live_lane_ops: peer.live_lane_ops as u64,
        lacks_dots: peer.backlog_ops,
        dead_letters,
        discarded_letters,
        clock_skew_ms: peer.clock_skew_ms,
        scope_mismatch: peer.scope_mismatch,
        must_rebootstrap: peer.must_rebootstrap.map(str::to_owned),
        last_failure: peer.last_error.map(str::to_owned),
        alarms,
    }
}
