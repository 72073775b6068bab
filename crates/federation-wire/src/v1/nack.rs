//! The refusal of a request.

use federation_core::id::BootId;
use federation_core::time::WallMs;
use serde::{Deserialize, Serialize};

use super::types::Wire;
use crate::codec::{self, CodecError};
use crate::slug::Slug;

const NACK_BYTES_MAX: usize = 64;

/// The refusal of a request: a word, and what helps the sender to do better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nack {
    /// Why.
    pub slug: Slug,
    /// For `wrong_boot`: the receiver's boot.
    pub current_boot: Option<BootId>,
    /// For `stale`: the receiver's time.
    pub now: Option<WallMs>,
    /// For `too_large` and `nonce_window_full`: the limit.
    pub limit: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct Dto {
    slug: Slug,
    current_boot: Option<Wire<BootId>>,
    now: Option<Wire<WallMs>>,
    limit: Option<u64>,
}

impl Nack {
    /// The word alone.
    pub fn of(slug: Slug) -> Self {
        Self { slug, current_boot: None, now: None, limit: None }
    }

    /// The message's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        codec::encode(&Dto {
            slug: self.slug,
            current_boot: self.current_boot.map(Wire),
            now: self.now.map(Wire),
            limit: self.limit,
        })
    }

    /// The message that `bytes` are.
    ///
    /// # Errors
    /// [`CodecError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        let dto: Dto = codec::decode(bytes, NACK_BYTES_MAX)?;
        Ok(Self {
            slug: dto.slug,
            current_boot: dto.current_boot.map(|Wire(boot)| boot),
            now: dto.now.map(|Wire(now)| now),
            limit: dto.limit,
        })
    }
}
