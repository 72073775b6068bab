//! A network in memory: frames travel with seeded delays, links are cut one way or both, nodes vanish.
//!
//! It carries whole frames, not bytes of a TCP stream: what is simulated is what the protocol sees of a network
//! (delay, reordering between requests, lost requests, lost answers, unreachable nodes). HTTP itself is tested with
//! real processes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use federation_core::id::NodeId;
use federation_net::config::PeerEndpoint;
use federation_net::transport::{
    BoxFuture, Connection, FrameSource, Frames, PeerService, Transport, TransportError,
};
use federation_wire::frame::Route;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long a connection attempt into a cut takes to fail, like a TCP timeout cut short by its caller.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// A network of nodes. Cheap to clone.
#[derive(Clone)]
pub struct Network {
    state: Arc<Mutex<State>>,
    /// Told when a node that was paused goes on.
    resumed: Arc<Notify>,
    /// What is under way, whether or not its sender still waits.
    under_way: TaskTracker,
}

struct State {
    random: StdRng,
    delay_max: Duration,
    nodes: BTreeMap<NodeId, Attached>,
    cuts: BTreeSet<(NodeId, NodeId)>,
    paused: BTreeSet<NodeId>,
    has_panicked: bool,
    drop_answers_percent: u32,
}

#[derive(Clone)]
struct Attached {
    service: Arc<dyn PeerService>,
    gone: CancellationToken,
}

impl Network {
    /// A network whose delays are drawn from `seed`, uniformly up to `delay_max` each way.
    pub fn new(seed: u64, delay_max: Duration) -> Self {
        Self {
            state: Arc::new(Mutex::new(State {
                random: StdRng::seed_from_u64(seed),
                delay_max,
                nodes: BTreeMap::new(),
                cuts: BTreeSet::new(),
                paused: BTreeSet::new(),
                has_panicked: false,
                drop_answers_percent: 0,
            })),
            resumed: Arc::default(),
            under_way: TaskTracker::new(),
        }
    }

    /// The way into the network for one node.
    pub fn transport(&self, from: &NodeId) -> Arc<dyn Transport> {
        Arc::new(Port { network: self.clone(), from: from.clone() })
    }

    /// A node answers from here on.
    pub fn attach(&self, node: &NodeId, service: Arc<dyn PeerService>) {
        let attached = Attached { service, gone: CancellationToken::new() };
        if let Some(before) = self.lock().nodes.insert(node.clone(), attached) {
            before.gone.cancel();
        }
    }

    /// A node is gone: what is under way to it breaks off, new connections are refused.
    pub fn detach(&self, node: &NodeId) {
        let gone = self.lock().nodes.remove(node);
        if let Some(attached) = gone {
            attached.gone.cancel();
        }
    }

    /// Nothing passes from `from` to `to` any more: no request, and no answer.
    pub fn cut(&self, from: &NodeId, to: &NodeId) {
        self.lock().cuts.insert((from.clone(), to.clone()));
    }

    /// A node stands still: what comes for it waits, and so does what it says. Nothing of it is lost.
    pub fn pause(&self, node: &NodeId) {
        self.lock().paused.insert(node.clone());
    }

    /// Whether a node panicked while it handled a frame.
    pub fn has_panicked(&self) -> bool {
        self.lock().has_panicked
    }

    /// A node goes on.
    pub fn resume(&self, node: &NodeId) {
        self.lock().paused.remove(node);
        self.resumed.notify_waiters();
    }

    /// Returns once the node is not paused.
    pub async fn awake(&self, node: &NodeId) {
        loop {
            let resumed = self.resumed.notified();
            if !self.lock().paused.contains(node) {
                return;
            }
            resumed.await;
        }
    }

    /// Every link works again.
    pub fn heal(&self) {
        let mut state = self.lock();
        state.cuts.clear();
        state.drop_answers_percent = 0;
    }

