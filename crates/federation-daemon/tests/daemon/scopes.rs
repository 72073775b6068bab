//! Scopes as an operator sets them, at nodes that run.

use federation_daemon::supervisor::{Client, Mesh};
use serde_json::{Value, json};

use crate::poll::until;
use crate::reload::{pasted, reload, run};
use crate::support::{WITHIN, expect, field, mesh, url};

/// Enrols the second node at the first with these options beside full trust.
pub(crate) async fn enrol_second(client: &Client, mesh: &Mesh, options: &[&str]) {
    let second = mesh.node(1).unwrap();
    let peer_url = format!("https://{}", second.peer_address());
    let line = run(second.dir(), &["id", "--node-id", second.id().as_str(), "--url", &peer_url]);
    let mut line = pasted(&line, "peer add");
    line.extend(options.iter().chain(&["--replace"]).map(|word| (*word).to_owned()));
    run(mesh.node(0).unwrap().dir(), &line.iter().map(String::as_str).collect::<Vec<_>>());
    reload(client, mesh, 0).await;
}

/// Asks until an answer is as `is_so` wants it.
pub(crate) async fn await_answer(client: &Client, url: &str, status: u16, is_so: impl Fn(&Value) -> bool) {
    until(WITHIN, url, async || {
        let answer = client.get(url).await.unwrap();
        (answer.status == status && is_so(&expect(&answer, status))).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_refused_by_scope_comes_by_itself_once_the_scope_is_widened() {
    let dir = tempfile::tempdir().unwrap();
    let mut mesh = mesh(dir.path(), 2, &["--catchup-interval-secs", "1"]).await;
    let client = mesh.client().clone();
    let urls = [url(&mesh, 0), url(&mesh, 1)];
    for (options, refusal) in [
        (["--accept", "other"], "by-namespace"),
        (["--author", "ai:other"], "by-author"),
        (["--kind", "letter"], "by-kind"),
    ] {
        enrol_second(&client, &mesh, &options).await;
        let memory = json!({ "id": refusal, "namespace": "team", "title": "t", "content": "c" });
        let answer = client.post(&format!("{}/api/v1/memories", urls[1]), &memory).await.unwrap();
        let not_met = expect(&answer, 503);
        assert_eq!(field(&not_met, "/reason"), "refused", "{not_met}");
        let dot = field(&not_met, "/dot").as_str().unwrap();
        let at_first = format!("/peers/{}", mesh.node(0).unwrap().id());
        let is_refused = |op: &Value| op.pointer(&at_first).is_some_and(|at| *at == json!("refused"));
        await_answer(&client, &format!("{}/api/v1/ops/{dot}", urls[1]), 200, is_refused).await;
        let at_receiver = format!("{}/api/v1/memories/{refusal}", urls[0]);
        expect(&client.get(&at_receiver).await.unwrap(), 404);

        enrol_second(&client, &mesh, &[]).await;
        await_answer(&client, &at_receiver, 200, |_| true).await;
    }
    mesh.stop_all(WITHIN).await.unwrap();
}
