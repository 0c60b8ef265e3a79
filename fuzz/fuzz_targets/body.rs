//! cargo-fuzz's door to `bunker_fuzz::body`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bunker_fuzz::body(bytes));
