//! Dots in paths: `federation_fuzz::targets::dot_text`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| federation_fuzz::targets::dot_text(input));
