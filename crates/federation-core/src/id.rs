//! Identifiers. Each is a type of its own, validated where it is made.

use std::fmt;
use std::sync::Arc;

use unicode_normalization::is_nfc;

use crate::limits::{
    AGENT_ID_BYTES_MAX, KIND_BYTES_MAX, NAMESPACE_CHARS_MAX, NAMESPACE_DEPTH_MAX, NODE_ID_BYTES_MAX,
    RECORD_ID_BYTES_MAX,
};

/// Why a text is not a valid identifier.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The text is empty.
    #[error("{what} is empty")]
    Empty {
        /// Which identifier.
        what: &'static str,
    },
    /// The text is longer than its limit.
    #[error("{what} is longer than {limit} {unit}")]
    TooLong {
        /// Which identifier.
        what: &'static str,
        /// The limit.
        limit: usize,
        /// What the limit counts.
        unit: &'static str,
    },
    /// The text has a character that is not allowed there.
    #[error("{what} has the character {found:?}, allowed are {allowed}")]
    Character {
        /// Which identifier.
        what: &'static str,
        /// The first character that is not allowed.
        found: char,
        /// What is.
        allowed: &'static str,
    },
    /// An identifier that is `.` or `..`, or a namespace with an empty, `.` or `..` segment.
    #[error("an empty segment, \".\" and \"..\" are no names")]
    Segment,
    /// A namespace with too many segments.
    #[error("namespace is deeper than {limit} segments")]
    TooDeep {
        /// The limit.
        limit: usize,
    },
    /// A text that is not in Unicode normalisation form C.
    #[error("{what} is not in Unicode NFC")]
    NotNormalised {
        /// Which identifier.
        what: &'static str,
    },
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $check:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Validates and wraps `text`.
            pub fn new(text: &str) -> Result<Self, IdError> {
                $check(text)?;
                Ok(Self(Arc::from(text)))
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl std::str::FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::new(text)
            }
        }
    };
}

text_id! {
    /// A node's stable name: 1 to 64 of `[A-Za-z0-9._-]`, bound to a key. Never a position in a list.
    NodeId, check_node_id
}
text_id! {
    /// Where a record lives: up to 8 segments joined by `/`, up to 512 characters, in Unicode NFC,
    /// without control characters, `*`, `\`, or a segment that is empty, `.` or `..`.
    Namespace, check_namespace
}
text_id! {
    /// What a record is: 1 to 32 of `[a-z0-9_-]`, beginning with a letter. `memory` and `link` have rules of their own.
    Kind, check_kind
}
text_id! {
    /// A record's name within its namespace and kind: 1 to 128 bytes of `[A-Za-z0-9._:@-]`.
    RecordId, check_record_id
}
text_id! {
    /// Who wrote: 1 to 128 bytes of `[A-Za-z0-9._:@/-]`, as clients name their agents.
    AgentId, check_agent_id
}

impl Kind {
    /// The kind of an agent's memory.
    pub fn memory() -> Self {
        Self(Arc::from("memory"))
    }

    /// Whether this is the kind of an agent's memory.
    pub fn is_memory(&self) -> bool {
        &*self.0 == "memory"
    }
}

/// Drawn at random at each start of a node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BootId(pub u64);

/// Names one life of a data directory. A later creation time is a newer store.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreId {
    /// Wall-clock milliseconds at which the store began, at least one more than the store it replaces.
    pub created_ms: u64,
    /// Tells apart stores begun in the same millisecond.
    pub random: u64,
}

/// Names a key: the first bytes of the hash of its public half.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub [u8; 8]);

/// Hash of an op's bytes. Not stored in the op.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpHash(pub [u8; 32]);

/// Bytes made durable since a store began: the position of its last sync. Never goes back within one boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogPosition(pub u64);

macro_rules! hex_text {
    ($name:ident, $self:ident => $bytes:expr) => {
        impl fmt::Display for $name {
            fn fmt(&$self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                for byte in $bytes {
                    write!(f, "{byte:02x}")?;
                }
                Ok(())
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}
hex_text!(BootId, self => self.0.to_be_bytes());
hex_text!(StoreId, self => self.created_ms.to_be_bytes().into_iter().chain(self.random.to_be_bytes()));
hex_text!(KeyId, self => self.0);
hex_text!(OpHash, self => self.0);

/// A text is not the 16 lower-case hexadecimal digits of a boot id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a boot id is 16 lower-case hexadecimal digits")]
pub struct BootIdError;

impl std::str::FromStr for BootId {
    type Err = BootIdError;
    fn from_str(text: &str) -> Result<Self, BootIdError> {
        hex_u64(text).map(Self).ok_or(BootIdError)
    }
}

/// A text is not the 16 lower-case hexadecimal digits of a key id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a key id is 16 lower-case hexadecimal digits")]
pub struct KeyIdError;

impl std::str::FromStr for KeyId {
    type Err = KeyIdError;
    fn from_str(text: &str) -> Result<Self, KeyIdError> {
        hex_u64(text).map(|bytes| Self(bytes.to_be_bytes())).ok_or(KeyIdError)
    }
}

/// The number of exactly 16 lower-case hexadecimal digits.
fn hex_u64(text: &str) -> Option<u64> {
    let is_digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    let is_whole = text.len() == 16 && text.bytes().all(is_digit);
    is_whole.then(|| u64::from_str_radix(text, 16).ok()).flatten()
}

/// Names one record. A record never changes its key: a move is a delete and a create.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordKey {
    /// Where it lives.
    pub namespace: Namespace,
    /// What it is.
    pub kind: Kind,
    /// Its name there.
    pub id: RecordId,
}

impl fmt::Display for RecordKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.namespace, self.kind, self.id)
    }
}

