//! Calls nodes as clients do, and records every call.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use federation_daemon::supervisor::{self, Client, SupervisorError};
use federation_wire::api::{DotText, ErrorBody, MemoryView, QuorumNotMetBody};
use hyper_util::client::legacy;
use serde_json::{Value, json};

use crate::history::{Answer, Call, Request, Seen, Sharing};

/// Where all records of a campaign are.
const NAMESPACE: &str = "chaos";
/// How long a client waits: far longer than any quorum wait, so that only a node that hangs is given up.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// Characters of an answer's body that are kept if no document names it.
const BODY_CHARS_KEPT: usize = 200;

/// The refusals that the documents name for what is asked here, by status: in each nothing was written.
const REFUSALS: [(u16, &[&str]); 4] = [
    (404, &["not_found"]),
    (409, &["already_exists", "changed", "too_many_siblings", "context_too_large"]),
    (410, &["deleted"]),
    (503, &["overloaded", "busy", "catching_up", "starting", "stopping", "disk_full", "store_read_only"]),
];

/// Calls nodes and records the history. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Caller {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    client: Client,
    urls: Vec<String>,
    in_flight: Vec<AtomicUsize>,
    began: Instant,
    calls: Mutex<Vec<Call>>,
}

/// Who calls which node about what.
#[derive(Clone, Debug)]
pub struct Target<'a> {
    /// The client.
    pub client: u32,
    /// The node, from 0.
    pub node: usize,
    /// The record.
    pub key: &'a str,
    /// Who else writes it.
    pub sharing: Sharing,
}

impl Caller {
    /// A caller of the nodes at these URLs. The history begins now.
    pub fn new(urls: Vec<String>) -> Self {
        let in_flight = urls.iter().map(|_| AtomicUsize::new(0)).collect();
        let client = Client::with_timeout(CALL_TIMEOUT);
        let (began, calls) = (Instant::now(), Mutex::default());
        Self { shared: Arc::new(Shared { client, urls, in_flight, began, calls }) }
    }

    /// How many nodes there are.
    pub fn nodes(&self) -> usize {
        self.shared.urls.len()
    }

