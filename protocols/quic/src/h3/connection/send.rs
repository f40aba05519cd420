//! What this end sends: requests, responses, bodies.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request, Response};

use super::{Action, Code, Connection, Kind, StreamId};
use crate::{
    h3::{
        Prepared, PreparedRequest, SendError,
        frame::{self, kind},
        message,
        outbox::Stage,
        qpack::{self, Common, Field},
        stream::{Message, Phase, Stream},
    },
    stream::{Direction, Side},
    webtransport::{self, Session},
};

/// Type and length in front of a body.
const DATA_HEAD_MAX: usize = 9;

impl Connection {
    /// Answers a request with a head; `end`: there is no body. Informational heads may come before, without `end`.
    /// Fields about an HTTP/1.1 connection are left away.
    ///
    /// # Errors
    /// [`SendError::Gone`], [`SendError::Order`] (answered already), [`SendError::TooLarge`] (for the peer's settings).
    pub fn respond(&mut self, id: StreamId, response: &Response<()>, end: bool) -> Result<(), SendError> {
        let is_final = !response.status().is_informational();
        self.answerable(id, is_final, end)?;
        let status = response.status();
        let mut fields: Vec<Field<'_>> = Vec::with_capacity(1 + response.headers().len());
        fields.push((b":status", status.as_str().as_bytes()));
        push_fields(&mut fields, response.headers());
        let frame = head_frame(&fields, &Common::default(), self.peer.unwrap_or_default().section_max)?;
        self.queue_answer(id, frame, None, is_final, end)
    }

    /// Answers a request with a head and the whole body. `content-length` is set, and the body left away where there
    /// is none (HEAD, 204, 304).
    ///
    /// # Errors
    /// As [`Connection::respond`].
    pub fn answer(&mut self, id: StreamId, response: Response<Bytes>) -> Result<(), SendError> {
        self.answer_with(id, response, &Common::default())
    }

    /// The same with more fields, which many answers have in common.
    ///
    /// # Errors
    /// As [`Connection::respond`].
    pub fn answer_with(&mut self, id: StreamId, response: Response<Bytes>, common: &Common) -> Result<(), SendError> {
        self.answer_prepared(id, &Prepared::new(response, common))
    }

    /// Answers a request with what was coded before: its head and the whole body, which is left away for HEAD.
    ///
    /// # Errors
    /// As [`Connection::respond`].
    pub fn answer_prepared(&mut self, id: StreamId, prepared: &Prepared) -> Result<(), SendError> {
        let stream = self.answerable(id, prepared.is_final(), true)?;
        let is_head = stream.message().is_some_and(|message| message.is_head);
        if prepared.size() > self.peer.unwrap_or_default().section_max {
            return Err(SendError::TooLarge);
        }
        let (head, body) = prepared.pieces(is_head);
        self.queue_answer(id, head, body, prepared.is_final(), true)
    }

    /// The stream of a request that takes a head now.
    fn answerable(&mut self, id: StreamId, is_final: bool, end: bool) -> Result<&mut Stream, SendError> {
        let Some(stream) = self.streams.get_mut(&id).filter(|_| self.is_server) else { return Err(SendError::Gone) };
        if stream.message().is_none() || stream.outbox.is_done() {
            return Err(SendError::Gone);
        }
        if stream.outbox.stage != Stage::Head || !is_final && end {
            return Err(SendError::Order);
        }
        Ok(stream)
    }

    fn queue_answer(
        &mut self,
        id: StreamId,
        head: Bytes,
        body: Option<Bytes>,
        is_final: bool,
        end: bool,
    ) -> Result<(), SendError> {
        let stream = self.streams.get_mut(&id).ok_or(SendError::Gone)?;
        self.out_bytes += head.len() + body.as_ref().map_or(0, Bytes::len);
        stream.outbox.push(head);
        if let Some(body) = body {
            stream.outbox.push(body);
        }
        match (is_final, end) {
            (_, true) => stream.outbox.end(),
            (true, false) => stream.outbox.stage = Stage::Body,
            (false, false) => {}
        }
        if is_final {
            self.refuse_session(id);
        }
        self.list(id);
        Ok(())
    }

