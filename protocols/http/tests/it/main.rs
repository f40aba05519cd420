//! The crate as its owner sees it: bytes in, events and bytes out.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod client;
mod corpus;
mod http2;
mod http2_abuse;
mod limit;
mod owner;
mod pipeline;
mod split;
mod strict;
mod timeout;
mod upgrade;