    /// Microseconds since the history began.
    pub fn now_us(&self) -> u64 {
        u64::try_from(self.shared.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Writes that the node has not answered yet.
    pub fn in_flight(&self, node: usize) -> usize {
        self.shared.in_flight.get(node).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// How many calls were recorded so far.
    pub fn recorded(&self) -> usize {
        self.calls().len()
    }

    /// The calls recorded from the `first`-th on.
    pub fn history(&self, first: usize) -> Vec<Call> {
        self.calls().get(first..).unwrap_or_default().to_vec()
    }

    /// Makes a call and records it.
    pub async fn call(&self, target: Target<'_>, request: Request) -> Answer {
        let begin_us = self.now_us();
        let count = self.shared.in_flight.get(target.node);
        if let Some(count) = count {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let answer = self.ask(target.node, target.key, &request).await;
        if let Some(count) = count {
            count.fetch_sub(1, Ordering::Relaxed);
        }
        let (key, end_us) = (target.key.to_owned(), self.now_us());
        let Target { client, node, sharing, .. } = target;
        let answered = answer.clone();
        let call = Call {
            client,
            node,
            key,
            sharing,
            session: None,
            level: None,
            went_back: false,
            idempotency_key: None,
            request,
            begin_us,
            end_us,
            answer: answered,
        };
        self.calls().push(call);
        answer
    }

    /// What a node shows of a record, unrecorded.
    pub async fn look(&self, node: usize, key: &str) -> Seen {
        match self.ask(node, key, &Request::Read).await {
            Answer::Read { seen, .. } => seen,
            other => Seen::Unknown { what: format!("{other:?}") },
        }
    }

    /// What a node answers to `GET path`, unrecorded; none if that is not a 200 with JSON.
    pub async fn get(&self, node: usize, path: &str) -> Option<Value> {
        let url = format!("{}{path}", self.shared.urls.get(node)?);
        let answer = self.shared.client.get(&url).await.ok()?;
        (answer.status == 200).then(|| answer.json().ok()).flatten()
    }

    async fn ask(&self, node: usize, key: &str, request: &Request) -> Answer {
        let Some(url) = self.shared.urls.get(node) else { return Answer::Unreached };
        let (all, client) = (format!("{url}/api/v1/memories"), &self.shared.client);
        let one = format!("{all}/{key}?namespace={NAMESPACE}");
        let answered = match request {
            Request::Create { content } => {
                let memory =
                    json!({ "id": key, "namespace": NAMESPACE, "title": "chaos", "content": content });
                client.post(&all, &memory).await
            }
            Request::Update { content } => client.put(&one, &json!({ "content": content })).await,
            Request::Delete => client.delete(&one).await,
            Request::Read => client.get(&one).await,
        };
        match answered {
            Ok(answer) => read_answer(request, &answer),
            Err(error) => read_failure(&error),
        }
    }

    fn calls(&self) -> MutexGuard<'_, Vec<Call>> {
        self.shared.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What an answer means.
fn read_answer(request: &Request, answer: &supervisor::Answer) -> Answer {
    let understood = match (request, answer.status) {
        (Request::Read, 200) => value_of(answer).map(|seen| Answer::Read { seen, live: BTreeSet::new() }),
        (Request::Read, 404 | 410) => refusal_of(answer).map(|(status, _)| Answer::Read {
            seen: if status == 410 { Seen::Deleted } else { Seen::Missing },
            live: BTreeSet::new(),
        }),
        (Request::Create { .. }, 201) | (Request::Update { .. } | Request::Delete, 200) => {
            acknowledged_dot(answer).map(|dot| Answer::Acknowledged { dot })
        }
        _ if answer.status == 500 && slug_of(answer).is_some_and(|slug| slug == "write_in_doubt") => {
            Some(Answer::Cut)
        }
        _ => not_promised(answer)
            .or_else(|| refusal_of(answer).map(|(status, slug)| Answer::Refused { status, slug })),
    };
    understood.unwrap_or_else(|| Answer::Undocumented {
        status: answer.status,
        body: answer.text().chars().take(BODY_CHARS_KEPT).collect(),
    })
}

fn value_of(answer: &supervisor::Answer) -> Option<Seen> {
    let view: MemoryView = serde_json::from_slice(&answer.body).ok()?;
    let content = view.fields.get("content")?.as_str()?.to_owned();
    Some(Seen::Value { content, dot: view.dot })
}

/// The op of an acknowledgement, if it says that enough nodes hold it.
fn acknowledged_dot(answer: &supervisor::Answer) -> Option<DotText> {
    let body = answer.json().ok()?;
    let count = |pointer: &str| body.pointer(pointer).and_then(Value::as_u64);
    if count("/quorum/got")? < count("/quorum/needed")? {
        return None;
    }
    body.get("dot")?.as_str()?.parse().ok()
}

fn not_promised(answer: &supervisor::Answer) -> Option<Answer> {
    let body: QuorumNotMetBody = serde_json::from_slice(&answer.body).ok()?;
    let is_meant = answer.status == 503
        && body.error == QuorumNotMetBody::ERROR
        && body.got < body.needed
        && answer.headers.contains_key("retry-after");
    is_meant.then_some(Answer::NotPromised {
        dot: body.dot,
        got: body.got,
        needed: body.needed,
        reason: body.reason,
    })
}

fn slug_of(answer: &supervisor::Answer) -> Option<String> {
    serde_json::from_slice::<ErrorBody>(&answer.body).ok().map(|body| body.error)
}

fn refusal_of(answer: &supervisor::Answer) -> Option<(u16, String)> {
    let body: ErrorBody = serde_json::from_slice(&answer.body).ok()?;
    let is_known = REFUSALS
        .iter()
        .any(|(status, slugs)| *status == answer.status && slugs.contains(&body.error.as_str()));
    is_known.then_some((answer.status, body.error))
}

/// What it means that there was no answer.
fn read_failure(error: &SupervisorError) -> Answer {
    let SupervisorError::Request { source, .. } = error else { return Answer::Cut };
    if source.is::<tokio::time::error::Elapsed>() {
        return Answer::TimedOut;
    }
    match source.downcast_ref::<legacy::Error>() {
        Some(error) if error.is_connect() => Answer::Unreached,
        _ => Answer::Cut,
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::{HeaderValue, RETRY_AFTER};

    use super::*;

    fn answer(status: u16, body: &str) -> supervisor::Answer {
        let headers = [(RETRY_AFTER, HeaderValue::from(1))].into_iter().collect();
        supervisor::Answer { url: String::new(), status, headers, body: body.to_owned().into() }
    }

    #[test]
    fn answers_are_read_by_what_follows_from_them() {
        let create = Request::Create { content: "x".to_owned() };
        let dot = "node-1/00000000000000ab/1";
        let quorum =
            |got: u64| format!(r#"{{"dot":"{dot}","quorum":{{"got":{got},"needed":2,"peers":{{}}}}}}"#);
        let check = |status, body: &str, expect: &Answer| {
            assert_eq!(&read_answer(&create, &answer(status, body)), expect, "{status} {body}");
        };
        let dot: DotText = dot.parse().unwrap();
        check(201, &quorum(2), &Answer::Acknowledged { dot: dot.clone() });
        let short = Answer::Undocumented { status: 201, body: quorum(1) };
        check(201, &quorum(1), &short);
        let refused = Answer::Refused { status: 409, slug: "already_exists".to_owned() };
        check(409, r#"{"error":"already_exists","message":"m","id":"k"}"#, &refused);
        let body = format!(
            r#"{{"error":"quorum_not_met","got":1,"needed":2,"reason":"timeout","id":"k","dot":"{dot}","peers":{{}},"durable":"local"}}"#
        );
        let reason = "timeout".to_owned();
        check(503, &body, &Answer::NotPromised { dot, got: 1, needed: 2, reason });
        for (status, body) in
            [(500, "oops"), (409, r#"{"error":"odd","message":""}"#), (503, "{}"), (200, "{}")]
        {
            check(status, body, &Answer::Undocumented { status, body: body.to_owned() });
        }
    }
}
