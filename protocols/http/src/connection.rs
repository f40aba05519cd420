//! One connection, whichever version it speaks.

use std::time::Instant;

use bytes::{Bytes, BytesMut};
use http::{Request, Response};

use crate::{PREFACE, http1::Http1, http2::Http2, limit::Limits, rule::Rule};

/// One request of a connection, from its event to its answer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct RequestId(pub u64);

/// What a connection tells its owner.
#[derive(Debug)]
pub enum Event {
    /// A whole request. Its URI is the path and query (or `*`), its `Host` is present once and valid.
    Request {
        /// For the answer.
        id: RequestId,
        /// The request with its body.
        request: Request<Bytes>,
    },
    /// A valid WebSocket upgrade: answer with [`Connection::accept_websocket`], or refuse with
    /// [`Connection::respond`]. No other request is open.
    Upgrade {
        /// For the answer.
        id: RequestId,
        /// The request.
        request: Request<Bytes>,
    },
    /// The peer broke a rule; the answer is queued. Counted by the owner, nothing to do.
    Refused(Rule),
}

/// A connection over memory.
#[derive(Debug)]
pub struct Connection(Version);

#[derive(Debug)]
enum Version {
    /// The first bytes decide: they are a prefix of the HTTP/2 preface so far.
    Undecided(Http1),
    One(Http1),
    Two(Box<Http2>),
}

impl Connection {
    /// Speaks HTTP/1.1 and 1.0.
    #[must_use]
    pub fn http1(now: Instant, limits: Limits) -> Self {
        Self(Version::One(Http1::new(now, limits)))
    }

    /// Speaks HTTP/2 from the first byte.
    #[must_use]
    pub fn http2(now: Instant, limits: Limits) -> Self {
        Self(Version::Two(Box::new(Http2::new(now, limits))))
    }

    /// Speaks HTTP/2 if the peer begins with its preface (prior knowledge), else HTTP/1.1.
    #[must_use]
    pub fn sniffing(now: Instant, limits: Limits) -> Self {
        Self(Version::Undecided(Http1::new(now, limits)))
    }

    /// Bytes arrived. Follow with [`Connection::poll`] until `None`.
    pub fn handle(&mut self, now: Instant, bytes: &[u8]) {
        match &mut self.0 {
            Version::Undecided(first) => {
                first.handle(now, bytes);
                self.decide(now);
            }
            Version::One(connection) => connection.handle(now, bytes),
            Version::Two(connection) => connection.handle(now, bytes),
        }
    }

    /// The peer will send no more. What it asked for over HTTP/1.1 is still answered; over HTTP/2 it has gone.
    pub fn handle_end(&mut self, now: Instant) {
        match &mut self.0 {
            Version::Undecided(first) => {
                first.handle_end(now);
                self.settle(now);
            }
            Version::One(connection) => connection.handle_end(now),
            Version::Two(connection) => connection.handle_end(now),
        }
    }

    /// The next event. To be called until `None` after `handle`, `respond`, `take_output` and `handle_timeout`.
    pub fn poll(&mut self) -> Option<Event> {
        match &mut self.0 {
            // A prefix of the preface would be read as a request of a version that is not spoken.
            Version::Undecided(first) => first.poll_refused(),
            Version::One(connection) => connection.poll(),
            Version::Two(connection) => connection.poll(),
        }
    }

    /// Answers a request. The layer itself writes `content-length` and `connection` and leaves the body away where
    /// there is none (HEAD, 204, 304); `date` is the owner's. An unknown id is ignored: its peer has gone.
    pub fn respond(&mut self, now: Instant, id: RequestId, response: Response<Bytes>) {
        match &mut self.0 {
            Version::Undecided(connection) | Version::One(connection) => connection.respond(now, id, response),
            Version::Two(connection) => connection.respond(now, id, response),
        }
    }

