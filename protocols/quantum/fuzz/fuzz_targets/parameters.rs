//! Any transport parameters, behind a byte that says whose.
#![no_main]

#[path = "../check.rs"]
mod check;

libfuzzer_sys::fuzz_target!(|data: &[u8]| check::parameters(data));
