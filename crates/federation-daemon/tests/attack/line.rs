//! An attacker's own connection: from an address of its own, with nothing of the product in it.

use std::net::{Ipv4Addr, SocketAddr};

use bytes::Bytes;
use federation_net::http::FRAME_MEDIA_TYPE;
use federation_wire::frame::{FrameKind, ReceivedFrame, Route};
use federation_wire::v1::nack::Nack;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2::{self, SendRequest};
use hyper::{Request, header};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

use crate::loot::{Place, body};

/// Where attackers call from: what a node bounds by address is theirs alone.
pub(crate) const ATTACKER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// A TCP connection from `from`.
pub(crate) async fn connect(from: Ipv4Addr, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((from, 0).into())?;
    let stream = socket.connect(to).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// An HTTP/2 connection.
pub(crate) struct Line {
    sender: SendRequest<Full<Bytes>>,
    _driver: JoinSet<()>,
}

/// What came back.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) bytes: Bytes,
}

impl Line {
    pub(crate) async fn open(from: Ipv4Addr, to: SocketAddr) -> Option<Self> {
        let stream = connect(from, to).await.ok()?;
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.ok()?;
        let mut driver = JoinSet::new();
        driver.spawn(async move { drop(connection.await) });
        Some(Self { sender, _driver: driver })
    }

    /// Sends a frame. None if the connection ended first.
    pub(crate) async fn send(&self, route: Route, frame: &[u8]) -> Option<Answer> {
        let mut sender = self.sender.clone();
        let request = Request::post(format!("http://peer{}", route.path()))
            .header(header::CONTENT_TYPE, FRAME_MEDIA_TYPE)
            .body(Full::new(Bytes::copy_from_slice(frame)))
            .unwrap();
        sender.ready().await.ok()?;
        let (head, body) = sender.send_request(request).await.ok()?.into_parts();
        Some(Answer { status: head.status.as_u16(), bytes: body.collect().await.ok()?.to_bytes() })
    }
}

impl Answer {
    /// The word of a refusal, signed by `by` or bare.
    pub(crate) fn word(&self, by: &Place) -> String {
        if let Some(frame) = self.nack(by) {
            return Nack::from_bytes(body(frame)).unwrap().slug.as_str().to_owned();
        }
        let text = String::from_utf8_lossy(&self.bytes);
        text.split('"').nth(3).unwrap_or_default().to_owned()
    }

    fn nack(&self, by: &Place) -> Option<&[u8]> {
        let frame = ReceivedFrame::parse(&self.bytes).ok()?;
        let is_nack = matches!(frame.header().envelope.kind, FrameKind::Nack { .. });
        frame.verify(&by.key).unwrap();
        is_nack.then_some(&self.bytes[..])
    }
}
