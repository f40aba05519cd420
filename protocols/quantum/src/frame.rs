//! Frames: the units of which a packet's payload is made. Parsing borrows, encoding appends; both are total.

mod ack;
mod fec;
pub mod kind;
mod message;
mod rule;
mod stream;
#[cfg(test)]
mod tests;

pub use ack::{Ack, EcnCounts, RANGES_MAX, Ranges, encode_ack, encode_ranges};
pub use fec::{GROUP_MAX, Repair, SymbolAck};
pub use message::{Datagram, Delivery, Message};
pub use rule::{is_ack_eliciting, is_allowed, is_probing, is_protectable};
pub use stream::{Direction, Side, Stream, StreamId};

use crate::{
    error::{Checked, Code, TransportError},
    guuid::Guuid,
    varint,
};

/// Bytes of a stateless reset token.
pub const RESET_TOKEN_LEN: usize = 16;

/// Bytes of the reason in a CLOSE or GOAWAY frame: what is longer is cut by the sender and refused by the receiver.
pub const REASON_BYTES_MAX: usize = 512;

/// One frame; what it carries is borrowed from the packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Frame<'a> {
    /// Nothing, so many bytes of it.
    Padding(usize),
    /// Wants an acknowledgement.
    Ping,
    /// What was received.
    Ack(Ack<'a>),
    /// The sender gives a stream up.
    ResetStream {
        /// Which.
        id: StreamId,
        /// The application's reason.
        code: u64,
        /// Bytes that count against flow control.
        final_size: u64,
    },
    /// The receiver gives a stream up.
    StopSending {
        /// Which.
        id: StreamId,
        /// The application's reason.
        code: u64,
    },
    /// Handshake bytes.
    Crypto {
        /// Of the first byte.
        offset: u64,
        /// The bytes.
        data: &'a [u8],
    },
    /// An address token for a later connection.
    NewToken(&'a [u8]),
    /// Bytes of a stream.
    Stream(Stream<'a>),
    /// Credit for all streams together.
    MaxData(u64),
    /// Credit for one stream.
    MaxStreamData {
        /// Which.
        id: StreamId,
        /// The new limit.
        limit: u64,
    },
    /// How many streams the peer may open.
    MaxStreams {
        /// Of which kind.
        direction: Direction,
        /// The new limit.
        limit: u64,
    },
    /// The sender would send more, but for the limit.
    DataBlocked(u64),
    /// The same for one stream.
    StreamDataBlocked {
        /// Which.
        id: StreamId,
        /// The limit that it met.
        limit: u64,
    },
    /// The sender would open more streams.
    StreamsBlocked {
        /// Of which kind.
        direction: Direction,
        /// The limit that it met.
        limit: u64,
    },
    /// Another id of the sender.
    NewId {
        /// Counts the sender's ids.
        sequence: u64,
        /// Ids below this one must be retired.
        retire_prior_to: u64,
        /// The id.
        id: Guuid,
        /// Its stateless reset token.
        reset_token: [u8; RESET_TOKEN_LEN],
    },
    /// An id of the receiver will not be used any more.
    RetireId(u64),
    /// Asks whether somebody is at this address.
    PathChallenge([u8; 8]),
    /// The answer to it.
    PathResponse([u8; 8]),
    /// The connection is over.
    Close(Close<'a>),
    /// The server is done with the handshake.
    HandshakeDone,
    /// Wants an acknowledgement now.
    ImmediateAck,
    /// How often the peer is to acknowledge.
    AckFrequency {
        /// The newest such frame wins.
        sequence: u64,
        /// Packets that may go unacknowledged.
        threshold: u64,
        /// For how long, in microseconds.
        delay_max_us: u64,
        /// Packets out of order that may go unacknowledged; 0: any, 1: none.
        reordering: u64,
    },
    /// No new streams and sessions: finish what is open, then leave.
    GoAway {
        /// Peer's streams from here on were not processed.
        last_stream: u64,
        /// The application's code.
        code: u64,
        /// For people.
        reason: &'a [u8],
    },
    /// Everything behind it in the packet is the source symbol of this number (its low 16 bits).
    Symbol {
        /// The low bits of the symbol's number.
        sid: u16,
        /// The symbol: frames again.
        data: &'a [u8],
    },
    /// A row of parity.
    Repair(Repair<'a>),
    /// Symbols that were recovered, and need not be sent again.
    SymbolAck(SymbolAck<'a>),
    /// How much the sender keeps for recovery.
    FecWindow {
        /// Symbols.
        symbols: u64,
        /// And bytes of them.
        bytes: u64,
    },
    /// A message, or a piece of one.
    Message(Message<'a>),
    /// Messages of a channel below this number that have not arrived never will.
    MessageFloor {
        /// The channel.
        channel: u64,
        /// The first number that still may arrive.
        floor: u64,
    },
    /// An unreliable datagram.
    Datagram(Datagram<'a>),
}

/// Why the connection is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Close<'a> {
    /// Whether the application closed it, or the transport.
    pub application: bool,
    /// The application's code, or one of [`Code`].
    pub code: u64,
    /// For people.
    pub reason: &'a [u8],
}

const SHORT: TransportError = TransportError::new(Code::FrameEncoding, "frame ends before its fields do");
const UNKNOWN: TransportError = TransportError::new(Code::FrameEncoding, "unknown frame type");
const REASON: TransportError = TransportError::new(Code::FrameEncoding, "reason too long");
const OFFSET: TransportError = TransportError::new(Code::FrameEncoding, "data beyond the largest offset");
const TOKEN: TransportError = TransportError::new(Code::FrameEncoding, "empty token");
const RETIRE: TransportError = TransportError::new(Code::FrameEncoding, "id retires later ones");
const SYMBOL: TransportError = TransportError::new(Code::FrameEncoding, "empty symbol");
const STREAMS: TransportError = TransportError::new(Code::FrameEncoding, "more streams than can be numbered");

/// Takes `len` bytes off the front.
pub(crate) fn take<'a>(bytes: &mut &'a [u8], len: u64) -> Checked<&'a [u8]> {
    let (taken, rest) = usize::try_from(len).ok().and_then(|len| bytes.split_at_checked(len)).ok_or(SHORT)?;
    *bytes = rest;
    Ok(taken)
}

/// Takes an array off the front.
pub(crate) fn array<const N: usize>(bytes: &mut &[u8]) -> Checked<[u8; N]> {
    let (taken, rest) = bytes.split_first_chunk().ok_or(SHORT)?;
    *bytes = rest;
    Ok(*taken)
}

/// Takes a number off the front.
pub(crate) fn number(bytes: &mut &[u8]) -> Checked<u64> {
    varint::read(bytes).ok_or(SHORT)
}

fn counted<'a>(bytes: &mut &'a [u8]) -> Checked<&'a [u8]> {
    let len = number(bytes)?;
    take(bytes, len)
}

/// Offsets of all bytes of a stream, and what follows the last, are numbers that a varint holds (RFC 9000, section 19.8).
pub(crate) fn check_end(offset: u64, data: &[u8]) -> Checked<()> {
    if offset + data.len() as u64 > varint::MAX { Err(OFFSET) } else { Ok(()) }
}

fn crypto<'a>(bytes: &mut &'a [u8]) -> Checked<Frame<'a>> {
    let (offset, data) = (number(bytes)?, counted(bytes)?);
    check_end(offset, data)?;
    Ok(Frame::Crypto { offset, data })
}

