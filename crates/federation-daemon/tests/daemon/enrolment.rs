//! A mesh from nothing, by the commands that the README shows.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use federation_daemon::supervisor::Client;
use federation_daemon::supervisor::port::free_addresses;
use serde_json::json;

use crate::poll::until;
use crate::support::{WITHIN, expect, federationd_in, field, program, stderr, stdout};

/// A node that was started by hand; killed when dropped.
struct Started(Child);

impl Drop for Started {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a line as a shell would, in a directory, and gives what it prints.
fn paste(dir: &Path, line: &str) -> String {
    let words: Vec<_> = line.split_whitespace().collect();
    let ["federationd", args @ ..] = &words[..] else { panic!("not a command of ours: {line}") };
    let output = federationd_in(dir, args);
    assert!(output.status.success(), "{line}: {}", stderr(&output));
    stdout(&output)
}

#[tokio::test]
async fn two_nodes_are_enrolled_with_two_commands_each_and_hold_what_is_written() {
    let root = tempfile::tempdir().unwrap();
    let addresses = free_addresses(4).unwrap();
    let node = |name: &'static str, at: usize| {
        let dir = root.path().join(name);
        std::fs::create_dir(&dir).unwrap();
        (name, dir, addresses[at], addresses[at + 1])
    };
    let nodes = [node("a", 0), node("b", 2)];
    // Of each node: one command makes its key, the other prints the line for everybody else.
    let lines = nodes.each_ref().map(|(name, dir, _, peers)| {
        paste(dir, "federationd keygen");
        paste(dir, &format!("federationd id --node-id {name} --url https://{peers}"))
    });
    paste(&nodes[0].1, lines[1].trim());
    paste(&nodes[1].1, lines[0].trim());

    let _processes = nodes.each_ref().map(|(name, dir, listen, peers)| {
        let (listen, peers) = (listen.to_string(), peers.to_string());
        let serve = ["serve", "--new-mesh", "--node-id", name, "--listen", &listen, "--peer-listen", &peers];
        let mut command = Command::new(program());
        command.args(serve).args(["--quorum-writes", "all"]).current_dir(dir);
        command.env_remove("FEDERATION_NODE_ID").stdin(Stdio::null()).stderr(Stdio::null());
        Started(command.spawn().unwrap())
    });
    let client = Client::default();
    let memory = json!({ "id": "m", "namespace": "team", "title": "t", "content": "c" });
    let url = format!("http://{}/api/v1/memories", nodes[0].2);
    let written = until(WITHIN, "a write", async || match client.post(&url, &memory).await {
        Ok(answer) if answer.status == 201 => Some(answer),
        // Not there yet, or without its peer yet: then the write is there, and the next one says so.
        Ok(answer) if answer.status == 409 => Some(client.get(&format!("{url}/m")).await.unwrap()),
        Ok(answer) => {
            assert_eq!(answer.status, 503, "{}", answer.text());
            None
        }
        Err(_) => None,
    })
    .await;
    assert!(written.status < 300, "{}", written.text());
    let at_b = format!("http://{}/api/v1", nodes[1].2);
    let is_at_b =
        async || (client.get(&format!("{at_b}/memories/m")).await.unwrap().status == 200).then_some(());
    until(WITHIN, "the write at b", is_at_b).await;
    let peers = expect(&client.get(&format!("{at_b}/peers")).await.unwrap(), 200);
    assert!(field(&peers, "/peers/0/url").as_str().unwrap().starts_with("https://"), "{peers}");
}
