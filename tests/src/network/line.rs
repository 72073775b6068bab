//! Connections, and the frames on them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use federation_core::id::NodeId;
use federation_net::config::PeerEndpoint;
use federation_net::transport::{
    Answer, BoxFuture, ChannelIdentity, Connection, FrameSource, Frames, Transport, TransportError,
};
use federation_wire::frame::Route;
use federation_wire::keys::NodeKey;
use tokio::sync::oneshot;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::capture::{CapturedFrame, Taken};
use super::forgery::{drifting, forged};
use super::{Attached, Network};

/// How long a connection attempt into a cut takes to fail: as the HTTP transport gives up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a connection lives on which nothing passes: the interval of the HTTP transport's PINGs, and as long again
/// for the answer.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// Longest after a request that its duplicate comes.
const DUPLICATE_AFTER_MAX: Duration = Duration::from_secs(2);

/// The way into the network for one node.
pub(super) struct Port {
    network: Network,
    from: NodeId,
}

impl Port {
    pub(super) fn new(network: Network, from: NodeId) -> Self {
        Self { network, from }
    }

    async fn connect_to(&self, to: &NodeId) -> Result<Wire, TransportError> {
        let network = &self.network;
        network.awake(&self.from).await;
        let open =
            network.until(|weather| !weather.is_cut(&self.from, to) && !weather.is_cut(to, &self.from));
        if tokio::time::timeout(CONNECT_TIMEOUT, open).await.is_err() {
            network.count(|counts| counts.unreachable += 1);
            return Err(TransportError::Unreachable);
        }
        network.travel(&self.from, to).await;
        let Some(attached) = network.lock().nodes.get(to).cloned() else {
            network.count(|counts| counts.refused += 1);
            return Err(TransportError::Unreachable);
        };
        network.count(|counts| counts.connected += 1);
        Ok(Wire(Arc::new(Line::new(network.clone(), self.from.clone(), to.clone(), attached))))
    }
}

impl Transport for Port {
    fn connect<'a>(
        &'a self,
        peer: &'a PeerEndpoint,
    ) -> BoxFuture<'a, Result<Arc<dyn Connection>, TransportError>> {
        Box::pin(async move {
            let connection: Arc<dyn Connection> = Arc::new(self.connect_to(&peer.id).await?);
            Ok(connection)
        })
    }
}

/// A connection as its caller holds it.
struct Wire(Arc<Line>);

/// A connection, from the node that made it to the one that answers.
struct Line {
    network: Network,
    from: NodeId,
    to: NodeId,
    attached: Attached,
    /// Nothing has passed for too long: both ends have given it up.
    broken: CancellationToken,
    _unwatched_on_drop: DropGuard,
}

impl Line {
    fn new(network: Network, from: NodeId, to: NodeId, attached: Attached) -> Self {
        let (broken, unused) = (CancellationToken::new(), CancellationToken::new());
        let watch = watch(network.clone(), from.clone(), to.clone(), broken.clone());
        let ended = unused.clone();
        network.under_way.spawn(async move {
            tokio::select! {
                biased;
                () = ended.cancelled() => {}
                () = watch => {}
            }
        });
        Self { network, from, to, attached, broken, _unwatched_on_drop: unused.drop_guard() }
    }

    /// Returns once the caller knows that the connection is over.
    async fn lost(&self) {
        let hung_up = async {
            self.attached.gone.cancelled().await;
            // The end of a connection does not pass a cut either.
            self.network.until(|weather| !weather.is_cut(&self.to, &self.from)).await;
        };
        tokio::select! {
            biased;
            () = self.broken.cancelled() => {}
            () = hung_up => {}
        }
    }

    /// Ends the connection: TCP sends a frame again until it comes or the connection is over, and loses none alone.
    fn give_up(&self) {
        self.network.count(|counts| counts.broken += 1);
        self.broken.cancel();
    }

