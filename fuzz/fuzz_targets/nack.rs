//! Refusals: `federation_fuzz::targets::nack`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| federation_fuzz::targets::nack(input));
