//! cargo-fuzz's door to `bunker_fuzz::capture_file`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bunker_fuzz::capture_file(bytes));
