//! What each fuzz target does with its input. Run by libFuzzer (`cargo xtask fuzz`), and over the committed corpora
//! by an ordinary test of `federation-tests`.
//!
//! No input may panic, hang or allocate beyond its size. Whatever decodes must encode to what decodes to the same.

use federation_core::id::RecordId;
use federation_core::time::WallMs;
use federation_daemon::config::RawConfig;
use federation_wire::api::authorization::presented;
use federation_wire::api::error::from_json;
use federation_wire::api::token::{ClientSecret, Tokens, TokensFile};
use federation_wire::api::{CreateMemory, CurrentMemory, DotText, MemoryWrite, QuorumReceipt, UpdateMemory};
use federation_wire::causal_token::SignedCausalToken;
use federation_wire::embedding::sanitize_shipped_vector;
use federation_wire::frame::{ReceivedFrame, SenderProof, frame_len};
use federation_wire::identity::{Directory, KeyState, PeerUrl, PeersFile};
use federation_wire::keys::{NodeKey, OwnKeys, PublicKey};
use federation_wire::memory::{check_fields, check_payload, parse_payload};
use federation_wire::seal::Proof;
use federation_wire::v1::delivery::Delivery;
use federation_wire::v1::hello::{Hello, HelloAnswer};
use federation_wire::v1::nack::Nack;
use federation_wire::v1::op::{encode_op, read_op};
use federation_wire::v1::pull::PullRequest;
use federation_wire::v1::push::PushAnswer;

#[path = "targets/certificate.rs"]
mod certificate;
#[path = "targets/store.rs"]
mod store;

