//! Frames that are not what they should be: each gets its word and its status from the listener, and leaves no trace
//! in the store.

use std::sync::Arc;

use bytes::Bytes;
use federation_core::dot::{Dot, Origin};
use federation_core::hlc::Hlc;
use federation_core::id::{AgentId, BootId, LogPosition};
use federation_core::limits::{FRAME_AGE_MAX, FRAME_BYTES_MAX, FRAME_HEADER_BYTES_MAX};
use federation_core::op::{Body, EncodedOp, Op};
use federation_core::port::clock::WallClock as _;
use federation_core::port::sealer::Sealer as _;
use federation_core::time::WallMs;
use federation_core::vector_clock::VectorClock;
use federation_net::http::FRAME_MEDIA_TYPE;
use federation_net::transport::{self, BoxFuture, ChannelIdentity, PeerService as _};
use federation_tests::mock_peer::{MachineClock, MockPeer};
use federation_wire::frame::{self, Envelope, FrameKind, ReceivedFrame, Route, SenderProof, check_answer};
use federation_wire::identity::Enrolment;
use federation_wire::keys::NodeKey;
use federation_wire::seal::GroupSealer;
use federation_wire::slug::Slug;
use federation_wire::v1::ack::{AckOutcome, OpAck};
use federation_wire::v1::delivery::{Lane, Page, PageOp};
use federation_wire::v1::nack::Nack;
use federation_wire::v1::push::PushAnswer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::bench::{Bench, node_id, record_key};

const SIGNATURE_BYTES: usize = 64;

/// A caller that the node knows, and what the node has after its hello.
pub(crate) struct Caller {
    pub(crate) bench: Bench,
    /// What the node had synced before anything bad came.
    position: LogPosition,
}

impl Caller {
    async fn after_hello() -> Self {
        Self::trusted_with(|_| {}).await
    }

    /// One who is enrolled as `enrol` changes full trust.
    pub(crate) async fn trusted_with(enrol: impl Fn(&mut Enrolment)) -> Self {
        Self::of(Bench::trusting(1, &["a"], |_| {}, enrol).await).await
    }

    /// The peer `a` of this bench, after its hello.
    pub(crate) async fn of(bench: Bench) -> Self {
        let mut caller = Self { bench, position: LogPosition(0) };
        let envelope = caller.envelope(Route::Hello);
        let frame = frame::seal(caller.me().key(), envelope, &caller.me().hello().to_bytes());
        let answer = caller.send(Route::Hello, &frame).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        caller.position = caller.bench.node.status().position;
        caller
    }

    pub(crate) fn me(&self) -> &MockPeer {
        self.bench.peer("a")
    }

    /// The envelope of a request that is as it should be.
    pub(crate) fn envelope(&self, route: Route) -> Envelope {
        let status = self.bench.node.status();
        self.me().envelope(route, &status.node, status.boot)
    }

    /// A push that is as it should be, of one op that nobody has.
    fn push(&self) -> (Envelope, Vec<u8>) {
        (self.envelope(Route::Push), page(&self.op(1), self.me().key()))
    }

    pub(crate) fn op(&self, seq: u64) -> Op {
        let origin = Origin { node: self.me().id().clone(), epoch: self.me().boot() };
        Op {
            dot: Dot { origin, seq },
            hlc: Hlc::at(MachineClock.now()),
            key: record_key(&format!("from-a-{seq}")),
            author: AgentId::new("client").unwrap(),
            context: VectorClock::new(),
            body: Body::Put { payload: Arc::from(*b"text"), embedding: None, archived: false },
        }
    }

    /// What the node answers a request that is as it should be: the bodies of its frames.
    pub(crate) async fn answered(&self, route: Route, body: &[u8]) -> Vec<Bytes> {
        let frame = frame::seal(self.me().key(), self.envelope(route), body);
        let Answer { status, is_frame, body: mut left } = self.send(route, &frame).await;
        assert_eq!((status, is_frame), (200, true), "{left:?}");
        let mut bodies = Vec::new();
        while !left.is_empty() {
            let length = frame::frame_len(&left, SenderProof::Signature).unwrap().unwrap();
            let frame = left.split_to(length);
            let opened = ReceivedFrame::parse(&frame).unwrap().verify(self.bench.key.public()).unwrap();
            bodies.push(Bytes::copy_from_slice(opened.body().unwrap()));
        }
        bodies
    }

    /// Pushes the ops of a page, each with its proof, and gives what became of each.
    pub(crate) async fn push_ops(&self, ops: &[(EncodedOp, Arc<[u8]>)]) -> Vec<OpAck> {
        self.pushed_by(self.me(), &page_of(ops)).await.unwrap().acks
    }

