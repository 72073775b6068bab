//! The native frame: `magic "FED1" | header_len u32 | header | body | signature 64`.
//!
//! The signature is Ed25519 over `"federation/v1/frame\0" || header bytes`; the header has the body's length and hash.
//! Where the channel proves that the sender holds the key that the header names, there is no signature: [`SenderProof`]
//! says which of the two forms a channel has, and it takes no other.
//! A frame is opened in the order of cost and risk, and the types allow no other:
//!
//! 1. [`ReceivedFrame::parse`]: lengths and header;
//! 2. [`check_request`] or [`check_answer`]: who, to whom, where, when; [`NonceWindow::check`];
//! 3. [`ReceivedFrame::verify`] with the sender's key, or [`ReceivedFrame::vouched_for`] by the channel, then
//!    [`NonceWindow::record`];
//! 4. [`VerifiedFrame::body`]: only now the body is seen, checked against its signed hash.

mod envelope;
mod error;
mod header;
mod nonce_window;

pub use envelope::{Addressed, check_answer, check_request};
pub use error::FrameError;
pub use header::{BodyDigest, Envelope, FrameKind, Header, Nonce, Route};
pub use nonce_window::NonceWindow;

use std::ops::Range;

use federation_core::id::KeyId;
use federation_core::limits::{FRAME_BYTES_MAX, FRAME_HEADER_BYTES_MAX};

use crate::codec;
use crate::keys::{NodeKey, PublicKey};

const MAGIC: &[u8; 4] = b"FED1";
const FRAME_DOMAIN: &[u8] = b"federation/v1/frame\0";
/// Magic and header length.
const PREFIX_BYTES: usize = 8;
const SIGNATURE_BYTES: usize = 64;

/// What proves who sent a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SenderProof {
    /// Its own signature.
    Signature,
    /// The channel that it came by, which proved that the other end holds the sender's key. The frame has no signature.
    Channel,
}

/// The signed frame that carries `body`.
pub fn seal(key: &NodeKey, envelope: Envelope, body: &[u8]) -> Vec<u8> {
    let header = codec::encode(&Header { envelope, key_id: key.id(), body: BodyDigest::of(body) });
    let mut frame = unsigned(&header, body);
    frame.extend_from_slice(&key.sign(&signed_message(&header)));
    frame
}

/// The frame that carries `body` on a channel which has proven that this node holds the key of that id.
pub fn seal_for_channel(key_id: KeyId, envelope: Envelope, body: &[u8]) -> Vec<u8> {
    unsigned(&codec::encode(&Header { envelope, key_id, body: BodyDigest::of(body) }), body)
}

fn unsigned(header: &[u8], body: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(PREFIX_BYTES + header.len() + body.len() + SIGNATURE_BYTES);
    frame.extend_from_slice(MAGIC);
    frame.extend_from_slice(&u32::try_from(header.len()).unwrap_or(u32::MAX).to_le_bytes());
    frame.extend_from_slice(header);
    frame.extend_from_slice(body);
    frame
}

/// How many bytes the frame takes that `received` begins with; none while too few are there to tell. For a stream of
/// frames, each of which has this proof.
///
/// # Errors
/// [`FrameError`] if no frame begins like that, or it is larger than [`FRAME_BYTES_MAX`].
pub fn frame_len(received: &[u8], proof: SenderProof) -> Result<Option<usize>, FrameError> {
    let Some((header_bytes, body_at)) = header_of(received)? else { return Ok(None) };
    let header = read_header(header_bytes)?;
    let signature_bytes = match proof {
        SenderProof::Signature => SIGNATURE_BYTES,
        SenderProof::Channel => 0,
    };
    let bytes = body_at + header.body.len as usize + signature_bytes;
    if bytes > FRAME_BYTES_MAX {
        return Err(FrameError::TooLarge { bytes, limit_bytes: FRAME_BYTES_MAX });
    }
    Ok(Some(bytes))
}

/// A frame whose header is read and whose sender is not proven.
#[derive(Clone, Debug)]
pub struct ReceivedFrame<'a> {
    header: Header,
    header_bytes: &'a [u8],
    body: &'a [u8],
    body_at: usize,
    signature: Option<&'a [u8; 64]>,
}

