//! Why a request is refused: what the caller is told, and what the log is.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::http::StatusCode;
use federation_wire::api::authorization::CredentialFault;

use crate::api::error::ApiError;

/// Why a request is refused. The caller learns the slug alone; the log has the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No credential.
    Absent,
    /// What is no credential.
    Malformed(CredentialFault),
    /// A secret that no token has: it never had, or the token was revoked.
    Unknown,
    /// The token has expired.
    Expired,
    /// The token has not the right that the route needs.
    Right,
    /// The token does not reach the namespace.
    Namespace,
    /// The token does not write as that agent.
    Agent,
    /// The token, or all who come from its address, send too much.
    Rate {
        /// When to come back.
        retry_after: Duration,
    },
}

impl Refusal {
    /// What the caller is told.
    pub fn slug(self) -> &'static str {
        match self {
            Self::Absent | Self::Malformed(_) | Self::Unknown | Self::Expired => UNAUTHORIZED,
            Self::Right | Self::Namespace | Self::Agent => FORBIDDEN,
            Self::Rate { .. } => RATE_LIMITED,
        }
    }

    /// What the log is told.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Absent => "no_token",
            Self::Malformed(CredentialFault::Repeated) => "repeated",
            Self::Malformed(CredentialFault::Scheme) => "other_scheme",
            Self::Malformed(CredentialFault::Malformed) => "malformed",
            Self::Malformed(CredentialFault::Different) => "two_tokens",
            Self::Unknown => "unknown_token",
            Self::Expired => "expired",
            Self::Right => "right",
            Self::Namespace => "namespace",
            Self::Agent => "agent",
            Self::Rate { .. } => "rate",
        }
    }

    /// The answer: one for each slug, whatever the reason.
    pub fn answer(self) -> ApiError {
        let of = |status, message| ApiError::new(status, self.slug(), message);
        match self {
            Self::Absent | Self::Malformed(_) | Self::Unknown | Self::Expired => {
                of(StatusCode::UNAUTHORIZED, "send a valid token, as in Authorization: Bearer fed1_...")
            }
            Self::Right | Self::Namespace | Self::Agent => {
                of(StatusCode::FORBIDDEN, "the token does not allow this")
            }
            Self::Rate { retry_after } => {
                let whole = retry_after.as_secs() + u64::from(retry_after.subsec_nanos() > 0);
                of(StatusCode::TOO_MANY_REQUESTS, "too many requests: slow down, then try again")
                    .with("retry_after_secs", whole.max(1))
            }
        }
    }
}

const UNAUTHORIZED: &str = "unauthorized";
const FORBIDDEN: &str = "forbidden";
const RATE_LIMITED: &str = "rate_limited";

/// How many requests were refused, by slug.
#[derive(Debug, Default)]
pub struct RefusalCounts {
    unauthorized: AtomicU64,
    forbidden: AtomicU64,
    rate_limited: AtomicU64,
}

impl RefusalCounts {
    /// Counts one.
    pub(super) fn add(&self, refusal: Refusal) {
        let count = match refusal.slug() {
            UNAUTHORIZED => &self.unauthorized,
            FORBIDDEN => &self.forbidden,
            _ => &self.rate_limited,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// The counts, by slug.
    pub fn by_slug(&self) -> [(&'static str, u64); 3] {
        [(UNAUTHORIZED, &self.unauthorized), (FORBIDDEN, &self.forbidden), (RATE_LIMITED, &self.rate_limited)]
            .map(|(slug, count)| (slug, count.load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_tell_no_more_than_their_slug() {
        let same = |refusals: &[Refusal]| {
            for refusal in refusals {
                assert_eq!(refusal.answer(), refusals[0].answer(), "{refusal:?}");
            }
        };
        same(&[
            Refusal::Absent,
            Refusal::Malformed(CredentialFault::Different),
            Refusal::Unknown,
            Refusal::Expired,
        ]);
        same(&[Refusal::Right, Refusal::Namespace, Refusal::Agent]);
    }

    #[test]
    fn refusals_are_counted_by_slug() {
        let counts = RefusalCounts::default();
        for refusal in [Refusal::Absent, Refusal::Expired, Refusal::Agent] {
            counts.add(refusal);
        }
        counts.add(Refusal::Rate { retry_after: Duration::ZERO });
        assert_eq!(counts.by_slug(), [(UNAUTHORIZED, 2), (FORBIDDEN, 1), (RATE_LIMITED, 1)]);
    }
}
