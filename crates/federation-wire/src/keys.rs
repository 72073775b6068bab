//! Node keys: Ed25519, verified strictly, named by the hash of their public half.

mod own;

pub use own::OwnKeys;

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use federation_core::id::{BootId, KeyId};
use rand::CryptoRng;
use zeroize::Zeroizing;

const KEY_ID_DOMAIN: &[u8] = b"federation/v1/key\0";
const ALGORITHM: &str = "ed25519:";
/// First word of a key file: what it is, and the version of its form.
const KEY_FILE_TAG: &str = "federation-node-key-v1";

/// Why a text is not a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// It does not begin with the algorithm.
    #[error("a key begins with \"ed25519:\"")]
    Algorithm,
    /// What follows is not 32 bytes in base64url without padding.
    #[error("a key is 32 bytes in base64url without padding (43 characters)")]
    Encoding,
    /// The bytes are not a point of the curve in its one encoding.
    #[error("the bytes are not a public key")]
    NotAPoint,
    /// A point of small order: signatures under it prove nothing.
    #[error("the key is weak")]
    Weak,
    /// A key file of another form.
    #[error(
        "a key file has the line \"federation-node-key-v1 ed25519:<43 characters>\", and after it \
         \"retired ed25519:<43 characters>\" for each key that was rotated away, or, if it was stolen, \
         \"revoked ed25519:<43 characters>\" and an <epoch>:<last number> for each series that is still taken"
    )]
    File,
    /// More keys than a node may have had.
    #[error("a key file has at most {limit} keys that were rotated away")]
    TooManyRetired {
        /// The limit.
        limit: usize,
    },
    /// More series than may be named of one revoked key.
    #[error("a revoked key has at most {limit} accepted series")]
    TooManyAccepted {
        /// The limit.
        limit: usize,
    },
    /// A series is named twice.
    #[error("the epoch {0} stands twice")]
    EpochTwice(BootId),
    /// What is to be revoked is the key that the node signs with.
    #[error("the key {0} is the one that the node signs with: rotate it first")]
    StillActive(KeyId),
    /// What is to be revoked is no key of the node.
    #[error("the key {0} is none that the node had before")]
    NotOwn(KeyId),
}

/// A signature does not belong to this message and key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the signature is not valid")]
pub struct BadSignature;

/// A node's key: signs frames and groups of ops. Its secret half is wiped from memory with it, and never shown.
pub struct NodeKey {
    signing: SigningKey,
    public: PublicKey,
}

impl NodeKey {
    /// A new key from `rng`, which must be the system's own or seeded from it.
    pub fn generate<R: CryptoRng>(rng: &mut R) -> Self {
        let mut seed = Zeroizing::new([0_u8; 32]);
        rng.fill_bytes(seed.as_mut_slice());
        Self::from_seed(&seed)
    }

    /// The key of this seed: its secret half.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        let signing = SigningKey::from_bytes(seed);
        let public = PublicKey::of(signing.verifying_key());
        Self { signing, public }
    }

    /// The public half.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The name of the key.
    pub fn id(&self) -> KeyId {
        self.public.id
    }

    /// Signs `message`. Callers put a domain in front, so that no signature serves twice.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.signing.sign(message).to_bytes()
    }

    fn from_file_line(line: &str) -> Result<Self, KeyError> {
        let key = line.strip_prefix(KEY_FILE_TAG).and_then(|rest| rest.strip_prefix(' '));
        let seed = Zeroizing::new(parse_bytes(key.ok_or(KeyError::File)?)?);
        Ok(Self::from_seed(&seed))
    }

    fn to_file_line(&self) -> Zeroizing<String> {
        let seed = Zeroizing::new(URL_SAFE_NO_PAD.encode(self.signing.as_bytes()));
        Zeroizing::new(format!("{KEY_FILE_TAG} {ALGORITHM}{}\n", *seed))
    }
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeKey").field("id", &self.public.id).finish_non_exhaustive()
    }
}

/// The public half of a node key, decoded once. Its text is `ed25519:` and 43 characters of base64url.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    verifying: VerifyingKey,
    id: KeyId,
}