fn token<'a>(bytes: &mut &'a [u8]) -> Checked<Frame<'a>> {
    let token = counted(bytes)?;
    if token.is_empty() { Err(TOKEN) } else { Ok(Frame::NewToken(token)) }
}

fn new_id<'a>(bytes: &mut &[u8]) -> Checked<Frame<'a>> {
    let (sequence, retire_prior_to) = (number(bytes)?, number(bytes)?);
    if retire_prior_to > sequence {
        return Err(RETIRE);
    }
    Ok(Frame::NewId { sequence, retire_prior_to, id: Guuid::from_bytes(array(bytes)?), reset_token: array(bytes)? })
}

fn symbol<'a>(bytes: &mut &'a [u8]) -> Checked<Frame<'a>> {
    let (sid, data) = (u16::from_be_bytes(array(bytes)?), std::mem::take(bytes));
    if data.is_empty() { Err(SYMBOL) } else { Ok(Frame::Symbol { sid, data }) }
}

fn reason<'a>(bytes: &mut &'a [u8]) -> Checked<&'a [u8]> {
    let reason = counted(bytes)?;
    if reason.len() > REASON_BYTES_MAX { Err(REASON) } else { Ok(reason) }
}

fn streams(bytes: &mut &[u8]) -> Checked<u64> {
    let count = number(bytes)?;
    if count > 1 << 60 { Err(STREAMS) } else { Ok(count) }
}

