//! Attacks at full speed beside honest clients, whose write latency must stay within twice what it is without.
//!
//! A test asserts no time: in the usual run the figures are printed. With `FEDERATION_ATTACK_SECS`, which says how long each
//! phase lasts, the bound is held. Attackers have threads of the lowest priority and addresses of their own; they share the
//! machine with the nodes all the same. So each attack is also made on another mesh of this machine, and the bound is held
//! against that: what is left is what an attack does to the nodes, and not what it takes of the machine.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use federation_core::limits::FRAME_BYTES_MAX;
use federation_net::http::FRAME_MEDIA_TYPE;
use federation_wire::frame::Route;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;

use crate::bench::{Bench, HONEST, NAMESPACE, VICTIM};
use crate::line::{Line, connect};
use crate::loot::{Loot, envelope, nonce, with_envelope};

const SECONDS: &str = "FEDERATION_ATTACK_SECS";
/// How much longer the slowest hundredth of an honest peer's writes may take while it is attacked.
const RATIO_MAX: f64 = 2.0;
/// Clients at each of the two nodes.
const CLIENTS: usize = 4;
/// Requests, or connections, that each crew has under way.
const UNDER_WAY: usize = 16;
/// How long an attacker keeps a connection on which nothing comes back.
const HOLDS: Duration = Duration::from_secs(2);

/// Attackers that do one thing, over and over.
#[derive(Clone, Copy)]
struct Crew {
    name: &'static str,
    /// Where they call from: the last part of an address on loopback.
    from: u8,
    does: Does,
}

#[derive(Clone, Copy)]
enum Does {
    /// Sends frames, each as soon as the one before is answered.
    Asks(fn(&Loot, usize) -> (Route, Vec<u8>)),
    /// Connects, says this, and holds the connection.
    Connects(fn(&Loot) -> Vec<u8>),
}

const CREWS: &[Crew] = &[
    Crew {
        name: "replays",
        from: 3,
        does: Does::Asks(|loot, number| {
            let frame = &loot.frames[number % loot.frames.len()];
            (envelope(frame).route, frame.clone())
        }),
    },
    Crew {
        name: "wrong signatures",
        from: 4,
        does: Does::Asks(|loot, _| {
            (Route::Push, with_envelope(&loot.undelivered[0], |envelope| envelope.nonce = nonce()))
        }),
    },
    Crew {
        name: "nonces",
        from: 5,
        does: Does::Asks(|loot, _| {
            let hello = loot.hello_of(&loot.mallory).to_bytes();
            (Route::Hello, loot.mallory.sends(&loot.victim, Route::Hello, &hello))
        }),
    },
    Crew {
        name: "wrong proofs",
        from: 6,
        does: Does::Asks(|loot, number| (Route::Push, loot.page_of_wrong_proofs(number as u64 + 1))),
    },
    Crew {
        name: "whole connections",
        from: 7,
        does: Does::Connects(|loot| loot.connections.last().unwrap().asked.clone()),
    },
    Crew {
        name: "slow bodies",
        from: 8,
        does: Does::Connects(|loot| {
            let head = format!(
                "POST {} HTTP/1.1\r\nhost: n\r\ncontent-type: {FRAME_MEDIA_TYPE}\r\ncontent-length: {FRAME_BYTES_MAX}\r\n\r\n",
                Route::Push.path()
            );
            [head.as_bytes(), &loot.undelivered[0]].concat()
        }),
    },
];

/// What honest clients saw of one node.
#[derive(Default)]
struct Seen {
    latencies: Vec<Duration>,
    errors: Vec<String>,
}

