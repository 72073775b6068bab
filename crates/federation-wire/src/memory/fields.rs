//! The contract's fields, one by one.

use federation_core::limits::{
    MEMORY_CITATIONS_MAX, MEMORY_CONTENT_BYTES_MAX, MEMORY_METADATA_BYTES_MAX, MEMORY_METADATA_DEPTH_MAX,
    MEMORY_TAG_CHARS_MAX, MEMORY_TAGS_MAX, MEMORY_TITLE_CHARS_MAX, MEMORY_WORD_CHARS_MAX,
};
use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// What is wrong with a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldFault {
    /// The field.
    pub field: &'static str,
    /// Stable, machine-readable.
    pub slug: &'static str,
    /// For people: names the field and the limit.
    pub message: String,
}

/// Everything that is wrong with a memory's fields. What the contract does not name is not looked at.
pub fn check_fields(fields: &Map<String, Value>) -> Vec<FieldFault> {
    let mut check = Check { fields, faults: Vec::new() };
    check.required("title", |value| text(value, 1, MEMORY_TITLE_CHARS_MAX));
    check.required("content", content);
    check.optional("metadata", metadata);
    check.optional("tags", tags);
    check.optional("tier", |value| one_of(value, &["short", "mid", "long"]));
    check.optional("priority", |value| integer(value, 1, 10));
    check.optional("confidence", confidence);
    for field in ["source", "memory_kind", "confidence_source"] {
        check.optional(field, |value| text(value, 0, MEMORY_WORD_CHARS_MAX));
    }
    for field in ["created_at", "updated_at"] {
        check.optional(field, rfc3339);
    }
    for field in ["last_accessed_at", "expires_at", "confidence_decayed_at"] {
        check.nullable(field, rfc3339);
    }
    check.optional("access_count", |value| integer(value, 0, i64::MAX));
    check.optional("reflection_depth", |value| integer(value, 0, i64::from(i32::MAX)));
    check.optional("version", |value| integer(value, 0, i64::MAX));
    check.nullable("persona_version", |value| integer(value, 0, i64::MAX));
    check.nullable("entity_id", |value| text(value, 0, MEMORY_TITLE_CHARS_MAX));
    check.nullable("source_uri", |value| text(value, 0, SOURCE_URI_CHARS_MAX));
    check.optional("citations", |value| list(value, MEMORY_CITATIONS_MAX).map(|_| ()));
    for field in ["vector", "vector_base64"] {
        check.optional(field, |_| Err(("vector_in_payload", "does not belong in the payload".to_owned())));
    }
    check.faults
}

/// Characters of a source URI: what common servers take of a URL.
const SOURCE_URI_CHARS_MAX: usize = 2_048;

type Verdict<T = ()> = Result<T, (&'static str, String)>;

struct Check<'a> {
    fields: &'a Map<String, Value>,
    faults: Vec<FieldFault>,
}

impl Check<'_> {
    fn required(&mut self, field: &'static str, rule: impl FnOnce(&Value) -> Verdict) {
        match self.fields.get(field) {
            Some(value) => self.note(field, rule(value)),
            None => self.note(field, Err(("missing_field", "is missing".to_owned()))),
        }
    }

    fn optional(&mut self, field: &'static str, rule: impl FnOnce(&Value) -> Verdict) {
        if let Some(value) = self.fields.get(field) {
            self.note(field, rule(value));
        }
    }

    fn nullable(&mut self, field: &'static str, rule: impl FnOnce(&Value) -> Verdict) {
        if let Some(value) = self.fields.get(field).filter(|value| !value.is_null()) {
            self.note(field, rule(value));
        }
    }

    fn note(&mut self, field: &'static str, verdict: Verdict) {
        if let Err((slug, what)) = verdict {
            self.faults.push(FieldFault { field, slug, message: format!("{field} {what}") });
        }
    }
}

fn wrong_type<T>(expect: &str) -> Verdict<T> {
    Err(("wrong_type", format!("is not {expect}")))
}

