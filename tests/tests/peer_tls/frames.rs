//! A frame names the sender that its channel proves, in the form of its channel.

use federation_net::transport::TransportError;
use federation_tests::mock_peer::MockPeer;
use federation_wire::frame::{self, Route};
use federation_wire::identity::{Directory, KeyEntry, KeyState};
use federation_wire::keys::NodeKey;
use federation_wire::slug::Slug;

use crate::site::{Caller, NODE, Site, TAKEN, entry, eventually, id};

#[tokio::test(flavor = "multi_thread")]
async fn whoever_speaks_in_the_name_of_another_loses_the_connection_and_sets_off_an_alarm() {
    let site = Site::of(&[entry("a"), entry("b")]).await;
    let (caller, other) = (Caller::new("a", &site), MockPeer::new("b"));
    let line = caller.dial(&site).await.unwrap();
    assert_eq!(caller.says_hello(&line).await, Ok(TAKEN));
    let position = site.node.status().position;

    let envelope = other.envelope(Route::Hello, &id(NODE), line.boot);
    // As the channel has it, and with the other's own signature: a frame of b that a has come by.
    let bare = frame::seal_for_channel(other.key().id(), envelope.clone(), &other.hello().to_bytes());
    let signed = frame::seal(other.key(), envelope, &other.hello().to_bytes());
    for (number, bytes) in [(1, bare), (2, signed)] {
        let line = caller.dial(&site).await.unwrap();
        assert_eq!(caller.says_hello(&line).await, Ok(TAKEN));
        let position = site.node.status().position;
        let answer = line.send_bytes(bytes).await;
        assert_eq!(answer, Err(TransportError::Refused { status: 403 }));
        assert_eq!(site.alarms("identity_mismatch"), number);
        assert_eq!(site.refused_frames(Slug::IdentityMismatch), number);
        assert_eq!(caller.says_hello(&line).await, Err(TransportError::ConnectionLost));
        assert_eq!(site.node.status().position, position);
    }
    assert_eq!(site.node.status().position, position, "a hello that is known writes nothing");
    site.nothing_is_stored();
    assert_eq!(caller.says_hello(&line).await, Ok(TAKEN), "the other connections stay");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_of_a_frame_is_its_senders() {
    let site = Site::of(&[entry("a"), entry("b")]).await;
    let caller = Caller::new("a", &site);
    let line = caller.dial(&site).await.unwrap();
    let (envelope, body) = caller.hello(&line);
    let bytes = frame::seal_for_channel(MockPeer::new("b").key().id(), envelope, &body);
    assert_eq!(line.send_bytes(bytes).await, Err(TransportError::Refused { status: 403 }));
    assert_eq!(site.refused_frames(Slug::IdentityMismatch), 1);
}

/// A node that rotates its key has connections of the old one for a while, and names the new one in its frames.
#[tokio::test(flavor = "multi_thread")]
async fn the_key_that_proved_the_channel_must_be_good_whichever_the_frame_names() {
    let next = NodeKey::from_seed(&[4; 32]);
    let mut both = entry("a");
    both.keys.push(KeyEntry { key: next.public().to_string(), ..both.keys[0].clone() });
    both.keys[1].id = None;
    let site = Site::of(&[both.clone()]).await;
    let caller = Caller::new("a", &site);
    let line = caller.dial(&site).await.unwrap();
    let named_next = || {
        let (envelope, body) = caller.hello(&line);
        frame::seal_for_channel(next.id(), envelope, &body)
    };
    assert_eq!(line.send_bytes(named_next()).await, Ok(TAKEN));

    both.keys[0].state = KeyState::Retired;
    site.enrolled.replace(Directory::new(&[both]).unwrap());
    assert_eq!(line.send_bytes(named_next()).await, Err(TransportError::Refused { status: 401 }));
    assert_eq!(site.refused_frames(Slug::PeerRevoked), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_has_one_form_on_a_channel() {
    let site = Site::of(&[entry("a")]).await;
    let caller = Caller::new("a", &site);
    let line = caller.dial(&site).await.unwrap();
    let (envelope, body) = caller.hello(&line);
    let signed = frame::seal(caller.me.key(), envelope.clone(), &body);
    assert_eq!(line.send_bytes(signed).await, Err(TransportError::Refused { status: 400 }));
    assert_eq!(site.refused_frames(Slug::Malformed), 1);

    // All the rest of the envelope is held against the frame on every channel.
    assert_eq!(line.send(envelope.clone(), &body).await, Ok(TAKEN));
    assert_eq!(line.send(envelope.clone(), &body).await, Ok(Slug::Replayed));
    let mut elsewhere = caller.hello(&line).0;
    elsewhere.recipient = id("elsewhere");
    assert_eq!(line.send(elsewhere, &body).await, Ok(Slug::WrongRecipient));
    let mut before = caller.hello(&line).0;
    before.recipient_boot = federation_core::id::BootId(1);
    assert_eq!(line.send(before, &body).await, Ok(Slug::WrongBoot));
    let mut late = caller.hello(&line).0;
    late.sent_at.0 -= 121_000;
    assert_eq!(line.send(late, &body).await, Ok(Slug::Stale));
    let mut astray = caller.hello(&line).0;
    astray.route = Route::Push;
    assert_eq!(line.send(astray, &body).await, Ok(Slug::WrongRoute));
    let mut changed = frame::seal_for_channel(caller.me.key().id(), caller.hello(&line).0, &body);
    *changed.last_mut().unwrap() ^= 1;
    assert_eq!(line.send_bytes(changed).await, Ok(Slug::SignatureInvalid));
    eventually("nothing alarms", || site.alarms("identity_mismatch") == 0).await;
}
