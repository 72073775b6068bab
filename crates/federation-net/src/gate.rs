//! Where frames leave and enter: the sender of every frame is proven, by its signature or by its channel, by these
//! functions and no others.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use federation_core::attest::{Forbidden, Trust, keeps};
use federation_core::dot::Dot;
use federation_core::id::{BootId, KeyId, NodeId};
use federation_core::op::Op;
use federation_core::port::clock::WallClock;
use federation_core::scope::Scope;
use federation_wire::causal_token::{CausalToken, SignedCausalToken};
use federation_wire::frame::{
    self, Addressed, Envelope, FrameError, FrameKind, Header, Nonce, NonceWindow, ReceivedFrame, Route,
    SenderProof, VerifiedFrame, check_answer, check_request,
};
use federation_wire::identity::{Directory, KeyRefusal};
use federation_wire::keys::PublicKey;
use federation_wire::receipt::{AckSignature, Held, SignedAck};
use federation_wire::slug::Slug;
use federation_wire::v1::nack::Nack;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::time::Instant;

use crate::enrolled::Enrolled;
use crate::inner::lock;
use crate::rate::{Rate, TokenBucket};
use crate::signing_keys::SigningKeys;
use crate::transport::{Answer, ChannelIdentity, Frames};

/// Seals what leaves and opens what enters.
pub(crate) struct Gate {
    node: NodeId,
    boot: BootId,
    keys: SigningKeys,
    enrolled: Enrolled,
    bounds: SenderBounds,
    wall: Arc<dyn WallClock>,
    /// Nonces and jitter: the one source of randomness of this node.
    random: Mutex<StdRng>,
    senders: Mutex<BTreeMap<NodeId, Sender>>,
    /// How often what is taken of whom has changed since the start.
    changes: AtomicU64,
}

/// What each sender gets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SenderBounds {
    /// Frames that it may send.
    pub(crate) rate: Rate,
    /// Frames of it that are remembered against replay.
    pub(crate) nonces: usize,
}

/// What is remembered of a sender.
struct Sender {
    window: NonceWindow,
    bucket: TokenBucket,
}

/// A request, and the channel that it went by and its answer comes by.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) envelope: Envelope,
    pub(crate) channel: ChannelIdentity,
    /// Who was enrolled then.
    pub(crate) enrolled: Arc<Directory>,
}

/// A request whose sender is proven.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) asked: Asked,
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
    /// It names a key that was the peer's when this was asked, and has been retired or revoked since.
    KeyEnded,
}

impl Gate {
    pub(crate) fn new(
        node: NodeId,
        boot: BootId,
        keys: SigningKeys,
        enrolled: Enrolled,
        bounds: SenderBounds,
        wall: Arc<dyn WallClock>,
        seed: u64,
    ) -> Self {
        Self {
            node,
            boot,
            keys,
            enrolled,
            bounds,
            wall,
            random: Mutex::new(StdRng::seed_from_u64(seed)),
            senders: Mutex::default(),
            changes: AtomicU64::new(0),
        }
    }

    /// The key under which the op of this dot may be sealed: its origin's as enrolled, or this node's own.
    pub(crate) fn sealing_key(&self, dot: &Dot, key: KeyId) -> Result<PublicKey, KeyRefusal> {
        if dot.origin.node == self.node {
            return self.keys.sealing_key(dot, key);
        }
        self.enrolled.directory().sealing_key(dot, key).cloned()
    }

    /// This node's signed word that it holds this. The caller has synced it.
    pub(crate) fn sign_ack(&self, held: Held) -> SignedAck {
        SignedAck::sign(&self.keys.active(), &self.node, held, self.wall.now())
    }

    /// What a client has seen, in this node's word.
    pub(crate) fn sign_causal_token(&self, token: CausalToken) -> SignedCausalToken {
        SignedCausalToken::sign(&self.keys.active(), &self.node, token)
    }

    /// Whether a token is the word of a node of this mesh.
    pub(crate) fn is_proven(&self, token: &SignedCausalToken) -> bool {
        let id = token.key_id();
        let key = if token.node == self.node {
            self.keys.trusted_key(id)
        } else {
            self.enrolled.directory().trusted_key(&token.node, id).cloned()
        };
        key.is_some_and(|key| token.verify(&key).is_ok())
    }

    /// The signed word of `peer`, if its signature is by a key under which it may call.
    pub(crate) fn check_ack(&self, peer: &NodeId, held: Held, signature: AckSignature) -> Option<SignedAck> {
        let directory = self.enrolled.directory();
        let key = directory.calling_key(peer, signature.key_id)?;
        let ack = SignedAck { node: peer.clone(), held, signature };
        ack.verify(key).ok().map(|()| ack)
    }

    /// Whether ops of this node's making are taken at all.
    pub(crate) fn knows(&self, node: &NodeId) -> bool {
        *node == self.node || self.enrolled.directory().node(node).is_some()
    }

