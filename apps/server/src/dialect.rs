//! The forms that the session protocol takes on a byte stream: a codec in a framing.

use bytes::{Bytes, BytesMut};
use engine::Arena;
use session::{Codec, Server};
use websocket::frame;

/// How a session's messages look on its connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Dialect {
    /// JSON in WebSocket text messages.
    JsonSocket,
    /// Frames in WebSocket binary messages.
    BinarySocket,
    /// Frames one after the other.
    BinaryStream,
}

impl Dialect {
    /// How many there are.
    pub(crate) const COUNT: usize = 3;

    /// As an index below [`Dialect::COUNT`].
    #[must_use]
    pub(crate) fn index(self) -> usize {
        match self {
            Dialect::JsonSocket => 0,
            Dialect::BinarySocket => 1,
            Dialect::BinaryStream => 2,
        }
    }

    /// The codec in it.
    #[must_use]
    pub(crate) fn codec(self) -> Codec {
        match self {
            Dialect::JsonSocket => Codec::Json,
            Dialect::BinarySocket | Dialect::BinaryStream => Codec::Binary,
        }
    }

    /// Appends a message in this form to `out`.
    pub(crate) fn encode(self, message: &Server<'_>, out: &mut BytesMut) {
        let opcode = match self {
            Dialect::BinaryStream => return session::encode_server(Codec::Binary, message, out),
            Dialect::JsonSocket => frame::Opcode::Text,
            Dialect::BinarySocket => frame::Opcode::Binary,
        };
        frame::encode_with(opcode, out, |out| session::encode_server(self.codec(), message, out));
    }

    /// A message in this form in memory that many connections may share.
    pub(crate) fn encode_shared(self, message: &Server<'_>, arena: &mut Arena) -> Bytes {
        arena.build(FRAME_BYTES_HINT, |out| self.encode(message, out))
    }
}

// Most messages are chat lines and cursors; a longer one grows its chunk.
const FRAME_BYTES_HINT: usize = 2048;
