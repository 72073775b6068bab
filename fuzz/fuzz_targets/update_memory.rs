//! A client's change of a memory.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| federation_fuzz::run("update_memory", input));
