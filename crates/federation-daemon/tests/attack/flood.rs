//! Floods of nonces: what is remembered is bounded by what is proven, and by the rate.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use federation_core::limits::{PEER_FRAMES_BURST, PEER_FRAMES_PER_SECOND};
use federation_wire::frame::Route;
use tokio::task::JoinSet;

use crate::bench::{Bench, HONEST, VICTIM};
use crate::line::{ATTACKER, Line};
use crate::loot::{Loot, nonce, with_envelope};

/// How long each flood lasts.
const LASTS: Duration = Duration::from_secs(3);
/// Growth of the victim's resident memory. A window that is full has half a million nonces of 32 bytes.
const GROWTH_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Requests under way at a time.
const UNDER_WAY: usize = 16;

/// Sends frames of `make`, each with a nonce of its own, as fast as they are answered. Gives how many, and what the
/// statuses were.
async fn flood(loot: &Arc<Loot>, make: fn(&Loot) -> Vec<u8>) -> (u64, u64) {
    let line = Arc::new(Line::open(ATTACKER, loot.victim.address).await.unwrap());
    let (taken, refused) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let deadline = Instant::now() + LASTS;
    let mut senders = JoinSet::new();
    for _ in 0..UNDER_WAY {
        let (line, loot) = (Arc::clone(&line), Arc::clone(loot));
        let (taken, refused) = (Arc::clone(&taken), Arc::clone(&refused));
        senders.spawn(async move {
            while Instant::now() < deadline {
                let Some(answer) = line.send(Route::Hello, &make(&loot)).await else { return };
                let counter = if answer.status == 200 { &taken } else { &refused };
                counter.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    senders.join_all().await;
    (taken.load(Ordering::Relaxed), refused.load(Ordering::Relaxed))
}

#[tokio::test(flavor = "multi_thread")]
async fn nonces_that_nobody_proves_are_not_remembered_and_those_of_one_sender_cost_no_other() {
    let (bench, loot) = Bench::recorded().await;
    let loot = Arc::new(loot);
    let state = bench.state(VICTIM).await;
    let before = bench.resident_bytes(VICTIM);
    // In the honest node's name, under signatures that are not of these envelopes.
    let forged = |loot: &Loot| {
        let hello = loot.frames.iter().find(|frame| crate::loot::envelope(frame).route == Route::Hello);
        with_envelope(hello.unwrap(), |envelope| {
            envelope.recipient_boot = loot.victim.boot;
            envelope.nonce = nonce();
        })
    };
    let (taken, refused) = flood(&loot, forged).await;
    println!("forged: {refused} refused, {taken} taken");
    assert_eq!(taken, 0);
    assert!(refused > 100, "{refused}");

    // Mallory's own, all of them sound.
    let sound = |loot: &Loot| {
        loot.mallory.sends(&loot.victim, Route::Hello, &loot.hello_of(&loot.mallory).to_bytes())
    };
    let begun = Instant::now();
    let (taken, refused) = flood(&loot, sound).await;
    let allowed = f64::from(PEER_FRAMES_BURST) + begun.elapsed().as_secs_f64() * f64::from(PEER_FRAMES_PER_SECOND);
    println!("sound: {taken} taken of at most {allowed:.0}, {refused} refused");
    #[expect(clippy::cast_precision_loss, reason = "a count of a short run")]
    let taken = taken as f64;
    assert!(taken > 100.0 && taken <= allowed, "{taken} of {allowed}");

    let grown = bench.resident_bytes(VICTIM).saturating_sub(before);
    println!("resident: {} KiB more than before", grown >> 10);
    assert!(grown < GROWTH_BYTES_MAX, "{grown}");
    assert_eq!(bench.state(VICTIM).await, state);
    bench.write(HONEST, "afterwards").await;
    bench.settled().await;
    bench.stop().await;
}
