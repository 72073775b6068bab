//! Certificates that are replaced while clients write.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use federation_daemon::enrolment::peers_file;
use federation_daemon::supervisor::{Client, Process};
use federation_wire::identity::{Enrolment, PeersFile};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};

use crate::poll::until;
use crate::reload::{Writers, boots};
use crate::support::{WITHIN, equal_within, expect, field};
use crate::tls::{Ca, Daemon, bundle, client_tls, nodes};

/// Three nodes of a PKI, and who writes to them.
struct Pki {
    dir: tempfile::TempDir,
    nodes: [Daemon; 3],
    processes: Vec<Process>,
    client: Client,
    urls: Vec<String>,
}

impl Pki {
    /// With certificates of `ca`, each bound to its node by SPIFFE name, or by fingerprint alone.
    async fn start(ca: &Ca, binds: Binds) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let nodes = nodes(dir.path(), ["a", "b", "c"]);
        bundle(dir.path(), &[ca]);
        let issued: Vec<_> = nodes.iter().map(|node| ca.issue(dir.path(), node.name)).collect();
        let enrolments: Vec<_> = nodes
            .iter()
            .zip(&issued)
            .map(|(node, certificate)| {
                let enrolment = node.enrolment(dir.path(), "https");
                match binds {
                    Binds::Name => enrolment,
                    Binds::Fingerprint => {
                        Enrolment { tls_fingerprint: Some(fingerprint(certificate)), ..enrolment }
                    }
                }
            })
            .collect();
        let start = |node: &Daemon| {
            let path = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
            let (cert, key) = (path(&format!("{}.crt", node.name)), path(&format!("{}.key", node.name)));
            let ca = path("ca.crt");
            let mut more = vec!["--peer-tls-cert", &cert, "--peer-tls-key", &key, "--peer-tls-ca", &ca];
            if matches!(binds, Binds::Name) {
                more.extend(["--peer-spiffe-domain", "mesh.example"]);
            }
            let others = enrolments.iter().filter(|enrolment| enrolment.id != node.name);
            node.start_with(dir.path(), others.cloned().collect(), &more)
        };
        let processes = nodes.iter().map(start).collect();
        let urls = nodes.iter().map(|node| format!("http://{}", node.listen)).collect();
        let mut pki = Self { dir, nodes, processes, client: Client::default(), urls };
        for (process, url) in pki.processes.iter_mut().zip(&pki.urls) {
            process.ready(&pki.client, url, WITHIN).await.unwrap();
        }
        pki.all_are_connected().await;
        pki
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Reloads a node and gives what it says.
    async fn reload(&self, index: usize) -> Value {
        let url = format!("{}/api/v1/admin/reload", self.urls[index]);
        expect(&self.client.post(&url, &json!({})).await.unwrap(), 200)
    }

    /// Reloads a node by a signal, and waits until it has heard it.
    async fn signal(&self, index: usize) {
        let before = self.logged(index, "INFO", "reloaded");
        self.processes[index].signal(Signal::HUP).unwrap();
        let is_heard = async || (self.logged(index, "INFO", "reloaded") != before).then_some(());
        until(WITHIN, "the signal is heard", is_heard).await;
    }

    /// Waits until every node has every other one, as an operator would before the next step.
    async fn all_are_connected(&self) {
        for (from, to) in [(0, 1), (1, 2), (2, 0)] {
            self.are_connected(from, to).await;
        }
    }

    /// Waits until two nodes have each other.
    async fn are_connected(&self, one: usize, other: usize) {
        for (from, to) in [(one, other), (other, one)] {
            let (url, name) = (format!("{}/api/v1/peers", self.urls[from]), self.nodes[to].name);
            let is_up = |peers: &Value| {
                let of = |peer: &&Value| field(peer, "/id") == name;
                field(peers, "/peers")
                    .as_array()
                    .unwrap()
                    .iter()
                    .find(of)
                    .map(|peer| field(peer, "/state") == "up")
            };
            until(WITHIN, &format!("{} is up at {url}", self.nodes[to].name), async || {
                let peers = expect(&self.client.get(&url).await.unwrap(), 200);
                is_up(&peers).expect("the peer is dialled").then_some(())
            })
            .await;
        }
    }

