//! The client API: routes, what bounds them, and what a request that fits no route gets.

mod admin;
pub mod auth;
pub mod body;
mod bulk;
mod causal;
mod conflicts;
mod dlq;
pub mod endpoint;
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
use axum::routing::{MethodRouter, on};

pub use server::ClientServer;
pub use state::{ApiState, RequestLimits};

use crate::api::endpoint::{Endpoint, Rule};
use crate::api::error::ApiError;

/// All routes of the client listener: those of the table, each behind what it asks of a caller.
pub fn router(state: ApiState) -> Router {
    let routes = Endpoint::ALL.iter().fold(Router::new(), |router, endpoint| {
        let guarded = match endpoint.rule() {
            Rule::Open => handler(*endpoint),
            Rule::All(_) | Rule::Any(_) => {
                let guard = from_fn_with_state((state.clone(), *endpoint), auth::authorize);
                shed(*endpoint, &state).route_layer(guard)
            }
        };
        router.route(endpoint.path(), guarded)
    });
    routes.fallback(no_route).method_not_allowed_fallback(wrong_method).with_state(state)
}

fn handler(endpoint: Endpoint) -> MethodRouter<ApiState> {
    let filter = endpoint.filter();
    match endpoint {
        Endpoint::Create => on(filter, memories::create),
        Endpoint::List => on(filter, memories::list),
        Endpoint::Bulk => on(filter, bulk::create_many),
        Endpoint::Read => on(filter, memories::read),
        Endpoint::Update => on(filter, memories::update),
        Endpoint::Delete => on(filter, memories::delete),
        Endpoint::Conflicts => on(filter, conflicts::list),
        Endpoint::Conflict => on(filter, conflicts::show),
        Endpoint::Resolve => on(filter, conflicts::resolve),
        Endpoint::Op => on(filter, admin::op),
        Endpoint::Peers => on(filter, admin::peers),
        Endpoint::Letters => on(filter, dlq::list),
        Endpoint::Letter => on(filter, dlq::show),
        Endpoint::RetryLetters => on(filter, dlq::retry_all),
        Endpoint::RetryLetter => on(filter, dlq::retry),
        Endpoint::DiscardLetter => on(filter, dlq::discard),
        Endpoint::Origins => on(filter, admin::origins),
        Endpoint::Status => on(filter, admin::status),
        Endpoint::Reload => on(filter, admin::reload),
        Endpoint::Healthz => on(filter, admin::healthz),
        Endpoint::Readyz => on(filter, admin::readyz),
        Endpoint::Metrics => on(filter, admin::metrics),
    }
}

/// The handler, with a bound on how many requests are served at once. Whoever watches the node gets through also when
/// others do not.
fn shed(endpoint: Endpoint, state: &ApiState) -> MethodRouter<ApiState> {
    match endpoint {
        Endpoint::Metrics => handler(endpoint),
        _ => handler(endpoint).route_layer(from_fn_with_state(state.clone(), shed_load)),
    }
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
