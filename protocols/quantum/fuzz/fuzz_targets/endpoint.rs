//! Any datagrams of strangers to a server.
#![no_main]

#[path = "../check.rs"]
mod check;

libfuzzer_sys::fuzz_target!(|data: &[u8]| check::endpoint(data));
