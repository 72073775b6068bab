//! What keeps a node from starting: all of it at once, before anything listens.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use federation_daemon::enrolment::{key_file, peers_file};
use federation_daemon::files::Existing;
use federation_wire::identity::{Enrolment, PeersFile};
use federation_wire::keys::NodeKey;
use tempfile::TempDir;

use crate::support::{federationd_in, mesh, stderr};

/// A directory with what a start needs, and one way to spoil it per test.
pub(crate) struct Site {
    dir: TempDir,
    args: Vec<String>,
}

impl Site {
    /// A node `a` with a key and the peer `b`; ports are whatever is free.
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        key_file::create(&dir.path().join("federation.key"), Existing::Keep).unwrap();
        let site = Self { dir, args: Vec::new() };
        site.enrol(&[peer("b", "http://127.0.0.1:7002", 2)]);
        site.with("--node-id", "a").with("--listen", "127.0.0.1:0").with("--peer-listen", "127.0.0.1:0")
    }

    /// Sets a flag, or replaces it.
    pub(crate) fn with(mut self, flag: &str, value: &str) -> Self {
        match self.args.iter().position(|arg| arg == flag) {
            Some(at) => value.clone_into(&mut self.args[at + 1]),
            None => self.args.extend([flag.to_owned(), value.to_owned()]),
        }
        self
    }

    fn switch(mut self, flag: &str) -> Self {
        self.args.push(flag.to_owned());
        self
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn enrol(&self, peers: &[Enrolment]) {
        let file = PeersFile { peers: peers.to_vec() };
        peers_file::save(&self.path("peers.toml"), &file).unwrap();
    }

    /// The start fails and says all of this, and what it says is given back.
    pub(crate) fn fails_with(&self, said: &[&str]) -> String {
        let args: Vec<_> = ["serve"].into_iter().chain(self.args.iter().map(String::as_str)).collect();
        let output = federationd_in(self.dir.path(), &args);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        for part in said {
            assert!(text.contains(part), "{part:?} in: {text}");
        }
        text
    }
}

pub(crate) fn peer(id: &str, url: &str, seed: u8) -> Enrolment {
    Enrolment::full(id, url, NodeKey::from_seed(&[seed; 32]).public())
}

#[test]
fn all_faults_are_reported_at_once() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let site = Site::new()
        .with("--node-id", "no node")
        .with("--key-file", "missing.key")
        .with("--listen", "0.0.0.0:9077")
        .with("--quorum-peers", "http://127.0.0.1:7002,http://127.0.0.1:7002/,ftp://x,http://127.0.0.1:7009")
        .with("--quorum-writes", "9")
        .with("--quorum-timeout-ms", "0")
        .with("--config", "missing.toml")
        .with("--data-dir", "peers.toml");
    site.fails_with(&[
        "reasons",
        "\"no node\"",
        "missing.key",
        "federationd keygen",
        "0.0.0.0:9077 is not on loopback",
        "http://127.0.0.1:7002 stands there twice",
        "\"ftp://x\"",
        "http://127.0.0.1:7009 is not enrolled",
        "federationd peer add",
        "quorum_writes: 9",
        "quorum_timeout_ms: 0",
        "missing.toml",
        "is not a directory",
    ]);
    drop(taken);
}

#[test]
fn a_quorum_that_does_not_fit_names_both_numbers() {
    Site::new().with("--quorum-writes", "3").fails_with(&["quorum of 3", "2 replicas"]);
    Site::new().with("--quorum-writes", "0").fails_with(&["quorum_writes", "0"]);
    Site::new().with("--quorum-writes", "some").fails_with(&["\"some\"", "majority"]);
}

#[test]
fn this_node_among_its_own_peers_is_found_by_id_key_or_address() {
    let site = Site::new();
    site.enrol(&[peer("a", "http://127.0.0.1:7002", 2)]);
    site.fails_with(&["the id a is this node itself"]);

    let own = key_file::read(&site.path("federation.key")).unwrap();
    site.enrol(&[Enrolment::full("b", "http://127.0.0.1:7002", own.active().public())]);
    site.fails_with(&["the key of b is this node itself"]);

    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let site = site.with("--peer-listen", &free.to_string());
    site.enrol(&[peer("b", &format!("http://{free}"), 2)]);
    site.fails_with(&["is this node itself", &free.to_string()]);
}