    fn push_frame(&self, ops: &[(EncodedOp, Arc<[u8]>)]) -> Vec<u8> {
        frame::seal(self.me().key(), self.envelope(Route::Push), &page_of(ops))
    }

    /// A page that has come whole and is not handled before it is polled.
    pub(crate) fn pushed_ops(&self, ops: &[(EncodedOp, Arc<[u8]>)]) -> BoxFuture<'static, transport::Answer> {
        self.bench.node.call(&ChannelIdentity::Unproven, Route::Push, self.push_frame(ops).into())
    }

    /// Pushes one op. Gives what became of it, or why the node refused the whole page.
    pub(crate) async fn push_op(&self, op: &(EncodedOp, Arc<[u8]>)) -> Result<AckOutcome, Slug> {
        self.pushed_by(self.me(), &page_of(std::slice::from_ref(op)))
            .await
            .map(|answer| answer.acks[0].outcome)
    }

    /// What the node answers a push of this peer, or why it refused it.
    pub(crate) async fn pushed_by(&self, peer: &MockPeer, body: &[u8]) -> Result<PushAnswer, Slug> {
        let answer = self.asked_by(peer, Route::Push, body).await?;
        Ok(PushAnswer::from_bytes(&answer).unwrap())
    }

    /// What the node answers a request of this peer that is as it should be, or why it refused it.
    pub(crate) async fn asked_by(&self, peer: &MockPeer, route: Route, body: &[u8]) -> Result<Bytes, Slug> {
        let status = self.bench.node.status();
        let envelope = peer.envelope(route, &status.node, status.boot);
        let answer = self.send(route, &frame::seal(peer.key(), envelope.clone(), body)).await;
        if answer.status != 200 {
            let nack = answer.nack(&envelope, &self.bench).expect("a signed refusal");
            assert_eq!(answer.status, nack.slug.http_status());
            return Err(nack.slug);
        }
        let opened = ReceivedFrame::parse(&answer.body).unwrap().verify(self.bench.key.public()).unwrap();
        Ok(Bytes::copy_from_slice(opened.body().unwrap()))
    }

    async fn send(&self, route: Route, frame: &[u8]) -> Answer {
        let head = head("POST", route.path(), FRAME_MEDIA_TYPE, frame.len());
        self.exchange(head.as_bytes(), frame).await
    }

    /// One exchange in HTTP/1.0, in which the end of the connection is the end of the answer.
    pub(crate) async fn exchange(&self, head: &[u8], body: &[u8]) -> Answer {
        let mut stream = TcpStream::connect(self.bench.address).await.unwrap();
        stream.write_all(head).await.unwrap();
        stream.write_all(body).await.unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.unwrap();
        Answer::read(&bytes)
    }

    /// Sends a frame that the node must not take, and holds its answer against `slug`. Gives the signed refusal.
    async fn refused(&self, what: &str, envelope: &Envelope, frame: &[u8], slug: Slug) -> Option<Nack> {
        let route = Route::Push;
        let counted = self.counted(slug);
        let answer = self.send(route, frame).await;
        assert_eq!(answer.status, slug.http_status(), "{what}: {answer:?}");
        let nack = answer.nack(envelope, &self.bench);
        let word = nack.map_or_else(|| answer.word(), |nack| nack.slug.as_str().to_owned());
        assert_eq!(word, slug.as_str(), "{what}");
        assert_eq!(self.counted(slug), counted + 1, "{what} is counted");
        self.nothing_is_stored(what);
        nack
    }

    pub(crate) fn counted(&self, slug: Slug) -> u64 {
        self.bench.node.metrics().refused_frames.get(slug.as_str()).copied().unwrap_or_default()
    }

    pub(crate) fn nothing_is_stored(&self, what: &str) {
        let status = self.bench.node.status();
        assert!(status.clock.is_empty(), "{what}: {:?}", status.clock);
        assert_eq!(status.position, self.position, "{what}");
    }
}

/// What the listener answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    is_frame: bool,
    body: Bytes,
}

impl Answer {
    pub(crate) fn read(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("an answer with headers");
        let head = std::str::from_utf8(&bytes[..end]).unwrap().to_ascii_lowercase();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let is_frame = head.contains(&format!("content-type: {FRAME_MEDIA_TYPE}"));
        Self { status, is_frame, body: Bytes::copy_from_slice(&bytes[end + 4..]) }
    }

