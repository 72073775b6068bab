//! Proofs: `federation_fuzz::targets::proof`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| federation_fuzz::targets::proof(input));
