//! Certificates from files: what each listener shows, and what is wrong with a file.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use federation_daemon::enrolment::{key_file, peers_file};
use federation_daemon::files::Existing;
use federation_daemon::supervisor::port::free_addresses;
use federation_daemon::supervisor::{LogSink, Process, ProcessSpec};
use federation_wire::identity::{Enrolment, PeersFile};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto, version};

use crate::poll::until;
use crate::start_faults::{Site, peer};
use crate::support::{WITHIN, program};

/// An authority, and its certificate in a file.
pub(crate) struct Ca(CertifiedIssuer<'static, KeyPair>);

impl Ca {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Writes `ca.crt`, and `<name>.crt` and `<name>.key` for 127.0.0.1 and as the node of that name.
    fn write(&self, dir: &Path, name: &str) {
        bundle(dir, &[self]);
        self.issue(dir, name);
    }

    /// Writes `<name>.crt` and `<name>.key`, for 127.0.0.1 and as the node of that name. Gives the certificate.
    pub(crate) fn issue(&self, dir: &Path, name: &str) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let uri = format!("spiffe://mesh.example/{name}");
        params.subject_alt_names.push(SanType::URI(uri.as_str().try_into().unwrap()));
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        fs::write(dir.join(format!("{name}.crt")), certificate.pem()).unwrap();
        let path = dir.join(format!("{name}.key"));
        fs::write(&path, key.serialize_pem()).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
        certificate.der().clone()
    }
}

/// Writes the certificates of authorities to `ca.crt`.
pub(crate) fn bundle(dir: &Path, authorities: &[&Ca]) {
    let text: String = authorities.iter().map(|ca| ca.0.pem()).collect();
    fs::write(dir.join("ca.crt"), text).unwrap();
}

