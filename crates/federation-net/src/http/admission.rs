//! What the peer listener takes from an address, before anything is known of who is there.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use federation_core::limits::{FRAME_BYTES_MAX, PEER_FRAMES_PER_SECOND};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::inner::lock;
use crate::rate::{Rate, TokenBucket};

/// Addresses that are remembered. One that was silent for as long as its bucket takes to fill is forgotten.
const ADDRESSES_MAX: usize = 4_096;
/// Tokens of a connection: a handshake costs about as much as twenty requests.
const CONNECTION_COST: f64 = 20.0;
/// Tokens of a request whose sender turned out not to be who it says: its signature was verified for nothing.
const UNPROVEN_COST: f64 = 20.0;
/// Bodies are counted in pieces of this size.
const BODY_UNIT_BYTES: u64 = 1_024;

/// What bounds a peer listener. Its memory is that of the bodies, and for each connection a window of HTTP/2 of 16 MiB
/// at most, which only who is enrolled can fill.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ListenerLimits {
    /// Connections at one time.
    pub connections: usize,
    /// Connections of one address: all nodes of a mesh may run on one machine.
    pub connections_per_address: usize,
    /// Connections of one node that has proven itself: one or two, and those that it has given up without a word.
    pub connections_per_node: usize,
    /// Handshakes under way.
    pub handshakes: usize,
    /// Handshakes under way of one address.
    pub handshakes_per_address: usize,
    /// How long a handshake may take.
    pub handshake_timeout: Duration,
    /// Bytes of memory for request bodies, until they are handled: for each what has come of it, and while it comes up to as
    /// much again.
    pub body_bytes: usize,
    /// Bytes of memory for the request bodies of one address; a frame of the largest size at least.
    pub body_bytes_per_address: usize,
    /// Requests of one address; a connection counts as twenty.
    pub requests_per_address: Rate,
}

impl Default for ListenerLimits {
    fn default() -> Self {
        // Eight peers at full rate behind one address.
        let requests = 8 * PEER_FRAMES_PER_SECOND;
        Self {
            connections: 256,
            connections_per_address: 64,
            connections_per_node: 16,
            handshakes: 64,
            handshakes_per_address: 16,
            handshake_timeout: Duration::from_secs(5),
            body_bytes: 32 * FRAME_BYTES_MAX,
            body_bytes_per_address: 8 * FRAME_BYTES_MAX,
            requests_per_address: Rate::new(requests, requests),
        }
    }
}

/// The counts of one listener.
pub(super) struct Admission {
    limits: ListenerLimits,
    connections: Arc<Semaphore>,
    handshakes: Arc<Semaphore>,
    bodies: Arc<Semaphore>,
    sources: Mutex<BTreeMap<IpAddr, Arc<Source>>>,
}

/// The counts of one address.
struct Source {
    connections: Arc<Semaphore>,
    handshakes: Arc<Semaphore>,
    bodies: Arc<Semaphore>,
    bucket: Mutex<TokenBucket>,
}

/// A place that is given back when dropped.
pub(super) type Place = [OwnedSemaphorePermit; 2];

/// A connection that was let in.
pub(super) struct Admitted {
    admission: Arc<Admission>,
    source: Arc<Source>,
    _place: Place,
}

impl Admission {
    pub(super) fn new(limits: ListenerLimits) -> Self {
        Self {
            limits,
            connections: Arc::new(Semaphore::new(limits.connections)),
            handshakes: Arc::new(Semaphore::new(limits.handshakes)),
            bodies: Arc::new(Semaphore::new(units(limits.body_bytes as u64) as usize)),
            sources: Mutex::default(),
        }
    }

    /// Lets a connection in; none if there are too many, or too many came of late.
    pub(super) fn admit(self: &Arc<Self>, from: IpAddr) -> Option<Admitted> {
        let source = self.source(from)?;
        let place = [try_one(&source.connections)?, try_one(&self.connections)?];
        lock(&source.bucket).take(CONNECTION_COST, Instant::now()).ok()?;
        Some(Admitted { admission: Arc::clone(self), source, _place: place })
    }

    fn source(&self, from: IpAddr) -> Option<Arc<Source>> {
        let from = network_of(from);
        let mut sources = lock(&self.sources);
        if let Some(source) = sources.get(&from) {
            return Some(Arc::clone(source));
        }
        let now = Instant::now();
        if sources.len() >= ADDRESSES_MAX {
            sources.retain(|_, source| Arc::strong_count(source) > 1 || !lock(&source.bucket).is_full(now));
        }
        if sources.len() >= ADDRESSES_MAX {
            return None;
        }
        let limits = &self.limits;
        let source = Arc::new(Source {
            connections: Arc::new(Semaphore::new(limits.connections_per_address)),
            handshakes: Arc::new(Semaphore::new(limits.handshakes_per_address)),
            bodies: Arc::new(Semaphore::new(units(limits.body_bytes_per_address as u64) as usize)),
            bucket: Mutex::new(TokenBucket::new(limits.requests_per_address, now)),
        });
        sources.insert(from, Arc::clone(&source));
        Some(source)
    }
}

impl Admitted {
    /// A place for its handshake; none if too many are under way.
    pub(super) fn handshake(&self) -> Option<Place> {
        Some([try_one(&self.source.handshakes)?, try_one(&self.admission.handshakes)?])
    }

    /// How many connections the node at its other end may have.
    pub(super) fn connections_per_node(&self) -> usize {
        self.admission.limits.connections_per_node
    }

