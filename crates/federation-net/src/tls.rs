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
use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::KeyUsage;

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

/// Who is at the other end of a connection, and by what they have proven it.
#[derive(Clone, Debug)]
pub(crate) struct Proven {
    pub(crate) channel: ChannelIdentity,
    /// The certificate that was shown, and those between it and the CA.
    chain: Vec<CertificateDer<'static>>,
    usage: KeyUsage,
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

    /// Shows these credentials, and takes what leads to their CA, from the next handshake on. Open connections stay until
    /// their owner looks at them again ([`crate::http::server::PeerServer::close_unproven`] and its like).
    ///
    /// # Errors
    /// [`TlsError`]; nothing is changed then.
    pub fn replace(&self, credentials: Credentials) -> Result<(), TlsError> {
        self.prepared.store(Arc::new(Prepared::new(&self.enrolled, credentials)?));
        Ok(())
    }

    /// Whether these credentials show or take other certificates than those in use.
    pub fn differs_from(&self, credentials: &Credentials) -> bool {
        let prepared = self.prepared.load();
        prepared.certified.cert != credentials.certified.cert || *prepared.trust != credentials.trust
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

    /// Whom a caller that shows this chain would be taken for now, once it has shown to hold the key.
    pub fn caller_by(&self, chain: &[CertificateDer<'_>]) -> Option<ChannelIdentity> {
        self.identity(chain, KeyUsage::client_auth())
    }

    /// Whom a finished handshake has proven, by what holds now: the caller on a listener.
    pub(crate) fn caller(&self, chain: Option<&[CertificateDer<'_>]>) -> Option<Proven> {
        self.proven(chain?, KeyUsage::client_auth())
    }

    /// As [`PeerTls::caller`], of whoever was dialled.
    pub(crate) fn dialled(&self, chain: Option<&[CertificateDer<'_>]>) -> Option<Proven> {
        self.proven(chain?, KeyUsage::server_auth())
    }

    /// Whether a handshake would prove the same now: by the enrolments, the CA and the dates as they are.
    pub(crate) fn still_proves(&self, proven: &Proven) -> bool {
        self.identity(&proven.chain, proven.usage).as_ref() == Some(&proven.channel)
    }

    fn proven(&self, chain: &[CertificateDer<'_>], usage: KeyUsage) -> Option<Proven> {
        let channel = self.identity(chain, usage)?;
        let chain = chain.iter().map(|certificate| certificate.clone().into_owned()).collect();
        Some(Proven { channel, chain, usage })
    }

    fn identity(&self, chain: &[CertificateDer<'_>], usage: KeyUsage) -> Option<ChannelIdentity> {
        let (certificate, intermediates) = chain.split_first()?;
        let trust = &self.prepared.load().trust;
        trust.verify_chain(certificate, intermediates, UnixTime::now(), usage).ok()?;
        trust.identity(certificate, &self.enrolled.directory())
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
