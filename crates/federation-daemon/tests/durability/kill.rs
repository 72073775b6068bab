//! `kill -9`: of all nodes at once, and of a writer whose peers have not answered.

use std::time::Duration;

use federation_daemon::supervisor::{Client, Mesh};
use serde_json::json;
use tokio::task::JoinSet;

use crate::poll::until;
use crate::support::{
    WITHIN, alone, drawn, equal_within, expect, field, kill_all, lost, prepared, program, started, stores,
    urls,
};
use crate::traffic::{Traffic, patient};

const ROUNDS: usize = 4;
const CLIENTS: usize = 16;
/// Acknowledged writes after which the nodes are killed.
const ACKS_BEFORE: std::ops::Range<usize> = 50..400;
/// W of three nodes by default.
const NEEDED: usize = 2;

#[tokio::test(flavor = "multi_thread")]
async fn all_killed_at_once_keep_each_acknowledged_write_in_w_stores() {
    let _alone = alone().await;
    let dir = tempfile::tempdir().unwrap();
    rounds_of_kills(prepared(dir.path(), program(), &[])).await;
}

/// What the processes have written outlives them without any sync: this fault says nothing about the power cut's.
#[cfg(feature = "planted-bugs")]
#[tokio::test(flavor = "multi_thread")]
async fn kill_alone_does_not_find_a_missing_sync() {
    let _alone = alone().await;
    let dir = tempfile::tempdir().unwrap();
    let lazy = crate::support::program_behind(dir.path(), "FEDERATION_PLANTED_BUG=lazy-fsync exec");
    rounds_of_kills(prepared(&dir.path().join("mesh"), lazy, &[])).await;
}

async fn rounds_of_kills(mut mesh: Mesh) {
    mesh.start_all(WITHIN).await.unwrap();
    let (client, urls) = (mesh.client().clone(), urls(&mesh));
    let mut histories = Vec::new();
    for round in 0..ROUNDS {
        let traffic = Traffic::start(&client, &urls, CLIENTS, &format!("round-{round}"));
        let enough = drawn(ACKS_BEFORE);
        traffic.acked(enough).await;
        kill_all(&mut mesh).await;
        let history = traffic.finish().await;
        println!("round {round}: killed after {enough}, {} acknowledged", history.acked.len());
        assert_eq!(history.ended.len(), CLIENTS, "every client was cut off: {:?}", history.ended);

        let found = lost(&stores(&mesh), &history.acked, NEEDED);
        assert!(found.is_empty(), "in too few stores: {found:?}");
        histories.push(history);
        mesh.start_all(WITHIN).await.unwrap();
    }
    equal_within(&client, &urls, WITHIN).await;
    for (history, url) in histories.iter().zip(urls.iter().cycle()) {
        assert_eq!(history.broken(&client, url).await, Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_writer_had_committed_when_it_was_killed_reaches_all_nodes() {
    let _alone = alone().await;
    let dir = tempfile::tempdir().unwrap();
    // Longer than the test: no write is answered by the deadline.
    let mut mesh = started(dir.path(), &["--quorum-timeout-ms", "60000"]).await;
    let client = patient();
    let urls = urls(&mesh);

    // The peers hang: the calls are cut off by the kill.
    for peer in [1, 2] {
        mesh.node(peer).unwrap().process().unwrap().pause().unwrap();
    }
    let cut = unanswered(&client, &urls[0], "cut", 30).await;
    mesh.kill(0).await.unwrap();
    for answer in cut.join_all().await {
        assert!(answer.is_err(), "no quorum can have been met: {answer:?}");
    }
    for peer in [1, 2] {
        mesh.node(peer).unwrap().process().unwrap().resume().unwrap();
    }
    restart(&mut mesh, &[0]).await;
    everywhere(&client, &urls, "cut", 30).await;

    // The peers are gone: the calls are answered with 503, and nobody else can have the ops.
    for peer in [1, 2] {
        mesh.kill(peer).await.unwrap();
    }
    for number in 0..30 {
        let answer = client.post(&memories(&urls[0]), &memory("refused", number)).await.unwrap();
        assert_eq!(field(&expect(&answer, 503), "/durable"), "local");
    }
    mesh.kill(0).await.unwrap();
    restart(&mut mesh, &[1, 2]).await;
    for number in 0..30 {
        for url in &urls[1..] {
            expect(&client.get(&format!("{}/refused-{number}", memories(url))).await.unwrap(), 404);
        }
    }
    restart(&mut mesh, &[0]).await;
    everywhere(&client, &urls, "refused", 30).await;
    assert_eq!(equal_within(&client, &urls, WITHIN).await, 60);
}

/// Writes that are under way, each with the status of its answer, or why there was none.
type Calls = JoinSet<Result<u16, String>>;

/// Sends so many writes and returns once the node has committed all of them.
async fn unanswered(client: &Client, url: &str, name: &str, count: usize) -> Calls {
    let mut calls = Calls::new();
    for number in 0..count {
        let (client, url, memory) = (client.clone(), memories(url), memory(name, number));
        calls.spawn(async move {
            let answer = client.post(&url, &memory).await.map_err(|error| error.to_string())?;
            Ok(answer.status)
        });
    }
    everywhere(client, &[url.to_owned()], name, count).await;
    calls
}

/// Waits until all of `urls` have each of these memories.
async fn everywhere(client: &Client, urls: &[String], name: &str, count: usize) {
    for url in urls {
        for number in 0..count {
            let memory = format!("{}/{name}-{number}", memories(url));
            until(Duration::from_secs(10), &memory, async || {
                (client.get(&memory).await.unwrap().status == 200).then_some(())
            })
            .await;
        }
    }
}

async fn restart(mesh: &mut Mesh, nodes: &[usize]) {
    for node in nodes {
        mesh.start(*node).unwrap();
    }
    for node in nodes {
        mesh.ready(*node, WITHIN).await.unwrap();
    }
}

fn memories(url: &str) -> String {
    format!("{url}/api/v1/memories")
}

fn memory(name: &str, number: usize) -> serde_json::Value {
    json!({ "id": format!("{name}-{number}"), "namespace": "kill", "title": name, "content": format!("{number}") })
}
