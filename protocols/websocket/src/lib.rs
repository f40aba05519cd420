//! WebSocket on tungstenite's frames: sans-io, unmasked in place, without an allocation per message.
//!
//! A [`Connection`] starts where the HTTP upgrade ends. Received bytes go into [`Connection::next`] until it gives
//! nothing more; a message that is whole in them is handed out as a slice of the very same bytes.

mod close;
mod connection;
pub mod frame;
mod mask;
mod message;
mod reader;

use std::borrow::Cow;

pub use crate::connection::Connection;

/// What a peer may send before it is closed with 1009.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Bytes of a message, over all its fragments.
    pub message_max: usize,
    /// Bytes of one frame's payload.
    pub frame_max: usize,
}

/// What happened on a connection. Payloads are slices of the received bytes where the message was whole in them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event<'a> {
    /// A text message.
    Text(Cow<'a, str>),
    /// A binary message.
    Binary(Cow<'a, [u8]>),
    /// The peer is alive and answered a ping (or sent a pong unasked).
    Pong,
    /// The connection is over: nothing more comes out of it. Send the output, then close the stream.
    Closed {
        /// The peer's code (1005 when it gave none), or ours when the peer broke the protocol.
        code: u16,
        /// The peer's reason, or what the peer broke.
        reason: String,
        /// Both sides said goodbye.
        clean: bool,
    },
}
