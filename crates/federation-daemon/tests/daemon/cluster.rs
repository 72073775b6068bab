//! Three nodes, end to end.

use std::time::Duration;

use federation_daemon::supervisor::{Client, Mesh};
use serde_json::json;

use crate::support::{WITHIN, equal_within, expect, field, mesh, url};

#[tokio::test]
async fn a_node_that_was_killed_comes_back_and_holds_all_it_missed() {
    let dir = tempfile::tempdir().unwrap();
    // Without periodic catch-up: the return of the peer alone must do.
    let mut mesh = mesh(dir.path(), 3, &["--catchup-interval-secs", "0"]).await;
    let client = mesh.client().clone();
    let urls: Vec<_> = (0..3).map(|index| url(&mesh, index)).collect();
    let memories = |index: usize| format!("{}/api/v1/memories", urls[index]);

    let first = json!({
        "id": "first", "namespace": "team/größe", "title": "First", "content": "one", "tags": ["x"],
        "model": "m", "vector": [3.0, 4.0],
    });
    let created = expect(&client.post(&memories(0), &first).await.unwrap(), 201);
    assert_eq!(field(&created, "/quorum/needed"), 2);
    assert!(field(&created, "/quorum/got").as_u64() >= Some(2), "{created}");
    assert_eq!(field(&created, "/author"), "anonymous");
    for id in ["second", "third"] {
        let memory = json!({ "id": id, "namespace": "team", "title": id, "content": "two" });
        expect(&client.post(&memories(1), &memory).await.unwrap(), 201);
    }
    equal_within(&client, &urls, Duration::from_secs(5)).await;
    let read = expect(&client.get(&format!("{}/first?include=embedding", memories(2))).await.unwrap(), 200);
    assert_eq!(field(&read, "/content"), "one");
    assert_eq!(field(&read, "/embedding/dim"), 2);
    let dot = field(&created, "/dot").as_str().unwrap();
    let op = expect(&client.get(&format!("{}/api/v1/ops/{dot}", urls[0])).await.unwrap(), 200);
    assert_eq!(field(&op, "/is_everywhere"), true, "{op}");

    changes_of_different_fields_all_hold(&client, &memories(0)).await;

    mesh.kill(2).await.unwrap();
    let updated =
        client.put(&format!("{}/first", memories(1)), &json!({ "content": "changed" })).await.unwrap();
    let updated = expect(&updated, 200);
    assert_eq!(field(&updated, "/title"), "First", "what is not given stays");
    let deleted = expect(&client.delete(&format!("{}/second", memories(0))).await.unwrap(), 200);
    let peers = field(&deleted, "/quorum/peers");
    assert_eq!(field(peers, "/node-2"), "applied", "{peers}");

    mesh.start(2).unwrap();
    mesh.ready(2, WITHIN).await.unwrap();
    equal_within(&client, &urls, Duration::from_secs(10)).await;
    let read = expect(&client.get(&format!("{}/first", memories(2))).await.unwrap(), 200);
    assert_eq!(field(&read, "/content"), "changed");
    expect(&client.get(&format!("{}/second", memories(2))).await.unwrap(), 410);

    listing_by_pages(&client, &memories(2)).await;
    nobody_left(&mut mesh, &memories(0)).await;
    mesh.stop_all(WITHIN).await.unwrap();
}

/// Six clients at once, each with a field of its own: an update is put on what is visible when it is written.
async fn changes_of_different_fields_all_hold(client: &Client, memories: &str) {
    let changes = [
        json!({ "title": "new" }),
        json!({ "priority": 9 }),
        json!({ "confidence": 0.5 }),
        json!({ "source": "test" }),
        json!({ "tier": "long" }),
        json!({ "tags": ["y"] }),
    ];
    let mut tasks = tokio::task::JoinSet::new();
    for change in changes.clone() {
        let (client, url) = (client.clone(), format!("{memories}/third"));
        tasks.spawn(async move { client.put(&url, &change).await.unwrap() });
    }
    for answer in tasks.join_all().await {
        expect(&answer, 200);
    }
    let found = expect(&client.get(&format!("{memories}/third")).await.unwrap(), 200);
    for (name, value) in changes.iter().flat_map(|change| change.as_object().unwrap()) {
        assert_eq!(&found[name], value, "{found}");
    }
}

async fn listing_by_pages(client: &Client, memories: &str) {
    let page = expect(&client.get(&format!("{memories}?limit=1")).await.unwrap(), 200);
    let cursor = field(&page, "/next_cursor").as_str().expect("there is more");
    let rest = expect(&client.get(&format!("{memories}?cursor={cursor}")).await.unwrap(), 200);
    let id = |page: &serde_json::Value, at: &str| field(page, at).as_str().map(str::to_owned);
    assert_eq!(id(&page, "/memories/0/id").as_deref(), Some("third"), "key order: team before team/größe");
    assert_eq!(id(&rest, "/memories/0/id").as_deref(), Some("first"));
    assert_eq!(field(&rest, "/next_cursor"), &serde_json::Value::Null);
    let tagged = expect(&client.get(&format!("{memories}?tag=x")).await.unwrap(), 200);
    assert_eq!(field(&tagged, "/memories").as_array().map(Vec::len), Some(1));
}

/// With both peers gone a write is a 503 of the documented shape, at once, and stays where it was made.
async fn nobody_left(mesh: &mut Mesh, memories: &str) {
    mesh.kill(1).await.unwrap();
    mesh.kill(2).await.unwrap();
    let client = mesh.client().clone();
    let memory = json!({ "id": "alone", "namespace": "team", "title": "t", "content": "c" });
    let answer = client.post(memories, &memory).await.unwrap();
    assert!(answer.headers.contains_key("retry-after"));
    let body = expect(&answer, 503);
    assert_eq!(field(&body, "/error"), "quorum_not_met");
    assert_eq!((field(&body, "/got"), field(&body, "/needed")), (&json!(1), &json!(2)));
    assert_eq!(field(&body, "/reason"), "unreachable", "{body}");
    assert_eq!(field(&body, "/durable"), "local");
    let keys: Vec<_> = body.as_object().unwrap().keys().cloned().collect();
    assert_eq!(keys, ["dot", "durable", "error", "got", "id", "needed", "peers", "reason"]);
    expect(&client.get(&format!("{memories}/alone")).await.unwrap(), 200);
    let metrics = client.get(&memories.replace("/api/v1/memories", "/metrics")).await.unwrap().text();
    for line in [
        "federation_write_outcomes_total{outcome=\"unreachable\"} 1",
        "federation_peer_up{peer=\"node-2\"} 0",
        "# TYPE federation_store_sync_seconds histogram",
        "federation_store_sync_seconds_bucket{le=\"+Inf\"}",
        "# EOF",
    ] {
        assert!(metrics.contains(line), "{line} in:\n{metrics}");
    }
}
