//! How nodes end, and how a supervisor's children do.

use std::process::Stdio;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::poll::until;
use crate::support::{WITHIN, expect, federationd_in, field, mesh, program, stderr, stdout, url};

#[tokio::test]
async fn a_node_stops_in_order_and_goes_on_with_what_it_had() {
    let dir = tempfile::tempdir().unwrap();
    let mut mesh = mesh(dir.path(), 1, &[]).await;
    let memories = format!("{}/api/v1/memories", url(&mesh, 0));
    let memory = json!({ "id": "m", "namespace": "n", "title": "t", "content": "c" });
    expect(&mesh.client().post(&memories, &memory).await.unwrap(), 201);
    let dir_of_node = mesh.node(0).unwrap().dir().to_owned();
    let verify = || {
        let args = ["verify", "--offline", "--data-dir", "data", "--ops"];
        let keys = ["--key-file", "federation.key", "--peers-file", "peers.toml"];
        federationd_in(&dir_of_node, &[&args[..], &keys[..]].concat())
    };
    assert!(stderr(&verify()).contains("in use"), "a running node's store is not touched");
    assert!(mesh.terminate(0, WITHIN).await.unwrap().success());
    let verified = verify();
    assert!(verified.status.success(), "{}", stderr(&verified));
    assert!(stdout(&verified).contains("live n:memory:m") && stdout(&verified).contains("proofs checked"));
    mesh.start(0).unwrap();
    mesh.ready(0, WITHIN).await.unwrap();
    expect(&mesh.client().get(&format!("{memories}/m")).await.unwrap(), 200);

    mesh.node(0).unwrap().process().unwrap().pause().unwrap();
    let hasty = federation_daemon::supervisor::Client::with_timeout(Duration::from_millis(300));
    assert!(hasty.get(&format!("{memories}/m")).await.is_err(), "a paused process does not answer");
    mesh.node(0).unwrap().process().unwrap().resume().unwrap();
    expect(&mesh.client().get(&format!("{memories}/m")).await.unwrap(), 200);
    let log = std::fs::read_to_string(mesh.node(0).unwrap().dir().join("log")).unwrap();
    assert!(log.contains("serving"), "{log}");
}

#[tokio::test]
async fn own_ops_keep_their_epoch_over_an_end_in_order_and_not_over_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let mut mesh = mesh(dir.path(), 3, &[]).await;
    let client = mesh.client().clone();
    let url = url(&mesh, 0);
    let mut epochs = Vec::new();
    for id in ["begun", "after-sigterm", "after-kill"] {
        let memory = json!({ "id": id, "namespace": "n", "title": "t", "content": "c" });
        let created = expect(&client.post(&format!("{url}/api/v1/memories"), &memory).await.unwrap(), 201);
        let dot = field(&created, "/dot").as_str().unwrap();
        epochs.push(dot.split('/').nth(1).unwrap().to_owned());
        if id == "begun" {
            assert!(mesh.terminate(0, WITHIN).await.unwrap().success());
        } else {
            mesh.kill(0).await.unwrap();
        }
        mesh.start(0).unwrap();
        mesh.ready(0, WITHIN).await.unwrap();
    }
    assert_eq!(epochs[0], epochs[1], "all peers were there, and know of nothing that the node has lost");
    assert_ne!(epochs[1], epochs[2], "nobody can tell what a disk has lost that was left without order");
    mesh.stop_all(WITHIN).await.unwrap();
}

#[tokio::test]
async fn dev_prints_urls_ends_on_a_signal_and_goes_on_next_time() {
    let dir = tempfile::tempdir().unwrap();
    let first = dev(dir.path(), 2).await;
    let memory = json!({ "id": "hello", "namespace": "try", "title": "t", "content": "c" });
    let client = federation_daemon::supervisor::Client::default();
    expect(&client.post(&format!("{}/api/v1/memories", first.urls[0]), &memory).await.unwrap(), 201);
    let pids = first.stop().await;
    assert!(pids, "dev ended with success");

    let second = dev(dir.path(), 2).await;
    assert_eq!(second.urls.len(), 2);
    for url in &second.urls {
        expect(&client.get(&format!("{url}/api/v1/memories/hello")).await.unwrap(), 200);
    }
    // Killed, it takes its children with it: they see their standard input close.
    let urls = second.urls.clone();
    second.kill().await;
    for url in &urls {
        let is_gone = async || client.get(&format!("{url}/healthz")).await.err();
        until(WITHIN, "a child ends with its parent", is_gone).await;
    }
}

struct Dev {
    child: tokio::process::Child,
    urls: Vec<String>,
    _output: tokio::task::JoinSet<()>,
}

/// Starts `federationd dev` and reads the URLs that it prints.
async fn dev(dir: &std::path::Path, nodes: usize) -> Dev {
    let mut child = tokio::process::Command::new(program())
        .args(["dev", "--nodes", &nodes.to_string(), "--dir"])
        .arg(dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut urls = Vec::new();
    let reading = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if let Some(at) = line.find("http://").filter(|_| line.trim_start().starts_with("node-")) {
                urls.push(line[at..].trim().to_owned());
            }
            if line.contains("Ctrl-C") {
                break;
            }
        }
    };
    tokio::time::timeout(WITHIN, reading).await.expect("dev is ready");
    assert_eq!(urls.len(), nodes);
    // Its output must stay open: a closed pipe is no reason to end.
    let mut output = tokio::task::JoinSet::new();
    output.spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    Dev { child, urls, _output: output }
}

impl Dev {
    /// Sends SIGINT, as Ctrl-C does, and says whether it ended well.
    async fn stop(mut self) -> bool {
        let pid = i32::try_from(self.child.id().unwrap()).unwrap();
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        tokio::time::timeout(WITHIN, self.child.wait()).await.expect("dev ends").unwrap().success()
    }

    async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }
}
