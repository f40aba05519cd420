//! The tests of `tcp` from outside: TLS end to end over memory, and the corpus of the fuzz targets.

#![allow(clippy::unwrap_used)]

mod corpus;
mod tls;
