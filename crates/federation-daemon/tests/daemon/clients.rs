//! Clients with tokens: each gets what its token allows, nothing else, and learns nothing else.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use federation_daemon::api::endpoint::{Endpoint, Rule};
use federation_daemon::supervisor::Answer;
use federation_wire::api::token::ClientSecret;
use hyper::Method;
use serde_json::{Value, json};

use crate::secured::Secured;
use crate::support::{expect, field};

const MEMORIES: &str = "/api/v1/memories";
const CONFLICTS: &str = "/api/v1/conflicts";

fn memory(id: &str, namespace: &str) -> Value {
    json!({ "id": id, "namespace": namespace, "title": "t", "content": "before" })
}

fn slug(answer: &Answer) -> (u16, Value) {
    (answer.status, field(&answer.json().unwrap(), "/error").clone())
}

/// The path of a route with something in place of its parameters.
fn path_of(endpoint: Endpoint) -> String {
    let path =
        endpoint.path().replace("{id}", "kept").replace("{node}", "node-1").replace("{peer}", "node-2");
    path.replace("{epoch}", "0000000000000001").replace("{seq}", "1")
}

#[tokio::test]
async fn every_route_but_two_asks_for_a_token_with_its_right() {
    let dir = tempfile::tempdir().unwrap();
    let site = Secured::start(dir.path(), &["--address-requests-per-sec", "1000000"]).await;
    site.create("team", &memory("kept", "team/a"), 201).await;
    let before = site.state().await;
    let unknown = ClientSecret::generate(&mut federation_daemon::random::system_rng()).to_text();
    let bearer = |secret: &str| format!("Bearer {secret}");
    let (other, expired) = (bearer(&unknown), bearer(site.secret("expired")));
    let (team, key) = (bearer(site.secret("team")), site.secret("other"));
    let strangers: [&[(&str, &str)]; 8] = [
        &[],
        &[("authorization", &other)],
        &[("x-api-key", &unknown)],
        &[("authorization", &expired)],
        &[("authorization", "Basic YTpi")],
        &[("authorization", "Bearer ")],
        &[("authorization", &team), ("x-api-key", key)],
        &[("authorization", &team), ("authorization", &team)],
    ];
    let body = json!({ "id": "new", "namespace": "team/a", "title": "after", "content": "after" });
    let mut answers = Vec::new();
    for endpoint in Endpoint::ALL {
        let (name, path, method) = (endpoint.name(), path_of(*endpoint), endpoint.method());
        let body = (method == Method::POST || method == Method::PUT).then_some(&body);
        if endpoint.rule() == Rule::Open {
            assert_eq!(site.raw(method, &path, &[], None).await.status, 200, "{name}");
            continue;
        }
        for stranger in strangers {
            let answer = site.raw(method.clone(), &path, stranger, body).await;
            assert_eq!(slug(&answer), (401, json!("unauthorized")), "{name} with {stranger:?}");
            assert_eq!(
                answer.headers.get("www-authenticate").map(hyper::header::HeaderValue::as_bytes),
                Some(&b"Bearer"[..])
            );
            answers.push(answer.body.clone());
        }
        if method == Method::GET {
            assert_eq!(site.raw(Method::HEAD, &path, &[], None).await.status, 401, "HEAD of {name}");
        }
        let is_of_clients = ["memories", "conflicts", "ops"].iter().any(|route| name.contains(route));
        let insufficient = if is_of_clients { "scraper" } else { "team" };
        let answer = site.ask(insufficient, method, &path, body).await;
        assert_eq!(slug(&answer), (403, json!("forbidden")), "{name} by {insufficient}");
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]), "one answer, whatever the reason");
    assert_eq!(site.state().await, before, "nothing was stored or changed");
    assert_eq!(site.ask("scraper", Method::GET, "/metrics", None).await.status, 200);
    let metrics = site.ask("admin", Method::GET, "/metrics", None).await.text();
    let count = |slug: &str| {
        let line = format!("federation_refused_requests_total{{slug=\"{slug}\"}} ");
        metrics.lines().find_map(|text| text.strip_prefix(&line)).unwrap().parse::<usize>().unwrap()
    };
    let guarded = Endpoint::ALL.len() - 2;
    let gets = Endpoint::ALL.iter().filter(|e| e.rule() != Rule::Open && e.method() == Method::GET).count();
    assert_eq!((count("unauthorized"), count("forbidden")), (guarded * strangers.len() + gets, guarded));
}

