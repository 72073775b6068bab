//! What a node shows: the certificate of its node key, or that of an operator's PKI.

use std::fmt;
use std::sync::Arc;

use federation_core::id::NodeId;
use federation_wire::keys::NodeKey;
use rcgen::{CertificateParams, DistinguishedName, DnType, PKCS_ED25519, PublicKeyData};
use rustls::RootCertStore;
use rustls::sign::{CertifiedKey, Signer, SigningKey};
use rustls::{InconsistentKeys, SignatureAlgorithm, SignatureScheme};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, SubjectPublicKeyInfoDer, alg_id};

use super::{TlsError, provider};

/// A certificate with its key, and whose certificates are taken.
pub struct Credentials {
    pub(super) certified: Arc<CertifiedKey>,
    pub(super) trust: Trust,
}

/// Whose certificates are taken.
#[derive(PartialEq)]
pub(super) enum Trust {
    /// Those of enrolled node keys.
    NodeKeys,
    /// Those that lead to an operator's CA and are bound to a node.
    Pki {
        /// The CA.
        roots: Roots,
        /// `spiffe://<domain>/` before a node id; none: fingerprints alone bind.
        spiffe_domain: Option<String>,
    },
}

/// Certificates of the CA, ready for verifying.
pub(super) struct Roots(pub(super) RootCertStore);

impl PartialEq for Roots {
    fn eq(&self, other: &Self) -> bool {
        self.0.roots == other.0.roots
    }
}

/// What an operator brings. The key is dropped with it once it is taken over.
pub struct PkiMaterial {
    /// This node's certificate, and those between it and the CA.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its key.
    pub key: PrivateKeyDer<'static>,
    /// Certificates of the CA.
    pub roots: Vec<CertificateDer<'static>>,
    /// The trust domain of `spiffe://<domain>/<node-id>`, if such names bind.
    pub spiffe_domain: Option<String>,
}

/// What is wrong with the files of a PKI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PkiFault {
    /// No certificate.
    #[error("holds no certificate")]
    NoCertificate,
    /// A certificate that is none.
    #[error("holds something that is not an X.509 certificate")]
    Certificate,
    /// A key of a kind that TLS does not use.
    #[error("is not a key that TLS uses: RSA, ECDSA (P-256, P-384) or Ed25519, in PKCS#8, PKCS#1 or SEC1")]
    Key,
    /// The key belongs to another certificate.
    #[error("is not the key of the certificate")]
    KeyOfAnother,
    /// A certificate of the CA that is none.
    #[error("holds a certificate that cannot be a CA's")]
    Root,
}

impl Credentials {
    /// A certificate of the node key itself, made now and kept in memory alone; the key stays where it is.
    ///
    /// # Errors
    /// [`TlsError::Certificate`].
    pub fn of_node_key(node: &NodeId, key: &Arc<NodeKey>) -> Result<Self, TlsError> {
        let signing = NodeKeySigner(Arc::clone(key));
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        // For people who look at a handshake. Nothing is decided by it.
        params.distinguished_name.push(DnType::CommonName, node.as_str());
        params.serial_number = Some(1_u64.into());
        let certificate = params.self_signed(&signing).map_err(TlsError::Certificate)?;
        let chain = vec![certificate.der().clone()];
        let certified = Arc::new(CertifiedKey::new(chain, Arc::new(signing)));
        Ok(Self { certified, trust: Trust::NodeKeys })
    }

    /// What an operator brings, on both ends of a connection.
    ///
    /// # Errors
    /// The first fault, and in which of the files it is.
    pub fn of_pki(material: PkiMaterial) -> Result<Self, (PkiFile, PkiFault)> {
        let PkiMaterial { chain, key, roots, spiffe_domain } = material;
        let certified = certified(chain, key)?;
        let mut store = RootCertStore::empty();
        if roots.is_empty() {
            return Err((PkiFile::Roots, PkiFault::NoCertificate));
        }
        for root in roots {
            store.add(root).map_err(|_| (PkiFile::Roots, PkiFault::Root))?;
        }
        let trust = Trust::Pki { roots: Roots(store), spiffe_domain };
        Ok(Self { certified: Arc::new(certified), trust })
    }
}

/// Which file of a PKI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PkiFile {
    /// The certificate chain.
    Chain,
    /// The key.
    Key,
    /// The CA's certificates.
    Roots,
}

/// A chain with its key, which must be one pair.
pub(super) fn certified(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<CertifiedKey, (PkiFile, PkiFault)> {
    if chain.is_empty() {
        return Err((PkiFile::Chain, PkiFault::NoCertificate));
    }
    let key = provider().key_provider.load_private_key(key).map_err(|_| (PkiFile::Key, PkiFault::Key))?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(certified),
        Err(rustls::Error::InconsistentKeys(_)) => Err((PkiFile::Key, PkiFault::KeyOfAnother)),
        Err(_) => Err((PkiFile::Chain, PkiFault::Certificate)),
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

impl fmt::Debug for PkiMaterial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PkiMaterial").field("chain", &self.chain.len()).finish_non_exhaustive()
    }
}

/// The node key as TLS asks for it. What TLS 1.3 signs begins with a context of its own, a certificate with the tag of
/// its structure: neither is a message of the protocol.
#[derive(Debug)]
struct NodeKeySigner(Arc<NodeKey>);

impl PublicKeyData for NodeKeySigner {
    fn der_bytes(&self) -> &[u8] {
        self.0.public().as_bytes()
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &PKCS_ED25519
    }
}

impl rcgen::SigningKey for NodeKeySigner {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Ok(self.0.sign(message).to_vec())
    }
}

impl SigningKey for NodeKeySigner {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        let signer: Box<dyn Signer> = Box::new(Self(Arc::clone(&self.0)));
        offered.contains(&SignatureScheme::ED25519).then_some(signer)
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        Some(rustls::sign::public_key_to_spki(&alg_id::ED25519, self.0.public().as_bytes()))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ED25519
    }
}

impl Signer for NodeKeySigner {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        Ok(self.0.sign(message).to_vec())
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::ED25519
    }
}
