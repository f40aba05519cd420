//! What a connection tells its transport and its app.

use std::fmt;

use bytes::Bytes;
use http::{Request, Response};

use super::{Code, Priority, Settings, StreamId};

/// What the transport is to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Send on a stream; the first write of an own stream opens it. What is not taken goes to
    /// [`super::Connection::on_blocked`] before the next action is polled.
    Write {
        /// The stream.
        id: StreamId,
        /// The bytes; empty only with `fin`.
        bytes: Bytes,
        /// Whether the stream ends behind them.
        fin: bool,
    },
    /// Read the stream again: there is room.
    Read(StreamId),
    /// Reset the sending side (RESET_STREAM).
    Reset(StreamId, Code),
    /// Ask the peer to stop (STOP_SENDING), and drop what it still sends.
    Stop(StreamId, Code),
    /// Send a datagram.
    Datagram(Bytes),
    /// Send the stream's bytes by this priority from now on.
    Prioritize(StreamId, Priority),
    /// Close the connection with an application error. Nothing follows.
    Close {
        /// The code.
        code: Code,
        /// A word for the peer's developer.
        reason: &'static str,
        /// Whether what was written is to be acknowledged first: an orderly end, with [`Code::NO_ERROR`].
        flush: bool,
    },
}

/// The protocol of an Extended CONNECT.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Protocol(pub(crate) Box<str>);

impl Protocol {
    /// As in `:protocol`, for example `websocket`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// How this end answered a broken rule.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// With this status.
    Status(u16),
    /// With a reset of the stream.
    Reset(Code),
}

/// What the app is told.
#[derive(Debug)]
pub enum Event {
    /// A request (server). Its URI is path and query, `Host` is set; for a plain CONNECT the URI is the authority. The
    /// body is read with [`super::Connection::read`].
    Request {
        /// Its stream.
        id: StreamId,
        /// The head.
        request: Request<()>,
        /// Of an Extended CONNECT.
        protocol: Option<Protocol>,
        /// Whether it came in 0-RTT, so that somebody may be replaying it (RFC 8470): 425 for what is not idempotent.
        early: bool,
    },
    /// A response (client), informational ones too.
    Response {
        /// Its stream.
        id: StreamId,
        /// The head.
        response: Response<()>,
    },
    /// [`super::Connection::read`] has something, until it says `None`.
    Readable(StreamId),
    /// After [`SendError::Full`]: half of the room is free.
    Writable(StreamId),
    /// The peer took a request back, or rejected it: the stream is gone.
    Cancelled {
        /// Its stream.
        id: StreamId,
        /// Why, as the peer says.
        code: Code,
    },
    /// The peer broke a rule on one stream, which is gone. If the app knew of it, it learns of its end here.
    Refused {
        /// The stream.
        id: StreamId,
        /// How it was answered.
        verdict: Verdict,
        /// The rule.
        why: &'static str,
    },
    /// A WebTransport session is asked for (server), from an origin that is allowed: answer with
    /// [`super::Connection::accept_session`] or [`super::Connection::respond`].
    SessionRequest {
        /// The session: the stream of its CONNECT.
        id: StreamId,
        /// The head.
        request: Request<()>,
    },
    /// The server accepted the session (client).
    SessionOpen {
        /// The session.
        id: StreamId,
        /// The server's answer.
        response: Response<()>,
    },
    /// The session, all of its streams and its datagrams are over, not by this end's wish.
    SessionClosed {
        /// The session.
        id: StreamId,
        /// The peer's code; 0 when it gave none.
        code: u32,
        /// The peer's reason.
        reason: String,
    },
    /// The peer asks to end the session soon.
    SessionDraining(StreamId),
    /// The peer opened a WebTransport stream; [`Event::Readable`] follows when there is something to read.
    Stream {
        /// The stream; it is bidirectional unless [`StreamId::is_uni`].
        id: StreamId,
        /// Its session.
        session: StreamId,
    },
    /// The peer gave up sending on a WebTransport stream; what was not read is dropped.
    StreamReset {
        /// The stream.
        id: StreamId,
        /// The peer's code, if it is an app's.
        code: Option<u32>,
    },
    /// The peer wants no more of a WebTransport stream; what was not sent is dropped.
    StreamStopped {
        /// The stream.
        id: StreamId,
        /// The peer's code, if it is an app's.
        code: Option<u32>,
    },
    /// A datagram of a session or of an Extended CONNECT.
    Datagram {
        /// The stream that it belongs to.
        id: StreamId,
        /// Its payload.
        payload: Bytes,
    },
    /// The peer's settings arrived.
    Settings(Settings),
    /// The peer goes away: a client sends no request any more, a server gets none.
    GoAway,
    /// This end closed the connection, because the peer broke a rule or all is done.
    Closed {
        /// The code.
        code: Code,
        /// The rule.
        why: &'static str,
    },
}

/// Why something was not sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SendError {
    /// The stream or session is not there (any more).
    Gone,
    /// A body before its head, or anything behind an end.
    Order,
    /// The head, datagram or field section is beyond what the peer takes.
    TooLarge,
    /// The queue is full; for a stream [`Event::Writable`] follows.
    Full,
    /// The peer grants no further stream now.
    NoCredit,
    /// A limit of this end: sessions, or streams of a session.
    Limit,
    /// The peer's settings are not here yet.
    NotYet,
    /// The peer's settings say that it does not speak this.
    Unsupported,
    /// One side is going away.
    Leaving,
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gone => "the stream is gone",
            Self::Order => "out of order on this stream",
            Self::TooLarge => "larger than the peer takes",
            Self::Full => "the queue is full",
            Self::NoCredit => "the peer grants no stream",
            Self::Limit => "over a limit of this end",
            Self::NotYet => "the peer's settings are not here yet",
            Self::Unsupported => "the peer does not speak this",
            Self::Leaving => "the connection is going away",
        })
    }
}

impl std::error::Error for SendError {}

/// What was dropped in silence, as bounds want it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Datagrams beyond `datagrams_in_max` or `early_datagrams_max`.
    pub datagrams_dropped: u64,
    /// Datagrams of streams that are gone.
    pub datagrams_late: u64,
    /// WebTransport streams that came before their session and were rejected.
    pub early_streams_rejected: u64,
    /// PRIORITY_UPDATE frames beyond `priorities_max`.
    pub priorities_forgotten: u64,
}
