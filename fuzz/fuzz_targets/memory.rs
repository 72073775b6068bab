//! Payloads of memories: `federation_fuzz::targets::memory`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| federation_fuzz::targets::memory(input));
