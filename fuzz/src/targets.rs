//! What each fuzz target does with its input. Run by libFuzzer (`cargo xtask fuzz`), and over the committed corpora
//! by an ordinary test of `federation-tests`.
//!
//! No input may panic, hang or allocate beyond its size. Whatever decodes must encode to what decodes to the same.

use federation_core::op::Body;
use federation_wire::frame::{ReceivedFrame, frame_len};
use federation_wire::keys::{NodeKey, PublicKey};
use federation_wire::seal::Proof;
use federation_wire::v1::delivery::Delivery;
use federation_wire::v1::hello::{Hello, HelloAnswer};
use federation_wire::v1::nack::Nack;
use federation_wire::v1::op::{encode_op, read_op};
use federation_wire::v1::pull::PullRequest;
use federation_wire::v1::push::PushAnswer;

/// A target: its name, which is that of its corpus, and what it does.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: &[Target] = &[
    ("delivery", delivery),
    ("frame", frame),
    ("hello", hello),
    ("hello_answer", hello_answer),
    ("key", key),
    ("nack", nack),
    ("op", op),
    ("proof", proof),
    ("pull_request", pull_request),
    ("push_answer", push_answer),
];

/// A page of ops, or the completion of a session.
pub fn delivery(input: &[u8]) {
    if let Ok(message) = Delivery::from_bytes(input) {
        assert_eq!(message.to_bytes(), input, "a message has one encoding");
    }
}

/// A frame, as it comes from the network: the length that is told from a part of it, and the whole.
pub fn frame(input: &[u8]) {
    let told = frame_len(input);
    let Ok(frame) = ReceivedFrame::parse(input) else { return };
    assert!(matches!(told, Ok(Some(_))), "a whole frame tells its length: {told:?}");
    let key = NodeKey::from_seed(&[7; 32]);
    if let Ok(verified) = frame.verify(key.public()) {
        let body = verified.body().map(<[u8]>::len);
        assert!(
            body.is_err() || body == Ok(verified.body_range().len()),
            "the body is where it is said to be"
        );
    }
}

/// What a node says of itself.
pub fn hello(input: &[u8]) {
    if let Ok(message) = Hello::from_bytes(input) {
        assert_eq!(message.to_bytes(), input, "a message has one encoding");
    }
}

/// The answer to a hello.
pub fn hello_answer(input: &[u8]) {
    if let Ok(message) = HelloAnswer::from_bytes(input) {
        assert_eq!(message.to_bytes(), input, "a message has one encoding");
    }
}

/// Texts of keys: a public one, and a key file.
pub fn key(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Ok(key) = text.parse::<PublicKey>() {
        assert_eq!(key.to_string(), text, "a key has one text");
    }
    if let Ok(key) = NodeKey::from_file_text(text) {
        assert_eq!(key.to_file_text().trim_end(), text.trim_end(), "a key file has one text");
    }
}

/// The refusal of a request.
pub fn nack(input: &[u8]) {
    if let Ok(nack) = Nack::from_bytes(input) {
        assert_eq!(nack.to_bytes(), input, "a message has one encoding");
    }
}

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

/// The proof of an op.
pub fn proof(input: &[u8]) {
    if let Ok(proof) = Proof::from_bytes(input) {
        assert_eq!(proof.to_bytes(), input, "a proof has one encoding");
    }
}

/// What a node asks for.
pub fn pull_request(input: &[u8]) {
    if let Ok(message) = PullRequest::from_bytes(input) {
        assert_eq!(message.to_bytes(), input, "a message has one encoding");
    }
}

/// What became of a delivery.
pub fn push_answer(input: &[u8]) {
    if let Ok(message) = PushAnswer::from_bytes(input) {
        assert_eq!(message.to_bytes(), input, "a message has one encoding");
    }
}
