//! Any bytes on the stream of a WebTransport session, behind a byte that says how it ends.
#![no_main]

#[path = "../check_h3.rs"]
mod check_h3;

libfuzzer_sys::fuzz_target!(|data: &[u8]| check_h3::capsules(data));
