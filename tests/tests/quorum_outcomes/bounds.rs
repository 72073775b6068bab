//! How much one peer, or one address, gets of the node, and that the others go on.

use std::ops::Range;

use federation_wire::frame::Route;
use federation_wire::slug::Slug;
use federation_wire::v1::ack::AckOutcome;
use federation_wire::v1::delivery::{Lane, Page, PageOp, ReceiptAsk};

use crate::bench::{Bench, Bounds};
use crate::frames::{Caller, sealed};

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
