//! What a client gets instead of what it asked for: one shape, `{"error": slug, "message": ..., ...}`.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use federation_core::decide::WriteRefusal;
use federation_core::port::store::StoreError;
use federation_net::error::{QuorumNotMet, ReadError, WriteError};
use federation_net::status::Readiness;
use federation_wire::api::{DotText, ErrorBody, Fault, QuorumNotMetBody};

/// Seconds after which a client that got a 503 may try again.
const RETRY_AFTER_SECS: u64 = 1;

/// An answer that is not what was asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct ApiError {
    /// The HTTP status.
    pub status: StatusCode,
    /// The body.
    pub body: Box<ErrorAnswer>,
}

/// The body of such an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum ErrorAnswer {
    /// Slug, message, fields.
    Plain(ErrorBody),
    /// Written, not promised: the contract's keys and ours, no others.
    QuorumNotMet(QuorumNotMetBody),
}

impl ApiError {
    /// An error with a slug and a message for people.
    pub fn new(status: StatusCode, slug: &str, message: impl Into<String>) -> Self {
        Self { status, body: Box::new(ErrorAnswer::Plain(ErrorBody::new(slug, message))) }
    }

    /// Adds a field to the body.
    #[must_use]
    pub fn with(mut self, field: &str, value: impl Into<serde_json::Value>) -> Self {
        if let ErrorAnswer::Plain(body) = &mut *self.body {
            body.fields.insert(field.to_owned(), value.into());
        }
        self
    }

    /// One field is faulty.
    pub fn field(field: &str, slug: &str, message: impl Into<String>) -> Self {
        Self::faults(&[Fault::new(field, slug, message)])
    }

    /// Fields are faulty: 422. With one fault its own slug and field stand at the top, too.
    pub fn faults(faults: &[Fault]) -> Self {
        let mut body = ErrorBody::of_faults(faults);
        if let [only] = faults {
            body.error.clone_from(&only.error);
            body = body.with("field", only.field.clone());
        }
        Self { status: StatusCode::UNPROCESSABLE_ENTITY, body: Box::new(ErrorAnswer::Plain(body)) }
    }

    /// JSON that could not be read: 400 if it is not JSON, 422 if it is not what is asked for.
    pub fn json(body: ErrorBody) -> Self {
        let status = match body.error.as_str() {
            "malformed_json" => StatusCode::BAD_REQUEST,
            _ => StatusCode::UNPROCESSABLE_ENTITY,
        };
        Self { status, body: Box::new(ErrorAnswer::Plain(body)) }
    }

