//! Vectors of several spaces, by every way in.

use std::time::Duration;

use federation_daemon::supervisor::Client;
use serde_json::{Value, json};

use crate::support::{WITHIN, equal_within, expect, federationd, field, mesh, stderr, url};

#[tokio::test]
async fn a_vector_of_another_space_is_kept_with_its_record_and_enters_no_index() {
    let dir = tempfile::tempdir().unwrap();
    let mut mesh = mesh(dir.path(), 2, &["--embedding-model", "m", "--embedding-dim", "2"]).await;
    let client = mesh.client().clone();
    let urls: Vec<_> = (0..2).map(|index| url(&mesh, index)).collect();
    let write = async |id: &str, model: &str, vector: Value| {
        let memory = json!({
            "id": id, "namespace": "team", "title": id, "content": "c", "model": model, "vector": vector,
        });
        expect(&client.post(&format!("{}/api/v1/memories", urls[0]), &memory).await.unwrap(), 201);
    };
    write("own", "m", json!([3.0, 4.0])).await;
    write("other-model", "n", json!([1.0, 0.0])).await;
    mesh.kill(1).await.unwrap();
    // What comes to node 1 by catch-up goes the same way as what was pushed to it live.
    let lone = json!({
        "id": "other-dim", "namespace": "team", "title": "t", "content": "c", "model": "m", "vector": [1, 0, 0],
    });
    expect(&client.post(&format!("{}/api/v1/memories", urls[0]), &lone).await.unwrap(), 503);
    mesh.start(1).unwrap();
    mesh.ready(1, WITHIN).await.unwrap();
    equal_within(&client, &urls, Duration::from_secs(10)).await;

    for base in &urls {
        let own = shown(&client, base, "own").await;
        assert_eq!(
            (field(&own, "/indexed"), field(&own, "/normalisation")),
            (&json!(true), &json!("unit_l2_scaled"))
        );
        let other = shown(&client, base, "other-model").await;
        assert_eq!(
            (field(&other, "/indexed"), field(&other, "/normalisation")),
            (&json!(false), &json!("unit_l2"))
        );
        assert_eq!(field(&other, "/model"), "n");
        assert_eq!(field(&shown(&client, base, "other-dim").await, "/indexed"), false);
    }
    assert!(metric(&client, &urls[0], "federation_store_vectors_other_space_total 2").await);
    assert!(metric(&client, &urls[0], "federation_store_vectors_indexed_total 1").await);
    // Since its start, node 1 has taken the one by catch-up.
    assert!(metric(&client, &urls[1], "federation_store_vectors_other_space_total 1").await);
    mesh.stop_all(WITHIN).await.unwrap();
}

#[test]
fn half_a_space_is_no_setting() {
    let dir = tempfile::tempdir().unwrap();
    let said = |args: &[&str]| {
        let data_dir = dir.path().join("data");
        let output = federationd(&[&["serve", "--data-dir", data_dir.to_str().unwrap()], args].concat());
        assert!(!output.status.success());
        stderr(&output)
    };
    let check = |args: &[&str], expect: &str| assert!(said(args).contains(expect), "{}", said(args));
    check(&["--embedding-model", "m"], "embedding_model is set and embedding_dim is not");
    check(&["--embedding-dim", "2"], "embedding_dim is set and embedding_model is not");
    check(&["--embedding-model", "m", "--embedding-dim", "0"], "embedding_dim: 0 is not possible");
    check(&["--embedding-model", "", "--embedding-dim", "2"], "embedding_model: takes 0 bytes");
}

async fn shown(client: &Client, base: &str, id: &str) -> Value {
    let url = format!("{base}/api/v1/memories/{id}?include=embedding");
    field(&expect(&client.get(&url).await.unwrap(), 200), "/embedding").clone()
}

async fn metric(client: &Client, base: &str, line: &str) -> bool {
    client.get(&format!("{base}/metrics")).await.unwrap().text().lines().any(|found| found == line)
}
