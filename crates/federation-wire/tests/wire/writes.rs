//! What a client writes, and what it makes of a memory.

use std::sync::Arc;

use federation_core::embedding::{Embedding, EmbeddingSpace, Normalisation};
use federation_core::id::{RecordId, RecordKey};
use federation_core::op::Body;
use federation_core::port::rules::RecordRules;
use federation_core::time::WallMs;
use federation_wire::api::error::from_json;
use federation_wire::api::memory::rfc3339;
use federation_wire::api::view::Include;
use federation_wire::api::{CreateMemory, CurrentMemory, Fault, MemoryView, MemoryWrite, UpdateMemory};
use federation_wire::memory::KindRules;
use serde_json::{Value, json};

use crate::samples::op;

const NOW: WallMs = WallMs(1_790_000_000_123);

fn create(body: &Value) -> Result<MemoryWrite, Vec<Fault>> {
    let create: CreateMemory = from_json(body.to_string().as_bytes()).expect("a well-formed body");
    create.into_write(RecordId::new("fresh").unwrap(), NOW)
}

fn update(current: &MemoryWrite, body: &Value, now: WallMs) -> Result<MemoryWrite, Vec<Fault>> {
    let update: UpdateMemory = from_json(body.to_string().as_bytes()).expect("a well-formed body");
    let MemoryWrite { key, payload, embedding } = current;
    update.into_write(CurrentMemory { key, payload, embedding: embedding.as_ref() }, now)
}

fn fields(write: &MemoryWrite) -> Value {
    serde_json::from_slice(&write.payload).unwrap()
}

fn slugs(faults: Result<MemoryWrite, Vec<Fault>>) -> Vec<(String, String)> {
    faults.expect_err("faults").into_iter().map(|fault| (fault.field, fault.error)).collect()
}

fn slug(field: &str, error: &str) -> (String, String) {
    (field.to_owned(), error.to_owned())
}

#[test]
fn a_create_gets_the_defaults_and_passes_the_rules() {
    let write = create(&json!({"title": "t", "content": "c", "namespace": "team"})).unwrap();
    let at = "2026-09-21T14:13:20.123Z";
    assert_eq!(
        fields(&write),
        json!({
            "id": "fresh", "namespace": "team", "title": "t", "content": "c", "tier": "mid", "tags": [],
            "priority": 5, "confidence": 1.0, "source": "api", "access_count": 0, "metadata": {},
            "memory_kind": "observation", "created_at": at, "updated_at": at
        })
    );
    let MemoryWrite { key, payload, embedding } = write;
    let mut op = op(1, Body::Put { payload, embedding, archived: false });
    op.key = key;
    assert_eq!(KindRules.check(&op), Ok(()));
}

#[test]
fn vectors_come_as_numbers_or_as_base64() {
    let base = json!({"title": "t", "content": "c", "namespace": "team"});
    let with = |more: Value| {
        let mut body = base.clone();
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        create(&body)
    };
    let expect = Embedding {
        model: Arc::from("m"),
        normalisation: Normalisation::UnitL2Scaled,
        vector: Arc::from([0.6_f32, -0.8]),
    };
    let numbers = with(json!({"vector": [3, -4], "model": "m"})).unwrap();
    assert_eq!(numbers.embedding.as_ref(), Some(&expect));
    assert!(fields(&numbers).get("vector").is_none(), "the payload has no vector");
    // 3.0 and -4.0 in f32, little-endian.
    let base64 = with(json!({"vector_base64": "AABAQAAAgMA=", "model": "m"})).unwrap();
    assert_eq!(base64.embedding, Some(expect));

    let check = |more: Value, field: &str, error: &str| assert_eq!(slugs(with(more)), [slug(field, error)]);
    check(json!({"vector": [1]}), "model", "vector_model_missing");
    check(json!({"model": "m"}), "model", "vector_missing");
    check(json!({"vector": [1], "vector_base64": "AAAAAA==", "model": "m"}), "vector_base64", "vector_twice");
    check(json!({"vector": [], "model": "m"}), "vector", "vector_empty");
    check(json!({"vector": [0, 0], "model": "m"}), "vector", "vector_zero");
    check(json!({"vector": [8.2e220], "model": "m"}), "vector", "vector_not_finite");
    check(json!({"vector": [1], "model": ""}), "vector", "vector_model_invalid");
    check(json!({"vector": vec![1; 8_193], "model": "m"}), "vector", "vector_too_long");
    check(json!({"vector_base64": "*", "model": "m"}), "vector_base64", "vector_malformed");
    check(json!({"vector_base64": "AAAA", "model": "m"}), "vector_base64", "vector_malformed");
}

#[test]
fn all_faults_of_a_create_are_reported_at_once() {
    let faults = create(&json!({
        "title": "", "content": "c", "namespace": "a//b", "id": "a b", "priority": 11, "vector": [1],
        "expires_at": "tomorrow", "tags": [""]
    }));
    assert_eq!(
        slugs(faults),
        [
            slug("namespace", "invalid_namespace"),
            slug("id", "invalid_id"),
            slug("model", "vector_model_missing"),
            slug("title", "empty"),
            slug("tags", "empty"),
            slug("priority", "out_of_range"),
            slug("expires_at", "invalid_time"),
        ]
    );
}

