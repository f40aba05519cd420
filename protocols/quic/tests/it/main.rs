//! Clients and shards in one virtual world.

#![allow(clippy::unwrap_used)]

mod beginning;
#[path = "../../fuzz/check.rs"]
mod check;
mod clock;
mod corpus;
mod hostile;
mod moving;
mod returning;
mod traffic;
mod world;