impl<'a> Frame<'a> {
    /// Takes one frame off the front of a payload that is not empty.
    ///
    /// # Errors
    /// `FrameEncoding` when it cannot be read.
    pub fn parse(bytes: &mut &'a [u8]) -> Checked<Frame<'a>> {
        let kind = number(bytes)?;
        Ok(match kind {
            kind::PADDING => {
                let count = bytes.iter().take_while(|byte| **byte == 0).count();
                *bytes = &bytes[count..];
                Frame::Padding(count + 1)
            }
            kind::PING => Frame::Ping,
            kind::ACK | kind::ACK_ECN => Frame::Ack(Ack::parse(kind == kind::ACK_ECN, bytes)?),
            kind::RESET_STREAM => {
                Frame::ResetStream { id: StreamId(number(bytes)?), code: number(bytes)?, final_size: number(bytes)? }
            }
            kind::STOP_SENDING => Frame::StopSending { id: StreamId(number(bytes)?), code: number(bytes)? },
            kind::CRYPTO => crypto(bytes)?,
            kind::NEW_TOKEN => token(bytes)?,
            0x08..=0x0F => Frame::Stream(Stream::parse(kind, bytes)?),
            kind::MAX_DATA => Frame::MaxData(number(bytes)?),
            kind::MAX_STREAM_DATA => Frame::MaxStreamData { id: StreamId(number(bytes)?), limit: number(bytes)? },
            0x12 | 0x13 => Frame::MaxStreams { direction: Direction::of(kind), limit: streams(bytes)? },
            kind::DATA_BLOCKED => Frame::DataBlocked(number(bytes)?),
            kind::STREAM_DATA_BLOCKED => {
                Frame::StreamDataBlocked { id: StreamId(number(bytes)?), limit: number(bytes)? }
            }
            0x16 | 0x17 => Frame::StreamsBlocked { direction: Direction::of(kind), limit: streams(bytes)? },
            kind::NEW_ID => new_id(bytes)?,
            kind::RETIRE_ID => Frame::RetireId(number(bytes)?),
            kind::PATH_CHALLENGE => Frame::PathChallenge(array(bytes)?),
            kind::PATH_RESPONSE => Frame::PathResponse(array(bytes)?),
            kind::CLOSE | kind::CLOSE_APPLICATION => Frame::Close(Close {
                application: kind == kind::CLOSE_APPLICATION,
                code: number(bytes)?,
                reason: reason(bytes)?,
            }),
            kind::HANDSHAKE_DONE => Frame::HandshakeDone,
            kind::IMMEDIATE_ACK => Frame::ImmediateAck,
            kind::ACK_FREQUENCY => Frame::AckFrequency {
                sequence: number(bytes)?,
                threshold: number(bytes)?,
                delay_max_us: number(bytes)?,
                reordering: number(bytes)?,
            },
            kind::GOAWAY => Frame::GoAway { last_stream: number(bytes)?, code: number(bytes)?, reason: reason(bytes)? },
            kind::SYMBOL => symbol(bytes)?,
            kind::REPAIR => Frame::Repair(Repair::parse(bytes)?),
            kind::SYMBOL_ACK => Frame::SymbolAck(SymbolAck::parse(bytes)?),
            kind::FEC_WINDOW => Frame::FecWindow { symbols: number(bytes)?, bytes: number(bytes)? },
            kind::MESSAGE_FLOOR => Frame::MessageFloor { channel: number(bytes)?, floor: number(bytes)? },
            0x28..=0x2F => Frame::Message(Message::parse(kind, bytes)?),
            0x30 | 0x31 => Frame::Datagram(Datagram::parse(kind, bytes)?),
            _ => return Err(UNKNOWN),
        })
    }

    /// The type as it stands on the wire.
    #[must_use]
    pub fn kind(&self) -> u64 {
        match self {
            Frame::Padding(_) => kind::PADDING,
            Frame::Ping => kind::PING,
            Frame::Ack(ack) => kind::ACK + u64::from(ack.ecn.is_some()),
            Frame::ResetStream { .. } => kind::RESET_STREAM,
            Frame::StopSending { .. } => kind::STOP_SENDING,
            Frame::Crypto { .. } => kind::CRYPTO,
            Frame::NewToken(_) => kind::NEW_TOKEN,
            Frame::Stream(stream) => stream.kind(),
            Frame::MaxData(_) => kind::MAX_DATA,
            Frame::MaxStreamData { .. } => kind::MAX_STREAM_DATA,
            Frame::MaxStreams { direction, .. } => kind::MAX_STREAMS + direction.bit(),
            Frame::DataBlocked(_) => kind::DATA_BLOCKED,
            Frame::StreamDataBlocked { .. } => kind::STREAM_DATA_BLOCKED,
            Frame::StreamsBlocked { direction, .. } => kind::STREAMS_BLOCKED + direction.bit(),
            Frame::NewId { .. } => kind::NEW_ID,
            Frame::RetireId(_) => kind::RETIRE_ID,
            Frame::PathChallenge(_) => kind::PATH_CHALLENGE,
            Frame::PathResponse(_) => kind::PATH_RESPONSE,
            Frame::Close(close) => kind::CLOSE + u64::from(close.application),
            Frame::HandshakeDone => kind::HANDSHAKE_DONE,
            Frame::ImmediateAck => kind::IMMEDIATE_ACK,
            Frame::AckFrequency { .. } => kind::ACK_FREQUENCY,
            Frame::GoAway { .. } => kind::GOAWAY,
            Frame::Symbol { .. } => kind::SYMBOL,
            Frame::Repair(_) => kind::REPAIR,
            Frame::SymbolAck(_) => kind::SYMBOL_ACK,
            Frame::FecWindow { .. } => kind::FEC_WINDOW,
            Frame::MessageFloor { .. } => kind::MESSAGE_FLOOR,
            Frame::Message(message) => message.kind(),
            Frame::Datagram(datagram) => datagram.kind(),
        }
    }

    /// Appends the frame.
    pub fn encode(&self, out: &mut Vec<u8>) {
        if let Frame::Padding(count) = self {
            return out.resize(out.len() + count, 0);
        }
        varint::write(self.kind(), out);
        let mut numbers = |numbers: &[u64]| numbers.iter().for_each(|number| varint::write(*number, out));
        match *self {
            Frame::Padding(_) | Frame::Ping | Frame::HandshakeDone | Frame::ImmediateAck => {}
            Frame::Ack(ack) => ack.encode_fields(out),
            Frame::ResetStream { id, code, final_size } => numbers(&[id.0, code, final_size]),
            Frame::StopSending { id, code } => numbers(&[id.0, code]),
            Frame::Crypto { offset, data } => {
                numbers(&[offset, data.len() as u64]);
                out.extend_from_slice(data);
            }
            Frame::NewToken(token) => {
                numbers(&[token.len() as u64]);
                out.extend_from_slice(token);
            }
            Frame::Stream(stream) => stream.encode_fields(out),
            Frame::MaxData(limit) | Frame::DataBlocked(limit) => numbers(&[limit]),
            Frame::MaxStreamData { id, limit } | Frame::StreamDataBlocked { id, limit } => numbers(&[id.0, limit]),
            Frame::MaxStreams { limit, .. } | Frame::StreamsBlocked { limit, .. } => numbers(&[limit]),
            Frame::NewId { sequence, retire_prior_to, id, reset_token } => {
                numbers(&[sequence, retire_prior_to]);
                out.extend_from_slice(id.as_bytes());
                out.extend_from_slice(&reset_token);
            }
            Frame::RetireId(sequence) => numbers(&[sequence]),
            Frame::PathChallenge(data) | Frame::PathResponse(data) => out.extend_from_slice(&data),
            Frame::Close(Close { code, reason, .. }) => {
                numbers(&[code, reason.len() as u64]);
                out.extend_from_slice(reason);
            }
            Frame::AckFrequency { sequence, threshold, delay_max_us, reordering } => {
                numbers(&[sequence, threshold, delay_max_us, reordering]);
            }
            Frame::GoAway { last_stream, code, reason } => {
                numbers(&[last_stream, code, reason.len() as u64]);
                out.extend_from_slice(reason);
            }
            Frame::Symbol { sid, data } => {
                out.extend_from_slice(&sid.to_be_bytes());
                out.extend_from_slice(data);
            }
            Frame::Repair(repair) => repair.encode_fields(out),
            Frame::SymbolAck(ack) => ack.encode_fields(out),
            Frame::FecWindow { symbols, bytes } => numbers(&[symbols, bytes]),
            Frame::MessageFloor { channel, floor } => numbers(&[channel, floor]),
            Frame::Message(message) => message.encode_fields(out),
            Frame::Datagram(datagram) => datagram.encode_fields(out),
        }
    }
}
