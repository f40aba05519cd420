//! Any bytes as what a client of Hawos says.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ringshard::compat::fuzz_hawos(bytes));
