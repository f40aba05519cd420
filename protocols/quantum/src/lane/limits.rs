//! What each side lets the other send, and the errors and events in which an application meets it.

use std::time::Duration;

use crate::frame::{Direction, StreamId};

/// What we allow the peer, and how much we hold ourselves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Limits {
    /// Stream bytes that the peer may have unread on all streams together; told in the parameters.
    pub(crate) data_max: u64,
    /// Up to where that window grows while it is used up within two round trips.
    pub(crate) data_window_max: u64,
    /// The same for one stream.
    pub(crate) stream_data_max: u64,
    /// Up to where the window of a stream grows.
    pub(crate) stream_window_max: u64,
    /// Bidirectional streams that the peer may have open.
    pub(crate) streams_bidirectional_max: u64,
    /// Unidirectional streams that the peer may have open.
    pub(crate) streams_unidirectional_max: u64,
    /// Bytes of a datagram of the peer; 0: it may send none.
    pub(crate) datagram_max: u64,
    /// Bytes of a message of the peer.
    pub(crate) message_max: u64,
    /// Bytes of messages that the peer may have unresolved.
    pub(crate) message_bytes_max: u64,
    /// Stream bytes that wait here for transmission or acknowledgement, on all streams together.
    pub(crate) send_bytes_max: u64,
    /// Bytes of datagrams that wait here for transmission.
    pub(crate) datagram_send_bytes_max: u64,
    /// Bytes of datagrams that wait here for the application.
    pub(crate) datagram_receive_bytes_max: u64,
}

/// What the peer allows us: from its transport parameters, or remembered ones for early data.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct PeerLimits {
    /// Stream bytes on all streams together.
    pub(crate) data_max: u64,
    /// Bytes on each new stream.
    pub(crate) stream_data_max: u64,
    /// Bidirectional streams.
    pub(crate) streams_bidirectional_max: u64,
    /// Unidirectional streams.
    pub(crate) streams_unidirectional_max: u64,
    /// Bytes of a datagram; 0: none.
    pub(crate) datagram_max: u64,
    /// Bytes of a message; 0: none.
    pub(crate) message_max: u64,
    /// Bytes of unresolved messages.
    pub(crate) message_bytes_max: u64,
}

impl PeerLimits {
    /// Whether none of these is below another's.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        self.data_max >= other.data_max
            && self.stream_data_max >= other.stream_data_max
            && self.streams_bidirectional_max >= other.streams_bidirectional_max
            && self.streams_unidirectional_max >= other.streams_unidirectional_max
            && self.datagram_max >= other.datagram_max
            && self.message_max >= other.message_max
            && self.message_bytes_max >= other.message_bytes_max
    }
}

/// The lowest priority.
pub(crate) const PRIORITY_MAX: u8 = 7;

/// Priority of streams unless set.
pub(crate) const PRIORITY_STREAM: u8 = 4;

/// Priority of datagrams.
pub(crate) const PRIORITY_DATAGRAM: u8 = 1;

/// How long an empty buffer is kept for the next packet before it is given back.
pub(crate) const BUFFER_IDLE: Duration = Duration::from_secs(1);

/// Why nothing can be written to a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum WriteError {
    /// No room now: `Writable` will tell.
    #[error("no room to write")]
    Blocked,
    /// The peer does not want it; the code is its reason.
    #[error("stopped by the peer (code {0})")]
    Stopped(u64),
    /// It was finished or reset, or is not ours to write to.
    #[error("stream is not open for writing")]
    Closed,
}

/// Why nothing can be read from a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ReadError {
    /// The peer gave the stream up; the code is its reason.
    #[error("reset by the peer (code {0})")]
    Reset(u64),
    /// It was stopped here, or is not ours to read from.
    #[error("stream is not open for reading")]
    Closed,
}

/// Why a message was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum MessageError {
    /// Too much is unresolved on this channel or on the connection: `MessagesWritable` will tell.
    #[error("too many unresolved messages")]
    Blocked,
    /// Longer than the peer takes.
    #[error("message too long for the peer")]
    TooLong,
    /// The channel has another delivery.
    #[error("the channel delivers otherwise")]
    Delivery,
    /// No more channels.
    #[error("too many channels")]
    Channels,
}

/// Why a datagram was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DatagramError {
    /// The peer takes none, or none this long.
    #[error("datagram too long for the peer")]
    TooLong,
    /// It does not fit into a packet of this path.
    #[error("datagram too long for the path")]
    Path,
}

/// What an application wants to know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LaneEvent {
    /// The peer opened a stream.
    Opened(StreamId),
    /// There is something to read: bytes, or the end.
    Readable(StreamId),
    /// A write that was refused may be tried again.
    Writable(StreamId),
    /// The peer has all bytes of a finished stream.
    Finished(StreamId),
    /// The peer does not want the bytes of a stream: it is reset already.
    Stopped { id: StreamId, code: u64 },
    /// The peer gave a stream up.
    Reset { id: StreamId, code: u64 },
    /// There are messages.
    Message,
    /// There are datagrams.
    Datagram,
    /// A stream may be opened after one was refused.
    StreamsAvailable(Direction),
    /// A message that was refused may be tried again.
    MessagesWritable,
}