    /// No such memory.
    pub fn missing(id: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "there is no such memory").with("id", id)
    }

    /// The memory was deleted.
    pub fn deleted(id: &str) -> Self {
        Self::new(StatusCode::GONE, "deleted", "the memory was deleted").with("id", id)
    }

    /// What the writer had read has been replaced.
    pub fn changed(id: &str) -> Self {
        Self::refusal(&WriteRefusal::Changed, id)
    }

    /// Stored bytes that this node cannot read.
    pub fn unreadable(id: &str) -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "record_unreadable",
            "what is stored under this id is not a memory that this node can read",
        )
        .with("id", id)
    }

    /// What came of a write of the record `id` that was not answered OK.
    pub fn of_write(error: WriteError, id: &str) -> Self {
        match error {
            WriteError::Refused(refusal) => Self::refusal(&refusal, id),
            WriteError::NotServing(readiness) => Self::not_serving(readiness),
            WriteError::Store(error) => Self::store(error),
            WriteError::Busy { open, limit } => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", error.to_string())
                    .with("open", open)
                    .with("limit", limit)
            }
            WriteError::OutOfScope => Self::field(
                "namespace",
                "namespace_out_of_scope",
                "this node does not keep the namespace: ask one that does",
            ),
            WriteError::InsufficientPeers { needed, n } => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "insufficient_peers", error.to_string())
                    .with("needed", needed)
                    .with("n", n)
            }
            WriteError::QuorumNotMet(not_met) => Self::quorum_not_met(*not_met, id),
        }
    }

    /// What came of a read that was not answered.
    pub fn of_read(error: ReadError) -> Self {
        match error {
            ReadError::NotServing(readiness) => Self::not_serving(readiness),
            ReadError::Store(error) => Self::store(error),
        }
    }

    /// Clients are not served now.
    pub fn not_serving(readiness: Readiness) -> Self {
        let error = Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            readiness.slug(),
            "this node does not serve clients now: try again, or another node",
        );
        match readiness {
            Readiness::CatchingUp { drained, needed } => {
                error.with("drained", drained).with("needed", needed)
            }
            _ => error,
        }
    }

    /// The store did not do what it was asked.
    pub fn store(error: StoreError) -> Self {
        let (status, slug) = match error {
            StoreError::Busy => (StatusCode::SERVICE_UNAVAILABLE, "busy"),
            StoreError::DiskFull => (StatusCode::SERVICE_UNAVAILABLE, "disk_full"),
            StoreError::InDoubt => (StatusCode::INTERNAL_SERVER_ERROR, "write_in_doubt"),
            StoreError::ReadOnly => (StatusCode::SERVICE_UNAVAILABLE, "store_read_only"),
            StoreError::Unreadable => (StatusCode::INTERNAL_SERVER_ERROR, "store_unreadable"),
            StoreError::Closed => (StatusCode::SERVICE_UNAVAILABLE, "stopping"),
        };
        Self::new(status, slug, error.to_string())
    }

    /// The slug.
    pub fn slug(&self) -> &str {
        match &*self.body {
            ErrorAnswer::Plain(body) => &body.error,
            ErrorAnswer::QuorumNotMet(body) => &body.error,
        }
    }

    /// Seconds after which it is worth to try again: a 429 says it in its body, too.
    fn retry_after(&self) -> Option<u64> {
        match (self.status, &*self.body) {
            (StatusCode::SERVICE_UNAVAILABLE, _) => Some(RETRY_AFTER_SECS),
            (StatusCode::TOO_MANY_REQUESTS, ErrorAnswer::Plain(body)) => {
                body.fields.get("retry_after_secs").and_then(serde_json::Value::as_u64)
            }
            _ => None,
        }
    }

    fn refusal(refusal: &WriteRefusal, id: &str) -> Self {
        let conflict = |slug| Self::new(StatusCode::CONFLICT, slug, refusal.to_string()).with("id", id);
        match refusal {
            WriteRefusal::Exists { key } => {
                conflict("already_exists").with("namespace", key.namespace.as_str())
            }
            WriteRefusal::Missing => Self::missing(id),
            WriteRefusal::Deleted => Self::deleted(id),
            WriteRefusal::Changed => conflict("changed"),
            WriteRefusal::TooManySiblings { count, limit } => {
                conflict("too_many_siblings").with("count", *count).with("limit", *limit)
            }
            WriteRefusal::ContextTooLarge { ranges, limit } => {
                conflict("context_too_large").with("ranges", *ranges).with("limit", *limit)
            }
            WriteRefusal::TooLarge { limit_bytes, .. } => {
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", refusal.to_string())
                    .with("limit_bytes", *limit_bytes)
            }
            WriteRefusal::NoEpoch => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "starting", refusal.to_string())
            }
        }
    }

    fn quorum_not_met(not_met: QuorumNotMet, id: &str) -> Self {
        let peers = not_met.peers.iter().map(|(peer, outcome)| (peer.to_string(), outcome.slug().to_owned()));
        let body = QuorumNotMetBody {
            error: QuorumNotMetBody::ERROR.to_owned(),
            got: not_met.got,
            needed: not_met.needed,
            reason: not_met.reason.slug().to_owned(),
            id: id.to_owned(),
            dot: DotText(not_met.dot),
            peers: peers.collect(),
            durable: QuorumNotMetBody::DURABLE.to_owned(),
        };
        Self { status: StatusCode::SERVICE_UNAVAILABLE, body: Box::new(ErrorAnswer::QuorumNotMet(body)) }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = self.status;
        let retry_after = self.retry_after();
        let mut response = match *self.body {
            ErrorAnswer::Plain(body) => (status, Json(body)).into_response(),
            ErrorAnswer::QuorumNotMet(body) => (status, Json(body)).into_response(),
        };
        if let Some(seconds) = retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_fault_stands_at_the_top_and_several_in_a_list() {
        let one = ApiError::field("title", "empty", "title is empty");
        assert_eq!((one.status.as_u16(), one.slug()), (422, "empty"));
        let ErrorAnswer::Plain(body) = *one.body else { panic!("a plain body") };
        assert_eq!(body.fields.get("field").and_then(|f| f.as_str()), Some("title"));
        let two = [Fault::new("title", "empty", "a"), Fault::new("id", "invalid_id", "b")];
        assert_eq!(ApiError::faults(&two).slug(), "validation_failed");
    }

    #[test]
    fn a_503_says_when_to_come_back() {
        let response = ApiError::store(StoreError::DiskFull).into_response();
        assert_eq!(response.status().as_u16(), 503);
        assert!(response.headers().contains_key(header::RETRY_AFTER));
        let response = ApiError::missing("x").into_response();
        assert!(!response.headers().contains_key(header::RETRY_AFTER));
    }
}
