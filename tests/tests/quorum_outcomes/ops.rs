//! Ops that are not what they should be, in frames that are: the page is answered 200, each op gets its own word, the rest
//! is applied, and of what is refused nothing is stored.

use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use federation_core::dot::Origin;
use federation_core::embedding::{Embedding, Normalisation};
use federation_core::hlc::Hlc;
use federation_core::id::{AgentId, BootId, Kind, Namespace, NodeId};
use federation_core::limits::{CLOCK_DRIFT_MAX, EMBEDDING_DIM_MAX};
use federation_core::op::{Body, EncodedOp, Op};
use federation_core::port::clock::WallClock as _;
use federation_core::time::WallMs;
use federation_net::http::FRAME_MEDIA_TYPE;
use federation_net::status::OpAtPeer;
use federation_store::SimulatedDisk;
use federation_tests::mock_peer::MachineClock;
use federation_wire::frame::Route;
use federation_wire::identity::{Directory, KeyEntry, KeyState};
use federation_wire::keys::{NodeKey, OwnKeys};
use federation_wire::slug::Slug;
use federation_wire::v1::ack::{AckNote, AckOutcome, OpRefusal, VectorRefusal};

use crate::bench::{Bench, Bounds};
use crate::frames::{Caller, head, sealed};

type Sealed = (EncodedOp, Arc<[u8]>);

/// Pushes one page: a sound op in the midst of those that are to be refused, each with its word. Only the sound one is
/// stored.
async fn refused(caller: &Caller, sound: &Op, cases: Vec<(&str, Sealed, OpRefusal)>) {
    let (mut page, mut words): (Vec<_>, Vec<_>) =
        cases.into_iter().map(|(what, op, word)| (op, (what, AckOutcome::Refused(word)))).unzip();
    let at = page.len() / 2;
    page.insert(at, sealed(sound, caller.me().key()));
    words.insert(at, ("the sound one", AckOutcome::Applied));
    let acks = caller.push_ops(&page).await;
    let found: Vec<_> = words.iter().zip(&acks).map(|((what, _), ack)| (*what, ack.outcome)).collect();
    assert_eq!(found, words);
    for (_, outcome) in words {
        let counted = caller.bench.node.metrics().admitted.get(outcome.slug()).copied();
        assert!(counted.is_some_and(|count| count > 0), "{} is counted", outcome.slug());
    }
    let clock = caller.bench.node.status().clock;
    assert!(clock.contains(&sound.dot) && clock.dot_count() == 1, "{clock:?}");
}

