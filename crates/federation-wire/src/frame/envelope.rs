//! The checks on an envelope that need no key.

use federation_core::id::{BootId, NodeId};
use federation_core::limits::FRAME_AGE_MAX;
use federation_core::planted::{Defect, is_planted};
use federation_core::time::WallMs;

use super::error::FrameError;
use super::header::{Envelope, FrameKind, Route};

/// Where and when a request arrived.
#[derive(Clone, Copy, Debug)]
pub struct Addressed<'a> {
    /// This node.
    pub node: &'a NodeId,
    /// Its boot.
    pub boot: BootId,
    /// The route by which the request came.
    pub route: Route,
    /// The time now.
    pub now: WallMs,
}

/// Checks that a request is meant for this boot of this node, on this route, now.
///
/// A first hello names no boot of its recipient: it is refused with the current one, which the sender then names.
/// So nothing that was recorded before a restart is taken after it.
///
/// # Errors
/// [`FrameError::WrongRecipient`], [`FrameError::WrongRoute`], [`FrameError::WrongBoot`], [`FrameError::Stale`].
pub fn check_request(envelope: &Envelope, here: &Addressed<'_>) -> Result<(), FrameError> {
    if envelope.recipient != *here.node {
        return Err(FrameError::WrongRecipient);
    }
    if envelope.route != here.route || envelope.kind != FrameKind::Request {
        return Err(FrameError::WrongRoute);
    }
    // Without any boot there is none to be told of, and no hello would ever be heard.
    if is_planted(Defect::AcceptReplay) && envelope.recipient_boot != BootId(0) {
        return Ok(());
    }
    if envelope.recipient_boot != here.boot {
        return Err(FrameError::WrongBoot { current: here.boot });
    }
    if envelope.sent_at.0.abs_diff(here.now.0) > FRAME_AGE_MAX.0 {
        return Err(FrameError::Stale { sent_at: envelope.sent_at, now: here.now });
    }
    Ok(())
}

/// Checks that a frame came back for `request`: from its recipient, to its sender, naming its nonce, which is
/// what makes it fresh. From which boot of the recipient it came is for the caller to compare.
///
/// # Errors
/// [`FrameError::WrongAnswer`].
pub fn check_answer(answer: &Envelope, request: &Envelope) -> Result<(), FrameError> {
    let belongs = answer.kind.in_reply_to() == Some(request.nonce)
        && answer.sender == request.recipient
        && answer.recipient == request.sender
        && answer.recipient_boot == request.sender_boot
        && answer.route == request.route;
    if belongs { Ok(()) } else { Err(FrameError::WrongAnswer) }
}
