//! Who is let in, by a certificate of an operator's PKI.

use std::time::{Duration, Instant};

use federation_net::tls::pem::{CertificateDer, PrivateKeyDer};
use federation_net::tls::{Credentials, PkiFault, PkiFile, PkiMaterial};
use federation_net::transport::{ChannelIdentity, TransportError};
use federation_tests::mock_peer::MockPeer;
use federation_wire::frame;
use federation_wire::identity::{Directory, Enrolment};
use federation_wire::slug::Slug;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType, date_time_ymd};

use crate::site::{Caller, Given, NODE, Site, TAKEN, entry, eventually, id};

const DOMAIN: &str = "mesh.example";

/// A certificate authority.
struct Ca(CertifiedIssuer<'static, KeyPair>);

/// A certificate with its key.
struct Issued {
    certificate: CertificateDer<'static>,
    key: KeyPair,
}

impl Ca {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// A certificate with these URIs, until the end of that year.
    fn issue(&self, uris: &[&str], until_year: i32) -> Issued {
        let mut params = CertificateParams::default();
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(until_year, 12, 31);
        params.subject_alt_names = uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())).collect();
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Issued { certificate: certificate.der().clone(), key }
    }

    fn of_node(&self, name: &str) -> Issued {
        self.issue(&[&format!("spiffe://{DOMAIN}/{name}")], 2200)
    }

    /// What shows `issued`, and takes what leads to this authority.
    fn credentials(&self, issued: &Issued) -> Credentials {
        credentials(issued, &[self])
    }
}

/// What shows `issued`, and takes what leads to one of these authorities.
fn credentials(issued: &Issued, authorities: &[&Ca]) -> Credentials {
    let material = PkiMaterial {
        chain: vec![issued.certificate.clone()],
        key: PrivateKeyDer::try_from(issued.key.serialize_der()).unwrap(),
        roots: authorities.iter().map(|ca| ca.0.der().clone()).collect(),
        spiffe_domain: Some(DOMAIN.to_owned()),
    };
    Credentials::of_pki(material).unwrap()
}

/// A node with a certificate by SPIFFE name, and what its callers must know.
async fn site(ca: &Ca, enrolments: &[Enrolment]) -> Site {
    let credentials = Some(ca.credentials(&ca.of_node(NODE)));
    Site::with(enrolments, Given { credentials, ..Given::default() }).await
}

fn pinned(name: &str, issued: &Issued) -> Enrolment {
    let digest = ring::digest::digest(&ring::digest::SHA256, &issued.certificate);
    let digits: Vec<_> = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    Enrolment { tls_fingerprint: Some(digits.concat()), ..entry(name) }
}

