//! What stands in the path, the query and the headers of a request.

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use federation_core::dot::Dot;
use federation_core::id::{AgentId, Kind, Namespace, NodeId, RecordId, RecordKey};
use federation_core::quorum::policy::WriteLevel;
use federation_core::scope::Scope;
use federation_net::Proof;
use federation_wire::api::DotText;
use federation_wire::api::view::Include;
use serde::Deserialize;

use crate::api::error::ApiError;

/// The author of a write that names none.
const ANONYMOUS: &str = "anonymous";
/// The header that names the author.
pub(super) const AGENT_HEADER: &str = "x-agent-id";
/// The header that asks for more nodes than the operator does.
pub(super) const LEVEL_HEADER: &str = "x-quorum-writes";
/// The header that asks for a quorum receipt.
pub(super) const RECEIPT_HEADER: &str = "x-quorum-receipt";
/// Memories on a page unless the client says.
pub(super) const LIMIT_DEFAULT: usize = 100;
/// Memories on a page at most.
pub(super) const LIMIT_MAX: usize = 1_000;

/// The query of a request for one memory.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OneQuery {
    /// The namespace it is in, for an id that stands in several.
    pub(super) namespace: Option<String>,
    /// `embedding`.
    pub(super) include: Option<String>,
}

impl OneQuery {
    /// The namespace that is named, or 422.
    pub(super) fn namespace(&self) -> Result<Option<Namespace>, ApiError> {
        self.namespace.as_deref().map(namespace).transpose()
    }
}

/// The query of a list.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListParams {
    /// In this namespace alone.
    pub(super) namespace: Option<String>,
    /// With this tag alone.
    pub(super) tag: Option<String>,
    /// So many at most.
    pub(super) limit: Option<usize>,
    /// `next_cursor` of the page before.
    pub(super) cursor: Option<String>,
    /// `embedding`.
    pub(super) include: Option<String>,
}

/// The query of the list of conflicts.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ConflictParams {
    /// In this namespace alone.
    pub(super) namespace: Option<String>,
    /// So many at most.
    pub(super) limit: Option<usize>,
    /// `next_cursor` of the page before.
    pub(super) cursor: Option<String>,
}

/// The query of the status.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StatusParams {
    /// Whether the state hash is computed.
    #[serde(default)]
    pub(super) hash: bool,
    /// The namespaces that it is of, as globs with commas between; none: all that the node keeps.
    scope: Option<String>,
}

impl StatusParams {
    /// The namespaces that the state hash is of.
    pub(super) fn scope(&self) -> Result<Scope, ApiError> {
        let Some(globs) = &self.scope else { return Ok(Scope::everything()) };
        Scope::parse(globs.split(','))
            .map_err(|fault| ApiError::new(StatusCode::BAD_REQUEST, "invalid_query", fault.to_string()))
    }
}

/// The query of a reload.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReloadParams {
    /// Whether it is only told what would change.
    #[serde(default)]
    pub(super) dry_run: bool,
}

/// The query of a list of dead letters.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LettersParams {
    /// Of this peer alone.
    pub(super) peer: Option<String>,
    /// So many at most.
    pub(super) limit: Option<usize>,
    /// `next_cursor` of the page before.
    pub(super) cursor: Option<String>,
}

/// The query, or 400.
pub(super) fn query<T>(parsed: Result<Query<T>, QueryRejection>) -> Result<T, ApiError> {
    match parsed {
        Ok(Query(query)) => Ok(query),
        Err(rejection) => Err(ApiError::new(StatusCode::BAD_REQUEST, "invalid_query", rejection.body_text())),
    }
}

/// The path's parameters, or 400.
pub(super) fn path<T>(parsed: Result<Path<T>, PathRejection>) -> Result<T, ApiError> {
    match parsed {
        Ok(Path(path)) => Ok(path),
        Err(rejection) => Err(ApiError::new(StatusCode::BAD_REQUEST, "invalid_path", rejection.body_text())),
    }
}

