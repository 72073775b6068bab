//! A client's write of a memory, and the record it makes.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use federation_core::embedding::Embedding;
use federation_core::id::{IdError, Kind, Namespace, RecordId, RecordKey};
use federation_core::limits::PAYLOAD_BYTES_MAX;
use federation_core::time::WallMs;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use time::OffsetDateTime;

use super::error::Fault;
use crate::embedding::ShippedEmbedding;
use crate::memory::{JsonObject, check_fields, check_payload, parse_payload};

/// Defines a body with the fields that create and update share. (`flatten` cannot refuse unknown fields.)
macro_rules! memory_body {
    ($(#[$doc:meta])* pub struct $name:ident { $($own:tt)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            $($own)*
            /// Up to 50, of up to 128 characters.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub tags: Option<Vec<String>>,
            /// Up to 64 KiB of JSON, up to 32 deep.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub metadata: Option<JsonObject>,
            /// 1 to 10.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub priority: Option<i64>,
            /// 0 to 1.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub confidence: Option<f64>,
            /// Up to 64 characters.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub source: Option<String>,
            /// `short`, `mid` or `long`.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub tier: Option<String>,
            /// An RFC 3339 time; `null` for never.
            #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
            pub expires_at: Option<Expiry>,
            /// Up to 64 characters.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub memory_kind: Option<String>,
            /// The vector as numbers.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub vector: Option<Vec<f32>>,
            /// The vector as base64 of f32 little-endian, instead of `vector`.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub vector_base64: Option<String>,
            /// The model that made the vector; required with one.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub model: Option<String>,
        }

        impl $name {
            /// Sets the shared fields that are given.
            fn set_shared(&self, fields: &mut Map<String, Value>) {
                set(fields, "tags", self.tags.clone());
                set(fields, "metadata", self.metadata.clone().map(|JsonObject(metadata)| metadata));
                set(fields, "priority", self.priority);
                set(fields, "confidence", self.confidence);
                set(fields, "source", self.source.clone());
                set(fields, "tier", self.tier.clone());
                set(fields, "expires_at", self.expires_at.clone().map(Option::<String>::from));
                set(fields, "memory_kind", self.memory_kind.clone());
            }

            fn shipped_vector(&self, faults: &mut Vec<Fault>) -> Option<Embedding> {
                let numbers = self.vector.as_deref();
                match read_vector(numbers, self.vector_base64.as_deref(), self.model.as_deref()) {
                    Ok(embedding) => embedding,
                    Err(fault) => {
                        faults.push(fault);
                        None
                    }
                }
            }
        }
    };
}

memory_body! {
    /// `POST /api/v1/memories`: a new memory. What is absent gets the contract's default.
    pub struct CreateMemory {
        /// 1 to 512 characters.
        pub title: String,
        /// 1 byte to 64 KiB.
        pub content: String,
        /// Up to 8 segments joined by `/`, up to 512 characters.
        pub namespace: String,
        /// Up to 128 of `[A-Za-z0-9._:@-]`; drawn by the node if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub id: Option<String>,
    }
}

memory_body! {
    /// `PUT /api/v1/memories/{id}`: what is absent stays as it is, fields unknown here included.
    pub struct UpdateMemory {
        /// 1 to 512 characters.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub title: Option<String>,
        /// 1 byte to 64 KiB.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub content: Option<String>,
        /// The one it has: a record does not move.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub namespace: Option<String>,
    }
}

/// When a memory expires.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Option<String>", into = "Option<String>")]
pub enum Expiry {
    /// Never: `null`.
    Never,
    /// At this RFC 3339 time.
    At(String),
}

/// A valid write: what goes into the op.
#[derive(Clone, Debug, PartialEq)]
pub struct MemoryWrite {
    /// The record.
    pub key: RecordKey,
    /// The payload's bytes.
    pub payload: Arc<[u8]>,
    /// The vector, sanitised.
    pub embedding: Option<Embedding>,
}

/// The memory that an update changes.
#[derive(Clone, Copy, Debug)]
pub struct CurrentMemory<'a> {
    /// The record.
    pub key: &'a RecordKey,
    /// Its payload.
    pub payload: &'a [u8],
    /// Its vector.
    pub embedding: Option<&'a Embedding>,
}

impl CreateMemory {
    /// The record that this makes at `now`, under `fresh_id` unless it names an id of its own.
    ///
    /// # Errors
    /// Every fault of every field.
    pub fn into_write(self, fresh_id: RecordId, now: WallMs) -> Result<MemoryWrite, Vec<Fault>> {
        let mut faults = Vec::new();
        let namespace = take("namespace", Namespace::new(&self.namespace), &mut faults);
        let id = match self.id.as_deref() {
            None => Some(fresh_id),
            Some(text) => take("id", RecordId::new(text), &mut faults),
        };
        let embedding = self.shipped_vector(&mut faults);

        let mut fields = defaults(now);
        set(&mut fields, "title", Some(self.title.clone()));
        set(&mut fields, "content", Some(self.content.clone()));
        self.set_shared(&mut fields);
        let (Some(namespace), Some(id)) = (namespace, id) else {
            faults.extend(check_fields(&fields).into_iter().map(Fault::from));
            return Err(faults);
        };
        finish(RecordKey { namespace, kind: Kind::memory(), id }, fields, embedding, faults)
    }
}

