//! Clients that write, change and delete, and remember what they were promised.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use federation_core::dot::Dot;
use federation_daemon::supervisor::{Client, SupervisorError};
use hyper::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::poll::until;
use crate::support::{WITHIN, dot_of};

/// Clients at work.
pub(crate) struct Traffic {
    clients: JoinSet<History>,
    acked: Arc<AtomicUsize>,
    stop: CancellationToken,
}

/// What clients were told.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// Every op that was acknowledged.
    pub(crate) acked: Vec<Dot>,
    /// What each memory must be now: its content, or none if it was deleted. Without those whose last write was
    /// not answered, or not with success.
    pub(crate) expected: BTreeMap<String, Option<String>>,
    /// Why clients ended before they were stopped.
    pub(crate) ended: Vec<String>,
}

/// One client: it alone writes the memories of its own.
struct OneClient {
    http: Client,
    memories: String,
    name: String,
    history: History,
    acked: Arc<AtomicUsize>,
}

impl Traffic {
    /// Starts `clients` clients, each at one of `urls`. Ids begin with `name`. A client ends at the first write that
    /// is not acknowledged.
    pub(crate) fn start(http: &Client, urls: &[String], clients: usize, name: &str) -> Self {
        let (acked, stop) = (Arc::new(AtomicUsize::new(0)), CancellationToken::new());
        let mut set = JoinSet::new();
        for (number, url) in urls.iter().cycle().take(clients).enumerate() {
            let client = OneClient {
                http: http.clone(),
                memories: format!("{url}/api/v1/memories"),
                name: format!("{name}-{number}"),
                history: History::default(),
                acked: Arc::clone(&acked),
            };
            set.spawn(client.run(stop.clone()));
        }
        Self { clients: set, acked, stop }
    }

    /// Waits until so many writes were acknowledged.
    pub(crate) async fn acked(&self, count: usize) {
        until(WITHIN, "enough writes were acknowledged", async || {
            (self.acked.load(Ordering::Relaxed) >= count).then_some(())
        })
        .await;
    }

    /// Stops the clients that still run, and collects what all were told.
    pub(crate) async fn finish(mut self) -> History {
        self.stop.cancel();
        let mut all = History::default();
        while let Some(history) = self.clients.join_next().await {
            let history = history.unwrap();
            all.acked.extend(history.acked);
            all.expected.extend(history.expected);
            all.ended.extend(history.ended);
        }
        all
    }
}

impl History {
    /// What a node says otherwise than was promised.
    pub(crate) async fn broken(&self, http: &Client, url: &str) -> Vec<String> {
        let mut broken = Vec::new();
        for (id, expected) in &self.expected {
            let answer = http.get(&format!("{url}/api/v1/memories/{id}")).await.unwrap();
            let found = (answer.status == 200).then(|| answer.json().unwrap());
            let found = found.as_ref().and_then(|memory| memory.get("content")).and_then(Value::as_str);
            if found != expected.as_deref() || (found.is_none() && answer.status != 410) {
                broken.push(format!("{url} has {id} as {found:?} ({}), not {expected:?}", answer.status));
            }
        }
        broken
    }
}

impl OneClient {
    async fn run(mut self, stop: CancellationToken) -> History {
        for number in 0_usize.. {
            if stop.is_cancelled() {
                break;
            }
            let (id, content) = match number % 5 {
                // Of five memories one is changed and one deleted.
                3 => (format!("{}-{}", self.name, number - 2), Some(format!("changed in {number}"))),
                4 => (format!("{}-{}", self.name, number - 4), None),
                _ => (format!("{}-{number}", self.name), Some(format!("made in {number}"))),
            };
            // In doubt from here on, until it is answered.
            let known = self.history.expected.remove(&id).is_some();
            match self.write(&id, content.as_deref(), known).await {
                Ok(dot) => {
                    self.history.acked.push(dot);
                    self.acked.fetch_add(1, Ordering::Relaxed);
                    self.history.expected.insert(id, content);
                }
                Err(why) => {
                    self.history.ended.push(why);
                    break;
                }
            }
        }
        self.history
    }

    async fn write(&self, id: &str, content: Option<&str>, is_known: bool) -> Result<Dot, String> {
        let url = format!("{}/{id}", self.memories);
        let (method, url, body, success) = match content {
            None => (Method::DELETE, url, None, 200),
            Some(content) if is_known => (Method::PUT, url, Some(json!({ "content": content })), 200),
            Some(content) => {
                let memory = json!({ "id": id, "namespace": "traffic", "title": id, "content": content });
                (Method::POST, self.memories.clone(), Some(memory), 201)
            }
        };
        let body = body.as_ref().map(|body| ("application/json", body.to_string().into()));
        let answer = self.http.send(method, &url, body).await.map_err(|error| chain(&error))?;
        if answer.status != success {
            return Err(format!("{id}: {} {}", answer.status, answer.text()));
        }
        Ok(dot_of(&answer.json().map_err(|error| chain(&error))?))
    }
}

/// A client whose requests outlive a node that hangs.
pub(crate) fn patient() -> Client {
    Client::with_timeout(Duration::from_mins(1))
}

fn chain(error: &SupervisorError) -> String {
    error.to_string()
}
