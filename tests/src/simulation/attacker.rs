//! Somebody on the network who may not: without an enrolled key, or with the stolen key of a node that is enrolled.

mod ear;
mod forger;
pub(super) mod liar;
mod mangler;
mod thief;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use federation_core::id::{BootId, LogPosition, NodeId};
use federation_core::port::clock::WallClock;
use federation_core::time::WallMs;
use federation_net::transport::Answer;
use federation_wire::frame::{self, Envelope, FrameKind, Nonce, ReceivedFrame, Route};
use federation_wire::keys::NodeKey;
use federation_wire::slug::Slug;
use federation_wire::v1::hello::Hello;
use federation_wire::v1::nack::Nack;
use federation_wire::v1::push::PushAnswer;
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};

use self::ear::{Ear, Heard};
use crate::history::{Intrusion, IntrusionAnswer};
use crate::network::Network;

/// The longest that a node is given to answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// A name that nobody is enrolled under.
const STRANGER: &str = "mallory";

macro_rules! strikes {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)+) => {
        /// What an attacker tries.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Strike {
            $($(#[$doc])* $name,)+
        }

        impl Strike {
            /// All of them.
            pub const ALL: &'static [Strike] = &[$(Strike::$name),+];

            /// Its name.
            pub fn name(self) -> &'static str {
                match self { $(Strike::$name => $text,)+ }
            }
        }
    };
}

strikes! {
    /// A frame that the node has handled, again.
    ReplaySameNode = "replay-same-node",
    /// A frame that another node has handled.
    ReplayOtherNode = "replay-other-node",
    /// A frame that the node had handled before it was restarted.
    ReplayAfterRestart = "replay-after-restart",
    /// A frame that the node has handled, by another route.
    ReplayOtherRoute = "replay-other-route",
    /// A frame that was caught on its way, with a bit of its header changed.
    FlipHeader = "flip-header",
    /// The same with a bit of its body.
    FlipBody = "flip-body",
    /// The same with a bit of its signature.
    FlipSignature = "flip-signature",
    /// A frame that was caught on its way and cut short.
    Truncated = "truncated",
    /// Bytes that are no frame.
    Garbage = "garbage",
    /// Lengths that promise more than there is, or than is taken.
    OversizedLengths = "oversized-lengths",
    /// A frame without its signature.
    Unsigned = "unsigned",
    /// A frame whose signature is all zeros.
    ZeroSignature = "zero-signature",
    /// A frame under an enrolled name, signed by a key that is not enrolled.
    UnenrolledKey = "unenrolled-key",
    /// A frame under a name that is not enrolled.
    UnenrolledName = "unenrolled-name",
    /// A frame signed by one enrolled node under the name of another.
    BorrowedName = "borrowed-name",
    /// A signed frame that says of itself that it is an answer.
    AnswerAsRequest = "answer-as-request",
    /// A signed frame whose body is no message.
    SignedGarbage = "signed-garbage",
    /// Ops under the name of a node that did not seal them.
    ForgedOrigin = "forged-origin",
    /// An op that was changed after it was sealed.
    AlteredOp = "altered-op",
    /// Ops that are not under the root that their proof has signed.
    WrongPath = "wrong-path",
    /// Ops of an origin that nobody has enrolled.
    UnknownOrigin = "unknown-origin",
    /// A second op under the dot of one that the node has made, sealed by its origin's own key.
    Equivocation = "equivocation",
    /// The end of a session that claims dots which nobody has made.
    CompletionBeyond = "completion-beyond",
}

impl Strike {
    /// The alarm that the node raises of it: only one who is enrolled and lies can bring that about.
    pub fn alarm(self) -> Option<&'static str> {
        match self {
            Self::Equivocation => Some("equivocation"),
            Self::CompletionBeyond => Some("completion_beyond"),
            _ => None,
        }
    }
}

