//! The order of sync and answer, as the operating system saw it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use federation_core::dot::Dot;
use federation_core::id::OpHash;
use federation_daemon::supervisor::{Mesh, MeshLinks};
use serde_json::{Value, json};

use crate::poll::until;
use crate::support::{
    WITHIN, alone, dot_of, equal_within, expect, field, linked_by, program_behind, skipped, stores, urls,
};
use crate::trace::{Moment, Trace, contains};

const WRITES: usize = 100;
/// Nodes whose sync must have returned before the answer, by default.
const NEEDED: usize = 2;

/// One write, and what must be in the traces of it.
struct Written {
    id: String,
    dot: Dot,
    /// Peers that the answer says have acknowledged.
    acked_by: Vec<String>,
    hash: Option<OpHash>,
}

#[tokio::test(flavor = "multi_thread")]
async fn no_answer_leaves_a_node_before_the_sync_of_what_it_promises() {
    let _alone = alone().await;
    if !is_strace_here() {
        return skipped(
            "no_answer_leaves_a_node_before_the_sync_of_what_it_promises",
            "no strace (apt install strace)",
        );
    }
    let (violations, checked) = traced("exec").await;
    assert_eq!(violations, Vec::<String>::new());
    println!("{WRITES} writes: {checked} answers, pushes and acks, each behind its sync");
    assert!(checked >= WRITES * 3, "an answer, a push and an ack of each write: {checked}");
}

#[cfg(feature = "planted-bugs")]
#[tokio::test(flavor = "multi_thread")]
async fn the_check_of_the_order_goes_red_without_the_sync() {
    let _alone = alone().await;
    assert!(is_strace_here(), "this test needs strace");
    let (violations, _) = traced("FEDERATION_PLANTED_BUG=lazy-fsync exec").await;
    println!("{} violations, the first: {:?}", violations.len(), violations.first());
    assert!(
        violations.len() >= WRITES * NEEDED,
        "every answer and ack is in front of its sync: {violations:#?}"
    );
}

/// Writes to traced nodes; what is out of order, and how many sends were looked at.
async fn traced(run: &str) -> (Vec<String>, usize) {
    let dir = tempfile::tempdir().unwrap();
    let program = program_behind(dir.path(), &format!("{run} {}", strace(dir.path())));
    // Within TLS nobody could tell which op a message carries.
    let mut mesh = linked_by(MeshLinks::Plain, dir.path(), program, &[]);
    mesh.start_all(WITHIN).await.unwrap();
    let client = mesh.client().clone();
    let urls = urls(&mesh);
    let mut writes = Vec::new();
    for number in 0..WRITES {
        let id = format!("order-{number:04}");
        let memory = json!({ "id": id, "namespace": "order", "title": "t", "content": "c" });
        let answer = client.post(&format!("{}/api/v1/memories", urls[0]), &memory).await.unwrap();
        let answer = expect(&answer, 201);
        writes.push(Written { id, dot: dot_of(&answer), acked_by: acked_by(&answer), hash: None });
    }
    equal_within(&client, &urls, WITHIN).await;
    let traces = ended(&mut mesh, dir.path()).await;
    let stores = stores(&mesh);
    for write in &mut writes {
        write.hash = stores[0].ops.get(&write.dot).map(|op| op.hash);
    }
    let names: Vec<_> = mesh.nodes().iter().map(|node| node.id().to_string()).collect();
    let mut checked = 0;
    let violations = writes.iter().flat_map(|write| check(write, &names, &traces, &mut checked)).collect();
    (violations, checked)
}

/// What of one write went out before it was allowed to.
fn check(write: &Written, names: &[String], traces: &[Trace], checked: &mut usize) -> Vec<String> {
    let mut violations = Vec::new();
    let id = write.id.as_bytes();
    let durable: Vec<_> = traces.iter().map(|trace| trace.durable(id)).collect();
    let mut hold = |what: String, sync: Option<Moment>, sent: Option<Moment>| {
        *checked += usize::from(sent.is_some());
        match (sync, sent) {
            (Some(sync), Some(sent)) if sync.line < sent.line => {}
            (sync, sent) => violations.push(format!("{}: sync {sync:?}, {what} {sent:?}", write.id)),
        }
    };
    let is_answer = |bytes: &[u8]| contains(bytes, b"HTTP/1.1 201");
    let answer = traces[0].sent(id, is_answer);
    hold("201".to_owned(), durable[0], answer);
    hold("push".to_owned(), durable[0], traces[0].sent(id, |bytes| !is_answer(bytes)));
    let hash = write.hash.as_ref().map_or(&[][..], |hash| hash.0.as_slice());
    for (name, (trace, sync)) in names.iter().zip(traces.iter().zip(&durable)).skip(1) {
        let ack = trace.sent(hash, |_| !hash.is_empty());
        if ack.is_some() || write.acked_by.contains(name) {
            hold(format!("ack of {name}"), *sync, ack);
        }
    }
    let durable_before =
        |answer: Moment| durable.iter().flatten().filter(|sync| sync.at <= answer.at).count();
    if let Some(held) = answer.map(durable_before).filter(|held| *held < NEEDED) {
        violations.push(format!("{}: on {held} disks when its 201 was sent", write.id));
    }
    violations
}

