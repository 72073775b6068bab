//! How much one peer, or one address, gets of the node, and that the others go on.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use federation_core::dot_set::DotSet;
use federation_core::limits::FRAME_BYTES_MAX;
use federation_core::op::Body;
use federation_core::port::store::SessionId;
use federation_core::scope::Scope;
use federation_net::http::{FRAME_MEDIA_TYPE, ListenerLimits};
use federation_net::rate::Rate;
use federation_wire::frame::Route;
use federation_wire::slug::Slug;
use federation_wire::v1::ack::AckOutcome;
use federation_wire::v1::clock_page::ClockPage;
use federation_wire::v1::delivery::{Complete, Lane, Page, PageOp, ReceiptAsk};
use federation_wire::v1::push::Completion;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::bench::{Bench, Bounds, PATIENCE};
use crate::frames::{Answer, Caller, head, sealed};

/// So little comes back that it does not matter how long the test takes.
fn only(burst: f64) -> Rate {
    Rate { per_second: 1e-6, burst }
}

/// The node, to which `a` and `b` have said hello.
async fn caller(bounds: Bounds) -> Caller {
    let caller = Caller::of(Bench::bounded(&["a", "b"], bounds).await).await;
    let other = caller.bench.peer("b");
    caller.asked_by(other, Route::Hello, &other.hello().to_bytes()).await.unwrap();
    caller
}

