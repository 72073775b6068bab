//! What the tests share.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use federation_daemon::supervisor::{Answer, Client, Mesh, MeshLinks, MeshLogs, MeshSpec};
use serde_json::Value;

use crate::poll::until;

/// How long anything that must happen may take on a busy machine.
pub(crate) const WITHIN: Duration = Duration::from_secs(30);

/// The binary under test.
pub(crate) fn program() -> PathBuf {
    env!("CARGO_BIN_EXE_federationd").into()
}

/// Runs the binary to its end.
pub(crate) fn federationd(args: &[&str]) -> Output {
    Command::new(program()).args(args).env_remove("FEDERATION_NODE_ID").output().expect("the binary runs")
}

/// Runs the binary in a directory, to its end.
pub(crate) fn federationd_in(dir: &Path, args: &[&str]) -> Output {
    Command::new(program())
        .args(args)
        .current_dir(dir)
        .env_remove("FEDERATION_NODE_ID")
        .output()
        .expect("the binary runs")
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A mesh in a directory, with extra arguments for each node; all are ready.
pub(crate) async fn mesh(dir: &Path, nodes: usize, args: &[&str]) -> Mesh {
    let mut mesh = Mesh::prepare(MeshSpec {
        program: program(),
        dir: dir.to_owned(),
        nodes,
        args: args.iter().map(OsString::from).collect(),
        logs: MeshLogs::Files,
        links: MeshLinks::Tls,
    })
    .expect("a mesh is prepared");
    mesh.start_all(WITHIN).await.expect("all nodes are ready");
    mesh
}

/// The base of a node's URLs.
pub(crate) fn url(mesh: &Mesh, index: usize) -> String {
    mesh.node(index).expect("there is such a node").url()
}

/// A field of an answer.
pub(crate) fn field<'a>(value: &'a Value, pointer: &str) -> &'a Value {
    value.pointer(pointer).unwrap_or(&Value::Null)
}

/// The answer's JSON, with its status as told.
pub(crate) fn expect(answer: &Answer, status: u16) -> Value {
    assert_eq!(answer.status, status, "{}: {}", answer.url, answer.text());
    answer.json().expect("JSON")
}

/// Waits until a line of a node's log has all of these parts.
pub(crate) async fn logged(mesh: &Mesh, index: usize, parts: &[&str]) {
    let path = mesh.node(index).expect("there is such a node").dir().join("log");
    let has_all = |line: &str| parts.iter().all(|part| line.contains(part));
    until(WITHIN, &format!("a line with {parts:?} in {}", path.display()), async || {
        let log = std::fs::read_to_string(&path).expect("a log");
        log.lines().any(has_all).then_some(())
    })
    .await;
}

/// Asks for the state hash of each node until all say the same.
pub(crate) async fn equal_within(client: &Client, urls: &[String], within: Duration) -> Value {
    until(within, "all nodes have the same state", async || {
        let mut states = Vec::new();
        for url in urls {
            let answer = client.get(&format!("{url}/api/v1/status?hash=true")).await.expect("an answer");
            states.push(field(&expect(&answer, 200), "/state_hash").clone());
        }
        states.iter().all(|state| *state == states[0]).then(|| states[0].clone())
    })
    .await
}
