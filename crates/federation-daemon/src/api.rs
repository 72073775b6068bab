//! The client API: routes, what bounds them, and what a request that fits no route gets.

mod admin;
pub mod body;
mod bulk;
pub mod error;
pub mod guard;
mod memories;
mod params;
pub mod server;
pub mod state;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::{get, post};

pub use server::ClientServer;
pub use state::{ApiState, RequestLimits};

use crate::api::error::ApiError;

/// All routes of the client listener.
pub fn router(state: ApiState) -> Router {
    let api = Router::new()
        .route("/api/v1/memories", post(memories::create).get(memories::list))
        .route("/api/v1/memories/bulk", post(bulk::create_many))
        .route("/api/v1/memories/{id}", get(memories::read).put(memories::update).delete(memories::delete))
        .route("/api/v1/ops/{node}/{epoch}/{seq}", get(admin::op))
        .route("/api/v1/peers", get(admin::peers))
        .route("/api/v1/status", get(admin::status))
        .layer(from_fn_with_state(state.clone(), shed_load));
    // Whoever watches the node gets through also when clients do not.
    let watch = Router::new()
        .route("/healthz", get(admin::healthz))
        .route("/readyz", get(admin::readyz))
        .route("/metrics", get(admin::metrics));
    api.merge(watch).fallback(no_route).method_not_allowed_fallback(wrong_method).with_state(state)
}

/// Serves a request if there is room, and says so at once if there is none.
async fn shed_load(
    State(state): State<ApiState>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let Ok(_permit) = state.permits.try_acquire() else {
        let message = "this node serves as many requests as it may: try again, or another node";
        return Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", message));
    };
    Ok(next.run(request).await)
}

async fn no_route(request: Request) -> ApiError {
    let message = format!("there is no route {}", request.uri().path());
    ApiError::new(StatusCode::NOT_FOUND, "no_such_route", message)
}

async fn wrong_method(request: Request) -> ApiError {
    let message = format!("{} is not a method of {}", request.method(), request.uri().path());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
}
