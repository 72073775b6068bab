//! Certificates and keys from files, and what each listener speaks.

use std::path::{Path, PathBuf};

use federation_core::id::NodeId;
use federation_net::tls::pem::{CertificateDer, Error, PemObject as _, PrivateKeyDer};
use federation_net::tls::{Credentials, ListenerTls, ListenerTlsError, PkiFault, PkiFile, PkiMaterial};
use federation_wire::identity::Directory;

use crate::config::Fault;
use crate::config::fault::TlsFileProblem;
use crate::config::raw::{RawConfig, defaults};
use crate::config::valid::take;
use crate::files::{OpenTo, read_whole};

/// Bytes of a file with certificates or a key: more than any bundle of CAs that means a mesh.
const TLS_FILE_BYTES_MAX: u64 = 1024 * 1024;

/// What the peer listener speaks, and by what this node proves itself.
#[derive(Debug)]
pub struct PeerTlsSettings {
    /// What the listener speaks.
    pub listener: PeerListener,
    /// An operator's PKI; none: the node key proves itself.
    pub pki: Option<Credentials>,
}

/// What the peer listener speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerListener {
    /// Mutual TLS.
    Tls,
    /// Plain HTTP, on loopback alone.
    Plain,
}

/// Files that belong together, of which some may be missing.
type Pair<'a> = [(&'static str, Option<&'a PathBuf>); 2];

/// What the client listener shows; nothing if it is plain.
pub(super) fn of_clients(raw: &RawConfig, faults: &mut Vec<Fault>) -> Option<ListenerTls> {
    let pair = [("tls_cert", raw.tls_cert.as_ref()), ("tls_key", raw.tls_key.as_ref())];
    let (cert, key) = both(pair, "tls_cert and tls_key", faults)?;
    let chain = take(faults, certificates("tls_cert", cert));
    let secret = take(faults, private_key("tls_key", key));
    let made = ListenerTls::new(chain?, secret?).map_err(|error| match error {
        ListenerTlsError::Pki(PkiFile::Key, fault) => file_fault("tls_key", key, fault),
        ListenerTlsError::Pki(_, fault) => file_fault("tls_cert", cert, fault),
        ListenerTlsError::Library(error) => error.into(),
    });
    take(faults, made)
}

/// What peers are shown and must show.
pub(super) fn of_peers(raw: &RawConfig, faults: &mut Vec<Fault>) -> PeerTlsSettings {
    let listener = match raw.peer_tls.as_deref().unwrap_or(defaults::peer_tls) {
        "on" => PeerListener::Tls,
        "off" => PeerListener::Plain,
        text => {
            let text = text.to_owned();
            faults.push(Fault::Choice { setting: "peer_tls", text, words: "on, off" });
            PeerListener::Tls
        }
    };
    PeerTlsSettings { listener, pki: pki(raw, faults) }
}

/// Under a PKI each dialled peer has something by which a certificate is its own.
pub(super) fn check_bound<'a>(
    raw: &RawConfig,
    directory: &Directory,
    dialled: impl IntoIterator<Item = &'a NodeId>,
    faults: &mut Vec<Fault>,
) {
    if raw.peer_tls_ca.is_none() || raw.peer_spiffe_domain.is_some() {
        return;
    }
    let unbound =
        dialled.into_iter().filter(|id| directory.node(id).is_none_or(|node| node.tls_fingerprint.is_none()));
    faults.extend(unbound.map(|id| Fault::PeerUnbound { id: id.to_string() }));
}

fn pki(raw: &RawConfig, faults: &mut Vec<Fault>) -> Option<Credentials> {
    const ALL: &str = "peer_tls_cert, peer_tls_key and peer_tls_ca";
    let (cert, key, ca) = (raw.peer_tls_cert.as_ref(), raw.peer_tls_key.as_ref(), raw.peer_tls_ca.as_ref());
    let spiffe_domain = raw.peer_spiffe_domain.clone();
    if let Some(text) = spiffe_domain.clone().filter(|text| !is_trust_domain(text)) {
        faults.push(Fault::SpiffeDomain { text });
    }
    if let (Some(_), None) = (&spiffe_domain, ca) {
        faults.push(Fault::Incomplete { given: "peer_spiffe_domain", missing: "peer_tls_ca", all: ALL });
    }
    let own = [("peer_tls_cert", cert), ("peer_tls_key", key)];
    let (cert, key) = match (both(own, ALL, faults), ca) {
        (Some(own), Some(_)) => own,
        (Some(_), None) => {
            faults.push(Fault::Incomplete { given: "peer_tls_cert", missing: "peer_tls_ca", all: ALL });
            return None;
        }
        (None, Some(_)) if cert.is_none() && key.is_none() => {
            faults.push(Fault::Incomplete { given: "peer_tls_ca", missing: "peer_tls_cert", all: ALL });
            return None;
        }
        (None, _) => return None,
    };
    let ca = ca?;
    let chain = take(faults, certificates("peer_tls_cert", cert));
    let secret = take(faults, private_key("peer_tls_key", key));
    let roots = take(faults, certificates("peer_tls_ca", ca));
    let material = PkiMaterial { chain: chain?, key: secret?, roots: roots?, spiffe_domain };
    let made = Credentials::of_pki(material).map_err(|(file, fault)| match file {
        PkiFile::Chain => file_fault("peer_tls_cert", cert, fault),
        PkiFile::Key => file_fault("peer_tls_key", key, fault),
        PkiFile::Roots => file_fault("peer_tls_ca", ca, fault),
    });
    take(faults, made)
}

/// Both, if both are given. One alone is a fault.
fn both<'a>(pair: Pair<'a>, all: &'static str, faults: &mut Vec<Fault>) -> Option<(&'a Path, &'a Path)> {
    match pair {
        [(_, Some(first)), (_, Some(second))] => return Some((first, second)),
        [(_, None), (_, None)] => {}
        [(given, Some(_)), (missing, None)] | [(missing, None), (given, Some(_))] => {
            faults.push(Fault::Incomplete { given, missing, all });
        }
    }
    None
}

fn certificates(setting: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let bytes = read(setting, path, OpenTo::Others)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let certificates = certificates.map_err(|error| pem_fault(setting, path, &error))?;
    if certificates.is_empty() {
        Err(file_fault(setting, path, PkiFault::NoCertificate))
    } else {
        Ok(certificates)
    }
}

fn private_key(setting: &'static str, path: &Path) -> Result<PrivateKeyDer<'static>, Fault> {
    let bytes = read(setting, path, OpenTo::Owner)?;
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| pem_fault(setting, path, &error))
}

fn read(setting: &'static str, path: &Path, open_to: OpenTo) -> Result<zeroize::Zeroizing<Vec<u8>>, Fault> {
    read_whole(path, open_to, TLS_FILE_BYTES_MAX).map_err(|error| file_fault(setting, path, error))
}

fn file_fault(setting: &'static str, path: &Path, problem: impl Into<TlsFileProblem>) -> Fault {
    Fault::TlsFile { setting, path: path.to_owned(), problem: problem.into() }
}

/// What the parser says names no content of the file: it may be a key.
fn pem_fault(setting: &'static str, path: &Path, error: &Error) -> Fault {
    let problem = match error {
        Error::NoItemsFound => TlsFileProblem::NotInIt,
        _ => TlsFileProblem::NotPem,
    };
    Fault::TlsFile { setting, path: path.to_owned(), problem }
}

/// The characters of a SPIFFE trust domain.
fn is_trust_domain(text: &str) -> bool {
    let is_allowed =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'_');
    (1..=255).contains(&text.len()) && text.bytes().all(is_allowed)
}