    /// Brings a request to the other side and gives its answer; none if it gets lost.
    async fn request(&self, route: Route, frame: Bytes) -> Option<Answer> {
        let (network, from, to) = (&self.network, &self.from, &self.to);
        network.awake(from).await;
        if network.loses_request() {
            self.give_up();
            return None;
        }
        network.travel(from, to).await;
        network.pass(from, to).await;
        network.read_by(from, to).await;
        network.show(&frame);
        let taken = Taken::default();
        network.capture(CapturedFrame::new(route, from.clone(), to.clone(), frame.clone(), taken.clone()));
        if let Some(after) = network.draw_duplicate() {
            let again = Duplicate {
                network: network.clone(),
                from: from.clone(),
                to: to.clone(),
                taken: taken.clone(),
            };
            network.under_way.spawn(again.deliver(route, frame.clone(), after));
        }
        let answer = self.attached.service.call(&ChannelIdentity::Unproven, route, frame).await;
        network.note(&taken, answer.status);
        network.awake(to).await;
        Some(answer)
    }

    /// Brings an answer back.
    async fn respond(&self) {
        let (network, from, to) = (&self.network, &self.to, &self.from);
        network.travel(from, to).await;
        network.pass(from, to).await;
        network.read_by(from, to).await;
        if network.loses_answer() {
            self.give_up();
            std::future::pending::<()>().await;
        }
        network.count(|counts| counts.answers += 1);
    }
}

/// Breaks a connection once nothing has passed for too long.
async fn watch(network: Network, from: NodeId, to: NodeId, broken: CancellationToken) {
    loop {
        network.until(|weather| weather.is_silent(&from, &to)).await;
        let passable = network.until(|weather| !weather.is_silent(&from, &to));
        if tokio::time::timeout(SILENCE_MAX, passable).await.is_err() {
            network.count(|counts| counts.broken += 1);
            broken.cancel();
            return;
        }
    }
}

impl Connection for Wire {
    /// Nothing is proven: whoever is in the network makes and changes frames, so they are signed.
    fn channel(&self) -> ChannelIdentity {
        ChannelIdentity::Unproven
    }

    fn call(&self, route: Route, frame: Bytes) -> BoxFuture<'static, Result<Frames, TransportError>> {
        let line = Arc::clone(&self.0);
        let (arrived, answer) = oneshot::channel();
        // What was sent is on its way: it arrives whether its sender still waits, or lives.
        line.network.under_way.spawn(deliver(Arc::clone(&line), route, frame, arrived));
        Box::pin(async move {
            let exchange = async {
                let Ok(answer) = answer.await else { return std::future::pending().await };
                line.respond().await;
                match answer.frames {
                    Some(frames) => {
                        let is_forged = line.network.forges_answer();
                        Ok(Frames::new(Travelling { frames, line: Arc::clone(&line), is_forged }))
                    }
                    None => Err(TransportError::Refused { status: answer.status }),
                }
            };
            tokio::select! {
                biased;
                () = line.lost() => Err(TransportError::ConnectionLost),
                answer = exchange => answer,
            }
        })
    }
}

/// Has a request handled, as long as the connection is up: the server drops what it does for one that is not.
async fn deliver(line: Arc<Line>, route: Route, frame: Bytes, arrived: oneshot::Sender<Answer>) {
    let _guard = PanicGuard::new(line.network.clone());
    tokio::select! {
        biased;
        () = line.attached.gone.cancelled() => {}
        () = line.broken.cancelled() => {}
        answer = line.request(route, frame) => {
            if let Some(answer) = answer {
                // A caller that has gone away is no error.
                drop(arrived.send(answer));
            }
        }
    }
}

/// A request that comes a second time.
struct Duplicate {
    network: Network,
    from: NodeId,
    to: NodeId,
    taken: Taken,
}

impl Duplicate {
    /// Brings it to whoever answers by then; the answer goes nowhere.
    async fn deliver(self, route: Route, frame: Bytes, after: Duration) {
        let Self { network, from, to, taken } = self;
        let _guard = PanicGuard::new(network.clone());
        tokio::time::sleep(after).await;
        network.awake(&to).await;
        if network.is_cut(&from, &to) {
            return;
        }
        let Some(attached) = network.lock().nodes.get(&to).cloned() else { return };
        network.count(|counts| counts.duplicated += 1);
        tokio::select! {
            biased;
            () = attached.gone.cancelled() => {}
            answer = attached.service.call(&ChannelIdentity::Unproven, route, frame) => network.note(&taken, answer.status),
        }
    }
}