impl PublicKey {
    /// The key of these bytes.
    ///
    /// # Errors
    /// [`KeyError::NotAPoint`] or [`KeyError::Weak`].
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, KeyError> {
        let verifying = VerifyingKey::from_bytes(bytes).map_err(|_| KeyError::NotAPoint)?;
        if verifying.to_edwards().compress().as_bytes() != bytes {
            return Err(KeyError::NotAPoint);
        }
        if verifying.is_weak() {
            return Err(KeyError::Weak);
        }
        Ok(Self::of(verifying))
    }

    fn of(verifying: VerifyingKey) -> Self {
        let hash = blake3::Hasher::new().update(KEY_ID_DOMAIN).update(verifying.as_bytes()).finalize();
        let (id, _) = hash.as_bytes().split_first_chunk().unwrap_or((&[0; 8], &[]));
        Self { verifying, id: KeyId(*id) }
    }

    /// The name of the key: 8 bytes of the hash of it.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// The key's bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.verifying.as_bytes()
    }

    /// Checks that the key's owner signed `message`. Strict: no malleable signature, no point of small order.
    ///
    /// # Errors
    /// [`BadSignature`].
    pub fn verify(&self, message: &[u8], signature: &[u8; 64]) -> Result<(), BadSignature> {
        let signature = Signature::from_bytes(signature);
        self.verifying.verify_strict(message, &signature).map_err(|_| BadSignature)
    }
}

impl std::str::FromStr for PublicKey {
    type Err = KeyError;
    fn from_str(text: &str) -> Result<Self, KeyError> {
        Self::from_bytes(&parse_bytes(text)?)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{ALGORITHM}{}", URL_SAFE_NO_PAD.encode(self.as_bytes()))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn parse_bytes(text: &str) -> Result<[u8; 32], KeyError> {
    let encoded = text.strip_prefix(ALGORITHM).ok_or(KeyError::Algorithm)?;
    if encoded.len() != 43 {
        return Err(KeyError::Encoding);
    }
    let bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(encoded).map_err(|_| KeyError::Encoding)?);
    <[u8; 32]>::try_from(bytes.as_slice()).map_err(|_| KeyError::Encoding)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn keys_are_drawn_from_the_generator() {
        let drawn = |seed| NodeKey::generate(&mut StdRng::seed_from_u64(seed)).id();
        assert_eq!(drawn(1), drawn(1));
        assert_ne!(drawn(1), drawn(2));
    }

    #[test]
    fn public_keys_have_one_text() {
        let key = NodeKey::from_seed(&[9; 32]);
        let text = key.public().to_string();
        assert_eq!(text.parse::<PublicKey>().as_ref(), Ok(key.public()));
        assert_eq!(text.len(), 8 + 43);
        assert_eq!(text.replace("ed25519:", "rsa:").parse::<PublicKey>(), Err(KeyError::Algorithm));
        assert_eq!(format!("{text}=").parse::<PublicKey>(), Err(KeyError::Encoding));
        // The last character carries four bits of the key: the two others must be zero.
        let last = text.chars().last().unwrap();
        let neighbour = char::from(last as u8 + 1);
        let padded = format!("{}{neighbour}", &text[..text.len() - 1]);
        assert!(padded.parse::<PublicKey>().is_err());
    }

    #[test]
    fn weak_and_non_canonical_keys_are_refused() {
        // The identity, and a point of order two.
        let mut identity = [0; 32];
        identity[0] = 1;
        assert_eq!(PublicKey::from_bytes(&identity), Err(KeyError::Weak));
        let mut minus_one = [0xff; 32];
        minus_one[0] = 0xec;
        minus_one[31] = 0x7f;
        assert_eq!(PublicKey::from_bytes(&minus_one), Err(KeyError::Weak));
        // y = 1 written as p + 1.
        let mut identity_again = [0xff; 32];
        identity_again[0] = 0xee;
        identity_again[31] = 0x7f;
        assert_eq!(PublicKey::from_bytes(&identity_again), Err(KeyError::NotAPoint));
    }

    #[test]
    fn a_signature_is_of_one_message_and_key() {
        let key = NodeKey::from_seed(&[1; 32]);
        let signature = key.sign(b"message");
        assert_eq!(key.public().verify(b"message", &signature), Ok(()));
        assert_eq!(key.public().verify(b"messagE", &signature), Err(BadSignature));
        let other = NodeKey::from_seed(&[2; 32]);
        assert_eq!(other.public().verify(b"message", &signature), Err(BadSignature));
    }
}
