//! Who is let in, and to what: every decision about a client's request is made here.

mod access;
mod caller;
mod credentials;
mod rate;
mod refusal;
mod step;

pub use access::{Access, LastToken};
pub use caller::{AGENT_FIELD, Caller};
pub use rate::{Buckets, Limited};
pub use refusal::{Refusal, RefusalCounts};
pub use step::{Step, step_over};

use std::net::IpAddr;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;

use crate::api::body;
use crate::api::endpoint::Endpoint;
use crate::api::error::ApiError;
use crate::api::state::ApiState;

/// Where a request comes from; put there by the listener.
#[derive(Clone, Copy, Debug)]
pub struct ClientAddress(pub IpAddr);

/// Lets a request in with what its caller may do, or refuses it.
pub(super) async fn authorize(
    State((state, endpoint)): State<(ApiState, Endpoint)>,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    // Without an address (no listener of ours leaves it out) all share one allowance.
    let address = request.extensions().get::<ClientAddress>().map_or(IpAddr::from([0; 4]), |at| at.0);
    match state.access.admit(endpoint, address, request.headers()) {
        Ok(caller) => {
            if let Some(last) = request.extensions().get::<LastToken>() {
                last.set(caller.token().cloned());
            }
            credentials::remove(request.headers_mut());
            request.extensions_mut().insert(caller);
            Ok(next.run(request).await)
        }
        Err(error) => {
            body::drain(request.body_mut()).await;
            Err(error)
        }
    }
}