    /// What a node is trusted with now: nothing if it is not enrolled.
    pub(crate) fn trust(&self, node: &NodeId) -> Trust {
        self.enrolled.directory().node(node).map(|enrolled| enrolled.trust.clone()).unwrap_or_default()
    }

    /// Whether an op, whose proof holds, is taken by this node, which keeps `own`.
    pub(crate) fn lets_in(&self, own: &Scope, op: &Op) -> Result<(), Forbidden> {
        let origin = &op.dot.origin.node;
        match self.enrolled.directory().node(origin) {
            // Own ops that a lost disk had, and that others bring back.
            _ if *origin == self.node => keeps(own, op),
            Some(enrolled) => enrolled.trust.lets_in(own, op),
            None => Err(Forbidden::NamespaceOutOfScope),
        }
    }

    /// Hash over who is enrolled and what each keeps, this node, which keeps `own`, included.
    pub(crate) fn config_version(&self, own: &Scope) -> [u8; 32] {
        self.enrolled.directory().config_version(&self.node, own)
    }

    /// Hash over what this node, which keeps `own`, takes and believes of whom, and how often that has changed since it
    /// started: what comes back to what it was is another, since something may have been refused in between.
    pub(crate) fn acceptance(&self, own: &Scope) -> [u8; 32] {
        let changes = self.changes.load(Ordering::SeqCst);
        self.enrolled.directory().acceptance(own, self.boot, changes)
    }

    /// Who is enrolled now.
    pub(crate) fn directory(&self) -> Arc<Directory> {
        self.enrolled.directory()
    }

    /// From here on these nodes are enrolled. What is remembered of senders stays: one that leaves and comes back must
    /// not find its old frames taken again.
    pub(crate) fn enrol(&self, directory: Directory) {
        let of = |directory: &Directory| directory.acceptance(&Scope::everything(), self.boot, 0);
        let is_change = of(&directory) != of(&self.directory());
        self.enrolled.replace(directory);
        self.changes.fetch_add(u64::from(is_change), Ordering::SeqCst);
    }

    /// A uniform random number, for jitter and ids.
    pub(crate) fn draw(&self) -> u64 {
        lock(&self.random).next_u64()
    }

    /// A request to `peer` by `channel`, and what its answer is held against.
    pub(crate) fn seal_request(
        &self,
        peer: &NodeId,
        peer_boot: BootId,
        route: Route,
        body: &[u8],
        channel: ChannelIdentity,
    ) -> (Bytes, Asked) {
        let envelope = self.envelope(FrameKind::Request, route, peer, peer_boot);
        let asked = Asked { envelope, channel, enrolled: self.enrolled.directory() };
        (self.seal(&asked.channel, asked.envelope.clone(), body), asked)
    }

    /// An answer to `request`: the whole of it, or an item of a stream.
    pub(crate) fn seal_answer(&self, request: &Asked, kind: fn(Nonce) -> FrameKind, body: &[u8]) -> Bytes {
        let asked = &request.envelope;
        let envelope = self.envelope(kind(asked.nonce), asked.route, &asked.sender, asked.sender_boot);
        self.seal(&request.channel, envelope, body)
    }

    /// The refusal of a request whose sender is enrolled.
    pub(crate) fn refuse(&self, request: &Asked, nack: Nack) -> Answer {
        let frame = self.seal_answer(request, |to| FrameKind::Nack { to }, &nack.to_bytes());
        Answer { status: nack.slug.http_status(), frames: Some(Frames::one(frame)), slug: nack.slug.as_str() }
    }

    /// Opens a request, in the order of cost and risk.
    ///
    /// # Errors
    /// The answer that the caller gets: a refusal that this node proves to be its own if the caller is enrolled, so that
    /// it can trust the boot or the time that it is told, else a bare slug.
    pub(crate) fn open_request(
        &self,
        channel: &ChannelIdentity,
        route: Route,
        bytes: &Bytes,
    ) -> Result<Opened, Answer> {
        let frame = ReceivedFrame::parse(bytes).map_err(|error| bare(error.slug()))?;
        let enrolled = self.enrolled.directory();
        let key = caller(&enrolled, channel, frame.header()).map_err(bare)?;
        let envelope = frame.header().envelope.clone();
        let asked = Asked { envelope, channel: channel.clone(), enrolled };
        let envelope = &asked.envelope;
        let now = self.wall.now();
        let refused = |error: FrameError| self.refuse(&asked, error.nack());
        let here = Addressed { node: &self.node, boot: self.boot, route, now };
        check_request(envelope, &here).map_err(refused)?;
        let (sent_at, nonce) = (envelope.sent_at, envelope.nonce);
        self.with_sender(&envelope.sender, |sender| sender.window.check(sent_at, nonce, now))
            .map_err(refused)?;
        // A sender that has used up its rate costs no signature more; nobody else can bring it there.
        if self.with_sender(&envelope.sender, |sender| sender.bucket.is_empty(Instant::now())) {
            return Err(self.refuse(&asked, Nack::of(Slug::RateLimited)));
        }
        let verified = proven(channel, frame, &key).map_err(|error| bare(error.slug()))?;
        // Only what is proven to be a sender's own takes of its rate: nobody uses up another's.
        self.with_sender(&envelope.sender, |sender| sender.bucket.take(1.0, Instant::now()))
            .map_err(|_| self.refuse(&asked, Nack::of(Slug::RateLimited)))?;
        self.with_sender(&envelope.sender, |sender| sender.window.record(sent_at, nonce, now))
            .map_err(refused)?;
        verified.body().map_err(refused)?;
        let body = bytes.slice(verified.body_range());
        Ok(Opened { asked, body })
    }

