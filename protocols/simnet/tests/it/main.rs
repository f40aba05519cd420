//! The tests of `simnet` from outside: what a link does to packets, a pipe to bytes, and a
//! power loss to files.

#![allow(clippy::unwrap_used)]

mod disk;
mod duplex;
mod link;
mod pipe;
