//! Quorum receipts of real nodes, checked after all of them have ended.

use std::path::Path;
use std::process::Output;

use federation_daemon::supervisor::{Answer, Client};
use serde_json::{Value, json};

use crate::support::{WITHIN, expect, federationd_in, field, mesh, stderr, stdout, url};

#[tokio::test]
async fn a_receipt_is_checked_with_public_keys_alone_and_a_changed_one_proves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut mesh = mesh(dir.path(), 3, &["--quorum-writes", "2"]).await;
    let client = mesh.client().clone();
    let memories = format!("{}/api/v1/memories", url(&mesh, 0));
    let memory = |id: &str| json!({ "id": id, "namespace": "team", "title": "t", "content": "c" });

    let plain = expect(&client.post(&memories, &memory("plain")).await.unwrap(), 201);
    assert_eq!(field(&plain, "/quorum/receipt"), &Value::Null, "nobody asked");
    let answer = ask(&client, "POST", &memories, &memory("m"), "1").await;
    let created = expect(&answer, 201);
    assert_eq!(field(&created, "/quorum/receipt/dot"), field(&created, "/dot"));
    let updated = ask(&client, "PUT", &format!("{memories}/m"), &json!({ "title": "u" }), "1").await;
    assert_eq!(field(&expect(&updated, 200), "/quorum/receipt/needed"), 2);
    let deleted = ask(&client, "DELETE", &format!("{memories}/m"), &Value::Null, "1").await;
    assert!(field(&expect(&deleted, 200), "/quorum/receipt/acks/1").is_object());
    assert_eq!(ask(&client, "POST", &memories, &memory("x"), "yes").await.status, 422);
    mesh.stop_all(WITHIN).await.unwrap();

    let at = Offline {
        dir: dir.path(),
        peers: mesh.node(0).unwrap().dir().join("peers.toml"),
        own: own_key(&mesh),
    };
    let receipt = field(&created, "/quorum/receipt");
    assert_eq!(receipt["acks"].as_array().unwrap().len(), 2);
    at.holds(receipt);
    at.holds(&created);

    let changes = [
        ("/acks/1/node", json!("node-1")),
        ("/acks/1/key", json!("0000000000000000")),
        ("/acks/1/dot", json!("node-1/0000000000000001/9")),
        ("/acks/1/hash", json!("00".repeat(32))),
        ("/acks/1/status", json!("duplicate")),
        ("/acks/1/needed", json!(1)),
        ("/acks/1/position", json!(1)),
        ("/acks/1/at_ms", json!(1)),
        ("/acks/1/signature", json!("A".repeat(86))),
        ("/acks/1", receipt["acks"][0].clone()),
        ("/dot", json!("node-1/0000000000000001/9")),
        ("/hash", json!("00".repeat(32))),
        ("/needed", json!(1)),
        ("/version", json!(2)),
    ];
    for (field, value) in changes {
        let mut tampered = receipt.clone();
        *tampered.pointer_mut(field).unwrap() = value;
        at.fails(&tampered);
    }
    let mut short = receipt.clone();
    short["acks"].as_array_mut().unwrap().truncate(1);
    assert!(at.fails(&short).contains("1 of 2 nodes are proven"));
    // Without the key of the node that took the write its word proves nothing.
    let output = at.verify(receipt, &[]);
    assert!(!output.status.success() && stdout(&output).contains("no key"), "{}", stdout(&output));

    let peer = field(receipt, "/acks/1/node").as_str().unwrap();
    let peers = at.peers.to_str().unwrap();
    assert!(federationd_in(dir.path(), &["peer", "remove", peer, "--peers-file", peers]).status.success());
    assert!(at.holds(receipt).contains("(retired)"));
}

struct Offline<'a> {
    dir: &'a Path,
    peers: std::path::PathBuf,
    own: String,
}

impl Offline<'_> {
    fn verify(&self, receipt: &Value, keys: &[&str]) -> Output {
        let file = self.dir.join("receipt.json");
        std::fs::write(&file, receipt.to_string()).unwrap();
        let (peers, file) = (self.peers.to_str().unwrap(), file.to_str().unwrap());
        federationd_in(self.dir, &[&["receipt", "verify", "--peers-file", peers, file], keys].concat())
    }

    fn holds(&self, receipt: &Value) -> String {
        let output = self.verify(receipt, &["--key", &self.own]);
        assert!(output.status.success(), "{}{}", stdout(&output), stderr(&output));
        assert!(stdout(&output).contains("2 of 2 nodes are proven"), "{}", stdout(&output));
        stdout(&output)
    }

    fn fails(&self, receipt: &Value) -> String {
        let output = self.verify(receipt, &["--key", &self.own]);
        assert_eq!(output.status.code(), Some(1), "{receipt}: {}", stdout(&output));
        assert!(stderr(&output).contains("receipt"), "{}", stderr(&output));
        stdout(&output)
    }
}

/// `node-1=<its public key>`, as its peers have it enrolled.
fn own_key(mesh: &federation_daemon::supervisor::Mesh) -> String {
    let peers = std::fs::read_to_string(mesh.node(1).unwrap().dir().join("peers.toml")).unwrap();
    let of_node = peers.split("[[peer]]").find(|entry| entry.contains("\"node-1\"")).unwrap();
    let key = of_node.split('"').find(|word| word.starts_with("ed25519:")).unwrap();
    format!("node-1={key}")
}

async fn ask(client: &Client, method: &str, url: &str, body: &Value, receipt: &str) -> Answer {
    let body = (!body.is_null()).then(|| ("application/json", body.to_string().into()));
    let headers = [("x-quorum-receipt", receipt)];
    client.send_with(method.parse().unwrap(), url, &headers, body).await.unwrap()
}
