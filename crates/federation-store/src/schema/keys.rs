//! Keys of the index: one prefix per table, then fields whose bytes sort like the values.
//!
//! Texts end with a zero byte, which none of them may hold, so that a text sorts before its own extensions.
//! Numbers are big-endian.

use federation_core::dot::{Dot, Origin};
use federation_core::id::{BootId, Kind, Namespace, NodeId, RecordId, RecordKey};

use super::SchemaError;

/// Live dot to record key.
pub(crate) const LIVE: u8 = b'D';
/// Dot superseded while a session runs, to record key.
pub(crate) const GHOST: u8 = b'G';
/// Record key to its live versions.
pub(crate) const RECORD: u8 = b'R';
/// Kind, id and namespace, to nothing.
pub(crate) const BY_ID: u8 = b'K';
/// Origin and first seq of a range of the node clock, to its last.
pub(crate) const CLOCK: u8 = b'C';
/// What is remembered.
pub(crate) const FACT: u8 = b'F';
/// Where the index stands.
pub(crate) const MARK: u8 = b'M';

/// The key of what the index knows of itself.
pub(crate) fn mark() -> Vec<u8> {
    vec![MARK]
}

/// The first key behind all keys that begin with `prefix`, which does not end in 255.
pub(crate) fn behind(prefix: &[u8]) -> Vec<u8> {
    let mut key = prefix.to_vec();
    if let Some(last) = key.last_mut() {
        *last = last.saturating_add(1);
    }
    key
}

/// The first key behind `key` itself.
pub(crate) fn after(key: &[u8]) -> Vec<u8> {
    let mut next = key.to_vec();
    next.push(0);
    next
}

/// The key of `dot` in [`LIVE`] or [`GHOST`].
pub(crate) fn dot(table: u8, dot: &Dot) -> Vec<u8> {
    seq(table, &dot.origin, dot.seq)
}

/// The dot of a key of [`LIVE`] or [`GHOST`].
pub(crate) fn read_dot(key: &[u8]) -> Result<Dot, SchemaError> {
    let (origin, seq) = read_seq(key)?;
    Ok(Dot { origin, seq })
}

/// The key of the range of the node clock that begins at `first`.
pub(crate) fn clock_range(origin: &Origin, first: u64) -> Vec<u8> {
    seq(CLOCK, origin, first)
}

/// Origin and number of a key of [`CLOCK`], [`LIVE`] or [`GHOST`].
pub(crate) fn read_seq(key: &[u8]) -> Result<(Origin, u64), SchemaError> {
    const MALFORMED: SchemaError = SchemaError::Key { what: "a key with a dot" };
    let rest = key.get(1..).ok_or(MALFORMED)?;
    let (node, rest) = text(rest).ok_or(MALFORMED)?;
    let (epoch, rest) = rest.split_first_chunk().ok_or(MALFORMED)?;
    let seq = rest.try_into().map_err(|_| MALFORMED)?;
    let node = NodeId::new(node).map_err(|_| MALFORMED)?;
    Ok((Origin { node, epoch: BootId(u64::from_be_bytes(*epoch)) }, u64::from_be_bytes(seq)))
}

fn seq(table: u8, origin: &Origin, seq: u64) -> Vec<u8> {
    let node = origin.node.as_str().as_bytes();
    let mut key = Vec::with_capacity(1 + node.len() + 1 + 8 + 8);
    key.push(table);
    key.extend_from_slice(node);
    key.push(0);
    key.extend_from_slice(&origin.epoch.0.to_be_bytes());
    key.extend_from_slice(&seq.to_be_bytes());
    key
}

/// The key of a record.
pub(crate) fn record(key: &RecordKey) -> Vec<u8> {
    let mut out = namespace_and_kind(&key.namespace, &key.kind);
    out.extend_from_slice(key.id.as_str().as_bytes());
    out
}

/// What the keys of all records of a namespace begin with.
pub(crate) fn namespace(namespace: &Namespace) -> Vec<u8> {
    let mut out = vec![RECORD];
    out.extend_from_slice(namespace.as_str().as_bytes());
    out.push(0);
    out
}

