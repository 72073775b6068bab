//! Reading what clients send: media type, size and time bounded.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};

use crate::api::error::ApiError;

/// Bytes of a body with one memory: one at all its limits with a vector of 8192 numbers takes under 600 KiB.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;

/// Bytes of a refused body that are read all the same.
const DRAIN_BYTES_MAX: usize = 8 * BODY_BYTES_MAX;
/// How long a refused body is read.
const DRAIN_TIME_MAX: Duration = Duration::from_millis(500);

/// What a body is, by its media type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Media {
    /// One JSON value.
    Json,
    /// One JSON value per line.
    Ndjson,
}

impl Media {
    /// The media type that a request names.
    ///
    /// # Errors
    /// 415 if it names none, or another than the `allowed` ones.
    pub fn of(headers: &HeaderMap, allowed: &[Media]) -> Result<Self, ApiError> {
        let named = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
        let essence = named.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
        let media = match essence.as_str() {
            "application/json" => Some(Self::Json),
            "application/x-ndjson" | "application/ndjson" => Some(Self::Ndjson),
            _ => None,
        };
        media.filter(|media| allowed.contains(media)).ok_or_else(|| {
            let choices: Vec<_> = allowed.iter().map(|media| media.name()).collect();
            let message = format!("the content type must be {}, it is {named:?}", choices.join(" or "));
            ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message)
        })
    }

    fn name(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Ndjson => "application/x-ndjson",
        }
    }
}

/// Reads a body to its end.
///
/// # Errors
/// 413 with the limit if it is larger than `limit` bytes, told from its length where that is given; 408 if it takes
/// longer than `deadline`; 400 if it breaks off.
pub async fn read(
    headers: &HeaderMap,
    mut body: Body,
    limit: usize,
    deadline: Duration,
) -> Result<Bytes, ApiError> {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    if length.and_then(|length| length.parse::<u64>().ok()).is_some_and(|length| length > limit as u64) {
        drain(&mut body).await;
        return Err(too_large(limit));
    }
    match tokio::time::timeout(deadline, Limited::new(&mut body, limit).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.downcast_ref::<LengthLimitError>().is_some() => {
            drain(&mut body).await;
            Err(too_large(limit))
        }
        Ok(Err(_)) => Err(broken()),
        Err(_) => Err(slow(deadline)),
    }
}

/// Takes a refused body off the wire, within bounds: a client that is still sending when the connection closes may
/// see the reset and not the answer.
pub(super) async fn drain(body: &mut Body) {
    let mut left = DRAIN_BYTES_MAX;
    let all = async {
        while let Some(Ok(frame)) = body.frame().await {
            left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
            if left == 0 {
                break;
            }
        }
    };
    // Over time or not, the answer is the same.
    let _ = tokio::time::timeout(DRAIN_TIME_MAX, all).await;
}

/// 413 with the limit.
pub fn too_large(limit: usize) -> ApiError {
    let message = format!("the body is larger than {limit} bytes");
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message).with("limit_bytes", limit)
}

/// 408 with the deadline.
pub fn slow(deadline: Duration) -> ApiError {
    let deadline_ms = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
    let message = format!("the body did not arrive within {deadline_ms} ms");
    ApiError::new(StatusCode::REQUEST_TIMEOUT, "slow_body", message).with("deadline_ms", deadline_ms)
}

/// 400: the body broke off.
pub fn broken() -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, "body_broken", "the body broke off before its end")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_types_are_read_without_their_parameters() {
        let check = |text: &str, expect: Option<Media>| {
            let mut headers = HeaderMap::new();
            if !text.is_empty() {
                headers.insert(header::CONTENT_TYPE, text.parse().unwrap());
            }
            let media = Media::of(&headers, &[Media::Json, Media::Ndjson]);
            assert_eq!(media.as_ref().ok(), expect.as_ref(), "{text}");
            if let Err(error) = media {
                assert_eq!(error.status.as_u16(), 415);
            }
        };
        check("application/json", Some(Media::Json));
        check("Application/JSON; charset=utf-8", Some(Media::Json));
        check("application/x-ndjson", Some(Media::Ndjson));
        check("text/plain", None);
        check("", None);
    }

    #[tokio::test]
    async fn a_body_is_bounded_in_size() {
        let headers = HeaderMap::new();
        let read = |bytes: usize| read(&headers, Body::from(vec![b'x'; bytes]), 10, Duration::from_secs(1));
        assert_eq!(read(10).await.unwrap().len(), 10);
        assert_eq!(read(11).await.unwrap_err().status.as_u16(), 413);
    }
}
