//! Any steps of WebTransport streams and datagrams around a session, behind a byte that says when it is accepted.
#![no_main]

#[path = "../check.rs"]
mod check;

libfuzzer_sys::fuzz_target!(|data: &[u8]| check::run("streams", data));
