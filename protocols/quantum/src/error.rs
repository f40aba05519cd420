//! What can go wrong on a connection, by the numbers that go over the wire.

use crate::range::RangeSet;

/// Why a peer's packet ends the connection; the value is the code of the CLOSE frame. QUIC's names (RFC 9000, section
/// 20.1) with Quantum's two of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[repr(u64)]
pub enum Code {
    /// Nothing is wrong.
    #[error("no error")]
    NoError = 0x00,
    /// The implementation cannot go on.
    #[error("internal error")]
    Internal = 0x01,
    /// The server refuses a new connection.
    #[error("connection refused")]
    ConnectionRefused = 0x02,
    /// More data than the advertised limit.
    #[error("flow control limit exceeded")]
    FlowControl = 0x03,
    /// More streams than the advertised limit.
    #[error("stream limit exceeded")]
    StreamLimit = 0x04,
    /// A frame for a stream that is not in a state for it.
    #[error("stream in the wrong state")]
    StreamState = 0x05,
    /// Data beyond the final size, or a final size that changed.
    #[error("final size changed")]
    FinalSize = 0x06,
    /// A frame that cannot be read.
    #[error("malformed frame")]
    FrameEncoding = 0x07,
    /// Transport parameters that cannot be read, are out of range, or do not match the handshake.
    #[error("malformed transport parameters")]
    TransportParameter = 0x08,
    /// More connection ids than the advertised limit.
    #[error("connection id limit exceeded")]
    IdLimit = 0x09,
    /// Something that no correct peer does.
    #[error("protocol violation")]
    ProtocolViolation = 0x0A,
    /// A token that this server did not make, or not for this address.
    #[error("invalid token")]
    InvalidToken = 0x0B,
    /// The application closed the connection before the handshake was done.
    #[error("closed by the application")]
    Application = 0x0C,
    /// More handshake data than fits in the buffer.
    #[error("handshake buffer exceeded")]
    CryptoBuffer = 0x0D,
    /// Key update out of turn.
    #[error("key update error")]
    KeyUpdate = 0x0E,
    /// A key has been used for as many packets as it may.
    #[error("key limit reached")]
    AeadLimit = 0x0F,
    /// A symbol or repair that contradicts what was received before.
    #[error("inconsistent forward error correction")]
    Fec = 0x10,
    /// A message that is larger than, or contradicts, what was agreed.
    #[error("malformed message")]
    Message = 0x11,
}

impl Code {
    /// Code of the TLS alert `alert` (RFC 9001, section 4.8).
    #[must_use]
    pub fn crypto(alert: u8) -> u64 {
        0x100 + u64::from(alert)
    }
}

/// A violation: its code, and a reason for people.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{reason} (code {code:#x})")]
pub struct TransportError {
    /// What the CLOSE frame carries.
    pub code: u64,
    /// What exactly was wrong; goes into the CLOSE frame too.
    pub reason: &'static str,
}

impl TransportError {
    /// A violation.
    #[must_use]
    pub const fn new(code: Code, reason: &'static str) -> Self {
        Self { code: code as u64, reason }
    }
}

/// Shorthand for results of what a peer sent.
pub type Checked<T> = Result<T, TransportError>;

/// Fails when a set of a peer's making is in too many pieces.
pub(crate) fn check_pieces(set: &RangeSet, most: usize, error: TransportError) -> Checked<()> {
    if set.len() > most { Err(error) } else { Ok(()) }
}
