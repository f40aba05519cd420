//! HTTP/1.1 entry with an owner that accepts every upgrade.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringshard_http::fuzz::upgrade(std::time::Instant::now(), data));
