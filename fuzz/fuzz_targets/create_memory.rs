//! New memories of clients.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| federation_fuzz::run("create_memory", input));
