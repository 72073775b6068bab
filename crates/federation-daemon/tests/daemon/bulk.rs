//! Bulk writes: each row on its own, bad ones beside good ones.

use hyper::Method;
use serde_json::{Value, json};

use crate::support::{expect, field, mesh, url};

#[tokio::test]
async fn bad_rows_do_not_stop_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let mesh = mesh(dir.path(), 1, &[]).await;
    let (client, base) = (mesh.client().clone(), url(&mesh, 0));
    let bulk = format!("{base}/api/v1/memories/bulk");
    let row = |id: &str| json!({ "id": id, "namespace": "bulk", "title": id, "content": "c" }).to_string();
    let lines = [
        row("a"),
        "{\"title\":".to_owned(),
        String::new(),
        row("b"),
        row("a"),
        "x".repeat(1_100_000),
        json!({ "namespace": "bulk", "title": "", "content": "c" }).to_string(),
        row("c"),
    ];
    let body = Some(("application/x-ndjson", lines.join("\n").into()));
    let answer = client.send(Method::POST, &bulk, body).await.unwrap();
    assert_eq!(answer.status, 200);
    let outcomes: Vec<_> = answer.json_lines().unwrap().iter().map(summary).collect();
    let expected = [
        (0, 201, Value::Null),
        (1, 400, json!("malformed_json")),
        (2, 201, Value::Null),
        (3, 409, json!("already_exists")),
        (4, 413, json!("too_large")),
        (5, 422, json!("empty")),
        (6, 201, Value::Null),
    ];
    assert_eq!(outcomes, expected);

    let array = format!("[{}, 7, {}]", row("d"), row("e"));
    let body = Some(("application/json", array.into()));
    let answer = client.send(Method::POST, &bulk, body).await.unwrap();
    let outcomes: Vec<_> = answer.json_lines().unwrap().iter().map(summary).collect();
    assert_eq!(outcomes, [(0, 201, Value::Null), (1, 422, json!("invalid_body")), (2, 201, Value::Null)]);

    let list = expect(&client.get(&format!("{base}/api/v1/memories?namespace=bulk")).await.unwrap(), 200);
    let ids: Vec<_> = field(&list, "/memories").as_array().unwrap().iter().map(|m| m["id"].clone()).collect();
    assert_eq!(ids, ["a", "b", "c", "d", "e"]);
}

/// Row, status and slug of an outcome.
fn summary(outcome: &Value) -> (u64, u64, Value) {
    let number = |name: &str| field(outcome, name).as_u64().unwrap();
    (number("/row"), number("/status"), field(outcome, "/error/error").clone())
}