#[tokio::test]
async fn both_spellings_open_the_same_door() {
    let dir = tempfile::tempdir().unwrap();
    let site = Secured::start(dir.path(), &[]).await;
    let secret = site.secret("team");
    for header in
        [("authorization", format!("Bearer {secret}")), ("authorization", format!("bearer  {secret}"))]
    {
        let answer = site.raw(Method::GET, MEMORIES, &[(header.0, &header.1)], None).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let bearer = format!("Bearer {secret}");
    for headers in [&[("x-api-key", secret)][..], &[("x-api-key", secret), ("authorization", &bearer)]] {
        assert_eq!(site.raw(Method::GET, MEMORIES, headers, None).await.status, 200);
    }
}

#[tokio::test]
async fn an_agent_cannot_write_as_another() {
    let dir = tempfile::tempdir().unwrap();
    let site = Secured::start(dir.path(), &[]).await;
    let author = async |token: &str, agent: Option<&str>, memory: Value| {
        let bearer = format!("Bearer {}", site.secret(token));
        let mut headers = vec![("authorization", bearer.as_str())];
        headers.extend(agent.map(|agent| ("x-agent-id", agent)));
        site.raw(Method::POST, MEMORIES, &headers, Some(&memory)).await
    };
    let made = expect(&author("team", None, memory("a", "team/x")).await, 201);
    assert_eq!(field(&made, "/author"), "ai:team");
    let made = expect(&author("team", Some("ai:team"), memory("b", "team/x")).await, 201);
    assert_eq!(field(&made, "/author"), "ai:team");
    let made = expect(&author("app", Some("ai:user-7"), memory("c", "team/x")).await, 201);
    assert_eq!(field(&made, "/author"), "ai:user-7");
    let before = site.state().await;

    let refused = author("team", Some("ai:other"), memory("d", "team/x")).await;
    assert_eq!(slug(&refused), (403, json!("forbidden")));
    let refused = author("app", None, memory("d", "team/x")).await;
    assert_eq!(slug(&refused), (422, json!("agent_required")));
    let mut named = memory("d", "team/x");
    named["metadata"] = json!({ "agent_id": "ai:other" });
    assert_eq!(slug(&author("team", None, named.clone()).await), (403, json!("forbidden")));
    let bearer = format!("Bearer {}", site.secret("team"));
    let headers = [("authorization", bearer.as_str()), ("x-agent-id", "ai:other")];
    for (method, body) in [(Method::PUT, Some(&named)), (Method::DELETE, None)] {
        let answer = site.raw(method.clone(), &format!("{MEMORIES}/a"), &headers, body).await;
        assert_eq!(slug(&answer), (403, json!("forbidden")), "{method}");
    }
    let change = json!({ "metadata": { "agent_id": "ai:other" } });
    let answer = site.ask("team", Method::PUT, &format!("{MEMORIES}/a"), Some(&change)).await;
    assert_eq!(slug(&answer), (403, json!("forbidden")));
    let url = format!("{}{MEMORIES}/bulk", site.base);
    let bulk = site.mesh.client().send_with(
        Method::POST,
        &url,
        &headers,
        Some(("application/x-ndjson", Bytes::from(memory("e", "team/x").to_string()))),
    );
    let bulk = bulk.await.unwrap();
    assert_eq!(slug(&bulk), (403, json!("forbidden")));
    assert_eq!(site.state().await, before, "nothing was stored");

    // Any writer of a namespace may change and delete what stands in it, as itself.
    let changed =
        site.ask("app", Method::PUT, &format!("{MEMORIES}/a"), Some(&json!({ "title": "u" }))).await;
    assert_eq!(slug(&changed), (422, json!("agent_required")));
    let changed =
        site.ask("team", Method::PUT, &format!("{MEMORIES}/c"), Some(&json!({ "title": "u" }))).await;
    assert_eq!(field(&expect(&changed, 200), "/author"), "ai:team");
    expect(&site.ask("writer", Method::DELETE, &format!("{MEMORIES}/c"), None).await, 200);
}

#[tokio::test]
async fn what_is_out_of_reach_is_as_if_it_were_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let site = Secured::start(dir.path(), &[]).await;
    for (id, namespace) in [("mine", "team/a"), ("shared", "team/shared"), ("twice", "team/a")] {
        site.create("team", &memory(id, namespace), 201).await;
    }
    for (id, namespace) in [("theirs", "other"), ("gone", "other")] {
        site.create("other", &memory(id, namespace), 201).await;
    }
    expect(&site.ask("other", Method::DELETE, &format!("{MEMORIES}/gone"), None).await, 200);
    // An id that stands elsewhere is free: that it stands there is not told.
    site.create("other", &memory("twice", "other"), 201).await;
    let exists = site.create("other", &memory("twice", "team/shared"), 409).await;
    assert_eq!(field(&exists, "/namespace"), "other");
    let before = site.state().await;

    let missing = |answer: &Answer, id: &str| {
        let expected = json!({ "error": "not_found", "message": "there is no such memory", "id": id });
        assert_eq!(expect(answer, 404), expected);
    };
    for id in ["theirs", "gone", "nobody"] {
        for path in [format!("{MEMORIES}/{id}"), format!("{MEMORIES}/{id}?namespace=other")] {
            missing(&site.ask("team", Method::GET, &path, None).await, id);
        }
        let path = format!("{MEMORIES}/{id}");
        missing(&site.ask("team", Method::PUT, &path, Some(&json!({ "title": "u" }))).await, id);
        missing(&site.ask("team", Method::DELETE, &path, None).await, id);
        let path = format!("{MEMORIES}/{id}?namespace=other");
        let changed = site.ask("team", Method::PUT, &path, Some(&json!({ "title": "u" }))).await;
        assert_eq!(slug(&changed), (403, json!("forbidden")), "a write that names a namespace out of reach");
        let deleted = site.ask("team", Method::DELETE, &path, None).await;
        assert_eq!(slug(&deleted), (403, json!("forbidden")));
        for conflict in [format!("{CONFLICTS}/{id}"), format!("{CONFLICTS}/{id}?namespace=other")] {
            missing(&site.ask("team", Method::GET, &conflict, None).await, id);
        }
        let path = format!("{CONFLICTS}/{id}/resolve?namespace=other");
        let resolved = site.ask("team", Method::POST, &path, Some(&json!({}))).await;
        assert_eq!(slug(&resolved), (403, json!("forbidden")), "as any write");
    }
    let created = site.create("team", &memory("new", "other"), 403).await;
    assert_eq!(field(&created, "/error"), "forbidden");
    for token in ["team", "other"] {
        let found = site.get(token, &format!("{MEMORIES}/twice"), 200).await;
        assert_eq!(field(&found, "/namespace"), if token == "team" { "team/a" } else { "other" });
    }
    let ambiguous = site.get("app", &format!("{MEMORIES}/twice"), 409).await;
    assert_eq!(field(&ambiguous, "/namespaces"), &json!(["other", "team/a"]));
    let ids = async |token: &str, query: &str| -> Vec<String> {
        let list = site.get(token, &format!("{MEMORIES}{query}"), 200).await;
        assert_eq!(field(&list, "/next_cursor"), &Value::Null);
        let memories = field(&list, "/memories").as_array().unwrap().clone();
        memories.iter().map(|memory| memory["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids("team", "").await, ["mine", "twice", "shared"]);
    assert_eq!(ids("other", "").await, ["theirs", "twice", "shared"]);
    assert_eq!(ids("app", "").await.len(), 5);
    assert!(ids("team", "?namespace=other").await.is_empty());
    assert!(ids("team", "?namespace=nowhere").await.is_empty());
    assert_eq!(site.state().await, before, "nothing was stored");
    // A change shows all of the memory, so whoever may not read may not change.
    let changed = site.ask("writer", Method::PUT, &format!("{MEMORIES}/mine"), Some(&json!({}))).await;
    assert_eq!(slug(&changed), (403, json!("forbidden")));
}

#[tokio::test]
async fn pages_and_cursors_name_nothing_out_of_reach() {
    let dir = tempfile::tempdir().unwrap();
    let site = Secured::start(dir.path(), &[]).await;
    let mut expected = Vec::new();
    for number in 0..12 {
        for namespace in [format!("a{number}"), format!("team!{number}"), format!("u{number}")] {
            let foreign = memory(&format!("f-{namespace}").replace('!', "-"), &namespace);
            let headers = [("x-api-key", site.secret("app")), ("x-agent-id", "ai:x")];
            expect(&site.raw(Method::POST, MEMORIES, &headers, Some(&foreign)).await, 201);
        }
        let id = format!("m{number:02}");
        site.create("team", &memory(&id, &format!("team/n{:02}", number / 2)), 201).await;
        expected.push(id);
    }
    for limit in [1, 2, 5, 12, 100] {
        assert_eq!(by_pages(&site, "team", limit, "team/").await, expected, "limit {limit}");
    }
    // With what is out of reach between, too: "other" and "team/shared", and "team/n.." before the latter.
    for id in ["o1", "o2", "o3"] {
        site.create("other", &memory(id, "other"), 201).await;
        site.create("other", &memory(&format!("s{id}"), "team/shared"), 201).await;
    }
    for limit in [1, 2, 4, 6, 100] {
        let found = by_pages(&site, "other", limit, "").await;
        assert_eq!(found, ["o1", "o2", "o3", "so1", "so2", "so3"], "limit {limit}");
    }
    // A cursor of one's own making reaches no further.
    let cursor = URL_SAFE_NO_PAD.encode("a0\nx");
    let list = site.get("team", &format!("{MEMORIES}?cursor={cursor}"), 200).await;
    assert_eq!(field(&list, "/memories").as_array().unwrap().len(), expected.len() + 3);
}

/// A list that would have to step over too many namespaces says so, and does not show one in a cursor.
#[tokio::test]
async fn a_list_steps_over_so_many_namespaces_and_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let site = Secured::start(dir.path(), &[]).await;
    let fill = async |numbers: std::ops::Range<usize>| {
        let row = |number| memory(&format!("m{number}"), &format!("n{number:05}")).to_string() + "\n";
        let (url, rows) =
            (format!("{}{MEMORIES}/bulk", site.base), numbers.clone().map(row).collect::<String>());
        let headers = [("x-api-key", site.secret("app")), ("x-agent-id", "ai:x")];
        let body = Some(("application/x-ndjson", rows.into()));
        let answer = site.mesh.client().send_with(Method::POST, &url, &headers, body).await.unwrap();
        let outcomes = answer.json_lines().unwrap();
        assert!(outcomes.iter().filter(|row| row["status"] == 201).count() == numbers.len());
    };
    for at in (0..10_000).step_by(2_500) {
        fill(at..at + 2_500).await;
    }
    let list = site.get("deep", MEMORIES, 200).await;
    assert_eq!(field(&list, "/memories"), &json!([]));
    fill(10_000..10_001).await;
    let refused = site.ask("deep", Method::GET, MEMORIES, None).await;
    assert_eq!(slug(&refused), (422, json!("scope_too_wide")));
    let list = site.get("deep", &format!("{MEMORIES}?namespace=n1/x"), 200).await;
    assert_eq!(field(&list, "/memories"), &json!([]));
}

/// The ids of all that a token lists, page by page; each cursor names a namespace that begins with `within`.
async fn by_pages(site: &Secured, token: &str, limit: usize, within: &str) -> Vec<String> {
    let (mut found, mut cursor) = (Vec::new(), String::new());
    loop {
        let list = site.get(token, &format!("{MEMORIES}?limit={limit}{cursor}"), 200).await;
        let memories = field(&list, "/memories").as_array().unwrap();
        assert!(!memories.is_empty(), "a cursor that leads to nothing tells of what is out of reach");
        found.extend(memories.iter().map(|memory| memory["id"].as_str().unwrap().to_owned()));
        let Some(next) = field(&list, "/next_cursor").as_str() else { return found };
        assert_eq!(memories.len(), limit, "a short page tells of what is out of reach");
        let named = String::from_utf8(URL_SAFE_NO_PAD.decode(next).unwrap()).unwrap();
        assert!(named.starts_with(within), "a cursor names {named:?}");
        cursor = format!("&cursor={next}");
    }
}

#[tokio::test]
async fn rows_of_a_bulk_write_are_let_in_one_by_one() {
    let dir = tempfile::tempdir().unwrap();
    let site = Secured::start(dir.path(), &[]).await;
    let mut named = memory("e", "team/a");
    named["metadata"] = json!({ "agent_id": "ai:other" });
    let rows =
        [memory("a", "team/a"), memory("b", "other"), memory("c", "team"), memory("d", "teams"), named];
    let lines = rows.map(|row| row.to_string()).join("\n");
    let array = format!("[{}]", lines.replace('\n', ",").replace("\"id\":\"", "\"id\":\"x"));
    for (kind, body) in [("application/x-ndjson", lines), ("application/json", array)] {
        let (url, headers) = (format!("{}{MEMORIES}/bulk", site.base), [("x-api-key", site.secret("team"))]);
        let body = Some((kind, body.into()));
        let answer = site.mesh.client().send_with(Method::POST, &url, &headers, body).await.unwrap();
        let outcomes = answer.json_lines().unwrap();
        let found: Vec<_> = outcomes
            .iter()
            .map(|row| (row["status"].as_u64().unwrap(), field(row, "/error/error").clone()))
            .collect();
        let (made, refused) = ((201, Value::Null), (403, json!("forbidden")));
        assert_eq!(found, [made.clone(), refused.clone(), made, refused.clone(), refused]);
    }
    assert_eq!(field(&site.state().await, "/records"), 4);
}

#[tokio::test]
async fn who_sends_too_much_is_told_when_to_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let site = Secured::start(dir.path(), &["--token-requests-per-sec", "1"]).await;
    let mut answers = Vec::new();
    let begun = std::time::Instant::now();
    while answers.last().is_none_or(|answer: &Answer| answer.status == 200) {
        answers.push(site.ask("reader", Method::GET, MEMORIES, None).await);
        assert!(begun.elapsed() < crate::support::WITHIN, "never limited");
    }
    let limited = answers.pop().unwrap();
    assert_eq!(slug(&limited), (429, json!("rate_limited")));
    let seconds = limited.headers.get("retry-after").unwrap().to_str().unwrap();
    assert_eq!(field(&limited.json().unwrap(), "/retry_after_secs").to_string(), seconds);
    assert_eq!(site.ask("team", Method::GET, MEMORIES, None).await.status, 200, "another token");
    assert_eq!(site.raw(Method::GET, "/readyz", &[], None).await.status, 200, "and whoever probes the node");
}

#[tokio::test]
async fn guessing_costs_an_address_its_allowance() {
    let dir = tempfile::tempdir().unwrap();
    let site = Secured::start(dir.path(), &["--address-requests-per-sec", "10"]).await;
    let guess = site.raw(Method::GET, MEMORIES, &[], None).await;
    assert_eq!(slug(&guess), (401, json!("unauthorized")));
    let guess = site.raw(Method::GET, MEMORIES, &[], None).await;
    assert_eq!(slug(&guess), (429, json!("rate_limited")));
    let begun = std::time::Instant::now();
    while site.ask("team", Method::GET, MEMORIES, None).await.status != 200 {
        assert!(begun.elapsed() < crate::support::WITHIN, "shut out for ever");
    }
}