fn acked_by(answer: &Value) -> Vec<String> {
    let peers = field(answer, "/quorum/peers").as_object().unwrap();
    let acked = peers.iter().filter(|(_, outcome)| *outcome == "applied");
    acked.map(|(name, _)| name.clone()).collect()
}

/// The command that traces what is named after it. The traced process keeps the id of the script.
fn strace(dir: &Path) -> String {
    let calls = "fdatasync,fsync,pwrite64,write,writev,sendto,sendmsg";
    format!("strace -f -D -y -xx -ttt -T -s 1000000 -e trace={calls} -o '{}/trace.'$$", dir.display())
}

/// Stops the nodes and reads their traces to the end.
async fn ended(mesh: &mut Mesh, dir: &Path) -> Vec<Trace> {
    let mut traces = Vec::new();
    for index in 0..mesh.nodes().len() {
        let process = mesh.node(index).unwrap().process().unwrap().id();
        let path: PathBuf = dir.join(format!("trace.{process}"));
        mesh.terminate(index, WITHIN).await.unwrap();
        let text = until(WITHIN, "the trace ends", async || {
            let text = fs::read_to_string(&path).unwrap();
            let is_end =
                |line: &&str| line.starts_with(&format!("{process} ")) && line.contains("+++ exited");
            let is_whole = text.lines().rev().take(1_000).any(|line| is_end(&line));
            is_whole.then_some(text)
        });
        traces.push(Trace::parse(&text.await));
    }
    traces
}

fn is_strace_here() -> bool {
    Command::new("strace").arg("-V").output().is_ok_and(|output| output.status.success())
}

#[test]
fn an_answer_or_an_ack_in_front_of_its_sync_is_found() {
    let hash = OpHash([0x68; 32]);
    let write = Written {
        id: "order-0000".to_owned(),
        dot: "node-1/00000000000000ab/1".parse::<federation_wire::api::DotText>().unwrap().0,
        acked_by: vec!["node-2".to_owned()],
        hash: Some(hash),
    };
    let put = r#"pwrite64(3</log-1.seg>, "order-0000", 1, 0) = 10 <0.000001>"#;
    let sync = "fdatasync(3</log-1.seg>) = 0 <0.000001>";
    let failed = "fdatasync(3</log-1.seg>) = -1 EIO (x) <0.000001>";
    let other = "fdatasync(3</log-2.seg>) = 0 <0.000001>";
    let push = r#"sendto(4<so>, "order-0000", 1, 0) = 10 <0.000001>"#;
    let answer = r#"sendto(5<so>, "HTTP/1.1 201 order-0000", 1, 0) = 10 <0.000001>"#;
    let ack = format!(r#"sendto(4<so>, "{}", 1, 0) = 32 <0.000001>"#, "h".repeat(32));
    let ack = ack.as_str();
    let cases: [(&str, &[&str], &[&str], usize); 8] = [
        ("in order", &[put, sync, push, answer], &[put, sync, ack], 0),
        ("201 first", &[put, push, answer, sync], &[put, sync, ack], 3),
        ("pushed first", &[put, push, sync, answer], &[put, sync, ack], 1),
        ("no sync", &[put, push, answer], &[put, sync, ack], 3),
        ("a sync that failed", &[put, failed, push, answer], &[put, sync, ack], 3),
        ("a sync of another file", &[put, other, push, answer], &[put, sync, ack], 3),
        ("a sync before the write", &[sync, put, push, answer], &[put, sync, ack], 3),
        ("acked first", &[put, sync, push, answer], &[put, ack, sync], 1),
    ];
    for (name, coordinator, peer, expected) in cases {
        // The peer's clock is the same, and all it does is before what the coordinator does next.
        let traces = [trace(coordinator, 200), trace(peer, 100)];
        let names = ["node-1".to_owned(), "node-2".to_owned()];
        let violations = check(&write, &names, &traces, &mut 0);
        assert_eq!(violations.len(), expected, "{name}: {violations:#?}");
    }
}

/// These calls as strace writes them, one per second from `from` on.
#[cfg(test)]
fn trace(calls: &[&str], from: usize) -> Trace {
    let hex = |text: &str| text.bytes().map(|byte| format!("\\x{byte:02x}")).collect::<Vec<_>>().concat();
    let quoted = |part: (usize, &str)| {
        if part.0 % 2 == 1 { format!("\"{}\"", hex(part.1)) } else { part.1.to_owned() }
    };
    let line = |(number, call): (usize, &&str)| {
        let call: String = call.split('"').enumerate().map(quoted).collect();
        let (name, rest) = call.split_once('<').unwrap();
        let (file, rest) = rest.split_once('>').unwrap();
        format!("7 {}.0 {name}<{}>{rest}\n", from + number, hex(file))
    };
    Trace::parse(&calls.iter().enumerate().map(line).collect::<String>())
}
