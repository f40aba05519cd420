//! What the peer sends: requests, responses, and the streams that carry them.

use bytes::Bytes;
use http::{Method, StatusCode};
use quiche::h3::Header;

use super::{Action, Code, Connection, Event, Fault, Kind, Priority, StreamId, control::Uni};
use crate::{
    h3::{
        code::malformed,
        frame::Item,
        message::{self, Head},
        outbox::Stage,
        output::Protocol,
        qpack,
        stream::{Message, Opening, Phase},
        varint::Partial,
    },
    webtransport::{self, Session},
};

/// A side of a stream.
enum Side {
    /// This end sends.
    Ours,
    /// The peer sends.
    Theirs,
}

/// Entries of the list of awaited heads that may be stale before it is tidied.
const HEADS_STALE: usize = 16;

impl Connection {
    pub(super) fn take_bidi(&mut self, id: StreamId, bytes: Bytes, fin: bool) -> Result<(), Fault> {
        // Given up, or ended: whatever still comes is nobody's.
        let is_open = self.streams.get(&id).map(|stream| stream.inbox.is_open());
        if is_open == Some(false) || is_open.is_none() && !self.admit_bidi(id)? {
            return Ok(());
        }
        let before = self.streams.get(&id).and_then(|stream| stream.message()).is_some_and(Message::awaits_head);
        self.take_app(id, bytes, fin)?;
        let after = self.streams.get(&id).and_then(|stream| stream.message()).is_some_and(Message::awaits_head);
        if self.is_server && before && after {
            self.await_head(id);
        }
        Ok(())
    }

    /// Takes note of a stream that the peer opens; `false`: it is one that has ended.
    fn admit_bidi(&mut self, id: StreamId) -> Result<bool, Fault> {
        if id.is_of_server() == self.is_server || !self.seen_bidi.admit(id)? {
            return Ok(false);
        }
        if self.is_server {
            self.insert_stream(id, Kind::Message(Message::new()));
        } else {
            self.check(self.config.webtransport, Code::STREAM_CREATION_ERROR, "a server opens no such stream")?;
            // What is not WebTransport there is refused when its type is known.
            self.insert_stream(id, Kind::Message(Message::new()));
        }
        Ok(true)
    }

    /// Notes until when the head must be whole.
    fn await_head(&mut self, id: StreamId) {
        if self.heads.iter().rev().take(HEADS_STALE).any(|(_, known)| *known == id) {
            return;
        }
        if self.heads.len() > self.streams.len() + HEADS_STALE {
            let streams = &self.streams;
            let awaits =
                |id: &StreamId| streams.get(id).and_then(|stream| stream.message()).is_some_and(Message::awaits_head);
            self.heads.retain(|(_, id)| awaits(id));
        }
        if !self.heads.iter().any(|(_, known)| *known == id) {
            self.heads.push_back((self.now + self.config.limits.head(), id));
        }
    }

    /// Bytes of a stream that the app sees, or will.
    pub(super) fn take_app(&mut self, id: StreamId, mut bytes: Bytes, fin: bool) -> Result<(), Fault> {
        loop {
            let Some(stream) = self.streams.get_mut(&id) else { return Ok(()) };
            let Kind::Message(message) = &mut stream.kind else { return self.take_webtransport(id, bytes, fin) };
            let opening = match (self.config.webtransport, self.is_server, id.is_request()) {
                (false, ..) => Opening::Unknown,
                (true, true, _) => Opening::May,
                (true, false, true) => Opening::Never,
                (true, false, false) => Opening::Must,
            };
            match message.next(&mut bytes, &self.config.limits, self.is_server, opening)? {
                None => break,
                Some(Item::Bare) => stream.kind = Kind::WebTransport { session: None, partial: Partial::default() },
                Some(Item::Whole(_, section)) => self.take_section(id, &section)?,
                Some(Item::Piece(data)) => self.take_data(id, data)?,
                Some(Item::TooLong(_)) => return Err(self.head_fault(qpack::TOO_LARGE)),
            }
        }
        if fin { self.take_fin(id) } else { Ok(()) }
    }