/// A target: its name, which is that of its corpus, and what it does.
pub(crate) type Target = (&'static str, fn(&[u8]));

/// Every target.
pub(crate) const TARGETS: &[Target] = &[
    ("authorization", authorization),
    ("causal_token", causal_token),
    ("certificate", certificate::certificate),
    ("config", config),
    ("create_memory", create_memory),
    ("delivery", delivery),
    ("dot_text", dot_text),
    ("frame", frame),
    ("hello", hello),
    ("hello_answer", hello_answer),
    ("index", store::index),
    ("key", key),
    ("log", store::log),
    ("memory", memory),
    ("nack", nack),
    ("op", op),
    ("peer_url", peer_url),
    ("peers", peers),
    ("proof", proof),
    ("pull_request", pull_request),
    ("push_answer", push_answer),
    ("receipt", receipt),
    ("tokens", tokens),
    ("update_memory", update_memory),
    ("vector", vector),
];

/// The credentials of a request: a line is a value of `Authorization`, or with a `k` before it of `x-api-key`.
fn authorization(input: &[u8]) {
    let lines = || input.split(|byte| *byte == b'\n');
    let api_keys = lines().filter_map(|line| line.strip_prefix(b"k"));
    let Ok(Some(secret)) = presented(lines().filter(|line| !line.starts_with(b"k")), api_keys) else {
        return;
    };
    let text = secret.to_text();
    assert!(input.windows(text.len()).any(|window| window == text.as_bytes()), "a secret has one text");
    let again = ClientSecret::parse(text.as_bytes()).map(|again| again.hash());
    assert_eq!(again, Ok(secret.hash()), "what was read reads as the same secret");
}

/// A causal token: what reads has one text, and is nobody's word under a key that has not signed it.
fn causal_token(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Ok(token) = SignedCausalToken::from_text(text) else { return };
    assert_eq!(token.to_text().as_deref(), Ok(text), "a token has one text");
    let stranger = NodeKey::from_seed(&[0; 32]);
    assert!(token.verify(stranger.public()).is_err(), "a token holds without its key");
}

/// A config file.
fn config(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Ok(read) = toml::from_str::<RawConfig>(text) else { return };
    let (read, again) = (format!("{read:?}"), format!("{:?}", read.clone().over(read)));
    assert_eq!(read, again, "settings over themselves are themselves");
}

/// A client's new memory, from its JSON to what is written.
fn create_memory(input: &[u8]) {
    let Ok(body) = from_json::<CreateMemory>(input) else { return };
    let Ok(fresh) = RecordId::new("fresh") else { return };
    let Ok(write) = body.into_write(fresh, WallMs(1_700_000_000_000)) else { return };
    let faults = parse_payload(&write.payload).map(|fields| check_payload(&write.key, &fields).len());
    assert!(matches!(faults, Ok(0)), "what a client may write, every node takes: {faults:?}");
    if let Some(embedding) = write.embedding {
        assert_eq!(sanitize_shipped_vector(embedding.vector.to_vec()).as_deref(), Ok(&*embedding.vector));
    }
}

/// A page of ops, or the completion of a session.
fn delivery(input: &[u8]) {
    if let Ok(message) = Delivery::from_bytes(input) {
        assert_eq!(message.to_bytes(), input, "a message has one encoding");
    }
}

/// A dot in a path.
fn dot_text(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Ok(dot) = text.parse::<DotText>() {
        assert_eq!(dot.to_string(), text, "a dot has one text");
    }
}

/// A frame, as it comes from the network: the length that is told from a part of it, and the whole.
fn frame(input: &[u8]) {
    let _ = frame_len(input, SenderProof::Signature);
    let told = frame_len(input, SenderProof::Channel);
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
fn hello(input: &[u8]) {
    if let Ok(message) = Hello::from_bytes(input) {
        assert_eq!(message.to_bytes(), input, "a message has one encoding");
    }
}

/// The answer to a hello.
fn hello_answer(input: &[u8]) {
    if let Ok(message) = HelloAnswer::from_bytes(input) {
        assert_eq!(message.to_bytes(), input, "a message has one encoding");
    }
}

/// Texts of keys: a public one, and a key file.
fn key(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Ok(key) = text.parse::<PublicKey>() {
        assert_eq!(key.to_string(), text, "a key has one text");
    }
    if let Ok(key) = OwnKeys::from_file_text(text) {
        assert_eq!(key.to_file_text().trim_end(), text.trim_end(), "a key file has one text");
    }
}

/// The payload of a memory from another node.
fn memory(input: &[u8]) {
    if let Ok(fields) = parse_payload(input) {
        let faults = check_fields(&fields);
        assert!(faults.iter().all(|fault| !fault.slug.is_empty()));
    }
}

/// The refusal of a request.
fn nack(input: &[u8]) {
    if let Ok(nack) = Nack::from_bytes(input) {
        assert_eq!(nack.to_bytes(), input, "a message has one encoding");
    }
}

/// An op, as it stands in a page and in the log.
fn op(input: &[u8]) {
    let Ok(read) = read_op(input) else { return };
    let encoded = encode_op(&read.op);
    // A vector of no use is left out: then the bytes differ, the meaning not.
    assert!(read.vector_fault.is_some() || *encoded.bytes == *input, "an op has one encoding");
    let again = read_op(&encoded.bytes).map(|again| again.op);
    assert_eq!(again.as_ref(), Ok(&read.op), "what was decoded encodes to itself");
}

/// A peer's URL.
fn peer_url(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Ok(url) = text.parse::<PeerUrl>() {
        assert_eq!(url.to_string().parse::<PeerUrl>(), Ok(url), "a URL's text reads as the same URL");
    }
}

/// A peers file.
fn peers(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Ok(file) = toml::from_str::<PeersFile>(text) else { return };
    match Directory::new(&file.peers) {
        Ok(directory) => {
            assert_eq!(directory.nodes().count(), file.peers.len(), "an entry is one node");
            for node in directory.nodes() {
                let url = node.url.as_ref();
                assert!(url.is_none_or(|url| directory.at(url).is_some_and(|at| at.id == node.id)));
                for (id, key) in &node.keys {
                    let calls = directory.calling_key(&node.id, *id).is_some();
                    assert_eq!(calls, key.state == KeyState::Active, "active keys call and no others");
                }
            }
            let written = toml::to_string(&file).map(|text| toml::from_str::<PeersFile>(&text));
            assert!(matches!(written, Ok(Ok(again)) if again == file), "a file reads as it was written");
        }
        Err(faults) => assert!(!faults.is_empty()),
    }
}

/// The proof of an op.
fn proof(input: &[u8]) {
    if let Ok(proof) = Proof::from_bytes(input) {
        assert_eq!(proof.to_bytes(), input, "a proof has one encoding");
    }
}

/// What a node asks for.
fn pull_request(input: &[u8]) {
    if let Ok(message) = PullRequest::from_bytes(input) {
        assert_eq!(message.to_bytes(), input, "a message has one encoding");
    }
}

/// What became of a delivery.
fn push_answer(input: &[u8]) {
    if let Ok(message) = PushAnswer::from_bytes(input) {
        assert_eq!(message.to_bytes(), input, "a message has one encoding");
    }
}

/// The entries of a tokens file. The program reads them from TOML; what they mean is decided behind that.
fn tokens(input: &[u8]) {
    let Ok(file) = from_json::<TokensFile>(input) else { return };
    match Tokens::new(&file.tokens) {
        Ok(tokens) => {
            assert_eq!(tokens.iter().len(), file.tokens.len());
            for token in tokens.iter() {
                assert_eq!(
                    tokens.current(token).map(|found| &found.id),
                    Some(&token.id),
                    "a hash names one token"
                );
                assert!(!token.rights.is_empty());
            }
        }
        Err(faults) => assert!(!faults.is_empty() && faults.iter().all(|fault| fault.entry >= 1)),
    }
}

/// A quorum receipt, from its JSON to what it proves: under no key, nothing.
fn receipt(input: &[u8]) {
    let Ok(receipt) = from_json::<QuorumReceipt>(input) else { return };
    if let Ok(report) = receipt.check(|_, _| None) {
        assert!(report.proven() == 0 && !report.holds(), "a receipt holds without a key");
    }
}

/// A client's change of a memory.
fn update_memory(input: &[u8]) {
    let Ok(body) = from_json::<UpdateMemory>(input) else { return };
    let (Ok(fresh), now) = (RecordId::new("fresh"), WallMs(1_700_000_000_000)) else { return };
    let before = from_json::<CreateMemory>(br#"{"namespace":"n","title":"t","content":"c"}"#);
    let Ok(before) = before.map(|body| body.into_write(fresh, now)) else { return };
    let Ok(MemoryWrite { key, payload, embedding }) = before else { return };
    let current = CurrentMemory { key: &key, payload: &payload, embedding: embedding.as_ref() };
    let Ok(write) = body.into_write(current, now) else { return };
    assert_eq!(write.key, key, "a memory does not move");
    let faults = parse_payload(&write.payload).map(|fields| check_payload(&write.key, &fields).len());
    assert!(matches!(faults, Ok(0)), "what a client may write, every node takes: {faults:?}");
}

/// A shipped vector.
fn vector(input: &[u8]) {
    let components = input.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    let Ok(kept) = sanitize_shipped_vector(components) else { return };
    let bits = |vector: &[f32]| vector.iter().map(|component| component.to_bits()).collect::<Vec<_>>();
    let again = sanitize_shipped_vector(kept.clone()).map(|again| bits(&again));
    assert_eq!(again, Ok(bits(&kept)), "a vector that was kept is kept as it is");
}
