//! A peer that does as it is told: it listens on loopback as real ones do, signs with a key of its own, and answers
//! hellos and pushes in the manner that a test sets. It stores nothing but the names of the ops that it took.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use federation_core::dot::Dot;
use federation_core::id::{BootId, LogPosition, NodeId, OpHash, StoreId};
use federation_core::node_clock::NodeClock;
use federation_core::port::clock::WallClock;
use federation_core::port::store::Boot;
use federation_core::scope::Scope;
use federation_core::time::WallMs;
use federation_net::http::ListenerLimits;
use federation_net::http::server::{PeerSecurity, PeerServer};
use federation_net::transport::{Answer, BoxFuture, ChannelIdentity, Frames, PeerService};
use federation_wire::frame::{
    self, Addressed, Envelope, FrameKind, Nonce, ReceivedFrame, Route, check_request,
};
use federation_wire::identity::Enrolment;
use federation_wire::keys::{NodeKey, PublicKey};
use federation_wire::receipt::{Held, SignedAck};
use federation_wire::slug::Slug;
use federation_wire::v1::ack::{AckOutcome, OpAck, OpRefusal};
use federation_wire::v1::clock_page::ClockPage;
use federation_wire::v1::delivery::{Delivery, Page};
use federation_wire::v1::hello::{Hello, HelloAnswer, PeerLimits, Versions};
use federation_wire::v1::nack::Nack;
use federation_wire::v1::op::{op_hash, read_op};
use federation_wire::v1::push::{Completion, PushAnswer};
use tokio::net::TcpSocket;

/// Connections that wait to be accepted.
const BACKLOG: u32 = 64;

/// How a peer answers the requests of one route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Takes what it is given and says so.
    Obliging,
    /// Accepts the request, does nothing with it, and never answers.
    Hanging,
    /// Takes what it is given; the answer is lost.
    Forgetful,
    /// Takes what it is given and says so after this time.
    Late(Duration),
    /// Says that it holds another op under each name.
    Drifting,
    /// Takes what it is given, and says so of dots that were not sent to it.
    Misnaming,
    /// Takes what it is given, and says so more often than it was given something.
    Repeating,
    /// Takes what it is given, and answers as another boot of itself than was asked.
    OtherBoot,
    /// Takes what it is given, and signs its answer by a key that nobody has enrolled.
    OtherKey,
    /// Takes what it is given, and signs no ack that it is asked to sign.
    Unsigning,
    /// Takes what it is given, and signs for another op than it acks.
    Forging,
    /// Refuses each op.
    Refusing(OpRefusal),
    /// Refuses each op of one request, says so after this time, and takes what comes meanwhile and after it.
    RefusingOnceLate(OpRefusal, Duration),
    /// Refuses the request as a whole.
    Rejecting(Slug),
    /// Refuses so many requests as a whole, and takes what comes after them.
    RejectingFirst(u32, Slug),
}

/// A scripted peer.
pub struct MockPeer {
    script: Arc<Script>,
    address: SocketAddr,
    presence: Presence,
}

/// Whether anything answers at the address.
enum Presence {
    /// The port is held, so that nobody else gets it, and connections to it are refused.
    Away(TcpSocket),
    Listening(PeerServer),
    /// Between the two.
    Changing,
}

/// What the peer is and knows, shared with the requests under way.
struct Script {
    id: NodeId,
    key: Arc<NodeKey>,
    boot: BootId,
    nonces: AtomicU64,
    state: Mutex<State>,
}

struct State {
    hellos: Manner,
    pushes: Manner,
    /// The one node that may call.
    caller: Option<(NodeId, PublicKey)>,
    clock: NodeClock,
    pushes_received: u64,
    hellos_received: u64,
    acks_signed: u64,
    granted: Scope,
    acceptance: [u8; 32],
}

impl MockPeer {
    /// A peer of this name, whose key follows from it. It has an address, at which nothing listens yet.
    pub fn new(name: &str) -> Self {
        let mut seed = [0x5a; 32];
        for (byte, letter) in seed.iter_mut().zip(name.bytes()) {
            *byte = letter;
        }
        let socket = hold("127.0.0.1:0".parse().expect("an address")).expect("a free port");
        Self {
            script: Arc::new(Script {
                id: NodeId::new(name).expect("a valid id"),
                key: Arc::new(NodeKey::from_seed(&seed)),
                boot: BootId(u64::from(op_hash(name.as_bytes()).0[0]) + 0xb007),
                nonces: AtomicU64::new(1),
                state: Mutex::new(State {
                    hellos: Manner::Obliging,
                    pushes: Manner::Obliging,
                    caller: None,
                    clock: NodeClock::new(),
                    pushes_received: 0,
                    hellos_received: 0,
                    acks_signed: 0,
                    granted: Scope::everything(),
                    acceptance: [0; 32],
                }),
            }),
            address: socket.local_addr().expect("a bound socket"),
            presence: Presence::Away(socket),
        }
    }