async fn caller() -> Caller {
    Caller::of(Bench::start(1, &["a"], |_| {}).await).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_op_outside_what_is_taken_of_its_origin_is_forbidden() {
    let caller = caller().await;
    let mut sound = caller.op(1);
    sound.key.namespace = Namespace::new("in/here").unwrap();
    let enrolment = federation_wire::identity::Enrolment {
        accept: vec!["in/*".into()],
        authors: vec![sound.author.as_str().into()],
        kinds: vec![sound.key.kind.as_str().into()],
        ..caller.me().enrolment()
    };
    caller.bench.enrolled.replace(Directory::new(&[enrolment]).unwrap());
    let with = |seq, change: &dyn Fn(&mut Op)| {
        let mut op = caller.op(seq);
        op.key.namespace = sound.key.namespace.clone();
        change(&mut op);
        sealed(&op, caller.me().key())
    };
    let out = with(2, &|op| op.key.namespace = Namespace::new("out").unwrap());
    let author = with(3, &|op| op.author = AgentId::new("another").unwrap());
    let kind = with(4, &|op| op.key.kind = Kind::new("another").unwrap());
    let cases = vec![
        ("another namespace", out, OpRefusal::NamespaceOutOfScope),
        ("another author", author, OpRefusal::AuthorNotAllowed),
        ("another kind", kind, OpRefusal::KindNotAllowed),
    ];
    refused(&caller, &sound, cases).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_op_that_its_origin_did_not_seal_is_invalid_though_its_frame_is_sound() {
    let caller = caller().await;
    let (key, stranger, revoked) =
        (caller.me().key(), Arc::new(NodeKey::from_seed(&[1; 32])), Arc::new(NodeKey::from_seed(&[2; 32])));
    let mut enrolment = caller.me().enrolment();
    enrolment.keys.push(KeyEntry { state: KeyState::Revoked, ..KeyEntry::active(revoked.public()) });
    caller.bench.enrolled.replace(Directory::new(&[enrolment]).unwrap());
    let mut unknown = caller.op(3);
    unknown.dot.origin.node = NodeId::new("nobody").unwrap();
    let (borrowed, proof_of_another) = (sealed(&caller.op(4), key).0, sealed(&caller.op(5), key).1);
    let (cut, proof) = sealed(&caller.op(6), key);
    let cases = vec![
        ("a key that is not enrolled", sealed(&caller.op(2), &stranger), OpRefusal::UnknownOrigin),
        ("an origin that is not enrolled", sealed(&unknown, key), OpRefusal::UnknownOrigin),
        ("the proof of another op", (borrowed, proof_of_another), OpRefusal::ProofInvalid),
        ("half a proof", (cut, Arc::from(&proof[..proof.len() / 2])), OpRefusal::ProofInvalid),
        ("a revoked key", sealed(&caller.op(7), &revoked), OpRefusal::KeyRevoked),
    ];
    refused(&caller, &caller.op(1), cases).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_op_under_an_own_key_that_is_revoked_is_taken_up_to_the_number_and_no_further() {
    let caller = caller().await;
    let bench = &caller.bench;
    let stolen = Arc::new(NodeKey::from_seed(&[3; 32]));
    let keys = OwnKeys::new(Arc::clone(&stolen)).rotated(Arc::clone(&bench.key)).unwrap();
    let epoch = BootId(5);
    let own = |epoch, seq| {
        let mut op = caller.op(seq);
        op.dot.origin = Origin { node: bench.node.status().node, epoch };
        op
    };
    let push = async |op: &Op, key| caller.push_op(&sealed(op, key)).await;
    // While the node has retired it and nothing more, the thief is the node of then.
    bench.keys.replace(keys.clone());
    assert_eq!(push(&own(epoch, 2), &stolen).await.unwrap(), AckOutcome::Applied);
    bench.keys.replace(keys.revoked(stolen.id(), &[(epoch, 4)]).unwrap());
    let revoked = AckOutcome::Refused(OpRefusal::KeyRevoked);
    assert_eq!(push(&own(epoch, 4), &stolen).await.unwrap(), AckOutcome::Applied);
    assert_eq!(push(&own(epoch, 5), &stolen).await.unwrap(), revoked);
    assert_eq!(push(&own(BootId(6), 1), &stolen).await.unwrap(), revoked);
    assert_eq!(push(&own(epoch, 5), &bench.key).await.unwrap(), AckOutcome::Applied);
    let counted = bench.node.metrics().admitted.get(revoked.slug()).copied();
    assert_eq!((counted, bench.node.status().clock.dot_count()), (Some(2), 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_op_of_the_future_is_put_off() {
    let caller = caller().await;
    let mut ahead = caller.op(2);
    ahead.hlc = Hlc::at(WallMs(MachineClock.now().0 + CLOCK_DRIFT_MAX.0 + 60_000));
    let cases = vec![("ahead", sealed(&ahead, caller.me().key()), OpRefusal::ClockAhead)];
    refused(&caller, &caller.op(1), cases).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_op_are_malformed() {
    let caller = caller().await;
    let (op, proof) = sealed(&caller.op(2), caller.me().key());
    let longer = EncodedOp { bytes: [&op.bytes[..], b"x"].concat().into(), hash: op.hash };
    let nothing = EncodedOp { bytes: Arc::from([]), hash: op.hash };
    let cases = vec![
        ("one byte more", (longer, Arc::clone(&proof)), OpRefusal::Malformed),
        ("nothing", (nothing, proof), OpRefusal::Malformed),
    ];
    refused(&caller, &caller.op(1), cases).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vector_of_no_use_is_left_out_with_its_reason_and_the_record_is_applied() {
    let caller = caller().await;
    let long = vec![1.0; EMBEDDING_DIM_MAX + 1];
    let cases: [(&[f32], VectorRefusal); 5] = [
        (&[], VectorRefusal::Empty),
        (&long, VectorRefusal::TooLong),
        (&[1.0, f32::NAN], VectorRefusal::NotFinite),
        (&[f32::INFINITY, 0.0], VectorRefusal::NotFinite),
        (&[0.0, 0.0], VectorRefusal::Zero),
    ];
    let op = |seq: usize, vector: &[f32]| {
        let mut op = caller.op(seq as u64 + 1);
        let normalisation = Normalisation::UnitL2Scaled;
        let embedding = Embedding { model: "m".into(), normalisation, vector: vector.into() };
        op.body = Body::Put { payload: Arc::from(*b"text"), embedding: Some(embedding), archived: false };
        sealed(&op, caller.me().key())
    };
    let page: Vec<_> = cases.iter().enumerate().map(|(seq, (vector, _))| op(seq, vector)).collect();
    let found: Vec<_> = caller.push_ops(&page).await.into_iter().map(|ack| (ack.outcome, ack.note)).collect();
    let expect = cases.map(|(_, why)| (AckOutcome::Applied, Some(AckNote::VectorRefused(why))));
    assert_eq!(found, expect);
    assert_eq!(caller.bench.node.status().clock.dot_count(), cases.len() as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_op_under_the_same_dot_is_invalid_alarms_and_changes_nothing() {
    let caller = caller().await;
    let (first, key) = (caller.op(1), caller.me().key());
    let held = sealed(&first, key);
    assert_eq!(caller.push_ops(std::slice::from_ref(&held)).await[0].outcome, AckOutcome::Applied);
    let position = caller.bench.node.status().position;
    let mut other = first;
    other.body = Body::Put { payload: Arc::from(*b"another text"), embedding: None, archived: false };
    let ack = &caller.push_ops(&[sealed(&other, key)]).await[0];
    assert_eq!(ack.outcome, AckOutcome::Refused(OpRefusal::Equivocation));
    assert_eq!(ack.hash, held.0.hash, "the answer names what is held");
    assert_eq!(caller.bench.alarms("equivocation"), 1);
    let status = caller.bench.node.status();
    assert_eq!((status.position, status.clock.dot_count()), (position, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_puts_an_op_off_and_a_failed_one_refuses_the_request() {
    let disk = SimulatedDisk::new();
    let caller = Caller::of(Bench::start_on(disk.clone(), &["a"], Bounds::default()).await).await;
    let op = |seq| {
        let mut op = caller.op(seq);
        op.body = Body::Put { payload: vec![b'x'; 60_000].into(), embedding: None, archived: false };
        sealed(&op, caller.me().key())
    };
    // The rest of the segment is there to be used.
    disk.set_capacity_bytes(Some(disk.used_bytes()));
    let mut seq = 1;
    let refused = loop {
        match caller.push_op(&op(seq)).await {
            Ok(outcome) => assert_eq!(outcome, AckOutcome::Applied),
            Err(slug) => break slug,
        }
        seq += 1;
        assert!(seq < 10, "more than a segment");
    };
    let held = || caller.bench.node.status().clock.dot_count();
    assert_eq!((refused, held()), (Slug::DiskFull, seq - 1));
    disk.set_capacity_bytes(None);
    assert_eq!(
        caller.push_op(&op(seq)).await,
        Ok(AckOutcome::Applied),
        "it is put off and not refused for good"
    );

    disk.fail_after(0);
    let position = caller.bench.node.status().position;
    for _ in 0..2 {
        assert_eq!(caller.push_op(&op(seq + 1)).await, Err(Slug::StoreReadOnly));
    }
    assert_eq!((caller.bench.node.status().position, held()), (position, seq));
    assert!(caller.counted(Slug::DiskFull) > 0 && caller.counted(Slug::StoreReadOnly) > 0);
}

/// What does not come in time holds its place no longer.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_does_not_come_is_told_so() {
    let caller = caller().await;
    let head = head("POST", Route::Push.path(), FRAME_MEDIA_TYPE, 100);
    let exchange = caller.exchange(head.as_bytes(), b"half");
    let answer = tokio::time::timeout(Duration::from_secs(20), exchange).await.expect("an answer in time");
    assert_eq!((answer.status, answer.word()), (408, "slow_body".to_owned()));
    assert_eq!(caller.counted(Slug::SlowBody), 1);
    assert!(caller.bench.node.status().clock.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_op_of_a_caller_that_hangs_up_is_counted_and_passed_on_all_the_same() {
    let caller = Caller::of(Bench::with_peers_up(1, &["a", "b"]).await).await;
    let op = caller.op(1);
    let mut request = caller.pushed_ops(&[sealed(&op, caller.me().key())]);
    // As far as the store's writer; then the connection is gone, and with it the future.
    let _ = request.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    drop(request);
    caller.bench.await_op(&op.dot, "b", OpAtPeer::Held).await;
    assert!(caller.bench.peer("b").holds(&op.dot));
    assert_eq!(caller.bench.node.metrics().admitted["applied"], 1);
}
