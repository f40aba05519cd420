//! The tests of `websocket` from outside: the rules of RFC 6455, tungstenite as the other end, and the fuzz corpus.

#![allow(clippy::unwrap_used)]

#[path = "../../fuzz/check.rs"]
mod check;
mod closing;
mod corpus;
mod messages;
mod peer;
mod tungstenite;
mod violations;
