//! HTTP/3 (RFC 9114) as a state machine over memory that knows no QUIC library: bytes in, actions and events out.
//!
//! A [`Connection`] serves the requests of one QUIC connection, or sends them, and carries WebTransport sessions
//! ([`crate::webtransport`]). Its owner moves bytes:
//!
//! - before a read of a stream it asks [`Connection::room`], reads at most that much, and passes it to
//!   [`Connection::on_stream`]; resets, stops and datagrams go to the other `on_*`;
//! - after every input it carries out [`Connection::poll_action`] until `None`. What the transport did not take of an
//!   [`Action::Write`] goes back by [`Connection::on_blocked`], and [`Connection::on_writable`] says when to go on;
//! - it takes [`Connection::poll_event`] until `None`, and reads streams by [`Connection::read`]. An app that does not
//!   read stalls its stream: [`Connection::room`] is 0 until it does, and [`Action::Read`] then says so;
//! - it calls [`Connection::handle_timeout`] at [`Connection::deadline`].
//!
//! Implemented: RFC 9114 but server push, which clients have dropped; QPACK without the dynamic table (RFC 9204);
//! datagrams and capsules (RFC 9297), Extended CONNECT (RFC 9220), priorities (RFC 9218). A broken rule ends what the
//! RFC says it ends, stream or connection, with the code that it names.

mod authority;
pub(crate) mod code;
mod connection;
pub(crate) mod frame;
mod inbox;
mod known;
mod limits;
mod message;
pub(crate) mod outbox;
mod output;
mod prepared;
mod priority;
mod qpack;
mod seen;
mod settings;
pub(crate) mod stream;
pub(crate) mod varint;

pub use code::Code;
pub use connection::Connection;
pub use inbox::Piece;
pub use limits::Limits;
pub use output::{Action, Event, Protocol, SendError, Stats, Verdict};
pub use prepared::{Prepared, PreparedRequest};
pub use priority::Priority;
pub use qpack::Common;
pub use settings::Settings;

pub use crate::stream::StreamId;
use crate::webtransport::OriginRule;

/// How a connection behaves; shared by all connections of a shard.
#[derive(Clone, Debug)]
pub struct Config {
    /// Every bound.
    pub limits: Limits,
    /// Whether WebTransport sessions are taken.
    pub webtransport: bool,
    /// Whether Extended CONNECT with other protocols reaches the app (RFC 9220); else it is answered with 501.
    pub extended_connect: bool,
    /// Whether a reserved setting and a reserved frame are sent, which the peer must skip, and which ones.
    pub grease: Option<u64>,
    /// Which pages may open WebTransport sessions beside those of the own host. `None`: no others.
    pub origin: Option<OriginRule>,
}

impl Default for Config {
    fn default() -> Self {
        Self { limits: Limits::default(), webtransport: true, extended_connect: true, grease: Some(0), origin: None }
    }
}
