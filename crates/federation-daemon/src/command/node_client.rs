//! How a command asks a running node: one request, one answer, over its client API.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use federation_net::tls::pem::{CertificateDer, PemObject as _};
use federation_wire::api::ErrorBody;
use federation_wire::api::token::{ClientSecret, SecretError};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper::http::uri::Scheme;
use hyper::{Method, Request, Uri, header};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto, version};
use zeroize::Zeroizing;

use crate::files::{OpenTo, PrivateFileError, read_whole};

/// How long a request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes beyond which an answer is not read.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes beyond which a file holds no token, or no CA certificates.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Which node a command asks, and as whom.
#[derive(Clone, Debug, clap::Args)]
pub struct NodeArgs {
    /// The node's client URL; http:// on loopback alone.
    #[arg(long, global = true, default_value = "http://127.0.0.1:9077")]
    pub url: String,
    /// A file, mode 0600, with the secret of a token that has the right `admin`; none for a node without tokens.
    #[arg(long, global = true)]
    pub token_file: Option<PathBuf>,
    /// CA certificates (PEM) that the node's certificate must lead to; for https://.
    #[arg(long, global = true)]
    pub ca: Option<PathBuf>,
}

/// Why a node did not answer as asked.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The URL is not one that is asked.
    #[error("--url {url}: give http://127.0.0.1:PORT or https://HOST:PORT, without a path")]
    Url {
        /// The URL.
        url: String,
    },
    /// The secret would go over the net as it is.
    #[error("--url {url}: http:// is taken for loopback alone; give https:// and --ca")]
    NotLoopback {
        /// The URL.
        url: String,
    },
    /// There is nothing to check the node's certificate with.
    #[error("--ca is missing: https:// wants the CA certificates that the node's certificate leads to")]
    NoCa,
    /// A file could not be read.
    #[error("{}: {why}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        why: PrivateFileError,
    },
    /// The file holds no token.
    #[error("{}: {why}", path.display())]
    Token {
        /// The file.
        path: PathBuf,
        /// Why.
        why: SecretError,
    },
    /// The file holds no CA certificate.
    #[error("{}: holds no CA certificate in PEM", path.display())]
    Ca {
        /// The file.
        path: PathBuf,
    },
    /// No answer came.
    #[error("{url} gave no answer")]
    NoAnswer {
        /// The node.
        url: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The node refused.
    #[error("{url} answered {status} {slug}: {message}")]
    Refused {
        /// The node.
        url: String,
        /// The status.
        status: u16,
        /// What it is.
        slug: String,
        /// What to do.
        message: String,
    },
    /// The answer is not one of this API.
    #[error("{url} answered {status} with something that is not of this API")]
    Foreign {
        /// The node.
        url: String,
        /// The status.
        status: u16,
    },
}

/// Asks one node.
pub struct NodeClient {
    url: String,
    host: String,
    port: u16,
    authorization: Option<Zeroizing<String>>,
    tls: Option<TlsConnector>,
}

