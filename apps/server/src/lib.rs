//! The server: every protocol and every app on every shard. The only crate that knows everybody.

mod arena;
mod connection;
mod date;
mod dialect;
mod drain;
mod fanout;
mod pages;
mod peers;
mod receive;
mod routes;
mod speaker;
mod table;
mod wording;

pub mod account;
pub mod admin;
pub mod certificate;
pub mod command;
pub mod config;
pub mod data;
pub mod flags;
pub mod housekeeping;
pub mod job;
pub mod log;
pub mod mail;
pub mod metrics;
pub mod probe;
pub mod serve;
pub mod setup;
pub mod shard;
pub mod signal;
pub mod snapshot;
pub mod throttle;
pub mod token;