    /// The refusal, if it is signed: then it is the node's, for this request.
    fn nack(&self, request: &Envelope, bench: &Bench) -> Option<Nack> {
        self.is_frame.then(|| {
            let frame = ReceivedFrame::parse(&self.body).unwrap();
            let mut asked = request.clone();
            // Whom the request named does not matter: the node that got it answers.
            asked.recipient = bench.node.status().node;
            asked.route = frame.header().envelope.route;
            check_answer(&frame.header().envelope, &asked).unwrap();
            assert!(matches!(frame.header().envelope.kind, FrameKind::Nack { .. }));
            Nack::from_bytes(frame.verify(bench.key.public()).unwrap().body().unwrap()).unwrap()
        })
    }

    /// The word of a refusal that is not signed.
    pub(crate) fn word(&self) -> String {
        let text = std::str::from_utf8(&self.body).unwrap();
        text.split('"').nth(3).unwrap_or_default().to_owned()
    }
}

pub(crate) fn head(method: &str, path: &str, media_type: &str, length: usize) -> String {
    format!("{method} {path} HTTP/1.0\r\ncontent-type: {media_type}\r\ncontent-length: {length}\r\n\r\n")
}

/// An op with its proof, by `key`.
pub(crate) fn sealed(op: &Op, key: &Arc<NodeKey>) -> (EncodedOp, Arc<[u8]>) {
    let sealer = GroupSealer::new(Arc::clone(key));
    let encoded = sealer.encode(op);
    let [proof] = &sealer.seal(&op.dot.origin, &[encoded.hash])[..] else { panic!("one proof for one op") };
    (encoded, Arc::clone(proof))
}

/// The page that carries these ops.
fn page_of(ops: &[(EncodedOp, Arc<[u8]>)]) -> Vec<u8> {
    let ops = ops.iter().map(|(op, proof)| PageOp { op: &op.bytes, proof }).collect();
    Page { lane: Lane::Live, receipts: Vec::new(), ops }.to_bytes()
}