    /// Its node id.
    pub fn id(&self) -> &NodeId {
        &self.script.id
    }

    /// Its key.
    pub fn key(&self) -> &Arc<NodeKey> {
        &self.script.key
    }

    /// Its boot.
    pub fn boot(&self) -> BootId {
        self.script.boot
    }

    /// Where it is dialled.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Its entry in a node's directory.
    pub fn enrolment(&self) -> Enrolment {
        Enrolment::full(self.script.id.as_str(), &self.url(), self.script.key.public())
    }

    /// Takes requests of this node.
    pub fn enrol(&self, node: &NodeId, key: &PublicKey) {
        self.script.state().caller = Some((node.clone(), key.clone()));
    }

    /// How it answers hellos from here on.
    pub fn answer_hellos(&self, manner: Manner) {
        self.script.state().hellos = manner;
    }

    /// How it answers pushes from here on.
    pub fn answer_pushes(&self, manner: Manner) {
        self.script.state().pushes = manner;
    }

    /// How it answers everything from here on.
    pub fn answer_all(&self, manner: Manner) {
        self.answer_hellos(manner);
        self.answer_pushes(manner);
    }

    /// What it grants the caller from its next hello on; everything before.
    pub fn grant(&self, granted: Scope) {
        self.script.state().granted = granted;
    }

    /// From its next hello on it takes other ops than before, as it says.
    pub fn accept_otherwise(&self) {
        self.script.state().acceptance[0] += 1;
    }

    /// Whether it took the op.
    pub fn holds(&self, dot: &Dot) -> bool {
        self.script.state().clock.contains(dot)
    }

    /// Pages and claims that came, whatever became of them.
    pub fn pushes_received(&self) -> u64 {
        self.script.state().pushes_received
    }

    /// Hellos that came, whatever became of them.
    pub fn hellos_received(&self) -> u64 {
        self.script.state().hellos_received
    }

    /// Begins to listen at its address.
    pub fn arrive(&mut self) {
        self.presence = match std::mem::replace(&mut self.presence, Presence::Changing) {
            Presence::Away(socket) => {
                let listener = socket.listen(BACKLOG).expect("a bound socket listens");
                let script = Arc::clone(&self.script) as _;
                let limits = ListenerLimits::default();
                Presence::Listening(PeerServer::spawn(listener, PeerSecurity::Plain, limits, script))
            }
            present => present,
        };
    }

    /// Closes its connections and listens no more. What it took it keeps.
    pub async fn leave(&mut self) {
        match std::mem::replace(&mut self.presence, Presence::Changing) {
            Presence::Listening(server) => {
                server.shutdown().await;
                self.presence = Presence::Away(hold(self.address).expect("its own port"));
            }
            absent => self.presence = absent,
        }
    }

    /// From now on it says that it has this.
    pub fn pretend(&self, dot: &Dot) {
        self.script.state().clock.insert(dot);
    }

    /// How many acks it has signed.
    pub fn acks_signed(&self) -> u64 {
        self.script.state().acks_signed
    }

    /// The envelope of a request of this peer to `recipient`, made now.
    pub fn envelope(&self, route: Route, recipient: &NodeId, recipient_boot: BootId) -> Envelope {
        self.script.envelope(FrameKind::Request, route, recipient, recipient_boot)
    }

    /// What it says of itself.
    pub fn hello(&self) -> Hello {
        self.script.hello(None)
    }
}

/// The time as this machine has it.
#[derive(Clone, Copy, Debug, Default)]
pub struct MachineClock;

