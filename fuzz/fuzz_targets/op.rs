//! Ops: `federation_fuzz::targets::op`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| federation_fuzz::targets::op(input));
