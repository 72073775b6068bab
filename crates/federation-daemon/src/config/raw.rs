//! Settings as they were given: flags, environment, config file. Nothing is checked here but shape.
//!
//! The `settings!` table below is the only place where a setting is declared: clap, serde and the documentation
//! (`federationd config`) are made from it.

use std::path::PathBuf;
use std::str::FromStr;

use serde::Deserialize;

/// One line of the table, for the documentation.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Its key in the config file. The flag is the same with `-` for `_`.
    pub key: &'static str,
    /// What holds when it is not given.
    pub default: &'static str,
    /// What it does.
    pub about: &'static str,
}

macro_rules! settings {
    ($($name:ident: $kind:ty = $default:literal, $about:literal;)+) => {
        /// All settings that may stand in a config file, each with a flag of the same name.
        #[derive(Clone, Debug, Default, clap::Args, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct RawConfig {
            $(
                #[doc = concat!("`", stringify!($name), "`: its row of the table says what it does.")]
                #[arg(long, help = concat!($about, " [default: ", $default, "]"))]
                pub $name: Option<$kind>,
            )+
        }

        /// Every setting with its default, in the order of the table.
        pub const SETTINGS: &[Setting] =
            &[$(Setting { key: stringify!($name), default: $default, about: $about }),+];

        /// The defaults as literals, by name.
        pub mod defaults {
            $(
                #[doc = concat!("The default of `", stringify!($name), "`.")]
                #[expect(non_upper_case_globals, reason = "named like the setting, by the table")]
                pub const $name: &str = $default;
            )+
        }

        impl RawConfig {
            /// These settings, and `below`'s where these have none.
            #[must_use]
            pub fn over(self, below: Self) -> Self {
                Self { $($name: self.$name.or(below.$name)),+ }
            }
        }
    };
}

settings! {
    node_id: String = "host-<hostname>", "This node's name in the mesh; also FEDERATION_NODE_ID";
    key_file: PathBuf = "federation.key", "The node's secret key, mode 0600, never in the data directory";
    listen: String = "127.0.0.1:9077", "Address for clients and metrics; off loopback only with tls_cert, tls_key and tokens_file";
    tls_cert: PathBuf = "<none>", "Certificate chain (PEM) of the client listener, which then serves HTTPS";
    tls_key: PathBuf = "<none>", "Key (PEM) of that certificate, mode 0600";
    peer_listen: String = "127.0.0.1:9078", "Address for peers";
    peer_tls: String = "on", "What the peer listener speaks: on for mutual TLS, off for plain HTTP on loopback";
    peer_tls_cert: PathBuf = "<none>", "Certificate chain (PEM) to show peers in place of the node key's own";
    peer_tls_key: PathBuf = "<none>", "Key (PEM) of that certificate, mode 0600";
    peer_tls_ca: PathBuf = "<none>", "CA certificates (PEM) that the peers' certificates lead to";
    peer_spiffe_domain: String = "<none>", "Domain of spiffe://<domain>/<node-id>, by which peers' certificates are theirs";
    data_dir: PathBuf = "federation-data", "Directory of the durable state";
    peers_file: PathBuf = "peers.toml", "Enrolled peers; must exist when named";
    tokens_file: PathBuf = "<none>", "Client tokens, mode 0600, never in the data directory; must exist when named; without it clients are not told apart";
    replica_scope: ScopeText = "**", "Namespaces that this node keeps, as globs, comma-separated; if it keeps more than before, it re-bootstraps";
    quorum_writes: LevelText = "majority", "Nodes that must hold a write before it is answered 201: one, majority, all, or a number";
    quorum_writes_in: LevelList = "<none>", "The same for some namespaces, as <glob>=<level>, comma-separated; the first that has a namespace counts";
    quorum_peers: UrlList = "<all enrolled peers with a url>", "Peer URLs to dial, comma-separated; each must be enrolled";
    quorum_timeout_ms: u64 = "2000", "Milliseconds that a write waits for its quorum";
    catchup_interval_secs: u64 = "30", "Seconds between catch-ups with each peer; 0: only at start and on a peer's return";
    shutdown_grace_ms: u64 = "5000", "Milliseconds that a stop waits for requests under way";
    body_timeout_ms: u64 = "10000", "Milliseconds that a request's body may take, or a bulk body without progress";
    embedding_model: String = "<none>", "Model whose vectors this node indexes; only with embedding_dim";
    embedding_dim: u64 = "<none>", "Components of that model's vectors, 1 to 8192; only with embedding_model";
    requests_max: u64 = "1024", "Client requests served at once; more are answered 503 overloaded";
    token_requests_per_sec: u64 = "1000", "Requests per second of one token; more are answered 429 rate_limited; only with a tokens file";
    address_requests_per_sec: u64 = "5000", "Requests per second of one client address, a failed authentication counting as 100; only with a tokens file";
}

