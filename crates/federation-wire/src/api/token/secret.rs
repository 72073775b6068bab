//! The secret that a client presents, and the hash that is kept of it.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::CryptoRng;
use zeroize::Zeroizing;

/// First characters of a secret's text: scanners for leaked secrets find it by them, and it names the form.
const PREFIX: &str = "fed1_";
/// Characters of 32 bytes in base64url without padding.
const ENCODED_CHARS: usize = 43;
/// What is hashed before a secret, so that its hash is of use for nothing else.
const DOMAIN: &[u8] = b"federation/v1/client-token\0";
/// What the text of a hash begins with.
const ALGORITHM: &str = "blake3:";

/// A client's secret: 256 random bits, shown once when it is made. Wiped from memory with it, and never shown by
/// `Debug`.
#[derive(Clone)]
pub struct ClientSecret(Zeroizing<[u8; 32]>);

/// The text is not a secret. It is not repeated here: it may nearly be one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a secret is \"fed1_\" and 43 characters of base64url")]
pub struct SecretError;

impl ClientSecret {
    /// A new secret from `rng`, which must be the system's own or seeded from it.
    pub fn generate<R: CryptoRng>(rng: &mut R) -> Self {
        let mut bytes = Zeroizing::new([0_u8; 32]);
        rng.fill_bytes(bytes.as_mut_slice());
        Self(bytes)
    }

    /// The secret of this text.
    ///
    /// # Errors
    /// [`SecretError`]; the length is looked at before anything is decoded.
    pub fn parse(text: &[u8]) -> Result<Self, SecretError> {
        let encoded = text.strip_prefix(PREFIX.as_bytes()).ok_or(SecretError)?;
        if encoded.len() != ENCODED_CHARS {
            return Err(SecretError);
        }
        let decoded = Zeroizing::new(URL_SAFE_NO_PAD.decode(encoded).map_err(|_| SecretError)?);
        let bytes = <[u8; 32]>::try_from(decoded.as_slice()).map_err(|_| SecretError)?;
        Ok(Self(Zeroizing::new(bytes)))
    }

    /// The text. It is the secret itself.
    pub fn to_text(&self) -> Zeroizing<String> {
        let encoded = Zeroizing::new(URL_SAFE_NO_PAD.encode(self.0.as_slice()));
        Zeroizing::new(format!("{PREFIX}{}", *encoded))
    }

    /// What is kept of it. Not a slow hash: there is nothing to guess in 256 random bits.
    pub fn hash(&self) -> SecretHash {
        // The hasher holds what it has not yet hashed: here, all of it.
        let mut hasher = Zeroizing::new(blake3::Hasher::new());
        hasher.update(DOMAIN).update(self.0.as_slice());
        SecretHash(hasher.finalize())
    }
}

impl fmt::Debug for ClientSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientSecret(..)")
    }
}

/// What is kept of a secret. Compared in constant time. Its text is `blake3:` and 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SecretHash(blake3::Hash);

impl std::str::FromStr for SecretHash {
    type Err = SecretHashError;
    fn from_str(text: &str) -> Result<Self, SecretHashError> {
        let digits = text.strip_prefix(ALGORITHM).ok_or(SecretHashError)?;
        let hash = blake3::Hash::from_hex(digits).map_err(|_| SecretHashError)?;
        if *hash.to_hex() == *digits { Ok(Self(hash)) } else { Err(SecretHashError) }
    }
}

/// The text is not a hash. It is not repeated here: somebody may have put the secret in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a hash is \"blake3:\" and 64 hexadecimal digits in lower case, as `federationd token create` writes it"
)]
pub struct SecretHashError;

impl fmt::Display for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{ALGORITHM}{}", self.0.to_hex())
    }
}

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHash(..)")
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn a_secret_has_one_text_and_its_hash_another_domain_than_the_bare_bytes() {
        let secret = ClientSecret::generate(&mut StdRng::seed_from_u64(1));
        let text = secret.to_text();
        assert!(text.starts_with("fed1_") && text.len() == 48);
        assert_eq!(ClientSecret::parse(text.as_bytes()).unwrap().hash(), secret.hash());
        assert_ne!(secret.hash().to_string(), format!("blake3:{}", blake3::hash(secret.0.as_slice())));
        let other = ClientSecret::generate(&mut StdRng::seed_from_u64(2));
        assert_ne!(other.hash(), secret.hash());
        assert_eq!(secret.hash().to_string().parse(), Ok(secret.hash()));
    }

    #[test]
    fn what_is_nearly_a_secret_or_a_hash_is_none() {
        let text = ClientSecret::generate(&mut StdRng::seed_from_u64(1)).to_text();
        let last_bits = format!("{}B", &text[..47]);
        for bad in ["", "fed1_", &text[1..], &text[..47], &format!("{}A", *text), &last_bits, "fed2_x"] {
            assert!(ClientSecret::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        let hash = ClientSecret::parse(text.as_bytes()).unwrap().hash().to_string();
        for bad in ["", &hash[7..], &hash.to_uppercase(), &hash[..70], &text] {
            let error = bad.parse::<SecretHash>().unwrap_err();
            assert!(!error.to_string().contains(text.as_str()));
        }
        assert!(hash.parse::<SecretHash>().is_ok());
    }

    #[test]
    fn debug_shows_neither_secret_nor_hash() {
        let secret = ClientSecret::parse(b"fed1_BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc").unwrap();
        let shown = format!("{secret:?} {:#?} {:?}", secret.clone(), secret.hash());
        let hash = secret.hash().to_string();
        for hidden in ["BwcH", "7, 7", "7,\n", &hash[7..20]] {
            assert!(!shown.contains(hidden), "{hidden} in {shown}");
        }
    }
}