/// The dot of a path's three segments, or 400.
pub(super) fn dot(node: &str, epoch: &str, seq: &str) -> Result<Dot, ApiError> {
    DotText::from_parts(node, epoch, seq)
        .map(|dot| dot.0)
        .map_err(|fault| ApiError::new(StatusCode::BAD_REQUEST, "invalid_dot", fault.to_string()))
}

/// A record id, or 422.
pub(super) fn record_id(text: &str) -> Result<RecordId, ApiError> {
    RecordId::new(text).map_err(|fault| ApiError::field("id", "invalid_id", fault.to_string()))
}

/// A namespace, or 422.
pub(super) fn namespace(text: &str) -> Result<Namespace, ApiError> {
    Namespace::new(text).map_err(|fault| ApiError::field("namespace", "invalid_namespace", fault.to_string()))
}

/// What to show of a memory, or 400.
pub(super) fn include(text: Option<&str>) -> Result<Include, ApiError> {
    match text {
        None => Ok(Include::Fields),
        Some("embedding") => Ok(Include::Embedding),
        Some(other) => Err(ApiError::new(
            StatusCode::BAD_REQUEST,
            "invalid_query",
            format!("include={other:?}: only \"embedding\" can be included"),
        )),
    }
}

/// How many memories a page has, or 400.
pub(super) fn limit(given: Option<usize>) -> Result<usize, ApiError> {
    match given.unwrap_or(LIMIT_DEFAULT) {
        limit @ 1..=LIMIT_MAX => Ok(limit),
        limit => Err(ApiError::new(
            StatusCode::BAD_REQUEST,
            "invalid_query",
            format!("limit is {limit}, allowed are 1 to {LIMIT_MAX}"),
        )),
    }
}

/// Whom `x-agent-id` names; 422 if it is no agent id, or stands there twice.
pub(super) fn agent(headers: &HeaderMap) -> Result<Option<AgentId>, ApiError> {
    let mut values = headers.get_all(AGENT_HEADER).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(ApiError::field(AGENT_HEADER, "invalid_agent_id", "the header stands there twice"));
    }
    // What is not visible ASCII is no agent id either.
    agent_id(value.to_str().unwrap_or("\u{fffd}")).map(Some)
}

/// The author of a write that names none, where there are no tokens.
pub(super) fn anonymous() -> Result<AgentId, ApiError> {
    agent_id(ANONYMOUS)
}

fn agent_id(text: &str) -> Result<AgentId, ApiError> {
    AgentId::new(text).map_err(|fault| ApiError::field(AGENT_HEADER, "invalid_agent_id", fault.to_string()))
}

/// What a writer asks of its answer, beyond what the operator has set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Promise {
    /// How many nodes must hold the write, if that is more.
    pub(super) level: Option<WriteLevel>,
    /// Whether each of them signs it.
    pub(super) proof: Proof,
}

/// What the writer asks of its answer, or 422 if a header says nothing that can be asked.
pub(super) fn promise(headers: &HeaderMap) -> Result<Promise, ApiError> {
    let refused = |header, message: String| ApiError::field(header, "invalid_header", message);
    let level = match headers.get(LEVEL_HEADER).map(HeaderValue::to_str) {
        None => None,
        Some(text) => Some(text.ok().and_then(|text| text.parse().ok()).ok_or_else(|| {
            refused(LEVEL_HEADER, format!("{LEVEL_HEADER} is one, majority, all, or a number from 1"))
        })?),
    };
    let proof = match headers.get(RECEIPT_HEADER).map(HeaderValue::as_bytes) {
        None | Some(b"0") => Proof::Acks,
        Some(b"1") => Proof::SignedAcks,
        Some(_) => return Err(refused(RECEIPT_HEADER, format!("{RECEIPT_HEADER} is 1, or absent"))),
    };
    Ok(Promise { level, proof })
}

/// A key as a cursor: opaque to clients.
pub(super) fn cursor_of(key: &RecordKey) -> String {
    URL_SAFE_NO_PAD.encode(format!("{}\n{}", key.namespace, key.id))
}

