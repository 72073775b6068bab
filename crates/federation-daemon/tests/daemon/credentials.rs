//! Secrets: where they are of use, how long, and that they are nowhere else.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use federation_core::id::{BootId, NodeId};
use federation_core::time::WallMs;
use federation_daemon::clock::SystemClock;
use federation_daemon::enrolment::key_file;
use federation_daemon::supervisor::{Answer, Mesh};
use federation_wire::frame::{Envelope, FrameKind, Nonce, Route, seal};
use hyper::Method;
use serde_json::{Value, json};

use crate::secured::Secured;
use crate::support::{WITHIN, expect, federationd_in, field, logged, mesh, stderr, stdout, url};

const MEMORIES: &str = "/api/v1/memories";

fn slug(answer: &Answer) -> (u16, Value) {
    (answer.status, field(&answer.json().unwrap(), "/error").clone())
}

#[tokio::test]
async fn neither_listener_takes_what_is_meant_for_the_other() {
    let dir = tempfile::tempdir().unwrap();
    // Without TLS, which would end a client's connection before anything is asked.
    let site = Secured::of(dir.path(), 2, &["--quorum-writes", "1", "--peer-tls", "off"]).await;
    let bearer = format!("Bearer {}", site.secret("app"));
    let peers = format!("http://{}", site.mesh.node(0).unwrap().peer_address());
    for path in [MEMORIES, "/api/v1/status", "/api/v1/memories/bulk", "/metrics", "/healthz", "/readyz"] {
        for method in [Method::GET, Method::POST] {
            let url = format!("{peers}{path}");
            let headers = [("authorization", bearer.as_str())];
            let answer = site.mesh.client().send_with(method, &url, &headers, None).await.unwrap();
            assert_eq!(slug(&answer), (404, json!("not_found")), "{path} at the peer listener");
        }
    }
    // A token is no word among peers, whatever it may do among clients.
    let hello = hello(&site.mesh);
    let to_peers = |body: Vec<u8>, headers: Vec<(String, String)>| {
        let url = format!("{peers}{}", Route::Hello.path());
        let client = site.mesh.client().clone();
        async move {
            let headers: Vec<_> =
                headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            let body = Some(("application/vnd.federation.v1", body.into()));
            client.send_with(Method::POST, &url, &headers, body).await.unwrap().status
        }
    };
    assert_eq!(to_peers(b"{}".to_vec(), vec![("authorization".into(), bearer.clone())]).await, 400);

    // The frame is valid: at the peer listener it is read, and answered with the boot to name.
    assert_eq!(
        to_peers(hello.clone(), Vec::new()).await,
        401,
        "wrong_boot, which only a valid frame is told"
    );
    for route in [Route::Hello, Route::Push, Route::Pull] {
        let url = format!("{}{}", site.base, route.path());
        let body = Some(("application/vnd.federation.v1", hello.clone().into()));
        let answer = site.mesh.client().send_with(Method::POST, &url, &[], body).await.unwrap();
        assert_eq!(slug(&answer), (404, json!("no_such_route")), "{} at the client listener", route.path());
    }
    let body = Some(("application/json", hello.into()));
    let url = format!("{}{MEMORIES}", site.base);
    let answer = site.mesh.client().send_with(Method::POST, &url, &[], body).await.unwrap();
    assert_eq!(slug(&answer), (401, json!("unauthorized")), "a peer's signature opens no client route");
}

/// A hello of the second node to the first, signed with its real key.
fn hello(mesh: &Mesh) -> Vec<u8> {
    use federation_core::port::clock::WallClock as _;
    let key = key_file::read(&mesh.node(1).unwrap().dir().join("federation.key")).unwrap();
    let WallMs(now) = SystemClock.now();
    let envelope = Envelope {
        kind: FrameKind::Request,
        route: Route::Hello,
        sender: mesh.node(1).unwrap().id().clone(),
        sender_boot: BootId(7),
        recipient: NodeId::new("node-1").unwrap(),
        recipient_boot: BootId(0),
        sent_at: WallMs(now),
        nonce: Nonce(1),
    };
    seal(key.active(), envelope, b"")
}