/// The default of a setting, as the table has it; empty for a key that is not in it.
pub fn default_of(key: &str) -> &'static str {
    SETTINGS.iter().find(|setting| setting.key == key).map_or("", |setting| setting.default)
}

/// A write level as text; in a config file also a number.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "TextOrNumber")]
pub struct LevelText(pub String);

/// Write levels of namespaces: comma-separated in a flag, a list or such a text in a config file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "TextOrList")]
pub struct LevelList(pub Vec<String>);

/// Globs on namespaces: comma-separated in a flag, a list or such a text in a config file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "TextOrList")]
pub struct ScopeText(pub Vec<String>);

/// Peer URLs: comma-separated in a flag, a list or such a text in a config file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "TextOrList")]
pub struct UrlList(pub Vec<String>);

#[derive(Deserialize)]
#[serde(untagged)]
enum TextOrNumber {
    Number(u64),
    Text(String),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum TextOrList {
    Text(String),
    List(Vec<String>),
}

impl From<TextOrNumber> for LevelText {
    fn from(value: TextOrNumber) -> Self {
        match value {
            TextOrNumber::Number(number) => Self(number.to_string()),
            TextOrNumber::Text(text) => Self(text),
        }
    }
}

impl FromStr for LevelText {
    type Err = std::convert::Infallible;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

macro_rules! list {
    ($($name:ident)+) => {$(
        impl From<TextOrList> for $name {
            fn from(value: TextOrList) -> Self {
                match value {
                    TextOrList::List(parts) => Self(parts),
                    TextOrList::Text(text) => Self(split(&text)),
                }
            }
        }

        impl FromStr for $name {
            type Err = std::convert::Infallible;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Ok(Self(split(text)))
            }
        }
    )+};
}

list! { LevelList ScopeText UrlList }

fn split(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_is_an_error_that_names_it() {
        let error = toml::from_str::<RawConfig>("quorum_timeout = 5").unwrap_err().to_string();
        assert!(error.contains("quorum_timeout"), "{error}");
        assert!(error.contains("quorum_timeout_ms"), "the known ones are listed: {error}");
    }

    #[test]
    fn a_level_may_be_a_number_and_peers_a_list() {
        let raw: RawConfig =
            toml::from_str("quorum_writes = 2\nquorum_peers = [\"http://a:1\", \"http://b:2\"]").unwrap();
        assert_eq!(raw.quorum_writes, Some(LevelText("2".to_owned())));
        assert_eq!(raw.quorum_peers, Some(UrlList(vec!["http://a:1".into(), "http://b:2".into()])));
        assert_eq!("http://a:1, http://b:2,".parse(), Ok(raw.quorum_peers.unwrap()));
    }

    #[test]
    fn what_stands_above_wins() {
        let flags = RawConfig { node_id: Some("flag".into()), ..RawConfig::default() };
        let file =
            RawConfig { node_id: Some("file".into()), quorum_timeout_ms: Some(7), ..RawConfig::default() };
        let merged = flags.over(file);
        assert_eq!(merged.node_id.as_deref(), Some("flag"));
        assert_eq!(merged.quorum_timeout_ms, Some(7));
    }

    #[test]
    fn numeric_defaults_are_numbers() {
        for text in [
            defaults::quorum_timeout_ms,
            defaults::catchup_interval_secs,
            defaults::requests_max,
            defaults::body_timeout_ms,
            defaults::token_requests_per_sec,
            defaults::address_requests_per_sec,
        ] {
            assert!(text.parse::<u64>().is_ok(), "{text}");
        }
    }
}