/// The key that a cursor names, or 400.
pub(super) fn cursor(text: &str) -> Result<RecordKey, ApiError> {
    read_cursor(text, |namespace, id| {
        let (namespace, id) = (Namespace::new(namespace).ok()?, RecordId::new(id).ok()?);
        Some(RecordKey { namespace, kind: Kind::memory(), id })
    })
}

/// A dead letter as a cursor.
pub(super) fn letter_cursor_of(peer: &NodeId, dot: &Dot) -> String {
    URL_SAFE_NO_PAD.encode(format!("{peer}\n{dot}"))
}

/// The dead letter that a cursor names, or 400.
pub(super) fn letter_cursor(text: &str) -> Result<(NodeId, Dot), ApiError> {
    read_cursor(text, |peer, dot| Some((NodeId::new(peer).ok()?, dot.parse::<DotText>().ok()?.0)))
}

/// What two lines of a cursor say, or 400.
fn read_cursor<T>(text: &str, read: impl FnOnce(&str, &str) -> Option<T>) -> Result<T, ApiError> {
    let parse = || {
        let decoded = String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
        let (first, second) = decoded.split_once('\n')?;
        read(first, second)
    };
    parse().ok_or_else(|| {
        let message = "cursor is not one that this API gave: take next_cursor as it is";
        ApiError::new(StatusCode::BAD_REQUEST, "invalid_cursor", message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back_and_nothing_else_is_one() {
        let key = RecordKey {
            namespace: Namespace::new("a/größe").unwrap(),
            kind: Kind::memory(),
            id: RecordId::new("x:1").unwrap(),
        };
        assert_eq!(cursor(&cursor_of(&key)).unwrap(), key);
        for bad in ["", "x", "%%%", "YQ", &URL_SAFE_NO_PAD.encode("a\n"), &URL_SAFE_NO_PAD.encode("../x\ny")]
        {
            assert_eq!(cursor(bad).unwrap_err().status.as_u16(), 400, "{bad}");
        }
    }

    #[test]
    fn a_receipt_is_asked_for_by_one_word() {
        let mut headers = HeaderMap::new();
        assert_eq!(promise(&headers).unwrap(), Promise { level: None, proof: Proof::Acks });
        for (word, expect) in
            [("1", Some(Proof::SignedAcks)), ("0", Some(Proof::Acks)), ("yes", None), ("", None)]
        {
            headers.insert(RECEIPT_HEADER, word.parse().unwrap());
            let found = promise(&headers).map(|asked| asked.proof).map_err(|error| error.status.as_u16());
            assert_eq!(found, expect.ok_or(422), "{word:?}");
        }
    }

    #[test]
    fn a_level_is_a_word_or_a_number() {
        let mut headers = HeaderMap::new();
        for (word, expect) in [
            ("one", Some(WriteLevel::One)),
            ("majority", Some(WriteLevel::Majority)),
            ("all", Some(WriteLevel::All)),
            ("3", Some(WriteLevel::Count(3))),
            ("0", None),
            ("-1", None),
            ("All", None),
            ("", None),
        ] {
            headers.insert(LEVEL_HEADER, word.parse().unwrap());
            let found = promise(&headers).map(|asked| asked.level).map_err(|error| error.status.as_u16());
            assert_eq!(found, expect.map(Some).ok_or(422), "{word:?}");
        }
    }

    #[test]
    fn an_agent_is_named_once_or_not_at_all() {
        let mut headers = HeaderMap::new();
        assert_eq!(agent(&headers), Ok(None));
        assert_eq!(anonymous().unwrap().as_str(), "anonymous");
        headers.insert(AGENT_HEADER, "ai:claude@host".parse().unwrap());
        assert_eq!(agent(&headers).unwrap().unwrap().as_str(), "ai:claude@host");
        headers.append(AGENT_HEADER, "ai:claude@host".parse().unwrap());
        assert_eq!(agent(&headers).unwrap_err().status.as_u16(), 422);
        for bad in ["", "two words", "ü"] {
            headers.insert(AGENT_HEADER, HeaderValue::from_bytes(bad.as_bytes()).unwrap());
            assert_eq!(agent(&headers).unwrap_err().status.as_u16(), 422, "{bad}");
        }
    }
}