#[tokio::test]
async fn a_secret_stands_nowhere_but_with_its_client() {
    let dir = tempfile::tempdir().unwrap();
    let site = Secured::of(dir.path(), 2, &["--quorum-writes", "2"]).await;
    let memory = json!({ "id": "a", "namespace": "team/a", "title": "t", "content": "c" });
    site.create("team", &memory, 201).await;
    site.create("reader", &memory, 403).await;
    let all_of = |id: &str| format!("Bearer {}x", site.secret(id));
    let malformed = all_of("team");
    let refused = site.raw(Method::GET, MEMORIES, &[("authorization", &malformed)], None).await;
    assert_eq!(refused.status, 401);
    site.get("expired", MEMORIES, 401).await;
    let in_path = format!("/{}", site.secret("admin"));
    assert_eq!(site.raw(Method::GET, &in_path, &[], None).await.status, 404);
    let refused = "a client's request was refused";
    let lines: [&[&str]; 3] = [
        &[refused, "forbidden", "right", "token=\"reader\"", "POST /api/v1/memories"],
        &[refused, "unauthorized", "expired", "token=\"expired\"", "GET /api/v1/memories"],
        &[refused, "unauthorized", "malformed", "address=127.0.0.1"],
    ];
    for parts in lines {
        logged(&site.mesh, 0, parts).await;
    }
    let mut found = 0;
    for_each_file(dir.path(), &mut |path, bytes| {
        found += 1;
        for secret in site.secrets() {
            let is_there = bytes.windows(secret.len() - 5).any(|window| window == &secret.as_bytes()[5..]);
            assert!(!is_there, "a secret stands in {}", path.display());
        }
    });
    assert!(found > 8, "keys, enrolments, logs and stores were looked at: {found}");
}

pub(crate) fn for_each_file(dir: &Path, look: &mut impl FnMut(&Path, &[u8])) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            for_each_file(&path, look);
        } else {
            look(&path, &fs::read(&path).unwrap());
        }
    }
}

/// The token ends in the middle of a request that is still sending rows: what came before is written, nothing after.
#[tokio::test]
async fn a_stream_of_rows_ends_with_its_token() {
    let dir = tempfile::tempdir().unwrap();
    let args =
        ["token", "create", "--agent", "ai:a", "--namespace", "**", "--right", "write", "--expires", "4s"];
    let output = federationd_in(dir.path(), &args);
    assert!(output.status.success(), "{}", stderr(&output));
    let file = dir.path().join("tokens.toml").to_string_lossy().into_owned();
    let mesh = mesh(dir.path(), 1, &["--tokens-file", &file]).await;
    let address = url(&mesh, 0).replace("http://", "");
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(WITHIN)).unwrap();
    let head = format!(
        "POST {MEMORIES}/bulk HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-ndjson\r\n\
         authorization: Bearer {}\r\ntransfer-encoding: chunked\r\n\r\n",
        stdout(&output).trim()
    );
    stream.write_all(head.as_bytes()).unwrap();
    let (mut text, begun) = (String::new(), Instant::now());
    let mut sent = 0;
    while !text.contains("unauthorized") {
        assert!(begun.elapsed() < WITHIN, "the rows are still taken: {text}");
        // The token lives for some seconds yet: a row now and then is enough.
        std::thread::sleep(Duration::from_millis(50));
        let row = json!({ "namespace": "n", "title": "t", "content": "c" }).to_string() + "\n";
        stream.write_all(format!("{:x}\r\n{row}\r\n", row.len()).as_bytes()).unwrap();
        sent += 1;
        while text.matches("\"row\":").count() < sent {
            let mut buffer = [0; 4096];
            match stream.read(&mut buffer) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Ok(read @ 1..) => text.push_str(&String::from_utf8_lossy(&buffer[..read])),
                end => panic!("{end:?} after {text}"),
            }
        }
    }
    let written = text.matches("\"status\":201").count();
    assert!(written > 0 && written == sent - 1, "{written} of {sent}: {text}");
    drop(stream);
    logged(&mesh, 0, &["unauthorized", "expired", "POST /api/v1/memories/bulk"]).await;
}

