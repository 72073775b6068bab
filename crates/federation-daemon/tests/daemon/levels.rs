//! How many nodes must hold a write: by namespace, and by what the request asks.

use federation_daemon::supervisor::{Answer, Client};
use serde_json::{Value, json};

use crate::support::{WITHIN, expect, federationd, field, mesh, stderr, url};

/// Writes in a namespace, asking for this level.
async fn write(client: &Client, url: &str, namespace: &str, level: Option<&str>) -> Answer {
    let headers: Vec<_> = level.map(|level| ("x-quorum-writes", level)).into_iter().collect();
    let memory = json!({ "namespace": namespace, "title": "t", "content": "c" }).to_string();
    let body = Some(("application/json", memory.into()));
    let url = format!("{url}/api/v1/memories");
    client.send_with("POST".parse().unwrap(), &url, &headers, body).await.unwrap()
}

#[tokio::test]
async fn a_write_is_on_as_many_nodes_as_its_namespace_needs_and_its_request_asks_if_that_is_more() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["--quorum-writes", "1", "--quorum-writes-in", "team/**=all,team/x=one,pair=2"];
    let mut mesh = mesh(dir.path(), 3, &args).await;
    let (client, node) = (mesh.client().clone(), url(&mesh, 0));
    for (namespace, level, needed) in [
        ("alone", None, 1),
        ("pair", None, 2),
        ("team", None, 3),
        ("team/x", None, 3),
        ("alone", Some("all"), 3),
        ("alone", Some("2"), 2),
        ("alone", Some("majority"), 2),
        ("pair", Some("all"), 3),
        // Never lowered.
        ("team", Some("one"), 3),
        ("pair", Some("1"), 2),
    ] {
        let made = expect(&write(&client, &node, namespace, level).await, 201);
        assert_eq!(field(&made, "/quorum/needed"), needed, "{namespace} at {level:?}");
        assert!(field(&made, "/quorum/got").as_u64() >= Some(needed));
    }
    for level in ["0", "most", "-1", "+2", ""] {
        let refused = expect(&write(&client, &node, "alone", Some(level)).await, 422);
        assert_eq!(field(&refused, "/error"), "invalid_header", "{level}");
    }
    let refused = expect(&write(&client, &node, "alone", Some("4")).await, 503);
    assert_eq!(field(&refused, "/error"), "insufficient_peers");
    assert_eq!((field(&refused, "/needed"), field(&refused, "/n")), (&json!(4), &json!(3)));

    mesh.kill(2).await.unwrap();
    expect(&write(&client, &node, "alone", None).await, 201);
    expect(&write(&client, &node, "pair", None).await, 201);
    for (namespace, level) in [("team", None), ("alone", Some("all"))] {
        let not_met = expect(&write(&client, &node, namespace, level).await, 503);
        assert_eq!(field(&not_met, "/error"), "quorum_not_met");
        // It is certain as soon as one is out, whether the other has answered by then or not.
        assert!(field(&not_met, "/got").as_u64() < Some(3), "{not_met}");
        assert_eq!(field(&not_met, "/needed"), 3);
    }
    let rows = json!([{ "namespace": "alone", "title": "t", "content": "c" }]).to_string();
    let bulk = format!("{node}/api/v1/memories/bulk");
    let body = Some(("application/json", rows.into()));
    let headers = [("x-quorum-writes", "all")];
    let answer = client.send_with("POST".parse().unwrap(), &bulk, &headers, body).await.unwrap();
    let row: Value = answer.json_lines().unwrap().remove(0);
    assert_eq!((field(&row, "/status"), field(&row, "/error/needed")), (&json!(503), &json!(3)), "{row}");
    mesh.stop_all(WITHIN).await.unwrap();
}

#[test]
fn levels_that_are_none_or_that_no_mesh_of_this_size_can_give_are_told_with_their_setting() {
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("k");
    assert!(federationd(&["keygen", "--key-file", key.to_str().unwrap()]).status.success());
    let check = ["config", "check", "--node-id", "n", "--key-file", key.to_str().unwrap()];
    let levels = ["--quorum-writes-in", "team,a=most,../x=one,b=2,c=one"];
    let output = federationd(&[&check[..], &levels[..]].concat());
    let told = stderr(&output);
    assert!(!output.status.success());
    for part in ["\"team\": it is not <glob>=<level>", "\"a=most\"", "\"../x=one\"", "b=2: "] {
        assert!(told.contains(&format!("quorum_writes_in: {part}")), "{part} in {told}");
    }
    assert!(!told.contains("c=one"), "{told}");
}
