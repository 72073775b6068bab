//! A node with tokens, and who calls it.

use std::path::Path;

use bytes::Bytes;
use federation_daemon::random::system_rng;
use federation_daemon::supervisor::{Answer, Mesh};
use federation_daemon::tokens_file;
use federation_wire::api::token::{ClientSecret, Right, TokenEntry, TokensFile};
use hyper::Method;
use serde_json::Value;

use crate::support::{expect, field, mesh, url};

/// Who calls, by the id of a token; its secret is drawn for each site.
pub(crate) struct Token {
    pub(crate) id: &'static str,
    pub(crate) agents: &'static [&'static str],
    pub(crate) namespaces: &'static [&'static str],
    pub(crate) rights: &'static [Right],
    pub(crate) expires: Option<&'static str>,
}

/// What most tests need: `team` reads and writes in `team/**`, `all` everywhere, `admin` sees the node.
pub(crate) const TOKENS: &[Token] = &[
    token("team", &["ai:team"], &["team/**"], &[Right::Read, Right::Write]),
    token("other", &["ai:other"], &["other", "team/shared"], &[Right::Read, Right::Write]),
    token("reader", &["ai:reader"], &["team/**"], &[Right::Read]),
    token("writer", &["ai:writer"], &["team/**"], &[Right::Write]),
    token("app", &["*"], &["**"], &[Right::Read, Right::Write]),
    token("deep", &["ai:deep"], &["*/x"], &[Right::Read]),
    token("scraper", &["scraper"], &[], &[Right::Metrics]),
    token("admin", &["ops"], &[], &[Right::Admin]),
    Token {
        expires: Some("2026-01-02T00:00:00Z"),
        ..token("expired", &["ai:team"], &["**"], &[Right::Read, Right::Write, Right::Admin])
    },
];

const fn token(
    id: &'static str,
    agents: &'static [&'static str],
    namespaces: &'static [&'static str],
    rights: &'static [Right],
) -> Token {
    Token { id, agents, namespaces, rights, expires: None }
}

/// A running mesh with one tokens file for all of its nodes.
pub(crate) struct Secured {
    pub(crate) mesh: Mesh,
    pub(crate) base: String,
    secrets: Vec<(&'static str, String)>,
}

impl Secured {
    /// A node with [`TOKENS`].
    pub(crate) async fn start(dir: &Path, args: &[&str]) -> Self {
        Self::of(dir, 1, args).await
    }

    /// So many nodes with [`TOKENS`].
    pub(crate) async fn of(dir: &Path, nodes: usize, args: &[&str]) -> Self {
        let (mut secrets, mut file) = (Vec::new(), TokensFile::default());
        for token in TOKENS {
            let secret = ClientSecret::generate(&mut system_rng());
            secrets.push((token.id, secret.to_text().to_string()));
            file.tokens.push(entry(token, &secret));
        }
        let tokens_file = dir.join("tokens.toml");
        tokens_file::save(&tokens_file, &file).unwrap();
        let path = tokens_file.to_string_lossy().into_owned();
        let mesh = mesh(dir, nodes, &[&["--tokens-file", &path][..], args].concat()).await;
        let base = url(&mesh, 0);
        Self { mesh, base, secrets }
    }

    /// The secret of a token.
    pub(crate) fn secret(&self, id: &str) -> &str {
        let found = self.secrets.iter().find(|(token, _)| *token == id);
        found.map_or_else(|| panic!("no token {id}"), |(_, secret)| secret)
    }

    /// All secrets.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = &str> {
        self.secrets.iter().map(|(_, secret)| secret.as_str())
    }

    /// A request with headers as given and a JSON body.
    pub(crate) async fn raw(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Answer {
        let body = body.map(|body| ("application/json", Bytes::from(body.to_string())));
        let url = format!("{}{path}", self.base);
        self.mesh.client().send_with(method, &url, headers, body).await.unwrap()
    }

    /// A request of a token.
    pub(crate) async fn ask(&self, id: &str, method: Method, path: &str, body: Option<&Value>) -> Answer {
        self.raw(method, path, &[("authorization", &format!("Bearer {}", self.secret(id)))], body).await
    }

    /// `GET` of a token, with its JSON and the status that it must have.
    pub(crate) async fn get(&self, id: &str, path: &str, status: u16) -> Value {
        expect(&self.ask(id, Method::GET, path, None).await, status)
    }

    /// `POST /api/v1/memories` of a token.
    pub(crate) async fn create(&self, id: &str, memory: &Value, status: u16) -> Value {
        expect(&self.ask(id, Method::POST, "/api/v1/memories", Some(memory)).await, status)
    }

    /// Hash, versions and records of all live state.
    pub(crate) async fn state(&self) -> Value {
        field(&self.get("admin", "/api/v1/status?hash=true", 200).await, "/state_hash").clone()
    }
}

/// The entry of a token in the file.
pub(crate) fn entry(token: &Token, secret: &ClientSecret) -> TokenEntry {
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    TokenEntry {
        id: token.id.to_owned(),
        hash: secret.hash().to_string(),
        agents: owned(token.agents),
        namespaces: owned(token.namespaces),
        rights: token.rights.to_vec(),
        created: "2026-01-01T00:00:00Z".to_owned(),
        expires: token.expires.map(str::to_owned),
    }
}
