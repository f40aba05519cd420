//! QUIC on quiche behind the verbs of the other cores: no socket and no thread; datagrams and time in, datagrams, events
//! and a deadline out.
//!
//! ```text
//! datagram -> Endpoint::handle -> quiche: streams, datagrams -> Event
//! datagram <- Endpoint::poll_transmit <- recovery, pacing <---- Connection::write, send_datagram
//! ```
//!
//! HTTP/3 and WebTransport ([`h3`], [`webtransport`]) know no QUIC; a [`Web`] joins them to a [`Connection`].
//!
//! What is not deterministic: quiche asks the monotonic clock by itself when a datagram comes in or goes out and when a
//! timer fires, and BoringSSL has its own random numbers (keys, the client's first id, path challenges). What this crate
//! decides follows from `now` and the seed: ids of ours, tokens, resets, who may begin a connection, and whose turn it is.
//! A test that runs in virtual time has to stand in for `clock_gettime`; `tests/it/clock.rs` shows how.

pub mod buffer;
pub mod config;
pub mod connection;
pub mod endpoint;
pub mod event;
pub mod h3;
pub mod id;
pub mod packet;
pub mod stats;
pub mod stream;
pub mod tls;
pub mod token;
pub mod web;
pub mod webtransport;

pub use config::{Algorithm, ConfigError, EndpointConfig, Transport};
pub use connection::Connection;
pub use endpoint::{ConnectError, Endpoint, Meta, Transmit, Verdict};
pub use event::{CODE_FORGOTTEN, CloseReason, Event, Handle};
pub use id::{Id, Router};
pub use stats::{Drop, EndpointStats, Stats};
pub use stream::{Direction, Side, StreamError, StreamId};
pub use tls::{Client, ServerConfig, Trust};
pub use web::Web;
