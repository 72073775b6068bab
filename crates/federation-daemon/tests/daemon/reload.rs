//! Settings that change while nodes run and clients write.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use federation_daemon::enrolment::peers_file;
use federation_daemon::supervisor::{Client, Mesh};
use hyper::Method;
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::poll::until;
use crate::secured::Secured;
use crate::support::{
    WITHIN, equal_within, expect, federationd_in, field, logged, mesh, stderr, stdout, url,
};

/// Clients that write at once.
const WRITERS: usize = 64;

/// Clients that write new memories, one after the other, until they are told to end.
pub(crate) struct Writers {
    tasks: JoinSet<Vec<String>>,
    ends: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
}

impl Writers {
    pub(crate) fn start(client: &Client, urls: &[String]) -> Self {
        let urls: Vec<_> = urls.iter().map(|url| format!("{url}/api/v1/memories")).collect();
        let client = client.clone();
        Self::by(move |writer, memory| {
            let (client, url) = (client.clone(), urls[writer % urls.len()].clone());
            async move {
                match client.post(&url, &memory).await {
                    Ok(answer) if answer.status == 201 => Ok(()),
                    Ok(answer) => Err(answer.text()),
                    Err(error) => Err(error.to_string()),
                }
            }
        })
    }

    /// Those that write by `post`, which is told who writes what, and says why not.
    pub(crate) fn by<F>(post: impl Fn(usize, Value) -> F + Clone + Send + 'static) -> Self
    where
        F: Future<Output = Result<(), String>> + Send,
    {
        let (ends, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut tasks = JoinSet::new();
        for writer in 0..WRITERS {
            let (ends, written, post) = (Arc::clone(&ends), Arc::clone(&written), post.clone());
            tasks.spawn(async move {
                let mut refused = Vec::new();
                for count in 0_u64.. {
                    if ends.load(Ordering::Relaxed) {
                        break;
                    }
                    let id = format!("w{writer}-{count}");
                    let memory = json!({ "id": id, "namespace": "team", "title": "t", "content": "c" });
                    match post(writer, memory).await {
                        Ok(()) => {
                            written.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(why) => refused.push(why),
                    }
                }
                refused
            });
        }
        Self { tasks, ends, written }
    }

    /// Waits until so many more writes were answered, so that what changed meanwhile was in use.
    pub(crate) async fn go_on_for(&self, writes: u64) {
        let from = self.written.load(Ordering::Relaxed);
        let are_answered = async || (self.written.load(Ordering::Relaxed) >= from + writes).then_some(());
        until(WITHIN, "the writers go on", are_answered).await;
    }

    /// Ends them. Gives how many writes were answered 201, and what the others were told.
    pub(crate) async fn end(self) -> (u64, Vec<String>) {
        self.ends.store(true, Ordering::Relaxed);
        let refused = self.tasks.join_all().await.into_iter().flatten().collect();
        (self.written.load(Ordering::Relaxed), refused)
    }
}

/// Runs a command of an operator in a node's directory.
pub(crate) fn run(dir: &Path, args: &[&str]) -> String {
    let output = federationd_in(dir, args);
    assert!(output.status.success(), "{args:?}: {}", stderr(&output));
    stdout(&output)
}

pub(crate) async fn reload(client: &Client, mesh: &Mesh, index: usize) -> Value {
    let answer = client.post(&format!("{}/api/v1/admin/reload", url(mesh, index)), &json!({})).await;
    expect(&answer.expect("an answer"), 200)
}

/// The line behind a command's output that an operator pastes elsewhere, as arguments.
pub(crate) fn pasted(output: &str, command: &str) -> Vec<String> {
    let line = output.lines().find(|line| line.contains(command)).expect("a line to paste");
    line.split_whitespace().skip(1).map(str::to_owned).collect()
}

async fn rotate_key_of(client: &Client, mesh: &Mesh, index: usize, nodes: usize, writers: &Writers) {
    let node = mesh.node(index).unwrap();
    let others = || (0..nodes).filter(move |other| *other != index);
    let paste = |line: &[String], other: usize| {
        run(mesh.node(other).unwrap().dir(), &line.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let line =
        pasted(&run(node.dir(), &["keygen", "--rotate", "--node-id", node.id().as_str()]), "peer rotate");
    for other in others() {
        paste(&line, other);
        assert_eq!(field(&reload(client, mesh, other).await, "/changed/0"), node.id().as_str());
    }
    let told = run(node.dir(), &["keygen", "--activate", "--node-id", node.id().as_str()]);
    assert!(field(&reload(client, mesh, index).await, "/own_key").is_string());
    writers.go_on_for(500).await;
    let line = pasted(&told, "peer rotate");
    for other in others() {
        paste(&line, other);
        reload(client, mesh, other).await;
    }
    writers.go_on_for(500).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_keys_and_the_peers_are_replaced_while_clients_write_and_no_write_fails() {
    let dir = tempfile::tempdir().unwrap();
    let mut mesh = mesh(dir.path(), 3, &[]).await;
    let client = mesh.client().clone();
    let urls: Vec<_> = (0..3).map(|index| url(&mesh, index)).collect();
    let boots = boots(&client, &urls).await;
    let writers = Writers::start(&client, &urls[..2]);
    writers.go_on_for(500).await;
    for index in 0..3 {
        rotate_key_of(&client, &mesh, index, 3, &writers).await;
    }
    // The third leaves and comes back as another entry would: n goes to 2 and to 3 again, W with it.
    for index in 0..2 {
        run(mesh.node(index).unwrap().dir(), &["peer", "remove", "node-3"]);
        let report = reload(&client, &mesh, index).await;
        assert_eq!((field(&report, "/n"), field(&report, "/left/0")), (&json!(2), &json!("node-3")));
    }
    writers.go_on_for(500).await;
    let line = run(
        mesh.node(2).unwrap().dir(),
        &["id", "--node-id", "node-3", "--url", &format!("https://{}", mesh.node(2).unwrap().peer_address())],
    );
    let mut line: Vec<String> = pasted(&line, "peer add");
    line.push("--replace".into());
    for index in 0..2 {
        run(mesh.node(index).unwrap().dir(), &line.iter().map(String::as_str).collect::<Vec<_>>());
        let report = reload(&client, &mesh, index).await;
        assert_eq!((field(&report, "/n"), field(&report, "/joined/0")), (&json!(3), &json!("node-3")));
    }
    writers.go_on_for(500).await;
    let (written, refused) = writers.end().await;
    assert_eq!(refused, Vec::<String>::new(), "of {written} writes");
    assert!(written > 4_000, "{written}");
    let state = equal_within(&client, &urls, WITHIN).await;
    assert_eq!(field(&state, "/records"), written);
    assert_eq!(self::boots(&client, &urls).await, boots, "no node was restarted");

    // What the keys of before sealed is proven to a node that has nothing.
    mesh.kill(2).await.unwrap();
    fs::remove_dir_all(mesh.node(2).unwrap().data_dir()).unwrap();
    mesh.start(2).unwrap();
    mesh.ready(2, WITHIN).await.unwrap();
    assert_eq!(equal_within(&client, &urls, WITHIN).await, state);
    mesh.stop_all(WITHIN).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_line_revokes_an_old_key_at_the_others_and_at_its_own_node() {
    let dir = tempfile::tempdir().unwrap();
    let mut mesh = mesh(dir.path(), 2, &[]).await;
    let client = mesh.client().clone();
    let dirs = [0, 1].map(|index| mesh.node(index).unwrap().dir().to_owned());
    let paste = |output: &str, command: &str, at: usize| {
        let line = pasted(output, command);
        run(&dirs[at], &line.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let told = run(&dirs[0], &["keygen", "--rotate", "--node-id", "node-1"]);
    paste(&told, "peer rotate", 1);
    reload(&client, &mesh, 1).await;
    let told = run(&dirs[0], &["keygen", "--activate", "--node-id", "node-1"]);
    reload(&client, &mesh, 0).await;
    let old = pasted(&told, "peer rotate").pop().unwrap();
    let series = "00000000000000aa:7";
    let told = run(&dirs[1], &["peer", "revoke", "node-1", "--key", &old, "--accept", series]);
    assert_eq!(field(&reload(&client, &mesh, 1).await, "/changed/0"), "node-1");
    paste(&told, "peer revoke", 0);
    let report = reload(&client, &mesh, 0).await;
    assert_eq!((field(&report, "/own_revoked"), field(&report, "/changed")), (&json!([old]), &json!([])));
    let again = reload(&client, &mesh, 0).await;
    assert!(again.get("own_revoked").is_none(), "{again}");
    let file = fs::read_to_string(dirs[0].join("federation.key")).unwrap();
    assert!(file.lines().any(|line| line.starts_with("revoked ") && line.ends_with(series)));

    // The key that it signs with is rotated first; a key that is nobody's is not taken for one of its own.
    let key = federation_daemon::enrolment::key_file::read(&dirs[0].join("federation.key")).unwrap();
    for (key, why) in [(key.active().id().to_string(), "rotate it first"), ("00".repeat(8), "not enrolled")] {
        let output =
            federationd_in(&dirs[0], &["peer", "revoke", "node-1", "--key", &key, "--accept-nothing"]);
        assert!(!output.status.success() && stderr(&output).contains(why), "{}", stderr(&output));
    }
    mesh.stop_all(WITHIN).await.unwrap();
}

pub(crate) async fn boots(client: &Client, urls: &[String]) -> Vec<Value> {
    let mut boots = Vec::new();
    for url in urls {
        let status = expect(&client.get(&format!("{url}/api/v1/status")).await.unwrap(), 200);
        boots.push(field(&status, "/boot").clone());
    }
    boots
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_node_is_cut_off_within_a_second_of_the_signal_and_the_others_do_not_notice() {
    let dir = tempfile::tempdir().unwrap();
    let mut mesh = mesh(dir.path(), 3, &[]).await;
    let client = mesh.client().clone();
    let urls: Vec<_> = (0..3).map(|index| url(&mesh, index)).collect();
    let memory = |id: &str| json!({ "id": id, "namespace": "team", "title": "t", "content": "c" });
    let post = async |index: usize, id: &str| {
        client.post(&format!("{}/api/v1/memories", urls[index]), &memory(id)).await.unwrap()
    };
    let by_three = expect(&post(2, "by-three").await, 201);
    equal_within(&client, &urls, WITHIN).await;
    let dot = field(&by_three, "/dot").as_str().unwrap().to_owned();
    let has = expect(&client.get(&format!("{}/api/v1/origins/node-3", urls[0])).await.unwrap(), 200);
    let (epoch, seq) = (field(&has, "/series/0/epoch").as_str().unwrap(), field(&has, "/series/0/last_seq"));
    assert_eq!(dot, format!("node-3/{epoch}/{seq}"));

    let connections = |mesh: &Mesh| established(mesh, 0, 2) + established(mesh, 2, 0);
    assert!(connections(&mesh) >= 2, "one each way");
    let output = run(
        mesh.node(0).unwrap().dir(),
        &["peer", "revoke", "node-3", "--accept", &format!("{epoch}:{seq}")],
    );
    let begun = Instant::now();
    mesh.node(0).unwrap().process().unwrap().signal(Signal::HUP).unwrap();
    while connections(&mesh) > 0 {
        assert!(begun.elapsed() < Duration::from_secs(1), "still connected");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let took = begun.elapsed();
    println!("from SIGHUP to the last socket closed: {took:?}");
    logged(&mesh, 0, &["connections are cut", "node-3"]).await;

    // The same line at the second node; then what the third writes reaches nobody, and the two go on.
    let line = pasted(&output, "peer revoke");
    run(mesh.node(1).unwrap().dir(), &line.iter().map(String::as_str).collect::<Vec<_>>());
    reload(&client, &mesh, 1).await;
    let refused = expect(&post(2, "late").await, 503);
    assert_eq!(field(&refused, "/got"), &json!(1), "{refused}");
    expect(&post(0, "on").await, 201);
    for url in urls.iter().take(2) {
        let memories = format!("{url}/api/v1/memories");
        expect(&client.get(&format!("{memories}/by-three")).await.unwrap(), 200);
        expect(&client.get(&format!("{memories}/late")).await.unwrap(), 404);
        let status = expect(&client.get(&format!("{url}/api/v1/status")).await.unwrap(), 200);
        assert_eq!(field(&status, "/n"), &json!(2));
    }
    mesh.stop_all(WITHIN).await.unwrap();
}

/// Connections that node `from` has made to node `to`, as the kernel has them.
fn established(mesh: &Mesh, from: usize, to: usize) -> usize {
    let (from, to) = (mesh.node(from).unwrap(), mesh.node(to).unwrap());
    let port = format!(":{:04X}", to.peer_address().port());
    let table = fs::read_to_string(format!("/proc/{}/net/tcp", from.process().unwrap().id())).unwrap();
    let own = inodes(from.process().unwrap().id());
    let is_own = |row: &Vec<&str>| {
        row.get(2).is_some_and(|remote| remote.ends_with(&port))
            && row.get(3) == Some(&"01")
            && row.get(9).is_some_and(|inode| own.iter().any(|of| of == inode))
    };
    table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).filter(is_own).count()
}

/// The sockets that a process has open.
fn inodes(process: i32) -> Vec<String> {
    let files = fs::read_dir(format!("/proc/{process}/fd")).unwrap();
    let targets = files.filter_map(|file| fs::read_link(file.ok()?.path()).ok());
    let socket = |target: std::path::PathBuf| {
        let text = target.to_string_lossy().into_owned();
        text.strip_prefix("socket:[")?.strip_suffix(']').map(str::to_owned)
    };
    targets.filter_map(socket).collect()
}

#[tokio::test]
async fn a_reload_takes_all_or_nothing_and_says_what() {
    let dir = tempfile::tempdir().unwrap();
    let mut mesh = mesh(dir.path(), 3, &["--quorum-writes", "3"]).await;
    let client = mesh.client().clone();
    let node = mesh.node(0).unwrap();
    let peers = node.dir().join("peers.toml");
    let kept = fs::read(&peers).unwrap();
    let reload_url = format!("{}/api/v1/admin/reload", url(&mesh, 0));
    let refused = async |part: &str| {
        let answer = expect(&client.post(&reload_url, &json!({})).await.unwrap(), 422);
        assert_eq!(field(&answer, "/error"), "settings_invalid");
        assert!(field(&answer, "/faults").to_string().contains(part), "{part} in {answer}");
        logged(&mesh, 0, &["not reloaded", part]).await;
        let status = expect(&client.get(&format!("{}/api/v1/status", url(&mesh, 0))).await.unwrap(), 200);
        assert_eq!((field(&status, "/n"), field(&status, "/w")), (&json!(3), &json!(3)));
    };

    // A third node that leaves would make W = 3 impossible.
    run(node.dir(), &["peer", "remove", "node-3"]);
    refused("quorum_writes").await;
    let mut file = peers_file::load(&peers).unwrap();
    file.peers[0].grant = vec!["a*".into()];
    fs::write(&peers, toml::to_string(&file).unwrap()).unwrap();
    refused("grant").await;
    fs::write(&peers, "nonsense").unwrap();
    refused("peers.toml").await;
    fs::write(&peers, &kept).unwrap();
    fs::write(node.dir().join("federation.key"), "nonsense").unwrap();
    refused("federation.key").await;
    fs::remove_file(node.dir().join("federation.key")).unwrap();
    refused("federation.key").await;
    let memory = json!({ "id": "a", "namespace": "team", "title": "t", "content": "c" });
    let memories = format!("{}/api/v1/memories", url(&mesh, 0));
    expect(&client.post(&memories, &memory).await.unwrap(), 201);
    mesh.stop_all(WITHIN).await.unwrap();
}

#[tokio::test]
async fn a_dry_run_changes_nothing_and_a_check_reads_what_serve_would() {
    let dir = tempfile::tempdir().unwrap();
    let mut mesh = mesh(dir.path(), 3, &[]).await;
    let client = mesh.client().clone();
    let node = mesh.node(0).unwrap();
    let id = node.id().as_str();
    run(node.dir(), &["peer", "remove", "node-3"]);
    let base = format!("{}/api/v1/admin/reload", url(&mesh, 0));
    let report = expect(&client.post(&format!("{base}?dry_run=true"), &json!({})).await.unwrap(), 200);
    assert_eq!(field(&report, "/left/0"), "node-3", "{report}");
    let status = expect(&client.get(&format!("{}/api/v1/status", url(&mesh, 0))).await.unwrap(), 200);
    assert_eq!(field(&status, "/n"), &json!(3));
    let told = run(node.dir(), &["config", "check", "--node-id", id]);
    assert!(told.contains("2 of 2 nodes") && told.contains("no fault found"), "{told}");
    let other = expect(&client.post(&format!("{base}?dry_run=1"), &json!({})).await.unwrap(), 400);
    assert_eq!(field(&other, "/error"), "invalid_query");
    let output = federationd_in(node.dir(), &["config", "check", "--node-id", id, "--quorum-writes", "3"]);
    assert!(!output.status.success() && stderr(&output).contains("quorum_writes"), "{}", stderr(&output));
    assert_eq!(field(&reload(&client, &mesh, 0).await, "/left/0"), "node-3");
    let again = reload(&client, &mesh, 0).await;
    assert_eq!((field(&again, "/left"), field(&again, "/quorum_changed")), (&json!([]), &json!(false)));
    mesh.stop_all(WITHIN).await.unwrap();
}

/// A connection that asks for a list of memories, and keeps open.
async fn keeps_open(site: &Secured, id: &str) -> TcpStream {
    let mut stream = TcpStream::connect(site.base.trim_start_matches("http://")).await.unwrap();
    let secret = site.secret(id);
    let request = format!(
        "GET /api/v1/memories?namespace=team HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {secret}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = vec![0; 4_096];
    let len = stream.read(&mut answer).await.unwrap();
    assert!(answer[..len].starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer[..len]));
    stream
}

#[tokio::test]
async fn a_revoked_tokens_connections_end_within_a_second_of_the_signal_and_others_stay() {
    let dir = tempfile::tempdir().unwrap();
    let mut site = Secured::start(dir.path(), &[]).await;
    let (mut revoked, mut other) = (keeps_open(&site, "team").await, keeps_open(&site, "reader").await);
    run(dir.path(), &["token", "revoke", "team", "--tokens-file", "tokens.toml"]);
    let begun = Instant::now();
    site.mesh.node(0).unwrap().process().unwrap().signal(Signal::HUP).unwrap();
    let end = tokio::time::timeout(Duration::from_secs(1), revoked.read(&mut [0; 16])).await;
    assert!(matches!(end, Ok(Ok(0) | Err(_))), "still open: {end:?}");
    println!("from SIGHUP to the end of the client's connection: {:?}", begun.elapsed());
    let still = tokio::time::timeout(Duration::from_millis(200), other.read(&mut [0; 16])).await;
    assert!(still.is_err(), "the other's has ended too: {still:?}");
    assert_eq!(site.ask("team", Method::GET, "/api/v1/memories?namespace=team", None).await.status, 401);
    site.get("reader", "/api/v1/memories?namespace=team", 200).await;

    // By the API: the one who reloads is told, and no other right will do.
    run(dir.path(), &["token", "revoke", "reader", "--tokens-file", "tokens.toml"]);
    let reload = "/api/v1/admin/reload";
    assert_eq!(site.ask("app", Method::POST, reload, None).await.status, 403);
    let report = expect(&site.ask("admin", Method::POST, reload, None).await, 200);
    assert_eq!(field(&report, "/tokens_removed"), &json!(["reader"]), "{report}");
    assert!(matches!(other.read(&mut [0; 16]).await, Ok(0) | Err(_)));
    site.mesh.stop_all(WITHIN).await.unwrap();
}