    /// Answers an upgrade with 101 and gives back the bytes that came after it. The connection is then finished as
    /// HTTP: after [`Connection::take_output`] it can be dropped. `None` when `id` is no open upgrade.
    pub fn accept_websocket(&mut self, now: Instant, id: RequestId, protocol: Option<&str>) -> Option<Bytes> {
        match &mut self.0 {
            Version::Undecided(connection) | Version::One(connection) => connection.accept_websocket(now, id, protocol),
            Version::Two(_) => None,
        }
    }

    /// Appends what is to be sent until `out` holds `max` bytes; says whether it appended anything.
    pub fn take_output(&mut self, now: Instant, out: &mut BytesMut, max: usize) -> bool {
        let before = out.len();
        while let Some(piece) = self.take_piece(now, max.saturating_sub(out.len())) {
            out.extend_from_slice(&piece);
        }
        out.len() > before
    }

    /// The next piece to be sent, at most `max` bytes, without a copy of large bodies.
    pub fn take_piece(&mut self, now: Instant, max: usize) -> Option<Bytes> {
        match &mut self.0 {
            Version::Undecided(connection) | Version::One(connection) => connection.take_piece(now, max),
            Version::Two(connection) => connection.take_piece(now, max),
        }
    }

    /// Whether all is said and taken: send FIN, read on for a moment (a close with unread input would reset the
    /// answer away), then close.
    #[must_use]
    pub fn wants_close(&self) -> bool {
        match &self.0 {
            Version::Undecided(connection) | Version::One(connection) => connection.wants_close(),
            Version::Two(connection) => connection.wants_close(),
        }
    }

    /// Whether input can be taken in. While not, pause reading: beyond [`crate::INPUT_MAX`] the connection ends.
    #[must_use]
    pub fn wants_input(&self) -> bool {
        match &self.0 {
            Version::Undecided(connection) | Version::One(connection) => connection.wants_input(),
            Version::Two(connection) => connection.wants_input(),
        }
    }

    /// Whether nothing is open: no request read, answered or sent.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        match &self.0 {
            Version::Undecided(connection) | Version::One(connection) => connection.is_idle(),
            Version::Two(connection) => connection.is_idle(),
        }
    }

    /// Whether HTTP/2 is spoken.
    #[must_use]
    pub fn is_http2(&self) -> bool {
        matches!(self.0, Version::Two(_))
    }

    /// Ends the connection after what is open: `Connection: close`, or GOAWAY.
    pub fn drain(&mut self, now: Instant) {
        match &mut self.0 {
            Version::Undecided(connection) | Version::One(connection) => connection.drain(),
            Version::Two(connection) => connection.drain(now),
        }
    }

    /// When [`Connection::handle_timeout`] is due.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        match &self.0 {
            Version::Undecided(connection) | Version::One(connection) => connection.deadline(),
            Version::Two(connection) => connection.deadline(),
        }
    }

    /// Time passed; does nothing before the deadline.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return;
        }
        match &mut self.0 {
            Version::Undecided(connection) | Version::One(connection) => connection.handle_timeout(now),
            Version::Two(connection) => connection.handle_timeout(now),
        }
    }

    /// `Undecided` until the input differs from the preface or holds it whole.
    fn decide(&mut self, now: Instant) {
        let Version::Undecided(first) = &mut self.0 else { return };
        let seen = first.input().len().min(PREFACE.len());
        if first.input()[..seen] != PREFACE[..seen] {
            self.settle(now);
        } else if seen == PREFACE.len() {
            let mut second = Box::new(Http2::new(now, first.limits()));
            second.handle(now, first.input());
            if first.is_draining() {
                second.drain(now);
            }
            self.0 = Version::Two(second);
        }
    }

    /// `Undecided` becomes HTTP/1.1, with what it has read.
    fn settle(&mut self, now: Instant) {
        if let Version::Undecided(first) = &mut self.0 {
            let empty = Http1::new(now, first.limits());
            self.0 = Version::One(std::mem::replace(first, empty));
        }
    }
}
