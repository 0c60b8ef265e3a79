//! cargo-fuzz's door to `bunker_fuzz::hpack`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bunker_fuzz::hpack(bytes));
