//! A node that was away for thousands of writes.

use std::time::{Duration, Instant};

use federation_daemon::supervisor::{Client, Mesh};
use hyper::Method;
use serde_json::json;
use tokio::task::JoinSet;

use crate::support::{WITHIN, alone, equal_within, expect, field, started, urls};
use crate::traffic::patient;

/// Written while it is away.
const WRITES: usize = 5_000;
/// Of what it has, and of what it does not have.
const DELETES: usize = 250;
/// From the start of its process.
const EQUAL_WITHIN: Duration = Duration::from_secs(10);
const DELETES_AT_ONCE: usize = 16;

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_away_is_equal_soon_after_its_return() {
    returns("periodic", &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_away_is_equal_without_periodic_catch_up() {
    returns("none", &["--catchup-interval-secs", "0"]).await;
}

async fn returns(catch_up: &str, args: &[&str]) {
    let _alone = alone().await;
    let dir = tempfile::tempdir().unwrap();
    let mut mesh = started(dir.path(), args).await;
    let client = patient();
    let urls = urls(&mesh);
    load(&client, &urls[0], "before", 2 * DELETES).await;
    equal_within(&client, &urls, WITHIN).await;

    mesh.kill(2).await.unwrap();
    load(&client, &urls[1], "away", WRITES).await;
    delete(&client, &urls[..2], "before").await;
    delete(&client, &urls[..2], "away").await;
    let took = back(&mut mesh, &client, &urls).await;
    println!("catch-up {catch_up}: equal {} ms after the start of its process", took.as_millis());
    assert!(took < EQUAL_WITHIN, "equal only after {took:?}");

    for (id, status) in [("before-0", 410), ("before-499", 200), ("away-0", 410), ("away-4999", 200)] {
        expect(&client.get(&format!("{}/api/v1/memories/{id}", urls[2])).await.unwrap(), status);
    }
}

/// Starts the node that was away and measures the time until all three are equal.
async fn back(mesh: &mut Mesh, client: &Client, urls: &[String]) -> Duration {
    let begun = Instant::now();
    mesh.start(2).unwrap();
    mesh.ready(2, WITHIN).await.unwrap();
    let records = equal_within(client, urls, WITHIN).await;
    assert_eq!(records, (WRITES + 2 * DELETES - 2 * DELETES) as u64);
    begun.elapsed()
}

/// Writes `count` memories in one bulk request.
async fn load(client: &Client, url: &str, name: &str, count: usize) {
    let row = |number: usize| {
        let content = format!("{name} number {number}, as long as a short remark usually is");
        json!({ "id": format!("{name}-{number}"), "namespace": "away", "title": name, "content": content })
    };
    let rows = (0..count).map(|number| row(number).to_string()).collect::<Vec<_>>().join("\n");
    let body = Some(("application/x-ndjson", rows.into()));
    let answer = client.send(Method::POST, &format!("{url}/api/v1/memories/bulk"), body).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    let outcomes = answer.json_lines().unwrap();
    assert_eq!(outcomes.len(), count);
    assert_eq!(outcomes.iter().find(|row| field(row, "/status") != 201), None);
}

/// Deletes the first [`DELETES`] memories of that name.
async fn delete(client: &Client, urls: &[String], name: &str) {
    let mut under_way = JoinSet::new();
    for (number, url) in (0..DELETES).zip(urls.iter().cycle()) {
        if under_way.len() == DELETES_AT_ONCE {
            under_way.join_next().await.unwrap().unwrap();
        }
        let (client, url) = (client.clone(), format!("{url}/api/v1/memories/{name}-{number}"));
        under_way.spawn(async move { expect(&client.delete(&url).await.unwrap(), 200) });
    }
    while let Some(deleted) = under_way.join_next().await {
        deleted.unwrap();
    }
}
