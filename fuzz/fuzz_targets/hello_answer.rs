//! Answers to hellos: `federation_fuzz::targets::hello_answer`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| federation_fuzz::targets::hello_answer(input));
