//! The tests of `quantum` from outside: worlds of two ends and a bad network, the vectors of SPEC.md, and the corpora of
//! the fuzz targets.

#![allow(clippy::unwrap_used)]

mod acknowledging;
#[path = "../../fuzz/check.rs"]
mod check;
mod corpus;
mod ending;
mod handshake;
mod hostile;
mod idling;
mod malice;
mod numbering;
mod pacing;
mod rebinding;
mod repair;
mod returning;
mod spec;
mod story;
mod stream;
mod traffic;
mod world;
