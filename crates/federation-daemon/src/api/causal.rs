//! `x-causal-token`: what a client has seen, as it carries it from node to node.

use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use federation_core::id::RecordKey;
use federation_core::record::Version;
use federation_net::WriteReceipt;
use federation_wire::causal_token::{CausalToken, CausalTokenError};

use crate::api::error::ApiError;
use crate::api::state::ApiState;

/// The header: `new`, or a token. Its answer has the token of what was shown or written.
pub(super) const CAUSAL_HEADER: &str = "x-causal-token";
/// Asks for a token, and hands none in.
const NEW: &str = "new";

/// What a request says of what its client has seen.
pub(super) enum Causal {
    /// Nothing, and no token is wanted.
    Unasked,
    /// Nothing, and a token is wanted.
    New,
    /// This, and a token is wanted.
    Since(Box<CausalToken>),
}

impl Causal {
    /// What the header says.
    ///
    /// # Errors
    /// 422 `invalid_causal_token`.
    pub(super) fn of(state: &ApiState, headers: &HeaderMap) -> Result<Self, ApiError> {
        let mut values = headers.get_all(CAUSAL_HEADER).iter();
        let Some(value) = values.next() else { return Ok(Self::Unasked) };
        if values.next().is_some() {
            return Err(invalid("the header stands there twice"));
        }
        match value.to_str() {
            Ok(NEW) => Ok(Self::New),
            Ok(text) => match state.node.open_causal_token(text) {
                Ok(token) => Ok(Self::Since(Box::new(token))),
                Err(error) => Err(invalid(error.to_string())),
            },
            Err(_) => Err(invalid(CausalTokenError::Malformed.to_string())),
        }
    }

    /// Waits until this node has what the token names.
    ///
    /// # Errors
    /// 503 `not_caught_up` if it has not come in time, and what reading fails with.
    pub(super) async fn wait(&self, state: &ApiState) -> Result<(), ApiError> {
        let Self::Since(token) = self else { return Ok(()) };
        if state.node.is_caught_up(token).await.map_err(ApiError::of_read)? {
            return Ok(());
        }
        let message = "this node has not got what the causal token names: try again, or another node";
        Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "not_caught_up", message))
    }

    /// The answer, with the token of whoever was shown these versions, if one is wanted. One that is too large for a header
    /// is left out.
    pub(super) fn answer<'a>(
        &self,
        state: &ApiState,
        key: &RecordKey,
        shown: impl IntoIterator<Item = &'a Version>,
        answer: impl IntoResponse,
    ) -> Response {
        let mut response = answer.into_response();
        if !matches!(self, Self::Unasked)
            && let Ok(token) = state.node.causal_token(key.clone(), shown)
            && let Ok(value) = HeaderValue::from_str(&token)
        {
            response.headers_mut().insert(CAUSAL_HEADER, value);
        }
        response
    }

    /// The answer to a write, as [`Causal::answer`].
    pub(super) fn answer_write(
        &self,
        state: &ApiState,
        receipt: &WriteReceipt,
        answer: impl IntoResponse,
    ) -> Response {
        let (op, hash) = (&receipt.written.op, receipt.written.sealed.op.hash);
        self.answer(state, &op.key, [&Version::of(op, hash)], answer)
    }

    /// A write with a token replaces what that names, so it must be of the same record.
    pub(super) fn of_another_record() -> ApiError {
        invalid("the causal token is of another record")
    }

    /// Nothing was there that could have been seen.
    ///
    /// # Errors
    /// 422 if a token is handed in.
    pub(super) fn of_nothing(self) -> Result<Self, ApiError> {
        match self {
            Self::Since(_) => {
                Err(invalid("a memory that is still to be made was seen by nobody: send \"new\""))
            }
            asked => Ok(asked),
        }
    }
}

fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::field(CAUSAL_HEADER, "invalid_causal_token", message)
}