fn check_bytes(what: &'static str, text: &str, limit: usize) -> Result<(), IdError> {
    if text.is_empty() {
        return Err(IdError::Empty { what });
    }
    if text.len() > limit {
        return Err(IdError::TooLong { what, limit, unit: "bytes" });
    }
    Ok(())
}

fn check_chars(
    what: &'static str,
    text: &str,
    allowed: &'static str,
    is_allowed: impl Fn(char) -> bool,
) -> Result<(), IdError> {
    match text.chars().find(|c| !is_allowed(*c)) {
        Some(found) => Err(IdError::Character { what, found, allowed }),
        None => Ok(()),
    }
}

fn check_node_id(text: &str) -> Result<(), IdError> {
    check_bytes("node id", text, NODE_ID_BYTES_MAX)?;
    check_not_dots(text)?;
    check_chars("node id", text, "letters, digits, '.', '_' and '-'", |c| {
        c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
    })
}

/// `.` and `..` mean something else wherever paths are made of names.
fn check_not_dots(text: &str) -> Result<(), IdError> {
    if matches!(text, "." | "..") { Err(IdError::Segment) } else { Ok(()) }
}

fn check_kind(text: &str) -> Result<(), IdError> {
    check_bytes("kind", text, KIND_BYTES_MAX)?;
    check_chars("kind", text, "'a' to 'z', digits, '_' and '-'", |c| {
        c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-')
    })?;
    match text.chars().next() {
        Some(found) if !found.is_ascii_lowercase() => {
            Err(IdError::Character { what: "kind", found, allowed: "a letter first" })
        }
        _ => Ok(()),
    }
}

fn check_record_id(text: &str) -> Result<(), IdError> {
    check_bytes("id", text, RECORD_ID_BYTES_MAX)?;
    check_not_dots(text)?;
    check_chars("id", text, "letters, digits, '.', '_', ':', '@' and '-'", |c| {
        c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | ':' | '@' | '-')
    })
}

fn check_agent_id(text: &str) -> Result<(), IdError> {
    check_bytes("agent id", text, AGENT_ID_BYTES_MAX)?;
    check_chars("agent id", text, "letters, digits, '.', '_', ':', '@', '/' and '-'", |c| {
        c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | ':' | '@' | '/' | '-')
    })
}

fn check_namespace(text: &str) -> Result<(), IdError> {
    const WHAT: &str = "namespace";
    if text.is_empty() {
        return Err(IdError::Empty { what: WHAT });
    }
    // A character has at most four bytes: the cheap test bounds the work of the others.
    if text.len() > 4 * NAMESPACE_CHARS_MAX || text.chars().count() > NAMESPACE_CHARS_MAX {
        return Err(IdError::TooLong { what: WHAT, limit: NAMESPACE_CHARS_MAX, unit: "characters" });
    }
    check_chars(WHAT, text, "no control characters, '*' or '\\'", |c| {
        !c.is_control() && !matches!(c, '*' | '\\')
    })?;
    if !is_nfc(text) {
        return Err(IdError::NotNormalised { what: WHAT });
    }
    let mut depth = 0_usize;
    for segment in text.split('/') {
        depth += 1;
        if matches!(segment, "" | "." | "..") {
            return Err(IdError::Segment);
        }
    }
    if depth > NAMESPACE_DEPTH_MAX {
        return Err(IdError::TooDeep { limit: NAMESPACE_DEPTH_MAX });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces() {
        let check = |text: &str, valid: bool| {
            assert_eq!(Namespace::new(text).is_ok(), valid, "{text:?}: {:?}", Namespace::new(text));
        };
        check("team", true);
        check("team/agents/notes", true);
        check("größe", true);
        check("gro\u{0308}ße", false);
        check("a/b/c/d/e/f/g/h", true);
        check("a/b/c/d/e/f/g/h/i", false);
        check("", false);
        check("/a", false);
        check("a/", false);
        check("a//b", false);
        check("a/../b", false);
        check("a/./b", false);
        check("a/*", false);
        check("a\\b", false);
        check("a\u{0}b", false);
        check(&"x".repeat(512), true);
        check(&"x".repeat(513), false);
        check(&"ü".repeat(512), true);
    }

    #[test]
    fn other_ids() {
        assert!(NodeId::new("node-1.eu_west").is_ok());
        assert!(NodeId::new("").is_err());
        assert!(NodeId::new("..").is_err());
        assert!(RecordId::new(".").is_err());
        assert_eq!("00000000000000ff".parse(), Ok(BootId(255)));
        for text in ["ff", "+0000000000000ff", "00000000000000FF", "00000000000000fff"] {
            assert_eq!(text.parse::<BootId>(), Err(BootIdError), "{text}");
        }
        assert!(NodeId::new("a/b").is_err());
        assert!(NodeId::new(&"n".repeat(65)).is_err());
        assert!(Kind::new("memory").is_ok());
        assert!(Kind::new("Memory").is_err());
        assert!(Kind::new("9lives").is_err());
        assert!(RecordId::new("0198-abc:def@x").is_ok());
        assert!(RecordId::new("a b").is_err());
        assert!(RecordId::new(&"i".repeat(129)).is_err());
        assert!(AgentId::new("ai:claude@host/x").is_ok());
        assert!(AgentId::new("agent\n").is_err());
    }
}