impl UpdateMemory {
    /// The record as this leaves it at `now`. Fields that are not given stay, and so does the vector unless
    /// title or content change without a new one: it would not belong to the text.
    ///
    /// # Errors
    /// Every fault of every field; `namespace_immutable` for another namespace than the record's.
    pub fn into_write(self, current: CurrentMemory<'_>, now: WallMs) -> Result<MemoryWrite, Vec<Fault>> {
        let mut faults = Vec::new();
        if self.namespace.as_deref().is_some_and(|namespace| namespace != current.key.namespace.as_str()) {
            let message = format!(
                "the memory is in {:?}: to move it, delete it and create it anew",
                current.key.namespace.as_str()
            );
            faults.push(Fault::new("namespace", "namespace_immutable", message));
        }
        let mut fields = match parse_payload(current.payload) {
            Ok(fields) => fields,
            Err(fault) => return Err(vec![Fault::new("payload", fault.slug(), fault.to_string())]),
        };
        let said = |field: &str| fields.get(field).and_then(Value::as_str);
        let is_new_text = self.title.as_deref().is_some_and(|title| said("title") != Some(title))
            || self.content.as_deref().is_some_and(|content| said("content") != Some(content));
        let kept = if is_new_text { None } else { current.embedding.cloned() };
        let embedding = self.shipped_vector(&mut faults).or(kept);

        set(&mut fields, "title", self.title.clone());
        set(&mut fields, "content", self.content.clone());
        self.set_shared(&mut fields);
        set(&mut fields, "updated_at", Some(rfc3339(now)));
        finish(current.key.clone(), fields, embedding, faults)
    }
}

/// `now` as an RFC 3339 time in UTC with milliseconds. Times past the year 9999 become its end.
pub fn rfc3339(now: WallMs) -> String {
    const LAST_MS: u64 = 253_402_300_799_999;
    let ms = i128::from(now.0.min(LAST_MS));
    let at = OffsetDateTime::from_unix_timestamp_nanos(ms * 1_000_000).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let (date, time) = (at.date(), at.time());
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
        date.year(),
        u8::from(date.month()),
        date.day(),
        time.hour(),
        time.minute(),
        time.second(),
        time.millisecond()
    )
}

/// Tells `null` from absent.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Expiry>, D::Error> {
    Expiry::deserialize(deserializer).map(Some)
}

impl From<Option<String>> for Expiry {
    fn from(time: Option<String>) -> Self {
        time.map_or(Self::Never, Self::At)
    }
}

impl From<Expiry> for Option<String> {
    fn from(expiry: Expiry) -> Self {
        match expiry {
            Expiry::Never => None,
            Expiry::At(time) => Some(time),
        }
    }
}

fn defaults(now: WallMs) -> Map<String, Value> {
    let mut fields = Map::new();
    let now = rfc3339(now);
    set(&mut fields, "tier", Some("mid"));
    set(&mut fields, "tags", Some(Vec::<Value>::new()));
    set(&mut fields, "priority", Some(5));
    set(&mut fields, "confidence", Some(1.0));
    set(&mut fields, "source", Some("api"));
    set(&mut fields, "access_count", Some(0));
    set(&mut fields, "metadata", Some(Map::new()));
    set(&mut fields, "memory_kind", Some("observation"));
    set(&mut fields, "created_at", Some(now.clone()));
    set(&mut fields, "updated_at", Some(now));
    fields
}

fn set(fields: &mut Map<String, Value>, field: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        fields.insert(field.to_owned(), value.into());
    }
}

fn take<T>(field: &str, read: Result<T, IdError>, faults: &mut Vec<Fault>) -> Option<T> {
    read.map_err(|why| faults.push(Fault::new(field, &format!("invalid_{field}"), why.to_string()))).ok()
}

fn finish(
    key: RecordKey,
    mut fields: Map<String, Value>,
    embedding: Option<Embedding>,
    mut faults: Vec<Fault>,
) -> Result<MemoryWrite, Vec<Fault>> {
    set(&mut fields, "id", Some(key.id.as_str()));
    set(&mut fields, "namespace", Some(key.namespace.as_str()));
    faults.extend(check_payload(&key, &fields).into_iter().map(Fault::from));
    let payload = Value::Object(fields).to_string();
    if payload.len() > PAYLOAD_BYTES_MAX {
        let message = format!("the memory takes {} bytes, the limit is {PAYLOAD_BYTES_MAX}", payload.len());
        faults.push(Fault::new("content", "payload_too_large", message));
    }
    if faults.is_empty() {
        Ok(MemoryWrite { key, payload: Arc::from(payload.into_bytes()), embedding })
    } else {
        Err(faults)
    }
}

fn read_vector(
    numbers: Option<&[f32]>,
    base64: Option<&str>,
    model: Option<&str>,
) -> Result<Option<Embedding>, Fault> {
    let (field, vector) = match (numbers, base64) {
        (None, None) if model.is_some() => {
            return Err(Fault::new(
                "model",
                "vector_missing",
                "model names the maker of a vector, and there is none",
            ));
        }
        (None, None) => return Ok(None),
        (Some(_), Some(_)) => {
            let message = "vector and vector_base64 say the same thing twice: give one";
            return Err(Fault::new("vector_base64", "vector_twice", message));
        }
        (Some(numbers), None) => ("vector", numbers.to_vec()),
        (None, Some(text)) => ("vector_base64", read_base64(text)?),
    };
    let Some(model) = model else {
        return Err(Fault::new("model", "vector_model_missing", "model is required with a vector"));
    };
    let shipped = ShippedEmbedding { model: model.to_owned(), vector };
    shipped.sanitize().map(Some).map_err(|why| Fault::new(field, why.slug(), why.to_string()))
}

fn read_base64(text: &str) -> Result<Vec<f32>, Fault> {
    let fault = |what: &str| Fault::new("vector_base64", "vector_malformed", format!("vector_base64 {what}"));
    let bytes = STANDARD.decode(text).map_err(|_| fault("is not base64"))?;
    let (floats, rest) = bytes.as_chunks::<4>();
    if rest.is_empty() {
        Ok(floats.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
    } else {
        Err(fault("is not a multiple of four bytes"))
    }
}
