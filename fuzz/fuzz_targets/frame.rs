//! Frames: `federation_fuzz::targets::frame`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| federation_fuzz::targets::frame(input));
