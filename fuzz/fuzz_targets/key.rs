//! Texts of keys: `federation_fuzz::targets::key`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| federation_fuzz::targets::key(input));
