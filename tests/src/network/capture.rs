//! What somebody who listens on the network has seen of late.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use federation_core::id::NodeId;
use federation_wire::frame::Route;

/// Requests that are kept.
const FRAMES_MAX: usize = 256;
/// Bytes of the requests that are kept.
const BYTES_MAX: usize = 8 * 1024 * 1024;
/// What a node answers to a frame that it handled.
const OK: u16 = 200;

/// A request that has reached its node.
#[derive(Clone, Debug)]
pub struct CapturedFrame {
    /// By which route.
    pub route: Route,
    /// Who sent it.
    pub from: NodeId,
    /// The node that it reached.
    pub to: NodeId,
    /// Its bytes.
    pub frame: Bytes,
    taken: Taken,
}

impl CapturedFrame {
    pub(super) fn new(route: Route, from: NodeId, to: NodeId, frame: Bytes, taken: Taken) -> Self {
        Self { route, from, to, frame, taken }
    }

    /// Whether the node handled it, by its answer: then it must never handle it again. What it refused, before it
    /// had looked at the nonce, it may still take when it comes late.
    pub fn is_taken(&self) -> bool {
        self.taken.0.load(Ordering::Relaxed) > 0
    }
}

/// How often one request was handled.
#[derive(Clone, Debug, Default)]
pub(super) struct Taken(Arc<AtomicU32>);

impl Taken {
    /// Notes an answer; gives whether the request was handled for the second time by that.
    pub(super) fn answered(&self, status: u16) -> bool {
        status == OK && self.0.fetch_add(1, Ordering::Relaxed) > 0
    }
}

/// The last requests, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Ring {
    frames: VecDeque<CapturedFrame>,
    bytes: usize,
}

impl Ring {
    pub(super) fn push(&mut self, frame: CapturedFrame) {
        self.bytes += frame.frame.len();
        self.frames.push_back(frame);
        while self.frames.len() > FRAMES_MAX || self.bytes > BYTES_MAX {
            let Some(oldest) = self.frames.pop_front() else { break };
            self.bytes -= oldest.frame.len();
        }
    }

    pub(super) fn frames(&self) -> Vec<CapturedFrame> {
        self.frames.iter().cloned().collect()
    }
}
