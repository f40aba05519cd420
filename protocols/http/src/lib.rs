//! HTTP/1.1 and HTTP/2 over memory: bytes in, requests out, responses in, bytes out.
//!
//! Three decisions shape the crate:
//! - HTTP/1.1 is an own layer on `httparse`: whatever two implementations could read in two ways is refused.
//! - HTTP/2 is the `h2` crate over a pipe in memory, polled with a waker that does nothing: whoever owns the
//!   connection polls it after every change, so there is nothing to be woken.
//! - Memory is bounded on both sides. A reader that stalls holds references to responses, never copies of them, and
//!   [`Connection::wants_input`] turns false before the input grows.
//!
//! A turn of the owner: [`Connection::handle`] with what arrived, [`Connection::poll`] until `None`,
//! [`Connection::respond`] as answers become known and `poll` again (an answer may make room for the next pipelined
//! request), [`Connection::take_output`], then [`Connection::wants_close`] and [`Connection::deadline`].

mod connection;
mod host;
mod http1;
mod http2;
mod limit;
mod output;
mod rule;

pub mod asset;
#[doc(hidden)]
pub mod fuzz;

pub use asset::Asset;
pub use connection::{Connection, Event, RequestId};
pub use limit::{HEADERS_MAX, INPUT_MAX, INPUT_PAUSE, Limits, OUTPUT_PAUSE, PIPELINE_MAX, STREAMS_MAX};
pub use rule::Rule;

/// What an HTTP/2 client says first.
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
