//! Frames: taken from the right sender, at the right place and time, once and whole.

use federation_core::id::{BootId, KeyId};
use federation_core::limits::FRAME_AGE_MAX;
use federation_core::time::WallMs;
use federation_wire::codec;
use federation_wire::frame::{
    self, Addressed, BodyDigest, Envelope, FrameError, FrameKind, Header, Nonce, ReceivedFrame, Route,
    SenderProof, check_answer, check_request,
};
use federation_wire::keys::NodeKey;
use federation_wire::slug::Slug;

use crate::samples::{envelope, key, node};

fn open(bytes: &[u8]) -> Result<Vec<u8>, FrameError> {
    let frame = ReceivedFrame::parse(bytes)?;
    let here = node("node-b");
    let addressed =
        Addressed { node: &here, boot: BootId(3), route: Route::Push, now: frame.header().envelope.sent_at };
    check_request(&frame.header().envelope, &addressed)?;
    Ok(frame.verify(key().public())?.body()?.to_vec())
}

#[test]
fn a_flipped_bit_is_found_wherever_it_is() {
    let bytes = frame::seal(&key(), envelope(), b"body");
    assert_eq!(open(&bytes), Ok(b"body".to_vec()));
    for bit in 0..bytes.len() * 8 {
        let mut forged = bytes.clone();
        forged[bit / 8] ^= 1 << (bit % 8);
        assert!(open(&forged).is_err(), "bit {bit}");
    }
    for len in 0..bytes.len() {
        assert!(open(&bytes[..len]).is_err(), "cut at {len}");
    }
}

#[test]
fn each_fault_has_its_word() {
    let check = |bytes: &[u8], expect: Slug| assert_eq!(open(bytes).map_err(FrameError::slug), Err(expect));
    let bytes = frame::seal(&key(), envelope(), b"body");
    let unsigned = &bytes[..bytes.len() - 64];
    check(unsigned, Slug::SignatureMissing);
    check(&bytes[..bytes.len() - 1], Slug::SignatureMalformed);
    check(&[&bytes, &[0_u8][..]].concat(), Slug::SignatureMalformed);
    check(&[b"FED2", &bytes[4..]].concat(), Slug::Malformed);
    check(b"", Slug::Malformed);
    check(&frame::seal(&NodeKey::from_seed(&[2; 32]), envelope(), b"body"), Slug::SignatureInvalid);

    let seal = |change: fn(&mut Envelope)| {
        let mut envelope = envelope();
        change(&mut envelope);
        frame::seal(&key(), envelope, b"body")
    };
    check(&seal(|e| e.recipient = node("node-c")), Slug::WrongRecipient);
    check(&seal(|e| e.route = Route::Pull), Slug::WrongRoute);
    check(&seal(|e| e.kind = FrameKind::Answer { to: Nonce(1) }), Slug::WrongRoute);
    check(&seal(|e| e.recipient_boot = BootId(0)), Slug::WrongBoot);

    let mut other_body = bytes.clone();
    let at = bytes.len() - 64 - 1;
    other_body[at] = b'Y';
    check(&other_body, Slug::SignatureInvalid);
}

#[test]
fn a_frame_that_names_another_key_than_it_is_verified_with_is_refused() {
    let named = Header { envelope: envelope(), key_id: KeyId([9; 8]), body: BodyDigest::of(b"") };
    let header = codec::encode(&named);
    let len = u32::try_from(header.len()).unwrap().to_le_bytes();
    let signature = key().sign(&[b"federation/v1/frame\0", header.as_slice()].concat());
    let bytes = [b"FED1".as_slice(), &len, &header, &signature].concat();
    assert_eq!(open(&bytes), Err(FrameError::SignatureInvalid));
}

#[test]
fn only_what_is_near_in_time_is_taken() {
    let here = node("node-b");
    let at = envelope().sent_at.0;
    let check = |now: u64| {
        let addressed = Addressed { node: &here, boot: BootId(3), route: Route::Push, now: WallMs(now) };
        check_request(&envelope(), &addressed)
    };
    assert_eq!(check(at), Ok(()));
    assert_eq!(check(at + FRAME_AGE_MAX.0), Ok(()));
    assert_eq!(check(at - FRAME_AGE_MAX.0), Ok(()));
    for now in [at + FRAME_AGE_MAX.0 + 1, at - FRAME_AGE_MAX.0 - 1, 0, u64::MAX] {
        let now = WallMs(now);
        let stale = FrameError::Stale { sent_at: WallMs(at), now };
        assert_eq!(check(now.0), Err(stale));
        assert_eq!(stale.nack().now, Some(now), "the sender learns the receiver's time");
    }
}

