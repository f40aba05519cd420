//! What carries the lanes of a session: a Quantum connection, a QUIC connection, or a WebTransport session on one.

use std::time::Instant;

use bytes::Bytes;
use handler::Close;
use quantum::lane::{ReadError, WriteError};
use quic::{
    StreamError, Web,
    h3::{Code, Piece, SendError},
    webtransport,
};

/// A stream of whatever carries the session; both transports number theirs alike (RFC 9000, section 2.1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct LaneId(pub(crate) u64);

impl LaneId {
    /// Whether it is a transfer of the client's: it has opened it, and only it writes on it.
    pub(crate) fn is_bulk(self) -> bool {
        self.0 & 3 == 2
    }

    fn quantum(self) -> quantum::StreamId {
        quantum::StreamId(self.0)
    }

    fn quic(self) -> quic::StreamId {
        quic::StreamId(self.0)
    }
}

/// The three carriers behind one face.
pub(crate) enum Pipe<'a> {
    /// A connection of Quantum.
    Quantum(&'a mut quantum::Connection),
    /// A connection of QUIC whose streams are the lanes.
    Quic(&'a mut quic::Connection),
    /// A WebTransport session; HTTP/3 holds what QUIC does not take.
    Web {
        /// The HTTP/3 that it belongs to.
        web: &'a mut Web,
        /// What that runs on.
        quic: &'a mut quic::Connection,
        /// The session: the stream of its CONNECT.
        session: quic::StreamId,
    },
}

/// What a read of a lane has come to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Read {
    /// More may follow.
    More,
    /// Nothing follows: the client has ended it.
    End,
    /// The client gave it up. Not every carrier tells that by itself when there was something to read.
    Reset,
}

/// Bytes of one read from a QUIC stream.
const READ_BYTES: usize = 16 * 1024;