    fn take_section(&mut self, id: StreamId, section: &[u8]) -> Result<(), Fault> {
        let Some(message) = self.streams.get_mut(&id).and_then(|stream| stream.message_mut()) else { return Ok(()) };
        let awaits_head = message.awaits_head();
        if awaits_head && let Some(head) = self.known.get(section) {
            self.admit_request(id)?;
            return self.take_request(id, head);
        }
        let fields = qpack::decode(section, &self.config.limits).map_err(|fault| self.head_fault(fault))?;
        if !awaits_head {
            let trailers = message::trailers(&fields)?;
            let Some(stream) = self.streams.get_mut(&id) else { return Ok(()) };
            if let Some(message) = stream.message_mut() {
                message.phase = Phase::Trailed;
            }
            if stream.inbox.is_open() {
                stream.inbox.push_trailers(trailers);
                self.tell_readable(id);
            }
            return Ok(());
        }
        if !self.is_server {
            return self.take_response(id, &fields);
        }
        self.admit_request(id)?;
        let head = message::request(&fields, &self.config.limits)?;
        self.known.note(section, &head);
        self.take_request(id, head)
    }

    /// Only a server can answer a head that is too large.
    fn head_fault(&self, fault: Fault) -> Fault {
        match fault {
            Fault::Answer(_, why) if !self.is_server => Fault::Stream(Code::EXCESSIVE_LOAD, why),
            fault => fault,
        }
    }

    /// Whether a further request is taken.
    fn admit_request(&self, id: StreamId) -> Result<(), Fault> {
        if self.leaving.refuses(id) {
            return Err(Fault::Stream(Code::REQUEST_REJECTED, "the server is going away"));
        }
        if self.requests >= self.config.limits.requests_max.into() {
            return Err(Fault::Stream(Code::REQUEST_REJECTED, "too many requests are open"));
        }
        Ok(())
    }

    fn take_request(&mut self, id: StreamId, head: Head) -> Result<(), Fault> {
        let request = head.request;
        let is_connect = request.method() == Method::CONNECT;
        let is_session = self.config.webtransport && head.protocol.as_deref().is_some_and(webtransport::is_protocol);
        if let Some(message) = self.streams.get_mut(&id).and_then(|stream| stream.message_mut()) {
            message.is_head = request.method() == Method::HEAD;
            message.is_extended = head.protocol.is_some();
            message.length = head.length.filter(|_| !is_connect);
            message.phase = match is_connect {
                true if is_session => Phase::Session,
                true => Phase::Tunnel,
                false => Phase::Body,
            };
        }
        self.requests += 1;
        self.prioritize_request(id, &request);
        if is_connect && self.is_early {
            return Err(Fault::Answer(StatusCode::TOO_EARLY.as_u16(), "CONNECT in 0-RTT"));
        }
        if is_session {
            return self.take_session_request(id, request);
        }
        if head.protocol.is_some() && !self.config.extended_connect {
            return Err(Fault::Answer(StatusCode::NOT_IMPLEMENTED.as_u16(), "an unknown :protocol"));
        }
        self.settle_early(id)?;
        let protocol = head.protocol.map(Protocol);
        self.events.push_back(Event::Request { id, request, protocol, early: self.is_early });
        Ok(())
    }

    /// A PRIORITY_UPDATE that came before the request counts more than its header (RFC 9218 section 7).
    fn prioritize_request(&mut self, id: StreamId, request: &http::Request<()>) {
        let header = || request.headers().get("priority").map(|value| Priority::parse(value.as_bytes()));
        if let Some(priority) = self.priorities.remove(&id).or_else(header)
            && priority != Priority::default()
        {
            self.act(Action::Prioritize(id, priority));
        }
    }

    fn take_response(&mut self, id: StreamId, fields: &[Header]) -> Result<(), Fault> {
        let (response, length) = message::response(fields)?;
        let status = response.status();
        let Some(message) = self.streams.get_mut(&id).and_then(|stream| stream.message_mut()) else { return Ok(()) };
        if !status.is_informational() {
            let bodiless = message.is_head || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
            message.length = if bodiless { Some(0) } else { length };
            message.phase = match message.is_extended && status.is_success() {
                true if self.sessions.contains_key(&id) => Phase::Session,
                true => Phase::Tunnel,
                false => Phase::Body,
            };
            if self.sessions.contains_key(&id) {
                return self.take_session_response(id, response);
            }
        }
        self.events.push_back(Event::Response { id, response });
        Ok(())
    }

