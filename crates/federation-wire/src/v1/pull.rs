//! The pull: what the caller has; a stream of [`super::delivery::Delivery`] comes back, up to its completion.

use federation_core::limits::FRAME_BYTES_MAX;
use serde::{Deserialize, Serialize};

use super::clock_page::ClockPage;
use crate::codec::{self, CodecError};

/// Asks for what the caller lacks.
///
/// The page of its clock is joined with what the answering side knows of the caller in this boot: a clock that
/// takes several pages is told by hello first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullRequest {
    /// What the caller has.
    pub clock: ClockPage,
    /// How many bytes of ops it takes before it asks again.
    pub bytes_max: u64,
}

impl PullRequest {
    /// The message's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// The message that `bytes` are.
    ///
    /// # Errors
    /// [`CodecError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        codec::decode(bytes, FRAME_BYTES_MAX)
    }
}
