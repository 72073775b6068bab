//! A network in memory: frames travel with seeded delays, links are cut one way or both, nodes vanish.
//!
//! It carries whole frames, not bytes of a TCP stream: what is simulated is what the protocol sees of a network
//! (delay, reordering between requests, lost requests and answers, frames that come late or twice, connections that
//! break, unreachable nodes). HTTP itself is tested with real processes.
//!
//! Everything is drawn from one seed and runs on tokio's clock: one seed, one history, in a runtime of one thread whose
//! clock is paused.

mod capture;
mod counts;
mod forgery;
mod line;
mod weather;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use federation_core::id::NodeId;
use federation_net::transport::{Answer, ChannelIdentity, PeerService, Transport};
use federation_wire::frame::Route;
use federation_wire::keys::NodeKey;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use capture::CapturedFrame;
pub use counts::NetworkCounts;

use capture::Ring;
use line::{PanicGuard, Port};
use weather::Weather;

/// A network of nodes. Cheap to clone.
#[derive(Clone)]
pub struct Network {
    state: Arc<Mutex<State>>,
    /// Told when frames may pass that could not, or the other way round.
    changed: Arc<Notify>,
    /// What is under way, whether or not its sender still waits.
    under_way: TaskTracker,
}

struct State {
    weather: Weather,
    nodes: BTreeMap<NodeId, Attached>,
    captured: Ring,
    watcher: Option<Watcher>,
    has_panicked: bool,
}

/// Is shown every frame that reaches its node.
type Watcher = Arc<dyn Fn(&Bytes) + Send + Sync>;

#[derive(Clone)]
struct Attached {
    service: Arc<dyn PeerService>,
    gone: CancellationToken,
}

impl Network {
    /// A network whose delays are drawn from `seed`, uniformly up to `delay_max` each way.
    pub fn new(seed: u64, delay_max: Duration) -> Self {
        let state = State {
            weather: Weather::new(seed, delay_max),
            nodes: BTreeMap::new(),
            captured: Ring::default(),
            watcher: None,
            has_panicked: false,
        };
        Self { state: Arc::new(Mutex::new(state)), changed: Arc::default(), under_way: TaskTracker::new() }
    }

    /// The way into the network for one node.
    pub fn transport(&self, from: &NodeId) -> Arc<dyn Transport> {
        Arc::new(Port::new(self.clone(), from.clone()))
    }

    /// From here on `watcher` is shown every frame that reaches its node.
    pub fn watch(&self, watcher: impl Fn(&Bytes) + Send + Sync + 'static) {
        self.lock().watcher = Some(Arc::new(watcher));
    }

