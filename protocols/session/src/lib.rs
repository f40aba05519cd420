//! The session protocol: its messages, their two codecs, who may speak, and how much.
//!
//! Sans-io: time and random bytes are given, bytes and verdicts come back. `SPEC.md` beside this crate draws the bytes and
//! numbers the rules; `proto/session.proto` is the schema of the binary bodies.
//!
//! ```text
//! bytes -> decode_client -> Client -> Session::on_client -> the server's apps
//! bytes <- encode_server <- Server <-----------------------
//! ```

pub mod auth;
pub mod binary;
mod code;
mod error;
pub mod json;
mod message;
pub mod name;
mod rate;
mod session;

pub use auth::{AuthError, Claims, Holder, Keys};
pub use code::{Code, Level};
pub use error::{DecodeError, Flaw};
pub use message::{Client, Credential, Hello, Names, Server, SubResult, SubState, Subscription, Topic};
pub use session::{Action, Limits, REFUSALS_MAX, Refusal, Session, Silence};

use bytes::BytesMut;

/// The version of the protocol that this crate speaks; the low three bits of every binary frame.
pub const VERSION: u8 = 1;

/// How messages are written. Both codecs carry the very same messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Codec {
    /// One JSON object per message.
    Json,
    /// A 16-byte header and a protobuf body per message.
    Binary,
}

/// Reads one message of a client: a JSON text, or a whole frame.
///
/// # Errors
/// What is wrong with it; [`Session::on_undecodable`] says what to do about that.
pub fn decode_client(codec: Codec, bytes: &[u8]) -> Result<Client<'_>, DecodeError> {
    match codec {
        Codec::Json => json::decode_client(bytes),
        Codec::Binary => binary::decode_client(bytes),
    }
}

/// Reads one message of a server: a JSON text, or a whole frame.
///
/// # Errors
/// What is wrong with it.
pub fn decode_server(codec: Codec, bytes: &[u8]) -> Result<Server<'_>, DecodeError> {
    match codec {
        Codec::Json => json::decode_server(bytes),
        Codec::Binary => binary::decode_server(bytes),
    }
}

/// Appends one message of a client to `out`.
///
/// # Panics
/// When JSON is asked to name a topic by its alias: it has no such thing.
pub fn encode_client(codec: Codec, message: &Client<'_>, out: &mut BytesMut) {
    match codec {
        Codec::Json => json::encode_client(message, out),
        Codec::Binary => binary::encode_client(message, out),
    }
}

/// Appends one message of a server to `out`.
pub fn encode_server(codec: Codec, message: &Server<'_>, out: &mut BytesMut) {
    match codec {
        Codec::Json => json::encode_server(message, out),
        Codec::Binary => binary::encode_server(message, out),
    }
}