#[test]
fn bodies_with_unknown_missing_or_repeated_fields_are_refused() {
    let check = |text: &str, error: &str| {
        let body = from_json::<CreateMemory>(text.as_bytes()).expect_err(text);
        assert_eq!(body.error, error, "{}", body.message);
    };
    check(r#"{"title":"t","content":"c","namespace":"n","priorty":1}"#, "unknown_field");
    check(r#"{"title":"t","content":"c"}"#, "missing_field");
    check(r#"{"title":"t","title":"t","content":"c","namespace":"n"}"#, "duplicate_field");
    check(r#"{"title":"t","content":"c","namespace":"n","metadata":{"a":1,"a":2}}"#, "duplicate_field");
    check(r#"{"title":"t","content":"c","namespace":"n","metadata":[]}"#, "invalid_body");
    let deep = format!("{}1{}", r#"{"a":"#.repeat(33), "}".repeat(33));
    check(&format!(r#"{{"title":"t","content":"c","namespace":"n","metadata":{deep}}}"#), "invalid_body");
    check(r#"{"title":"t","content":"c","namespace":"n","vector":[null]}"#, "invalid_body");
    assert_eq!(from_json::<UpdateMemory>(br#"{"id":"x"}"#).unwrap_err().error, "unknown_field");
}

fn current() -> MemoryWrite {
    let mut write = create(&json!({
        "title": "t", "content": "c", "namespace": "team", "metadata": {"a": 1}, "vector": [1], "model": "m",
        "expires_at": "2030-01-01T00:00:00Z"
    }))
    .unwrap();
    let mut payload = fields(&write);
    payload["somebody_elses"] = json!([1, 2]);
    write.payload = payload.to_string().into_bytes().into();
    write
}

#[test]
fn an_update_keeps_what_it_does_not_name() {
    let current = current();
    let later = WallMs(NOW.0 + 1_000);
    let updated = update(&current, &json!({"priority": 9}), later).unwrap();
    let mut expect = fields(&current);
    expect["priority"] = json!(9);
    expect["updated_at"] = json!(rfc3339(later));
    assert_eq!(fields(&updated), expect);
    assert_eq!(updated.embedding, current.embedding);
    assert_eq!(updated.key, current.key);
}

#[test]
fn an_update_clears_and_replaces() {
    let current = current();
    assert_eq!(
        fields(&update(&current, &json!({"expires_at": null}), NOW).unwrap())["expires_at"],
        json!(null)
    );
    let kept = fields(&update(&current, &json!({}), NOW).unwrap());
    assert_eq!(kept["expires_at"], json!("2030-01-01T00:00:00Z"));
    let replaced = fields(&update(&current, &json!({"metadata": {"b": 2}}), NOW).unwrap());
    assert_eq!(replaced["metadata"], json!({"b": 2}));
}

#[test]
fn a_vector_does_not_outlive_its_text() {
    let current = current();
    let vector = |body: Value| update(&current, &body, NOW).unwrap().embedding;
    assert_eq!(vector(json!({"content": "c"})), current.embedding, "the same text");
    assert_eq!(vector(json!({"content": "other"})), None);
    assert_eq!(vector(json!({"title": "other"})), None);
    let shipped = vector(json!({"content": "other", "vector": [0, 1], "model": "n"}));
    assert_eq!(shipped.map(|embedding| embedding.model), Some(Arc::from("n")));
}

#[test]
fn a_memory_does_not_move() {
    let current = current();
    assert!(update(&current, &json!({"namespace": "team"}), NOW).is_ok());
    let moved = update(&current, &json!({"namespace": "other", "title": ""}), NOW);
    assert_eq!(slugs(moved), [slug("namespace", "namespace_immutable"), slug("title", "empty")]);
}

#[test]
fn a_view_shows_what_is_so() {
    let MemoryWrite { key, payload, embedding } = current();
    let mut payload: Value = serde_json::from_slice(&payload).unwrap();
    payload["dot"] = json!("forged");
    payload["quorum"] = json!("forged");
    let body = Body::Put { payload: payload.to_string().into_bytes().into(), embedding, archived: false };
    let mut op = op(6, body);
    op.key = RecordKey { ..key };
    let view = MemoryView::of(&op, Include::Fields, None).unwrap().unwrap();
    let shown = serde_json::to_value(&view).unwrap();
    assert_eq!(shown["dot"], json!("node-a/0000000000000007/6"));
    assert_eq!(shown["somebody_elses"], json!([1, 2]));
    assert_eq!(shown["author"], json!("ai:agent@host"));
    assert!(shown.get("quorum").is_none() && shown.get("embedding").is_none());
    assert_eq!(serde_json::from_value::<MemoryView>(shown).unwrap(), view);
    let shown = |own: Option<&EmbeddingSpace>| {
        MemoryView::of(&op, Include::Embedding, own).unwrap().unwrap().embedding.unwrap()
    };
    let embedding = shown(None);
    assert_eq!((embedding.dim, embedding.vector_base64.as_str()), (1, "AACAPw=="));
    assert_eq!((embedding.normalisation.as_str(), embedding.indexed), ("unit_l2", false));
    let mut own = EmbeddingSpace { model: Arc::from(embedding.model), dim: 1 };
    assert!(shown(Some(&own)).indexed);
    own.dim = 2;
    assert!(!shown(Some(&own)).indexed);
    op.body = Body::Delete;
    assert_eq!(MemoryView::of(&op, Include::Fields, None).unwrap(), None);
}

#[test]
fn times_are_written_in_one_form() {
    assert_eq!(rfc3339(WallMs(0)), "1970-01-01T00:00:00.000Z");
    assert_eq!(rfc3339(WallMs(951_782_400_007)), "2000-02-29T00:00:00.007Z");
    assert_eq!(rfc3339(WallMs(u64::MAX)), "9999-12-31T23:59:59.999Z");
}
