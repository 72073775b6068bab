//! Requests of a pull: `federation_fuzz::targets::pull_request`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| federation_fuzz::targets::pull_request(input));