/// The page that carries one op, sealed by `key`.
fn page(op: &Op, key: &Arc<NodeKey>) -> Vec<u8> {
    let (encoded, proof) = sealed(op, key);
    Page { lane: Lane::Live, receipts: Vec::new(), ops: vec![PageOp { op: &encoded.bytes, proof: &proof }] }
        .to_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_as_it_should_be_is_taken_once() {
    let caller = Caller::after_hello().await;
    let (envelope, body) = caller.push();
    let frame = frame::seal(caller.me().key(), envelope.clone(), &body);
    let answer = caller.send(Route::Push, &frame).await;
    assert_eq!((answer.status, answer.is_frame), (200, true), "{answer:?}");
    let opened = ReceivedFrame::parse(&answer.body).unwrap();
    check_answer(&opened.header().envelope, &envelope).unwrap();
    let verified = opened.verify(caller.bench.key.public()).unwrap();
    let said = PushAnswer::from_bytes(verified.body().unwrap()).unwrap();
    assert_eq!(said.acks[0].outcome, AckOutcome::Applied);
    let dot = caller.op(1).dot;
    assert!(caller.bench.node.status().clock.contains(&dot));

    let position = caller.bench.node.status().position;
    let replay = caller.send(Route::Push, &frame).await;
    assert_eq!(replay.status, Slug::Replayed.http_status());
    assert_eq!(replay.nack(&envelope, &caller.bench).unwrap().slug, Slug::Replayed);
    assert_eq!(caller.bench.node.status().position, position, "a replay writes nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_prove_itself_is_told_no_more_than_a_word() {
    let caller = Caller::after_hello().await;
    let (envelope, body) = caller.push();
    let key = caller.me().key();
    let sound = || frame::seal(key, envelope.clone(), &body);
    let unsigned = &sound()[..sound().len() - SIGNATURE_BYTES];
    assert_eq!(caller.refused("unsigned", &envelope, unsigned, Slug::SignatureMissing).await, None);

    let stranger = NodeKey::from_seed(&[1; 32]);
    let strange = frame::seal(&stranger, envelope.clone(), &body);
    assert_eq!(
        caller.refused("a key that is not enrolled", &envelope, &strange, Slug::UnknownPeer).await,
        None
    );

    let unknown = Envelope { sender: node_id("nobody"), ..envelope.clone() };
    let frame = frame::seal(key, unknown.clone(), &body);
    assert_eq!(
        caller.refused("a sender that is not enrolled", &unknown, &frame, Slug::UnknownPeer).await,
        None
    );

    // The header names the right key; the signature is another's over the same header.
    let mut forged = sound();
    let at = forged.len() - SIGNATURE_BYTES;
    let elsewhere =
        frame::seal(key, Envelope { sent_at: WallMs(envelope.sent_at.0 + 1), ..envelope.clone() }, &body);
    forged[at..].copy_from_slice(&elsewhere[elsewhere.len() - SIGNATURE_BYTES..]);
    assert_eq!(
        caller.refused("the signature of another frame", &envelope, &forged, Slug::SignatureInvalid).await,
        None
    );

    let mut changed = sound();
    changed[at - 1] ^= 1;
    let nack = caller.refused("a changed body", &envelope, &changed, Slug::SignatureInvalid).await;
    assert!(nack.is_some(), "the sender of the header is proven");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_for_another_place_or_time_is_refused_with_what_helps() {
    let caller = Caller::after_hello().await;
    let (sound, body) = caller.push();
    let now = MachineClock.now().0;
    let age = FRAME_AGE_MAX.0 + 5_000;
    let cases = [
        ("wrong recipient", Envelope { recipient: node_id("b"), ..sound.clone() }, Slug::WrongRecipient),
        ("wrong route", Envelope { route: Route::Pull, ..sound.clone() }, Slug::WrongRoute),
        (
            "no request",
            Envelope { kind: FrameKind::Answer { to: sound.nonce }, ..sound.clone() },
            Slug::WrongRoute,
        ),
        ("other boot", Envelope { recipient_boot: BootId(1), ..sound.clone() }, Slug::WrongBoot),
        ("no boot", Envelope { recipient_boot: BootId(0), ..sound.clone() }, Slug::WrongBoot),
        ("too old", Envelope { sent_at: WallMs(now - age), ..sound.clone() }, Slug::Stale),
        ("from the future", Envelope { sent_at: WallMs(now + age), ..sound.clone() }, Slug::Stale),
        (
            "a boot that has not said hello",
            Envelope { sender_boot: BootId(5), ..sound.clone() },
            Slug::HelloFirst,
        ),
    ];
    for (what, envelope, slug) in cases {
        let frame = frame::seal(caller.me().key(), envelope.clone(), &body);
        let nack = caller
            .refused(what, &envelope, &frame, slug)
            .await
            .expect("an enrolled sender gets a signed refusal");
        match slug {
            Slug::WrongBoot => assert_eq!(nack.current_boot, Some(caller.bench.node.status().boot)),
            Slug::Stale => assert!(nack.now.is_some_and(|told| told.0 >= now), "{nack:?}"),
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_frame_are_refused() {
    let caller = Caller::after_hello().await;
    let (envelope, body) = caller.push();
    let sound = frame::seal(caller.me().key(), envelope.clone(), &body);
    let refused = async |what, bytes: &[u8], slug| {
        assert_eq!(caller.refused(what, &envelope, bytes, slug).await, None);
    };
    refused("nothing", &[], Slug::Malformed).await;
    refused("text", b"{\"ops\":[]}", Slug::Malformed).await;
    refused("cut in the header", &sound[..20], Slug::Malformed).await;
    refused("cut in the body", &sound[..sound.len() - SIGNATURE_BYTES - 1], Slug::Malformed).await;
    refused("cut in the signature", &sound[..sound.len() - 1], Slug::SignatureMalformed).await;
    refused("with more behind it", &[&sound[..], b"x"].concat(), Slug::SignatureMalformed).await;
    let mut header = sound.clone();
    header[4..8].copy_from_slice(&u32::try_from(FRAME_HEADER_BYTES_MAX + 1).unwrap().to_le_bytes());
    refused("a header too long", &header, Slug::TooLarge).await;

    // What the signed body says is read only now: it is no message.
    let garbage = Envelope { nonce: frame::Nonce(u128::MAX), ..envelope.clone() };
    let frame = frame::seal(caller.me().key(), garbage.clone(), b"no message");
    assert!(caller.refused("a body that is no message", &garbage, &frame, Slug::Malformed).await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_request_of_a_peer_is_refused_unread() {
    let caller = Caller::after_hello().await;
    let push = Route::Push.path();
    let cases = [
        (head("POST", push, FRAME_MEDIA_TYPE, FRAME_BYTES_MAX + 1), Slug::TooLarge),
        (head("POST", push, "application/json", 0), Slug::UnsupportedMediaType),
        (head("GET", push, FRAME_MEDIA_TYPE, 0), Slug::NotFound),
        (head("POST", "/api/v1/sync/nothing", FRAME_MEDIA_TYPE, 0), Slug::NotFound),
    ];
    for (head, slug) in cases {
        let answer = caller.exchange(head.as_bytes(), b"").await;
        assert_eq!((answer.status, answer.word()), (slug.http_status(), slug.as_str().to_owned()), "{head}");
        assert!(!answer.is_frame);
        caller.nothing_is_stored(&head);
    }
}
