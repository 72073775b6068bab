//! One request to a peer, one answer: sealed, sent, opened, and held against the request.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use federation_core::id::BootId;
use federation_core::quorum::ack_tracker::{PeerFailure, PeerOutcome};
use federation_wire::frame::Route;
use federation_wire::slug::Slug;
use federation_wire::v1::nack::Nack;
use tokio_util::sync::CancellationToken;

use crate::alarm::Alarm;
use crate::gate::{AnswerFault, Asked, OpenedAnswer};
use crate::inner::Inner;
use crate::peer::Peer;
use crate::peer::driver::Active;
use crate::transport::{Connection, Frames, TransportError};

/// Why a request has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExchangeError {
    Transport(TransportError),
    /// No answer in time.
    TimedOut,
    /// The connection was given up meanwhile.
    Stopped,
    /// The peer refused the request.
    Nack(Slug),
    /// The peer has another boot than the one named.
    WrongBoot(BootId),
    /// What came is no answer of the peer to this request.
    Invalid,
}

impl ExchangeError {
    /// What an operator is told: the peer's own word if it has said one.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Nack(slug) => slug.as_str(),
            Self::WrongBoot(_) => Slug::WrongBoot.as_str(),
            Self::Transport(_) | Self::TimedOut | Self::Stopped | Self::Invalid => {
                PeerOutcome::Failed(self.failure()).slug()
            }
        }
    }

    /// What it means for the writes that wait for the peer.
    pub(crate) fn failure(self) -> PeerFailure {
        match self {
            Self::Transport(TransportError::Unreachable) => PeerFailure::Unreachable,
            Self::Transport(TransportError::ConnectionLost) | Self::Stopped => PeerFailure::ConnectionLost,
            Self::Transport(TransportError::HandshakeTimedOut) | Self::TimedOut => PeerFailure::TimedOut,
            Self::Transport(
                TransportError::Refused { .. }
                | TransportError::Malformed
                | TransportError::Untrusted
                | TransportError::PlainOffLoopback,
            )
            | Self::Nack(_)
            | Self::WrongBoot(_)
            | Self::Invalid => PeerFailure::RequestRefused,
        }
    }
}

impl From<AnswerFault> for ExchangeError {
    fn from(fault: AnswerFault) -> Self {
        match fault {
            AnswerFault::Nack(Nack { slug: Slug::WrongBoot, current_boot: Some(boot), .. }) => {
                Self::WrongBoot(boot)
            }
            AnswerFault::Nack(nack) => Self::Nack(nack.slug),
            AnswerFault::Invalid(_) | AnswerFault::KeyEnded => Self::Invalid,
        }
    }
}

/// Sends a request on a connection that is up and waits up to `patience` for its one answer.
pub(crate) async fn exchange(
    inner: &Inner,
    peer: &Peer,
    active: &Active,
    route: Route,
    body: &[u8],
    patience: Duration,
) -> Result<OpenedAnswer, ExchangeError> {
    let answer = exchange_on(inner, peer, &active.connection, active.boot, route, body, patience);
    unless_stopped(&active.stop, answer).await
}

/// What `wait` comes to, or [`ExchangeError::Stopped`] as soon as `stop` is cancelled. Only for what waits for a peer: what
/// follows a commit must not be dropped half done.
pub(crate) async fn unless_stopped<T>(
    stop: &CancellationToken,
    wait: impl Future<Output = Result<T, ExchangeError>>,
) -> Result<T, ExchangeError> {
    stop.run_until_cancelled(wait).await.unwrap_or(Err(ExchangeError::Stopped))
}

/// As [`exchange`], on a bare connection, to the boot named.
pub(crate) async fn exchange_on(
    inner: &Inner,
    peer: &Peer,
    connection: &Arc<dyn Connection>,
    boot: BootId,
    route: Route,
    body: &[u8],
    patience: Duration,
) -> Result<OpenedAnswer, ExchangeError> {
    let call = async {
        let (request, frames) = start(inner, peer, connection, boot, route, body).await?;
        let answer = frames.only().await.map_err(ExchangeError::Transport)?;
        open(inner, peer, &request, &answer)
    };
    tokio::time::timeout(patience, call).await.unwrap_or(Err(ExchangeError::TimedOut))
}

/// Sends a request whose answer is a stream of frames.
pub(crate) async fn start(
    inner: &Inner,
    peer: &Peer,
    connection: &Arc<dyn Connection>,
    boot: BootId,
    route: Route,
    body: &[u8],
) -> Result<(Asked, Frames), ExchangeError> {
    peer.pace().await;
    let (frame, request) = inner.gate.seal_request(&peer.id, boot, route, body, connection.channel());
    let frames = connection.call(route, frame).await.map_err(ExchangeError::Transport)?;
    Ok((request, frames))
}

/// Opens a frame of an answer, and alarms one that the peer did not give to this request, or that comes from another of
/// its boots than was asked: only a refusal does.
fn open(inner: &Inner, peer: &Peer, request: &Asked, bytes: &Bytes) -> Result<OpenedAnswer, ExchangeError> {
    let opened = inner.gate.open_answer(request, bytes);
    let is_forged = match &opened {
        Ok(answer) => answer.envelope.sender_boot != request.envelope.recipient_boot,
        Err(AnswerFault::Invalid(_)) => true,
        // Given before, perhaps, and overtaken by the enrolment.
        Err(AnswerFault::Nack(_) | AnswerFault::KeyEnded) => false,
    };
    if is_forged {
        inner.alarm(&peer.id, Alarm::AnswerForged);
        return Err(ExchangeError::Invalid);
    }
    Ok(opened?)
}

/// The next frame of an answer, opened; none at its end.
pub(crate) async fn next(
    inner: &Inner,
    peer: &Peer,
    request: &Asked,
    frames: &mut Frames,
) -> Result<Option<OpenedAnswer>, ExchangeError> {
    match frames.next().await {
        None => Ok(None),
        Some(Err(error)) => Err(ExchangeError::Transport(error)),
        Some(Ok(bytes)) => open(inner, peer, request, &bytes).map(Some),
    }
}
