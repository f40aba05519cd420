//! Any field section, or bytes on one of QPACK's streams, behind a byte that says which.
#![no_main]

#[path = "../check_h3.rs"]
mod check_h3;

libfuzzer_sys::fuzz_target!(|data: &[u8]| check_h3::qpack(data));