impl<'a> ReceivedFrame<'a> {
    /// Reads lengths and header of the frame that `bytes` are.
    ///
    /// # Errors
    /// [`FrameError::TooLarge`], [`FrameError::Malformed`], [`FrameError::SignatureMalformed`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, FrameError> {
        if bytes.len() > FRAME_BYTES_MAX {
            return Err(FrameError::TooLarge { bytes: bytes.len(), limit_bytes: FRAME_BYTES_MAX });
        }
        let (header_bytes, body_at) = header_of(bytes)?.ok_or(FrameError::Malformed)?;
        let header = read_header(header_bytes)?;
        let behind = bytes.get(body_at..).ok_or(FrameError::Malformed)?;
        let (body, rest) = behind.split_at_checked(header.body.len as usize).ok_or(FrameError::Malformed)?;
        let signature = match rest {
            [] => None,
            rest => Some(rest.try_into().map_err(|_| FrameError::SignatureMalformed)?),
        };
        Ok(Self { header, header_bytes, body, body_at, signature })
    }

    /// What the sender says of itself and of the frame: not proven yet.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Checks the signature under the sender's key.
    ///
    /// # Errors
    /// [`FrameError::SignatureMissing`], [`FrameError::SignatureInvalid`].
    pub fn verify(self, key: &PublicKey) -> Result<VerifiedFrame<'a>, FrameError> {
        let signature = self.signature.ok_or(FrameError::SignatureMissing)?;
        if key.id() != self.header.key_id {
            return Err(FrameError::SignatureInvalid);
        }
        key.verify(&signed_message(self.header_bytes), signature)
            .map_err(|_| FrameError::SignatureInvalid)?;
        Ok(VerifiedFrame { frame: self })
    }

    /// Takes the channel's word for the sender. The caller has seen that the channel proved the sender and the key that
    /// the header names.
    ///
    /// # Errors
    /// [`FrameError::Malformed`] if there is a signature all the same: on such a channel a frame has one form.
    pub fn vouched_for(self) -> Result<VerifiedFrame<'a>, FrameError> {
        match self.signature {
            None => Ok(VerifiedFrame { frame: self }),
            Some(_) => Err(FrameError::Malformed),
        }
    }
}

/// A frame whose sender is proven.
#[derive(Clone, Debug)]
pub struct VerifiedFrame<'a> {
    frame: ReceivedFrame<'a>,
}

impl<'a> VerifiedFrame<'a> {
    /// What the sender says of itself and of the frame.
    pub fn header(&self) -> &Header {
        &self.frame.header
    }

    /// The body, if it is the one that was signed.
    ///
    /// # Errors
    /// [`FrameError::BodyChanged`].
    pub fn body(&self) -> Result<&'a [u8], FrameError> {
        if BodyDigest::of(self.frame.body) == self.frame.header.body {
            Ok(self.frame.body)
        } else {
            Err(FrameError::BodyChanged)
        }
    }

    /// Where the body stands in the bytes of the frame.
    pub fn body_range(&self) -> Range<usize> {
        self.frame.body_at..self.frame.body_at + self.frame.body.len()
    }
}

/// The header's bytes and where the body begins; none if `bytes` end before that.
fn header_of(bytes: &[u8]) -> Result<Option<(&[u8], usize)>, FrameError> {
    let magic = bytes.get(..MAGIC.len()).unwrap_or(bytes);
    if !MAGIC.starts_with(magic) {
        return Err(FrameError::Malformed);
    }
    let Some((prefix, rest)) = bytes.split_first_chunk::<PREFIX_BYTES>() else { return Ok(None) };
    let [_, _, _, _, a, b, c, d] = *prefix;
    let header_len = u32::from_le_bytes([a, b, c, d]) as usize;
    if header_len > FRAME_HEADER_BYTES_MAX {
        return Err(FrameError::TooLarge { bytes: header_len, limit_bytes: FRAME_HEADER_BYTES_MAX });
    }
    Ok(rest.get(..header_len).map(|header| (header, PREFIX_BYTES + header_len)))
}

fn read_header(bytes: &[u8]) -> Result<Header, FrameError> {
    let header: Header = codec::decode(bytes, FRAME_HEADER_BYTES_MAX).map_err(|_| FrameError::Malformed)?;
    let body_bytes = header.body.len as usize;
    if body_bytes > FRAME_BYTES_MAX {
        return Err(FrameError::TooLarge { bytes: body_bytes, limit_bytes: FRAME_BYTES_MAX });
    }
    Ok(header)
}

fn signed_message(header: &[u8]) -> Vec<u8> {
    [FRAME_DOMAIN, header].concat()
}
