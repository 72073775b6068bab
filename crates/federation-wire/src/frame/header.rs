//! What a frame says of itself.

use std::fmt;

use federation_core::id::{BootId, KeyId, NodeId};
use federation_core::time::WallMs;
use serde::{Deserialize, Serialize};

use crate::v1::types::{FromWire, ToWire, Wire};

/// A number that is drawn at random for each frame.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Nonce(pub u128);

impl fmt::Debug for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// What a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FrameKind {
    /// A request.
    Request,
    /// The answer to a request.
    Answer {
        /// The request's nonce.
        to: Nonce,
    },
    /// One of a stream of answers to a request.
    Item {
        /// The request's nonce.
        to: Nonce,
    },
    /// The refusal of a request.
    Nack {
        /// The request's nonce.
        to: Nonce,
    },
}

impl FrameKind {
    /// The nonce of the request that this answers.
    pub fn in_reply_to(self) -> Option<Nonce> {
        match self {
            Self::Request => None,
            Self::Answer { to } | Self::Item { to } | Self::Nack { to } => Some(to),
        }
    }
}

/// Method and path, of which the header binds both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Route {
    /// Who are you, what do you have.
    Hello,
    /// Take these ops.
    Push,
    /// Give me what I lack.
    Pull,
    /// The versions of these records.
    Read,
    /// Which of these dots are dead.
    Dead,
    /// The hashes of a part of the state.
    Digest,
}

impl Route {
    /// All of them.
    pub const ALL: [Route; 6] =
        [Route::Hello, Route::Push, Route::Pull, Route::Read, Route::Dead, Route::Digest];

    /// The HTTP method.
    pub fn method(self) -> &'static str {
        "POST"
    }

    /// The path.
    pub fn path(self) -> &'static str {
        match self {
            Route::Hello => "/api/v1/sync/hello",
            Route::Push => "/api/v1/sync/push",
            Route::Pull => "/api/v1/sync/pull",
            Route::Read => "/api/v1/sync/read",
            Route::Dead => "/api/v1/sync/dead",
            Route::Digest => "/api/v1/sync/digest",
        }
    }

    /// The route of this method and path.
    pub fn of(method: &str, path: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|route| route.method() == method && route.path() == path)
    }
}

impl ToWire for Route {
    fn to_wire<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.method(), self.path()).serialize(serializer)
    }
}

impl FromWire for Route {
    fn from_wire<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (method, path) = <(&str, &str)>::deserialize(deserializer)?;
        Self::of(method, path).ok_or_else(|| serde::de::Error::custom("an unknown route"))
    }
}

/// From whom, to whom, where to and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// What the frame is for.
    pub kind: FrameKind,
    /// Method and path of the request.
    pub route: Route,
    /// Who sends.
    pub sender: NodeId,
    /// The sender's boot.
    pub sender_boot: BootId,
    /// To whom.
    pub recipient: NodeId,
    /// The recipient's boot; zero while the sender does not know it.
    pub recipient_boot: BootId,
    /// When, by the sender's clock.
    pub sent_at: WallMs,
    /// Drawn for this frame.
    pub nonce: Nonce,
}

/// Length and hash of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BodyDigest {
    /// Bytes of the body.
    pub len: u32,
    /// blake3 of the body.
    pub hash: [u8; 32],
}

impl BodyDigest {
    /// The digest of `body`. One past 4 GiB gets the length of the largest frame's and is refused by its receiver.
    pub fn of(body: &[u8]) -> Self {
        let len = u32::try_from(body.len()).unwrap_or(u32::MAX);
        Self { len, hash: *blake3::hash(body).as_bytes() }
    }
}

/// All that a frame says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// From whom, to whom, where to and when.
    pub envelope: Envelope,
    /// The key that signed it.
    pub key_id: KeyId,
    /// What it carries.
    pub body: BodyDigest,
}

#[derive(Serialize)]
struct HeaderOut<'a> {
    kind: FrameKind,
    route: Wire<Route>,
    sender: Wire<&'a NodeId>,
    sender_boot: Wire<BootId>,
    recipient: Wire<&'a NodeId>,
    recipient_boot: Wire<BootId>,
    key_id: Wire<KeyId>,
    sent_at: Wire<WallMs>,
    nonce: Nonce,
    body: BodyDigest,
}

#[derive(Deserialize)]
struct HeaderIn {
    kind: FrameKind,
    route: Wire<Route>,
    sender: Wire<NodeId>,
    sender_boot: Wire<BootId>,
    recipient: Wire<NodeId>,
    recipient_boot: Wire<BootId>,
    key_id: Wire<KeyId>,
    sent_at: Wire<WallMs>,
    nonce: Nonce,
    body: BodyDigest,
}

impl Serialize for Header {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Envelope { kind, route, sender, sender_boot, recipient, recipient_boot, sent_at, nonce } =
            &self.envelope;
        HeaderOut {
            kind: *kind,
            route: Wire(*route),
            sender: Wire(sender),
            sender_boot: Wire(*sender_boot),
            recipient: Wire(recipient),
            recipient_boot: Wire(*recipient_boot),
            key_id: Wire(self.key_id),
            sent_at: Wire(*sent_at),
            nonce: *nonce,
            body: self.body,
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let read = HeaderIn::deserialize(deserializer)?;
        let envelope = Envelope {
            kind: read.kind,
            route: read.route.0,
            sender: read.sender.0,
            sender_boot: read.sender_boot.0,
            recipient: read.recipient.0,
            recipient_boot: read.recipient_boot.0,
            sent_at: read.sent_at.0,
            nonce: read.nonce,
        };
        Ok(Self { envelope, key_id: read.key_id.0, body: read.body })
    }
}
