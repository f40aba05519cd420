//! Any field section, or bytes on one of QPACK's streams, behind a byte that says which.
#![no_main]

#[path = "../check.rs"]
mod check;

libfuzzer_sys::fuzz_target!(|data: &[u8]| check::run("qpack", data));