/// TLS of a client that takes what leads to one of these authorities.
pub(crate) fn client_tls(authorities: &[&Ca]) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    for ca in authorities {
        roots.add(ca.0.der().clone()).unwrap();
    }
    let config = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_protocol_versions(&[&version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

/// A node with files in one directory, and where it listens.
pub(crate) struct Daemon {
    pub(crate) name: &'static str,
    pub(crate) listen: SocketAddr,
    peer_listen: SocketAddr,
}

impl Daemon {
    /// Its entry at the others.
    pub(crate) fn enrolment(&self, dir: &Path, scheme: &str) -> Enrolment {
        let keys = key_file::read(&dir.join(format!("{}.node", self.name))).unwrap();
        Enrolment::full(self.name, &format!("{scheme}://{}", self.peer_listen), keys.active().public())
    }

    fn start(&self, dir: &Path, other: &Self, scheme: &str, more: &[&str]) -> Process {
        self.start_with(dir, vec![other.enrolment(dir, scheme)], more)
    }

    pub(crate) fn start_with(&self, dir: &Path, peers: Vec<Enrolment>, more: &[&str]) -> Process {
        Process::start(self.spec(dir, peers, more)).unwrap()
    }

    pub(crate) fn spec(&self, dir: &Path, peers: Vec<Enrolment>, more: &[&str]) -> ProcessSpec {
        let path = |suffix: &str| dir.join(format!("{}{suffix}", self.name)).to_string_lossy().into_owned();
        peers_file::save(Path::new(&path(".peers")), &PeersFile { peers }).unwrap();
        let (listen, peer_listen) = (self.listen.to_string(), self.peer_listen.to_string());
        let (key, peers, data) = (path(".node"), path(".peers"), path(".data"));
        let args =
            ["serve", "--new-mesh", "--node-id", self.name, "--key-file", &key, "--peers-file", &peers];
        let listens = ["--data-dir", &data, "--listen", &listen, "--peer-listen", &peer_listen];
        let args = args.iter().chain(&listens).chain(more).map(std::ffi::OsString::from).collect();
        let (name, sink) = (self.name.to_owned(), LogSink::File(dir.join(format!("{}.log", self.name))));
        ProcessSpec { name, program: program(), args, env: Vec::new(), sink }
    }
}

/// Nodes of these names, with keys and places of their own.
pub(crate) fn nodes<const N: usize>(dir: &Path, names: [&'static str; N]) -> [Daemon; N] {
    let mut addresses = free_addresses(2 * N).unwrap().into_iter();
    names.map(|name| {
        key_file::create(&dir.join(format!("{name}.node")), Existing::Keep).unwrap();
        Daemon { name, listen: addresses.next().unwrap(), peer_listen: addresses.next().unwrap() }
    })
}

/// Posts a memory within TLS, until the node answers at all.
async fn post(at: SocketAddr, ca: &Ca, id: &str) -> String {
    let connector = client_tls(&[ca]);
    let body = format!(r#"{{"id":"{id}","namespace":"n","title":"t","content":"c"}}"#);
    let request = format!(
        "POST /api/v1/memories HTTP/1.1\r\nhost: n\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    until(WITHIN, &format!("an answer at {at}"), async || {
        let stream = TcpStream::connect(at).await.ok()?;
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let mut stream = connector.connect(name, stream).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        Some(answer).filter(|answer| !answer.starts_with("HTTP/1.1 503"))
    })
    .await
}

#[tokio::test]
async fn nodes_with_certificates_of_an_authority_hold_what_a_client_writes_by_https() {
    let dir = tempfile::tempdir().unwrap();
    let (ca, [a, b]) = (Ca::new(), nodes(dir.path(), ["a", "b"]));
    ca.write(dir.path(), "a");
    ca.write(dir.path(), "b");
    let path = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    let start = |node: &Daemon, other: &Daemon| {
        let (cert, key) = (path(&format!("{}.crt", node.name)), path(&format!("{}.key", node.name)));
        let ca = path("ca.crt");
        let of_clients = ["--tls-cert", &cert, "--tls-key", &key, "--quorum-writes", "2"];
        let of_peers = ["--peer-tls-cert", &cert, "--peer-tls-key", &key, "--peer-tls-ca", &ca];
        let domain = ["--peer-spiffe-domain", "mesh.example"];
        let more = [&of_clients[..], &of_peers, &domain].concat();
        node.start(dir.path(), other, "https", &more)
    };
    let _processes = [start(&a, &b), start(&b, &a)];
    let answer = post(a.listen, &ca, "one").await;
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    let answer = post(b.listen, &ca, "one").await;
    assert!(answer.starts_with("HTTP/1.1 409"), "it is there: {answer}");

    let mut plain = TcpStream::connect(a.listen).await.unwrap();
    plain.write_all(b"GET /healthz HTTP/1.1\r\nhost: n\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    // It may be reset before all of the alert is read.
    let _ = plain.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
}

#[tokio::test]
async fn nodes_on_loopback_may_do_without_tls() {
    let dir = tempfile::tempdir().unwrap();
    let (ca, [a, b]) = (Ca::new(), nodes(dir.path(), ["a", "b"]));
    ca.write(dir.path(), "a");
    let path = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    let (cert, key) = (path("a.crt"), path("a.key"));
    let off = ["--peer-tls", "off", "--quorum-writes", "2"];
    let with_https = [&off[..], &["--tls-cert", &cert, "--tls-key", &key]].concat();
    let _processes = [a.start(dir.path(), &b, "http", &with_https), b.start(dir.path(), &a, "http", &off)];
    let answer = post(a.listen, &ca, "one").await;
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
}

#[test]
fn plain_http_stays_on_loopback() {
    Site::new()
        .with("--listen", "0.0.0.0:0")
        .fails_with(&["listen: 0.0.0.0:0 is not on loopback", "tls_cert"]);
    Site::new()
        .with("--peer-listen", "0.0.0.0:0")
        .with("--peer-tls", "off")
        .fails_with(&["peer_listen: 0.0.0.0:0 is not on loopback", "leave peer_tls on"]);
    Site::new().with("--peer-tls", "maybe").fails_with(&["peer_tls: \"maybe\" is not one of on, off"]);
    let site = Site::new();
    site.enrol(&[peer("b", "http://192.0.2.1:9078", 2)]);
    site.fails_with(&["peer b: http://192.0.2.1:9078 is plain HTTP off loopback", "https://"]);
}

#[test]
fn what_is_wrong_with_a_certificate_or_a_key_is_told_with_its_file_and_no_more() {
    let site = Site::new();
    let ca = Ca::new();
    ca.write(site.dir(), "a");
    ca.write(site.dir(), "b");
    let site = site.with("--tls-cert", "a.crt");
    site.fails_with(&["tls_key: is not given", "tls_cert and tls_key"]);
    let site = site.with("--tls-key", "b.key");
    site.fails_with(&["tls_key b.key: is not the key of the certificate"]);
    let site = site.with("--tls-key", "missing.key").with("--tls-cert", "a.key");
    site.fails_with(&["tls_key missing.key: is missing", "tls_cert a.key: holds no certificate"]);

    fs::set_permissions(site.path("a.key"), fs::Permissions::from_mode(0o640)).unwrap();
    let site = site.with("--tls-key", "a.key").with("--tls-cert", "a.crt");
    site.fails_with(&["tls_key a.key: its mode is 0640", "chmod 600"]);
    fs::set_permissions(site.path("a.key"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(site.path("a.key"), "-----BEGIN PRIVATE KEY-----\nc2VjcmV0*c2VjcmV0\n").unwrap();
    let said = site.fails_with(&["tls_key a.key: is not PEM"]);
    assert!(!said.contains("c2VjcmV0"), "{said}");
    fs::write(site.path("a.key"), "").unwrap();
    site.fails_with(&["tls_key a.key: is PEM without a private key"]);
}

#[test]
fn a_pki_is_given_whole_and_binds_each_peer() {
    let site = Site::new();
    let ca = Ca::new();
    ca.write(site.dir(), "a");
    let site = site.with("--peer-tls-cert", "a.crt");
    site.fails_with(&["peer_tls_key: is not given"]);
    let site = site.with("--peer-tls-key", "a.key");
    site.fails_with(&["peer_tls_ca: is not given"]);
    let site = site.with("--peer-tls-ca", "ca.crt");
    site.fails_with(&["peer b: nothing says which certificate is its own", "tls_fingerprint"]);
    site.with("--peer-spiffe-domain", "Mesh/x").fails_with(&["\"Mesh/x\" is not a trust domain"]);
    Site::new().with("--peer-spiffe-domain", "x").fails_with(&["peer_tls_ca: is not given"]);
    Site::new().with("--peer-tls-ca", "ca.crt").fails_with(&["peer_tls_cert: is not given"]);
}
