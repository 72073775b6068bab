//! The wire form of core's types, for messages and for what a store writes.
//!
//! [`Wire`] gives a core type its form: `codec::encode(&Wire(&dot))`, `let Wire(dot) = codec::decode(bytes, limit)?`,
//! or a field `dot: Wire<Dot>` of a derived struct. Decoding goes through core's constructors, so that what comes
//! out is valid, and refuses any form but the one that encoding gives.

use std::fmt;
use std::marker::PhantomData;

use federation_core::dot::{Dot, Origin};
use federation_core::dot_set::DotSet;
use federation_core::hlc::Hlc;
use federation_core::id::{
    AgentId, BootId, KeyId, Kind, LogPosition, Namespace, NodeId, OpHash, RecordId, RecordKey, StoreId,
};
use federation_core::limits::{CLOCK_RANGES_PER_PAGE_MAX, CONTEXT_RANGES_MAX};
use federation_core::node_clock::NodeClock;
use federation_core::port::store::{Boot, PeerFact, RefusalReason};
use federation_core::scope::Scope;
use federation_core::seq_ranges::{SeqRange, SeqRanges};
use federation_core::time::WallMs;
use federation_core::vector_clock::VectorClock;
use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};
use serde::ser::SerializeSeq;
use serde::{Serialize, Serializer};

/// A core type in its wire form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Wire<T>(pub T);

/// What has a wire form to write.
pub trait ToWire {
    /// Writes the wire form.
    fn to_wire<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error>;
}

/// What has a wire form to read.
pub trait FromWire: Sized {
    /// Reads the wire form; refuses what [`ToWire`] would not have written.
    fn from_wire<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error>;
}

impl<T: ToWire> Serialize for Wire<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.to_wire(serializer)
    }
}

impl<'de, T: FromWire> Deserialize<'de> for Wire<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::from_wire(deserializer).map(Wire)
    }
}

impl<T: ToWire> ToWire for &T {
    fn to_wire<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (**self).to_wire(serializer)
    }
}

impl<T: ToWire> ToWire for Option<T> {
    fn to_wire<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.as_ref().map(Wire).serialize(serializer)
    }
}

impl<T: FromWire> FromWire for Option<T> {
    fn from_wire<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Option::<Wire<T>>::deserialize(deserializer)?.map(|Wire(inner)| inner))
    }
}

impl<T: ToWire> ToWire for Vec<T> {
    fn to_wire<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter().map(Wire))
    }
}

impl<T: FromWire> FromWire for Vec<T> {
    fn from_wire<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(VecVisitor(PhantomData))
    }
}

/// Grows as elements come, never by the announced length.
struct VecVisitor<T>(PhantomData<T>);

impl<'de, T: FromWire> Visitor<'de> for VecVisitor<T> {
    type Value = Vec<T>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a sequence")
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
        let mut out = Vec::new();
        while let Some(Wire(element)) = seq.next_element::<Wire<T>>()? {
            out.push(element);
        }
        Ok(out)
    }
}

/// Text is read as a slice of the input, so that its length allocates nothing.
fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<&'de str, D::Error> {
    <&'de str>::deserialize(deserializer)
}

impl ToWire for String {
    fn to_wire<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self)
    }
}

impl FromWire for String {
    fn from_wire<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text(deserializer).map(str::to_owned)
    }
}

macro_rules! wire_text {
    ($($name:ident),+) => {$(
        impl ToWire for $name {
            fn to_wire<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }
        impl FromWire for $name {
            fn from_wire<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::new(text(deserializer)?).map_err(D::Error::custom)
            }
        }
    )+};
}
wire_text!(NodeId, Namespace, Kind, RecordId, AgentId);

/// A type that is made of one field and valid whatever that holds.
macro_rules! wire_number {
    ($($name:ident: $inner:ty),+) => {$(
        impl ToWire for $name {
            fn to_wire<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                self.0.serialize(serializer)
            }
        }
        impl FromWire for $name {
            fn from_wire<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                <$inner>::deserialize(deserializer).map(Self)
            }
        }
    )+};
}
wire_number!(BootId: u64, KeyId: [u8; 8], OpHash: [u8; 32], LogPosition: u64, WallMs: u64);

/// A struct of fields that each have a wire form, in order.
macro_rules! wire_struct {
    ($($name:ident { $($field:ident),+ })+) => {$(
        impl ToWire for $name {
            fn to_wire<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                ($(Wire(&self.$field),)+).serialize(serializer)
            }
        }
        impl FromWire for $name {
            fn from_wire<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let ($(Wire($field),)+) = Deserialize::deserialize(deserializer)?;
                Ok(Self { $($field),+ })
            }
        }
    )+};
}
wire_struct! {
    Origin { node, epoch }
    RecordKey { namespace, kind, id }
    Boot { id, ended_at }
    PeerFact { store, boot, position }
}

impl ToWire for StoreId {
    fn to_wire<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.created_ms, self.random).serialize(serializer)
    }
}

