//! Any steps of WebTransport streams and datagrams around a session, behind a byte that says when it is accepted.
#![no_main]

#[path = "../check_h3.rs"]
mod check_h3;

libfuzzer_sys::fuzz_target!(|data: &[u8]| check_h3::streams(data));