impl NodeClient {
    /// Reads the files that are named. Nothing is asked yet.
    ///
    /// # Errors
    /// [`AskError`].
    pub fn new(args: &NodeArgs) -> Result<Self, AskError> {
        let url = args.url.trim_end_matches('/').to_owned();
        let bad = || AskError::Url { url: url.clone() };
        let uri: Uri = url.parse().map_err(|_| bad())?;
        let is_tls = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            _ => return Err(bad()),
        };
        if uri.path() != "/" || uri.query().is_some() {
            return Err(bad());
        }
        let host = uri.host().ok_or_else(bad)?.trim_matches(['[', ']']).to_owned();
        let is_loopback = host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        if !is_tls && !is_loopback {
            return Err(AskError::NotLoopback { url });
        }
        let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let tls = is_tls.then(|| tls(args.ca.as_deref())).transpose()?;
        let authorization = args.token_file.as_deref().map(authorization).transpose()?;
        Ok(Self { url, host, port, authorization, tls })
    }

    /// `GET`.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, AskError> {
        self.ask(Method::GET, path).await
    }

    /// `POST` without a body.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn post<T: DeserializeOwned>(&self, path: &str) -> Result<T, AskError> {
        self.ask(Method::POST, path).await
    }

    async fn ask<T: DeserializeOwned>(&self, method: Method, path: &str) -> Result<T, AskError> {
        let answered = tokio::time::timeout(REQUEST_TIMEOUT, self.exchange(method, path)).await;
        let no_answer = |source| AskError::NoAnswer { url: self.url.clone(), source };
        let (status, body) = answered.map_err(|late| no_answer(late.into()))?.map_err(no_answer)?;
        let url = || self.url.clone();
        let foreign = |_| AskError::Foreign { url: url(), status };
        if (200..300).contains(&status) {
            return serde_json::from_slice(&body).map_err(foreign);
        }
        let ErrorBody { error: slug, message, .. } = serde_json::from_slice(&body).map_err(foreign)?;
        Err(AskError::Refused { url: url(), status, slug, message })
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
    ) -> Result<(u16, Bytes), Box<dyn std::error::Error + Send + Sync>> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        match &self.tls {
            None => self.exchange_on(stream, method, path).await,
            Some(tls) => {
                let name = ServerName::try_from(self.host.clone())?;
                self.exchange_on(tls.connect(name, stream).await?, method, path).await
            }
        }
    }

    async fn exchange_on(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        method: Method,
        path: &str,
    ) -> Result<(u16, Bytes), Box<dyn std::error::Error + Send + Sync>> {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, &self.host);
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, authorization.as_str());
        }
        let request = request.body(Empty::<Bytes>::new())?;
        let answered = async {
            let answer = sender.send_request(request).await?;
            let status = answer.status().as_u16();
            let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await?.to_bytes();
            Ok((status, body))
        };
        tokio::pin!(connection, answered);
        tokio::select! {
            biased;
            answer = &mut answered => answer,
            ended = &mut connection => {
                ended?;
                answered.await
            }
        }
    }
}

fn authorization(path: &Path) -> Result<Zeroizing<String>, AskError> {
    let bytes = read(path, OpenTo::Owner)?;
    let secret = ClientSecret::parse(bytes.trim_ascii())
        .map_err(|why| AskError::Token { path: path.to_owned(), why })?;
    Ok(Zeroizing::new(format!("Bearer {}", *secret.to_text())))
}

fn tls(ca: Option<&Path>) -> Result<TlsConnector, AskError> {
    let path = ca.ok_or(AskError::NoCa)?;
    let no_ca = || AskError::Ca { path: path.to_owned() };
    let bytes = read(path, OpenTo::Others)?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&bytes) {
        roots.add(certificate.map_err(|_| no_ca())?).map_err(|_| no_ca())?;
    }
    if roots.is_empty() {
        return Err(no_ca());
    }
    let config = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_protocol_versions(&[&version::TLS13])
        .map_err(|_| no_ca())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

fn read(path: &Path, open_to: OpenTo) -> Result<Zeroizing<Vec<u8>>, AskError> {
    read_whole(path, open_to, FILE_BYTES_MAX).map_err(|why| AskError::File { path: path.to_owned(), why })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_goes_over_tls_or_stays_on_the_machine() {
        let check = |url: &str, expect: &str| {
            let args = NodeArgs { url: url.to_owned(), token_file: None, ca: None };
            let found = NodeClient::new(&args).err().map_or_else(String::new, |error| error.to_string());
            assert!(found.contains(expect) && found.is_empty() == expect.is_empty(), "{url}: {found}");
        };
        check("http://127.0.0.1:9077", "");
        check("http://127.0.0.1:9077/", "");
        check("http://[::1]:9077", "");
        check("http://192.0.2.1:9077", "loopback alone");
        check("http://localhost.example:9077", "loopback alone");
        check("https://node.example:9077", "--ca is missing");
        for bad in
            ["", "127.0.0.1:9077", "ftp://127.0.0.1", "http://127.0.0.1:9077/api", "http://127.0.0.1/?x"]
        {
            check(bad, "without a path");
        }
    }
}
