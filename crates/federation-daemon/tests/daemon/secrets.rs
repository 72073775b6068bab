//! Secrets stand in their own files and nowhere else, however much a node says.

use std::fs;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use federation_daemon::config::{Config, Given, RawConfig};
use federation_daemon::random::system_rng;
use federation_daemon::supervisor::{Client, Process};
use federation_daemon::tokens_file;
use federation_wire::api::token::{ClientSecret, TokensFile};
use federation_wire::hex;
use hyper::Method;
use serde_json::json;

use crate::credentials::for_each_file;
use crate::poll::until;
use crate::secured::{TOKENS, entry};
use crate::support::{WITHIN, federationd_in};
use crate::tls::{Ca, bundle, nodes};

/// A secret in the forms that it could be written in.
struct Secret {
    what: String,
    forms: Vec<Vec<u8>>,
}

impl Secret {
    fn of(what: impl Into<String>, bytes: &[u8]) -> Self {
        let hex = hex::write(bytes);
        // As `Debug` shows bytes, without the ends.
        let listed = format!("{bytes:?}");
        let texts = [
            hex.to_uppercase(),
            hex,
            STANDARD.encode(bytes),
            URL_SAFE_NO_PAD.encode(bytes),
            listed.trim_matches(['[', ']']).to_owned(),
        ];
        // The last characters of base64 hang on what follows.
        let mut forms: Vec<_> = texts.iter().map(|text| text.as_bytes()[..text.len() - 3].to_vec()).collect();
        forms.push(bytes.to_vec());
        Self { what: what.into(), forms }
    }

    fn is_in(&self, bytes: &[u8]) -> bool {
        self.forms.iter().any(|form| bytes.windows(form.len()).any(|window| window == form))
    }

    fn is_not_in(&self, place: &str, bytes: &[u8]) {
        assert!(!self.is_in(bytes), "{} stands in {place}", self.what);
    }
}

/// The seed in a key file: the last 43 characters of its first line.
fn seed(text: &str) -> Vec<u8> {
    let line = text.lines().next().unwrap();
    URL_SAFE_NO_PAD.decode(&line[line.len() - 43..]).unwrap()
}

/// The private part of an ECDSA key in PKCS#8: the 32 bytes behind `04 20`.
fn scalar(pem: &str) -> Vec<u8> {
    let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let der = STANDARD.decode(body).unwrap();
    let at = der.windows(2).position(|two| two == [4, 32]).unwrap();
    der[at + 2..at + 34].to_vec()
}

#[expect(
    clippy::too_many_lines,
    reason = "one story: the secrets, what goes wrong, and where it is looked for them"
)]
#[tokio::test(flavor = "multi_thread")]
async fn whatever_goes_wrong_no_secret_is_said_at_the_loudest_level() {
    let dir = tempfile::tempdir().unwrap();
    let (ca, [a, b]) = (Ca::new(), nodes(dir.path(), ["a", "b"]));
    bundle(dir.path(), &[&ca]);
    let path = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    let (mut file, mut tokens) = (TokensFile::default(), Vec::new());
    for token in TOKENS {
        let secret = ClientSecret::generate(&mut system_rng());
        file.tokens.push(entry(token, &secret));
        tokens.push((token.id, secret.to_text().to_string()));
    }
    tokens_file::save(&dir.path().join("tokens.toml"), &file).unwrap();
    let token = |id: &str| tokens.iter().find(|(token, _)| *token == id).unwrap().1.clone();
    let mut secrets: Vec<_> = tokens
        .iter()
        .map(|(id, text)| Secret::of(*id, &URL_SAFE_NO_PAD.decode(&text[5..]).unwrap()))
        .collect();
    let (client, mut processes) = (Client::default(), Vec::<Process>::new());
    for (node, other) in [(&a, &b), (&b, &a)] {
        ca.issue(dir.path(), node.name);
        let (cert, key) = (path(&format!("{}.crt", node.name)), path(&format!("{}.key", node.name)));
        let (ca, tokens) = (path("ca.crt"), path("tokens.toml"));
        let of_peers = ["--peer-tls-cert", &cert, "--peer-tls-key", &key, "--peer-tls-ca", &ca];
        let more = ["--peer-spiffe-domain", "mesh.example", "--tokens-file", &tokens];
        let peers = vec![other.enrolment(dir.path(), "https")];
        let mut spec = node.spec(dir.path(), peers, &[&of_peers[..], &more].concat());
        spec.env.push(("FEDERATION_LOG".into(), "trace".into()));
        processes.push(Process::start(spec).unwrap());
        let node_key = fs::read_to_string(path(&format!("{}.node", node.name))).unwrap();
        secrets.push(Secret::of(format!("the node key of {}", node.name), &seed(&node_key)));
        let pem = fs::read_to_string(&key).unwrap();
        let mut tls = Secret::of(format!("the TLS key of {}", node.name), &scalar(&pem));
        // As it stands in the file: the scalar begins in the first line, which the second one goes on with.
        tls.forms.extend(pem.lines().filter(|line| !line.starts_with('-')).skip(1).map(Into::into));
        secrets.push(tls);
    }
    let base = format!("http://{}", a.listen);
    for (process, node) in processes.iter_mut().zip([&a, &b]) {
        process.ready(&client, &format!("http://{}", node.listen), WITHIN).await.unwrap();
    }

    let answers = provoke(&client, &base, &token).await;
    // What a reload finds wrong with the files that hold secrets.
    let reload = async || {
        let bearer = format!("Bearer {}", token("admin"));
        let url = format!("{base}/api/v1/admin/reload");
        client.send_with(Method::POST, &url, &[("authorization", &bearer)], None).await.unwrap()
    };
    let mut faults = Vec::new();
    for name in ["a.node", "a.key", "tokens.toml"] {
        let kept = fs::read(path(name)).unwrap();
        let spoilt = if name == "tokens.toml" {
            [&kept[..], format!("\nsecret = \"{}\"\n", token("app")).as_bytes()].concat()
        } else {
            kept.iter().rev().skip(12).rev().copied().chain(*b"*\n").collect()
        };
        fs::write(path(name), spoilt).unwrap();
        let answer = reload().await;
        assert_eq!(answer.status, 422, "{name}: {}", answer.text());
        faults.push((format!("the reload with a faulty {name}"), answer.body.to_vec()));
        let args = ["config", "check", "--key-file", &path("a.node"), "--node-id", "a"];
        let more = ["--tokens-file", &path("tokens.toml"), "--peers-file", &path("a.peers")];
        let output = federationd_in(dir.path(), &[&args[..], &more].concat());
        faults.push((format!("the check of {name}"), [output.stdout, output.stderr].concat()));
        fs::write(path(name), kept).unwrap();
    }
    assert_eq!(reload().await.status, 200);

    let flags = RawConfig {
        node_id: Some("a".into()),
        key_file: Some(path("a.node").into()),
        peers_file: Some(path("a.peers").into()),
        tokens_file: Some(path("tokens.toml").into()),
        peer_tls_cert: Some(path("a.crt").into()),
        peer_tls_key: Some(path("a.key").into()),
        peer_tls_ca: Some(path("ca.crt").into()),
        peer_spiffe_domain: Some("mesh.example".into()),
        data_dir: Some(PathBuf::from(path("elsewhere"))),
        ..RawConfig::default()
    };
    let given = Given { flags, ..Given::default() };
    let shown = format!("{given:?} {:?}", Config::read(&given).unwrap());
    assert!(shown.contains("peer_tls"), "{shown}");
    faults.push(("Debug of the config".into(), shown.into_bytes()));

    let log = path("a.log");
    let is_told = async || fs::read_to_string(&log).unwrap().find("a client's request was refused");
    until(WITHIN, "the log tells of it", is_told).await;
    assert!(fs::read_to_string(&log).unwrap().contains("TRACE"), "the loudest level");
    drop(processes);
    let mut in_their_own = 0;
    for_each_file(dir.path(), &mut |path, bytes| {
        // A segment of the log is zeros behind its end.
        let bytes = &bytes[..bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1)];
        let holds_a_key = path.extension().is_some_and(|extension| extension == "node" || extension == "key");
        for secret in &secrets {
            if holds_a_key {
                in_their_own += usize::from(secret.is_in(bytes));
            } else {
                secret.is_not_in(&path.display().to_string(), bytes);
            }
        }
    });
    assert_eq!(in_their_own, 4, "all keys stand where they belong, and are found there");
    for secret in &secrets {
        for (place, bytes) in answers.iter().chain(&faults) {
            secret.is_not_in(place, bytes);
        }
    }
}

