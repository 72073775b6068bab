//! URLs of peers: `federation_fuzz::targets::peer_url`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| federation_fuzz::targets::peer_url(input));