/// What comes of the caller `a` when it shows this.
async fn called(site: &Site, credentials: Credentials) -> Result<Slug, TransportError> {
    let caller = Caller::showing("a", credentials, &[site.enrolment()]);
    let line = caller.dial(site).await?;
    caller.says_hello(&line).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_a_nodes_by_its_spiffe_name_and_frames_are_signed() {
    let ca = Ca::new();
    let site = site(&ca, &[entry("a")]).await;
    let caller = Caller::showing("a", ca.credentials(&ca.of_node("a")), &[site.enrolment()]);
    let line = caller.dial(&site).await.unwrap();
    assert_eq!(line.connection.channel(), ChannelIdentity::Certificate { node: id(NODE) });
    assert_eq!(caller.says_hello(&line).await, Ok(TAKEN));

    // The certificate proves the node and not its node key.
    let (envelope, body) = caller.hello(&line);
    let bare = frame::seal_for_channel(caller.me.key().id(), envelope, &body);
    assert_eq!(line.send_bytes(bare).await, Err(TransportError::Refused { status: 401 }));
    assert_eq!(site.refused_frames(Slug::SignatureMissing), 1);

    let other = MockPeer::new("b");
    let envelope = other.envelope(frame::Route::Hello, &id(NODE), line.boot);
    let frame = frame::seal(other.key(), envelope, &other.hello().to_bytes());
    assert_eq!(line.send_bytes(frame).await, Err(TransportError::Refused { status: 403 }));
    assert_eq!(site.alarms("identity_mismatch"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_a_nodes_by_its_fingerprint() {
    let ca = Ca::new();
    let issued = ca.issue(&[], 2200);
    let site = site(&ca, &[pinned("a", &issued)]).await;
    assert_eq!(called(&site, ca.credentials(&issued)).await, Ok(TAKEN));
    let another = ca.issue(&[], 2200);
    assert_eq!(called(&site, ca.credentials(&another)).await, Err(TransportError::ConnectionLost));
    // A name does not help where a fingerprint is asked for.
    let named = ca.of_node("a");
    assert_eq!(called(&site, ca.credentials(&named)).await, Err(TransportError::ConnectionLost));
}

#[tokio::test(flavor = "multi_thread")]
async fn other_certificates_are_refused() {
    let (ca, foreign) = (Ca::new(), Ca::new());
    let site = site(&ca, &[entry("a")]).await;
    let uri = |text: &str| ca.issue(&[text], 2200);
    let two = ca.issue(&["spiffe://mesh.example/a", "spiffe://mesh.example/b"], 2200);
    let refused = [
        ("another name", uri("spiffe://mesh.example/z")),
        ("another domain", uri("spiffe://mesh.example.org/a")),
        ("a domain within", uri("spiffe://x.mesh.example/a")),
        ("another scheme", uri("https://mesh.example/a")),
        ("a path below", uri("spiffe://mesh.example/a/b")),
        ("two names", two),
        ("no name", ca.issue(&[], 2200)),
        ("expired", ca.issue(&["spiffe://mesh.example/a"], 2021)),
        ("a foreign authority", foreign.of_node("a")),
    ];
    for (number, (what, issued)) in refused.iter().enumerate() {
        let answer = called(&site, ca.credentials(issued)).await;
        assert_eq!(answer, Err(TransportError::ConnectionLost), "{what}");
        let counted = || site.refused_connections("handshake") == number as u64 + 1;
        eventually(&format!("{what} is counted"), counted).await;
    }
    let me = MockPeer::new("a");
    let own = Credentials::of_node_key(me.id(), me.key()).unwrap();
    assert_eq!(called(&site, own).await, Err(TransportError::Untrusted), "a node key takes node keys");
    assert_eq!(called(&site, ca.credentials(&ca.of_node("a"))).await, Ok(TAKEN));
}

/// The other way round: what the node shows must be the dialled node's, too.
#[tokio::test(flavor = "multi_thread")]
async fn the_dialling_side_asks_the_same_of_the_node() {
    let ca = Ca::new();
    let site = site(&ca, &[entry("a")]).await;
    let me = || ca.credentials(&ca.of_node("a"));
    let pinned_to_another =
        Enrolment { tls_fingerprint: pinned("a", &ca.of_node("z")).tls_fingerprint, ..site.enrolment() };
    let caller = Caller::showing("a", me(), &[pinned_to_another]);
    assert!(matches!(caller.dial(&site).await, Err(TransportError::Untrusted)));
    let caller = Caller::showing("a", me(), &[site.enrolment(), entry("other")]);
    assert!(matches!(caller.dial_as("other", &site).await, Err(TransportError::Untrusted)));
    let foreign = Ca::new();
    let caller = Caller::showing("a", foreign.credentials(&foreign.of_node("a")), &[site.enrolment()]);
    assert!(matches!(caller.dial(&site).await, Err(TransportError::Untrusted)));

    // New credentials count from the next handshake on.
    site.tls.replace(foreign.credentials(&foreign.of_node(NODE))).unwrap();
    assert!(caller.dial(&site).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_by_an_authority_that_is_not_taken_any_more_are_closed_and_no_others() {
    let (old, new) = (Ca::new(), Ca::new());
    let site = site(&old, &[entry("a"), entry("b")]).await;
    site.tls.replace(credentials(&old.of_node(NODE), &[&old, &new])).unwrap();
    let caller = |name: &str, ca: &Ca| {
        Caller::showing(name, credentials(&ca.of_node(name), &[&old, &new]), &[site.enrolment()])
    };
    let (stale, fresh) = (caller("a", &old), caller("b", &new));
    let (line, other) = (stale.dial(&site).await.unwrap(), fresh.dial(&site).await.unwrap());
    assert_eq!((stale.says_hello(&line).await, fresh.says_hello(&other).await), (Ok(TAKEN), Ok(TAKEN)));
    assert_eq!(site.server.close_unproven(), [], "both authorities are taken");

    site.tls.replace(credentials(&new.of_node(NODE), &[&new])).unwrap();
    let begun = Instant::now();
    assert_eq!(site.server.close_unproven(), [id("a")]);
    assert_eq!(stale.says_hello(&line).await, Err(TransportError::ConnectionLost));
    assert!(begun.elapsed() < Duration::from_secs(1));
    assert_eq!(fresh.says_hello(&other).await, Ok(TAKEN));

    // The dialling side: the node had shown a certificate of the old authority.
    assert_eq!(fresh.transport.close_unproven(), []);
    fresh.tls.replace(credentials(&new.of_node("b"), &[&new])).unwrap();
    assert_eq!(fresh.transport.close_unproven(), [id(NODE)]);
    assert_eq!(fresh.says_hello(&other).await, Err(TransportError::ConnectionLost));
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_by_another_certificate_than_the_one_enrolled_are_closed() {
    let ca = Ca::new();
    let (before, after) = (ca.issue(&[], 2200), ca.issue(&[], 2200));
    let site = site(&ca, &[pinned("a", &before)]).await;
    let caller = Caller::showing("a", ca.credentials(&before), &[site.enrolment()]);
    let line = caller.dial(&site).await.unwrap();
    assert_eq!(caller.says_hello(&line).await, Ok(TAKEN));
    assert_eq!(site.server.close_unproven(), []);
    site.enrolled.replace(Directory::new(&[pinned("a", &after)]).unwrap());
    assert_eq!(site.server.close_unproven(), [id("a")]);
    assert_eq!(caller.says_hello(&line).await, Err(TransportError::ConnectionLost));
}

#[test]
fn a_key_that_is_another_certificates_is_found_before_anything_listens() {
    let ca = Ca::new();
    let (one, two) = (ca.of_node("a"), ca.of_node("a"));
    let material = |key: &KeyPair, roots| PkiMaterial {
        chain: vec![one.certificate.clone()],
        key: PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        roots,
        spiffe_domain: None,
    };
    let fault = |material| Credentials::of_pki(material).err();
    let roots = || vec![ca.0.der().clone()];
    assert_eq!(fault(material(&two.key, roots())), Some((PkiFile::Key, PkiFault::KeyOfAnother)));
    assert_eq!(fault(material(&one.key, Vec::new())), Some((PkiFile::Roots, PkiFault::NoCertificate)));
    assert_eq!(fault(material(&one.key, roots())), None);
}
