//! How streams and the connection end: faults, resets, time limits, GOAWAY (RFC 9114 sections 5.2 and 8).

use std::time::Instant;

use bytes::BytesMut;
use http::{HeaderValue, Response, StatusCode, header};

use super::{Action, Code, Connection, Event, Fault, Kind, StreamId};
use crate::{
    h3::{
        frame::{self, kind},
        output::Verdict,
        seen::REQUEST_LAST,
        stream::Message,
        varint,
    },
    stream::{Direction, Side},
    webtransport::capsule,
};

/// What the two ends said of going away.
#[derive(Debug, Default)]
pub(crate) struct Leaving {
    /// The last GOAWAY of this end: requests from this id on are refused.
    sent: Option<u64>,
    /// Whether it was the last.
    is_final: bool,
    /// The last GOAWAY of the peer.
    received: Option<u64>,
}

impl Leaving {
    /// Whether this end no longer takes the request.
    pub(super) fn refuses(&self, id: StreamId) -> bool {
        self.sent.is_some_and(|sent| id.0 >= sent)
    }

    /// Whether one side goes away.
    pub(crate) fn is_begun(&self) -> bool {
        self.sent.is_some() || self.received.is_some()
    }

    fn is_ending(&self) -> bool {
        self.is_final || self.received.is_some()
    }
}

impl Connection {
    /// Says that this end will go away: a first GOAWAY that refuses nothing yet, and a drain to every session. Call
    /// [`Connection::shutdown`] a round trip later.
    pub fn drain(&mut self, now: Instant) {
        self.now = now;
        if self.is_over() || self.leaving.sent.is_some() {
            return;
        }
        if !self.is_server {
            return self.shutdown(now);
        }
        self.send_goaway(REQUEST_LAST.0);
        let open: Vec<_> = self.sessions.iter().filter(|(_, session)| session.is_open()).map(|(id, _)| *id).collect();
        for id in open {
            self.send_capsule(id, capsule::drain_bytes(), false);
        }
    }

    /// Refuses what comes from now on; when all that is open has ended, the connection closes with no error.
    pub fn shutdown(&mut self, now: Instant) {
        self.now = now;
        if self.is_over() || self.leaving.is_final {
            return;
        }
        self.leaving.is_final = true;
        let next = if self.is_server {
            StreamId::new(Side::Client, Direction::Bidirectional, self.seen_bidi.next()).0
        } else {
            0
        };
        self.send_goaway(next);
        self.leave();
    }

    fn send_goaway(&mut self, id: u64) {
        self.leaving.sent = Some(id);
        let (mut payload, mut out) = (BytesMut::new(), BytesMut::new());
        varint::write(&mut payload, id);
        frame::write(&mut out, kind::GOAWAY, &payload);
        self.write_control(out);
    }

    /// RFC 9114 section 5.2: a server names a request, a client a push; ids only fall.
    pub(super) fn take_goaway(&mut self, id: u64) -> Result<(), Fault> {
        let valid = self.is_server || StreamId(id).is_request();
        self.check(valid, Code::ID_ERROR, "GOAWAY names no request")?;
        let before = self.leaving.received.replace(id);
        self.check(before.is_none_or(|before| id <= before), Code::ID_ERROR, "GOAWAY rises")?;
        if before.is_none() {
            self.events.push_back(Event::GoAway);
        }
        if !self.is_server {
            let refused: Vec<_> = self.streams.range(StreamId(id)..).map(|(id, _)| *id).collect();
            for id in refused.into_iter().filter(|id| id.is_request()) {
                self.lose_message(id, Code::REQUEST_REJECTED);
            }
        }
        self.leave();
        Ok(())
    }

    /// A request that the peer did not look at.
    fn lose_message(&mut self, id: StreamId, code: Code) {
        if self.streams.get(&id).is_none_or(|stream| stream.message().is_none()) {
            return;
        }
        if self.sessions.contains_key(&id) {
            self.lose_session(id, 0, String::new());
        } else {
            self.events.push_back(Event::Cancelled { id, code });
        }
        self.abort(id, Code::REQUEST_CANCELLED);
    }

    /// Closes once one side has said that it goes away and nothing is open.
    fn leave(&mut self) {
        let busy = || self.streams.values().any(|stream| stream.message().is_some());
        if self.leaving.is_ending() && !busy() {
            self.close(Code::NO_ERROR, "all is done", true);
        }
    }

