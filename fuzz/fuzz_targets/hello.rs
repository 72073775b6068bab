//! Hellos: `federation_fuzz::targets::hello`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| federation_fuzz::targets::hello(input));