    /// Sends a request; `end`: it has no body. The URI has scheme and authority, or `Host` is there; for a plain
    /// CONNECT it is an authority. A WebTransport session is asked for with `protocol` `webtransport`.
    ///
    /// # Errors
    /// [`SendError::Leaving`], [`SendError::NoCredit`], [`SendError::TooLarge`]; [`SendError::NotYet`] and
    /// [`SendError::Unsupported`] for a `protocol` that wants the server's settings; [`SendError::Limit`] (sessions).
    pub fn request(&mut self, request: &Request<()>, protocol: Option<&str>, end: bool) -> Result<StreamId, SendError> {
        self.check_asking()?;
        let is_session = protocol.is_some_and(webtransport::is_protocol);
        self.check_protocol(protocol, is_session)?;
        let id = self.request_prepared(&PreparedRequest::with_protocol(request, protocol), end)?;
        if is_session {
            self.sessions.insert(id, Session::asked());
        }
        Ok(id)
    }

    /// Sends a request that was coded before; `end`: it has no body.
    ///
    /// # Errors
    /// [`SendError::Leaving`], [`SendError::NoCredit`], [`SendError::TooLarge`].
    pub fn request_prepared(&mut self, prepared: &PreparedRequest, end: bool) -> Result<StreamId, SendError> {
        self.check_asking()?;
        if prepared.size > self.peer.unwrap_or_default().section_max {
            return Err(SendError::TooLarge);
        }
        self.credit_bidi = self.credit_bidi.checked_sub(1).ok_or(SendError::NoCredit)?;
        let id = StreamId::new(Side::Client, Direction::Bidirectional, self.next_bidi);
        self.next_bidi += 1;
        self.requests += 1;
        let mut message = Message::new();
        message.is_head = prepared.is_head;
        message.is_extended = prepared.is_connect;
        self.out_bytes += prepared.frame.len();
        let stream = self.insert_stream(id, Kind::Message(message));
        stream.outbox.push(prepared.frame.clone());
        stream.outbox.stage = Stage::Body;
        if end {
            stream.outbox.end();
        }
        self.list(id);
        Ok(id)
    }

    /// Whether this end asks, and may still do so.
    fn check_asking(&self) -> Result<(), SendError> {
        let may = !self.is_server && !self.is_over() && !self.leaving.is_begun();
        may.then_some(()).ok_or(SendError::Leaving)
    }

    fn check_protocol(&self, protocol: Option<&str>, is_session: bool) -> Result<(), SendError> {
        if protocol.is_none() {
            return Ok(());
        }
        let peer = self.peer.ok_or(SendError::NotYet)?;
        // Servers of the old drafts of WebTransport do not all say that they take Extended CONNECT.
        if !(peer.connect_protocol || is_session && peer.webtransport) {
            return Err(SendError::Unsupported);
        }
        if is_session && self.sessions.len() >= self.config.limits.sessions_max.into() {
            return Err(SendError::Limit);
        }
        Ok(())
    }

    /// Sends bytes of a body or a WebTransport stream; `end`: it ends behind them. What is larger than a few bytes is
    /// not copied. While there is any room the whole of `bytes` is taken. The end should come with the last bytes:
    /// [`crate::Connection::write`] says why.
    ///
    /// # Errors
    /// [`SendError::Gone`], [`SendError::Order`] (before a head or behind an end), [`SendError::Full`] (beyond
    /// `stream_out_bytes_max` or `connection_out_bytes_max`; [`super::Event::Writable`] follows). An empty end is always taken.
    pub fn send(&mut self, id: StreamId, bytes: Bytes, end: bool) -> Result<(), SendError> {
        let stream = self.streams.get(&id).ok_or(SendError::Gone)?;
        let is_session = stream.message().is_some_and(|message| message.phase == Phase::Session);
        match stream.outbox.stage {
            Stage::Done => return Err(SendError::Gone),
            Stage::Body if !is_session => {}
            _ => return Err(SendError::Order),
        }
        if !bytes.is_empty() && !self.has_room(id) {
            return Err(SendError::Full);
        }
        let stream = self.streams.get_mut(&id).ok_or(SendError::Gone)?;
        if !bytes.is_empty() {
            self.out_bytes += bytes.len();
            if stream.message().is_some() {
                let mut head = BytesMut::with_capacity(DATA_HEAD_MAX);
                frame::write_head(&mut head, kind::DATA, bytes.len() as u64);
                self.out_bytes += head.len();
                stream.outbox.push(head.freeze());
            }
            stream.outbox.push(bytes);
        }
        if end {
            stream.outbox.end();
        }
        self.list(id);
        Ok(())
    }

