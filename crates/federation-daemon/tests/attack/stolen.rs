//! What a stolen key is good for: before its revocation for all that its node may do, afterwards for nothing.

use std::process::Command;

use crate::loot::under_another_id;
use crate::poll::until;
use federation_core::dot::Dot;
use federation_core::id::BootId;
use federation_core::op::Op;
use federation_wire::frame::{ReceivedFrame, Route};
use federation_wire::slug::Slug;
use federation_wire::v1::ack::{AckOutcome, OpRefusal};
use federation_wire::v1::hello::Hello;
use federation_wire::v1::op::{decode_op, encode_op};
use federation_wire::v1::push::PushAnswer;
use rustix::process::Signal;

use crate::bench::{Bench, HONEST, OTHER, VICTIM, WITHIN};
use crate::line::{ATTACKER, Line};
use crate::loot::{Loot, Sender, body, envelope};

/// An attacker who has the key of the honest node, and all that it said.
struct Thief {
    sender: Sender,
    /// The last op of the honest node that was recorded.
    last: Op,
}

impl Thief {
    fn of(bench: &Bench, loot: &Loot) -> Self {
        let ops = loot.ops().into_iter().map(|sealed| decode_op(&sealed.op.bytes).unwrap());
        let last = ops.max_by_key(|op| op.dot.seq).unwrap();
        let mut sender = Sender::new("node-2", bench.key(HONEST));
        // Those who know a node by its boot go on with whoever names the same.
        sender.boot = envelope(&loot.frames[0]).sender_boot;
        Self { sender, last }
    }

    /// An op as the honest node could have made it, so many behind its last.
    fn forged(&self, ahead: u64) -> Vec<u8> {
        let mut op = self.last.clone();
        op.dot.seq += ahead;
        op.key.id = format!("stolen-{ahead}").parse().unwrap();
        op.body = under_another_id(op.body, &self.last.key.id, &op.key.id);
        encode_op(&op).bytes.to_vec()
    }

    fn page(&self, loot: &Loot, by: &Sender, op: &[u8]) -> Vec<u8> {
        let proof = self.sender.proof(&self.last.dot.origin, op);
        by.sends(&loot.victim, Route::Push, &crate::loot::page(&[(op.to_vec(), proof)]))
    }
}

