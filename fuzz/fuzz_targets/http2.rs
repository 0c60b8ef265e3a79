//! cargo-fuzz's door to `bunker_fuzz::http2`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bunker_fuzz::http2(bytes));
