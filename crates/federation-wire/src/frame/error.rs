//! Why a frame is not taken.

use federation_core::id::BootId;
use federation_core::time::WallMs;

use crate::slug::Slug;
use crate::v1::nack::Nack;

/// Why a frame is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The bytes are not a frame.
    #[error("the frame is malformed")]
    Malformed,
    /// The frame or its header is larger than what is taken.
    #[error("{bytes} bytes are more than the limit of {limit_bytes}")]
    TooLarge {
        /// Its size, as far as it says.
        bytes: usize,
        /// The limit.
        limit_bytes: usize,
    },
    /// There is no signature.
    #[error("the frame is not signed")]
    SignatureMissing,
    /// What stands behind the body is not 64 bytes.
    #[error("the signature is not 64 bytes long")]
    SignatureMalformed,
    /// The signature is not the sender's over this header.
    #[error("the signature is not valid")]
    SignatureInvalid,
    /// The body is not the one that was signed.
    #[error("the body is not the one that was signed")]
    BodyChanged,
    /// The frame is meant for another node.
    #[error("the frame is meant for another node")]
    WrongRecipient,
    /// The frame was signed for another route, or is no request.
    #[error("the frame was signed for another route")]
    WrongRoute,
    /// The frame's time is outside the window.
    #[error("the frame is of {sent_at:?}, it is {now:?} here")]
    Stale {
        /// The frame's time.
        sent_at: WallMs,
        /// This node's time.
        now: WallMs,
    },
    /// The frame is meant for another boot of this node.
    #[error("the frame is meant for another boot, this one is {current}")]
    WrongBoot {
        /// This node's boot.
        current: BootId,
    },
    /// The frame has been here before.
    #[error("the frame has been here before")]
    Replayed,
    /// As many frames as are remembered came within the window.
    #[error("more than {limit} frames came within the window")]
    NonceWindowFull {
        /// How many are remembered.
        limit: usize,
    },
    /// The frame does not answer the request it came back for.
    #[error("the answer does not belong to the request")]
    WrongAnswer,
}

impl FrameError {
    /// The word for it.
    pub fn slug(self) -> Slug {
        match self {
            Self::Malformed => Slug::Malformed,
            Self::TooLarge { .. } => Slug::TooLarge,
            Self::SignatureMissing => Slug::SignatureMissing,
            Self::SignatureMalformed => Slug::SignatureMalformed,
            Self::SignatureInvalid | Self::BodyChanged => Slug::SignatureInvalid,
            Self::WrongRecipient => Slug::WrongRecipient,
            Self::WrongRoute => Slug::WrongRoute,
            Self::Stale { .. } => Slug::Stale,
            Self::WrongBoot { .. } => Slug::WrongBoot,
            Self::Replayed => Slug::Replayed,
            Self::NonceWindowFull { .. } => Slug::NonceWindowFull,
            Self::WrongAnswer => Slug::WrongAnswer,
        }
    }

    /// The refusal to send: the word, and what helps the sender to do better.
    pub fn nack(self) -> Nack {
        let nack = Nack::of(self.slug());
        match self {
            Self::TooLarge { limit_bytes, .. } => Nack { limit: Some(limit_bytes as u64), ..nack },
            Self::NonceWindowFull { limit } => Nack { limit: Some(limit as u64), ..nack },
            Self::Stale { now, .. } => Nack { now: Some(now), ..nack },
            Self::WrongBoot { current } => Nack { current_boot: Some(current), ..nack },
            _ => nack,
        }
    }
}