    fn take_data(&mut self, id: StreamId, data: Bytes) -> Result<(), Fault> {
        let Some(message) = self.streams.get_mut(&id).and_then(|stream| stream.message_mut()) else { return Ok(()) };
        message.taken += data.len() as u64;
        if message.length.is_some_and(|length| message.taken > length) {
            return Err(malformed("the body is longer than its content-length"));
        }
        match message.phase {
            Phase::Session => self.take_capsules(id, data),
            _ => {
                self.deliver(id, data);
                Ok(())
            }
        }
    }

    fn take_fin(&mut self, id: StreamId) -> Result<(), Fault> {
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(()) };
        let Some(message) = stream.message() else { return Ok(()) };
        if !message.is_between() {
            return Err(Fault::Connection(Code::FRAME_ERROR, "a frame is cut by the end of its stream"));
        }
        if message.awaits_head() {
            return Err(match self.is_server {
                true => Fault::Stream(Code::REQUEST_INCOMPLETE, "the stream ended without a request"),
                false if id.is_request() => malformed("the stream ended without a response"),
                false => Fault::Stream(Code::REQUEST_INCOMPLETE, "the stream ended without its type"),
            });
        }
        if message.length.is_some_and(|length| message.taken != length) {
            return Err(malformed("the body is shorter than its content-length"));
        }
        if message.phase == Phase::Session {
            return self.take_session_fin(id);
        }
        stream.inbox.end();
        self.tell_readable(id);
        self.settle(id);
        Ok(())
    }

    pub(super) fn take_reset(&mut self, id: StreamId, code: Code) -> Result<(), Fault> {
        if id.is_uni() && !self.streams.contains_key(&id) {
            return self.take_uni_reset(id);
        }
        if !self.streams.contains_key(&id) && !self.admit_bidi(id)? {
            return Ok(());
        }
        match self.streams.get(&id).map(|stream| &stream.kind) {
            Some(Kind::WebTransport { .. }) => self.take_webtransport_reset(id, code),
            Some(Kind::Message(_)) => self.cancel(id, code, Side::Theirs),
            None => {}
        }
        Ok(())
    }

    pub(super) fn take_stop(&mut self, id: StreamId, code: Code) -> Result<(), Fault> {
        self.check(id != self.control_id, Code::CLOSED_CRITICAL_STREAM, "the control stream was stopped")?;
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(()) };
        match &stream.kind {
            Kind::WebTransport { .. } => self.take_webtransport_stop(id, code),
            // A server may want no more of a request that it has answered; its answer goes on (RFC 9114 section 4.1).
            Kind::Message(_) if !self.is_server && !self.sessions.get(&id).is_some_and(Session::is_open) => {
                self.give_up_sending(id);
                self.settle(id);
            }
            Kind::Message(_) => self.cancel(id, code, Side::Ours),
        }
        Ok(())
    }

    /// The peer takes its request back, or rejects one, by ending one `side` of its stream.
    fn cancel(&mut self, id: StreamId, code: Code, side: Side) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let known = stream.message().is_some_and(|message| !message.awaits_head() || !self.is_server);
        let unanswered = stream.outbox.stage != Stage::Done;
        match side {
            Side::Ours => drop(self.give_up_sending(id)),
            Side::Theirs => self.in_bytes -= stream.inbox.give_up(),
        }
        if known && self.sessions.contains_key(&id) {
            self.lose_session(id, 0, String::new());
        } else if known {
            self.events.push_back(Event::Cancelled { id, code });
        }
        self.abort(id, Code::REQUEST_CANCELLED);
        if self.is_server && unanswered {
            self.note_reset();
        }
    }

    pub(super) fn take_uni(&mut self, id: StreamId, bytes: Bytes, fin: bool) -> Result<(), Fault> {
        if self.streams.contains_key(&id) {
            return self.take_app(id, bytes, fin);
        }
        if !self.unis.contains_key(&id) {
            if id.is_of_server() == self.is_server || !self.seen_uni.admit(id)? {
                return Ok(());
            }
            self.unis.insert(id, Uni::default());
        }
        self.take_typed(id, bytes, fin)
    }
}
