//! Mutual TLS between nodes: TLS 1.3 through rustls, with ring, and nothing older.
//!
//! Normally there is no certificate to manage: a node shows one that it made at start from its node key
//! ([`Credentials::of_node_key`]), and the other side looks whether that key is an active one of an enrolled node. Names
//! and dates in such a certificate mean nothing. Where an operator brings a PKI ([`Credentials::of_pki`]), a certificate
//! must lead to its CA, and is bound to a node by its fingerprint or by a SPIFFE name.
//!
//! Both look the node up in [`Enrolled`] at each handshake. Sessions are never resumed: a resumed one would not.

mod certificate;
mod identity;
mod listener;
mod verifier;

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use federation_core::id::NodeId;
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::server::NoServerSessionStorage;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::TLS13;
use rustls::{ClientConfig, ConfigBuilder, ConfigSide, ServerConfig, WantsVerifier, WantsVersions};
use rustls_pki_types::CertificateDer;

pub use certificate::{Credentials, PkiFault, PkiFile, PkiMaterial};
pub use listener::{ListenerTls, ListenerTlsError};

use crate::enrolled::Enrolled;
use crate::transport::ChannelIdentity;
use certificate::Trust;
use verifier::PeerVerifier;

/// Types of certificates and keys, and how they come from PEM.
pub mod pem {
    pub use rustls_pki_types::pem::{Error, PemObject};
    pub use rustls_pki_types::{CertificateDer, PrivateKeyDer};
}

/// HTTP/2, as between nodes.
const ALPN_H2: &[u8] = b"h2";
/// HTTP/1.1, which the peer listener also takes.
const ALPN_HTTP1: &[u8] = b"http/1.1";

/// Why there can be no TLS.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TlsError {
    /// The library refuses its own parts: a broken build.
    #[error("the TLS library could not be set up")]
    Library(#[source] rustls::Error),
    /// The certificate of the node key could not be made.
    #[error("the certificate of the node key could not be made")]
    Certificate(#[source] rcgen::Error),
}

/// What this node shows its peers, and what it takes from them. Cheap to clone; all clones are the same.
#[derive(Clone)]
pub struct PeerTls {
    enrolled: Enrolled,
    prepared: Arc<ArcSwap<Prepared>>,
}

/// What is made of credentials once, for all connections.
struct Prepared {
    certified: Arc<CertifiedKey>,
    trust: Arc<Trust>,
    server: Arc<ServerConfig>,
}

impl PeerTls {
    /// TLS with these credentials, to and from whoever is `enrolled`.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn new(enrolled: Enrolled, credentials: Credentials) -> Result<Self, TlsError> {
        let prepared = Prepared::new(&enrolled, credentials)?;
        Ok(Self { enrolled, prepared: Arc::new(ArcSwap::from_pointee(prepared)) })
    }

    /// Shows these credentials from the next handshake on. Open connections stay as they are.
    ///
    /// # Errors
    /// [`TlsError`]; nothing is changed then.
    pub fn replace(&self, credentials: Credentials) -> Result<(), TlsError> {
        self.prepared.store(Arc::new(Prepared::new(&self.enrolled, credentials)?));
        Ok(())
    }

    pub(crate) fn server_config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.prepared.load().server)
    }

    /// For one connection to `peer` and nobody else.
    pub(crate) fn client_config(&self, peer: &NodeId) -> Result<Arc<ClientConfig>, TlsError> {
        let prepared = self.prepared.load();
        let trust = Arc::clone(&prepared.trust);
        let verifier = PeerVerifier::of_server(self.enrolled.clone(), trust, peer.clone());
        let mut config = only_tls13(ClientConfig::builder_with_provider)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(&prepared.certified))));
        config.alpn_protocols = vec![ALPN_H2.to_vec()];
        config.resumption = Resumption::disabled();
        // The name of a node is in its certificate or its enrolment, and is nobody else's business.
        config.enable_sni = false;
        Ok(Arc::new(config))
    }

    /// Whom the certificate of a finished handshake proves, by the enrolments as they are now.
    pub(crate) fn identity(&self, certificates: Option<&[CertificateDer<'_>]>) -> Option<ChannelIdentity> {
        let certificate = certificates?.first()?;
        self.prepared.load().trust.identity(certificate, &self.enrolled.directory())
    }
}

impl Prepared {
    fn new(enrolled: &Enrolled, credentials: Credentials) -> Result<Self, TlsError> {
        let Credentials { certified, trust } = credentials;
        let trust = Arc::new(trust);
        let verifier = PeerVerifier::of_clients(enrolled.clone(), Arc::clone(&trust));
        let mut server = only_tls13(ServerConfig::builder_with_provider)?
            .with_client_cert_verifier(Arc::new(verifier))
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(&certified))));
        server.alpn_protocols = vec![ALPN_H2.to_vec(), ALPN_HTTP1.to_vec()];
        never_resume(&mut server);
        Ok(Self { certified, trust, server: Arc::new(server) })
    }
}

impl fmt::Debug for PeerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerTls").finish_non_exhaustive()
    }
}

/// The one provider of cryptography.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn only_tls13<S: ConfigSide>(
    builder: impl FnOnce(Arc<CryptoProvider>) -> ConfigBuilder<S, WantsVersions>,
) -> Result<ConfigBuilder<S, WantsVerifier>, TlsError> {
    builder(provider()).with_protocol_versions(&[&TLS13]).map_err(TlsError::Library)
}

fn never_resume(config: &mut ServerConfig) {
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
}