    /// How long its handshake may take.
    pub(super) fn handshake_timeout(&self) -> Duration {
        self.admission.limits.handshake_timeout
    }

    /// Counts a request; not if too many came of late.
    pub(super) fn request(&self) -> bool {
        lock(&self.source.bucket).take(1.0, Instant::now()).is_ok()
    }

    /// Makes a request that was not proven cost more than one.
    pub(super) fn unproven(&self) {
        lock(&self.source.bucket).charge(UNPROVEN_COST, Instant::now());
    }

    /// Room for a body of which nothing has come.
    pub(super) fn room(&self) -> Room {
        let bodies = [&self.source.bodies, &self.admission.bodies].map(Arc::clone);
        Room { bodies, held: Vec::new(), units: 0 }
    }
}

/// What one body takes of the room for bodies. It is given back when dropped.
pub(super) struct Room {
    /// Of its address, and of all.
    bodies: [Arc<Semaphore>; 2],
    held: Vec<OwnedSemaphorePermit>,
    units: u32,
}

impl Room {
    /// Takes more, until there is room for so many bytes; not if there is not so much left. Nobody waits for room: bodies that
    /// hold some and wait for more would wait for each other.
    pub(super) fn grow_to(&mut self, bytes: usize) -> bool {
        let units = units(bytes as u64);
        let more = units.saturating_sub(self.units);
        let permits =
            self.bodies.each_ref().map(|bodies| Arc::clone(bodies).try_acquire_many_owned(more).ok());
        let [Some(of_source), Some(of_all)] = permits else { return false };
        self.held.extend([of_source, of_all]);
        self.units += more;
        true
    }
}

fn try_one(semaphore: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    Arc::clone(semaphore).try_acquire_owned().ok()
}

fn units(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(BODY_UNIT_BYTES)).unwrap_or(u32::MAX)
}

/// The network that one caller has at its disposal: of IPv6 the first 64 bits.
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: u32) -> IpAddr {
        IpAddr::from(number.to_be_bytes())
    }

    fn admission(limits: ListenerLimits) -> Arc<Admission> {
        Arc::new(Admission::new(limits))
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_has_its_own_share_of_the_places() {
        let limits = ListenerLimits {
            connections: 3,
            connections_per_address: 2,
            handshakes_per_address: 1,
            ..ListenerLimits::default()
        };
        let admission = admission(limits);
        let first = admission.admit(address(1)).unwrap();
        let _second = admission.admit(address(1)).unwrap();
        assert!(admission.admit(address(1)).is_none());
        let _other = admission.admit(address(2)).unwrap();
        assert!(admission.admit(address(3)).is_none(), "there is no place left for anybody");

        let shaking = first.handshake().unwrap();
        assert!(first.handshake().is_none());
        drop(shaking);
        assert!(first.handshake().is_some());
        drop(first);
        assert!(admission.admit(address(1)).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_asks_too_much_waits_and_others_do_not() {
        let rate = Rate { per_second: 10.0, burst: CONNECTION_COST + 2.0 };
        let admission = admission(ListenerLimits { requests_per_address: rate, ..ListenerLimits::default() });
        let (one, other) = (admission.admit(address(1)).unwrap(), admission.admit(address(2)).unwrap());
        assert!(one.request() && one.request() && !one.request());
        assert!(admission.admit(address(1)).is_none());
        assert!(other.request());
        tokio::time::advance(Duration::from_millis(101)).await;
        assert!(one.request() && !one.request());
    }

    #[tokio::test(start_paused = true)]
    async fn addresses_that_are_silent_are_forgotten_and_busy_ones_are_not() {
        let admission = admission(ListenerLimits::default());
        let _kept = admission.admit(address(0)).unwrap();
        for number in (1..).take(ADDRESSES_MAX - 1) {
            drop(admission.admit(address(number)).unwrap());
        }
        assert!(admission.admit(address(9_999)).is_none(), "all have been busy a moment ago");
        tokio::time::advance(Duration::from_secs(10)).await;
        assert!(admission.admit(address(9_999)).is_some());
        assert!(lock(&admission.sources).contains_key(&address(0)));
        assert_eq!(lock(&admission.sources).len(), 2);
    }

    #[tokio::test]
    async fn a_body_takes_room_as_it_grows_and_gets_none_that_is_not_there() {
        let unit = usize::try_from(BODY_UNIT_BYTES).unwrap();
        let limits = ListenerLimits {
            body_bytes: 5 * unit,
            body_bytes_per_address: 3 * unit,
            ..ListenerLimits::default()
        };
        let admission = admission(limits);
        let admit = |number| admission.admit(address(number)).unwrap();
        let (one, other) = (admit(1), admit(2));
        let (mut first, mut second) = (one.room(), one.room());
        assert!(first.grow_to(unit + 1), "two units");
        assert!(first.grow_to(2 * unit) && second.grow_to(1), "no more than was there");
        assert!(!first.grow_to(2 * unit + 1), "the address has three");
        let mut of_other = other.room();
        assert!(of_other.grow_to(2 * unit) && !of_other.grow_to(3 * unit), "all have five");
        drop(second);
        assert!(of_other.grow_to(3 * unit));
        drop((first, of_other));
        assert!(one.room().grow_to(3 * unit) && !one.room().grow_to(3 * unit + 1));
    }

    #[test]
    fn a_caller_is_its_network() {
        let network = |text: &str| network_of(text.parse().unwrap()).to_string();
        assert_eq!(network("10.1.2.3"), "10.1.2.3");
        assert_eq!(network("::ffff:10.1.2.3"), "10.1.2.3");
        assert_eq!(network("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
    }
}
