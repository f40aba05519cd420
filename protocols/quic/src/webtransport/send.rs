//! What this end does with sessions: accepts one, opens streams, sends, ends it.

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Response};

use super::{Session, capsule};
use crate::{
    h3::{
        Action, Code, Connection, SendError, StreamId,
        frame::{self, kind},
        outbox::Stage,
        stream::Kind,
        varint::{self, Partial},
    },
    stream::Direction,
};

/// The type of a unidirectional WebTransport stream.
const UNI_STREAM: u64 = 0x54;

/// The field that draft 2 wants in an answer.
const DRAFT_FIELD: &str = "sec-webtransport-http3-draft";

impl Connection {
    /// Accepts a session (server) with 200 and these fields. Streams and datagrams that waited for it follow as events.
    /// It is refused by [`Connection::respond`].
    ///
    /// # Errors
    /// [`SendError::Gone`], [`SendError::Order`] (it is answered), [`SendError::TooLarge`].
    pub fn accept_session(&mut self, id: StreamId, headers: HeaderMap) -> Result<(), SendError> {
        let session = self.sessions.get_mut(&id).filter(|session| session.held.is_none()).ok_or(SendError::Gone)?;
        if session.is_open() || !self.is_server {
            return Err(SendError::Order);
        }
        let mut response = Response::new(());
        *response.headers_mut() = headers;
        if session.is_draft_2 {
            response.headers_mut().insert(DRAFT_FIELD, HeaderValue::from_static("draft02"));
        }
        session.set_open(true);
        let answered = self.respond(id, &response, false);
        if answered.is_ok() {
            self.open_early(id);
        } else if let Some(session) = self.sessions.get_mut(&id) {
            // It may be tried again with fewer fields.
            session.set_open(false);
        }
        answered
    }

    /// A final head was sent for a session that was asked for: it is refused.
    pub(crate) fn refuse_session(&mut self, id: StreamId) {
        if self.sessions.get(&id).is_some_and(|session| !session.is_open()) {
            self.lose_session_quietly(id);
            self.stop(id, Code::NO_ERROR);
        }
    }

    /// Opens a stream of a session that goes both ways.
    ///
    /// # Errors
    /// [`SendError::Gone`] (the session), [`SendError::Limit`] (`session_streams_max`), [`SendError::NoCredit`].
    pub fn open_bidi(&mut self, session: StreamId) -> Result<StreamId, SendError> {
        self.check_session(session)?;
        self.credit_bidi = self.credit_bidi.checked_sub(1).ok_or(SendError::NoCredit)?;
        let id = StreamId::new(self.side(), Direction::Bidirectional, self.next_bidi);
        self.next_bidi += 1;
        self.open_stream(id, session, kind::WT_STREAM);
        Ok(id)
    }

    /// Opens a stream of a session on which only this end sends.
    ///
    /// # Errors
    /// As [`Connection::open_bidi`].
    pub fn open_uni(&mut self, session: StreamId) -> Result<StreamId, SendError> {
        self.check_session(session)?;
        self.credit_uni = self.credit_uni.checked_sub(1).ok_or(SendError::NoCredit)?;
        let id = StreamId::new(self.side(), Direction::Unidirectional, self.next_uni);
        self.next_uni += 1;
        self.open_stream(id, session, UNI_STREAM);
        Ok(id)
    }

    fn check_session(&self, id: StreamId) -> Result<(), SendError> {
        let session = self.sessions.get(&id).filter(|session| session.is_open()).ok_or(SendError::Gone)?;
        match session.streams.len() < self.config.limits.session_streams_max.into() {
            true => Ok(()),
            false => Err(SendError::Limit),
        }
    }

    fn open_stream(&mut self, id: StreamId, session: StreamId, stream_type: u64) {
        let mut head = BytesMut::with_capacity(2 * varint::LEN_MAX);
        varint::write(&mut head, stream_type);
        varint::write(&mut head, session.0);
        self.out_bytes += head.len();
        let stream = self.insert_stream(id, Kind::WebTransport { session: Some(session), partial: Partial::default() });
        stream.outbox.stage = Stage::Body;
        stream.outbox.push(head.freeze());
        if let Some(session) = self.sessions.get_mut(&session) {
            session.streams.insert(id);
        }
        self.list(id);
    }

    /// Sends a datagram of a session, or of an Extended CONNECT. It may be lost.
    ///
    /// # Errors
    /// [`SendError::Gone`], [`SendError::NotYet`] and [`SendError::Unsupported`] (the peer's settings and transport),
    /// [`SendError::Full`] (`datagrams_out_max` wait).
    pub fn send_datagram(&mut self, id: StreamId, payload: &[u8]) -> Result<(), SendError> {
        let of_session = self.sessions.get(&id).is_some_and(Session::is_open);
        let extended = || {
            let message = self.streams.get(&id).and_then(|stream| stream.message());
            message.is_some_and(|message| message.is_extended) && !self.sessions.contains_key(&id)
        };
        if !of_session && !extended() {
            return Err(SendError::Gone);
        }
        if !self.peer.ok_or(SendError::NotYet)?.datagrams || !self.has_datagrams() {
            return Err(SendError::Unsupported);
        }
        let mut out = BytesMut::with_capacity(varint::LEN_MAX + payload.len());
        varint::write(&mut out, id.0 >> 2);
        out.put_slice(payload);
        self.act_datagram(out.freeze())
    }

    /// Ends a session with a code and a reason, of which [`super::REASON_BYTES_MAX`] bytes are sent; its streams are
    /// reset.
    ///
    /// # Errors
    /// [`SendError::Gone`]: it is not open.
    pub fn close_session(&mut self, id: StreamId, code: u32, reason: &str) -> Result<(), SendError> {
        self.sessions.get(&id).filter(|session| session.is_open()).ok_or(SendError::Gone)?;
        self.lose_session_quietly(id);
        self.send_capsule(id, capsule::close_bytes(code, reason), true);
        self.drop_inbox(id);
        Ok(())
    }

    /// Asks the peer to end a session soon.
    ///
    /// # Errors
    /// [`SendError::Gone`]: it is not open.
    pub fn drain_session(&mut self, id: StreamId) -> Result<(), SendError> {
        self.sessions.get(&id).filter(|session| session.is_open()).ok_or(SendError::Gone)?;
        self.send_capsule(id, capsule::drain_bytes(), false);
        Ok(())
    }

    pub(crate) fn send_capsule(&mut self, id: StreamId, capsule: BytesMut, end: bool) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let mut out = BytesMut::new();
        frame::write(&mut out, kind::DATA, &capsule);
        self.out_bytes += out.len();
        stream.outbox.push(out.freeze());
        if end {
            stream.outbox.end();
        }
        self.list(id);
    }

    /// Streams of a session that are open, of both sides.
    #[must_use]
    pub fn session_streams_len(&self, id: StreamId) -> usize {
        self.sessions.get(&id).map_or(0, |session| session.streams.len())
    }

    /// Queues a datagram as it goes to the transport.
    fn act_datagram(&mut self, bytes: Bytes) -> Result<(), SendError> {
        match self.count_datagram_out() {
            true => self.act(Action::Datagram(bytes)),
            false => return Err(SendError::Full),
        }
        Ok(())
    }
}
