//! What a handshake asks of the other side's certificate.

use std::sync::Arc;

use federation_core::id::NodeId;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, PeerIncompatible,
    SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use webpki::{EndEntityCert, KeyUsage};

use super::certificate::Trust;
use super::provider;
use crate::enrolled::Enrolled;

/// Takes the certificates of enrolled nodes: as a server of any, as a client of the one that was dialled.
pub(super) struct PeerVerifier {
    enrolled: Enrolled,
    trust: Arc<Trust>,
    /// Who must be there; none: anybody who is enrolled.
    dialled: Option<NodeId>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl PeerVerifier {
    pub(super) fn of_clients(enrolled: Enrolled, trust: Arc<Trust>) -> Self {
        Self { enrolled, trust, dialled: None, algorithms: provider().signature_verification_algorithms }
    }

    pub(super) fn of_server(enrolled: Enrolled, trust: Arc<Trust>, dialled: NodeId) -> Self {
        Self { dialled: Some(dialled), ..Self::of_clients(enrolled, trust) }
    }

    fn verify(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        usage: KeyUsage,
    ) -> Result<(), Error> {
        self.trust.verify_chain(certificate, intermediates, now, usage)?;
        let found = self.trust.identity(certificate, &self.enrolled.directory());
        let is_right = found
            .as_ref()
            .and_then(|channel| channel.node())
            .is_some_and(|found| self.dialled.as_ref().is_none_or(|dialled| dialled == found));
        // The alert tells that it was refused and no more.
        if is_right { Ok(()) } else { Err(CertificateError::ApplicationVerificationFailure.into()) }
    }

    fn verify_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn schemes(&self) -> Vec<SignatureScheme> {
        match &*self.trust {
            Trust::NodeKeys => vec![SignatureScheme::ED25519],
            Trust::Pki { .. } => self.algorithms.supported_schemes(),
        }
    }
}

impl Trust {
    /// Under a PKI: that the certificate leads to the CA, is in date, and may be used so.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn verify_chain(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        usage: KeyUsage,
    ) -> Result<(), Error> {
        let Self::Pki { roots, .. } = self else { return Ok(()) };
        let algorithms = provider().signature_verification_algorithms.all;
        EndEntityCert::try_from(certificate)
            .and_then(|certificate| {
                let roots = roots.0.roots.as_slice();
                certificate
                    .verify_for_usage(algorithms, roots, intermediates, now, usage, None, None)
                    .map(drop)
            })
            .map_err(|error| Error::InvalidCertificate(chain_error(error)))
    }
}

fn chain_error(error: webpki::Error) -> CertificateError {
    match error {
        webpki::Error::CertExpired { .. } => CertificateError::Expired,
        webpki::Error::CertNotValidYet { .. } => CertificateError::NotValidYet,
        webpki::Error::UnknownIssuer => CertificateError::UnknownIssuer,
        error => CertificateError::Other(OtherError(Arc::new(error))),
    }
}

impl std::fmt::Debug for PeerVerifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PeerVerifier").field("dialled", &self.dialled).finish_non_exhaustive()
    }
}

impl ServerCertVerifier for PeerVerifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verify(certificate, intermediates, now, KeyUsage::server_auth())?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::ServerDoesNotSupportTls12Or13.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
    }
}

impl ClientCertVerifier for PeerVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.verify(certificate, intermediates, now, KeyUsage::client_auth())?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::ServerDoesNotSupportTls12Or13.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
    }
}
