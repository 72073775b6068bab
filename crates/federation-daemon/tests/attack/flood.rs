//! Floods of nonces: what is remembered is bounded by what is proven, and by the rate.

use std::net::Ipv4Addr;
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
async fn flood(from: Ipv4Addr, loot: &Arc<Loot>, make: fn(&Loot) -> Vec<u8>) -> (u64, u64) {
    let line = Arc::new(Line::open(from, loot.victim.address).await.unwrap());
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
async fn wrong_proofs_are_not_verified_to_the_last_and_cost_who_sends_them_its_rate() {
    let (bench, loot) = Bench::recorded().await;
    let state = bench.state(VICTIM).await;
    let line = Line::open(ATTACKER, loot.victim.address).await.unwrap();
    // Made before: what is between two of them is time in which the sender's rate comes back.
    let frames: Vec<_> = (0..20).map(|_| loot.page_of_wrong_proofs(1)).collect();
    for frame in &frames {
        let answer = line.send(Route::Push, frame).await.unwrap();
        assert!([200, 429].contains(&answer.status), "{}", answer.status);
    }
    let wrong = bench.counted(VICTIM, "admitted_ops", "proof_invalid").await;
    let unread = bench.counted(VICTIM, "admitted_ops", "busy").await;
    println!("{wrong} wrong proofs were verified, {unread} were not");
    assert!(wrong > 0 && wrong * 20 < unread, "{wrong}, {unread}");
    assert!(bench.refused(VICTIM, "rate_limited").await > 0);
    assert_eq!(bench.state(VICTIM).await, state);
    // What one sender owes is owed by no other.
    bench.write(HONEST, "afterwards").await;
    bench.settled().await;
    bench.stop().await;
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
    let begun = Instant::now();
    let (taken, refused) = flood(ATTACKER, &loot, forged).await;
    let verified = bench.refused(VICTIM, "signature_invalid").await;
    println!("forged: {refused} refused, {verified} of them verified, {taken} taken");
    assert_eq!(taken, 0);
    assert!(refused > 100, "{refused}");
    // Each takes twenty of what its address may ask.
    let allowed = (16_000.0 + begun.elapsed().as_secs_f64() * 16_000.0) / 20.0;
    #[expect(clippy::cast_precision_loss, reason = "a count of a short run")]
    let verified = verified as f64;
    assert!(verified <= allowed, "{verified} of {allowed}");

    // Mallory's own, all of them sound, from another address: the first has used up what it may ask.
    let sound = |loot: &Loot| {
        loot.mallory.sends(&loot.victim, Route::Hello, &loot.hello_of(&loot.mallory).to_bytes())
    };
    let begun = Instant::now();
    let (taken, refused) = flood(Ipv4Addr::new(127, 0, 0, 9), &loot, sound).await;
    let allowed =
        f64::from(PEER_FRAMES_BURST) + begun.elapsed().as_secs_f64() * f64::from(PEER_FRAMES_PER_SECOND);
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
