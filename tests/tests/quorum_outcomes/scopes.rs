//! What a node takes by scope, author and kind, gives by scope, and counts by scope; and a peer whose hello was overtaken.

use std::sync::Arc;

use federation_core::id::{AgentId, Kind, Namespace, RecordKey};
use federation_core::node_clock::NodeClock;
use federation_core::op::{EncodedOp, Op, SealedOp};
use federation_core::port::sealer::Sealer as _;
use federation_core::port::store::SessionId;
use federation_core::quorum::ack_tracker::Reason;
use federation_core::scope::Scope;
use federation_net::error::WriteError;
use federation_net::status::{LinkState, OpAtPeer};
use federation_tests::mock_peer::{Manner, MockPeer};
use federation_wire::frame::Route;
use federation_wire::identity::Enrolment;
use federation_wire::keys::NodeKey;
use federation_wire::seal::GroupSealer;
use federation_wire::slug::Slug;
use federation_wire::v1::ack::OpRefusal;
use federation_wire::v1::clock_page::ClockPage;
use federation_wire::v1::delivery::{Complete, Delivery, Lane, Page, PageOp};
use federation_wire::v1::hello::HelloAnswer;
use federation_wire::v1::pull::PullRequest;
use federation_wire::v1::push::{Completion, PushAnswer};

use crate::bench::{ACK_TIMEOUT, Bench, SOON, eventually, node_id, record_key};
use crate::frames::Caller;

