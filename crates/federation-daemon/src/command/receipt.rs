//! `federationd receipt verify`: what a quorum receipt proves, with public keys alone.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use federation_core::id::{IdError, KeyId, NodeId};
use federation_wire::api::QuorumReceipt;
use federation_wire::api::memory::rfc3339;
use federation_wire::api::receipt::{CheckedAck, ReceiptError, ReceiptReport};
use federation_wire::identity::{Directory, EnrolledKey, KeyState};
use federation_wire::keys::{KeyError, PublicKey};
use federation_wire::v1::ack::AckOutcome;

use crate::enrolment::{EnrolError, peers_file};

/// Bytes beyond which a file is no receipt, nor the answer that has one: a memory at its limits stays below.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Options of `receipt`.
#[derive(Clone, Debug, clap::Args)]
pub struct ReceiptArgs {
    /// What to do.
    #[command(subcommand)]
    pub action: ReceiptAction,
}

/// What to do with a receipt.
#[derive(Clone, Debug, Subcommand)]
pub enum ReceiptAction {
    /// Say of each ack what it proves; exit code 1 unless as many distinct enrolled nodes signed as had to.
    Verify(VerifyReceiptArgs),
}

/// Options of `receipt verify`.
#[derive(Clone, Debug, clap::Args)]
pub struct VerifyReceiptArgs {
    /// Enrolments whose keys count, retired ones too.
    #[arg(long, required_unless_present = "keys")]
    pub peers_file: Option<PathBuf>,
    /// A key that counts, too: of the node that took the write, which does not stand among its own peers.
    #[arg(long = "key", value_name = "NODE=ed25519:...")]
    pub keys: Vec<GivenKey>,
    /// The receipt, or the whole answer that has it under `quorum`.
    pub receipt: PathBuf,
}

/// A node's key as given on the command line.
#[derive(Clone, Debug)]
pub struct GivenKey {
    node: NodeId,
    key: PublicKey,
}

/// Why a text is not a node's key.
#[derive(Clone, Debug, thiserror::Error)]
pub enum GivenKeyError {
    /// There is no `=`.
    #[error("a key is given as NODE=ed25519:...")]
    Form,
    /// The node id is not one.
    #[error(transparent)]
    Node(#[from] IdError),
    /// The key is not one.
    #[error(transparent)]
    Key(#[from] KeyError),
}

impl std::str::FromStr for GivenKey {
    type Err = GivenKeyError;
    fn from_str(text: &str) -> Result<Self, GivenKeyError> {
        let (node, key) = text.split_once('=').ok_or(GivenKeyError::Form)?;
        Ok(Self { node: NodeId::new(node)?, key: key.parse()? })
    }
}

/// Why a receipt proves nothing, or could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum VerifyReceiptError {
    /// The file could not be read.
    #[error("{} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file holds no receipt.
    #[error("{} holds no receipt", path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// The enrolments could not be read.
    #[error(transparent)]
    Enrolment(#[from] EnrolError),
    /// The receipt is of another form.
    #[error(transparent)]
    Receipt(#[from] ReceiptError),
    /// Too few have signed. What is wrong with each ack was printed.
    #[error("the receipt does not hold: {proven} of {needed} nodes are proven")]
    TooFew {
        /// Distinct nodes whose word is proven.
        proven: usize,
        /// Nodes that had to sign.
        needed: usize,
    },
}

/// Runs the command.
pub fn run(args: &ReceiptArgs) -> Result<(), VerifyReceiptError> {
    let ReceiptAction::Verify(args) = &args.action;
    let receipt = read(&args.receipt)?;
    let directory = match &args.peers_file {
        Some(path) => peers_file::directory(path, &peers_file::load(path)?)?,
        None => Directory::default(),
    };
    let key = |node: &NodeId, id: KeyId| {
        let given = args.keys.iter().find(|given| given.node == *node && given.key.id() == id);
        let given = given.map(|given| EnrolledKey {
            public: given.key.clone(),
            state: KeyState::Active,
            accepted: BTreeMap::new(),
        });
        given.or_else(|| directory.key(node, id).cloned())
    };
    let report = receipt.check(key)?;
    print_report(&receipt, &report);
    let (proven, needed) = (report.proven(), report.needed);
    if report.holds() { Ok(()) } else { Err(VerifyReceiptError::TooFew { proven, needed }) }
}

fn read(path: &Path) -> Result<QuorumReceipt, VerifyReceiptError> {
    let unreadable = |source| VerifyReceiptError::Read { path: path.to_owned(), source };
    let form = |source| VerifyReceiptError::Form { path: path.to_owned(), source };
    if std::fs::metadata(path).map_err(unreadable)?.len() > FILE_BYTES_MAX {
        return Err(unreadable(io::ErrorKind::FileTooLarge.into()));
    }
    let bytes = std::fs::read(path).map_err(unreadable)?;
    let mut value: serde_json::Value = serde_json::from_slice(&bytes).map_err(form)?;
    let inner = value.pointer_mut("/quorum/receipt").map(serde_json::Value::take);
    serde_json::from_value(inner.unwrap_or(value)).map_err(form)
}

fn print_report(receipt: &QuorumReceipt, report: &ReceiptReport) {
    println!("op {}, hash {}, {} nodes had to hold it", receipt.dot, receipt.hash, receipt.needed);
    for CheckedAck { node, verdict } in &report.acks {
        match verdict {
            Ok((ack, key)) => {
                let state = match key.state {
                    KeyState::Active => "active",
                    KeyState::Retired => "retired",
                    KeyState::Revoked => "revoked",
                };
                let (held, signed) = (&ack.held, &ack.signature);
                println!(
                    "ok   {node}: {} there, durable up to log position {}, signed {} by its clock, key {} ({state})",
                    AckOutcome::from(held.status).slug(),
                    held.position.0,
                    rfc3339(signed.at),
                    signed.key_id
                );
            }
            Err(fault) => println!("BAD  {node:?}: {fault}"),
        }
    }
    println!("{} of {} nodes are proven", report.proven(), report.needed);
}
