//! Answers to a push: `federation_fuzz::targets::push_answer`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| federation_fuzz::targets::push_answer(input));