fn globs(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// Namespace `team`, author `client`, kind `note`: what [`Caller::op`] makes.
fn narrowly(enrolment: &mut Enrolment) {
    enrolment.accept = globs(&["team"]);
    enrolment.authors = globs(&["client"]);
    enrolment.kinds = globs(&["note"]);
}

fn sealed(op: &Op, key: &Arc<NodeKey>) -> SealedOp {
    let sealer = GroupSealer::new(Arc::clone(key));
    let EncodedOp { bytes, hash } = sealer.encode(op);
    let proof = sealer.seal(&op.dot.origin, &[hash]).remove(0);
    SealedOp { op: EncodedOp { bytes, hash }, proof }
}

/// One op for each answer, and between them two that are taken.
fn ops_of_every_kind(caller: &Caller) -> Vec<(SealedOp, Op, &'static str)> {
    let key = caller.me().key();
    let of = |seq, change: &dyn Fn(&mut Op), slug| {
        let mut op = caller.op(seq);
        change(&mut op);
        (sealed(&op, key), op, slug)
    };
    let mut ops = vec![
        of(1, &|_| {}, "applied"),
        of(2, &|op| op.key.namespace = Namespace::new("other").unwrap(), "namespace_out_of_scope"),
        of(3, &|op| op.author = AgentId::new("somebody").unwrap(), "author_not_allowed"),
        of(4, &|op| op.key.kind = Kind::new("letter").unwrap(), "kind_not_allowed"),
        of(5, &|op| op.dot.origin.node = node_id("nobody"), "unknown_origin"),
        of(6, &|_| {}, "proof_invalid"),
        of(7, &|_| {}, "applied"),
    ];
    // A proof that is sound, of another op.
    ops[5].0.proof = Arc::clone(&ops[0].0.proof);
    ops
}

async fn push(caller: &Caller, body: &[u8]) -> PushAnswer {
    PushAnswer::from_bytes(&caller.answered(Route::Push, body).await[0]).unwrap()
}

async fn is_held(bench: &Bench, key: &RecordKey) -> bool {
    !bench.node.read(key.clone()).await.unwrap().record.is_empty()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_op_is_refused_by_its_own_slug_and_the_rest_is_applied() {
    let caller = Caller::trusted_with(narrowly).await;
    let ops = ops_of_every_kind(&caller);
    let page = |lane| {
        Page { lane, receipts: Vec::new(), ops: ops.iter().map(|(op, ..)| PageOp::of(op)).collect() }
            .to_bytes()
    };
    let expected: Vec<_> = ops.iter().map(|(.., slug)| *slug).collect();
    let slugs = |answer: &PushAnswer| answer.acks.iter().map(|ack| ack.outcome.slug()).collect::<Vec<_>>();

    assert_eq!(slugs(&push(&caller, &page(Lane::Live)).await), expected);
    nothing_refused_is_there(&caller, &ops).await;

    // The same as a session that claims all of it.
    let (session, page_of_it) = (SessionId(1), Lane::Backfill { session: 1, page: 0 });
    let again: Vec<_> =
        expected.iter().map(|slug| if *slug == "applied" { "duplicate" } else { slug }).collect();
    assert_eq!(slugs(&push(&caller, &page(page_of_it)).await), again);
    let mut claim = NodeClock::new();
    for (_, op, _) in &ops {
        claim.insert(&op.dot);
    }
    let everything = Scope::everything;
    let complete = Complete {
        session,
        pages: 1,
        claim: ClockPage::of(&claim, None),
        replica_scope: everything(),
        grant: everything(),
    };
    let answer = push(&caller, &complete.to_bytes()).await;
    assert_eq!(answer.completion, Some(Completion::Merged));
    nothing_refused_is_there(&caller, &ops).await;
}

async fn nothing_refused_is_there(caller: &Caller, ops: &[(SealedOp, Op, &str)]) {
    let clock = caller.bench.node.status().clock;
    for (_, op, slug) in ops {
        assert_eq!(clock.contains(&op.dot), *slug == "applied", "{slug}: {clock:?}");
        assert_eq!(is_held(&caller.bench, &op.key).await, *slug == "applied", "{slug}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_op_is_sent_to_who_may_have_it_and_others_do_not_count() {
    let (up, half) =
        (MockPeer::arrive as fn(&mut MockPeer), |enrolment: &mut Enrolment| match &*enrolment.id {
            "a" => enrolment.grant = globs(&["other"]),
            "b" => enrolment.replicates = globs(&["other"]),
            _ => {}
        });
    let bench = Bench::trusting(2, &["a", "b", "c"], up, half).await;
    for name in ["a", "b", "c"] {
        bench.await_state(name, LinkState::Up).await;
    }
    let receipt = bench.write("r").await.met();
    let named: Vec<_> = receipt.peers.keys().map(ToString::to_string).collect();
    assert_eq!((receipt.needed, named), (2, vec!["c".to_owned()]));
    let dot = &receipt.written.op.dot;
    assert!(bench.peer("c").holds(dot));
    for name in ["a", "b"] {
        assert!(!bench.peer(name).holds(dot), "{name}");
        assert_ne!(bench.node.op_status(dot).peers[&node_id(name)], OpAtPeer::Held);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_of_too_few_is_refused_before_anything_is_written() {
    let bench =
        Bench::trusting(2, &["a"], MockPeer::arrive, |enrolment| enrolment.grant = globs(&["other"])).await;
    bench.await_state("a", LinkState::Up).await;
    let refused = bench.write("r").await.result;
    assert!(matches!(refused, Err(WriteError::InsufficientPeers { needed: 2, n: 1 })), "{refused:?}");
    assert!(!is_held(&bench, &record_key("r")).await);
    let status = bench.node.status();
    assert!(status.clock.is_empty(), "{:?}", status.clock);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_would_not_give_a_write_back_holds_it_and_does_not_count() {
    let withholds = |peer: &mut MockPeer| {
        if peer.id().as_str() == "a" {
            peer.grant(Scope::parse(["other"]).unwrap());
        }
        peer.arrive();
    };
    let bench = Bench::start(2, &["a", "b"], withholds).await;
    for name in ["a", "b"] {
        bench.await_state(name, LinkState::Up).await;
    }
    let receipt = bench.write("promised").await.met();
    assert_eq!((receipt.got, receipt.peers[&node_id("b")].slug()), (2, "applied"));

    bench.peer("b").answer_pushes(Manner::Rejecting(Slug::Busy));
    let answered = bench.write("r").await;
    assert!(answered.after < ACK_TIMEOUT, "{:?}", answered.after);
    let dot = answered.not_met_with(Reason::Refused, 1, 2, &[("a", "withheld"), ("b", "busy")]);
    assert!(bench.peer("a").holds(&dot));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_is_told_what_it_is_granted_and_given_nothing_else() {
    let caller = Caller::trusted_with(|enrolment| enrolment.grant = globs(&["other"])).await;
    let written = caller.bench.write("secret").await.met().written;
    let hello = caller.answered(Route::Hello, &caller.me().hello().to_bytes()).await;
    assert_eq!(HelloAnswer::from_bytes(&hello[0]).unwrap().granted, Scope::parse(["other"]).unwrap());
    let pull = PullRequest { clock: ClockPage::of(&NodeClock::new(), None), bytes_max: 1 << 20 };
    let frames = caller.answered(Route::Pull, &pull.to_bytes()).await;
    assert!(!frames.is_empty());
    for body in frames {
        match Delivery::from_bytes(&body).unwrap() {
            Delivery::Page(page) => assert!(page.ops.is_empty(), "{page:?}"),
            Delivery::Complete(complete) => {
                assert!(!complete.claim.dots.contains(&written.op.dot), "{complete:?}");
                assert_eq!(complete.grant, Scope::parse(["other"]).unwrap());
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hello_that_was_overtaken_is_said_again() {
    let mut bench = Bench::with_peers_up(2, &["a"]).await;
    bench.peer_mut("a").leave().await;
    bench.peer("a").answer_hellos(Manner::RejectingFirst(5, Slug::Overtaken));
    bench.peer_mut("a").arrive();
    bench.write("r").await.met();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_takes_no_hello_is_down_for_the_reason_that_it_gives() {
    let mut bench = Bench::with_peers_up(1, &["a"]).await;
    for slug in [Slug::DiskFull, Slug::PeerRevoked] {
        bench.peer_mut("a").leave().await;
        bench.peer("a").answer_hellos(Manner::Rejecting(slug));
        bench.peer_mut("a").arrive();
        bench.write("r").await.met();
        eventually("the peer's word is told", || {
            let status = bench.node.status();
            status.peers.iter().any(|peer| peer.last_error == Some(slug.as_str()))
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_calls_every_hello_overtaken_is_not_asked_without_end() {
    let bench = Bench::start(2, &["a"], |peer| {
        peer.answer_hellos(Manner::Rejecting(Slug::Overtaken));
        peer.arrive();
    })
    .await;
    eventually("the first attempt has failed", || {
        bench.node.status().peers.iter().any(|peer| peer.state == LinkState::Down)
    })
    .await;
    let before = bench.peer("a").hellos_received();
    let answered = bench.write("r").await;
    assert!(answered.after < ACK_TIMEOUT, "{answered:?}");
    let said = bench.peer("a").hellos_received() - before;
    answered.not_met_with(Reason::Refused, 1, 2, &[("a", "request_refused")]);
    // So many for the write's attempt, and for each of the link's own in that time; one that has no end goes to 66.
    assert!((8..50).contains(&said), "{said} hellos");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_op_whose_refusal_was_overtaken_by_what_the_peer_takes_now_is_sent_again() {
    let caller = Caller::of(Bench::with_peers_up(2, &["a"]).await).await;
    let (bench, peer) = (&caller.bench, caller.me());
    let before = peer.pushes_received();
    peer.answer_pushes(Manner::RefusingOnceLate(OpRefusal::NamespaceOutOfScope, SOON));
    let takes_it_now = async {
        eventually("the op is refused", || peer.pushes_received() > before).await;
        peer.accept_otherwise();
        caller.answered(Route::Hello, &peer.hello().to_bytes()).await;
    };
    let (answered, ()) = tokio::join!(bench.write("r"), takes_it_now);
    let dot = answered.not_met_with(Reason::Refused, 1, 2, &[("a", "forbidden")]);
    bench.await_op(&dot, "a", OpAtPeer::Held).await;
    assert!(peer.holds(&dot));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_node_takes_is_another_thing_after_a_change_there_and_back() {
    let caller = Caller::of(Bench::with_peers_up(1, &["a"]).await).await;
    let said = async || {
        let answer = caller.answered(Route::Hello, &caller.me().hello().to_bytes()).await;
        HelloAnswer::from_bytes(&answer[0]).unwrap().hello.acceptance
    };
    let (wide, mut narrow) = (caller.me().enrolment(), caller.me().enrolment());
    narrowly(&mut narrow);
    let at_first = said().await;
    caller.bench.reload(std::slice::from_ref(&wide));
    assert_eq!(said().await, at_first, "nothing has changed");
    // Whoever says no hello in between has heard of no change.
    caller.bench.reload(&[narrow]);
    caller.bench.reload(&[wide]);
    assert_ne!(said().await, at_first);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_a_peer_refuses_for_what_a_hello_tells_is_sent_again_after_one() {
    for slug in [Slug::HelloFirst, Slug::MustRebootstrap] {
        let bench = Bench::with_peers_up(2, &["a"]).await;
        let before = bench.peer("a").hellos_received();
        bench.peer("a").answer_pushes(Manner::RejectingFirst(1, slug));
        bench.write("r").await.met();
        assert!(bench.peer("a").hellos_received() > before, "{slug:?}");
    }
}
