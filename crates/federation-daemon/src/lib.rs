//! The daemon `federationd` as a library: command line, settings, client API, metrics, signals, and the supervisor
//! that runs real nodes for `dev`, `demo`, tests and chaos.
//!
//! It wires the other crates together and decides nothing of the protocol: what a write becomes is core's, bytes are
//! wire's, disk is the store's, peers are net's.
//!
//! ```
//! use federation_daemon::config::{RawConfig, SETTINGS};
//!
//! let raw: RawConfig = toml::from_str("quorum_writes = 2\nquorum_timeout_ms = 500").unwrap();
//! assert_eq!(raw.quorum_timeout_ms, Some(500));
//! assert!(toml::from_str::<RawConfig>("quorum_timeout = 500").is_err(), "an unknown key is an error");
//! assert!(SETTINGS.iter().any(|setting| setting.key == "quorum_timeout_ms" && setting.default == "2000"));
//! ```

pub mod api;
pub mod cli;
pub mod clock;
pub mod command;
pub mod config;
pub mod enrolment;
pub mod files;
pub mod metrics;
#[cfg(feature = "planted-bugs")]
pub mod planted;
pub mod random;
pub mod reload;
pub mod sample;
pub mod signal;
pub mod supervisor;
pub mod telemetry;
pub mod tokens_file;
