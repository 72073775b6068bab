//! Each bad input gets its status and slug in the one shape, and nothing of it is stored.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use federation_daemon::supervisor::{Client, Mesh};
use hyper::Method;
use serde_json::{Value, json};

use crate::support::{expect, field, mesh, url};

/// One bad request, and what it must get.
struct Case {
    what: &'static str,
    method: Method,
    path: String,
    content_type: Option<&'static str>,
    body: String,
    status: u16,
    slug: &'static str,
    /// The field that the answer names.
    field: Option<&'static str>,
}

fn case(what: &'static str, method: Method, path: &str, body: impl Into<String>) -> Case {
    Case {
        what,
        method,
        path: path.to_owned(),
        content_type: Some("application/json"),
        body: body.into(),
        status: 0,
        slug: "",
        field: None,
    }
}

impl Case {
    fn gets(mut self, status: u16, slug: &'static str) -> Self {
        (self.status, self.slug) = (status, slug);
        self
    }

    fn names(mut self, field: &'static str) -> Self {
        self.field = Some(field);
        self
    }

    fn typed(mut self, content_type: Option<&'static str>) -> Self {
        self.content_type = content_type;
        self
    }
}

/// A valid memory with one field replaced.
fn with(field: &str, value: Value) -> String {
    let mut memory = json!({ "namespace": "test", "title": "t", "content": "c" });
    memory[field] = value;
    memory.to_string()
}

const MEMORIES: &str = "/api/v1/memories";

fn bad_bodies() -> Vec<Case> {
    let create = |what, body: String| case(what, Method::POST, MEMORIES, body);
    vec![
        create("no JSON", "{\"title\":".into()).gets(400, "malformed_json"),
        create("nothing", String::new()).gets(400, "malformed_json"),
        create("something behind it", format!("{}x", with("id", json!("x")))).gets(400, "malformed_json"),
        create("bytes that are no UTF-8 escape", r#"{"title":"\ud800"}"#.into()).gets(400, "malformed_json"),
        create("an array", "[]".into()).gets(422, "invalid_body"),
        create("an unknown field", with("colour", json!("red"))).gets(422, "unknown_field").names("colour"),
        create("a missing field", json!({ "title": "t", "content": "c" }).to_string())
            .gets(422, "missing_field")
            .names("namespace"),
        create("a field twice", r#"{"namespace":"a","title":"t","title":"u","content":"c"}"#.into())
            .gets(422, "duplicate_field")
            .names("title"),
        create("a field of another type", with("title", json!(7))).gets(422, "invalid_body"),
        create("no content type", with("id", json!("x"))).typed(None).gets(415, "unsupported_media_type"),
        create("another content type", with("id", json!("x")))
            .typed(Some("text/plain"))
            .gets(415, "unsupported_media_type"),
        create("a body over the limit", with("content", json!("x".repeat(1_100_000)))).gets(413, "too_large"),
    ]
}

fn bad_fields() -> Vec<Case> {
    let create = |what, field: &'static str, value: Value| {
        case(what, Method::POST, MEMORIES, with(field, value)).names(field)
    };
    let deep = (0..40).fold(json!(1), |inner, _| json!({ "d": inner }));
    vec![
        create("an empty title", "title", json!("")).gets(422, "empty"),
        create("a long title", "title", json!("ü".repeat(513))).gets(422, "too_long"),
        create("an empty content", "content", json!(" ")).gets(422, "empty"),
        create("a long content", "content", json!("x".repeat(65_537))).gets(422, "too_long"),
        create("many tags", "tags", json!(vec!["t"; 51])).gets(422, "too_many"),
        create("a long tag", "tags", json!(["t".repeat(129)])).gets(422, "too_long"),
        create("large metadata", "metadata", json!({ "k": "x".repeat(65_536) })).gets(422, "too_long"),
        case("deep metadata", Method::POST, MEMORIES, with("metadata", deep)).gets(422, "invalid_body"),
        create("a bad id", "id", json!("a b")).gets(422, "invalid_id"),
        create("an empty id", "id", json!("")).gets(422, "invalid_id"),
        create("a long id", "id", json!("i".repeat(129))).gets(422, "invalid_id"),
        create("a namespace with dots", "namespace", json!("a/../b")).gets(422, "invalid_namespace"),
        create("an empty namespace", "namespace", json!("")).gets(422, "invalid_namespace"),
        create("a deep namespace", "namespace", json!("a/b/c/d/e/f/g/h/i")).gets(422, "invalid_namespace"),
        create("a long namespace", "namespace", json!("n".repeat(513))).gets(422, "invalid_namespace"),
        create("a namespace not in NFC", "namespace", json!("gro\u{308}ße")).gets(422, "invalid_namespace"),
        create("a bad time", "expires_at", json!("tomorrow")).gets(422, "invalid_time"),
        create("a priority out of range", "priority", json!(11)).gets(422, "out_of_range"),
        create("a confidence out of range", "confidence", json!(1.5)).gets(422, "out_of_range"),
        create("an unknown tier", "tier", json!("huge")).gets(422, "not_allowed"),
        create("a long source", "source", json!("s".repeat(65))).gets(422, "too_long"),
    ]
}

fn bad_vectors() -> Vec<Case> {
    let base64 = |floats: &[f32]| {
        STANDARD.encode(floats.iter().flat_map(|float| float.to_le_bytes()).collect::<Vec<_>>())
    };
    let create = |what, field: &'static str, value: Value, model: Option<&str>| {
        let mut memory = json!({ "namespace": "test", "title": "t", "content": "c" });
        memory[field] = value;
        if let Some(model) = model {
            memory["model"] = json!(model);
        }
        case(what, Method::POST, MEMORIES, memory.to_string()).names(field)
    };
    let model = Some("m");
    vec![
        create("an empty vector", "vector", json!([]), model).gets(422, "vector_empty"),
        create("a zero vector", "vector", json!([0.0, 0.0]), model).gets(422, "vector_zero"),
        create("a vector that is too long", "vector", json!(vec![0.5; 8193]), model)
            .gets(422, "vector_too_long"),
        create("a number beyond f32", "vector", json!([8.2e220, 1.0]), model).gets(422, "vector_not_finite"),
        create("a NaN", "vector_base64", json!(base64(&[f32::NAN, 1.0])), model)
            .gets(422, "vector_not_finite"),
        create("an infinity", "vector_base64", json!(base64(&[f32::INFINITY])), model)
            .gets(422, "vector_not_finite"),
        create("half a number", "vector_base64", json!("AAAA"), model).gets(422, "vector_malformed"),
        create("no base64", "vector_base64", json!("%%%"), model).gets(422, "vector_malformed"),
        create("a vector without its model", "vector", json!([1.0]), None)
            .names("model")
            .gets(422, "vector_model_missing"),
    ]
}

