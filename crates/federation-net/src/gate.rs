//! Where frames leave and enter: every frame is signed, every frame is verified, by these functions and no others.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use federation_core::dot::Dot;
use federation_core::id::{BootId, KeyId, NodeId};
use federation_core::port::clock::WallClock;
use federation_core::scope::Scope;
use federation_wire::frame::{
    self, Addressed, Envelope, FrameError, FrameKind, Nonce, NonceWindow, ReceivedFrame, Route, check_answer,
    check_request,
};
use federation_wire::identity::{Directory, KeyRefusal};
use federation_wire::keys::{NodeKey, PublicKey};
use federation_wire::slug::Slug;
use federation_wire::v1::nack::Nack;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::inner::lock;
use crate::transport::{Answer, Frames};

/// Seals what leaves and opens what enters.
pub(crate) struct Gate {
    node: NodeId,
    boot: BootId,
    key: Arc<NodeKey>,
    directory: Directory,
    wall: Arc<dyn WallClock>,
    /// Nonces and jitter: the one source of randomness of this node.
    random: Mutex<StdRng>,
    windows: Mutex<BTreeMap<NodeId, NonceWindow>>,
}

/// A request whose sender is proven.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) envelope: Envelope,
    pub(crate) body: Bytes,
}

/// The answer to a request, whose sender is proven.
#[derive(Debug)]
pub(crate) struct OpenedAnswer {
    pub(crate) envelope: Envelope,
    pub(crate) body: Bytes,
}

/// Why an answer is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AnswerFault {
    /// The peer refused the request.
    Nack(Nack),
    /// What came is not the peer's answer to this request.
    Invalid(Slug),
}

impl Gate {
    pub(crate) fn new(
        node: NodeId,
        boot: BootId,
        key: Arc<NodeKey>,
        directory: Directory,
        wall: Arc<dyn WallClock>,
        seed: u64,
    ) -> Self {
        Self {
            node,
            boot,
            key,
            directory,
            wall,
            random: Mutex::new(StdRng::seed_from_u64(seed)),
            windows: Mutex::default(),
        }
    }

    /// The key under which the op of this dot may be sealed: its origin's as enrolled, or this node's own.
    pub(crate) fn sealing_key(&self, dot: &Dot, key: KeyId) -> Result<PublicKey, KeyRefusal> {
        if dot.origin.node == self.node && key == self.key.id() {
            return Ok(self.key.public().clone());
        }
        self.directory.sealing_key(dot, key).cloned()
    }

    /// Whether ops of this node's making are taken at all.
    pub(crate) fn knows(&self, node: &NodeId) -> bool {
        *node == self.node || self.directory.node(node).is_some()
    }

    /// Hash over who is enrolled and what each keeps.
    pub(crate) fn config_version(&self) -> [u8; 32] {
        self.directory.config_version(&self.node, &Scope::everything())
    }

    /// A uniform random number, for jitter and ids.
    pub(crate) fn draw(&self) -> u64 {
        lock(&self.random).next_u64()
    }

    /// A request to `peer`, and its envelope, which the answer is held against.
    pub(crate) fn seal_request(
        &self,
        peer: &NodeId,
        peer_boot: BootId,
        route: Route,
        body: &[u8],
    ) -> (Bytes, Envelope) {
        let envelope = self.envelope(FrameKind::Request, route, peer, peer_boot);
        (Bytes::from(frame::seal(&self.key, envelope.clone(), body)), envelope)
    }

    /// An answer to `request`: the whole of it, or an item of a stream.
    pub(crate) fn seal_answer(&self, request: &Envelope, kind: fn(Nonce) -> FrameKind, body: &[u8]) -> Bytes {
        let envelope =
            self.envelope(kind(request.nonce), request.route, &request.sender, request.sender_boot);
        Bytes::from(frame::seal(&self.key, envelope, body))
    }

