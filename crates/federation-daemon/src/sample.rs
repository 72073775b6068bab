//! The sample memories that are committed with this project, and the toy model that made their vectors.

use std::sync::Arc;

/// `examples/memories.ndjson`: one create body per line.
pub const MEMORIES: &str = include_str!("../../../examples/memories.ndjson");

/// Name of the toy model.
pub const MODEL: &str = "demo-hash-64";

/// Components of its vectors.
pub const DIM: usize = 64;

/// The toy model: a hashed bag of words. Each run of ASCII letters and digits, in lower case, adds one to the
/// component that its hash picks, or takes one away; the sum is brought to unit length. Texts that share words
/// get vectors that are near. Without any word the vector is zero, which no node takes.
pub fn embed(text: &str) -> Arc<[f32]> {
    let mut counts = [0.0_f64; DIM];
    let words = text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    for word in words {
        let hash = fnv1a(word.to_ascii_lowercase().as_bytes());
        let bucket = usize::try_from(hash % DIM as u64).unwrap_or(0);
        let sign = if (hash >> 32) & 1 == 0 { 1.0 } else { -1.0 };
        if let Some(count) = counts.get_mut(bucket) {
            *count += sign;
        }
    }
    let norm = counts.iter().map(|count| count * count).sum::<f64>().sqrt();
    #[expect(clippy::cast_possible_truncation, reason = "a component of a unit vector is within -1 to 1")]
    let unit = counts.iter().map(|count| if norm > 0.0 { (count / norm) as f32 } else { 0.0 });
    unit.collect()
}

/// Fowler-Noll-Vo 1a, 64 bits.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}