impl WallClock for MachineClock {
    fn now(&self) -> WallMs {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        WallMs(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

impl State {
    fn go_on(&mut self, route: Route, manner: Manner) {
        match route {
            Route::Hello => self.hellos = manner,
            _ => self.pushes = manner,
        }
    }
}

impl PeerService for Script {
    fn call(&self, _: &ChannelIdentity, route: Route, frame: Bytes) -> BoxFuture<'static, Answer> {
        let reply = self.reply(route, &frame);
        Box::pin(async move {
            match reply {
                Reply::Now(answer) => answer,
                Reply::After(span, answer) => {
                    tokio::time::sleep(span).await;
                    answer
                }
                Reply::Never => std::future::pending().await,
            }
        })
    }
}

enum Reply {
    Now(Answer),
    After(Duration, Answer),
    Never,
}

impl Script {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reply(&self, route: Route, bytes: &Bytes) -> Reply {
        let manner = match route {
            Route::Hello => self.state().hellos,
            _ => self.state().pushes,
        };
        match route {
            Route::Push => self.state().pushes_received += 1,
            Route::Hello => self.state().hellos_received += 1,
            _ => {}
        }
        if manner == Manner::Hanging {
            return Reply::Never;
        }
        let (request, body) = match self.open(route, bytes) {
            Ok(opened) => opened,
            Err(answer) => return Reply::Now(answer),
        };
        match manner {
            Manner::RejectingFirst(more @ 2.., slug) => {
                self.state().go_on(route, Manner::RejectingFirst(more - 1, slug));
            }
            Manner::RejectingFirst(..) | Manner::RefusingOnceLate(..) => {
                self.state().go_on(route, Manner::Obliging);
            }
            _ => {}
        }
        if let Manner::Rejecting(slug) | Manner::RejectingFirst(_, slug) = manner {
            return Reply::Now(self.refuse(&request, Nack::of(slug)));
        }
        let answer = match route {
            Route::Hello => self.answer_hello(&request, &body),
            Route::Push => self.answer_push(&request, &body, manner),
            _ => self.refuse(&request, Nack::of(Slug::NotFound)),
        };
        match manner {
            Manner::Forgetful => Reply::Never,
            Manner::Late(span) | Manner::RefusingOnceLate(_, span) => Reply::After(span, answer),
            _ => Reply::Now(answer),
        }
    }

    /// Opens a request as a real node does, but for the memory of what came before.
    fn open(&self, route: Route, bytes: &Bytes) -> Result<(Envelope, Bytes), Answer> {
        let bare = |slug: Slug| Answer { status: slug.http_status(), frames: None, slug: slug.as_str() };
        let frame = ReceivedFrame::parse(bytes).map_err(|error| bare(error.slug()))?;
        let envelope = frame.header().envelope.clone();
        let (caller, key) = self.state().caller.clone().ok_or_else(|| bare(Slug::UnknownPeer))?;
        if envelope.sender != caller {
            return Err(bare(Slug::UnknownPeer));
        }
        let here = Addressed { node: &self.id, boot: self.boot, route, now: MachineClock.now() };
        check_request(&envelope, &here).map_err(|error| self.refuse(&envelope, error.nack()))?;
        let verified = frame.verify(&key).map_err(|error| bare(error.slug()))?;
        verified.body().map_err(|error| bare(error.slug()))?;
        let body = bytes.slice(verified.body_range());
        Ok((envelope, body))
    }

    fn answer_hello(&self, request: &Envelope, body: &[u8]) -> Answer {
        match Hello::from_bytes(body) {
            Ok(hello) => {
                let own = self.hello(hello.clock_wanted_after.as_ref());
                let answer = HelloAnswer { hello: own, granted: self.state().granted.clone() };
                self.answer(request, &answer.to_bytes())
            }
            Err(_) => self.refuse(request, Nack::of(Slug::Malformed)),
        }
    }

    fn answer_push(&self, request: &Envelope, body: &[u8], manner: Manner) -> Answer {
        let position = self.position();
        let (acks, completion) = match Delivery::from_bytes(body) {
            Ok(Delivery::Page(page)) => {
                let mut acks = self.take_page(&page, manner);
                self.sign(&mut acks, &page, position, manner);
                for ack in acks.iter_mut().filter(|_| manner == Manner::Misnaming) {
                    ack.dot.as_mut().expect("its own ack").seq += 1_000;
                }
                if manner == Manner::Repeating {
                    acks.extend(acks.clone());
                }
                (acks, None)
            }
            Ok(Delivery::Complete(complete)) => {
                self.state().clock.join(&complete.claim.dots);
                let is_last = complete.claim.next.is_none();
                (Vec::new(), Some(if is_last { Completion::Merged } else { Completion::PartTaken }))
            }
            Err(_) => return self.refuse(request, Nack::of(Slug::Malformed)),
        };
        let body = PushAnswer { position, acks, completion }.to_bytes();
        match manner {
            Manner::OtherBoot => {
                self.answer_as(&self.key, BootId(self.boot.0.wrapping_add(1)), request, &body)
            }
            Manner::OtherKey => self.answer_as(&NodeKey::from_seed(&[0x77; 32]), self.boot, request, &body),
            _ => self.answer(request, &body),
        }
    }

    /// Signs the acks that the page asks for, in the manner told.
    fn sign(&self, acks: &mut [OpAck], page: &Page<'_>, position: LogPosition, manner: Manner) {
        for ask in page.receipts.iter().filter(|_| manner != Manner::Unsigning) {
            let Some(ack) = acks.get_mut(ask.index as usize) else { continue };
            let (Some(dot), Ok(status)) = (ack.dot.clone(), ack.outcome.status()) else { continue };
            let hash = if manner == Manner::Forging { OpHash([0xff; 32]) } else { ack.hash };
            let held = Held { dot, hash, status, needed: ask.needed, position };
            self.state().acks_signed += 1;
            ack.signature = Some(SignedAck::sign(&self.key, &self.id, held, WallMs(1)).signature);
        }
    }

    fn take_page(&self, page: &Page<'_>, manner: Manner) -> Vec<OpAck> {
        let mut state = self.state();
        let take = |op: &[u8]| {
            let dot = read_op(op).expect("a node sends ops that can be read").op.dot;
            let (hash, outcome) = match manner {
                Manner::Drifting => (OpHash([0xdd; 32]), AckOutcome::Applied),
                Manner::Refusing(refusal) | Manner::RefusingOnceLate(refusal, _) => {
                    (op_hash(op), AckOutcome::Refused(refusal))
                }
                _ if state.clock.contains(&dot) => (op_hash(op), AckOutcome::Duplicate),
                _ => {
                    state.clock.insert(&dot);
                    (op_hash(op), AckOutcome::Applied)
                }
            };
            OpAck { dot: Some(dot), hash, outcome, note: None, signature: None }
        };
        page.ops.iter().map(|op| op.op).map(take).collect()
    }

    fn hello(&self, clock_after: Option<&Dot>) -> Hello {
        let acceptance = self.state().acceptance;
        Hello {
            node: self.id.clone(),
            store: StoreId { created_ms: 1, random: 1 },
            boot: self.boot,
            boots: vec![Boot { id: self.boot, ended_at: None }],
            versions: Versions::SPOKEN,
            limits: PeerLimits::OWN,
            config_version: [0; 32],
            replica_scope: Scope::everything(),
            acceptance,
            rebootstrapping: false,
            must_rebootstrap: None,
            position: self.position(),
            clock: ClockPage::of(&self.state().clock, clock_after),
            clock_wanted_after: None,
            remembers: None,
        }
    }

    /// Like a log's, it never goes back.
    fn position(&self) -> LogPosition {
        LogPosition(self.state().clock.dot_count())
    }

    fn answer(&self, request: &Envelope, body: &[u8]) -> Answer {
        let frame = self.seal(request, FrameKind::Answer { to: request.nonce }, body);
        Answer { status: 200, frames: Some(Frames::one(frame)), slug: "ok" }
    }

    /// An answer that says to be of another boot than was asked, or is signed by another key.
    fn answer_as(&self, key: &NodeKey, boot: BootId, request: &Envelope, body: &[u8]) -> Answer {
        let kind = FrameKind::Answer { to: request.nonce };
        let envelope = self.envelope(kind, request.route, &request.sender, request.sender_boot);
        let frame = frame::seal(key, Envelope { sender_boot: boot, ..envelope }, body);
        Answer { status: 200, frames: Some(Frames::one(Bytes::from(frame))), slug: "ok" }
    }

    fn refuse(&self, request: &Envelope, nack: Nack) -> Answer {
        let frame = self.seal(request, FrameKind::Nack { to: request.nonce }, &nack.to_bytes());
        Answer { status: nack.slug.http_status(), frames: Some(Frames::one(frame)), slug: nack.slug.as_str() }
    }

    fn seal(&self, request: &Envelope, kind: FrameKind, body: &[u8]) -> Bytes {
        let envelope = self.envelope(kind, request.route, &request.sender, request.sender_boot);
        Bytes::from(frame::seal(&self.key, envelope, body))
    }

    fn envelope(
        &self,
        kind: FrameKind,
        route: Route,
        recipient: &NodeId,
        recipient_boot: BootId,
    ) -> Envelope {
        Envelope {
            kind,
            route,
            sender: self.id.clone(),
            sender_boot: self.boot,
            recipient: recipient.clone(),
            recipient_boot,
            sent_at: MachineClock.now(),
            nonce: Nonce(u128::from(self.nonces.fetch_add(1, Ordering::Relaxed))),
        }
    }
}

/// Binds an address without listening there.
fn hold(address: SocketAddr) -> std::io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    // What is left of closed connections holds the port for a minute otherwise.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}
