//! WebSocket on tungstenite's frames: sans-io, unmasked in place, without an allocation per message.
//!
//! A [`Connection`] starts where the HTTP upgrade ends. Received bytes go into [`Connection::next`] until it gives
//! nothing more; a message that is whole in them is handed out as a slice of the very same bytes.
//!
//! tungstenite gives the frame header, the opcodes and the close codes. Its `WebSocketContext` is not used, because it
//! cannot be made small and does not say goodbye. Echo of trains of 16 messages over memory, both in one process
//! (`cargo run --release -p websocket --example figures`, with a read buffer of 4 KiB for tungstenite):
//!
//! | | this crate | `WebSocketContext` 0.30 |
//! |---|---|---|
//! | time per message of 64 bytes | 1 | 2.2 |
//! | time per message of 1,024 bytes | 1 | 1.9 to 3.3 |
//! | allocations per message | 0 | 0 |
//! | held by an idle connection | 168 bytes | 4,458 bytes |
//! | held by one that has echoed a message of 1 MiB | 168 bytes | 2,101,554 bytes |
//! | memory for an announced frame | what has arrived, or 1 KiB | the announced length |
//! | code sent to a peer that breaks the protocol | 1002, 1007, 1009 | none |
//! | text that is not UTF-8 | fails at the byte | fails at the end of the frame |
//!
//! The Autobahn suite (sections 1 to 7, 9 and 10): 301 cases, 298 OK, 3 informational, none failed or non-strict.

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

impl Event<'_> {
    /// The same event, with a copy of what was borrowed from the received bytes.
    #[must_use]
    pub fn into_owned(self) -> Event<'static> {
        match self {
            Self::Text(text) => Event::Text(Cow::Owned(text.into_owned())),
            Self::Binary(bytes) => Event::Binary(Cow::Owned(bytes.into_owned())),
            Self::Pong => Event::Pong,
            Self::Closed { code, reason, clean } => Event::Closed { code, reason, clean },
        }
    }
}
