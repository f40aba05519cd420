//! Any bytes on a request stream or the control stream, behind a byte that says which.
#![no_main]

#[path = "../check_h3.rs"]
mod check_h3;

libfuzzer_sys::fuzz_target!(|data: &[u8]| check_h3::frames(data));
