//! What a connection tells its application.

use std::{fmt, sync::Arc};

use crate::{error::TransportError, frame::StreamId};

/// A connection of one endpoint: a slot and the generation of its use, so that a stale handle never hits a new one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Handle {
    /// The slot, dense and small.
    pub index: u32,
    /// Counts the uses of the slot.
    pub generation: u32,
}

/// What happened on a connection. [`Event::Closed`] is the last.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// The handshake is done: the peer is who its certificate says, and data flows.
    Connected,
    /// The peer opened a stream.
    Opened(StreamId),
    /// A stream has bytes to read, or its end.
    Readable(StreamId),
    /// A stream that took no more takes bytes again.
    Writable(StreamId),
    /// The peer has all bytes of a stream that was finished.
    Finished(StreamId),
    /// The peer does not want more of a stream.
    Stopped {
        /// Which.
        id: StreamId,
        /// The peer's reason.
        code: u64,
    },
    /// The peer gave a stream up.
    Reset {
        /// Which.
        id: StreamId,
        /// The peer's reason.
        code: u64,
    },
    /// More streams may be opened.
    StreamsAvailable(crate::frame::Direction),
    /// A message waits.
    Message,
    /// Messages may be sent again.
    MessagesWritable,
    /// A datagram waits.
    Datagram,
    /// The peer will take no new work.
    GoAway {
        /// Streams from here on were not processed.
        last_stream: u64,
        /// The peer's code.
        code: u64,
    },
    /// The connection moved to another address of the peer.
    Moved,
    /// The connection is over.
    Closed(CloseReason),
}

/// Why a connection is over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CloseReason {
    /// We closed it.
    Local {
        /// The application's code.
        code: u64,
    },
    /// The peer closed it.
    Peer {
        /// Whether its application did, or its transport.
        application: bool,
        /// The code.
        code: u64,
        /// For people.
        reason: Arc<[u8]>,
    },
    /// The peer broke a rule, or we met a limit.
    Transport(TransportError),
    /// Nothing was heard for too long.
    Idle,
    /// The handshake took too long.
    HandshakeTimeout,
    /// The peer does not know the connection any more.
    Reset,
    /// The peer speaks no version of ours.
    Version,
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CloseReason::Local { code } => write!(f, "closed here with code {code}"),
            CloseReason::Peer { application, code, reason } => {
                let who = if *application { "application" } else { "transport" };
                write!(f, "closed by the peer's {who} with code {code:#x}: {}", String::from_utf8_lossy(reason))
            }
            CloseReason::Transport(error) => write!(f, "{error}"),
            CloseReason::Idle => f.write_str("nothing heard for too long"),
            CloseReason::HandshakeTimeout => f.write_str("the handshake took too long"),
            CloseReason::Reset => f.write_str("the peer does not know the connection any more"),
            CloseReason::Version => f.write_str("no common version"),
        }
    }
}
