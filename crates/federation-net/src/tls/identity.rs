//! Whom a certificate proves.

use federation_core::id::NodeId;
use federation_wire::identity::{Directory, EnrolledNode};
use federation_wire::keys::PublicKey;
use ring::digest::{SHA256, digest};
use rustls::sign::public_key_to_spki;
use rustls_pki_types::{CertificateDer, alg_id};
use webpki::EndEntityCert;

use super::certificate::Trust;
use crate::transport::ChannelIdentity;

impl Trust {
    /// The enrolled node that holds the key of this certificate, if there is one. Of a PKI's certificate the chain must
    /// have been verified.
    pub(super) fn identity(
        &self,
        certificate: &CertificateDer<'_>,
        directory: &Directory,
    ) -> Option<ChannelIdentity> {
        match self {
            Self::NodeKeys => {
                let (node, key) = directory.caller(&node_key(certificate)?)?;
                Some(ChannelIdentity::NodeKey { node: node.clone(), key })
            }
            Self::Pki { spiffe_domain, .. } => {
                let node = bound(certificate, directory, spiffe_domain.as_deref())?;
                Some(ChannelIdentity::Certificate { node: node.id.clone() })
            }
        }
    }
}

/// The node key that a certificate is of.
fn node_key(certificate: &CertificateDer<'_>) -> Option<PublicKey> {
    let spki = EndEntityCert::try_from(certificate).ok()?.subject_public_key_info();
    let (_, key) = spki.split_last_chunk::<32>()?;
    let is_whole = public_key_to_spki(&alg_id::ED25519, key) == spki;
    if is_whole { PublicKey::from_bytes(key).ok() } else { None }
}

/// The node that a PKI's certificate is bound to: by its fingerprint, or by the one SPIFFE name that it has. An entry
/// with a fingerprint takes no other certificate.
fn bound<'a>(
    certificate: &CertificateDer<'_>,
    directory: &'a Directory,
    spiffe_domain: Option<&str>,
) -> Option<&'a EnrolledNode> {
    let fingerprint = digest(&SHA256, certificate);
    let has_it = |node: &&EnrolledNode| {
        node.tls_fingerprint.is_some_and(|enrolled| enrolled.as_slice() == fingerprint.as_ref())
    };
    let node = match directory.nodes().find(has_it) {
        Some(node) => node,
        None => directory
            .node(&spiffe_name(certificate, spiffe_domain?)?)
            .filter(|node| node.tls_fingerprint.is_none())?,
    };
    (!node.is_retired()).then_some(node)
}

/// The node id of `spiffe://<domain>/<node-id>`, if that is the certificate's only URI.
fn spiffe_name(certificate: &CertificateDer<'_>, domain: &str) -> Option<NodeId> {
    let certificate = EndEntityCert::try_from(certificate).ok()?;
    let mut names = certificate.valid_uri_names();
    let (name, None) = (names.next()?, names.next()) else { return None };
    let id = name.strip_prefix("spiffe://")?.strip_prefix(domain)?.strip_prefix('/')?;
    NodeId::new(id).ok()
}
