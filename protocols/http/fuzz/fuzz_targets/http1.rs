//! HTTP/1.1 entry: any bytes, whole and in pieces.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringshard_http::fuzz::http1(std::time::Instant::now(), data));
