//! New memories of clients: `federation_fuzz::targets::create_memory`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| federation_fuzz::targets::create_memory(input));
