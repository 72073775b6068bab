//! Causal sessions: a client carries what it has seen from node to node, and gets nothing older.
//!
//! Read-your-writes and monotonic reads (Terry et al. 1994, Session Guarantees for Weakly Consistent Replicated Data).

use std::time::Duration;

use federation_core::id::RecordKey;
use federation_core::record::Version;
use federation_wire::causal_token::{CausalToken, CausalTokenError, SignedCausalToken};
use tokio::time::Instant;

use crate::error::ReadError;
use crate::node::Node;

/// How often it is looked whether what a token names has come.
const LOOK_EVERY: Duration = Duration::from_millis(10);

impl Node {
    /// The token of a client that was shown these versions of a record.
    ///
    /// # Errors
    /// [`CausalTokenError::TooLarge`].
    pub fn causal_token<'a>(
        &self,
        key: RecordKey,
        shown: impl IntoIterator<Item = &'a Version>,
    ) -> Result<String, CausalTokenError> {
        self.inner.gate.sign_causal_token(CausalToken::of(key, shown)).to_text()
    }

    /// The token that a client hands in, which any node of the mesh may have given.
    ///
    /// # Errors
    /// [`CausalTokenError`].
    pub fn open_causal_token(&self, text: &str) -> Result<CausalToken, CausalTokenError> {
        let signed = SignedCausalToken::from_text(text)?;
        if !self.inner.gate.is_proven(&signed) {
            return Err(CausalTokenError::Unproven);
        }
        Ok(signed.token)
    }

    /// Waits, for as long as a write waits for its quorum, until this node has what the token names, or what has replaced
    /// it: a read that begins then shows nothing older than the client has seen. False if it has not come by then.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn is_caught_up(&self, token: &CausalToken) -> Result<bool, ReadError> {
        let deadline = Instant::now() + self.inner.config.ack_timeout;
        loop {
            if self.has_seen(token).await? {
                return Ok(true);
            }
            if Instant::now() >= deadline {
                return Ok(false);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn has_seen(&self, token: &CausalToken) -> Result<bool, ReadError> {
        // The clock first: what is in it by now, a read that follows shows.
        let snapshot = self.inner.snapshot();
        let missing: Vec<_> = token.versions.iter().filter(|dot| !snapshot.clock.contains(dot)).collect();
        if missing.is_empty() {
            return Ok(true);
        }
        // What has replaced a version may come before it is known that the version itself does not.
        let record = self.read(token.key.clone()).await?.record;
        Ok(missing.into_iter().all(|dot| record.covers(dot)))
    }
}
