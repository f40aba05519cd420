//! Frame types as they stand on the wire.

#![allow(missing_docs, reason = "each is the frame of its name")]

pub const PADDING: u64 = 0x00;
pub const PING: u64 = 0x01;
pub const ACK: u64 = 0x02;
pub const ACK_ECN: u64 = 0x03;
pub const RESET_STREAM: u64 = 0x04;
pub const STOP_SENDING: u64 = 0x05;
pub const CRYPTO: u64 = 0x06;
pub const NEW_TOKEN: u64 = 0x07;
/// And seven more: bit 2 an offset follows, bit 1 a length follows, bit 0 the stream ends here.
pub const STREAM: u64 = 0x08;
pub const MAX_DATA: u64 = 0x10;
pub const MAX_STREAM_DATA: u64 = 0x11;
/// And one more: unidirectional.
pub const MAX_STREAMS: u64 = 0x12;
pub const DATA_BLOCKED: u64 = 0x14;
pub const STREAM_DATA_BLOCKED: u64 = 0x15;
/// And one more: unidirectional.
pub const STREAMS_BLOCKED: u64 = 0x16;
pub const NEW_ID: u64 = 0x18;
pub const RETIRE_ID: u64 = 0x19;
pub const PATH_CHALLENGE: u64 = 0x1A;
pub const PATH_RESPONSE: u64 = 0x1B;
pub const CLOSE: u64 = 0x1C;
pub const CLOSE_APPLICATION: u64 = 0x1D;
pub const HANDSHAKE_DONE: u64 = 0x1E;
pub const IMMEDIATE_ACK: u64 = 0x1F;
pub const ACK_FREQUENCY: u64 = 0x20;
pub const GOAWAY: u64 = 0x21;
pub const SYMBOL: u64 = 0x22;
pub const REPAIR: u64 = 0x23;
pub const SYMBOL_ACK: u64 = 0x24;
pub const FEC_WINDOW: u64 = 0x25;
pub const MESSAGE_FLOOR: u64 = 0x26;
/// And seven more: bits 1 and 2 the delivery, bit 0 it is a fragment.
pub const MESSAGE: u64 = 0x28;
/// And one more: a length follows, else it reaches to the end of the packet.
pub const DATAGRAM: u64 = 0x30;