    /// Ends a message with trailers.
    ///
    /// # Errors
    /// As [`Connection::send`], and [`SendError::TooLarge`].
    pub fn send_trailers(&mut self, id: StreamId, trailers: &HeaderMap) -> Result<(), SendError> {
        let section_max = self.peer.unwrap_or_default().section_max;
        let stream = self.streams.get_mut(&id).ok_or(SendError::Gone)?;
        let message = stream.message().ok_or(SendError::Order)?;
        let is_tunnel = matches!(message.phase, Phase::Session | Phase::Tunnel);
        match stream.outbox.stage {
            Stage::Done => return Err(SendError::Gone),
            Stage::Body if !is_tunnel => {}
            _ => return Err(SendError::Order),
        }
        let mut fields = Vec::with_capacity(trailers.len());
        push_fields(&mut fields, trailers);
        let frame = head_frame(&fields, &Common::default(), section_max)?;
        self.out_bytes += frame.len();
        stream.outbox.push(frame);
        stream.outbox.end();
        self.list(id);
        Ok(())
    }

    /// Room for [`Connection::send`] in bytes; more than 0 takes a piece of any size.
    #[must_use]
    pub fn send_room(&self, id: StreamId) -> usize {
        let limits = &self.config.limits;
        let room = (limits.connection_out_bytes_max as usize).saturating_sub(self.out_bytes);
        let max = limits.stream_out_bytes_max as usize;
        self.streams.get(&id).map_or(0, |stream| max.saturating_sub(stream.outbox.len()).min(room))
    }

    /// Whether [`Connection::send`] takes something now. If not, [`super::Event::Writable`] follows, unless the stream is
    /// over.
    pub fn ask_room(&mut self, id: StreamId) -> bool {
        self.has_room(id)
    }

    /// Bytes of a stream that wait for the transport.
    #[must_use]
    pub fn send_waiting(&self, id: StreamId) -> usize {
        self.streams.get(&id).map_or(0, |stream| stream.outbox.len())
    }

    /// Gives up a request, its answer, or a WebTransport stream, both ways. [`webtransport::code::to_http`] makes a
    /// code of an app's.
    pub fn reset(&mut self, id: StreamId, code: Code) {
        self.lose_session_quietly(id);
        self.abort(id, code);
    }

    /// Gives up this end's side of a stream; the peer's goes on.
    pub fn reset_sending(&mut self, id: StreamId, code: Code) {
        if self.give_up_sending(id) {
            self.act(Action::Reset(id, code));
            self.settle(id);
        }
    }

    /// Reads no more of a stream; what this end sends on it goes on. After a whole answer to a request whose body is
    /// not wanted: with [`Code::NO_ERROR`] (RFC 9114 section 4.1).
    pub fn stop(&mut self, id: StreamId, code: Code) {
        if let Some(stream) = self.streams.get(&id) {
            if stream.inbox.is_open() {
                self.act(Action::Stop(id, code));
            }
            self.drop_inbox(id);
        }
    }
}

/// Adds the fields of a map, but those that HTTP/3 forbids.
fn push_fields<'a>(fields: &mut Vec<Field<'a>>, headers: &'a HeaderMap) {
    fields.extend(message::fields(headers));
}

/// A HEADERS frame.
fn head_frame(fields: &[Field<'_>], common: &Common, section_max: u64) -> Result<Bytes, SendError> {
    if qpack::section_size(fields) + common.size() > section_max {
        return Err(SendError::TooLarge);
    }
    Ok(qpack::headers_frame(fields, common, 0).freeze())
}