    /// How many lines of a node's log have both in them.
    fn logged(&self, index: usize, level: &str, part: &str) -> usize {
        let log = fs::read_to_string(self.path().join(format!("{}.log", self.nodes[index].name))).unwrap();
        log.lines().filter(|line| line.contains(level) && line.contains(part)).count()
    }

    /// How often a node has cut connections.
    fn cuts(&self, index: usize) -> usize {
        self.logged(index, "WARN", "connections are cut")
    }
}

/// What makes a certificate its node's.
#[derive(Clone, Copy)]
enum Binds {
    Name,
    Fingerprint,
}

fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    federation_wire::hex::write(ring::digest::digest(&ring::digest::SHA256, certificate).as_ref())
}

/// All that were begun are ended, all were answered 201, and all nodes hold all of them.
async fn all_is_written(pki: &Pki, writers: Writers, before: &[Value]) {
    let (written, refused) = writers.end().await;
    assert_eq!(refused, Vec::<String>::new(), "of {written} writes");
    let state = equal_within(&pki.client, &pki.urls, WITHIN).await;
    assert_eq!(field(&state, "/records"), written);
    assert_eq!(boots(&pki.client, &pki.urls).await, before, "no node was restarted");
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_and_their_authority_are_replaced_while_clients_write_and_no_write_fails() {
    let (old, new) = (Ca::new(), Ca::new());
    let pki = Pki::start(&old, Binds::Name).await;
    let before = boots(&pki.client, &pki.urls).await;
    let writers = Writers::start(&pki.client, &pki.urls);
    writers.go_on_for(300).await;

    // New certificates of the same authority, as before they expire.
    for index in 0..3 {
        old.issue(pki.path(), pki.nodes[index].name);
        let report = pki.reload(index).await;
        assert_eq!(field(&report, "/peer_tls_changed"), &json!(true), "{report}");
        let again = pki.reload(index).await;
        assert_eq!(field(&again, "/peer_tls_changed"), &json!(false), "{again}");
    }
    writers.go_on_for(300).await;
    assert_eq!((0..3).map(|index| pki.cuts(index)).sum::<usize>(), 0, "open connections stay");

    // A new authority: first taken beside the old one, then shown, then alone.
    bundle(pki.path(), &[&old, &new]);
    for index in 0..3 {
        pki.reload(index).await;
    }
    for index in 0..3 {
        new.issue(pki.path(), pki.nodes[index].name);
        pki.reload(index).await;
    }
    writers.go_on_for(300).await;
    bundle(pki.path(), &[&new]);
    for index in 0..3 {
        pki.signal(index).await;
        pki.all_are_connected().await;
    }
    assert!(pki.cuts(0) > 0, "the connections that the old authority had proven");
    writers.go_on_for(300).await;
    all_is_written(&pki, writers, &before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_bound_by_fingerprint_are_replaced_while_clients_write_and_no_write_fails() {
    let ca = Ca::new();
    let pki = Pki::start(&ca, Binds::Fingerprint).await;
    let before = boots(&pki.client, &pki.urls).await;
    let writers = Writers::start(&pki.client, &pki.urls);
    writers.go_on_for(300).await;
    for index in 0..3 {
        let name = pki.nodes[index].name;
        let certificate = ca.issue(pki.path(), name);
        // One peer at a time does without the node; the majority is the other two, then this and the other one.
        let [first, second] = [(index + 1) % 3, (index + 2) % 3];
        let enrol = |at: usize| {
            let path = pki.path().join(format!("{}.peers", pki.nodes[at].name));
            let PeersFile { mut peers } = peers_file::load(&path).unwrap();
            let entry = peers.iter_mut().find(|entry| entry.id == name).unwrap();
            entry.tls_fingerprint = Some(fingerprint(&certificate));
            peers_file::save(&path, &PeersFile { peers }).unwrap();
        };
        enrol(first);
        pki.reload(first).await;
        pki.reload(index).await;
        pki.are_connected(index, first).await;
        enrol(second);
        pki.reload(second).await;
        pki.are_connected(index, second).await;
        writers.go_on_for(200).await;
    }
    all_is_written(&pki, writers, &before).await;
}

/// A connection within TLS, and the certificate that the node has shown on it.
async fn connect(tls: &TlsConnector, at: SocketAddr) -> (TlsStream<TcpStream>, Vec<u8>) {
    let stream = TcpStream::connect(at).await.unwrap();
    let stream = tls.connect(ServerName::try_from("127.0.0.1").unwrap(), stream).await.unwrap();
    let shown = stream.get_ref().1.peer_certificates().unwrap()[0].to_vec();
    (stream, shown)
}

/// One request on an open connection, and the head of its answer.
async fn ask(
    stream: &mut TlsStream<TcpStream>,
    method: &str,
    path: &str,
    body: &str,
) -> Result<String, String> {
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: n\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
    let mut answer = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&answer).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap_or("0");
            if body.len() >= length.parse().unwrap() {
                return Ok(text);
            }
        }
        let read = stream.read_buf(&mut answer).await.map_err(|error| error.to_string())?;
        if read == 0 {
            return Err(format!("the connection has ended after {text:?}"));
        }
    }
}

