//! Hexadecimal digits.

use std::fmt::Write as _;

/// The bytes as lower-case digits.
pub fn write(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to memory does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// The `N` bytes that exactly `2 * N` digits are.
pub fn read<const N: usize>(text: &str) -> Option<[u8; N]> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let bytes = pairs.iter().map(|pair| {
        let digits = std::str::from_utf8(pair).ok().filter(|_| pair.iter().all(u8::is_ascii_hexdigit))?;
        u8::from_str_radix(digits, 16).ok()
    });
    let bytes = bytes.collect::<Option<Vec<u8>>>()?;
    if rest.is_empty() { bytes.try_into().ok() } else { None }
}
