//! The headers that hold a client's secret.

use axum::http::{HeaderMap, HeaderValue, header};
use federation_wire::api::authorization::{API_KEY_HEADER, CredentialFault, presented};
use federation_wire::api::token::ClientSecret;

/// The secret that the headers present.
pub(super) fn read(headers: &HeaderMap) -> Result<Option<ClientSecret>, CredentialFault> {
    let authorization = headers.get_all(header::AUTHORIZATION).iter().map(HeaderValue::as_bytes);
    let api_key = headers.get_all(API_KEY_HEADER).iter().map(HeaderValue::as_bytes);
    presented(authorization, api_key)
}

/// Takes the secret out, so that nothing behind this can show it.
pub(super) fn remove(headers: &mut HeaderMap) {
    headers.remove(header::AUTHORIZATION);
    headers.remove(API_KEY_HEADER);
}