impl std::fmt::Display for Strike {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Somebody on the network who may not. What it does is drawn from its seed.
pub struct Attacker {
    network: Network,
    random: StdRng,
    wall: Arc<dyn WallClock>,
    nodes: Vec<(NodeId, Arc<NodeKey>)>,
    /// Enrolled nowhere.
    own_key: Arc<NodeKey>,
    ear: Ear,
}

/// What a frame has to name so that a node looks at the rest of it.
#[derive(Clone, Copy, Debug)]
struct Address {
    boot: BootId,
    /// The node's time.
    now: WallMs,
}

/// A frame that a node would take.
struct Sound {
    key: Arc<NodeKey>,
    envelope: Envelope,
    body: Vec<u8>,
}

impl Sound {
    fn route(&self) -> Route {
        self.envelope.route
    }

    fn sealed(&self) -> Vec<u8> {
        frame::seal(&self.key, self.envelope.clone(), &self.body)
    }
}

impl Attacker {
    /// An attacker of these nodes, who has stolen all of their keys: with one of them it is a node that is enrolled
    /// and compromised, and what it does under another name must fail. By `wall` it dates what it sends, unless the
    /// node that it strikes tells it another time.
    pub fn new(
        network: Network,
        seed: u64,
        wall: Arc<dyn WallClock>,
        nodes: Vec<(NodeId, Arc<NodeKey>)>,
    ) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        // A seed that the nodes' keys were drawn from too would draw one of them.
        let own_key = loop {
            let drawn = NodeKey::generate(&mut random);
            if nodes.iter().all(|(_, key)| key.id() != drawn.id()) {
                break Arc::new(drawn);
            }
        };
        Self { ear: Ear::new(network.clone()), network, random, wall, nodes, own_key }
    }

    /// Steals the key that a node signs with from here on, too.
    pub fn learn(&mut self, node: usize, key: Arc<NodeKey>) {
        if let Some((_, known)) = self.nodes.get_mut(node) {
            *known = key;
        }
    }

    /// Remembers some of what has gone over the network of late. Every strike does so too.
    pub fn listen(&mut self) {
        self.ear.listen(&mut self.random);
    }

    /// Tries something on a node. [`IntrusionAnswer::None`] if the node does not run, or nothing has been heard yet
    /// that it takes.
    pub async fn strike(&mut self, strike: Strike, victim: usize) -> Intrusion {
        self.listen();
        let answer = self.try_on(strike, victim).await.unwrap_or(IntrusionAnswer::None);
        Intrusion { kind: strike.name().to_owned(), node: victim, answer }
    }

    /// Says hello in the name of an enrolled node and by its key, which is not to be refused: the attacker's proof that
    /// it can tell. `position` is where that node is: its last hello may be older than what it has said in answers.
    pub async fn impersonate(&mut self, victim: usize, sender: usize, position: LogPosition) -> Intrusion {
        self.listen();
        let answer = self.say_hello(victim, sender, position).await.unwrap_or(IntrusionAnswer::None);
        Intrusion { kind: "impersonate".to_owned(), node: victim, answer }
    }

    async fn say_hello(
        &mut self,
        victim: usize,
        sender: usize,
        position: LogPosition,
    ) -> Option<IntrusionAnswer> {
        let sender = self.nodes.get(sender)?.0.clone();
        let is_hello = |heard: &Heard| heard.route() == Route::Hello && heard.frame.from == sender;
        let mut sound = self.sound(victim, is_hello).await?;
        let hello = Hello { position, ..Hello::from_bytes(&sound.body).ok()? };
        sound.body = hello.to_bytes();
        self.send(victim, Route::Hello, sound.sealed()).await
    }