    /// The refusal of a request whose sender is proven.
    pub(crate) fn refuse(&self, request: &Envelope, nack: Nack) -> Answer {
        let frame = self.seal_answer(request, |to| FrameKind::Nack { to }, &nack.to_bytes());
        Answer { status: nack.slug.http_status(), frames: Some(Frames::one(frame)), slug: nack.slug.as_str() }
    }

    /// Opens a request, in the order of cost and risk.
    ///
    /// # Errors
    /// The answer that the caller gets: a signed refusal if it is enrolled, so that it can trust the boot or
    /// the time that it is told, else a bare slug.
    pub(crate) fn open_request(&self, route: Route, bytes: &Bytes) -> Result<Opened, Answer> {
        let frame = ReceivedFrame::parse(bytes).map_err(|error| bare(error.slug()))?;
        let envelope = frame.header().envelope.clone();
        let key = self
            .directory
            .calling_key(&envelope.sender, frame.header().key_id)
            .ok_or_else(|| bare(Slug::UnknownPeer))?
            .clone();
        let now = self.wall.now();
        let refused = |error: FrameError| self.refuse(&envelope, error.nack());
        let here = Addressed { node: &self.node, boot: self.boot, route, now };
        check_request(&envelope, &here).map_err(refused)?;
        let (sent_at, nonce) = (envelope.sent_at, envelope.nonce);
        self.with_window(&envelope.sender, |window| window.check(sent_at, nonce, now)).map_err(refused)?;
        let verified = frame.verify(&key).map_err(|error| bare(error.slug()))?;
        self.with_window(&envelope.sender, |window| window.record(sent_at, nonce, now)).map_err(refused)?;
        verified.body().map_err(refused)?;
        let body = bytes.slice(verified.body_range());
        Ok(Opened { envelope, body })
    }

    /// Opens a frame of the answer to `request`.
    pub(crate) fn open_answer(&self, request: &Envelope, bytes: &Bytes) -> Result<OpenedAnswer, AnswerFault> {
        let invalid = |error: FrameError| AnswerFault::Invalid(error.slug());
        let frame = ReceivedFrame::parse(bytes).map_err(invalid)?;
        let envelope = frame.header().envelope.clone();
        check_answer(&envelope, request).map_err(invalid)?;
        let key = self
            .directory
            .calling_key(&envelope.sender, frame.header().key_id)
            .ok_or(AnswerFault::Invalid(Slug::UnknownPeer))?;
        let verified = frame.verify(key).map_err(invalid)?;
        verified.body().map_err(invalid)?;
        let body = bytes.slice(verified.body_range());
        if matches!(envelope.kind, FrameKind::Nack { .. }) {
            let nack = Nack::from_bytes(&body).map_err(|_| AnswerFault::Invalid(Slug::Malformed))?;
            return Err(AnswerFault::Nack(nack));
        }
        Ok(OpenedAnswer { envelope, body })
    }

    fn envelope(
        &self,
        kind: FrameKind,
        route: Route,
        recipient: &NodeId,
        recipient_boot: BootId,
    ) -> Envelope {
        let (high, low) = {
            let mut random = lock(&self.random);
            (random.next_u64(), random.next_u64())
        };
        Envelope {
            kind,
            route,
            sender: self.node.clone(),
            sender_boot: self.boot,
            recipient: recipient.clone(),
            recipient_boot,
            sent_at: self.wall.now(),
            nonce: Nonce(u128::from(high) << 64 | u128::from(low)),
        }
    }

    fn with_window<T>(&self, sender: &NodeId, check: impl FnOnce(&mut NonceWindow) -> T) -> T {
        let mut windows = lock(&self.windows);
        // Enrolled senders only: as many windows as the directory has entries.
        check(windows.entry(sender.clone()).or_default())
    }
}

fn bare(slug: Slug) -> Answer {
    Answer { status: slug.http_status(), frames: None, slug: slug.as_str() }
}