impl FromWire for StoreId {
    fn from_wire<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (created_ms, random) = Deserialize::deserialize(deserializer)?;
        Ok(Self { created_ms, random })
    }
}

impl ToWire for Hlc {
    fn to_wire<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_bits().serialize(serializer)
    }
}

impl FromWire for Hlc {
    fn from_wire<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        u64::deserialize(deserializer).map(Self::from_bits)
    }
}

impl ToWire for Dot {
    fn to_wire<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (Wire(&self.origin), self.seq).serialize(serializer)
    }
}

impl FromWire for Dot {
    fn from_wire<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (Wire(origin), seq) = Deserialize::deserialize(deserializer)?;
        if seq == 0 {
            return Err(D::Error::custom("a dot's seq begins at 1"));
        }
        Ok(Self { origin, seq })
    }
}

impl ToWire for Scope {
    fn to_wire<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.globs())
    }
}

/// Sorted and each glob once, as [`Scope`] keeps them.
impl FromWire for Scope {
    fn from_wire<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let globs = <Vec<&str>>::deserialize(deserializer)?;
        let scope = Self::parse(globs.iter().copied()).map_err(D::Error::custom)?;
        if scope.globs().eq(globs.iter().copied()) {
            Ok(scope)
        } else {
            Err(D::Error::custom("globs that are not sorted"))
        }
    }
}

impl ToWire for RefusalReason {
    fn to_wire<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let tag = match self {
            Self::Forbidden => 0_u32,
            Self::Invalid => 1,
            Self::TooLarge => 2,
        };
        tag.serialize(serializer)
    }
}

impl FromWire for RefusalReason {
    fn from_wire<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u32::deserialize(deserializer)? {
            0 => Ok(Self::Forbidden),
            1 => Ok(Self::Invalid),
            2 => Ok(Self::TooLarge),
            _ => Err(D::Error::custom("an unknown reason for a refusal")),
        }
    }
}

impl ToWire for SeqRanges {
    fn to_wire<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.ranges().iter().map(|r| (r.first, r.last)))
    }
}

impl FromWire for SeqRanges {
    fn from_wire<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Ranges;
        impl<'de> Visitor<'de> for Ranges {
            type Value = SeqRanges;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("ranges of sequence numbers")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<SeqRanges, A::Error> {
                let mut ranges = Vec::new();
                while let Some((first, last)) = seq.next_element()? {
                    ranges.push(SeqRange { first, last });
                }
                SeqRanges::from_canonical(ranges)
                    .ok_or_else(|| A::Error::custom("ranges that are not sorted, disjoint and apart"))
            }
        }
        deserializer.deserialize_seq(Ranges)
    }
}

/// Origins in order, each once, none empty; the node id stands once per origin.
impl ToWire for DotSet {
    fn to_wire<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut seq = serializer.serialize_seq(Some(self.iter().count()))?;
        for (origin, seqs) in self.iter() {
            seq.serialize_element(&(Wire(origin), Wire(seqs)))?;
        }
        seq.end()
    }
}

/// Bounded by the bytes it is read from alone.
impl FromWire for DotSet {
    fn from_wire<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Dots { ranges_max: usize::MAX })
    }
}

impl ToWire for VectorClock {
    fn to_wire<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        DotSet::to_wire(self, serializer)
    }
}

/// At most [`CONTEXT_RANGES_MAX`] ranges.
impl FromWire for VectorClock {
    fn from_wire<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Dots { ranges_max: CONTEXT_RANGES_MAX }).map(Self::from)
    }
}

impl ToWire for NodeClock {
    fn to_wire<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        DotSet::to_wire(self, serializer)
    }
}

/// At most [`CLOCK_RANGES_PER_PAGE_MAX`] ranges: a larger clock goes in pages.
impl FromWire for NodeClock {
    fn from_wire<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Dots { ranges_max: CLOCK_RANGES_PER_PAGE_MAX }).map(Self::from)
    }
}

struct Dots {
    ranges_max: usize,
}

impl<'de> Visitor<'de> for Dots {
    type Value = DotSet;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a set of dots")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<DotSet, A::Error> {
        let mut dots = DotSet::new();
        let mut last: Option<Origin> = None;
        let mut ranges = 0_usize;
        while let Some((Wire(origin), Wire(seqs))) = seq.next_element::<(Wire<Origin>, Wire<SeqRanges>)>()? {
            if last.as_ref().is_some_and(|last| *last >= origin) {
                return Err(A::Error::custom("origins that are not sorted"));
            }
            if seqs.is_empty() {
                return Err(A::Error::custom("an origin without dots"));
            }
            ranges += seqs.ranges().len();
            if ranges > self.ranges_max {
                return Err(A::Error::custom("more ranges than the limit"));
            }
            for range in seqs.ranges() {
                dots.insert_range(&origin, *range);
            }
            last = Some(origin);
        }
        Ok(dots)
    }
}