impl Pipe<'_> {
    /// Writes what there is room for, and ends the stream behind it if all fits; how much of it is done with. A stream
    /// that takes no more for good, because its reader stopped it, loses what is written to it.
    pub(crate) fn write(&mut self, id: LaneId, bytes: &[u8], end: bool) -> usize {
        match self {
            Self::Quantum(connection) => {
                let taken = match connection.write(id.quantum(), bytes) {
                    Ok(taken) => taken,
                    Err(WriteError::Blocked) => 0,
                    Err(WriteError::Stopped(_) | WriteError::Closed) => bytes.len(),
                };
                if end && taken == bytes.len() {
                    let _ = connection.finish(id.quantum());
                }
                taken
            }
            Self::Quic(connection) => match connection.write(id.quic(), bytes, end) {
                Ok(taken) => taken,
                Err(StreamError::Blocked | StreamError::Limit) => 0,
                Err(StreamError::Stopped(_) | StreamError::Reset(_) | StreamError::Unknown) => bytes.len(),
            },
            Self::Web { web, .. } => match web.http().send(id.quic(), Bytes::copy_from_slice(bytes), end) {
                Err(SendError::Full) => 0,
                // It is over: nobody waits for this.
                Ok(()) | Err(_) => bytes.len(),
            },
        }
    }

    /// Ends a stream. False if it cannot be written to any more.
    pub(crate) fn finish(&mut self, id: LaneId) -> bool {
        match self {
            Self::Quantum(connection) => connection.finish(id.quantum()).is_ok(),
            Self::Quic(connection) => connection.write(id.quic(), &[], true).is_ok(),
            Self::Web { web, .. } => web.http().send(id.quic(), Bytes::new(), true).is_ok(),
        }
    }

    /// Takes the next bytes of a stream.
    pub(crate) fn read(&mut self, id: LaneId, into: &mut Vec<u8>) -> Read {
        match self {
            Self::Quantum(connection) => {
                let chunk = match connection.chunk(id.quantum()) {
                    Ok(chunk) => chunk,
                    Err(ReadError::Reset(_)) => return Read::Reset,
                    Err(ReadError::Closed) => return Read::More,
                };
                let len = chunk.len();
                into.extend_from_slice(chunk);
                connection.consume(id.quantum(), len);
                if connection.is_finished(id.quantum()) { Read::End } else { Read::More }
            }
            Self::Quic(connection) => match connection.read_shared(id.quic(), READ_BYTES) {
                Ok((bytes, end)) => {
                    into.extend_from_slice(&bytes);
                    if end { Read::End } else { Read::More }
                }
                Err(StreamError::Reset(_)) => Read::Reset,
                Err(_) => Read::More,
            },
            Self::Web { web, .. } => loop {
                match web.http().read(id.quic()) {
                    Some(Piece::Data(bytes)) => {
                        into.extend_from_slice(&bytes);
                        if into.len() >= READ_BYTES {
                            return Read::More;
                        }
                    }
                    Some(Piece::Trailers(_)) => {}
                    Some(Piece::End) => return Read::End,
                    None => return Read::More,
                }
            },
        }
    }

    /// Opens a stream to the client for a transfer, which yields to the ordered lane.
    pub(crate) fn open_bulk(&mut self) -> Option<LaneId> {
        match self {
            Self::Quantum(connection) => {
                let id = connection.open(quantum::Direction::Unidirectional)?;
                let _ = connection.set_priority(id, PRIORITY_BULK);
                Some(LaneId(id.0))
            }
            Self::Quic(connection) => {
                let id = connection.open(quic::Direction::Unidirectional).ok()?;
                let _ = connection.prioritise(id, URGENCY_BULK, true);
                Some(LaneId(id.0))
            }
            Self::Web { web, session, .. } => web.http().open_uni(*session).ok().map(|id| LaneId(id.0)),
        }
    }

    /// Sends bytes that may be lost; whether the client takes them so.
    pub(crate) fn send_datagram(&mut self, bytes: &[u8]) -> bool {
        match self {
            // A copy, because a slice that waits would hold its whole chunk of the arena.
            Self::Quantum(connection) => connection.send_datagram(Bytes::copy_from_slice(bytes)).is_ok(),
            Self::Quic(connection) => connection.send_datagram(Bytes::copy_from_slice(bytes)),
            Self::Web { web, quic, session } => {
                // A frame too long for a datagram goes the ordered way.
                let fits = quic.datagram_max().is_some_and(|max| bytes.len() + SESSION_ID_MAX <= max);
                fits && web.http().send_datagram(*session, bytes).is_ok()
            }
        }
    }

    /// The oldest datagram that waits. Those of WebTransport come as events.
    pub(crate) fn recv_datagram(&mut self) -> Option<Bytes> {
        match self {
            Self::Quantum(connection) => connection.recv_datagram(),
            Self::Quic(connection) => connection.recv_datagram(),
            Self::Web { .. } => None,
        }
    }

    /// Asks the client to send no more on a stream.
    pub(crate) fn stop(&mut self, id: LaneId, reason: Close) {
        let (code, _) = parting(reason);
        match self {
            Self::Quantum(connection) => drop(connection.stop(id.quantum(), code.into())),
            Self::Quic(connection) => connection.stop(id.quic(), code.into()),
            Self::Web { web, .. } => web.http().stop(id.quic(), app_code(code)),
        }
    }

    /// Wants nothing of a stream that the client has opened, either way.
    pub(crate) fn refuse(&mut self, id: LaneId) {
        match self {
            Self::Quantum(_) | Self::Quic(_) => self.stop(id, Close::OutOfLimit),
            Self::Web { web, .. } => web.http().reset(id.quic(), app_code(parting(Close::OutOfLimit).0)),
        }
    }

    /// Ends all at once: the client is told why.
    pub(crate) fn close(&mut self, now: Instant, reason: Close) {
        let (code, words) = parting(reason);
        match self {
            Self::Quantum(connection) => connection.close(now, code.into(), words.as_bytes()),
            Self::Quic(connection) => connection.close(code.into(), words.as_bytes()),
            // One that is gone by itself needs no words.
            Self::Web { web, session, .. } => drop(web.http().close_session(*session, code, words)),
        }
    }
}

/// Priorities, 0 first: what is ephemeral has Quantum's own, before both.
const PRIORITY_BULK: u8 = 6;

/// As quiche counts: behind 127, the rule.
const URGENCY_BULK: u8 = 130;

/// Bytes of a session's id in front of a datagram, at most.
const SESSION_ID_MAX: usize = 8;

fn app_code(code: u32) -> Code {
    webtransport::code::to_http(code)
}

/// The code and the words of a close.
pub(crate) fn parting(reason: Close) -> (u32, &'static str) {
    match reason {
        Close::PeerLeft => (0, "goodbye"),
        Close::PeerSilent => (1, "silent for too long"),
        Close::PeerMisbehaved => (2, "a rule was broken"),
        Close::OutOfLimit => (3, "a limit was reached"),
        Close::Draining => (4, "the server is stopping"),
        Close::Unauthenticated => (5, "the token was revoked"),
    }
}