    async fn try_on(&mut self, strike: Strike, victim: usize) -> Option<IntrusionAnswer> {
        match strike {
            Strike::ReplaySameNode
            | Strike::ReplayOtherNode
            | Strike::ReplayAfterRestart
            | Strike::ReplayOtherRoute => self.replay(strike, victim).await,
            Strike::FlipHeader
            | Strike::FlipBody
            | Strike::FlipSignature
            | Strike::Truncated
            | Strike::Garbage
            | Strike::OversizedLengths
            | Strike::Unsigned
            | Strike::ZeroSignature => {
                let sound = self.sound(victim, |_| true).await?;
                let bytes = self.mangle(strike, &sound);
                self.send(victim, sound.route(), bytes).await
            }
            Strike::UnenrolledKey | Strike::UnenrolledName | Strike::BorrowedName => {
                let sound = self.sound(victim, |_| true).await?;
                let bytes = self.masquerade(strike, &sound);
                self.send(victim, sound.route(), bytes).await
            }
            Strike::AnswerAsRequest => {
                let mut sound = self.sound(victim, |_| true).await?;
                sound.envelope.kind = FrameKind::Answer { to: self.nonce() };
                self.send(victim, sound.route(), sound.sealed()).await
            }
            Strike::SignedGarbage => {
                let mut sound = self.sound(victim, |_| true).await?;
                sound.body = self.noise(256);
                self.send(victim, sound.route(), sound.sealed()).await
            }
            Strike::ForgedOrigin | Strike::AlteredOp | Strike::WrongPath | Strike::UnknownOrigin => {
                self.push_forged(strike, victim).await
            }
            Strike::Equivocation => self.equivocate(victim).await,
            Strike::CompletionBeyond => self.claim_beyond(victim).await,
        }
    }

    async fn replay(&mut self, strike: Strike, victim: usize) -> Option<IntrusionAnswer> {
        let id = self.nodes.get(victim)?.0.clone();
        let boot = self.address(victim).await?.boot;
        let heard = self.ear.pick(&mut self.random, |heard| match strike {
            Strike::ReplayOtherNode => heard.frame.to != id,
            Strike::ReplayAfterRestart => heard.frame.to == id && heard.envelope.recipient_boot != boot,
            _ => heard.frame.to == id && heard.envelope.recipient_boot == boot,
        })?;
        let route = match strike {
            Strike::ReplayOtherRoute => {
                let others: Vec<_> = Route::ALL.into_iter().filter(|route| *route != heard.route()).collect();
                *others.get(self.random.random_range(0..others.len()))?
            }
            _ => heard.route(),
        };
        self.send(victim, route, heard.frame.frame.to_vec()).await
    }

    /// Sends a page whose frame is sound: whatever is refused is refused for the ops' sake.
    async fn push_forged(&mut self, strike: Strike, victim: usize) -> Option<IntrusionAnswer> {
        let mut sound = self.sound(victim, |_| true).await?;
        let (body, ops) = self.forge(strike, &sound)?;
        sound.envelope.route = Route::Push;
        sound.body = body;
        let answer = self.deliver(victim, Route::Push, sound.sealed()).await?;
        Some(match self.judge(victim, answer).await {
            Judged::Refused(slug) => IntrusionAnswer::Refused { slug },
            Judged::Handled { what, body } => judge_acks(&what, &body, ops),
        })
    }

    async fn send(&mut self, victim: usize, route: Route, bytes: Vec<u8>) -> Option<IntrusionAnswer> {
        let answer = self.deliver(victim, route, bytes).await?;
        Some(match self.judge(victim, answer).await {
            Judged::Refused(slug) => IntrusionAnswer::Refused { slug },
            Judged::Handled { what, .. } => IntrusionAnswer::Accepted { what },
        })
    }

    async fn deliver(&mut self, victim: usize, route: Route, bytes: Vec<u8>) -> Option<Answer> {
        let to = &self.nodes.get(victim)?.0;
        let answered = self.network.inject(to, route, Bytes::from(bytes));
        tokio::time::timeout(PATIENCE, answered).await.ok().flatten()
    }

    async fn judge(&self, victim: usize, answer: Answer) -> Judged {
        let Answer { status, frames, slug } = answer;
        let Some(mut frames) = frames else { return Judged::Refused(slug.to_owned()) };
        let Some(Ok(bytes)) = frames.next().await else {
            return Judged::Refused(format!("http-{status}"));
        };
        let key = self.nodes.get(victim).map(|(_, key)| key.public());
        let opened = ReceivedFrame::parse(&bytes).ok().zip(key).and_then(|(frame, key)| {
            let kind = frame.header().envelope.kind;
            Some((kind, frame.verify(key).ok()?.body().ok()?.to_vec()))
        });
        match opened {
            Some((FrameKind::Nack { .. }, body)) => match Nack::from_bytes(&body) {
                Ok(nack) => Judged::Refused(nack.slug.as_str().to_owned()),
                Err(error) => Judged::Handled { what: format!("a refusal that says nothing: {error}"), body },
            },
            Some((kind, body)) => Judged::Handled { what: format!("status {status}, {kind:?}"), body },
            None => Judged::Handled { what: format!("status {status}, unsigned"), body: Vec::new() },
        }
    }

