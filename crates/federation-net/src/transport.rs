//! How frames get from node to node. HTTP/2 in production ([`crate::http`]), a network in memory in simulations.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use federation_core::id::{KeyId, NodeId};
use federation_wire::frame::{Route, SenderProof};
use federation_wire::slug::Slug;

use crate::config::PeerEndpoint;

/// A future that owns what it needs or borrows from its maker.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Makes connections to peers.
pub trait Transport: Send + Sync + 'static {
    /// Connects to a peer. What listens there has proven that it is this peer if [`Connection::channel`] says so, and
    /// else proves it by its frames.
    fn connect<'a>(
        &'a self,
        peer: &'a PeerEndpoint,
    ) -> BoxFuture<'a, Result<Arc<dyn Connection>, TransportError>>;
}

/// A connection to a peer; dropped, it is closed, with all that is under way on it.
pub trait Connection: Send + Sync + 'static {
    /// What the connection itself proves of the other side.
    fn channel(&self) -> ChannelIdentity;

    /// Sends one frame and gives the frames of the answer. Calls may overlap.
    fn call(&self, route: Route, frame: Bytes) -> BoxFuture<'static, Result<Frames, TransportError>>;
}

/// Who is at the other end of a connection, as far as the connection itself proves it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ChannelIdentity {
    /// Nobody is proven: plain HTTP, on loopback alone.
    #[default]
    Unproven,
    /// The node holds its node key of this id; and this node has proven the same of its own. Frames have no signature.
    NodeKey {
        /// The node.
        node: NodeId,
        /// Its key.
        key: KeyId,
    },
    /// A certificate of an operator's PKI is bound to the node, and says nothing of its node key.
    Certificate {
        /// The node.
        node: NodeId,
    },
}

impl ChannelIdentity {
    /// The node, if it is proven.
    pub fn node(&self) -> Option<&NodeId> {
        match self {
            Self::Unproven => None,
            Self::NodeKey { node, .. } | Self::Certificate { node } => Some(node),
        }
    }

    /// The node key by which it is proven.
    pub fn key(&self) -> Option<KeyId> {
        match self {
            Self::NodeKey { key, .. } => Some(*key),
            Self::Unproven | Self::Certificate { .. } => None,
        }
    }

    /// What proves the sender of a frame on this channel, either way.
    pub fn sender_proof(&self) -> SenderProof {
        match self {
            Self::NodeKey { .. } => SenderProof::Channel,
            Self::Unproven | Self::Certificate { .. } => SenderProof::Signature,
        }
    }
}

/// Why a call had no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// No connection could be made.
    #[error("no connection could be made")]
    Unreachable,
    /// Something is there and did not finish the handshake in time.
    #[error("the handshake was not finished in time")]
    HandshakeTimedOut,
    /// What is there does not prove to be the peer, or refuses this node.
    #[error("what is there is not the peer")]
    Untrusted,
    /// The way to the peer is plain HTTP off loopback.
    #[error("plain HTTP is for loopback alone")]
    PlainOffLoopback,
    /// The connection ended before the answer did.
    #[error("the connection ended before the answer")]
    ConnectionLost,
    /// The other side answered without a frame.
    #[error("refused with status {status}")]
    Refused {
        /// The HTTP status.
        status: u16,
    },
    /// The answer is no sequence of frames, or larger than its limit.
    #[error("the answer is malformed")]
    Malformed,
}

/// The frames of an answer, one after the other.
pub struct Frames(Box<dyn FrameSource>);

impl Frames {
    /// Frames from `source`.
    pub fn new(source: impl FrameSource + 'static) -> Self {
        Self(Box::new(source))
    }

    /// One frame and no more.
    pub fn one(frame: Bytes) -> Self {
        Self::new(Once(Some(frame)))
    }

    /// The next frame; none at the end of the answer.
    ///
    /// # Cancel safety
    /// A call that is dropped may lose a frame: drop the answer with it.
    pub async fn next(&mut self) -> Option<Result<Bytes, TransportError>> {
        self.0.next().await
    }

    /// The one frame of an answer that has one, once the answer is at its end. To let go of an answer before would
    /// reset its stream, and HTTP/2 gives up a connection on which a thousand such streams still get data.
    ///
    /// # Errors
    /// [`TransportError::Malformed`] for none or more than one.
    pub async fn only(mut self) -> Result<Bytes, TransportError> {
        let frame = self.next().await.ok_or(TransportError::Malformed)??;
        match self.next().await {
            None => Ok(frame),
            Some(Ok(_)) => Err(TransportError::Malformed),
            Some(Err(error)) => Err(error),
        }
    }

    /// Whether it is known, without waiting, that there is no further frame.
    pub(crate) fn is_at_end(&self) -> bool {
        self.0.is_at_end()
    }
}

impl std::fmt::Debug for Frames {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Frames")
    }
}

/// Where the frames of an answer come from.
pub trait FrameSource: Send {
    /// The next frame; none at the end.
    fn next(&mut self) -> BoxFuture<'_, Option<Result<Bytes, TransportError>>>;

    /// Whether it is known, without waiting, that there is no further frame.
    fn is_at_end(&self) -> bool {
        false
    }
}

struct Once(Option<Bytes>);

impl FrameSource for Once {
    fn next(&mut self) -> BoxFuture<'_, Option<Result<Bytes, TransportError>>> {
        let frame = self.0.take();
        Box::pin(async move { frame.map(Ok) })
    }

    fn is_at_end(&self) -> bool {
        self.0.is_none()
    }
}

impl FrameSource for tokio::sync::mpsc::Receiver<Bytes> {
    fn next(&mut self) -> BoxFuture<'_, Option<Result<Bytes, TransportError>>> {
        Box::pin(async move { self.recv().await.map(Ok) })
    }
}

/// What answers the frames of peers: the node.
pub trait PeerService: Send + Sync + 'static {
    /// Handles one request frame that came by `channel`. Never fails: what is refused is answered by a frame that says
    /// so.
    fn call(&self, channel: &ChannelIdentity, route: Route, frame: Bytes) -> BoxFuture<'static, Answer>;

    /// Is told what the listener turned away by itself.
    fn turned_away(&self, what: TurnedAway) {
        let _ = what;
    }
}

/// What a listener turns away before it is anybody's request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TurnedAway {
    /// A connection: its address, or all of them together, have as many as they may.
    Connection,
    /// A handshake that failed, or was not finished in time.
    Handshake,
    /// A connection on which nothing was asked in time.
    Silent,
    /// A request.
    Request(Slug),
}

/// The answer to a request frame.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status that goes with it.
    pub status: u16,
    /// Its frames; none where the caller did not even prove who it is.
    pub frames: Option<Frames>,
    /// The slug of a refusal, for a caller that gets no frame.
    pub slug: &'static str,
}

impl Answer {
    /// Whether the connection ends with it: its other side speaks in the name of somebody else.
    pub(crate) fn ends_connection(&self) -> bool {
        self.slug == Slug::IdentityMismatch.as_str()
    }

    /// Whether it goes to somebody who did not prove to be the sender that the frame names.
    pub(crate) fn is_to_nobody(&self) -> bool {
        self.frames.is_none() && self.slug == Slug::SignatureInvalid.as_str()
    }
}
