//! Any bytes on the stream of a WebTransport session, behind a byte that says how it ends.
#![no_main]

#[path = "../check.rs"]
mod check;

libfuzzer_sys::fuzz_target!(|data: &[u8]| check::run("capsules", data));