    /// That many of a hundred answers are lost: the request was handled.
    pub fn drop_answers(&self, percent: u32) {
        self.lock().drop_answers_percent = percent;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_cut(&self, from: &NodeId, to: &NodeId) -> bool {
        self.lock().cuts.contains(&(from.clone(), to.clone()))
    }

    fn loses_answer(&self) -> bool {
        let mut state = self.lock();
        let percent = state.drop_answers_percent;
        percent > 0 && state.random.random_range(0..100) < percent
    }

    async fn travel(&self) {
        let delay = {
            let mut state = self.lock();
            let most = u64::try_from(state.delay_max.as_micros()).unwrap_or(u64::MAX);
            Duration::from_micros(state.random.random_range(0..=most))
        };
        tokio::time::sleep(delay).await;
    }
}

struct Port {
    network: Network,
    from: NodeId,
}

impl Transport for Port {
    fn connect<'a>(
        &'a self,
        peer: &'a PeerEndpoint,
    ) -> BoxFuture<'a, Result<Arc<dyn Connection>, TransportError>> {
        Box::pin(async move {
            self.network.awake(&self.from).await;
            self.network.travel().await;
            if self.network.is_cut(&self.from, &peer.id) || self.network.is_cut(&peer.id, &self.from) {
                tokio::time::sleep(CONNECT_TIMEOUT).await;
                return Err(TransportError::Unreachable);
            }
            let attached = self.network.lock().nodes.get(&peer.id).cloned();
            let attached = attached.ok_or(TransportError::Unreachable)?;
            let connection: Arc<dyn Connection> = Arc::new(Wire {
                network: self.network.clone(),
                from: self.from.clone(),
                to: peer.id.clone(),
                attached,
            });
            Ok(connection)
        })
    }
}

struct Wire {
    network: Network,
    from: NodeId,
    to: NodeId,
    attached: Attached,
}

impl Connection for Wire {
    fn call(&self, route: Route, frame: Bytes) -> BoxFuture<'static, Result<Frames, TransportError>> {
        let way = Way { network: self.network.clone(), from: self.to.clone(), to: self.from.clone() };
        let attached = self.attached.clone();
        let (arrived, answer) = oneshot::channel();
        // What was sent is on its way: it arrives whether its sender still waits, or lives.
        self.network.under_way.spawn(deliver(way.clone(), attached.clone(), route, frame, arrived));
        Box::pin(async move {
            let gone = attached.gone.clone();
            let exchange = async {
                let Ok(answer) = answer.await else { return std::future::pending().await };
                way.arrive().await;
                match answer.frames {
                    Some(frames) => Ok(Frames::new(Travelling { frames, way, gone: attached.gone.clone() })),
                    None => Err(TransportError::Refused { status: answer.status }),
                }
            };
            tokio::select! {
                biased;
                () = gone.cancelled() => Err(TransportError::ConnectionLost),
                answer = exchange => answer,
            }
        })
    }
}

/// Brings a frame to the other side and hands its answer back; says nothing where the link is cut or the node gone.
async fn deliver(
    way: Way,
    attached: Attached,
    route: Route,
    frame: Bytes,
    arrived: oneshot::Sender<federation_net::transport::Answer>,
) {
    let _guard = PanicGuard(way.network.clone());
    let delivery = async {
        way.network.awake(&way.to).await;
        if way.network.is_cut(&way.to, &way.from) {
            return;
        }
        // What has waited for a paused node is read in any order.
        way.network.awake(&way.from).await;
        way.network.travel().await;
        let answer = attached.service.call(route, frame).await;
        way.network.awake(&way.from).await;
        // A caller that has gone away is no error.
        drop(arrived.send(answer));
    };
    tokio::select! {
        biased;
        () = attached.gone.cancelled() => {}
        () = delivery => {}
    }
}

/// Remembers a panic of whoever handled a frame: nobody else waits for that task.
struct PanicGuard(Network);

impl Drop for PanicGuard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.lock().has_panicked = true;
        }
    }
}

impl Network {
    /// Returns once the link works, which for one that is cut is never: what was sent into it is lost.
    async fn pass(&self, from: &NodeId, to: &NodeId) {
        if self.is_cut(from, to) {
            std::future::pending::<()>().await;
        }
    }
}

/// The way back.
#[derive(Clone)]
struct Way {
    network: Network,
    from: NodeId,
    to: NodeId,
}

impl Way {
    async fn arrive(&self) {
        self.network.travel().await;
        self.network.pass(&self.from, &self.to).await;
        self.network.awake(&self.to).await;
        if self.network.loses_answer() {
            std::future::pending::<()>().await;
        }
    }
}

/// The frames of an answer under way.
struct Travelling {
    frames: Frames,
    way: Way,
    gone: CancellationToken,
}

impl FrameSource for Travelling {
    fn next(&mut self) -> BoxFuture<'_, Option<Result<Bytes, TransportError>>> {
        Box::pin(async move {
            let gone = self.gone.clone();
            let arrival = async {
                let frame = self.frames.next().await;
                self.way.network.awake(&self.way.from).await;
                self.way.network.pass(&self.way.from, &self.way.to).await;
                frame
            };
            tokio::select! {
                biased;
                () = gone.cancelled() => Some(Err(TransportError::ConnectionLost)),
                frame = arrival => frame,
            }
        })
    }
}
