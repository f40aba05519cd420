//! The crate as its owner sees it: bytes in, events and bytes out.

mod corpus;
mod client;
mod http2;
mod http2_abuse;
mod limit;
mod owner;
mod pipeline;
mod split;
mod strict;
mod timeout;
mod upgrade;
