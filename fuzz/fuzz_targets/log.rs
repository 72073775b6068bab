//! Recovery of a log.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| federation_fuzz::run("log", input));
