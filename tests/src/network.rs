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
use tokio_util::sync::CancellationToken;

/// How long a connection attempt into a cut takes to fail, like a TCP timeout cut short by its caller.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// A network of nodes. Cheap to clone.
#[derive(Clone)]
pub struct Network {
    state: Arc<Mutex<State>>,
}

struct State {
    random: StdRng,
    delay_max: Duration,
    nodes: BTreeMap<NodeId, Attached>,
    cuts: BTreeSet<(NodeId, NodeId)>,
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
                drop_answers_percent: 0,
            })),
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
        Box::pin(async move {
            let gone = attached.gone.clone();
            let exchange = async {
                way.network.travel().await;
                way.network.pass(&way.to, &way.from).await;
                let answer = attached.service.call(route, frame).await;
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

impl Network {
    /// Returns once the link works, which for one that is cut is never: what was sent into it is lost.
    async fn pass(&self, from: &NodeId, to: &NodeId) {
        if self.is_cut(from, to) {
            std::future::pending::<()>().await;
        }
    }
}

/// The way back.
struct Way {
    network: Network,
    from: NodeId,
    to: NodeId,
}

impl Way {
    async fn arrive(&self) {
        self.network.travel().await;
        self.network.pass(&self.from, &self.to).await;
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
