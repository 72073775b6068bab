//! What the tests share.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::Write as _;
use std::ops::Range;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use federation_core::dot::Dot;
use federation_daemon::random::system_rng;
use federation_daemon::supervisor::{Answer, Client, Mesh, MeshLinks, MeshLogs, MeshNode, MeshSpec};
use federation_store::{ProofVerdict, VerifyReport, verify_offline};
use federation_wire::api::DotText;
use rand::Rng as _;
use serde_json::Value;
use tokio::sync::{Mutex, MutexGuard};

use crate::poll::until;

/// How long anything that must happen may take on a busy machine.
pub(crate) const WITHIN: Duration = Duration::from_secs(30);

/// The binary under test.
pub(crate) fn program() -> PathBuf {
    env!("CARGO_BIN_EXE_federationd").into()
}

/// A script in `dir` that becomes the binary under test, by way of `before`.
pub(crate) fn program_behind(dir: &Path, before: &str) -> PathBuf {
    let path = dir.join("federationd-behind.sh");
    let script = format!("#!/bin/sh\n{before} '{}' \"$@\"\n", program().display());
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// Held by the one test that runs.
pub(crate) async fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::const_new(());
    ALONE.lock().await
}

/// Three nodes in `dir`, not started.
pub(crate) fn prepared(dir: &Path, program: PathBuf, args: &[&str]) -> Mesh {
    linked_by(MeshLinks::Tls, dir, program, args)
}

/// The same, by such links.
pub(crate) fn linked_by(links: MeshLinks, dir: &Path, program: PathBuf, args: &[&str]) -> Mesh {
    let args = args.iter().map(OsString::from).collect();
    Mesh::prepare(MeshSpec { program, dir: dir.to_owned(), nodes: 3, args, logs: MeshLogs::Files, links })
        .unwrap()
}

/// Three nodes in `dir`, all ready.
pub(crate) async fn started(dir: &Path, args: &[&str]) -> Mesh {
    let mut mesh = prepared(dir, program(), args);
    mesh.start_all(WITHIN).await.unwrap();
    mesh
}

/// The bases of all nodes' URLs.
pub(crate) fn urls(mesh: &Mesh) -> Vec<String> {
    mesh.nodes().iter().map(MeshNode::url).collect()
}

/// A field of an answer.
pub(crate) fn field<'a>(value: &'a Value, pointer: &str) -> &'a Value {
    value.pointer(pointer).unwrap_or(&Value::Null)
}

/// The answer's JSON, with its status as told.
pub(crate) fn expect(answer: &Answer, status: u16) -> Value {
    assert_eq!(answer.status, status, "{}: {}", answer.url, answer.text());
    answer.json().unwrap()
}

/// The dot of a write's answer.
pub(crate) fn dot_of(answer: &Value) -> Dot {
    let text = field(answer, "/dot").as_str().unwrap_or_else(|| panic!("no dot in {answer}"));
    text.parse::<DotText>().unwrap().0
}

/// Waits until all nodes have the same state, and says how many memories they see.
pub(crate) async fn equal_within(client: &Client, urls: &[String], within: Duration) -> u64 {
    until(within, "all nodes have the same state", async || {
        let mut states = Vec::new();
        for url in urls {
            let answer = client.get(&format!("{url}/api/v1/status?hash=true")).await.unwrap();
            states.push(field(&expect(&answer, 200), "/state_hash").clone());
        }
        let is_equal = states.iter().all(|state| *state == states[0]);
        is_equal.then(|| field(&states[0], "/records").as_u64().unwrap())
    })
    .await
}

/// A number of that range, another one in each run.
pub(crate) fn drawn(range: Range<usize>) -> usize {
    let drawn = usize::try_from(system_rng().next_u64() >> 32).unwrap();
    range.start + drawn % range.len()
}

/// Kills all nodes at once (SIGKILL), then waits until each is gone.
pub(crate) async fn kill_all(mesh: &mut Mesh) {
    for node in mesh.nodes() {
        node.process().unwrap().signal(rustix::process::Signal::KILL).unwrap();
    }
    for index in 0..mesh.nodes().len() {
        mesh.kill(index).await.unwrap();
    }
}

/// What the stopped nodes' stores hold; every one of them must be sound.
pub(crate) fn stores(mesh: &Mesh) -> Vec<VerifyReport> {
    let mut reports = Vec::new();
    for node in mesh.nodes() {
        let report = verify_offline(&node.data_dir(), &mut |_, _| ProofVerdict::Holds).unwrap();
        assert!(report.is_sound(), "{}: {:?}, index {:?}", node.id(), report.faults, report.index);
        let mut command = Command::new(program());
        command.args(["verify", "--offline", "--data-dir"]).arg(node.data_dir());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}: {}", node.id(), String::from_utf8_lossy(&output.stderr));
        reports.push(report);
    }
    reports
}

/// Of the acknowledged dots those that fewer than `needed` stores hold, with how many do.
pub(crate) fn lost(stores: &[VerifyReport], acked: &[Dot], needed: usize) -> BTreeMap<Dot, usize> {
    let held = |dot: &Dot| stores.iter().filter(|store| store.ops.contains_key(dot)).count();
    acked.iter().map(|dot| (dot.clone(), held(dot))).filter(|(_, held)| *held < needed).collect()
}

/// Says on the test's output, past the capture of the test runner, that a test did not run, and why.
pub(crate) fn skipped(test: &str, why: &str) {
    // The runner captures what goes through `print!` and `eprint!`; a line that nobody sees would be a silent skip.
    std::io::stderr().write_all(format!("SKIPPED {test}: {why}\n").as_bytes()).unwrap();
}

/// What can be read of the stopped nodes' stores, sound or not.
#[cfg(feature = "planted-bugs")]
pub(crate) fn whatever_is_left(mesh: &Mesh) -> Vec<VerifyReport> {
    let read = |dir: PathBuf| verify_offline(&dir, &mut |_, _| ProofVerdict::Holds).ok();
    mesh.nodes().iter().filter_map(|node| read(node.data_dir())).collect()
}
