//! Answers that say what their sender did not.

use bytes::Bytes;
use federation_core::id::OpHash;
use federation_wire::frame::{self, FrameKind, ReceivedFrame, Route};
use federation_wire::keys::NodeKey;
use federation_wire::v1::ack::AckOutcome;
use federation_wire::v1::hello::{HelloAnswer, RebootstrapReason};
use federation_wire::v1::push::{Completion, PushAnswer};

const SIGNATURE_BYTES: usize = 64;
/// Nobody's.
const SECRET: [u8; 32] = [7; 32];

/// The answer to a page as a node gives it that says of each op that it holds another one; signed by `key`, its own. None
/// if it is no such answer.
pub(super) fn drifting(bytes: &Bytes, key: &NodeKey) -> Option<Bytes> {
    let received = ReceivedFrame::parse(bytes).ok()?;
    let header = received.header();
    let is_answer = matches!(header.envelope.kind, FrameKind::Answer { .. });
    if !is_answer || header.envelope.route != Route::Push {
        return None;
    }
    let until = bytes.len().checked_sub(SIGNATURE_BYTES)?;
    let mut said =
        PushAnswer::from_bytes(bytes.get(until.checked_sub(header.body.len as usize)?..until)?).ok()?;
    for ack in &mut said.acks {
        ack.hash = OpHash([0xdd; 32]);
    }
    Some(Bytes::from(frame::seal(key, header.envelope.clone(), &said.to_bytes())))
}

/// The answer with a better one in its place, in everything but its signature as it should be: all that was refused is
/// acknowledged, whoever said hello has lost its disk. None if it is no answer of these.
pub(super) fn forged(bytes: &Bytes) -> Option<Bytes> {
    let received = ReceivedFrame::parse(bytes).ok()?;
    let header = received.header();
    if !matches!(header.envelope.kind, FrameKind::Answer { .. }) {
        return None;
    }
    let until = bytes.len().checked_sub(SIGNATURE_BYTES)?;
    let body = bytes.get(until.checked_sub(header.body.len as usize)?..until)?;
    let body = match header.envelope.route {
        Route::Hello => {
            let mut said = HelloAnswer::from_bytes(body).ok()?;
            said.hello.must_rebootstrap = Some(RebootstrapReason::NoHistory);
            said.to_bytes()
        }
        Route::Push => {
            let mut said = PushAnswer::from_bytes(body).ok()?;
            for ack in &mut said.acks {
                ack.outcome = AckOutcome::Applied;
            }
            said.completion = said.completion.map(|_| Completion::Merged);
            said.to_bytes()
        }
        _ => return None,
    };
    let key = NodeKey::from_seed(&SECRET);
    let mut sealed = frame::seal(&key, header.envelope.clone(), &body);
    let own = key.id().0;
    let at = sealed.windows(own.len()).position(|window| window == own)?;
    sealed.get_mut(at..at + own.len())?.copy_from_slice(&header.key_id.0);
    Some(Bytes::from(sealed))
}
