//! Quantum: a reliable transport over UDP for links that lose, reorder and delay. Sans-io: time and datagrams are given,
//! datagrams, events and a deadline come back. `SPEC.md` beside this crate draws the bytes and numbers the rules.
//!
//! ```text
//! datagram -> Endpoint::handle -> Connection: streams, messages, datagrams -> Event
//! datagram <- Endpoint::poll_transmit <- recovery, FEC, pacing <------------ write, send
//! ```

pub mod config;
pub(crate) mod congestion;
pub mod connection;
pub mod crypto;
pub mod endpoint;
pub mod error;
pub mod event;
pub mod fec;
#[cfg(feature = "simulation")]
#[doc(hidden)]
pub mod footprint;
pub mod frame;
pub mod guuid;
pub(crate) mod id;
pub(crate) mod item;
pub mod lane;
#[doc(hidden)]
pub mod limits;
pub(crate) mod mutant;
pub mod packet;
pub mod parameters;
pub(crate) mod path;
pub(crate) mod qlog;
pub mod range;
pub(crate) mod received;
pub(crate) mod recovery;
pub(crate) mod rtt;
pub mod stats;
pub mod token;
pub mod varint;

pub use config::{Algorithm, EndpointConfig, FecMode, Transport};
pub use connection::Connection;
pub use crypto::{ClientConfig, ServerConfig};
pub use endpoint::{ConnectError, Endpoint, Meta, Transmit, Verdict};
pub use event::{CloseReason, Event, Handle};
pub use frame::{Delivery, Direction, Side, StreamId};
pub use guuid::{Guuid, Router};
pub use stats::{Drop, EndpointStats, Stats};
