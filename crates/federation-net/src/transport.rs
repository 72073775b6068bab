//! How frames get from node to node. HTTP/2 in production ([`crate::http`]), a network in memory in simulations.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use federation_wire::frame::Route;

use crate::config::PeerEndpoint;

/// A future that owns what it needs or borrows from its maker.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Makes connections to peers.
pub trait Transport: Send + Sync + 'static {
    /// Connects to a peer. What listens there proves itself by its frames, not by the connection.
    fn connect<'a>(
        &'a self,
        peer: &'a PeerEndpoint,
    ) -> BoxFuture<'a, Result<Arc<dyn Connection>, TransportError>>;
}

/// A connection to a peer; dropped, it is closed, with all that is under way on it.
pub trait Connection: Send + Sync + 'static {
    /// Sends one frame and gives the frames of the answer. Calls may overlap.
    fn call(&self, route: Route, frame: Bytes) -> BoxFuture<'static, Result<Frames, TransportError>>;
}

/// Why a call had no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// No connection could be made.
    #[error("no connection could be made")]
    Unreachable,
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
    /// Handles one request frame. Never fails: what is refused is answered by a frame that says so.
    fn call(&self, route: Route, frame: Bytes) -> BoxFuture<'static, Answer>;
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
