//! Who is let in, by the node key.

use std::sync::Arc;
use std::time::{Duration, Instant};

use federation_net::http::ListenerLimits;
use federation_net::tls::Credentials;
use federation_net::transport::{ChannelIdentity, TransportError};
use federation_tests::mock_peer::MockPeer;
use federation_wire::identity::{Directory, Enrolment, KeyEntry, KeyState};
use federation_wire::keys::NodeKey;
use federation_wire::slug::Slug;
use rcgen::{CertificateParams, KeyPair, PKCS_ED25519};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use crate::site::{Caller, Given, NODE, PATIENCE, Site, TAKEN, entry, eventually, id, retired};

#[tokio::test(flavor = "multi_thread")]
async fn enrolled_nodes_prove_themselves_by_their_keys_and_sign_no_frame() {
    let site = Site::of(&[entry("a")]).await;
    let caller = Caller::new("a", &site);
    let line = caller.dial(&site).await.unwrap();
    let proven = ChannelIdentity::NodeKey { node: id(NODE), key: site.key.id() };
    assert_eq!(line.connection.channel(), proven);
    assert_eq!(caller.says_hello(&line).await, Ok(TAKEN));
    assert_eq!(site.refused_connections("handshake"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_nobody_enrolled_is_refused_in_the_handshake() {
    let site = Site::of(&[entry("a")]).await;
    let stranger = Caller::new("b", &site);
    let refused = match stranger.dial(&site).await {
        Ok(line) => stranger.says_hello(&line).await.unwrap_err(),
        Err(error) => error,
    };
    assert_eq!(refused, TransportError::ConnectionLost);
    eventually("it is counted", || site.refused_connections("handshake") == 1).await;
    assert_eq!(alert(&site, None).await, "received fatal alert: CertificateRequired");
    let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let certificate = CertificateParams::default().self_signed(&key).unwrap();
    let shown = (certificate.der().clone(), key.serialize_der().try_into().unwrap());
    assert_eq!(alert(&site, Some(shown)).await, "received fatal alert: AccessDenied");
    site.nothing_is_stored();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_retired_gets_through_no_handshake_and_no_open_connection() {
    let site = Site::of(&[entry("a"), entry("b")]).await;
    let (caller, other) = (Caller::new("a", &site), Caller::new("b", &site));
    let line = caller.dial(&site).await.unwrap();
    let others = other.dial(&site).await.unwrap();
    assert_eq!(caller.says_hello(&line).await, Ok(TAKEN));
    assert_eq!(other.says_hello(&others).await, Ok(TAKEN));

    site.enrolled.replace(Directory::new(&[retired(entry("a")), entry("b")]).unwrap());
    let refused = caller.says_hello(&line).await;
    assert_eq!(refused, Err(TransportError::Refused { status: 401 }), "also where it is connected");
    assert_eq!(site.refused_frames(Slug::PeerRevoked), 1);
    let again = match caller.dial(&site).await {
        Ok(line) => caller.says_hello(&line).await.unwrap_err(),
        Err(error) => error,
    };
    assert_eq!(again, TransportError::ConnectionLost);
    eventually("the handshake is counted", || site.refused_connections("handshake") == 1).await;

    assert_eq!(site.server.close_unproven(), [id("a")]);
    let begun = Instant::now();
    assert_eq!(caller.says_hello(&line).await, Err(TransportError::ConnectionLost));
    assert!(begun.elapsed() < Duration::from_secs(1));
    assert_eq!(other.says_hello(&others).await, Ok(TAKEN), "nobody else's connection is cut");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dialling_side_closes_what_it_has_open_to_a_node_that_is_revoked() {
    let site = Site::of(&[entry("a")]).await;
    let caller = Caller::new("a", &site);
    let line = caller.dial(&site).await.unwrap();
    assert_eq!(caller.says_hello(&line).await, Ok(TAKEN));
    assert_eq!(caller.transport.close_unproven(), []);
    assert_eq!(caller.says_hello(&line).await, Ok(TAKEN));
    caller.enrolled.replace(Directory::new(&[retired(site.enrolment())]).unwrap());
    assert_eq!(caller.transport.close_unproven(), [id(NODE)]);
    assert_eq!(caller.says_hello(&line).await, Err(TransportError::ConnectionLost));
}

/// One that asked just as the connection was closed waited for ever, once in some thousand times.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_asks_on_a_connection_that_is_being_closed_is_told_so() {
    let site = Site::of(&[entry("a")]).await;
    let caller = Arc::new(Caller::new("a", &site));
    for round in 0..100 {
        let line = Arc::new(caller.dial(&site).await.unwrap());
        let mut asking = JoinSet::new();
        for _ in 0..6 {
            let (caller, line) = (Arc::clone(&caller), Arc::clone(&line));
            asking.spawn(async move { while caller.says_hello(&line).await == Ok(TAKEN) {} });
        }
        assert_eq!(caller.says_hello(&line).await, Ok(TAKEN));
        caller.enrolled.replace(Directory::new(&[retired(site.enrolment())]).unwrap());
        // One of before may still be on its way out.
        assert!(!caller.transport.close_unproven().is_empty());
        caller.enrolled.replace(Directory::new(&[site.enrolment()]).unwrap());
        let ended = tokio::time::timeout(PATIENCE, asking.join_all()).await;
        assert!(ended.is_ok(), "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_taken_for_none_but_itself() {
    let site = Site::of(&[entry("a")]).await;
    let me = MockPeer::new("a");
    let credentials = Credentials::of_node_key(me.id(), me.key()).unwrap();
    let other = Enrolment::full("other", "https://127.0.0.1:1", NodeKey::from_seed(&[3; 32]).public());
    let caller = Caller::showing("a", credentials, &[site.enrolment(), other]);
    assert!(matches!(caller.dial_as("other", &site).await, Err(TransportError::Untrusted)));
    assert!(caller.dial(&site).await.is_ok());

    let credentials = Credentials::of_node_key(me.id(), me.key()).unwrap();
    let gone = Caller::showing("a", credentials, &[retired(site.enrolment())]);
    assert!(matches!(gone.dial(&site).await, Err(TransportError::Untrusted)), "a retired key of it");
}

/// `supported_versions` is what TLS 1.3 asks with: without it a client asks for TLS 1.2.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_tls_1_2_is_told_that_its_version_is_not_spoken() {
    let site = Site::of(&[entry("a")]).await;
    let mut stream = TcpStream::connect(site.address).await.unwrap();
    stream.write_all(&client_hello_of_tls_1_2()).await.unwrap();
    let mut answer = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
    // An alert, fatal: protocol_version (RFC 8446, section 6).
    assert_eq!((answer[0], &answer[5..7]), (21, &[2, 70][..]), "{answer:?}");
    eventually("it is counted", || site.refused_connections("handshake") == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_http_gets_no_answer_from_a_listener_of_tls() {
    let site = Site::of(&[entry("a")]).await;
    let mut stream = TcpStream::connect(site.address).await.unwrap();
    stream.write_all(b"POST /api/v1/sync/hello HTTP/1.1\r\nhost: n\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
    assert!(!answer.windows(4).any(|four| four == b"HTTP"), "{answer:?}");
    eventually("it is counted", || site.refused_connections("handshake") == 1).await;
}

/// A mock peer speaks plain HTTP where the URL asks for TLS.
#[tokio::test(flavor = "multi_thread")]
async fn a_listener_of_plain_http_is_not_taken_for_a_peer_of_tls() {
    let mut plain = MockPeer::new("plain");
    plain.arrive();
    let site = Site::of(&[entry("a")]).await;
    let caller = Caller::new("a", &site);
    let at_plain = federation_net::config::PeerEndpoint {
        id: id(NODE),
        url: plain.url().replace("http://", "https://").parse().unwrap(),
    };
    let connected = federation_net::transport::Transport::connect(&caller.transport, &at_plain).await;
    assert!(
        matches!(connected, Err(TransportError::Untrusted | TransportError::ConnectionLost)),
        "{:?}",
        connected.err()
    );
    let off_loopback =
        federation_net::config::PeerEndpoint { id: id(NODE), url: "http://192.0.2.1:9078".parse().unwrap() };
    let connected = federation_net::transport::Transport::connect(&caller.transport, &off_loopback).await;
    assert!(matches!(connected, Err(TransportError::PlainOffLoopback)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_that_stalls_is_cut_and_holds_up_nobody() {
    let limits = ListenerLimits {
        handshake_timeout: Duration::from_millis(300),
        handshakes_per_address: 2,
        ..ListenerLimits::default()
    };
    let site = Site::with(&[entry("a")], Given { limits, ..Given::default() }).await;
    let mut stalled = TcpStream::connect(site.address).await.unwrap();
    // The first half of a handshake's first record.
    stalled.write_all(&client_hello_of_tls_1_2()[..20]).await.unwrap();
    let caller = Caller::new("a", &site);
    let line = caller.dial(&site).await.unwrap();
    assert_eq!(caller.says_hello(&line).await, Ok(TAKEN));

    let mut more = TcpStream::connect(site.address).await.unwrap();
    let mut over = TcpStream::connect(site.address).await.unwrap();
    let mut nothing = [0; 1];
    for stream in [&mut over, &mut stalled, &mut more] {
        let read = tokio::time::timeout(PATIENCE, stream.read(&mut nothing)).await.unwrap();
        assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    }
    eventually("all are counted", || site.refused_connections("handshake") == 3).await;
    assert_eq!(caller.says_hello(&line).await, Ok(TAKEN));
}

/// Of a node with two keys, as during a rotation.
#[tokio::test(flavor = "multi_thread")]
async fn connections_by_a_key_that_is_retired_are_closed_and_those_by_another_key_of_the_node_stay() {
    let (first, second) = (MockPeer::new("a"), MockPeer::new("b"));
    let mut both = entry("a");
    both.keys.push(KeyEntry::active(second.key().public()));
    let site = Site::of(std::slice::from_ref(&both)).await;
    let shows = |key| Credentials::of_node_key(first.id(), key).unwrap();
    let old = Caller::showing("a", shows(first.key()), &[site.enrolment()]);
    let new = Caller::showing("a", shows(second.key()), &[site.enrolment()]);
    let (line, other) = (old.dial(&site).await.unwrap(), new.dial(&site).await.unwrap());
    assert_eq!(old.says_hello(&line).await, Ok(TAKEN));

    for state in [KeyState::Retired, KeyState::Revoked] {
        both.keys[0].state = state;
        site.enrolled.replace(Directory::new(std::slice::from_ref(&both)).unwrap());
        let expect = if state == KeyState::Retired { vec![id("a")] } else { Vec::new() };
        assert_eq!(site.server.close_unproven(), expect);
        assert_eq!(old.says_hello(&line).await, Err(TransportError::ConnectionLost));
    }
    let refused = other.send_bytes(b"nonsense".to_vec()).await;
    assert_eq!(refused, Err(TransportError::Refused { status: 400 }), "the other is open and answers");
}

/// The alert that a client gets which shows this certificate, or none.
async fn alert(site: &Site, shown: Option<(CertificateDer<'static>, PrivateKeyDer<'static>)>) -> String {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(TakesAnybody));
    let config = match shown {
        Some((certificate, key)) => config.with_client_auth_cert(vec![certificate], key).unwrap(),
        None => config.with_no_client_auth(),
    };
    let stream = TcpStream::connect(site.address).await.unwrap();
    let name = ServerName::try_from("n").unwrap();
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
    tokio::time::timeout(PATIENCE, stream.read_u8()).await.unwrap().unwrap_err().to_string()
}

#[derive(Debug)]
struct TakesAnybody;

impl ServerCertVerifier for TakesAnybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

/// A `ClientHello` of RFC 5246 with a group and a signature scheme, and no `supported_versions`.
fn client_hello_of_tls_1_2() -> Vec<u8> {
    let extensions = [
        // supported_groups: x25519.
        &[0, 10, 0, 4, 0, 2, 0, 29][..],
        // signature_algorithms: ed25519, ecdsa_secp256r1_sha256.
        &[0, 13, 0, 6, 0, 4, 8, 7, 4, 3][..],
    ]
    .concat();
    let mut hello = vec![3, 3];
    hello.extend([7; 32]);
    // No session; ECDHE-ECDSA-AES128-GCM-SHA256; no compression.
    hello.extend([0, 0, 2, 0xc0, 0x2b, 1, 0]);
    hello.extend(u16::try_from(extensions.len()).unwrap().to_be_bytes());
    hello.extend(extensions);
    let length = u8::try_from(hello.len()).unwrap();
    let handshake = [&[1, 0, 0, length][..], &hello].concat();
    let record = u16::try_from(handshake.len()).unwrap().to_be_bytes();
    [&[22, 3, 1][..], &record, &handshake].concat()
}