/// Half of the clients stay on one connection, the others make one for each write.
#[tokio::test(flavor = "multi_thread")]
async fn what_clients_are_shown_is_replaced_while_they_write_and_open_connections_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (Ca::new(), Ca::new());
    let [node] = nodes(dir.path(), ["a"]);
    let before = old.issue(dir.path(), "a");
    let path = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    let (cert, key) = (path("a.crt"), path("a.key"));
    let process = node.start_with(dir.path(), Vec::new(), &["--tls-cert", &cert, "--tls-key", &key]);
    until(WITHIN, "it listens", async || TcpStream::connect(node.listen).await.ok()).await;
    let (tls, at) = (client_tls(&[&old, &new]), node.listen);
    let (mut open, shown) = connect(&tls, at).await;
    assert_eq!(shown, before.as_ref());
    until(WITHIN, "it is ready", async || {
        let answer = ask(&mut open, "GET", "/readyz", "").await.unwrap();
        answer.starts_with("HTTP/1.1 200").then_some(())
    })
    .await;

    let kept: Arc<Vec<Mutex<Option<TlsStream<TcpStream>>>>> =
        Arc::new((0..64).map(|_| Mutex::new(None)).collect());
    let writers = {
        let tls = tls.clone();
        Writers::by(move |writer, memory| {
            let (tls, kept) = (tls.clone(), Arc::clone(&kept));
            async move {
                let mut place = kept[writer].lock().await;
                let mut stream = match place.take() {
                    Some(stream) => stream,
                    None => connect(&tls, at).await.0,
                };
                let answer = ask(&mut stream, "POST", "/api/v1/memories", &memory.to_string()).await?;
                if writer % 2 == 0 {
                    *place = Some(stream);
                }
                if answer.starts_with("HTTP/1.1 201") { Ok(()) } else { Err(answer) }
            }
        })
    };
    writers.go_on_for(300).await;
    let after = new.issue(dir.path(), "a");
    let report = ask(&mut open, "POST", "/api/v1/admin/reload", "").await.unwrap();
    assert!(report.contains("\"client_tls_changed\":true"), "{report}");
    let (_, shown) = connect(&tls, at).await;
    assert_eq!(shown, after.as_ref(), "the next handshake shows the new one");
    writers.go_on_for(300).await;

    // Half a change, by a signal: nothing is taken in.
    fs::write(&key, "nonsense").unwrap();
    process.signal(Signal::HUP).unwrap();
    let refused = ask(&mut open, "POST", "/api/v1/admin/reload", "").await.unwrap();
    assert!(refused.starts_with("HTTP/1.1 422") && refused.contains("tls_key"), "{refused}");
    assert_eq!(connect(&tls, at).await.1, after.as_ref());
    writers.go_on_for(300).await;
    let (written, refused) = writers.end().await;
    assert_eq!(refused, Vec::<String>::new(), "of {written} writes");
    let found = ask(&mut open, "GET", "/api/v1/memories/w0-0", "").await.unwrap();
    assert!(found.starts_with("HTTP/1.1 200"), "the connection of before goes on: {found}");
}