impl Seen {
    fn p99(&self) -> Duration {
        self.latencies[self.latencies.len() * 99 / 100]
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn honest_clients_get_no_error_and_their_latency_stays_within_bounds() {
    let seconds = std::env::var(SECONDS).ok().map(|text| text.parse().unwrap());
    let lasts = Duration::from_secs(seconds.unwrap_or(1));
    let ((bench, loot), (decoy, of_decoy)) = (Bench::recorded().await, Bench::recorded().await);
    let (loot, of_decoy) = (Arc::new(loot), Arc::new(of_decoy));
    let resident = bench.resident_bytes(VICTIM);
    let mut runs = 0;
    let mut worst: f64 = 0.0;
    for crews in CREWS.iter().map(std::slice::from_ref).chain([CREWS]) {
        println!("{}:", if let [crew] = crews { crew.name } else { "all of them" });
        let quiet = measured(&bench, "no attack", lasts, &mut runs).await;
        let mut under = [quiet; 2];
        for (under, (what, loot)) in under.iter_mut().zip([("another mesh", &of_decoy), ("this mesh", &loot)])
        {
            let sent = Arc::new(AtomicU64::new(0));
            let attackers = attack(crews, loot, &sent);
            *under = measured(&bench, what, lasts, &mut runs).await;
            attackers.shutdown_background();
            println!("    {} attacks/s", sent.load(Ordering::Relaxed) / lasts.as_secs());
        }
        for (node, name) in ["honest peer", "victim"].into_iter().enumerate() {
            let [quiet, machine, attacked] = [quiet, under[0], under[1]].map(|p99| p99[node].as_secs_f64());
            println!(
                "    p99 at the {name}: x {:.2} of no attack, x {:.2} of an attack on another mesh",
                attacked / quiet,
                attacked / machine
            );
            worst = worst.max(attacked / machine);
        }
    }
    let grown = bench.resident_bytes(VICTIM).saturating_sub(resident);
    println!("worst ratio {worst:.2}; the victim has {} MiB more than before in memory", grown >> 20);
    if seconds.is_some() {
        assert!(worst <= RATIO_MAX, "{worst}");
    }
    for bench in [bench, decoy] {
        bench.settled().await;
        bench.stop().await;
    }
}

/// The 99th percentile of writes at the honest peer and at the victim, W = 2.
async fn measured(bench: &Bench, meanwhile: &str, lasts: Duration, runs: &mut usize) -> [Duration; 2] {
    *runs += 1;
    let deadline = Instant::now() + lasts;
    let used = bench.processor_seconds(VICTIM);
    let mut clients = JoinSet::new();
    for (node, client) in
        [HONEST, VICTIM].into_iter().flat_map(|node| (0..CLIENTS).map(move |client| (node, client)))
    {
        let (http, url) = (bench.client.clone(), format!("{}/api/v1/memories", bench.url(node)));
        let prefix = format!("r{runs}-n{node}-c{client}");
        clients.spawn(async move {
            let mut seen = Seen::default();
            for number in 0.. {
                let begun = Instant::now();
                if begun >= deadline {
                    break;
                }
                let id = format!("{prefix}-{number}");
                let memory = json!({ "id": id, "namespace": NAMESPACE, "title": "t", "content": "c" });
                match http.post(&url, &memory).await {
                    Ok(answer) if answer.status == 201 => seen.latencies.push(begun.elapsed()),
                    Ok(answer) => seen.errors.push(answer.text()),
                    Err(error) => seen.errors.push(error.to_string()),
                }
            }
            (node, seen)
        });
    }
    let mut all = [Seen::default(), Seen::default()];
    for (node, seen) in clients.join_all().await {
        let of_node = &mut all[usize::from(node == VICTIM)];
        of_node.latencies.extend(seen.latencies);
        of_node.errors.extend(seen.errors);
    }
    for seen in &mut all {
        assert_eq!(seen.errors, Vec::<String>::new(), "while {meanwhile} attacks");
        seen.latencies.sort_unstable();
    }
    let [honest, victim] = &all;
    println!(
        "{meanwhile:>18}: honest peer {} writes, p99 {:?}; victim {} writes, p99 {:?}, {:.2} processors",
        honest.latencies.len(),
        honest.p99(),
        victim.latencies.len(),
        victim.p99(),
        (bench.processor_seconds(VICTIM) - used) / lasts.as_secs_f64()
    );
    [honest.p99(), victim.p99()]
}

/// Lets crews do their work until the runtime that is returned ends.
fn attack(crews: &'static [Crew], loot: &Arc<Loot>, sent: &Arc<AtomicU64>) -> tokio::runtime::Runtime {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .on_thread_start(|| {
            rustix::process::nice(19).unwrap();
        })
        .enable_all()
        .build()
        .unwrap();
    for crew in crews {
        let (loot, sent) = (Arc::clone(loot), Arc::clone(sent));
        runtime.spawn(async move {
            match crew.does {
                Does::Asks(make) => asks(crew.from, make, loot, sent).await,
                Does::Connects(says) => connects(crew.from, says, loot, sent).await,
            }
        });
    }
    runtime
}

async fn asks(from: u8, make: fn(&Loot, usize) -> (Route, Vec<u8>), loot: Arc<Loot>, sent: Arc<AtomicU64>) {
    let from = Ipv4Addr::new(127, 0, 0, from);
    let mut senders = JoinSet::new();
    for first in 0..UNDER_WAY {
        let (loot, sent) = (Arc::clone(&loot), Arc::clone(&sent));
        senders.spawn(async move {
            loop {
                let Some(line) = Line::open(from, loot.victim.address).await else { continue };
                for number in (first..).step_by(UNDER_WAY) {
                    let (route, frame) = make(&loot, number);
                    if line.send(route, &frame).await.is_none() {
                        break;
                    }
                    sent.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
    }
    senders.join_all().await;
}

async fn connects(from: u8, says: fn(&Loot) -> Vec<u8>, loot: Arc<Loot>, sent: Arc<AtomicU64>) {
    let from = Ipv4Addr::new(127, 0, 0, from);
    let mut callers = JoinSet::new();
    for _ in 0..UNDER_WAY {
        let (loot, sent) = (Arc::clone(&loot), Arc::clone(&sent));
        callers.spawn(async move {
            loop {
                let Ok(mut stream) = connect(from, loot.victim.address).await else { continue };
                let _ = stream.write_all(&says(&loot)).await;
                // Until something comes back, or the other side ends it.
                let _ = tokio::time::timeout(HOLDS, stream.read(&mut [0; 64])).await;
                sent.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    callers.join_all().await;
}
