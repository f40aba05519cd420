//! Any bytes as what a client of GoChat says.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ringshard::compat::fuzz_gochat(bytes));
