//! A dot as text.

use std::fmt;
use std::str::FromStr;

use federation_core::dot::{Dot, Origin};
use federation_core::id::{BootId, NodeId};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A dot as `node/epoch/seq`: the epoch in 16 hexadecimal digits, the seq in decimal. As in the path of
/// `GET /api/v1/ops/{node}/{epoch}/{seq}`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DotText(pub Dot);

/// The text is not a dot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a dot is <node>/<epoch, 16 lower-case hexadecimal digits>/<seq, from 1>")]
pub struct BadDot;

impl DotText {
    /// The dot of a path's three segments.
    ///
    /// # Errors
    /// [`BadDot`].
    pub fn from_parts(node: &str, epoch: &str, seq: &str) -> Result<Self, BadDot> {
        let node = NodeId::new(node).map_err(|_| BadDot)?;
        let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if epoch.len() != 16 || !epoch.bytes().all(is_hex) {
            return Err(BadDot);
        }
        let epoch = u64::from_str_radix(epoch, 16).map_err(|_| BadDot)?;
        if seq.starts_with('0') || !seq.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(BadDot);
        }
        let seq = seq.parse().map_err(|_| BadDot)?;
        Ok(Self(Dot { origin: Origin { node, epoch: BootId(epoch) }, seq }))
    }
}

impl fmt::Display for DotText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for DotText {
    type Err = BadDot;
    fn from_str(text: &str) -> Result<Self, BadDot> {
        let mut parts = text.split('/');
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(node), Some(epoch), Some(seq), None) => Self::from_parts(node, epoch, seq),
            _ => Err(BadDot),
        }
    }
}

impl From<Dot> for DotText {
    fn from(dot: Dot) -> Self {
        Self(dot)
    }
}

impl Serialize for DotText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for DotText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_have_one_text() {
        let text = "node-1/00000000000000ab/42";
        let dot: DotText = text.parse().unwrap();
        assert_eq!((dot.0.origin.epoch, dot.0.seq), (BootId(0xab), 42));
        assert_eq!(dot.to_string(), text);
        assert_eq!(serde_json::to_string(&dot).unwrap(), format!("{text:?}"));
        for bad in [
            "",
            "node-1",
            "node-1/ab/42",
            "node-1/00000000000000AB/42",
            "node-1/+0000000000000ab/42",
            "node-1/00000000000000ab/0",
            "node-1/00000000000000ab/042",
            "node-1/00000000000000ab/+42",
            "node-1/00000000000000ab/",
            "node-1/00000000000000ab/42/",
            "node-1/00000000000000ab/18446744073709551616",
            "n 1/00000000000000ab/42",
        ] {
            assert_eq!(bad.parse::<DotText>(), Err(BadDot), "{bad:?}");
        }
    }
}