fn text(value: &Value, chars_min: usize, chars_max: usize) -> Verdict {
    let Value::String(text) = value else { return wrong_type("a string") };
    // A character has at least one byte: most texts need no count.
    let chars = if text.len() <= chars_max { text.len() } else { text.chars().count() };
    if chars > chars_max {
        return Err(("too_long", format!("has {chars} characters, the limit is {chars_max}")));
    }
    if chars < chars_min || (chars_min > 0 && text.trim().is_empty()) {
        return Err(("empty", "is empty".to_owned()));
    }
    Ok(())
}

fn content(value: &Value) -> Verdict {
    let Value::String(content) = value else { return wrong_type("a string") };
    if content.len() > MEMORY_CONTENT_BYTES_MAX {
        return too_large(content.len(), MEMORY_CONTENT_BYTES_MAX);
    }
    if content.trim().is_empty() {
        return Err(("empty", "is empty".to_owned()));
    }
    Ok(())
}

fn too_large<T>(bytes: usize, limit: usize) -> Verdict<T> {
    Err(("too_long", format!("takes {bytes} bytes, the limit is {limit}")))
}

fn list(value: &Value, max: usize) -> Verdict<&[Value]> {
    let Value::Array(elements) = value else { return wrong_type("an array") };
    if elements.len() > max {
        return Err(("too_many", format!("has {} elements, the limit is {max}", elements.len())));
    }
    Ok(elements)
}

fn tags(value: &Value) -> Verdict {
    list(value, MEMORY_TAGS_MAX)?.iter().enumerate().try_for_each(|(index, tag)| {
        text(tag, 1, MEMORY_TAG_CHARS_MAX).map_err(|(slug, what)| (slug, format!("[{index}] {what}")))
    })
}

fn one_of(value: &Value, allowed: &[&str]) -> Verdict {
    if value.as_str().is_some_and(|found| allowed.contains(&found)) {
        return Ok(());
    }
    Err(("not_allowed", format!("is not one of {}", allowed.join(", "))))
}

fn integer(value: &Value, min: i64, max: i64) -> Verdict {
    let Some(found) = value.as_i64() else { return wrong_type("an integer") };
    if found < min || found > max {
        return Err(("out_of_range", format!("is {found}, allowed are {min} to {max}")));
    }
    Ok(())
}

fn confidence(value: &Value) -> Verdict {
    let Some(found) = value.as_f64() else { return wrong_type("a number") };
    if !(0.0..=1.0).contains(&found) {
        return Err(("out_of_range", format!("is {found}, allowed are 0 to 1")));
    }
    Ok(())
}

fn rfc3339(value: &Value) -> Verdict {
    let Value::String(text) = value else { return wrong_type("a string") };
    match OffsetDateTime::parse(text, &Rfc3339) {
        Ok(_) => Ok(()),
        Err(_) => Err(("invalid_time", "is not an RFC 3339 time".to_owned())),
    }
}

fn metadata(value: &Value) -> Verdict {
    if !value.is_object() {
        return wrong_type("an object");
    }
    let depth = depth(value);
    if depth > MEMORY_METADATA_DEPTH_MAX {
        return Err(("too_deep", format!("is {depth} deep, the limit is {MEMORY_METADATA_DEPTH_MAX}")));
    }
    let mut size = ByteCounter(0);
    let written = serde_json::to_writer(&mut size, value);
    if written.is_err() || size.0 > MEMORY_METADATA_BYTES_MAX {
        return too_large(size.0, MEMORY_METADATA_BYTES_MAX);
    }
    Ok(())
}

/// How deep objects and arrays are nested; the parser has bounded it.
fn depth(value: &Value) -> usize {
    let below = match value {
        Value::Object(fields) => fields.values().map(depth).max(),
        Value::Array(elements) => elements.iter().map(depth).max(),
        _ => return 0,
    };
    1 + below.unwrap_or(0)
}

struct ByteCounter(usize);

