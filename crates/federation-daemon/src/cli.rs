//! The command line.

use clap::{Parser, Subcommand};

use crate::command::demo::{self, DemoError};
use crate::command::dev::{self, DevArgs, DevError};
use crate::command::dlq::{self, DlqArgs};
use crate::command::keys::{self, IdArgs, IdentityError, KeygenArgs};
use crate::command::node_client::AskError;
use crate::command::peer::{self, PeerArgs, PeerError};
use crate::command::receipt::{self, ReceiptArgs, VerifyReceiptError};
use crate::command::serve::{self, ServeArgs, ServeError};
use crate::command::settings::{self, ConfigArgs};
use crate::command::token::{self, TokenArgs, TokenError};
use crate::command::verify::{self, VerifyArgs, VerifyError};
use crate::config::Faults;

/// Keeps AI-agent memories on several nodes at once: a write is answered once a quorum holds it durably.
#[derive(Clone, Debug, Parser)]
#[command(name = "federationd", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Run a node.
    Serve(Box<ServeArgs>),
    /// Make this node's secret key.
    Keygen(KeygenArgs),
    /// Print the one line that enrols this node at another.
    Id(IdArgs),
    /// Enrol, show, retire and export peers.
    Peer(PeerArgs),
    /// Make, list and revoke the tokens of clients.
    Token(TokenArgs),
    /// Read a stopped node's store and check every op.
    Verify(VerifyArgs),
    /// List, show, retry and discard what the peers of a running node refused for good.
    Dlq(DlqArgs),
    /// Check a quorum receipt with public keys alone.
    Receipt(ReceiptArgs),
    /// Run a mesh of nodes on loopback, for trying things out.
    Dev(DevArgs),
    /// Play the main story on real processes: load, kill -9, write on, restart, equal again.
    Demo,
    /// Print a config file with every setting and its default, or check the settings of a node.
    Config(ConfigArgs),
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// `serve`.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// `keygen` and `id`.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// `peer`.
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// `token`.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// `verify`.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// `dlq`.
    #[error(transparent)]
    Dlq(#[from] AskError),
    /// `receipt`.
    #[error(transparent)]
    Receipt(#[from] VerifyReceiptError),
    /// `dev`.
    #[error(transparent)]
    Dev(#[from] DevError),
    /// `config`.
    #[error("{0}")]
    Config(#[from] Faults),
    /// `demo`.
    #[error("the demo failed")]
    Demo(#[from] DemoError),
    /// No tokio runtime.
    #[error("the async runtime could not be started")]
    Runtime(#[from] std::io::Error),
}

/// Runs a command to its end.
pub fn run(cli: Cli) -> Result<(), CommandError> {
    match cli.command {
        Command::Serve(args) => runtime()?.block_on(serve::run(*args)).map_err(CommandError::from),
        Command::Dev(args) => runtime()?.block_on(dev::run(args)).map_err(CommandError::from),
        Command::Demo => runtime()?.block_on(demo::run()).map_err(CommandError::from),
        Command::Dlq(args) => runtime()?.block_on(dlq::run(&args)).map_err(CommandError::from),
        Command::Keygen(args) => Ok(keys::keygen(&args)?),
        Command::Id(args) => Ok(keys::id(&args)?),
        Command::Peer(args) => Ok(peer::run(args)?),
        Command::Token(args) => Ok(token::run(&args)?),
        Command::Verify(args) => Ok(verify::run(&args)?),
        Command::Receipt(args) => Ok(receipt::run(&args)?),
        Command::Config(args) => Ok(settings::run(args)?),
    }
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()
}
