//! Any bytes on a request stream or the control stream, behind a byte that says which.
#![no_main]

#[path = "../check.rs"]
mod check;

libfuzzer_sys::fuzz_target!(|data: &[u8]| check::run("frames", data));
