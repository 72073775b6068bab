//! Concurrent writes of real nodes, and what a client makes of them: conflicts, causal tokens, resolution.

use std::path::Path;

use federation_daemon::supervisor::{Answer, Client, Mesh};
use serde_json::{Value, json};

use crate::support::{WITHIN, equal_within, expect, field, mesh, url};

const HEADER: &str = "x-causal-token";

/// Two nodes, each of which takes writes alone.
struct Pair {
    mesh: Mesh,
    client: Client,
    urls: [String; 2],
}

impl Pair {
    async fn start(dir: &Path) -> Self {
        let args = ["--quorum-writes", "1", "--quorum-timeout-ms", "400", "--catchup-interval-secs", "0"];
        let mesh = mesh(dir, 2, &args).await;
        let (client, urls) = (mesh.client().clone(), [url(&mesh, 0), url(&mesh, 1)]);
        Self { mesh, client, urls }
    }

    async fn ask(&self, node: usize, method: &str, path: &str, body: Value, token: Option<&str>) -> Answer {
        let url = format!("{}/api/v1/{path}", self.urls[node]);
        let headers: Vec<_> = token.map(|token| (HEADER, token)).into_iter().collect();
        let body = (!body.is_null()).then(|| ("application/json", body.to_string().into()));
        self.client.send_with(method.parse().unwrap(), &url, &headers, body).await.unwrap()
    }

    async fn get(&self, node: usize, path: &str, token: Option<&str>) -> Answer {
        self.ask(node, "GET", path, Value::Null, token).await
    }

    async fn put(&self, node: usize, id: &str, title: &str, token: &str) -> Answer {
        self.ask(node, "PUT", &format!("memories/{id}"), json!({ "title": title }), Some(token)).await
    }

    async fn create(&self, node: usize, id: &str) -> String {
        let memory = json!({ "id": id, "namespace": "team", "title": "first", "content": "c" });
        token_of(&self.ask(node, "POST", "memories", memory, Some("new")).await, 201)
    }

    /// Nothing is known at the one of what the other does from here on.
    async fn alone(&mut self, node: usize) {
        self.mesh.kill(1 - node).await.unwrap();
        if self.mesh.node(node).unwrap().process().is_err() {
            self.mesh.start(node).unwrap();
            self.mesh.ready(node, WITHIN).await.unwrap();
        }
    }

    async fn together(&mut self, node: usize) {
        self.mesh.start(node).unwrap();
        self.mesh.ready(node, WITHIN).await.unwrap();
        equal_within(&self.client, &self.urls, WITHIN).await;
    }

    async fn conflicts(&self, node: usize, query: &str) -> Vec<Value> {
        let page = expect(&self.get(node, &format!("conflicts{query}"), None).await, 200);
        field(&page, "/conflicts").as_array().unwrap().clone()
    }
}

fn token_of(answer: &Answer, status: u16) -> String {
    expect(answer, status);
    answer.headers.get(HEADER).expect("a token").to_str().unwrap().to_owned()
}

fn slug(answer: &Answer, status: u16) -> String {
    field(&expect(answer, status), "/error").as_str().unwrap().to_owned()
}

