//! HTTP/2 entry.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringshard_http::fuzz::http2(std::time::Instant::now(), data));
