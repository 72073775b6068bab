//! Frames that are not what they should be, made from ones that are.

#![expect(clippy::indexing_slicing, reason = "cuts at places of a frame that it has just made")]

use federation_core::id::NodeId;
use federation_core::limits::{FRAME_BYTES_MAX, FRAME_HEADER_BYTES_MAX};
use federation_wire::frame::{self, Envelope};
use federation_wire::keys::NodeKey;
use federation_wire::v1::delivery::{Lane, Page, PageOp};
use rand::RngExt;

use super::{Attacker, STRANGER, Sound, Strike};

/// Bytes of a frame's signature.
pub(super) const SIGNATURE_BYTES: usize = 64;
/// What a signature stands over, before the header.
const FRAME_DOMAIN: &[u8] = b"federation/v1/frame\0";
/// Magic and header length.
const PREFIX_BYTES: usize = 8;
/// A header ends with the length of the body and its hash.
const BODY_LEN_FROM_HEADER_END: usize = 36;

impl Attacker {
    /// Bytes that nobody who is enrolled has sent.
    pub(super) fn mangle(&mut self, strike: Strike, sound: &Sound) -> Vec<u8> {
        let mut bytes = sound.sealed();
        let signature_at = bytes.len() - SIGNATURE_BYTES;
        let body_at = signature_at - sound.body.len();
        match strike {
            Strike::FlipHeader => self.flip(&mut bytes[..body_at]),
            Strike::FlipBody => self.flip(&mut bytes[body_at..signature_at]),
            Strike::FlipSignature => self.flip(&mut bytes[signature_at..]),
            Strike::Truncated => bytes.truncate(self.random.random_range(0..bytes.len())),
            Strike::Garbage => bytes = self.garbage(),
            Strike::OversizedLengths => bytes = self.oversize(sound, bytes, body_at),
            Strike::Unsigned => bytes.truncate(signature_at),
            _ => bytes[signature_at..].fill(0),
        }
        bytes
    }

    /// A frame that is signed, by somebody else than it says.
    pub(super) fn masquerade(&mut self, strike: Strike, sound: &Sound) -> Vec<u8> {
        let stranger = NodeId::new(STRANGER).expect("a valid id");
        let others: Vec<_> =
            self.nodes.iter().filter(|(id, _)| *id != sound.envelope.sender).cloned().collect();
        let is_key_named = self.random.random_bool(0.5);
        match strike {
            Strike::UnenrolledName => {
                let envelope = Envelope { sender: stranger, ..sound.envelope.clone() };
                let key = if self.random.random_bool(0.5) { &self.own_key } else { &sound.key };
                frame::seal(key, envelope, &sound.body)
            }
            Strike::BorrowedName if !others.is_empty() => {
                // Its own name is what the compromised node does not use.
                let (_, borrower) = &others[self.random.random_range(0..others.len())];
                signed_by(borrower, sound, is_key_named)
            }
            _ => signed_by(&self.own_key, sound, is_key_named),
        }
    }

    fn flip(&mut self, bytes: &mut [u8]) {
        if !bytes.is_empty() {
            let at = self.random.random_range(0..bytes.len());
            bytes[at] ^= 1 << self.random.random_range(0..8);
        }
    }

    fn garbage(&mut self) -> Vec<u8> {
        let mut bytes = self.noise(4_096);
        if self.random.random_bool(0.5) && bytes.len() > PREFIX_BYTES {
            let header_len = self.random.random_range(0..u32::try_from(bytes.len()).expect("a small frame"));
            bytes[..4].copy_from_slice(b"FED1");
            bytes[4..PREFIX_BYTES].copy_from_slice(&header_len.to_le_bytes());
        }
        bytes
    }

    fn oversize(&mut self, sound: &Sound, mut bytes: Vec<u8>, body_at: usize) -> Vec<u8> {
        let header_len = u32::try_from(body_at - PREFIX_BYTES).expect("a short header");
        let beyond = u32::try_from(FRAME_HEADER_BYTES_MAX + 1).expect("a small limit");
        let mut claim = |at: usize, length: u32| bytes[at..at + 4].copy_from_slice(&length.to_le_bytes());
        match self.random.random_range(0..7) {
            0 => claim(4, u32::MAX),
            1 => claim(4, beyond),
            2 => claim(4, header_len + self.random.random_range(1..64)),
            3 => claim(body_at - BODY_LEN_FROM_HEADER_END, u32::MAX),
            4 => bytes.resize(FRAME_BYTES_MAX + 1, 0),
            // What is signed is not true for that.
            5 => return resealed(sound, &overfull_page()),
            _ => return resealed(sound, &endless_op()),
        }
        bytes
    }
}

/// The frame with another signature; under the key's own id, or under that of the key it should be.
fn signed_by(key: &NodeKey, sound: &Sound, is_key_named: bool) -> Vec<u8> {
    if is_key_named {
        return frame::seal(key, sound.envelope.clone(), &sound.body);
    }
    let mut bytes = sound.sealed();
    let signature_at = bytes.len() - SIGNATURE_BYTES;
    let header = &bytes[PREFIX_BYTES..signature_at - sound.body.len()];
    let signature = key.sign(&[FRAME_DOMAIN, header].concat());
    bytes[signature_at..].copy_from_slice(&signature);
    bytes
}

fn resealed(sound: &Sound, body: &[u8]) -> Vec<u8> {
    frame::seal(&sound.key, sound.envelope.clone(), body)
}

/// A page that says it has more ops than any.
fn overfull_page() -> Vec<u8> {
    let mut body = Page { lane: Lane::Live, receipts: Vec::new(), ops: Vec::new() }.to_bytes();
    let count_at = body.len() - 4;
    body[count_at..].fill(0xff);
    body
}

/// A page with an op that says it is longer than anything.
fn endless_op() -> Vec<u8> {
    let op_at = overfull_page().len();
    let mut body =
        Page { lane: Lane::Live, receipts: Vec::new(), ops: vec![PageOp { op: b"op", proof: b"" }] }
            .to_bytes();
    body[op_at..op_at + 4].fill(0xff);
    body
}
