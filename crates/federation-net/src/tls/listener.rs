//! TLS of a listener whose callers do not prove themselves by a certificate: the client API.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::sign::SingleCertAndKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::certificate::{PkiFault, PkiFile, certified};
use super::{ALPN_HTTP1, TlsError, never_resume, only_tls13};

/// A listener's certificate. Cheap to clone; all clones are the same.
#[derive(Clone)]
pub struct ListenerTls(Arc<ArcSwap<Shown>>);

struct Shown {
    chain: Vec<CertificateDer<'static>>,
    config: Arc<ServerConfig>,
}

/// Why a listener's certificate is not taken.
#[derive(Debug, thiserror::Error)]
pub enum ListenerTlsError {
    /// A file is at fault.
    #[error("{1}")]
    Pki(PkiFile, PkiFault),
    /// The library is.
    #[error(transparent)]
    Library(#[from] TlsError),
}

impl ListenerTls {
    /// TLS with this certificate and its key.
    ///
    /// # Errors
    /// [`ListenerTlsError`].
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, ListenerTlsError> {
        let shown = Shown { chain: chain.clone(), config: config(chain, key)? };
        Ok(Self(Arc::new(ArcSwap::from_pointee(shown))))
    }

    /// Shows the certificate of `other` from the next handshake on.
    pub fn adopt(&self, other: &Self) {
        self.0.store(other.0.load_full());
    }

    /// Whether `other` shows another certificate.
    pub fn differs_from(&self, other: &Self) -> bool {
        self.0.load().chain != other.0.load().chain
    }

    /// What the next handshake is done with.
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.0.load().config)
    }
}

fn config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<ServerConfig>, ListenerTlsError> {
    let certified = certified(chain, key).map_err(|(file, fault)| ListenerTlsError::Pki(file, fault))?;
    let mut config = only_tls13(ServerConfig::builder_with_provider)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    config.alpn_protocols = vec![ALPN_HTTP1.to_vec()];
    never_resume(&mut config);
    Ok(Arc::new(config))
}

impl fmt::Debug for ListenerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListenerTls").finish_non_exhaustive()
    }
}
