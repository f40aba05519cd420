//! HTTP/3 and WebTransport on a connection of QUIC: what one tells is handed to the other, with the backpressure of both.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    Connection, Direction, Event, Side, StreamError, StreamId,
    h3::{self, Action, Code, Config, Priority},
};

/// Bytes of one read: what fits the smallest window of a stream before its session is known, so that no read is wasted.
const READ_MAX: usize = 16 * 1024;

/// How long an orderly end waits for acknowledgements of what was written.
const LINGER: Duration = Duration::from_secs(3);

/// quiche's number for urgency 0 of RFC 9218, so that its default of 127 is urgency 3.
const URGENCY_FIRST: u8 = 124;

const _: () = assert!(URGENCY_FIRST + 3 == 127, "streams without a priority are of urgency 3");

/// Ended streams that are noted before those are forgotten whose bytes have arrived.
const ENDED_MIN: usize = 32;

/// HTTP/3 on one connection. Its owner hands in every [`Event`] of the connection, and uses [`Web::http`] for all else:
/// after its verbs, [`Web::flush`].
#[derive(Debug)]
pub struct Web {
    http: h3::Connection,
    /// The handshake has come far enough to write.
    is_open: bool,
    /// Streams of ours that the peer did not allow yet.
    refused: Vec<StreamId>,
    /// Streams that were written to their end, and may not have arrived.
    ended: Vec<StreamId>,
    ended_max: usize,
    closing: Option<Closing>,
    datagrams_dropped: u64,
}

/// A close that waits until what was written has arrived.
#[derive(Clone, Copy, Debug)]
struct Closing {
    code: Code,
    reason: &'static str,
    /// When it waits no more.
    until: Instant,
    /// When to look again: nobody tells of acknowledgements.
    look_at: Instant,
}

impl Web {
    /// HTTP/3 for a connection that was just made, at either end.
    #[must_use]
    pub fn new(now: Instant, side: Side, config: Arc<Config>) -> Self {
        let http = match side {
            Side::Client => h3::Connection::client(now, config),
            Side::Server => h3::Connection::server(now, config),
        };
        Self {
            http,
            is_open: false,
            refused: Vec::new(),
            ended: Vec::new(),
            ended_max: ENDED_MIN,
            closing: None,
            datagrams_dropped: 0,
        }
    }

    /// Requests, answers, sessions, and what happened to them. [`Web::flush`] carries out what is done here.
    pub fn http(&mut self) -> &mut h3::Connection {
        &mut self.http
    }

    /// The same to be looked at only.
    #[must_use]
    pub fn peek(&self) -> &h3::Connection {
        &self.http
    }

    /// Datagrams that QUIC had no room for, or that the path does not carry.
    #[must_use]
    pub fn datagrams_dropped(&self) -> u64 {
        self.datagrams_dropped
    }

    /// Something happened on the connection. A close is for the owner to note: nothing follows it.
    pub fn handle(&mut self, now: Instant, quic: &mut Connection, event: &Event) {
        match event {
            Event::Early => self.is_open = true,
            Event::Connected => {
                self.is_open = true;
                self.http.on_established(now, quic.datagram_max().is_some());
            }
            Event::Readable(id) => self.read(now, quic, *id),
            Event::Writable(id) => self.http.on_writable(*id),
            Event::Stopped { id, code } => self.http.on_stop(now, *id, Code(*code)),
            Event::Reset { id, code } => self.http.on_reset(now, *id, Code(*code)),
            Event::StreamsAvailable(_) => {
                for id in std::mem::take(&mut self.refused) {
                    self.http.on_writable(id);
                }
            }
            Event::Datagram => {
                while let Some(datagram) = quic.recv_datagram() {
                    self.http.on_datagram(now, datagram);
                }
            }
            // Nothing to carry out comes of these, and most requests begin with the first one.
            Event::Opened(_) | Event::Moved | Event::Closed(_) => return,
        }
        match event {
            Event::Early | Event::Connected | Event::StreamsAvailable(_) => self.flush(now, quic),
            _ => self.carry_out(now, quic),
        }
    }

    /// When [`Web::handle_timeout`] must be called at the latest.
    #[must_use]
    pub fn deadline(&mut self) -> Option<Instant> {
        let looks = self.closing.map(|closing| closing.look_at);
        self.http.deadline().into_iter().chain(looks).min()
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant, quic: &mut Connection) {
        self.http.handle_timeout(now);
        self.flush(now, quic);
    }

