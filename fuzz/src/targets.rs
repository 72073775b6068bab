//! What each fuzz target does with its input. Run by libFuzzer (`cargo xtask fuzz`), and over the committed corpora
//! by an ordinary test of `federation-tests`.
//!
//! No input may panic, hang or allocate beyond its size. Whatever decodes must encode to what decodes to the same.

use federation_core::op::Body;
use federation_wire::v1::op::{encode_op, read_op};

/// A target: its name, which is that of its corpus, and what it does.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: &[Target] = &[("op", op)];

/// An op, as it stands in a page and in the log.
pub fn op(input: &[u8]) {
    let Ok(read) = read_op(input) else { return };
    let encoded = encode_op(&read.op);
    // A shipped vector may have been brought to unit length, or left out: then the bytes differ, the meaning not.
    let has_vector =
        read.vector_fault.is_some() || matches!(&read.op.body, Body::Put { embedding: Some(_), .. });
    assert!(has_vector || *encoded.bytes == *input, "an op without a vector has one encoding");
    let again = read_op(&encoded.bytes).map(|again| again.op);
    assert_eq!(again.as_ref(), Ok(&read.op), "what was decoded encodes to itself");
}