fn bad_requests() -> Vec<Case> {
    let get = |what, path: &str| case(what, Method::GET, path, "").typed(None);
    vec![
        get("a missing memory", "/api/v1/memories/nobody").gets(404, "not_found"),
        get("a bad id in the path", "/api/v1/memories/a%20b").gets(422, "invalid_id"),
        get("no UTF-8 in the path", "/api/v1/memories/%ff").gets(400, "invalid_path"),
        get("a bad namespace in the query", "/api/v1/memories/x?namespace=a%2F..")
            .gets(422, "invalid_namespace"),
        get("an unknown parameter", "/api/v1/memories?colour=red").gets(400, "invalid_query"),
        get("a limit of zero", "/api/v1/memories?limit=0").gets(400, "invalid_query"),
        get("a limit that is too high", "/api/v1/memories?limit=1001").gets(400, "invalid_query"),
        get("a limit that is no number", "/api/v1/memories?limit=x").gets(400, "invalid_query"),
        get("a cursor of our own making", "/api/v1/memories?cursor=abc").gets(400, "invalid_cursor"),
        get("something else to include", "/api/v1/memories/x?include=all").gets(400, "invalid_query"),
        get("a bad dot", "/api/v1/ops/n/1/1").gets(400, "invalid_dot"),
        get("no such route", "/api/v2/memories").gets(404, "no_such_route"),
        get("the peers' route", "/api/v1/sync/push").gets(404, "no_such_route"),
        case("a wrong method", Method::PATCH, "/api/v1/memories/x", "{}").gets(405, "method_not_allowed"),
        case("a change of a missing memory", Method::PUT, "/api/v1/memories/nobody", "{}")
            .gets(404, "not_found"),
        case("an unknown field in a change", Method::PUT, "/api/v1/memories/kept", r#"{"colour":1}"#)
            .gets(422, "unknown_field"),
        case("a change of a deleted memory", Method::PUT, "/api/v1/memories/gone", "{}").gets(410, "deleted"),
        case("a move", Method::PUT, "/api/v1/memories/kept", r#"{"namespace":"elsewhere"}"#)
            .gets(422, "namespace_immutable"),
        case("a long title in a change", Method::PUT, "/api/v1/memories/kept", with_title(&"x".repeat(513)))
            .gets(422, "too_long"),
        case("a delete of a missing memory", Method::DELETE, "/api/v1/memories/nobody", "")
            .gets(404, "not_found"),
        case("a delete of a deleted memory", Method::DELETE, "/api/v1/memories/gone", "")
            .gets(410, "deleted"),
        get("a read of a deleted memory", "/api/v1/memories/gone").gets(410, "deleted"),
        case("an id that exists", Method::POST, MEMORIES, with("id", json!("kept")))
            .gets(409, "already_exists"),
        case("bulk as text", Method::POST, "/api/v1/memories/bulk", "{}")
            .typed(Some("text/plain"))
            .gets(415, "unsupported_media_type"),
        case("bulk that is no array", Method::POST, "/api/v1/memories/bulk", "{}").gets(422, "invalid_body"),
    ]
}

fn with_title(title: &str) -> String {
    json!({ "title": title }).to_string()
}

#[tokio::test]
async fn each_bad_input_gets_its_answer_and_nothing_is_stored() {
    let dir = tempfile::tempdir().unwrap();
    let mesh = mesh(dir.path(), 1, &["--body-timeout-ms", "300"]).await;
    let (client, base) = (mesh.client().clone(), url(&mesh, 0));
    for id in ["kept", "gone"] {
        let memory = json!({ "id": id, "namespace": "test", "title": "t", "content": "before" });
        expect(&client.post(&format!("{base}{MEMORIES}"), &memory).await.unwrap(), 201);
    }
    expect(&client.delete(&format!("{base}{MEMORIES}/gone")).await.unwrap(), 200);
    let before = state(&client, &base).await;

    let cases = [bad_bodies(), bad_fields(), bad_vectors(), bad_requests()];
    for case in cases.into_iter().flatten() {
        check(&client, &base, case).await;
    }
    bad_agent(&mesh);
    slow_body(&mesh);
    announced_too_large(&mesh);

    assert_eq!(state(&client, &base).await, before, "nothing was stored");
    let kept = expect(&client.get(&format!("{base}{MEMORIES}/kept")).await.unwrap(), 200);
    assert_eq!(field(&kept, "/content"), "before");
}

async fn check(client: &Client, base: &str, case: Case) {
    let body = case.content_type.map(|kind| (kind, case.body.clone().into_bytes().into()));
    let body = body.or_else(|| (!case.body.is_empty()).then(|| ("", case.body.clone().into_bytes().into())));
    let answer = client.send(case.method.clone(), &format!("{base}{}", case.path), body).await.unwrap();
    let what = case.what;
    assert_eq!(answer.status, case.status, "{what}: {}", answer.text());
    let found = answer.json().unwrap_or_else(|_| panic!("{what}: {}", answer.text()));
    assert_eq!(field(&found, "/error"), case.slug, "{what}: {found}");
    let message = field(&found, "/message").as_str().unwrap_or("");
    assert!(!message.is_empty(), "{what}: a message for people: {found}");
    if let Some(named) = case.field {
        assert_eq!(field(&found, "/field"), named, "{what}: {found}");
    }
    if case.status == 413 {
        assert_eq!(field(&found, "/limit_bytes"), 1024 * 1024, "{what}");
    }
}

/// Hash, versions and records of all live state.
async fn state(client: &Client, base: &str) -> Value {
    let answer = client.get(&format!("{base}/api/v1/status?hash=true")).await.unwrap();
    field(&expect(&answer, 200), "/state_hash").clone()
}

/// Sends bytes as they are and reads what comes back until the other side closes or `needle` was seen.
fn raw(mesh: &Mesh, bytes: &str, needle: &str) -> String {
    let address = url(mesh, 0).replace("http://", "");
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(bytes.as_bytes()).unwrap();
    let (mut text, mut buffer) = (String::new(), [0; 4096]);
    while !text.contains(needle) {
        match stream.read(&mut buffer) {
            // A child of another test that ends interrupts the read.
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Ok(0) | Err(_) => break,
            Ok(read) => text.push_str(&String::from_utf8_lossy(&buffer[..read])),
        }
    }
    text
}

fn head(more: &str) -> String {
    format!("POST {MEMORIES} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n{more}\r\n")
}

fn bad_agent(mesh: &Mesh) {
    let body = with("id", json!("by-nobody"));
    let request =
        format!("{}{body}", head(&format!("x-agent-id: two words\r\ncontent-length: {}\r\n", body.len())));
    let answer = raw(mesh, &request, "invalid_agent_id");
    assert!(answer.starts_with("HTTP/1.1 422"), "{answer}");
}

fn slow_body(mesh: &Mesh) {
    let answer = raw(mesh, &format!("{}{{\"title\":", head("content-length: 100\r\n")), "slow_body");
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("slow_body"), "{answer}");
}

/// With as many requests under way as may be, the next is refused at once, and the node can still be watched.
#[tokio::test]
async fn an_overloaded_node_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let mesh = mesh(dir.path(), 1, &["--requests-max", "2", "--body-timeout-ms", "5000"]).await;
    let (client, base) = (mesh.client().clone(), url(&mesh, 0));
    let mut slow = Vec::new();
    let begun = std::time::Instant::now();
    loop {
        // One that comes while this client asks is itself refused: so one more each time.
        let mut stream = TcpStream::connect(base.replace("http://", "")).unwrap();
        stream.write_all(head("content-length: 100\r\n").as_bytes()).unwrap();
        slow.push(stream);
        let answer = client.get(&format!("{base}{MEMORIES}")).await.unwrap();
        if answer.status == 503 {
            assert_eq!(field(&answer.json().unwrap(), "/error"), "overloaded");
            assert!(answer.headers.contains_key("retry-after"));
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(4), "never overloaded");
    }
    expect(&client.get(&format!("{base}/readyz")).await.unwrap(), 200);
    drop(slow);
    let begun = std::time::Instant::now();
    while client.get(&format!("{base}{MEMORIES}")).await.unwrap().status != 200 {
        assert!(begun.elapsed() < Duration::from_secs(4), "overloaded for ever");
    }
}

/// A body over the limit is refused from its announced length, without being sent.
fn announced_too_large(mesh: &Mesh) {
    let answer = raw(mesh, &head("content-length: 99999999\r\n"), "too_large");
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
}
