//! QUIC, HTTP/3 and WebTransport from outside: clients and shards in one virtual world, and what fuzzers found.

#![allow(clippy::unwrap_used)]

mod beginning;
#[path = "../../fuzz/check.rs"]
mod check;
mod clock;
mod corpus;
mod credit;
mod hostile;
mod mischief;
mod moving;
mod returning;
mod traffic;
mod wandering;
mod web;
mod world;
