//! Shipped vectors: `federation_fuzz::targets::vector`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| federation_fuzz::targets::vector(input));