    /// A frame that the node would take: what one that it has taken says, sealed anew by its sender's key.
    async fn sound(&mut self, victim: usize, fits: impl Fn(&Heard) -> bool) -> Option<Sound> {
        let address = self.address(victim).await?;
        let id = self.nodes.get(victim)?.0.clone();
        let heard = self.ear.last(&mut self.random, |heard| {
            heard.frame.to == id && heard.envelope.recipient_boot == address.boot && fits(heard)
        })?;
        let key = self.key_of(&heard.frame.from)?;
        let nonce = self.nonce();
        let envelope = Envelope { sent_at: address.now, nonce, ..heard.envelope.clone() };
        Some(Sound { key, envelope, body: heard.body() })
    }

    /// What a node tells whoever asks: its boot, and its time if that is far from the attacker's own.
    async fn address(&mut self, victim: usize) -> Option<Address> {
        let mut address = Address { boot: BootId(0), now: self.wall.now() };
        for _ in 0..2 {
            let (recipient, _) = self.nodes.get(victim)?;
            let (sender, key) = self.nodes.get(usize::from(victim == 0))?;
            let envelope = Envelope {
                kind: FrameKind::Request,
                route: Route::Hello,
                sender: sender.clone(),
                sender_boot: BootId(0),
                recipient: recipient.clone(),
                recipient_boot: address.boot,
                sent_at: address.now,
                nonce: Nonce(0),
            };
            let mut bytes = frame::seal(key, envelope, b"");
            bytes.truncate(bytes.len() - mangler::SIGNATURE_BYTES);
            let answer = self.deliver(victim, Route::Hello, bytes).await?;
            let Some(mut frames) = answer.frames else { return Some(address) };
            let bytes = frames.next().await?.ok()?;
            let frame = ReceivedFrame::parse(&bytes).ok()?;
            let verified = frame.verify(self.nodes.get(victim)?.1.public()).ok()?;
            let nack = Nack::from_bytes(verified.body().ok()?).ok()?;
            match nack {
                Nack { slug: Slug::WrongBoot, current_boot: Some(boot), .. } => address.boot = boot,
                Nack { slug: Slug::Stale, now: Some(now), .. } => address.now = now,
                _ => return Some(address),
            }
        }
        Some(address)
    }

    fn key_of(&self, node: &NodeId) -> Option<Arc<NodeKey>> {
        self.nodes.iter().find(|(id, _)| id == node).map(|(_, key)| Arc::clone(key))
    }

    fn nonce(&mut self) -> Nonce {
        Nonce(u128::from(self.random.next_u64()) << 64 | u128::from(self.random.next_u64()))
    }

    /// Up to that many random bytes.
    fn noise(&mut self, bytes_max: usize) -> Vec<u8> {
        let mut noise = vec![0; self.random.random_range(0..=bytes_max)];
        self.random.fill_bytes(&mut noise);
        noise
    }
}

/// What a node did with a frame.
enum Judged {
    Refused(String),
    /// Anything else.
    Handled {
        what: String,
        /// The body of its answer.
        body: Vec<u8>,
    },
}

/// A page was refused if each of its ops was.
fn judge_acks(what: &str, body: &[u8], ops: usize) -> IntrusionAnswer {
    let acks = match PushAnswer::from_bytes(body) {
        Ok(answer) => answer.acks,
        Err(error) => return IntrusionAnswer::Accepted { what: format!("{what}, no push answer: {error}") },
    };
    let mut slugs: Vec<_> = acks.iter().map(|ack| ack.outcome.slug()).collect();
    slugs.sort_unstable();
    slugs.dedup();
    let slug = slugs.join(",");
    if acks.len() == ops && acks.iter().all(|ack| ack.outcome.status().is_err()) {
        IntrusionAnswer::Refused { slug }
    } else {
        IntrusionAnswer::Accepted { what: format!("{what}, {} acks of {ops} ops: {slug}", acks.len()) }
    }
}