/// What became of the one op of a page.
async fn outcome(loot: &Loot, frame: &[u8]) -> Result<AckOutcome, String> {
    let line = Line::open(ATTACKER, loot.victim.address).await.unwrap();
    let answer = line.send(Route::Push, frame).await.unwrap();
    if answer.status != 200 {
        return Err(answer.word(&loot.victim));
    }
    ReceivedFrame::parse(&answer.bytes).unwrap().verify(&loot.victim.key).unwrap();
    Ok(PushAnswer::from_bytes(body(&answer.bytes)).unwrap().acks[0].outcome)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stolen_key_speaks_for_its_node_alone_and_once_revoked_for_nobody() {
    let (bench, loot) = Bench::recorded().await;
    let thief = Thief::of(&bench, &loot);
    let forged = thief.forged(100);

    // The one thing that works: in the name of its node, and where that may, the thief is the node.
    assert_eq!(outcome(&loot, &thief.page(&loot, &thief.sender, &forged)).await, Ok(AckOutcome::Applied));
    until(WITHIN, "it is sent on", async || {
        (bench.state(VICTIM).await.content() == bench.state(OTHER).await.content()).then_some(())
    })
    .await;

    // It gives no voice to others: neither a frame of another node, nor an op of another origin.
    let before = bench.state(VICTIM).await;
    let other = Sender { id: loot.other.id.clone(), ..thief.sender.clone() };
    let as_other = thief.page(&loot, &other, &thief.forged(101));
    assert_eq!(outcome(&loot, &as_other).await, Err("unknown_peer".into()));
    let of_other = loot.op_of_mallory(1);
    let bytes = encode_op(&of_other).bytes.to_vec();
    let proof = thief.sender.proof(&of_other.dot.origin, &bytes);
    let frame = thief.sender.sends(&loot.victim, Route::Push, &crate::loot::page(&[(bytes, proof)]));
    assert_eq!(outcome(&loot, &frame).await, Ok(AckOutcome::Refused(OpRefusal::UnknownOrigin)));
    // Nor can it change what is there: another op under a dot that is held is refused, and sets off an alarm.
    let mut changed = thief.last.clone();
    changed.key.id = "changed".parse().unwrap();
    changed.body = under_another_id(changed.body, &thief.last.key.id, &changed.key.id);
    let changed = encode_op(&changed).bytes.to_vec();
    let answer = outcome(&loot, &thief.page(&loot, &thief.sender, &changed)).await;
    assert_eq!(answer, Ok(AckOutcome::Refused(OpRefusal::Equivocation)));
    assert_eq!(bench.counted(VICTIM, "alarms", "equivocation").await, 1);
    // A boot of its own, in which its disk has less than the node had, is taken for a rollback, and an alarm is set off.
    let line = Line::open(ATTACKER, loot.victim.address).await.unwrap();
    let own = Sender { boot: BootId(0xbad), ..thief.sender.clone() };
    let hello = Hello { position: thief_position(), ..loot.hello_of(&own) };
    let answer = line.send(Route::Hello, &own.sends(&loot.victim, Route::Hello, &hello.to_bytes())).await;
    let answer = answer.unwrap();
    assert_eq!(answer.status, 200);
    assert_eq!(bench.counted(VICTIM, "alarms", "peer_must_rebootstrap").await, 1);
    assert_eq!(bench.state(VICTIM).await.content(), before.content());

    revoke(&bench, &thief.last.dot).await;
    let before = bench.state(VICTIM).await;
    for (what, frame) in [
        ("a page", thief.page(&loot, &thief.sender, &thief.forged(102))),
        ("what was accepted before", thief.page(&loot, &thief.sender, &forged)),
        ("recorded, never delivered", loot.undelivered[0].clone()),
    ] {
        assert_eq!(outcome(&loot, &frame).await, Err("peer_revoked".into()), "{what}");
    }
    assert!(bench.refused(VICTIM, Slug::PeerRevoked.as_str()).await >= 3);
    // By way of another who is enrolled: what was named as accepted, and nothing beyond it.
    let relayed = async |op: &[u8]| outcome(&loot, &thief.page(&loot, &loot.mallory, op)).await;
    let refused = Ok(AckOutcome::Refused(OpRefusal::KeyRevoked));
    assert_eq!(relayed(&thief.forged(1)).await, refused, "the first beyond what is accepted");
    assert_eq!(relayed(&thief.forged(200)).await, refused);
    let mut elsewhere = thief.last.clone();
    elsewhere.dot.origin.epoch = BootId(0xbad);
    elsewhere.dot.seq = 1;
    let elsewhere = encode_op(&elsewhere).bytes.to_vec();
    let proof = thief
        .sender
        .proof(&Dot { origin: decode_op(&elsewhere).unwrap().dot.origin, seq: 1 }.origin, &elsewhere);
    assert_eq!(outcome(&loot, &loot.page_of_mallory(&[(elsewhere, proof)])).await, refused, "another epoch");
    let last = encode_op(&thief.last).bytes.to_vec();
    assert_eq!(relayed(&last).await, Ok(AckOutcome::Duplicate), "the last that is accepted");
    assert!(bench.counted(VICTIM, "admitted_ops", "key_revoked").await >= 3);
    assert_eq!(bench.state(VICTIM).await.content(), before.content());
    bench.stop().await;
}

fn thief_position() -> federation_core::id::LogPosition {
    federation_core::id::LogPosition(1)
}

/// Revokes the honest node's key at the victim and the other, as an operator does: up to its last recorded op.
async fn revoke(bench: &Bench, last: &Dot) {
    for index in [VICTIM, OTHER] {
        let node = bench.mesh.node(index).unwrap();
        let series = format!("{}:{}", last.origin.epoch, last.seq);
        let mut command = Command::new(env!("CARGO_BIN_EXE_federationd"));
        let output = command
            .args(["peer", "revoke", last.origin.node.as_str(), "--accept", &series])
            .current_dir(node.dir())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        node.process().unwrap().signal(Signal::HUP).unwrap();
    }
    let url = format!("{}/api/v1/admin/reload", bench.url(VICTIM));
    let answer = bench.client.post(&url, &serde_json::json!({})).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
}