/// What the keys of all records of a namespace and kind begin with.
pub(crate) fn namespace_and_kind(in_namespace: &Namespace, kind: &Kind) -> Vec<u8> {
    let mut out = namespace(in_namespace);
    out.extend_from_slice(kind.as_str().as_bytes());
    out.push(0);
    out
}

/// The record of a key of [`RECORD`].
pub(crate) fn read_record(key: &[u8]) -> Result<RecordKey, SchemaError> {
    let read = || {
        let (namespace, rest) = text(key.get(1..)?)?;
        let (kind, id) = text(rest)?;
        record_key(namespace, kind, std::str::from_utf8(id).ok()?)
    };
    read().ok_or(SchemaError::Key { what: "a key of a record" })
}

/// What the keys of [`BY_ID`] of one kind and id begin with.
pub(crate) fn by_id_prefix(kind: &Kind, id: &RecordId) -> Vec<u8> {
    let mut out = vec![BY_ID];
    out.extend_from_slice(kind.as_str().as_bytes());
    out.push(0);
    out.extend_from_slice(id.as_str().as_bytes());
    out.push(0);
    out
}

/// The key of a record in [`BY_ID`].
pub(crate) fn by_id(key: &RecordKey) -> Vec<u8> {
    let mut out = by_id_prefix(&key.kind, &key.id);
    out.extend_from_slice(key.namespace.as_str().as_bytes());
    out
}

/// The record of a key of [`BY_ID`].
pub(crate) fn read_by_id(key: &[u8]) -> Result<RecordKey, SchemaError> {
    let read = || {
        let (kind, rest) = text(key.get(1..)?)?;
        let (id, namespace) = text(rest)?;
        record_key(std::str::from_utf8(namespace).ok()?, kind, id)
    };
    read().ok_or(SchemaError::Key { what: "a key by id" })
}

fn record_key(namespace: &str, kind: &str, id: &str) -> Option<RecordKey> {
    Some(RecordKey {
        namespace: Namespace::new(namespace).ok()?,
        kind: Kind::new(kind).ok()?,
        id: RecordId::new(id).ok()?,
    })
}

/// The text up to the next zero byte, and what stands behind that.
fn text(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let end = bytes.iter().position(|byte| *byte == 0)?;
    let (text, rest) = bytes.split_at_checked(end)?;
    Some((std::str::from_utf8(text).ok()?, rest.get(1..)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_dot() -> impl Strategy<Value = Dot> {
        ("[ab][ab.]{0,3}", any::<u64>(), 1_u64..).prop_map(|(node, epoch, seq)| Dot {
            origin: Origin { node: NodeId::new(&node).unwrap(), epoch: BootId(epoch) },
            seq,
        })
    }

    fn any_record() -> impl Strategy<Value = RecordKey> {
        ("[a!ü]{1,3}(/[a!]{1,2})?", "[a-c][a_-]{0,2}", "[a:][a.:-]{0,3}").prop_map(|(namespace, kind, id)| {
            RecordKey {
                namespace: Namespace::new(&namespace).unwrap(),
                kind: Kind::new(&kind).unwrap(),
                id: RecordId::new(&id).unwrap(),
            }
        })
    }

    proptest! {
        #[test]
        fn keys_sort_like_what_they_are_made_of(a in any_dot(), b in any_dot(), k in any_record(), l in any_record()) {
            prop_assert_eq!(dot(LIVE, &a).cmp(&dot(LIVE, &b)), a.cmp(&b));
            prop_assert_eq!(record(&k).cmp(&record(&l)), k.cmp(&l));
            prop_assert_eq!(read_dot(&dot(GHOST, &a)), Ok(a));
            prop_assert_eq!(read_record(&record(&k)), Ok(k.clone()));
            prop_assert_eq!(read_by_id(&by_id(&k)), Ok(k));
        }

        #[test]
        fn any_bytes_are_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = (read_dot(&bytes), read_record(&bytes), read_by_id(&bytes));
        }
    }
}