    /// Does what a broken rule costs.
    pub(crate) fn fail(&mut self, id: StreamId, fault: Fault) {
        match fault {
            Fault::Connection(code, why) => self.close(code, why, false),
            Fault::Answer(status, why) => self.refuse(id, status, why),
            Fault::Stream(code, why) => {
                let is_message = self.streams.get(&id).is_some_and(|stream| stream.message().is_some());
                self.lose_session(id, 0, String::new());
                self.events.push_back(Event::Refused { id, verdict: Verdict::Reset(code), why });
                self.abort(id, code);
                if self.is_server && is_message && code != Code::REQUEST_REJECTED {
                    self.note_reset();
                }
            }
        }
    }

    /// Answers a request with a status instead of the app, and reads no more of it.
    fn refuse(&mut self, id: StreamId, status: u16, why: &'static str) {
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
        self.events.push_back(Event::Refused { id, verdict: Verdict::Status(status), why });
        if self.respond(id, &response, true).is_err() {
            return self.abort(id, Code::REQUEST_CANCELLED);
        }
        self.stop(id, Code::NO_ERROR);
    }

    /// A reset, or what must be answered by one, that no finished request makes up for.
    pub(super) fn note_reset(&mut self) {
        self.resets += 1;
        if self.resets > self.config.limits.resets_max.into() {
            self.close(Code::EXCESSIVE_LOAD, "too many resets", false);
        }
    }

    /// Ends both sides of a stream that are still open, and forgets it.
    pub(crate) fn abort(&mut self, id: StreamId, code: Code) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let stops = stream.inbox.is_open();
        self.in_bytes -= stream.inbox.give_up();
        let resets = self.give_up_sending(id);
        if stops {
            self.act(Action::Stop(id, code));
        }
        if resets {
            self.act(Action::Reset(id, code));
        }
        self.remove(id);
    }

    /// Drops what was not read of a stream, on which nothing more is taken.
    pub(crate) fn drop_inbox(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.get_mut(&id) {
            self.in_bytes -= stream.inbox.give_up();
            self.settle(id);
        }
    }

    /// Forgets a stream of which both sides are over.
    pub(crate) fn settle(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get(&id).filter(|stream| stream.is_done()) else { return };
        if stream.message().is_some() {
            self.resets = self.resets.saturating_sub(1);
        }
        self.remove(id);
    }

    fn remove(&mut self, id: StreamId) {
        let Some(stream) = self.streams.remove(&id) else { return };
        self.stalled.remove(&id);
        self.starved.remove(&id);
        self.resume();
        match stream.kind {
            Kind::WebTransport { session, .. } => self.forget_webtransport(id, session),
            Kind::Message(message) => {
                // A server counts a request from its head on.
                self.requests -= usize::from(!self.is_server && id.is_request() || !message.awaits_head());
                self.priorities.remove(&id);
                self.drop_early(id);
                if self.leaving.is_begun() {
                    self.leave();
                }
            }
        }
    }

    /// Closes the connection; with `flush`, when all is done, what waits to be written goes first.
    fn close(&mut self, code: Code, why: &'static str, flush: bool) {
        if self.is_over {
            return;
        }
        self.is_over = true;
        if !flush {
            self.actions.clear();
            self.ready.clear();
            self.datagrams_out = 0;
        }
        self.streams.clear();
        self.sessions.clear();
        self.unis.clear();
        self.starved.clear();
        (self.in_bytes, self.out_bytes) = (0, self.control.len());
        self.last = Some(Action::Close { code, reason: why, flush });
        self.events.push_back(Event::Closed { code, why });
    }

    /// When [`Connection::handle_timeout`] is to be called.
    pub fn deadline(&mut self) -> Option<Instant> {
        let streams = &self.streams;
        let awaits =
            |id: &StreamId| streams.get(id).and_then(|stream| stream.message()).is_some_and(Message::awaits_head);
        while self.heads.front().is_some_and(|(_, id)| !awaits(id)) {
            self.heads.pop_front();
        }
        let head = self.heads.front().map(|(at, _)| *at);
        [head, self.early.deadline()].into_iter().flatten().min()
    }

    /// Gives up streams whose head, or whose session, did not come in time.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.now = now;
        while !self.is_over
            && let Some((at, id)) = self.heads.front().copied()
            && at <= now
        {
            self.heads.pop_front();
            let late = self.streams.get(&id).and_then(|stream| stream.message()).is_some_and(Message::awaits_head);
            if late {
                self.fail(id, Fault::Answer(StatusCode::REQUEST_TIMEOUT.as_u16(), "the head took too long"));
            }
        }
        while !self.is_over
            && let Some(id) = self.early.take_late(now)
        {
            self.reject_early(id);
        }
    }
}
