//! Everything about QUIC, HTTP/3 and WebTransport from outside: what fuzzers found, and mutants of it.

#[path = "../../fuzz/check_h3.rs"]
mod check_h3;

mod h3_corpus;