impl std::io::Write for ByteCounter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The first fault of an otherwise valid memory with this field, by its slug.
    #[expect(clippy::needless_pass_by_value, reason = "the cases read better")]
    fn check(field: &str, value: Value, expect: Option<&str>) {
        let mut fields = Map::new();
        fields.insert("title".into(), json!("t"));
        fields.insert("content".into(), json!("c"));
        fields.insert(field.into(), value.clone());
        let faults = check_fields(&fields);
        assert_eq!(faults.first().map(|fault| fault.slug), expect, "{field}: {value}");
        assert!(faults.iter().all(|fault| fault.field == field && fault.message.starts_with(field)));
    }

    #[test]
    fn each_limit_of_the_contract() {
        check("title", json!("ü".repeat(512)), None);
        check("title", json!("ü".repeat(513)), Some("too_long"));
        check("title", json!(""), Some("empty"));
        check("title", json!(" \n"), Some("empty"));
        check("title", json!(1), Some("wrong_type"));
        check("content", json!("c".repeat(65_536)), None);
        check("content", json!("c".repeat(65_537)), Some("too_long"));
        check("content", json!("ü".repeat(32_769)), Some("too_long"));
        check("content", json!(null), Some("wrong_type"));
        check("tags", json!(vec!["t"; 50]), None);
        check("tags", json!(vec!["t"; 51]), Some("too_many"));
        check("tags", json!(["t".repeat(128)]), None);
        check("tags", json!(["t".repeat(129)]), Some("too_long"));
        check("tags", json!([""]), Some("empty"));
        check("tags", json!([1]), Some("wrong_type"));
        check("tags", json!("t"), Some("wrong_type"));
        check("priority", json!(1), None);
        check("priority", json!(10), None);
        check("priority", json!(0), Some("out_of_range"));
        check("priority", json!(11), Some("out_of_range"));
        check("priority", json!(1.5), Some("wrong_type"));
        check("priority", json!(u64::MAX), Some("wrong_type"));
        check("confidence", json!(0), None);
        check("confidence", json!(1.0), None);
        check("confidence", json!(1.01), Some("out_of_range"));
        check("confidence", json!(-0.1), Some("out_of_range"));
        check("confidence", json!("1"), Some("wrong_type"));
        check("source", json!("s".repeat(64)), None);
        check("source", json!("s".repeat(65)), Some("too_long"));
        check("tier", json!("mid"), None);
        check("tier", json!("huge"), Some("not_allowed"));
        check("memory_kind", json!("k".repeat(65)), Some("too_long"));
        check("citations", json!(vec![json!({}); 64]), None);
        check("citations", json!(vec![json!({}); 65]), Some("too_many"));
        check("reflection_depth", json!(-1), Some("out_of_range"));
        check("access_count", json!(-1), Some("out_of_range"));
        check("source_uri", json!("u".repeat(2_049)), Some("too_long"));
        check("vector", json!([1.0]), Some("vector_in_payload"));
        check("somebody_elses_field", json!({"a": [1, 2, 3]}), None);
    }

    #[test]
    fn times_are_rfc_3339() {
        for field in ["created_at", "updated_at", "last_accessed_at", "expires_at"] {
            check(field, json!("2026-11-22T10:00:00Z"), None);
            check(field, json!("2026-11-22T10:00:00.123456+02:00"), None);
            check(field, json!("2026-11-22"), Some("invalid_time"));
            check(field, json!("2026-13-22T10:00:00Z"), Some("invalid_time"));
            check(field, json!(1), Some("wrong_type"));
        }
        check("expires_at", json!(null), None);
        check("created_at", json!(null), Some("wrong_type"));
    }

    #[test]
    fn metadata_are_bounded_in_size_and_depth() {
        let nested = |depth: usize| (1..depth).fold(json!({}), |inner, _| json!({ "d": inner }));
        check("metadata", nested(32), None);
        check("metadata", nested(33), Some("too_deep"));
        let sized = |bytes: usize| json!({ "k": "x".repeat(bytes - r#"{"k":""}"#.len()) });
        check("metadata", sized(65_536), None);
        check("metadata", sized(65_537), Some("too_long"));
        check("metadata", json!([]), Some("wrong_type"));
    }

    #[test]
    fn title_and_content_are_required() {
        let faults = check_fields(&Map::new());
        let found: Vec<_> = faults.iter().map(|fault| (fault.field, fault.slug)).collect();
        assert_eq!(found, [("title", "missing_field"), ("content", "missing_field")]);
    }
}