    /// Lets a sender pay, out of its rate, for what was done for it beyond taking its frame: as much as so many frames.
    pub(crate) fn charge(&self, sender: &NodeId, frames: f64) {
        self.with_sender(sender, |sender| sender.bucket.charge(frames, Instant::now()));
    }

    /// Opens a frame of the answer to `request`.
    pub(crate) fn open_answer(&self, request: &Asked, bytes: &Bytes) -> Result<OpenedAnswer, AnswerFault> {
        let invalid = |error: FrameError| AnswerFault::Invalid(error.slug());
        let frame = ReceivedFrame::parse(bytes).map_err(invalid)?;
        let envelope = frame.header().envelope.clone();
        check_answer(&envelope, &request.envelope).map_err(invalid)?;
        let sender = |enrolled: &Directory| caller(enrolled, &request.channel, frame.header());
        let key = sender(&self.enrolled.directory()).map_err(|slug| match slug {
            Slug::PeerRevoked if sender(&request.enrolled).is_ok() => AnswerFault::KeyEnded,
            slug => AnswerFault::Invalid(slug),
        })?;
        let verified = proven(&request.channel, frame, &key).map_err(invalid)?;
        verified.body().map_err(invalid)?;
        let body = bytes.slice(verified.body_range());
        if matches!(envelope.kind, FrameKind::Nack { .. }) {
            let nack = Nack::from_bytes(&body).map_err(|_| AnswerFault::Invalid(Slug::Malformed))?;
            return Err(AnswerFault::Nack(nack));
        }
        Ok(OpenedAnswer { envelope, body })
    }

    fn seal(&self, channel: &ChannelIdentity, envelope: Envelope, body: &[u8]) -> Bytes {
        Bytes::from(match channel.sender_proof() {
            SenderProof::Signature => frame::seal(&self.keys.active(), envelope, body),
            SenderProof::Channel => frame::seal_for_channel(self.keys.active().id(), envelope, body),
        })
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

    fn with_sender<T>(&self, sender: &NodeId, use_it: impl FnOnce(&mut Sender) -> T) -> T {
        let mut senders = lock(&self.senders);
        // Enrolled senders only: as many as the directory has had entries.
        use_it(senders.entry(sender.clone()).or_insert_with(|| Sender {
            window: NonceWindow::new(self.bounds.nonces),
            bucket: TokenBucket::new(self.bounds.rate, Instant::now()),
        }))
    }
}

/// The key of whoever a frame says that it is from, if that is whom its channel proves and who is enrolled there.
fn caller(directory: &Directory, channel: &ChannelIdentity, header: &Header) -> Result<PublicKey, Slug> {
    let sender = &header.envelope.sender;
    if channel.node().is_some_and(|node| node != sender) {
        return Err(Slug::IdentityMismatch);
    }
    let is_senders = |key| directory.node(sender).is_some_and(|node| node.keys.contains_key(&key));
    // Where a key proves the channel, that one must be good: the sender may sign with its next one by now.
    let key_id = match channel.key() {
        Some(_) if !is_senders(header.key_id) => return Err(Slug::IdentityMismatch),
        Some(proven) => proven,
        None => header.key_id,
    };
    match directory.calling_key(sender, key_id) {
        Some(key) => Ok(key.clone()),
        None if is_senders(key_id) => Err(Slug::PeerRevoked),
        None => Err(Slug::UnknownPeer),
    }
}

/// Proves the sender of a frame, in the one way of its channel.
fn proven<'a>(
    channel: &ChannelIdentity,
    frame: ReceivedFrame<'a>,
    key: &PublicKey,
) -> Result<VerifiedFrame<'a>, FrameError> {
    match channel.sender_proof() {
        SenderProof::Signature => frame.verify(key),
        SenderProof::Channel => frame.vouched_for(),
    }
}

fn bare(slug: Slug) -> Answer {
    Answer { status: slug.http_status(), frames: None, slug: slug.as_str() }
}
