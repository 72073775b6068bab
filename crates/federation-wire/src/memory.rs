//! What a valid memory is: the rules of the kind `memory`, the same on every node.
//!
//! The payload is a UTF-8 JSON object of the shared contract's fields without the vector. Fields the contract does not
//! name are kept as they came; the ones it names are checked.

mod fields;
mod json;

pub use fields::{FieldFault, check_fields};
pub use json::{JsonObject, JsonObjectError, parse_object};

use federation_core::id::RecordKey;
use federation_core::limits::{MEMORY_METADATA_DEPTH_MAX, PAYLOAD_BYTES_MAX};
use federation_core::op::{Body, Op};
use federation_core::port::rules::{RecordRules, RuleViolation};
use serde_json::{Map, Value};

/// Depth of a whole payload: the metadata stand one level down.
const PAYLOAD_DEPTH_MAX: usize = MEMORY_METADATA_DEPTH_MAX + 1;

/// The rules of every kind: a `memory` is checked field by field, any other kind is opaque bytes within the limits.
#[derive(Clone, Copy, Debug, Default)]
pub struct KindRules;

impl RecordRules for KindRules {
    fn check(&self, op: &Op) -> Result<(), RuleViolation> {
        let Body::Put { payload, .. } = &op.body else { return Ok(()) };
        if payload.len() > PAYLOAD_BYTES_MAX {
            return Err(RuleViolation {
                slug: "payload_too_large",
                message: format!(
                    "the payload takes {} bytes, the limit is {PAYLOAD_BYTES_MAX}",
                    payload.len()
                ),
            });
        }
        if op.key.kind.is_memory() { check_memory(&op.key, payload) } else { Ok(()) }
    }
}

fn check_memory(key: &RecordKey, payload: &[u8]) -> Result<(), RuleViolation> {
    let fields = parse_payload(payload)
        .map_err(|fault| RuleViolation { slug: fault.slug(), message: fault.to_string() })?;
    match check_payload(key, &fields).into_iter().next() {
        None => Ok(()),
        Some(fault) => Err(RuleViolation { slug: fault.slug, message: fault.message }),
    }
}

/// The fields of a memory's payload: JSON without duplicate keys, bounded in depth.
///
/// # Errors
/// [`JsonObjectError`].
pub fn parse_payload(payload: &[u8]) -> Result<Map<String, Value>, JsonObjectError> {
    parse_object(payload, PAYLOAD_DEPTH_MAX)
}

/// Everything that is wrong with a payload under this key.
pub fn check_payload(key: &RecordKey, fields: &Map<String, Value>) -> Vec<FieldFault> {
    let mut faults = check_fields(fields);
    for (field, expect) in [("id", key.id.as_str()), ("namespace", key.namespace.as_str())] {
        if fields.get(field).is_some_and(|found| found.as_str() != Some(expect)) {
            let message = format!("{field} is not the one of the record, {expect:?}");
            faults.push(FieldFault { field, slug: "key_mismatch", message });
        }
    }
    faults
}