#[test]
fn tokens_are_made_listed_and_revoked() {
    let dir = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| federationd_in(dir.path(), &[&["token"], args].concat());
    let ok = |args: &[&str]| {
        let output = run(args);
        assert!(output.status.success(), "{args:?}: {}", stderr(&output));
        output
    };
    let fails = |args: &[&str], said: &str| {
        let output = run(args);
        assert!(!output.status.success() && stderr(&output).contains(said), "{args:?}: {}", stderr(&output));
        assert_eq!(stdout(&output), "", "no secret of a token that is not there");
    };
    fails(&["list"], "missing");
    let create = |more: &[&'static str]| {
        let base = ["create", "--agent", "ai:a", "--namespace", "team/**", "--right", "read,write"];
        [&base[..], more].concat()
    };
    let output = ok(&create(&["--expires", "30d", "--id", "one"]));
    let secret = stdout(&output);
    assert!(
        secret.starts_with("fed1_") && secret.lines().count() == 1,
        "the secret and nothing else: {secret}"
    );
    assert!(stderr(&output).contains("token one") && !stderr(&output).contains(secret.trim()));
    let path = dir.path().join("tokens.toml");
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains("blake3:") && !text.contains(&secret.trim()[5..]), "{text}");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);

    ok(&create(&["--expires", "never", "--id", "two", "--agent", "ai:b"]));
    ok(&create(&["--expires", "1h"]));
    let before = fs::read_to_string(&path).unwrap();
    fails(&create(&["--expires", "30d", "--id", "one"]), "same id");
    fails(&create(&["--expires", "30d", "--id", "a b"]), "a token's id is");
    fails(&create(&["--expires", "30"]), "a lifetime is");
    fails(&create(&["--expires", "1d", "--namespace", "a*"]), "whole segments");
    fails(&create(&["--expires", "1d", "--agent", "*"]), "\"*\" alone");
    fails(&create(&["--expires", "1d", "--data-dir", "."]), "lies in the data directory");
    fails(&["create", "--agent", "a", "--right", "read", "--expires", "1d"], "needs a namespace");
    fails(&["create", "--agent", "a", "--namespace", "**", "--right", "all", "--expires", "1d"], "read");
    assert_eq!(fs::read_to_string(&path).unwrap(), before, "a fault writes nothing");

    let shown = stdout(&ok(&["list"]));
    let hash = before.lines().find_map(|line| line.strip_prefix("hash = \"blake3:")).unwrap();
    assert!(shown.contains("one  expires 20") && shown.contains("two  never expires"), "{shown}");
    assert!(
        shown.contains("ai:a, ai:b") && shown.contains("team/**") && shown.contains("read, write"),
        "{shown}"
    );
    assert!(!shown.contains(&hash[..16]) && !shown.contains(&secret.trim()[5..]), "{shown}");

    ok(&["revoke", "one"]);
    fails(&["revoke", "one"], "there is no token \"one\"");
    assert!(!stdout(&ok(&["list"])).contains("one  "));
    let aged = before.lines().map(|line| match line.split_once(" = ") {
        Some(("created", _)) => "created = \"2020-01-01T00:00:00Z\"\n".to_owned(),
        Some(("expires", _)) => "expires = \"2020-01-02T00:00:00Z\"\n".to_owned(),
        _ => format!("{line}\n"),
    });
    fs::write(&path, aged.collect::<String>()).unwrap();
    assert!(stdout(&ok(&["list"])).contains("one  expired 2020-01-02"));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    fails(&["list"], "chmod 600");
}

#[tokio::test]
async fn a_node_without_tokens_says_so_and_is_open() {
    let dir = tempfile::tempdir().unwrap();
    let mesh = mesh(dir.path(), 1, &[]).await;
    let memory = json!({ "namespace": "n", "title": "t", "content": "c" });
    let url = format!("{}{MEMORIES}", url(&mesh, 0));
    let headers = [("x-agent-id", "ai:a"), ("authorization", "Basic YTpi")];
    let body = Some(("application/json", memory.to_string().into()));
    let answer = mesh.client().send_with(Method::POST, &url, &headers, body).await.unwrap();
    assert_eq!(field(&expect(&answer, 201), "/author"), "ai:a");
    logged(&mesh, 0, &["WARN", "no client tokens"]).await;
}
