//! The tests of `session` from outside: both codecs against each other, the schema and the specification, and stories of
//! sessions.

#![allow(clippy::unwrap_used)]

#[path = "../../fuzz/check.rs"]
mod check;
mod corpus;
mod flaw;
mod sample;
mod schema;
mod spec;
mod story;
mod wire;
