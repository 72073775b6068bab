//! A small HTTP client for those who run nodes.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Method, Request, header};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

use crate::supervisor::SupervisorError;

/// How long a request may take unless told otherwise. Longer than any quorum wait.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Speaks HTTP/1.1 to nodes; connections are kept and shared. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Client {
    inner: legacy::Client<HttpConnector, Full<Bytes>>,
    timeout: Duration,
}

/// An answer, read to its end.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The URL asked.
    pub url: String,
    /// Its status.
    pub status: u16,
    /// Its headers.
    pub headers: hyper::HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl Default for Client {
    fn default() -> Self {
        Self::with_timeout(REQUEST_TIMEOUT)
    }
}

impl Client {
    /// A client whose requests end after `timeout`.
    pub fn with_timeout(timeout: Duration) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let inner = legacy::Client::builder(TokioExecutor::new()).build(connector);
        Self { inner, timeout }
    }

    /// `GET url`.
    pub async fn get(&self, url: &str) -> Result<Answer, SupervisorError> {
        self.send(Method::GET, url, None).await
    }

    /// `DELETE url`.
    pub async fn delete(&self, url: &str) -> Result<Answer, SupervisorError> {
        self.send(Method::DELETE, url, None).await
    }

    /// `POST url` with a JSON body.
    pub async fn post(&self, url: &str, body: &Value) -> Result<Answer, SupervisorError> {
        self.send(Method::POST, url, Some(("application/json", body.to_string().into()))).await
    }

    /// `PUT url` with a JSON body.
    pub async fn put(&self, url: &str, body: &Value) -> Result<Answer, SupervisorError> {
        self.send(Method::PUT, url, Some(("application/json", body.to_string().into()))).await
    }

    /// Any request; the body with its content type.
    pub async fn send(
        &self,
        method: Method,
        url: &str,
        body: Option<(&str, Bytes)>,
    ) -> Result<Answer, SupervisorError> {
        self.send_with(method, url, &[], body).await
    }

    /// Any request with headers of the caller's.
    pub async fn send_with(
        &self,
        method: Method,
        url: &str,
        headers: &[(&str, &str)],
        body: Option<(&str, Bytes)>,
    ) -> Result<Answer, SupervisorError> {
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| SupervisorError::Request {
            method: method.to_string(),
            url: url.to_owned(),
            source,
        };
        let mut request = Request::builder().method(method.clone()).uri(url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some((content_type, _)) = &body {
            request = request.header(header::CONTENT_TYPE, *content_type);
        }
        let body = body.map(|(_, bytes)| bytes).unwrap_or_default();
        let request = request.body(Full::new(body)).map_err(|error| failed(error.into()))?;
        let exchange = async {
            let (head, body) = self.inner.request(request).await?.into_parts();
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>((head, body.collect().await?.to_bytes()))
        };
        match tokio::time::timeout(self.timeout, exchange).await {
            Ok(Ok((head, body))) => {
                Ok(Answer { url: url.to_owned(), status: head.status.as_u16(), headers: head.headers, body })
            }
            Ok(Err(error)) => Err(failed(error)),
            Err(elapsed) => Err(failed(elapsed.into())),
        }
    }
}

impl Answer {
    /// The body as JSON.
    pub fn json(&self) -> Result<Value, SupervisorError> {
        serde_json::from_slice(&self.body)
            .map_err(|_| SupervisorError::NotJson { url: self.url.clone(), status: self.status })
    }

    /// The body as one JSON value per line.
    pub fn json_lines(&self) -> Result<Vec<Value>, SupervisorError> {
        self.body
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(serde_json::from_slice)
            .collect::<Result<_, _>>()
            .map_err(|_| SupervisorError::NotJson { url: self.url.clone(), status: self.status })
    }

    /// The body as text, for messages.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}
