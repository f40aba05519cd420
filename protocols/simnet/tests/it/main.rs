//! The tests of `simnet` from outside: what a link does to packets, and a pipe to bytes.

#![allow(clippy::unwrap_used)]

mod duplex;
mod link;
mod pipe;
