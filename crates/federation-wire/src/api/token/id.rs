//! The public name of a token.

use std::fmt;
use std::sync::Arc;

use federation_core::limits::TOKEN_ID_BYTES_MAX;

/// The public name of a token: 1 to 64 of `[A-Za-z0-9._-]`. It stands in logs.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenId(Arc<str>);

/// The text is not a token's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a token's id is 1 to {TOKEN_ID_BYTES_MAX} of [A-Za-z0-9._-]")]
pub struct TokenIdError;

impl TokenId {
    /// Validates and wraps `text`.
    ///
    /// # Errors
    /// [`TokenIdError`].
    pub fn new(text: &str) -> Result<Self, TokenIdError> {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if text.is_empty() || text.len() > TOKEN_ID_BYTES_MAX || !text.bytes().all(is_allowed) {
            return Err(TokenIdError);
        }
        Ok(Self(Arc::from(text)))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}
