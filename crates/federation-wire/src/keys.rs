//! Node keys: Ed25519, verified strictly, named by the hash of their public half.

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use federation_core::id::KeyId;
use rand::CryptoRng;
use zeroize::Zeroizing;

const KEY_ID_DOMAIN: &[u8] = b"federation/v1/key\0";
const ALGORITHM: &str = "ed25519:";
/// First word of a key file: what it is, and the version of its form.
const KEY_FILE_TAG: &str = "federation-node-key-v1";
/// What the line of a key that was rotated away begins with.
const RETIRED_TAG: &str = "retired ";
/// Bytes of the longest line of a key file, about.
const LINE_BYTES_MAX: usize = 96;
/// Keys that a node may have had before: as many as an enrolment has room for, and one that is active.
const RETIRED_MAX: usize = 31;

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
         \"retired ed25519:<43 characters>\" for each key that was rotated away"
    )]
    File,
    /// More keys than a node may have had.
    #[error("a key file has at most {limit} retired keys")]
    TooManyRetired {
        /// The limit.
        limit: usize,
    },
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

/// A node's own keys: the one it signs with, and the public halves of those it signed with before, which its own
/// older ops are proven by. What a key file holds.
#[derive(Clone, Debug)]
pub struct OwnKeys {
    active: Arc<NodeKey>,
    retired: Vec<PublicKey>,
}

impl OwnKeys {
    /// A node that has had no other key.
    pub fn new(active: Arc<NodeKey>) -> Self {
        Self { active, retired: Vec::new() }
    }

    /// The key that it signs with.
    pub fn active(&self) -> &Arc<NodeKey> {
        &self.active
    }

    /// The public halves of those before, oldest first.
    pub fn retired(&self) -> &[PublicKey] {
        &self.retired
    }

    /// The key of this id, if the node has it or has had it.
    pub fn public(&self, id: KeyId) -> Option<&PublicKey> {
        std::iter::once(self.active.public()).chain(&self.retired).find(|key| key.id() == id)
    }

    /// The same node with another key to sign with.
    ///
    /// # Errors
    /// [`KeyError::TooManyRetired`].
    pub fn rotated(&self, active: Arc<NodeKey>) -> Result<Self, KeyError> {
        let mut retired = self.retired.clone();
        retired.push(self.active.public().clone());
        if retired.len() > RETIRED_MAX {
            return Err(KeyError::TooManyRetired { limit: RETIRED_MAX });
        }
        Ok(Self { active, retired })
    }

    /// The keys that a key file holds.
    ///
    /// # Errors
    /// [`KeyError`] if `text` has not the form of [`OwnKeys::to_file_text`].
    pub fn from_file_text(text: &str) -> Result<Self, KeyError> {
        let mut lines = text.strip_suffix('\n').unwrap_or(text).split('\n');
        let active = Arc::new(NodeKey::from_file_line(lines.next().ok_or(KeyError::File)?)?);
        let mut retired = Vec::new();
        for line in lines {
            if retired.len() == RETIRED_MAX {
                return Err(KeyError::TooManyRetired { limit: RETIRED_MAX });
            }
            retired.push(line.strip_prefix(RETIRED_TAG).ok_or(KeyError::File)?.parse()?);
        }
        Ok(Self { active, retired })
    }

    /// The text of a key file, versioned. Its first line is the secret itself: mode 0600 and nowhere else.
    pub fn to_file_text(&self) -> Zeroizing<String> {
        // Room for all at once: a text that grows leaves copies of the secret behind.
        let mut text = Zeroizing::new(String::with_capacity((1 + self.retired.len()) * LINE_BYTES_MAX));
        text.push_str(&self.active.to_file_line());
        for key in &self.retired {
            text.extend([RETIRED_TAG, &key.to_string(), "\n"]);
        }
        text
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
    fn a_key_file_holds_the_key_and_debug_does_not_show_it() {
        let key = own(7);
        let text = key.to_file_text();
        let again = OwnKeys::from_file_text(&text).unwrap();
        assert_eq!(again.active().public(), key.active().public());
        assert_eq!(OwnKeys::from_file_text(text.trim_end()).unwrap().active().id(), key.active().id());
        let secret = URL_SAFE_NO_PAD.encode([7; 32]);
        assert!(text.contains(&secret));
        assert!(!format!("{key:?} {again:#?}").contains(&secret));
        assert!(!format!("{key:?}").contains("[7, 7"));
    }

    fn own(seed: u8) -> OwnKeys {
        OwnKeys::new(Arc::new(NodeKey::from_seed(&[seed; 32])))
    }

    #[test]
    fn a_rotated_key_stays_as_a_public_one_alone() {
        let keys = own(1)
            .rotated(Arc::clone(own(2).active()))
            .unwrap()
            .rotated(Arc::clone(own(3).active()))
            .unwrap();
        let text = keys.to_file_text();
        let again = OwnKeys::from_file_text(&text).unwrap();
        assert_eq!(again.active().id(), own(3).active().id());
        let ids: Vec<_> = again.retired().iter().map(PublicKey::id).collect();
        assert_eq!(ids, [own(1).active().id(), own(2).active().id()]);
        assert_eq!(again.public(own(2).active().id()), Some(own(2).active().public()));
        assert_eq!(again.public(own(4).active().id()), None);
        for seed in [1, 2] {
            assert!(!text.contains(&URL_SAFE_NO_PAD.encode([seed; 32])));
        }
        let mut many = own(1);
        for seed in 2..=32 {
            many = many.rotated(Arc::clone(own(seed).active())).unwrap();
        }
        assert!(OwnKeys::from_file_text(&many.to_file_text()).is_ok());
        let limit = KeyError::TooManyRetired { limit: RETIRED_MAX };
        assert_eq!(many.rotated(Arc::clone(own(33).active())).err(), Some(limit));
        let one_more = format!("{}retired {}\n", *many.to_file_text(), own(40).active().public());
        assert_eq!(OwnKeys::from_file_text(&one_more).err(), Some(limit));
    }

    #[test]
    fn keys_are_drawn_from_the_generator() {
        let drawn = |seed| NodeKey::generate(&mut StdRng::seed_from_u64(seed)).id();
        assert_eq!(drawn(1), drawn(1));
        assert_ne!(drawn(1), drawn(2));
    }

    #[test]
    fn other_key_files_are_refused() {
        let good = own(7).to_file_text();
        for bad in [
            "",
            "\n",
            "federation-node-key-v1",
            "federation-node-key-v1 ",
            &good.replace("v1", "v2"),
            &good.replace(' ', "  "),
            &good.replace("ed25519:", ""),
            &format!("{}\n", &*good),
            &format!(" {}", &*good),
            &good.replace("BwcHBwcHBwc", "BwcHBwcHBw"),
            &format!("{0}{0}", &*good),
            &format!("{}retired\n", &*good),
            &format!("{}retired  {}\n", &*good, own(1).active().public()),
            &format!("{}active {}\n", &*good, own(1).active().public()),
        ] {
            assert!(OwnKeys::from_file_text(bad).is_err(), "{bad:?}");
        }
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
