//! What a sent packet carried, in a form that can be asked for again when it is lost.

use smallvec::SmallVec;

use crate::frame::StreamId;

/// One thing in a packet that its acknowledgement or loss means something for. The data itself stays where it was: a lost
/// item is framed anew in another packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Item {
    /// Bytes of a stream.
    Stream { id: StreamId, offset: u64, len: u32, fin: bool },
    /// Bytes of a message: `offset..offset + len` of it.
    Message { channel: u64, number: u64, offset: u32, len: u32 },
    /// An unreliable datagram.
    Datagram,
    /// Handshake bytes.
    Crypto { offset: u64, len: u32 },
    /// The largest packet that an ACK frame acknowledged: when it arrives, ranges up to there need not be repeated.
    Ack { largest: u64 },
    /// The largest symbol that a SYMBOL_ACK frame covered.
    SymbolAck { largest: u64 },
    /// RESET_STREAM.
    ResetStream(StreamId),
    /// STOP_SENDING.
    StopSending(StreamId),
    /// MAX_DATA.
    MaxData,
    /// MAX_STREAM_DATA.
    MaxStreamData(StreamId),
    /// MAX_STREAMS.
    MaxStreams { bidirectional: bool },
    /// DATA_BLOCKED, STREAM_DATA_BLOCKED and STREAMS_BLOCKED: told again only if still true.
    Blocked,
    /// MESSAGE_FLOOR.
    MessageFloor { channel: u64, floor: u64 },
    /// NEW_ID.
    NewId { sequence: u64 },
    /// RETIRE_ID.
    RetireId { sequence: u64 },
    /// NEW_TOKEN.
    NewToken,
    /// HANDSHAKE_DONE.
    HandshakeDone,
    /// GOAWAY.
    GoAway,
    /// FEC_WINDOW.
    FecWindow,
    /// A probe of the path's MTU: its loss is no congestion.
    MtuProbe { size: u16 },
}

/// What one packet carried. Four items fit without an allocation: an ACK, two limits or what parity restored, and data. Only
/// packets that send several small things again have more.
pub(crate) type Items = SmallVec<[Item; 4]>;
