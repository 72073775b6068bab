//! The list of attacks, each made of recorded bytes, and the answer that it must get.
//!
//! One more attack is one more entry in a list under `attacks/`: a name, the answer, and a function that makes what is sent.

mod bytes;
mod origins;
mod replay;
mod scopes;
mod slow;

use federation_wire::frame::{FrameKind, ReceivedFrame, Route};
use federation_wire::slug::Slug;
use federation_wire::v1::ack::{AckOutcome, OpRefusal};
use federation_wire::v1::push::{Completion, PushAnswer};

use crate::bench::{Bench, CONTENT, OTHER, VICTIM};
use crate::line::{ATTACKER, Answer, Line};
use crate::loot::{Loot, Place, body};

/// An attack.
pub(crate) struct Attack {
    pub(crate) name: &'static str,
    /// What each shot must get.
    pub(crate) gets: Gets,
    /// What is sent.
    pub(crate) shots: fn(&Loot) -> Vec<Shot>,
}

/// One request.
pub(crate) struct Shot {
    /// The number of the node that it goes to.
    pub(crate) to: usize,
    /// By which route.
    pub(crate) by: Route,
    pub(crate) frame: Vec<u8>,
}

/// The answer that an attack must get.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Gets {
    /// The request is refused with this word, and counted.
    Refused(Slug),
    /// The request is refused, whatever the word.
    RefusedSomehow,
    /// The page is answered, and each of its ops refused with this, and counted.
    OpRefused(OpRefusal),
    /// The page is answered: what is in it is known, and changes nothing.
    Known,
    /// The claim is answered with this.
    Claimed(Completion),
    /// The request is answered, and nothing in the answer is content.
    Nothing,
}

/// All of them.
fn attacks() -> impl Iterator<Item = &'static Attack> {
    [replay::ATTACKS, bytes::ATTACKS, origins::ATTACKS, scopes::ATTACKS].into_iter().flatten()
}

/// A push to the victim.
fn push(frame: Vec<u8>) -> Shot {
    Shot { to: VICTIM, by: Route::Push, frame }
}

#[tokio::test(flavor = "multi_thread")]
async fn none_of_the_attacks_changes_anything_and_each_gets_its_answer() {
    let (bench, loot) = Bench::recorded().await;
    for attack in attacks() {
        play(&bench, &loot, attack).await;
    }
    // What honest nodes do goes on as before.
    bench.write(1, "afterwards").await;
    bench.settled().await;
    bench.stop().await;
}

/// Does an attack, and holds what comes of it against what must.
pub(crate) async fn play(bench: &Bench, loot: &Loot, attack: &Attack) {
    let name = attack.name;
    let before = [bench.state(VICTIM).await, bench.state(OTHER).await];
    let shots = (attack.shots)(loot);
    assert!(!shots.is_empty(), "{name}: nothing is sent");
    let counted_before = counted(bench, attack.gets).await;
    for (number, shot) in shots.iter().enumerate() {
        let place = if shot.to == VICTIM { &loot.victim } else { &loot.other };
        let line = Line::open(ATTACKER, place.address).await.unwrap();
        let answer = line.send(shot.by, &shot.frame).await;
        let answer = answer.unwrap_or_else(|| panic!("{name}, shot {number}: no answer"));
        judge(&format!("{name}, shot {number}"), attack.gets, place, &answer);
    }
    if let (Some(before), Some(after)) = (counted_before, counted(bench, attack.gets).await) {
        assert!(after - before >= shots.len() as u64, "{name}: {} shots, {before} to {after}", shots.len());
    }
    let after = [bench.state(VICTIM).await, bench.state(OTHER).await];
    assert_eq!(before, after, "{name} has left a trace");
    println!("{:>4} x {name}: {:?}", shots.len(), attack.gets);
}

fn judge(what: &str, gets: Gets, by: &Place, answer: &Answer) {
    let status = answer.status;
    match gets {
        Gets::Refused(slug) => {
            assert_eq!((answer.word(by).as_str(), status), (slug.as_str(), slug.http_status()), "{what}");
        }
        Gets::RefusedSomehow => assert!((400..500).contains(&status), "{what}: {status}"),
        Gets::OpRefused(refusal) => {
            let acks = pushed(what, by, answer).acks;
            assert!(!acks.is_empty(), "{what}");
            for ack in acks {
                assert_eq!(ack.outcome, AckOutcome::Refused(refusal), "{what}");
            }
        }
        Gets::Known => {
            let acks = pushed(what, by, answer).acks;
            let is_known = |outcome| matches!(outcome, AckOutcome::Duplicate | AckOutcome::Superseded);
            assert!(!acks.is_empty() && acks.iter().all(|ack| is_known(ack.outcome)), "{what}: {acks:?}");
        }
        Gets::Claimed(completion) => {
            assert_eq!(pushed(what, by, answer).completion, Some(completion), "{what}");
        }
        Gets::Nothing => {
            assert_eq!(status, 200, "{what}");
            let marker = CONTENT.as_bytes();
            assert!(!answer.bytes.windows(marker.len()).any(|part| part == marker), "{what}");
        }
    }
}

fn pushed(what: &str, by: &Place, answer: &Answer) -> PushAnswer {
    assert_eq!(answer.status, 200, "{what}: {}", answer.word(by));
    let frame = ReceivedFrame::parse(&answer.bytes).unwrap();
    assert!(matches!(frame.header().envelope.kind, FrameKind::Answer { .. }), "{what}");
    frame.verify(&by.key).unwrap();
    PushAnswer::from_bytes(body(&answer.bytes)).unwrap()
}

/// What both nodes have counted of such answers.
async fn counted(bench: &Bench, gets: Gets) -> Option<u64> {
    let (name, label) = match gets {
        Gets::Refused(slug) => ("refused_frames", slug.as_str()),
        Gets::OpRefused(refusal) => ("admitted_ops", refusal.slug()),
        _ => return None,
    };
    Some(bench.counted(VICTIM, name, label).await + bench.counted(OTHER, name, label).await)
}