#[tokio::test]
async fn concurrent_writes_are_shown_and_one_takes_the_place_of_all_that_its_writer_had_seen() {
    let dir = tempfile::tempdir().unwrap();
    let mut pair = Pair::start(dir.path()).await;
    let first = pair.create(0, "m").await;
    let second = pair.create(0, "gone").await;
    let third = pair.create(0, "twice-gone").await;
    equal_within(&pair.client, &pair.urls, WITHIN).await;
    let read = pair.get(1, "memories/m", Some(&first)).await;
    assert_eq!(field(&expect(&read, 200), "/conflict"), &Value::Null);
    assert_eq!(pair.get(1, "memories/m", None).await.headers.get(HEADER), None, "nobody asked");

    pair.alone(0).await;
    let of_0 = token_of(&pair.put(0, "m", "of 0", &first).await, 200);
    assert_eq!(slug(&pair.put(0, "m", "again", &first).await, 409), "changed", "it has been replaced");
    token_of(&pair.put(0, "gone", "changed", &second).await, 200);
    expect(&pair.ask(0, "DELETE", "memories/twice-gone", Value::Null, Some(&third)).await, 200);
    pair.alone(1).await;
    expect(&pair.ask(1, "DELETE", "memories/twice-gone", Value::Null, Some(&third)).await, 200);
    let of_1 = token_of(&pair.put(1, "m", "of 1", &first).await, 200);
    expect(&pair.ask(1, "DELETE", "memories/gone", Value::Null, Some(&second)).await, 200);
    pair.together(0).await;

    for node in [0, 1] {
        let read = expect(&pair.get(node, "memories/m", None).await, 200);
        assert_eq!((field(&read, "/title"), field(&read, "/conflict")), (&json!("of 1"), &json!(true)));
        let read = expect(&pair.get(node, "memories/gone", None).await, 200);
        assert_eq!(field(&read, "/conflict"), &json!(true), "what was changed meanwhile stays visible");
        let found = pair.conflicts(node, "?namespace=team").await;
        assert_eq!(found.len(), 2, "two deletes say the same: {found:?}");
        expect(&pair.get(node, "memories/twice-gone", None).await, 410);
        assert_eq!(pair.conflicts(node, "").await, found);
        assert_eq!(pair.conflicts(node, "?namespace=other").await, Vec::<Value>::new());
        let deleted = [0, 1].map(|at| found[0]["versions"][at]["deleted"].clone());
        assert_eq!((&found[0]["id"], deleted.contains(&json!(true))), (&json!("gone"), true), "{found:?}");
    }
    let page = expect(&pair.get(0, "conflicts?limit=1", None).await, 200);
    let cursor = field(&page, "/next_cursor").as_str().unwrap().to_owned();
    assert_eq!(pair.conflicts(0, &format!("?limit=1&cursor={cursor}")).await[0]["id"], "m");

    // One who had seen only the one version leaves the other as it is.
    let late = token_of(&pair.put(1, "m", "of 0, later", &of_0).await, 200);
    let shown = expect(&pair.get(1, "conflicts/m", None).await, 200);
    assert_eq!(field(&shown, "/versions").as_array().unwrap().len(), 2, "{shown}");
    let both = field(&shown, "/token").as_str().unwrap();
    let kept = field(&shown, "/versions").as_array().unwrap().iter().find(|one| one["visible"] == false);
    let resolve = async |body: Value, token: Option<&str>| {
        pair.ask(1, "POST", "conflicts/m/resolve", body, token).await
    };
    let keep = json!({ "keep": kept.unwrap()["dot"] });
    assert_eq!(slug(&resolve(keep.clone(), None).await, 422), "causal_token_required");
    assert_eq!(slug(&resolve(keep.clone(), Some("new")).await, 422), "causal_token_required");
    assert_eq!(slug(&resolve(keep.clone(), Some(&second)).await, 422), "invalid_causal_token");
    assert_eq!(slug(&resolve(keep.clone(), Some(&late)).await, 422), "not_in_token");
    let kept_and_deleted = json!({ "keep": kept.unwrap()["dot"], "delete": true });
    let changed_and_deleted = json!({ "delete": true, "change": { "title": "t" } });
    for body in [kept_and_deleted, changed_and_deleted] {
        assert_eq!(slug(&resolve(body, Some(both)).await, 422), "contradiction");
    }
    let resolved = resolve(keep.clone(), Some(both)).await;
    let after = token_of(&resolved, 200);
    assert_eq!(field(&expect(&resolved, 200), "/title"), "of 1");
    assert_eq!(field(&expect(&resolved, 200), "/conflict"), &Value::Null);
    assert_eq!(slug(&resolve(keep, Some(both)).await, 409), "changed", "it is done already");
    let read = expect(&pair.get(0, "memories/m", Some(&after)).await, 200);
    assert_eq!((field(&read, "/title"), field(&read, "/conflict")), (&json!("of 1"), &Value::Null));
    assert_eq!(slug(&pair.put(0, "m", "late", &of_1).await, 409), "changed");

    let shown = expect(&pair.get(0, "conflicts/gone", None).await, 200);
    let token = field(&shown, "/token").as_str();
    let deleted = pair.ask(0, "POST", "conflicts/gone/resolve", json!({ "delete": true }), token).await;
    let deleted = token_of(&deleted, 200);
    expect(&pair.get(1, "memories/gone", Some(&deleted)).await, 410);
    equal_within(&pair.client, &pair.urls, WITHIN).await;
    assert_eq!(pair.conflicts(0, "").await, Vec::<Value>::new());
    pair.mesh.stop_all(WITHIN).await.unwrap();
}

#[tokio::test]
async fn a_node_that_lacks_what_a_token_names_waits_for_it_and_says_so_in_time() {
    let dir = tempfile::tempdir().unwrap();
    let mut pair = Pair::start(dir.path()).await;
    let first = pair.create(0, "m").await;
    equal_within(&pair.client, &pair.urls, WITHIN).await;
    pair.alone(0).await;
    let written = token_of(&pair.put(0, "m", "new", &first).await, 200);
    pair.alone(1).await;
    let old = expect(&pair.get(1, "memories/m", Some(&first)).await, 200);
    assert_eq!(field(&old, "/title"), "first");
    // A session that has seen the new version gets nothing older, and changes nothing that it has not seen.
    assert_eq!(slug(&pair.get(1, "memories/m", Some(&written)).await, 503), "not_caught_up");
    assert_eq!(slug(&pair.put(1, "m", "t", &written).await, 503), "not_caught_up");
    let gone = pair.ask(1, "DELETE", "memories/m", Value::Null, Some(&written)).await;
    assert_eq!(slug(&gone, 503), "not_caught_up");

    // Of a form that a node gives, and signed by none.
    let at = written.len() - 20;
    let other = if &written[at..=at] == "A" { "B" } else { "A" };
    let forged = format!("{}{other}{}", &written[..at], &written[at + 1..]);
    for bad in [
        forged.as_str(),
        "",
        "x",
        "NEW",
        &written[1..],
        &format!("{written}A"),
        &format!("C{}", &written[1..]),
    ] {
        assert_eq!(slug(&pair.get(1, "memories/m", Some(bad)).await, 422), "invalid_causal_token", "{bad}");
    }
    let memory = json!({ "id": "m2", "namespace": "team", "title": "t", "content": "c" });
    let created = pair.ask(1, "POST", "memories", memory, Some(&first)).await;
    assert_eq!(slug(&created, 422), "invalid_causal_token");
    assert_eq!(slug(&pair.put(1, "other", "t", &first).await, 422), "invalid_causal_token");

    pair.mesh.start(0).unwrap();
    let begun = std::time::Instant::now();
    let read = loop {
        let answer = pair.get(1, "memories/m", Some(&written)).await;
        if answer.status == 200 {
            break expect(&answer, 200);
        }
        assert_eq!(slug(&answer, 503), "not_caught_up");
        assert!(begun.elapsed() < WITHIN);
    };
    assert_eq!(field(&read, "/title"), "new");
    pair.mesh.stop_all(WITHIN).await.unwrap();
}
