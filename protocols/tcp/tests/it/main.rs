//! The tests of `tcp` from outside: TLS end to end over memory, and the corpus of the fuzz targets.

#![allow(clippy::unwrap_used)]

#[path = "../../fuzz/check.rs"]
mod check;
mod corpus;
mod tls;
