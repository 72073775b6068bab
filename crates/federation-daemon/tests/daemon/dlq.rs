//! Dead letters, over HTTP and by the command, at nodes that run.

use federation_daemon::supervisor::{Client, Mesh};
use hyper::Method;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::poll::until;
use crate::scopes::{await_answer, enrol_second};
use crate::secured::Secured;
use crate::support::{WITHIN, expect, federationd, field, mesh, stderr, stdout, url};
use crate::tls::{Ca, bundle, nodes};

/// What the command says to a node, which does it.
fn dlq(node: &str, args: &[&str]) -> String {
    let output = federationd(&[&["dlq", "--url", node][..], args].concat());
    assert!(output.status.success(), "{args:?}: {}", stderr(&output));
    stdout(&output)
}

/// What the command says to a node that does not do it.
fn refused(args: &[&str]) -> String {
    let output = federationd(&[&["dlq"][..], args].concat());
    assert!(!output.status.success(), "{args:?}: {}", stdout(&output));
    stderr(&output)
}

/// Writes at the second node what the first refuses, and gives its dot.
async fn refused_write(client: &Client, mesh: &Mesh, id: &str) -> String {
    let memory = json!({ "id": id, "namespace": "team", "title": "t", "content": "c" });
    let answer = client.post(&format!("{}/api/v1/memories", url(mesh, 1)), &memory).await.unwrap();
    let not_met = expect(&answer, 503);
    assert_eq!(field(&not_met, "/reason"), "refused", "{not_met}");
    let dot = field(&not_met, "/dot").as_str().unwrap().to_owned();
    let at_first = format!("/peers/{}", mesh.node(0).unwrap().id());
    let is_refused = |op: &Value| op.pointer(&at_first).is_some_and(|at| *at == json!("refused"));
    await_answer(client, &format!("{}/api/v1/ops/{dot}", url(mesh, 1)), 200, is_refused).await;
    dot
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_given_up_stays_so_over_a_restart_and_goes_when_it_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let mut mesh = mesh(dir.path(), 2, &["--catchup-interval-secs", "1"]).await;
    let client = mesh.client().clone();
    let (receiver, node) = (url(&mesh, 0), url(&mesh, 1));
    let peer = mesh.node(0).unwrap().id().to_string();
    enrol_second(&client, &mesh, &["--kind", "letter"]).await;
    let given_up = refused_write(&client, &mesh, "given-up").await;
    let kept = refused_write(&client, &mesh, "kept").await;

    let list = expect(&client.get(&format!("{node}/api/v1/dlq?limit=1")).await.unwrap(), 200);
    assert_eq!(field(&list, "/letters/0/record/id"), "given-up", "{list}");
    assert_eq!(field(&list, "/letters/0/reason"), "forbidden");
    let cursor = field(&list, "/next_cursor").as_str().unwrap();
    let more = client.get(&format!("{node}/api/v1/dlq?peer={peer}&cursor={cursor}")).await.unwrap();
    let more = expect(&more, 200);
    assert_eq!(
        (field(&more, "/letters/0/record/id"), field(&more, "/next_cursor")),
        (&json!("kept"), &Value::Null)
    );
    let nothing = json!({});
    let letter = |dot: &str, action: &str| format!("{node}/api/v1/dlq/{peer}/{dot}{action}");
    let unknown = format!("{}/999", kept.rsplit_once('/').unwrap().0);
    expect(&client.get(&letter(&unknown, "")).await.unwrap(), 404);
    for action in ["/retry", "/discard"] {
        let answer = client.post(&letter(&unknown, action), &nothing).await.unwrap();
        assert_eq!(field(&expect(&answer, 404), "/error"), "no_such_letter");
    }
    let not_dialled = client.post(&format!("{node}/api/v1/dlq/nobody/retry"), &nothing).await.unwrap();
    assert_eq!(field(&expect(&not_dialled, 409), "/error"), "peer_not_dialled");

    let shown = dlq(&node, &["show", &peer, &given_up]);
    assert!(shown.contains("memory team given-up") && shown.contains("a version by"), "{shown}");
    let said = dlq(&node, &["discard", &peer, &given_up]);
    assert_eq!(said, format!("{peer}  {given_up}  forbidden  discarded  memory team given-up\n"));
    let metrics = client.get(&format!("{node}/metrics")).await.unwrap().text();
    for line in [
        &format!("federation_dead_letters{{peer=\"{peer}\",reason=\"forbidden\"}} 1"),
        "federation_dead_letters_noted_total{reason=\"forbidden\"} 2",
        "federation_dead_letters_discarded_total 1",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line}: {metrics}");
    }

    mesh.terminate(1, WITHIN).await.unwrap();
    mesh.start(1).unwrap();
    mesh.ready(1, WITHIN).await.unwrap();
    // The peer takes them now: what is not given up comes by itself.
    enrol_second(&client, &mesh, &[]).await;
    await_answer(&client, &format!("{receiver}/api/v1/memories/kept"), 200, |_| true).await;
    let listed = dlq(&node, &["list", "--peer", &peer]);
    assert_eq!(listed, said, "the discard is remembered");
    expect(&client.get(&format!("{receiver}/api/v1/memories/given-up")).await.unwrap(), 404);
    let status = expect(&client.get(&format!("{receiver}/api/v1/status")).await.unwrap(), 200);
    assert_eq!(field(&status, "/alarms"), &json!([]), "nothing was claimed that is not there");
    let peers = expect(&client.get(&format!("{node}/api/v1/peers")).await.unwrap(), 200);
    assert_eq!(
        (field(&peers, "/peers/0/dead_letters"), field(&peers, "/peers/0/discarded_letters")),
        (&json!(0), &json!(1))
    );

    let said = dlq(&node, &["retry", &peer, &given_up]);
    assert!(said.starts_with(&format!("1 sent to {peer} once more")), "{said}");
    await_answer(&client, &format!("{receiver}/api/v1/memories/given-up"), 200, |_| true).await;
    assert_eq!(dlq(&node, &["list"]), "there are no dead letters\n");
    assert!(dlq(&node, &["retry", &peer, "--all"]).starts_with("0 sent"));
    let said = refused(&["--url", &node, "show", &peer, &given_up]);
    assert!(said.contains("404 no_such_letter"), "{said}");
    mesh.stop_all(WITHIN).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_for_admins_alone() {
    use std::os::unix::fs::PermissionsExt as _;

    let dir = tempfile::tempdir().unwrap();
    let mut site = Secured::start(dir.path(), &[]).await;
    let one = "/api/v1/dlq/n/n/00000000000000ab/1";
    let routes = [
        (Method::GET, "/api/v1/dlq".to_owned(), 200),
        (Method::GET, one.to_owned(), 404),
        (Method::POST, "/api/v1/dlq/n/retry".to_owned(), 409),
        (Method::POST, format!("{one}/retry"), 404),
        (Method::POST, format!("{one}/discard"), 404),
    ];
    for (method, path, status) in routes {
        for token in ["app", "scraper", "reader", "writer"] {
            let answer = site.ask(token, method.clone(), &path, None).await;
            assert_eq!(
                (answer.status, field(&expect(&answer, 403), "/error")),
                (403, &json!("forbidden")),
                "{path}"
            );
        }
        expect(&site.raw(method.clone(), &path, &[], None).await, 401);
        expect(&site.ask("admin", method, &path, None).await, status);
    }
    let token = |id: &str, mode: u32| {
        let path = dir.path().join(format!("{id}.token"));
        std::fs::write(&path, format!("{}\n", site.secret(id))).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path.to_string_lossy().into_owned()
    };
    let base = site.base.clone();
    let (admin, app) = (token("admin", 0o600), token("app", 0o600));
    assert_eq!(dlq(&base, &["--token-file", &admin, "list"]), "there are no dead letters\n");
    assert!(refused(&["--url", &base, "--token-file", &app, "list"]).contains("403 forbidden"));
    assert!(refused(&["--url", &base, "list"]).contains("401 unauthorized"));
    let open = token("admin", 0o644);
    assert!(refused(&["--url", &base, "--token-file", &open, "list"]).contains("chmod 600"));
    site.mesh.stop_all(WITHIN).await.unwrap();
    assert!(refused(&["--url", &base, "list"]).contains("gave no answer"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_serves_https_is_asked_over_it_and_checked() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    let (own, other) = (Ca::new(), Ca::new());
    let [node] = nodes(dir.path(), ["a"]);
    own.issue(dir.path(), "a");
    let (cert, key, ca) = (path("a.crt"), path("a.key"), path("ca.crt"));
    let process = node.start_with(dir.path(), Vec::new(), &["--tls-cert", &cert, "--tls-key", &key]);
    until(WITHIN, "it listens", async || TcpStream::connect(node.listen).await.ok()).await;
    let base = format!("https://{}", node.listen);
    bundle(dir.path(), &[&other]);
    assert!(refused(&["--url", &base, "--ca", &ca, "list"]).contains("gave no answer"));
    bundle(dir.path(), &[&other, &own]);
    assert_eq!(dlq(&base, &["--ca", &ca, "list"]), "there are no dead letters\n");
    assert!(refused(&["--url", &base, "--ca", &key, "list"]).contains("no CA certificate"));
    drop(process);
}