    /// Carries out what HTTP/3 wants of QUIC, and sees how many streams it may open and whether it is time to close: what
    /// is owed once after events and verbs, however many they were.
    pub fn flush(&mut self, now: Instant, quic: &mut Connection) {
        self.carry_out(now, quic);
        if !self.is_open || quic.is_closing() {
            return;
        }
        // Every stream that HTTP/3 has opened is open at QUIC by now, so that both count the same.
        self.http.on_credit(quic.credit(Direction::Bidirectional), quic.credit(Direction::Unidirectional));
        self.linger(now, quic);
    }

    /// The part of [`Web::flush`] that is owed before more is asked of HTTP/3: what it wants of QUIC.
    pub fn carry_out(&mut self, now: Instant, quic: &mut Connection) {
        if !self.http.has_actions() || !self.is_open || quic.is_closing() {
            return;
        }
        while let Some(action) = self.http.poll_action() {
            match action {
                Action::Write { id, bytes, fin } => self.write(now, quic, id, bytes, fin),
                Action::Read(id) => self.read(now, quic, id),
                Action::Reset(id, code) => quic.reset(id, code.0),
                Action::Stop(id, code) => quic.stop(id, code.0),
                Action::Datagram(bytes) => self.datagrams_dropped += u64::from(!quic.send_datagram(bytes)),
                Action::Prioritize(id, priority) => prioritise(quic, id, priority),
                Action::Close { code, reason, flush: false } => quic.close(code.0, reason.as_bytes()),
                Action::Close { code, reason, flush: true } => {
                    self.closing = Some(Closing { code, reason, until: now + LINGER, look_at: now });
                }
            }
        }
    }

    /// Reads as much as there is and HTTP/3 has room for.
    fn read(&mut self, now: Instant, quic: &mut Connection, id: StreamId) {
        loop {
            // Without room HTTP/3 says when to read again. An end alone needs none: the peer may open another stream for
            // it, and another.
            let room = if quic.is_at_end(id) { 1 } else { self.http.room(id).min(READ_MAX) };
            if room == 0 {
                return;
            }
            match quic.read_shared(id, room) {
                Ok((bytes, end)) => {
                    let is_empty = bytes.is_empty();
                    self.http.on_stream(now, id, bytes, end);
                    if end || is_empty {
                        return;
                    }
                }
                Err(StreamError::Reset(code)) => return self.http.on_reset(now, id, Code(code)),
                Err(_) => return,
            }
        }
    }

    fn write(&mut self, now: Instant, quic: &mut Connection, id: StreamId, bytes: bytes::Bytes, fin: bool) {
        match quic.write_shared(id, bytes.clone(), fin) {
            Ok(None) if fin => self.note_end(quic, id),
            Ok(None) => {}
            Ok(Some(rest)) => self.http.on_blocked(id, rest, fin),
            Err(StreamError::Limit) => {
                self.refused.push(id);
                self.http.on_blocked(id, bytes, fin);
            }
            Err(StreamError::Blocked) => self.http.on_blocked(id, bytes, fin),
            Err(StreamError::Stopped(code) | StreamError::Reset(code)) => self.http.on_stop(now, id, Code(code)),
            // It was stopped, and that is told already or will never be.
            Err(StreamError::Unknown) => self.http.on_stop(now, id, Code::REQUEST_CANCELLED),
        }
    }

    fn note_end(&mut self, quic: &mut Connection, id: StreamId) {
        if self.ended.len() >= self.ended_max {
            self.ended.retain(|id| !quic.is_gone(*id));
            self.ended_max = ENDED_MIN.max(2 * self.ended.len());
        }
        self.ended.push(id);
    }

    /// Closes, if that is wanted, and all that was written has arrived or was waited for long enough.
    fn linger(&mut self, now: Instant, quic: &mut Connection) {
        let Some(closing) = &mut self.closing else { return };
        if now < closing.until {
            self.ended.retain(|id| !quic.is_gone(*id));
            if !self.ended.is_empty() {
                closing.look_at = (now + quic.stats().rtt.max(Duration::from_millis(10)) / 2).min(closing.until);
                return;
            }
        }
        quic.close(closing.code.0, closing.reason.as_bytes());
        self.closing = None;
    }
}

fn prioritise(quic: &mut Connection, id: StreamId, priority: Priority) {
    // A stream that is over needs none.
    let _ = quic.prioritise(id, URGENCY_FIRST + priority.urgency.min(7), priority.incremental);
}