/// A page of these ops of `a`, of which the first so many are to be acked with a signature.
fn page(caller: &Caller, seqs: Range<u64>, receipts: u32) -> Vec<u8> {
    let sealed: Vec<_> = seqs.map(|seq| sealed(&caller.op(seq), caller.me().key())).collect();
    let ops = sealed.iter().map(|(op, proof)| PageOp { op: &op.bytes, proof }).collect();
    let receipts = (0..receipts).map(|index| ReceiptAsk { index, needed: 2 }).collect();
    Page { lane: Lane::Live, receipts, ops }.to_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_asks_for_receipts_has_used_up_its_rate_the_sooner() {
    let caller = caller(Bounds { peer_rate: only(6.0), ..Bounds::default() }).await;
    let pages_taken = async |name: &str, first: u64, receipts: u32| {
        for pages in 0..100 {
            let begin = first + 8 * pages;
            let body = page(&caller, begin..begin + 8, receipts);
            match caller.pushed_by(caller.bench.peer(name), &body).await {
                Ok(answer) => {
                    let signed = answer.acks.iter().filter(|ack| ack.signature.is_some()).count();
                    assert_eq!(signed, receipts as usize);
                }
                Err(slug) => {
                    assert_eq!(slug, Slug::RateLimited);
                    return pages;
                }
            }
        }
        panic!("{name} is never refused");
    };
    // A hello each, and then one for each page; of b two more for its eight signatures.
    assert_eq!(pages_taken("a", 1, 0).await, 5);
    assert_eq!(pages_taken("b", 1_001, 8).await, 2);
    assert_eq!(caller.bench.node.metrics().acks_signed, 2 * 8);
    assert_eq!(
        caller.bench.node.status().clock.dot_count(),
        (5 + 2) * 8,
        "of what is refused nothing is stored"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_whose_nonces_fill_the_window_is_refused_and_others_go_on() {
    let caller = caller(Bounds { peer_nonces: 3, ..Bounds::default() }).await;
    let push = async |name: &str, seq| {
        let answer = caller.pushed_by(caller.bench.peer(name), &page(&caller, seq..seq + 1, 0)).await;
        answer.map(|answer| answer.acks[0].outcome)
    };
    // The hello was the first.
    for seq in 1..3 {
        assert_eq!(push("a", seq).await, Ok(AckOutcome::Applied));
    }
    let position = caller.bench.node.status().position;
    for refused in 1..3 {
        assert_eq!(push("a", 3).await, Err(Slug::NonceWindowFull), "refused, not forgotten");
        assert_eq!(caller.counted(Slug::NonceWindowFull), refused);
    }
    assert_eq!(Slug::NonceWindowFull.http_status(), 429);
    let status = caller.bench.node.status();
    assert_eq!((status.position, status.clock.dot_count()), (position, 2), "nothing of it is stored");
    assert_eq!(push("b", 3).await, Ok(AckOutcome::Applied));
}

/// As little room for bodies as there may be.
fn little_room() -> Bounds {
    let limits = ListenerLimits::default();
    let listener =
        ListenerLimits { body_bytes: FRAME_BYTES_MAX, body_bytes_per_address: FRAME_BYTES_MAX, ..limits };
    Bounds { listener, ..Bounds::default() }
}

/// A body that is announced at the largest size, and for which the node waits.
struct Announced(TcpStream);

impl Announced {
    async fn to(caller: &Caller) -> Self {
        let mut stream = TcpStream::connect(caller.bench.address).await.unwrap();
        let push = Route::Push.path();
        let head = format!(
            "POST {push} HTTP/1.1\r\nhost: n\r\nconnection: close\r\nexpect: 100-continue\r\n\
             content-type: {FRAME_MEDIA_TYPE}\r\ncontent-length: {FRAME_BYTES_MAX}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let expected = b"HTTP/1.1 100 Continue\r\n\r\n";
        let mut go_on = [0; 25];
        stream.read_exact(&mut go_on).await.unwrap();
        assert_eq!(&go_on, expected);
        Self(stream)
    }

    async fn send(&mut self, bytes: usize) {
        self.0.write_all(&vec![0; bytes]).await.unwrap();
    }

    async fn answer(mut self) -> (u16, String) {
        let mut bytes = Vec::new();
        self.0.read_to_end(&mut bytes).await.unwrap();
        let answer = Answer::read(&bytes);
        (answer.status, answer.word())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_are_announced_and_do_not_come_take_no_room() {
    let caller = caller(little_room()).await;
    let mut slow = Vec::new();
    for _ in 0..32 {
        let mut body = Announced::to(&caller).await;
        body.send(10).await;
        slow.push(body);
    }
    let large = |seq| {
        let mut op = caller.op(seq);
        op.body = Body::Put { payload: vec![b'x'; 500_000].into(), embedding: None, archived: false };
        sealed(&op, caller.me().key())
    };
    let acks = caller.push_ops(&(1..7).map(large).collect::<Vec<_>>()).await;
    assert!(acks.iter().all(|ack| ack.outcome == AckOutcome::Applied), "{acks:?}");
    assert_eq!(caller.counted(Slug::SlowBody), 0, "they are waited for all the while");
    for body in slow {
        assert_eq!(body.answer().await, (408, "slow_body".to_owned()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_finds_no_room_is_refused_at_once_and_the_others_end() {
    let caller = caller(little_room()).await;
    let small = async || {
        let head = head("POST", Route::Push.path(), FRAME_MEDIA_TYPE, 4);
        let answer = caller.exchange(head.as_bytes(), b"tiny").await;
        (answer.status, answer.word())
    };
    let (read, refused) = ((400, "malformed".to_owned()), (429, "rate_limited".to_owned()));
    assert_eq!(small().await, read);
    let (mut one, mut other) = (Announced::to(&caller).await, Announced::to(&caller).await);
    one.send(FRAME_BYTES_MAX / 2).await;
    other.send(FRAME_BYTES_MAX / 2).await;
    let deadline = Instant::now() + PATIENCE;
    while small().await != refused {
        assert!(Instant::now() < deadline, "the two never take all the room");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    one.send(1).await;
    assert_eq!(one.answer().await, refused);
    other.send(FRAME_BYTES_MAX / 2).await;
    assert_eq!(other.answer().await, read, "its other half finds the room that was given back");
    assert_eq!(small().await, read);
    assert_eq!(caller.counted(Slug::SlowBody), 0);
}

/// What a peer gets that claims a dot which nobody has made.
async fn claims_what_is_not(caller: &Caller) -> Result<Completion, Slug> {
    let unmade: DotSet = std::iter::once(caller.op(1_000_000).dot).collect();
    let everything = Scope::everything;
    let claim = Complete {
        session: SessionId(1),
        pages: 0,
        claim: ClockPage::of(&unmade, None),
        replica_scope: everything(),
        grant: everything(),
    };
    let answer = caller.pushed_by(caller.me(), &claim.to_bytes()).await?;
    Ok(answer.completion.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_pays_for_claims_that_have_to_be_looked_up() {
    let caller = caller(Bounds { peer_rate: only(250.0), ..Bounds::default() }).await;
    for _ in 0..3 {
        assert_eq!(claims_what_is_not(&caller).await, Ok(Completion::Beyond));
    }
    assert_eq!(claims_what_is_not(&caller).await, Err(Slug::RateLimited));
    assert_eq!(caller.bench.alarms("completion_beyond"), 3);
    let answer = caller.pushed_by(caller.bench.peer("b"), &page(&caller, 1..2, 0)).await.unwrap();
    assert_eq!(answer.acks[0].outcome, AckOutcome::Applied, "others go on");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_claim_of_a_peer_is_looked_up_at_a_time() {
    let listener =
        ListenerLimits { requests_per_address: Rate::new(1_000_000, 1_000_000), ..Default::default() };
    let peer_rate = Rate::new(1_000_000, 1_000_000);
    let caller = Arc::new(caller(Bounds { listener, peer_rate, ..Bounds::default() }).await);
    // Enough for a look-up to take its time.
    caller.pushed_by(caller.me(), &page(&caller, 1..1_001, 0)).await.unwrap();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut claims = JoinSet::new();
        for _ in 0..8 {
            let caller = Arc::clone(&caller);
            claims.spawn(async move { claims_what_is_not(&caller).await });
        }
        let answers = claims.join_all().await;
        assert!(answers.contains(&Ok(Completion::Beyond)), "one is looked up: {answers:?}");
        if answers.contains(&Err(Slug::Busy)) {
            return;
        }
        assert!(Instant::now() < deadline, "all are looked up at once");
    }
}