#[test]
fn a_refusal_tells_what_helps() {
    let wrong_boot = FrameError::WrongBoot { current: BootId(9) }.nack();
    assert_eq!((wrong_boot.slug, wrong_boot.current_boot), (Slug::WrongBoot, Some(BootId(9))));
    let too_large = FrameError::TooLarge { bytes: 9, limit_bytes: 8 }.nack();
    assert_eq!((too_large.slug, too_large.limit), (Slug::TooLarge, Some(8)));
}

#[test]
fn an_answer_belongs_to_its_request() {
    let request = envelope();
    let answer = Envelope {
        kind: FrameKind::Answer { to: request.nonce },
        sender: request.recipient.clone(),
        sender_boot: request.recipient_boot,
        recipient: request.sender.clone(),
        recipient_boot: request.sender_boot,
        nonce: Nonce(5),
        ..request.clone()
    };
    assert_eq!(check_answer(&answer, &request), Ok(()));
    let check = |change: fn(&mut Envelope)| {
        let mut answer = answer.clone();
        change(&mut answer);
        assert_eq!(check_answer(&answer, &request), Err(FrameError::WrongAnswer));
    };
    check(|a| a.kind = FrameKind::Request);
    check(|a| a.kind = FrameKind::Answer { to: Nonce(5) });
    check(|a| a.sender = node("node-c"));
    check(|a| a.recipient = node("node-c"));
    check(|a| a.recipient_boot = BootId(0));
    check(|a| a.route = Route::Hello);
}

#[test]
fn frames_of_a_stream_are_told_apart() {
    let (first, second) = (frame::seal(&key(), envelope(), b"one"), frame::seal(&key(), envelope(), b""));
    let stream = [first.clone(), second.clone()].concat();
    assert_eq!(frame::frame_len(&stream, SenderProof::Signature), Ok(Some(first.len())));
    assert_eq!(frame::frame_len(&stream[first.len()..], SenderProof::Signature), Ok(Some(second.len())));
    for begun in 0..first.len() {
        let told = frame::frame_len(&first[..begun], SenderProof::Signature).unwrap();
        assert!(told.is_none_or(|len| len == first.len()));
    }
    assert_eq!(frame::frame_len(b"FEX", SenderProof::Signature), Err(FrameError::Malformed));
}

/// A channel has one form of frames: what proves the sender twice is refused like what proves it not at all.
#[test]
fn a_frame_is_signed_or_its_channel_vouches_for_it_and_never_both() {
    let signed = frame::seal(&key(), envelope(), b"body");
    let bare = frame::seal_for_channel(key().id(), envelope(), b"body");
    assert_eq!(signed.len(), bare.len() + 64);
    assert_eq!(open(&bare), Err(FrameError::SignatureMissing));
    let vouched = ReceivedFrame::parse(&bare).unwrap().vouched_for().unwrap();
    assert_eq!((vouched.body(), vouched.header().key_id), (Ok(&b"body"[..]), key().id()));
    let twice = ReceivedFrame::parse(&signed).unwrap().vouched_for();
    assert!(matches!(twice, Err(FrameError::Malformed)), "{twice:?}");

    let mut changed = bare.clone();
    *changed.last_mut().unwrap() ^= 1;
    let vouched = ReceivedFrame::parse(&changed).unwrap().vouched_for().unwrap();
    assert_eq!(vouched.body(), Err(FrameError::BodyChanged));

    let stream = [bare.clone(), bare.clone()].concat();
    assert_eq!(frame::frame_len(&stream, SenderProof::Channel), Ok(Some(bare.len())));
}

#[test]
fn routes_are_told_by_method_and_path() {
    for route in Route::ALL {
        assert_eq!(Route::of(route.method(), route.path()), Some(route));
        assert_eq!(Route::of("GET", route.path()), None);
    }
}
