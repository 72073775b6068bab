//! A proxy that keeps what it carries, and can swallow it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// A connection as it was recorded.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recorded {
    /// What the dialling side sent.
    pub(crate) asked: Vec<u8>,
    /// What came back.
    pub(crate) answered: Vec<u8>,
    /// Where in `asked` begins what never arrived.
    pub(crate) swallowed_from: Option<usize>,
}

/// What a recorder does with what it records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Carry,
    Swallow,
}

type Tape = Arc<Mutex<Vec<Recorded>>>;

/// A running recorder. Its connections end when it is dropped.
pub(crate) struct Recorder {
    address: SocketAddr,
    mode: watch::Sender<Mode>,
    tape: Tape,
    _tasks: JoinSet<()>,
}

impl Recorder {
    /// Listens on a free port of loopback and connects what comes there to `target`.
    pub(crate) async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (mode, watched) = watch::channel(Mode::Carry);
        let tape = Tape::default();
        let (mut tasks, kept) = (JoinSet::new(), Arc::clone(&tape));
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(carry(stream, target, watched.clone(), Arc::clone(&kept)));
            }
        });
        Self { address, mode, tape, _tasks: tasks }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// All connections so far.
    pub(crate) fn connections(&self) -> Vec<Recorded> {
        self.tape.lock().unwrap().clone()
    }

    /// From here on nothing of what is asked arrives.
    pub(crate) fn swallow(&self) {
        self.mode.send_replace(Mode::Swallow);
    }

    /// Carries again: connections that lost something end.
    pub(crate) fn carry(&self) {
        self.mode.send_replace(Mode::Carry);
    }
}

async fn carry(mut dialling: TcpStream, target: SocketAddr, mode: watch::Receiver<Mode>, tape: Tape) {
    let Ok(mut dialled) = TcpStream::connect(target).await else { return };
    // As the nodes do: without it each exchange takes as long as a delayed acknowledgement.
    if dialling.set_nodelay(true).is_err() || dialled.set_nodelay(true).is_err() {
        return;
    }
    let at = {
        let mut tape = tape.lock().unwrap();
        tape.push(Recorded::default());
        tape.len() - 1
    };
    let (asks, hears) = dialling.split();
    let (answers, asked) = dialled.split();
    tokio::select! {
        () = requests(asks, asked, mode, &tape, at) => {}
        () = replies(answers, hears, &tape, at) => {}
    }
}

async fn requests(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut mode: watch::Receiver<Mode>,
    tape: &Tape,
    at: usize,
) {
    let mut buffer = vec![0; 64 * 1024];
    let mut has_lost = false;
    loop {
        let read = tokio::select! {
            biased;
            () = async { drop(mode.wait_for(|mode| *mode == Mode::Carry).await) }, if has_lost => return,
            read = from.read(&mut buffer) => read,
        };
        let Ok(count @ 1..) = read else { return };
        let is_swallowed = has_lost || *mode.borrow() == Mode::Swallow;
        {
            let recorded = &mut tape.lock().unwrap()[at];
            if is_swallowed {
                recorded.swallowed_from.get_or_insert(recorded.asked.len());
            }
            recorded.asked.extend_from_slice(&buffer[..count]);
        }
        has_lost = is_swallowed;
        if !is_swallowed && to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}

async fn replies(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, tape: &Tape, at: usize) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        tape.lock().unwrap()[at].answered.extend_from_slice(&buffer[..count]);
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
