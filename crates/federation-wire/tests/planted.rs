//! The planted defects of this crate take frames and ops that a sound node refuses, and no others.

#![expect(clippy::unwrap_used, reason = "a test says what went wrong by panicking")]

use federation_core::dot::{Dot, Origin};
use federation_core::id::{BootId, NodeId};
use federation_core::limits::FRAME_AGE_MAX;
use federation_core::planted::{Defect, plant};
use federation_core::time::WallMs;
use federation_wire::frame::{
    Addressed, Envelope, FrameError, FrameKind, Nonce, NonceWindow, Route, check_request,
};
use federation_wire::identity::{AcceptedSeries, Directory, Enrolment, KeyRefusal, KeyState};
use federation_wire::keys::NodeKey;
use federation_wire::slug::Slug;

const NOW: WallMs = WallMs(1_000_000);

/// A request of this moment, changed, and what a node in boot 3 says to it.
fn said(change: fn(&mut Envelope)) -> Result<(), Slug> {
    let here = NodeId::new("b").unwrap();
    let mut envelope = Envelope {
        kind: FrameKind::Request,
        route: Route::Push,
        sender: NodeId::new("a").unwrap(),
        sender_boot: BootId(1),
        recipient: here.clone(),
        recipient_boot: BootId(3),
        sent_at: NOW,
        nonce: Nonce(7),
    };
    change(&mut envelope);
    let addressed = Addressed { node: &here, boot: BootId(3), route: Route::Push, now: NOW };
    check_request(&envelope, &addressed).map_err(FrameError::slug)
}

/// What is said to a frame that comes twice.
fn said_twice() -> [Result<(), Slug>; 2] {
    let mut window = NonceWindow::new(10);
    [(); 2].map(|()| {
        window.check(NOW, Nonce(7), NOW).map_err(FrameError::slug)?;
        window.record(NOW, Nonce(7), NOW).map_err(FrameError::slug)
    })
}

fn accept_replay_asks_for_neither_boot_nor_time_nor_nonce() {
    let old = |e: &mut Envelope| e.sent_at = WallMs(NOW.0 - FRAME_AGE_MAX.0 - 1);
    let of_a_boot_before = |e: &mut Envelope| e.recipient_boot = BootId(2);
    let first_hello = |e: &mut Envelope| e.recipient_boot = BootId(0);
    let for_another = |e: &mut Envelope| e.recipient = NodeId::new("c").unwrap();
    let elsewhere = |e: &mut Envelope| e.route = Route::Pull;

    assert_eq!(said(|_| {}), Ok(()));
    assert_eq!([said(old), said(of_a_boot_before)], [Err(Slug::Stale), Err(Slug::WrongBoot)]);
    assert_eq!(said_twice(), [Ok(()), Err(Slug::Replayed)]);

    plant(Some(Defect::AcceptReplay));
    assert_eq!([said(|_| {}), said(old), said(of_a_boot_before)], [Ok(()); 3]);
    assert_eq!(said_twice(), [Ok(()); 2]);
    assert_eq!(said(first_hello), Err(Slug::WrongBoot), "or no hello would ever learn the boot");
    assert_eq!([said(for_another), said(elsewhere)], [Err(Slug::WrongRecipient), Err(Slug::WrongRoute)]);

    plant(None);
    assert_eq!([said(old), said(of_a_boot_before)], [Err(Slug::Stale), Err(Slug::WrongBoot)]);
}

/// The op beyond what a revoked key may have sealed.
fn beyond() -> Option<KeyRefusal> {
    let key = NodeKey::from_seed(&[1; 32]);
    let mut revoked = Enrolment::full("a", "https://127.0.0.1:1", key.public());
    revoked.keys[0].state = KeyState::Revoked;
    revoked.keys[0].accepted = vec![AcceptedSeries { epoch: "0000000000000005".into(), last_seq: 7 }];
    let directory = Directory::new(&[revoked]).unwrap();
    let origin = Origin { node: NodeId::new("a").unwrap(), epoch: BootId(5) };
    directory.sealing_key(&Dot { origin, seq: 8 }, key.id()).err()
}

fn believe_revoked_keys_asks_for_no_number() {
    assert_eq!(beyond(), Some(KeyRefusal::Revoked));
    plant(Some(Defect::BelieveRevokedKeys));
    assert_eq!(beyond(), None);
    plant(None);
    assert_eq!(beyond(), Some(KeyRefusal::Revoked));
}

/// One after the other: one defect is planted in a process.
#[test]
fn each_defect_takes_what_it_says() {
    accept_replay_asks_for_neither_boot_nor_time_nor_nonce();
    believe_revoked_keys_asks_for_no_number();
}