/// Whether a request has a secret where something else belongs.
fn contains_any(bytes: &[u8], token: &impl Fn(&str) -> String) -> bool {
    ["team", "admin"].iter().any(|id| {
        let secret = token(id);
        bytes.windows(secret.len()).any(|window| window == secret.as_bytes())
    })
}

/// Asks what is refused in each way that there is, and for all that a node shows.
async fn provoke(client: &Client, base: &str, token: &impl Fn(&str) -> String) -> Vec<(String, Vec<u8>)> {
    let memory = json!({ "id": "m", "namespace": "team/a", "title": "t", "content": "c" }).to_string();
    let bearer = |id: &str| format!("Bearer {}", token(id));
    let cases = [
        (Method::POST, "/api/v1/memories".to_owned(), bearer("team"), memory.clone()),
        (Method::POST, "/api/v1/memories".to_owned(), bearer("reader"), memory),
        (Method::POST, "/api/v1/memories".to_owned(), bearer("team"), format!("{{\"{}\":1}}", token("team"))),
        (Method::GET, "/api/v1/memories".to_owned(), bearer("expired"), String::new()),
        (Method::GET, "/api/v1/memories".to_owned(), bearer("team") + "x", String::new()),
        (Method::GET, "/api/v1/memories".to_owned(), token("team"), String::new()),
        (Method::GET, format!("/{}", token("admin")), bearer("admin"), String::new()),
        (Method::GET, format!("/api/v1/memories?token={}", token("team")), bearer("team"), String::new()),
        (Method::GET, format!("/api/v1/memories/{}", token("team")), bearer("team"), String::new()),
        (Method::GET, "/api/v1/status".to_owned(), bearer("admin"), String::new()),
        (Method::GET, "/api/v1/peers".to_owned(), bearer("admin"), String::new()),
        (Method::GET, "/metrics".to_owned(), bearer("scraper"), String::new()),
    ];
    let mut answers = Vec::new();
    for (method, path, authorization, body) in cases {
        let body = (!body.is_empty()).then(|| ("application/json", body.into()));
        let headers = [("authorization", authorization.as_str())];
        let repeats = body.as_ref().is_some_and(|(_, body): &(_, Bytes)| contains_any(body, token))
            || contains_any(path.as_bytes(), token);
        let answer = client.send_with(method, &format!("{base}{path}"), &headers, body).await.unwrap();
        // Whoever puts a secret where something else belongs may be told so in its own words; the log may not have it.
        if repeats {
            continue;
        }
        answers.push((format!("the answer {} to {path}", answer.status), answer.body.to_vec()));
    }
    answers
}