#[test]
fn a_key_file_must_be_the_owners_alone_and_a_key() {
    let site = Site::new();
    fs::set_permissions(site.path("federation.key"), fs::Permissions::from_mode(0o644)).unwrap();
    site.fails_with(&["its mode is 0644", "chmod 600"]);
    fs::set_permissions(site.path("federation.key"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(site.path("federation.key"), "secret\n").unwrap();
    site.fails_with(&["federation.key", "a key file has the line"]);
    let site = Site::new().with("--data-dir", ".");
    site.fails_with(&["lies in the data directory"]);
}

#[test]
fn addresses_must_be_free_and_two() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    Site::new().with("--peer-listen", &address).fails_with(&[
        "peer_listen",
        &address,
        "cannot be listened on",
    ]);
    drop(taken);
    Site::new()
        .with("--listen", &address)
        .with("--peer-listen", &address)
        .fails_with(&["cannot be listened on"]);
    Site::new().with("--listen", "here").fails_with(&["\"here\" is not an address"]);
}

#[test]
fn a_file_that_is_named_must_exist_and_hold_known_keys() {
    Site::new().with("--peers-file", "other.toml").fails_with(&["other.toml", "must exist"]);
    let site = Site::new().with("--config", "federation.toml");
    fs::write(site.path("federation.toml"), "quorum_timeout = 5\n").unwrap();
    site.fails_with(&["federation.toml", "quorum_timeout", "quorum_timeout_ms"]);
    fs::write(site.path("peers.toml"), "[[peer]]\nid = \"b\"\nkeys = []\n").unwrap();
    fs::write(site.path("federation.toml"), "quorum_timeout_ms = 5\n").unwrap();
    site.fails_with(&["peers.toml", "1 to 32"]);
}

/// Writes a tokens file of these entries, as an operator with an editor would.
fn tokens(site: &Site, text: &str) {
    fs::write(site.path("tokens.toml"), text).unwrap();
    fs::set_permissions(site.path("tokens.toml"), fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn a_tokens_file_must_be_there_whole_and_the_owners_alone() {
    let site = Site::new().with("--tokens-file", "tokens.toml");
    site.fails_with(&["tokens file tokens.toml", "missing", "federationd token create"]);
    tokens(&site, "");
    fs::set_permissions(site.path("tokens.toml"), fs::Permissions::from_mode(0o640)).unwrap();
    site.fails_with(&["tokens file tokens.toml", "its mode is 0640", "chmod 600"]);
    tokens(&site, "[[token]]\nid = \"a\"\ncolour = 1\n");
    site.fails_with(&["tokens file tokens.toml, line 3", "colour"]);
    tokens(&site, "[[token]]\nid = \"a\"\n");
    site.fails_with(&["tokens file tokens.toml, line 1", "missing field"]);
    tokens(&site, "[[token]\n");
    site.fails_with(&["tokens file tokens.toml, line 1"]);
    fs::create_dir(site.path("dir")).unwrap();
    site.with("--tokens-file", "dir").fails_with(&["tokens file dir", "not a regular file"]);

    let site = Site::new().with("--tokens-file", "inner/tokens.toml").with("--data-dir", "inner");
    fs::create_dir(site.path("inner")).unwrap();
    site.fails_with(&["tokens file inner/tokens.toml", "lies in the data directory"]);
}

#[test]
fn all_faults_of_all_tokens_are_reported_beside_the_others() {
    let site = Site::new().with("--tokens-file", "tokens.toml").with("--token-requests-per-sec", "0");
    let hash = format!("blake3:{}", "0".repeat(64));
    let entry = |id: &str, hash: &str, agents: &str, namespaces: &str, rights: &str, times: &str| {
        format!(
            "[[token]]\nid = {id:?}\nhash = {hash:?}\nagents = {agents}\nnamespaces = {namespaces}\n\
             rights = {rights}\n{times}\n"
        )
    };
    let created = "created = \"2026-01-01T00:00:00Z\"";
    let text = [
        entry("a", &hash, "[\"x\"]", "[\"n\"]", "[\"read\"]", created),
        entry("a", &hash, "[]", "[\"a*\"]", "[]", "created = \"now\""),
        entry("b c", "fed1_x", "[\"two words\"]", "[]", "[\"write\"]", created),
    ];
    tokens(&site, &text.concat());
    site.fails_with(&[
        "2 reasons",
        "token 2 (\"a\"), id: another entry has the same id",
        "token 2 (\"a\"), agents: a token has 1 to 256 agents",
        "token 2 (\"a\"), namespaces: \"a*\" is not a glob",
        "token 2 (\"a\"), rights: a token needs a right",
        "token 2 (\"a\"), created: a time is written as in",
        "token 3 (\"b c\"), id: a token's id is",
        "token 3 (\"b c\"), hash: a hash is",
        "token 3 (\"b c\"), agents:",
        "token 3 (\"b c\"), namespaces: a token that may read or write needs a namespace",
        "token_requests_per_sec: 0 is not possible",
    ]);
}

#[test]
fn an_open_node_is_on_loopback() {
    let said = "0.0.0.0:0 is not on loopback, and there are no client tokens";
    let site = Site::new().with("--listen", "0.0.0.0:0");
    site.fails_with(&[said, "federationd token create"]);
    let site = site.with("--tokens-file", "tokens.toml").with("--quorum-writes", "0");
    tokens(&site, "");
    let args: Vec<_> = ["serve"].into_iter().chain(site.args.iter().map(String::as_str)).collect();
    let text = stderr(&federationd_in(site.dir.path(), &args));
    assert!(text.contains("quorum_writes") && !text.contains("no client tokens"), "{text}");
}

#[test]
fn a_config_file_is_below_flags_and_environment() {
    let site = Site::new();
    fs::write(site.path("federation.toml"), "node_id = \"from file\"\n").unwrap();
    let args = ["serve", "--config", "federation.toml", "--quorum-writes", "x"];
    let run = |args: &[&str], env: Option<&str>| {
        let mut command = std::process::Command::new(crate::support::program());
        command.args(args).current_dir(site.dir.path()).env_remove("FEDERATION_NODE_ID");
        if let Some(id) = env {
            command.env("FEDERATION_NODE_ID", id);
        }
        stderr(&command.output().unwrap())
    };
    assert!(run(&args, None).contains("\"from file\" (from the config file)"));
    assert!(run(&args, Some("from env")).contains("\"from env\" (from FEDERATION_NODE_ID)"));
    let flagged = [&args[..], &["--node-id", "from flag"]].concat();
    assert!(run(&flagged, Some("from env")).contains("\"from flag\" (from --node-id)"));
}

#[tokio::test]
async fn a_data_directory_is_one_process_one_node_and_no_newer_format() {
    let root = tempfile::tempdir().unwrap();
    let mut mesh = mesh(root.path(), 1, &[]).await;
    let data = mesh.node(0).unwrap().data_dir();
    let site = Site::new().with("--data-dir", &data.to_string_lossy());
    site.fails_with(&["data_dir", "in use by another process"]);
    mesh.stop_all(crate::support::WITHIN).await.unwrap();

    site.fails_with(&["belongs to node node-1"]);
    let site = site.with("--node-id", "node-1").switch("--new-mesh");
    site.fails_with(&["not empty", "--new-mesh"]);
    newer_format(&data);
    let site = Site::new().with("--node-id", "node-1").with("--data-dir", &data.to_string_lossy());
    site.fails_with(&["format version 99"]);
    site.with("--quorum-writes", "0").fails_with(&["format version 99", "quorum_writes"]);
}

/// Makes the directory look like a newer version's.
fn newer_format(data: &Path) {
    let path = data.join("FORMAT");
    let text = fs::read_to_string(&path).unwrap();
    let words: Vec<_> = text.split_whitespace().collect();
    fs::write(&path, text.replacen(words[1], "99", 1)).unwrap();
}

#[test]
fn a_directory_that_cannot_be_made_is_told() {
    Site::new().with("--data-dir", "peers.toml/data").fails_with(&["data_dir peers.toml/data"]);
    Site::new().with("--data-dir", "/proc/data").fails_with(&["data_dir /proc/data", "cannot be written"]);
}
