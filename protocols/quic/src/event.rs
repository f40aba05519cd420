//! What a connection tells its application.

use std::fmt;

use crate::stream::{Direction, StreamId};

/// A connection of one endpoint: a slot and the generation of its use, so that a stale handle never hits a new one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Handle {
    /// The slot, dense and small.
    pub index: u32,
    /// Counts the uses of the slot.
    pub generation: u32,
}

/// The code of a stop or a reset that quiche forgets before it can be asked: when the same packet also acknowledges all that
/// was sent, or when the end was known before.
pub const CODE_FORGOTTEN: u64 = 0;

/// What happened on a connection. [`Event::Closed`] is the last.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// 0-RTT: a server may read what the client sent along, which may be a replay; a client may already write.
    Early,
    /// The handshake is done: data flows, and a replay is impossible.
    Connected,
    /// The peer opened a stream. Told when something of it comes, so not always in the order of the ids.
    Opened(StreamId),
    /// A stream has bytes to read, or its end. Read until blocked: before that nothing more is told of it, not even that
    /// the peer gave it up.
    Readable(StreamId),
    /// A stream that took less than it was given takes bytes again.
    Writable(StreamId),
    /// The peer does not want more of a stream that had not ended. quiche has reset it. Not told if a write has said it
    /// already.
    Stopped {
        /// Which.
        id: StreamId,
        /// The peer's reason, or [`CODE_FORGOTTEN`].
        code: u64,
    },
    /// The peer gave a stream up.
    Reset {
        /// Which.
        id: StreamId,
        /// The peer's reason, or [`CODE_FORGOTTEN`].
        code: u64,
    },
    /// Streams may be opened again, after there were none left.
    StreamsAvailable(Direction),
    /// Datagrams wait. Told once for what has arrived: take them until there is none.
    Datagram,
    /// The peer has moved to another address, which is proven.
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
        reason: Box<[u8]>,
    },
    /// The peer broke a rule, or TLS failed.
    Transport {
        /// The code of RFC 9000, section 20.1.
        code: u64,
    },
    /// Nothing was heard for too long.
    Idle,
    /// The handshake took too long.
    HandshakeTimeout,
    /// The peer does not know the connection any more, or no way to it is left.
    Reset,
    /// The peer speaks no version of ours.
    Version,
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CloseReason::Local { code } => write!(f, "closed here with code {code:#x}"),
            CloseReason::Peer { application, code, reason } => {
                let who = if *application { "application" } else { "transport" };
                write!(f, "closed by the peer's {who} with code {code:#x}: {}", String::from_utf8_lossy(reason))
            }
            CloseReason::Transport { code } => write!(f, "the peer broke a rule: code {code:#x}"),
            CloseReason::Idle => f.write_str("nothing heard for too long"),
            CloseReason::HandshakeTimeout => f.write_str("the handshake took too long"),
            CloseReason::Reset => f.write_str("the peer does not know the connection any more"),
            CloseReason::Version => f.write_str("no common version"),
        }
    }
}
