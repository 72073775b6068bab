//! What a client gets instead of what it asked for: one shape.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::dot::DotText;
use crate::memory::FieldFault;

/// `{"error": "<stable_slug>", "message": "<what to do>", ...fields}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// Stable, machine-readable.
    pub error: String,
    /// For people: what is wrong and what to do.
    pub message: String,
    /// What else there is to say.
    #[serde(flatten)]
    pub fields: Map<String, Value>,
}

/// One fault of a client's write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// Stable, machine-readable.
    pub error: String,
    /// For people: names the field and the limit.
    pub message: String,
    /// The field.
    pub field: String,
}

/// Slug of a body whose write has faults, all listed under `faults`.
pub const VALIDATION_FAILED: &str = "validation_failed";

/// The answer 503 to a write that is committed here, will reach the peers, and was not promised.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuorumNotMetBody {
    /// `quorum_not_met`.
    pub error: String,
    /// Replicas that held it when the answer was given, this node included.
    pub got: usize,
    /// Replicas that had to.
    pub needed: usize,
    /// `unreachable`, `timeout`, `id_drift`, `refused` or `insufficient_peers`.
    pub reason: String,
    /// The record.
    pub id: String,
    /// The op.
    pub dot: DotText,
    /// What each peer came to.
    pub peers: BTreeMap<String, String>,
    /// `local`: where it is durable for certain.
    pub durable: String,
}

impl QuorumNotMetBody {
    /// The value of `error`.
    pub const ERROR: &'static str = "quorum_not_met";
    /// The value of `durable`.
    pub const DURABLE: &'static str = "local";
}

impl ErrorBody {
    /// A body with a slug and a message.
    pub fn new(error: &str, message: impl Into<String>) -> Self {
        Self { error: error.to_owned(), message: message.into(), fields: Map::new() }
    }

    /// Adds a field.
    #[must_use]
    pub fn with(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.fields.insert(field.to_owned(), value.into());
        self
    }

    /// The body of a write with these faults: `validation_failed`, all of them under `faults`.
    pub fn of_faults(faults: &[Fault]) -> Self {
        let messages: Vec<&str> = faults.iter().map(|fault| fault.message.as_str()).collect();
        let list = faults.iter().map(|fault| {
            let Fault { error, message, field } = fault;
            serde_json::json!({ "error": error, "message": message, "field": field })
        });
        Self::new(VALIDATION_FAILED, messages.join("; ")).with("faults", list.collect::<Vec<_>>())
    }

    /// The faults that are listed, if any.
    pub fn faults(&self) -> Vec<Fault> {
        let listed = self.fields.get("faults").cloned().unwrap_or_default();
        serde_json::from_value(listed).unwrap_or_default()
    }
}

impl Fault {
    /// A fault of one field.
    pub fn new(field: &str, error: &str, message: impl Into<String>) -> Self {
        Self { error: error.to_owned(), message: message.into(), field: field.to_owned() }
    }
}

impl From<FieldFault> for Fault {
    fn from(fault: FieldFault) -> Self {
        Self::new(fault.field, fault.slug, fault.message)
    }
}

/// The value that a client's JSON says.
///
/// # Errors
/// An [`ErrorBody`] whose slug is `malformed_json`, `unknown_field`, `missing_field`, `duplicate_field` or
/// `invalid_body`; the field's name, where there is one, stands under `field`.
pub fn from_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ErrorBody> {
    serde_json::from_slice(bytes).map_err(|fault| explain(&fault))
}

fn explain(fault: &serde_json::Error) -> ErrorBody {
    let message = fault.to_string();
    if !fault.is_data() {
        return ErrorBody::new("malformed_json", message);
    }
    let slug = ["unknown field", "missing field", "duplicate field"]
        .into_iter()
        .find(|begin| message.starts_with(begin))
        .map_or_else(|| "invalid_body".to_owned(), |begin| begin.replace(' ', "_"));
    let field = message.split('`').nth(1).filter(|_| slug != "invalid_body").map(str::to_owned);
    let body = ErrorBody::new(&slug, message);
    match field {
        Some(field) => body.with("field", field),
        None => body,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        #[expect(dead_code, reason = "only whether it parses matters")]
        name: String,
    }

    #[test]
    fn bad_json_is_explained_by_a_stable_word() {
        let check = |text: &str, error: &str, field: Option<&str>| {
            let body = from_json::<Sample>(text.as_bytes()).expect_err(text);
            assert_eq!(body.error, error, "{text}: {}", body.message);
            assert_eq!(body.fields.get("field").and_then(Value::as_str), field, "{text}");
        };
        check(r#"{"name":"#, "malformed_json", None);
        check("", "malformed_json", None);
        check("{}x", "missing_field", Some("name"));
        check(r#"{"name":"a"}x"#, "malformed_json", None);
        check(r#"{"name":"a","nmae":1}"#, "unknown_field", Some("nmae"));
        check(r#"{"name":"a","name":"b"}"#, "duplicate_field", Some("name"));
        check(r#"{"name":1}"#, "invalid_body", None);
    }

    #[test]
    fn faults_are_all_in_the_body() {
        let faults = [Fault::new("title", "empty", "title is empty"), Fault::new("id", "x", "id is y")];
        let body = ErrorBody::of_faults(&faults);
        assert_eq!(body.error, VALIDATION_FAILED);
        assert_eq!(body.message, "title is empty; id is y");
        assert_eq!(body.faults(), faults);
        let text = serde_json::to_string(&body).unwrap();
        assert_eq!(serde_json::from_str::<ErrorBody>(&text).unwrap(), body);
    }

    #[test]
    fn the_503_body_has_exactly_these_keys() {
        let body = QuorumNotMetBody {
            error: QuorumNotMetBody::ERROR.into(),
            got: 1,
            needed: 2,
            reason: "timeout".into(),
            id: "m1".into(),
            dot: "a/0000000000000001/7".parse().unwrap(),
            peers: BTreeMap::from([("b".into(), "pending".into())]),
            durable: QuorumNotMetBody::DURABLE.into(),
        };
        assert_eq!(
            serde_json::to_string(&body).unwrap(),
            r#"{"error":"quorum_not_met","got":1,"needed":2,"reason":"timeout","id":"m1","dot":"a/0000000000000001/7","peers":{"b":"pending"},"durable":"local"}"#
        );
    }
}
