//! A directed link between two nodes: a TCP proxy that holds, loses or lets through.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What a link does with what it carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkMode {
    /// Carries everything.
    Open,
    /// Carries nothing; what was sent arrives when the link opens, as with TCP over a cut network.
    Held,
    /// Carries only from the dialled node to the dialling one.
    RequestsHeld,
    /// Carries only from the dialling node to the dialled one.
    AnswersHeld,
    /// Resets every connection.
    Reset,
}

/// How often a link was what it is meant to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkCounts {
    /// Connections taken.
    pub connections: u64,
    /// Pieces of a stream that were held back.
    pub held: u64,
    /// Connections reset.
    pub resets: u64,
}

/// A running proxy. Its connections end when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    mode: watch::Sender<LinkMode>,
    counters: Arc<Counters>,
    _tasks: JoinSet<()>,
}

#[derive(Debug, Default)]
struct Counters {
    connections: AtomicU64,
    held: AtomicU64,
    resets: AtomicU64,
}

#[derive(Clone, Copy)]
enum Direction {
    Request,
    Answer,
}

/// Bytes that a proxy holds per direction of a connection.
const BUFFER_BYTES: usize = 16 * 1024;

impl Proxy {
    /// Listens on a free port of loopback and connects what comes there to `target`.
    pub async fn start(target: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (mode, watched) = watch::channel(LinkMode::Open);
        let counters = Arc::new(Counters::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, target, watched, Arc::clone(&counters)));
        Ok(Self { address, mode, counters, _tasks: tasks })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on the link does this, to open connections too.
    pub fn set(&self, mode: LinkMode) {
        self.mode.send_replace(mode);
    }

    /// What it has done so far.
    pub fn counts(&self) -> LinkCounts {
        LinkCounts {
            connections: self.counters.connections.load(Ordering::Relaxed),
            held: self.counters.held.load(Ordering::Relaxed),
            resets: self.counters.resets.load(Ordering::Relaxed),
        }
    }
}

impl LinkMode {
    fn carries(self, direction: Direction) -> bool {
        match (self, direction) {
            (Self::Open, _)
            | (Self::RequestsHeld, Direction::Answer)
            | (Self::AnswersHeld, Direction::Request) => true,
            (Self::Held | Self::Reset | Self::RequestsHeld | Self::AnswersHeld, _) => false,
        }
    }
}

async fn accept(
    listener: TcpListener,
    target: SocketAddr,
    mode: watch::Receiver<LinkMode>,
    counters: Arc<Counters>,
) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        if let Ok((stream, _)) = listener.accept().await {
            counters.connections.fetch_add(1, Ordering::Relaxed);
            connections.spawn(carry(stream, target, mode.clone(), Arc::clone(&counters)));
        }
    }
}

/// Carries one connection until one side ends it or the link resets it.
async fn carry(
    mut dialling: TcpStream,
    target: SocketAddr,
    mut mode: watch::Receiver<LinkMode>,
    counters: Arc<Counters>,
) {
    if *mode.borrow_and_update() == LinkMode::Reset {
        counters.resets.fetch_add(1, Ordering::Relaxed);
        return reset_at_end(&dialling);
    }
    let Ok(mut dialled) = TcpStream::connect(target).await else { return reset_at_end(&dialling) };
    let _ = (dialled.set_nodelay(true), dialling.set_nodelay(true));
    let mut reset_by = mode.clone();
    // Borrowed halves: owned ones would end their direction in order when they are dropped.
    let is_reset = {
        let (from_dialling, to_dialling) = dialling.split();
        let (from_dialled, to_dialled) = dialled.split();
        tokio::select! {
            biased;
            reset = reset_by.wait_for(|mode| *mode == LinkMode::Reset) => reset.is_ok(),
            () = pump(from_dialling, to_dialled, Direction::Request, mode.clone(), &counters) => false,
            () = pump(from_dialled, to_dialling, Direction::Answer, mode, &counters) => false,
        }
    };
    if is_reset {
        counters.resets.fetch_add(1, Ordering::Relaxed);
        reset_at_end(&dialling);
        reset_at_end(&dialled);
    }
}

/// Makes a socket send a reset in place of an orderly end when it is dropped.
fn reset_at_end(stream: &TcpStream) {
    // If it cannot, it ends in order: the other side sees its end all the same.
    let _ = stream.set_zero_linger();
}

/// Carries one direction until it ends.
async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    direction: Direction,
    mut mode: watch::Receiver<LinkMode>,
    counters: &Counters,
) {
    let mut buffer = vec![0; BUFFER_BYTES];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        if !mode.borrow_and_update().carries(direction) {
            counters.held.fetch_add(1, Ordering::Relaxed);
            if mode.wait_for(|mode| mode.carries(direction)).await.is_err() {
                return;
            }
        }
        let Some(bytes) = buffer.get(..count) else { return };
        if to.write_all(bytes).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A connection through a proxy to a server that sends back what it gets.
    async fn echo() -> (Proxy, TcpStream, JoinSet<()>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let target = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (mut from, mut to) = stream.split();
            let _ = tokio::io::copy(&mut from, &mut to).await;
        });
        let proxy = Proxy::start(target).await.unwrap();
        let stream = TcpStream::connect(proxy.address()).await.unwrap();
        (proxy, stream, tasks)
    }

    async fn exchange(stream: &mut TcpStream, byte: u8) -> Option<u8> {
        stream.write_all(&[byte]).await.ok()?;
        answer(stream).await
    }

    async fn answer(stream: &mut TcpStream) -> Option<u8> {
        tokio::time::timeout(Duration::from_millis(100), stream.read_u8()).await.ok()?.ok()
    }

    #[tokio::test]
    async fn a_held_link_delivers_when_it_opens() {
        for mode in [LinkMode::Held, LinkMode::RequestsHeld, LinkMode::AnswersHeld] {
            let (proxy, mut stream, _server) = echo().await;
            assert_eq!(exchange(&mut stream, 1).await, Some(1), "{mode:?}");
            proxy.set(mode);
            assert_eq!(exchange(&mut stream, 2).await, None, "{mode:?}");
            assert_eq!(proxy.counts().held, 1, "{mode:?}");
            proxy.set(LinkMode::Open);
            assert_eq!(answer(&mut stream).await, Some(2), "{mode:?}");
        }
    }

    #[tokio::test]
    async fn one_way_lets_the_other_way_through() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let proxy = Proxy::start(listener.local_addr().unwrap()).await.unwrap();
        let mut dialling = TcpStream::connect(proxy.address()).await.unwrap();
        let (mut dialled, _) = listener.accept().await.unwrap();
        proxy.set(LinkMode::AnswersHeld);
        dialling.write_all(&[1]).await.unwrap();
        assert_eq!(answer(&mut dialled).await, Some(1));
        dialled.write_all(&[2]).await.unwrap();
        assert_eq!(answer(&mut dialling).await, None);
        proxy.set(LinkMode::RequestsHeld);
        assert_eq!(answer(&mut dialling).await, Some(2));
        dialling.write_all(&[3]).await.unwrap();
        assert_eq!(answer(&mut dialled).await, None);
    }

    #[tokio::test]
    async fn a_reset_link_resets_open_and_new_connections() {
        let (proxy, mut stream, _server) = echo().await;
        assert_eq!(exchange(&mut stream, 1).await, Some(1));
        proxy.set(LinkMode::Reset);
        let error = stream.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        let mut second = TcpStream::connect(proxy.address()).await.unwrap();
        assert!(second.read_u8().await.is_err());
        assert_eq!(proxy.counts().resets, 2);
    }
}