/// Remembers a panic of whoever handled a frame: nobody else waits for that task.
pub(super) struct PanicGuard(Network);

impl PanicGuard {
    pub(super) fn new(network: Network) -> Self {
        Self(network)
    }
}

impl Drop for PanicGuard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.lock().has_panicked = true;
        }
    }
}

/// A frame that waits at a cut.
struct Held(Option<Network>);

impl Held {
    fn passes(mut self) {
        self.0 = None;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(network) = &self.0 {
            network.count(|counts| counts.swallowed += 1);
        }
    }
}

impl Network {
    /// Returns once a frame has passed the link. What a cut holds up is sent again when it is mended.
    async fn pass(&self, from: &NodeId, to: &NodeId) {
        if !self.is_cut(from, to) {
            return;
        }
        self.count(|counts| counts.held += 1);
        let held = Held(Some(self.clone()));
        while self.is_cut(from, to) {
            self.until(|weather| !weather.is_cut(from, to)).await;
            self.travel(from, to).await;
        }
        held.passes();
    }

    fn capture(&self, frame: CapturedFrame) {
        let mut state = self.lock();
        state.weather.counts.requests += 1;
        state.captured.push(frame);
    }

    fn note(&self, taken: &Taken, status: u16) {
        if taken.answered(status) {
            self.count(|counts| counts.taken_twice += 1);
        }
    }

    fn loses_request(&self) -> bool {
        let weather = &mut self.lock().weather;
        let is_lost = weather.happens(weather.chances.lost_requests);
        weather.counts.requests_lost += u64::from(is_lost);
        is_lost
    }

    fn loses_answer(&self) -> bool {
        let weather = &mut self.lock().weather;
        let is_lost = weather.happens(weather.chances.lost_answers);
        weather.counts.answers_lost += u64::from(is_lost);
        is_lost
    }

    fn forges_answer(&self) -> bool {
        let weather = &mut self.lock().weather;
        weather.happens(weather.chances.forged_answers)
    }

    fn liar(&self, node: &NodeId) -> Option<Arc<NodeKey>> {
        self.lock().weather.liars.get(node).cloned()
    }

    /// After how long the request comes again, if it does.
    fn draw_duplicate(&self) -> Option<Duration> {
        let weather = &mut self.lock().weather;
        weather.happens(weather.chances.duplicates).then(|| weather.draw_up_to(DUPLICATE_AFTER_MAX))
    }
}

/// The frames of an answer under way.
struct Travelling {
    frames: Frames,
    line: Arc<Line>,
    is_forged: bool,
}

impl FrameSource for Travelling {
    fn next(&mut self) -> BoxFuture<'_, Option<Result<Bytes, TransportError>>> {
        Box::pin(async move {
            let Self { frames, line, is_forged } = self;
            let arrival = async {
                let frame = frames.next().await;
                line.network.awake(&line.to).await;
                line.network.pass(&line.to, &line.from).await;
                if let Some(key) = line.network.liar(&line.to) {
                    return frame.map(|frame| frame.map(|frame| drifting(&frame, &key).unwrap_or(frame)));
                }
                if let Some(Ok(frame)) = &frame {
                    line.network.show(frame);
                }
                if !*is_forged {
                    return frame;
                }
                frame.map(|frame| {
                    frame.map(|frame| {
                        let forged = forged(&frame);
                        line.network.count(|counts| counts.answers_forged += u64::from(forged.is_some()));
                        forged.unwrap_or(frame)
                    })
                })
            };
            tokio::select! {
                biased;
                () = line.lost() => Some(Err(TransportError::ConnectionLost)),
                frame = arrival => frame,
            }
        })
    }
}
