//! Pages and completions: `federation_fuzz::targets::delivery`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| federation_fuzz::targets::delivery(input));
