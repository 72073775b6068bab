//! `federationd verify --offline`: every byte of a stopped node's store.

use std::path::PathBuf;

use federation_core::dot::Dot;
use federation_core::id::KeyId;
use federation_core::op::{Op, SealedOp};
use federation_store::{IndexVerdict, OpenError, ProofVerdict, VerifyReport, verify_offline};
use federation_wire::identity::{Directory, KeyRefusal};
use federation_wire::keys::{OwnKeys, PublicKey};
use federation_wire::seal::verify_proof;

use crate::enrolment::{EnrolError, key_file, peers_file};

/// Options of `verify`.
#[derive(Clone, Debug, clap::Args)]
pub struct VerifyArgs {
    /// Read the store of a stopped node: the only way there is so far.
    #[arg(long, required = true)]
    pub offline: bool,
    /// The data directory.
    #[arg(long)]
    pub data_dir: PathBuf,
    /// The node's key file: with it and --peers-file each op's proof is checked, too.
    #[arg(long, requires = "peers_file")]
    pub key_file: Option<PathBuf>,
    /// The node's enrolments.
    #[arg(long, requires = "key_file")]
    pub peers_file: Option<PathBuf>,
    /// Print a line for each op: dot, hash, live or superseded, record.
    #[arg(long)]
    pub ops: bool,
}

/// Why a store is not as it must be, or could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// It could not be opened.
    #[error("data directory {}", path.display())]
    Open {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: OpenError,
    },
    /// The keys could not be read.
    #[error(transparent)]
    Keys(#[from] EnrolError),
    /// It has faults, which were printed.
    #[error("the store is not sound: {faults} faults")]
    NotSound {
        /// How many.
        faults: usize,
    },
}

/// Runs the command.
pub fn run(args: &VerifyArgs) -> Result<(), VerifyError> {
    let keys = match (&args.key_file, &args.peers_file) {
        (Some(key), Some(peers)) => Some(Keys::read(key, peers)?),
        _ => None,
    };
    let mut proof = |op: &Op, sealed: &SealedOp| match &keys {
        Some(keys) => keys.judge(op, sealed),
        None => ProofVerdict::Holds,
    };
    let report = verify_offline(&args.data_dir, &mut proof)
        .map_err(|source| VerifyError::Open { path: args.data_dir.clone(), source })?;
    if args.ops {
        for (dot, held) in &report.ops {
            let state = if held.is_live { "live" } else { "superseded" };
            println!("op {dot} {} {state} {}", held.hash, held.key);
        }
    }
    print_summary(&report, keys.is_some());
    if report.is_sound() {
        return Ok(());
    }
    let of_index = usize::from(matches!(report.index, IndexVerdict::Differs { .. }));
    Err(VerifyError::NotSound { faults: report.faults.len() + of_index })
}

/// Whose proofs can be checked: this node's, and those of everybody enrolled.
struct Keys {
    own: OwnKeys,
    directory: Directory,
}

impl Keys {
    fn read(key: &std::path::Path, peers: &std::path::Path) -> Result<Self, EnrolError> {
        let directory = peers_file::directory(peers, &peers_file::load(peers)?)?;
        Ok(Self { own: key_file::read(key)?, directory })
    }

    fn of(&self, dot: &Dot, id: KeyId) -> Result<PublicKey, KeyRefusal> {
        // This node does not stand among its own peers, so its key is for whoever does not.
        match self.directory.node(&dot.origin.node) {
            Some(_) => self.directory.sealing_key(dot, id).cloned(),
            None => self.own.sealing_key(dot, id).cloned(),
        }
    }

    fn judge(&self, op: &Op, sealed: &SealedOp) -> ProofVerdict {
        match verify_proof(&op.dot, &sealed.op.hash, &sealed.proof, |dot, id| self.of(dot, id)) {
            Ok(()) => ProofVerdict::Holds,
            Err(_) => ProofVerdict::Fails,
        }
    }
}

fn print_summary(report: &VerifyReport, proofs_checked: bool) {
    let node = report.node.as_ref().map_or("nobody", |node| node.as_str());
    println!(
        "node {node}, log of {} bytes in {} groups, from position {}",
        report.log_end - report.log_begin,
        report.groups,
        report.log_begin
    );
    println!(
        "{} ops, {} live versions, {} visible records, proofs {}",
        report.ops.len(),
        report.live_versions,
        report.visible_records,
        if proofs_checked { "checked" } else { "not checked (--key-file, --peers-file)" }
    );
    match report.index {
        IndexVerdict::Agrees { to } => println!("the index agrees with the log up to {to}"),
        IndexVerdict::Unusable => println!("there is no usable index: the next start makes it again"),
        IndexVerdict::Differs { keys } => println!("FAULT: the index differs from the log in {keys} keys"),
    }
    if report.torn_bytes > 0 {
        println!("{} bytes of an unfinished group at the end: the next start cuts them", report.torn_bytes);
    }
    for fault in &report.faults {
        println!("FAULT: {fault}");
    }
}