    fn show(&self, frame: &Bytes) {
        let watcher = self.lock().watcher.clone();
        if let Some(watcher) = watcher {
            watcher(frame);
        }
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

    /// Nothing passes from `from` to `to` any more: no request, and no answer. What was sent waits there, and goes on
    /// once the cut is mended, unless its connection breaks before.
    pub fn cut(&self, from: &NodeId, to: &NodeId) {
        self.change(|weather| weather.cuts.insert((from.clone(), to.clone())));
    }

    /// Nothing passes between two nodes any more.
    pub fn cut_both(&self, a: &NodeId, b: &NodeId) {
        self.change(|weather| weather.cuts.extend([(a.clone(), b.clone()), (b.clone(), a.clone())]));
    }

    /// Frames pass again between two nodes, both ways.
    pub fn mend(&self, a: &NodeId, b: &NodeId) {
        self.change(|weather| weather.cuts.retain(|(from, to)| (from, to) != (a, b) && (from, to) != (b, a)));
    }

    /// Every link works again as in the beginning, and as fast; nothing is lost, repeated or late any more. Paused
    /// nodes stay so.
    pub fn heal(&self) {
        self.change(Weather::heal);
    }

    /// A node stands still: what comes for it waits, and so does what it says. Nothing of it is lost, unless it stands
    /// still for so long that its connections break.
    pub fn pause(&self, node: &NodeId) {
        self.change(|weather| weather.paused.insert(node.clone()));
    }

    /// A node goes on.
    pub fn resume(&self, node: &NodeId) {
        self.change(|weather| weather.paused.remove(node));
    }

    /// Returns once the node is not paused.
    pub async fn awake(&self, node: &NodeId) {
        self.until(|weather| !weather.paused.contains(node)).await;
    }

    /// From here on a frame takes up to that long each way. Two seconds are the most for which connections stay
    /// faithful to the transport, which breaks one whose PING is unanswered for five.
    pub fn set_delay_max(&self, delay_max: Duration) {
        self.lock().weather.delay_max = delay_max;
    }

    /// Frames from `from` to `to` take that much longer than all others.
    pub fn slow_link(&self, from: &NodeId, to: &NodeId, more: Duration) {
        self.lock().weather.slow.insert((from.clone(), to.clone()), more);
    }

    /// That many of a hundred requests are lost on their way.
    pub fn drop_requests(&self, percent: u32) {
        self.lock().weather.chances.lost_requests = percent;
    }

    /// That many of a hundred answers are lost: the request was handled.
    pub fn drop_answers(&self, percent: u32) {
        self.lock().weather.chances.lost_answers = percent;
    }

    /// That many of a hundred answers are changed on their way by somebody who has no key of their sender.
    pub fn forge_answers(&self, percent: u32) {
        self.lock().weather.chances.forged_answers = percent;
    }

    /// A node acks every op with the hash of another one, and signs that with its own key, until the network heals.
    pub fn lie_in_acks(&self, node: &NodeId, key: Arc<NodeKey>) {
        self.lock().weather.liars.insert(node.clone(), key);
    }

    /// That many of a hundred requests come a second time, up to two seconds after the first, like from a box on the
    /// way that repeats what it has seen. Nobody gets the answer to the second.
    pub fn duplicate(&self, percent: u32) {
        self.lock().weather.chances.duplicates = percent;
    }

    /// That many of a hundred frames take several times the delay, so that later ones overtake them.
    pub fn reorder(&self, percent: u32) {
        self.lock().weather.chances.overtaken = percent;
    }

    /// Whether a node panicked while it handled a frame.
    pub fn has_panicked(&self) -> bool {
        self.lock().has_panicked
    }

    /// What has happened so far.
    pub fn counts(&self) -> NetworkCounts {
        self.lock().weather.counts
    }

    /// The last requests that reached a node, the oldest first: what somebody who listens has.
    pub fn captured(&self) -> Vec<CapturedFrame> {
        self.lock().captured.frames()
    }

    /// Brings a frame to a node from nowhere: somebody who is in its own network, so that no cut keeps it away. None
    /// if the node does not run, or ends before it answers.
    pub async fn inject(&self, to: &NodeId, route: Route, frame: Bytes) -> Option<Answer> {
        self.travel(to, to).await;
        self.read_by(to, to).await;
        let attached = self.lock().nodes.get(to).cloned()?;
        self.count(|counts| counts.injected += 1);
        let (network, node) = (self.clone(), to.clone());
        // As the server has a task for each request: a panic is the node's, not the attacker's.
        let handling = self.under_way.spawn(async move {
            let _guard = PanicGuard::new(network.clone());
            let answer = attached.service.call(&ChannelIdentity::Unproven, route, frame);
            let answer = tokio::select! {
                biased;
                () = attached.gone.cancelled() => return None,
                answer = answer => answer,
            };
            network.awake(&node).await;
            Some(answer)
        });
        handling.await.ok().flatten()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, what: impl FnOnce(&mut NetworkCounts)) {
        what(&mut self.lock().weather.counts);
    }

    fn change<T>(&self, change: impl FnOnce(&mut Weather) -> T) {
        change(&mut self.lock().weather);
        self.changed.notify_waiters();
    }

    /// Returns once `holds` holds.
    async fn until(&self, holds: impl Fn(&Weather) -> bool) {
        loop {
            let changed = self.changed.notified();
            if holds(&self.lock().weather) {
                return;
            }
            changed.await;
        }
    }

    fn is_cut(&self, from: &NodeId, to: &NodeId) -> bool {
        self.lock().weather.is_cut(from, to)
    }

    async fn travel(&self, from: &NodeId, to: &NodeId) {
        let delay = self.lock().weather.draw_delay(from, to);
        tokio::time::sleep(delay).await;
    }

    /// Returns once a node takes what has come for it. What has waited for one that stood still is read in any order.
    async fn read_by(&self, from: &NodeId, node: &NodeId) {
        while self.lock().weather.paused.contains(node) {
            self.awake(node).await;
            self.travel(from, node).await;
        }
    }
}

#[cfg(test)]
mod tests;
