//! What the peer does with sessions: asks for one, answers, opens streams, sends, ends it.

use bytes::{Buf, Bytes};
use http::{Request, Response, StatusCode};

use super::{Session, capsule, code, origin};
use crate::{
    h3::{
        Code, Connection, Event, StreamId,
        code::{Fault, malformed},
        outbox::Stage,
        stream::{Kind, Stream},
        varint,
    },
    webtransport::capsule::Capsule,
};

/// Says that the client follows draft 2 (Chromium and Firefox do).
const DRAFT_2: &str = "sec-webtransport-http3-draft02";

/// Where a session is that a stream or a datagram names.
enum Place {
    /// It was accepted.
    Open,
    /// It may be accepted yet.
    Early,
    /// The request has datagrams of its own.
    Extended,
    /// It is a request that has none.
    Other,
    /// It has ended, or was refused.
    Gone,
}

impl Connection {
    pub(crate) fn take_session_request(&mut self, id: StreamId, request: Request<()>) -> Result<(), Fault> {
        if !origin::is_allowed(&request, self.config.origin.as_ref()) {
            return Err(Fault::Answer(StatusCode::FORBIDDEN.as_u16(), "an origin that is not allowed"));
        }
        if self.sessions.len() >= self.config.limits.sessions_max.into() {
            return Err(Fault::Answer(StatusCode::TOO_MANY_REQUESTS.as_u16(), "too many sessions"));
        }
        let mut session = Session::asked();
        session.is_draft_2 = request.headers().contains_key(DRAFT_2);
        // The drafts: no session is looked at before the client's settings, which may be on their way.
        match self.peer {
            Some(_) => self.events.push_back(Event::SessionRequest { id, request }),
            None => session.held = Some(Box::new(request)),
        }
        self.sessions.insert(id, session);
        Ok(())
    }

    /// The client's settings are here.
    pub(crate) fn release_session_requests(&mut self) {
        for (id, session) in &mut self.sessions {
            if let Some(request) = session.held.take() {
                self.events.push_back(Event::SessionRequest { id: *id, request: *request });
            }
        }
    }

    pub(crate) fn take_session_response(&mut self, id: StreamId, response: Response<()>) -> Result<(), Fault> {
        if !response.status().is_success() {
            self.lose_session_quietly(id);
            self.events.push_back(Event::Response { id, response });
            self.reset_sending(id, Code::NO_ERROR);
            return Ok(());
        }
        if let Some(session) = self.sessions.get_mut(&id) {
            session.set_open(true);
            self.events.push_back(Event::SessionOpen { id, response });
            self.open_early(id);
        }
        Ok(())
    }

    /// Hands over what waited for a session that is open now.
    pub(super) fn open_early(&mut self, session: StreamId) {
        for id in self.early.take_streams(session) {
            match self.join_open(id, session) {
                Ok(()) => {
                    self.tell_readable(id);
                    self.resume_early(id);
                    self.settle(id);
                }
                Err(fault) => self.fail(id, fault),
            }
        }
        for payload in self.early.take_datagrams(session) {
            self.push_datagram(session, payload);
        }
    }

    /// Whether the app does not know of a stream yet.
    pub(crate) fn is_early_stream(&self, stream: &Stream) -> bool {
        match stream.kind {
            Kind::Message(_) => false,
            Kind::WebTransport { session, .. } => {
                !session.and_then(|id| self.sessions.get(&id)).is_some_and(Session::is_open)
            }
        }
    }

    /// Bytes of a WebTransport stream.
    pub(crate) fn take_webtransport(&mut self, id: StreamId, mut bytes: Bytes, fin: bool) -> Result<(), Fault> {
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(()) };
        if let Kind::WebTransport { session: known @ None, partial } = &mut stream.kind {
            match partial.take(&mut bytes) {
                Some(session) => {
                    *known = Some(StreamId(session));
                    self.join(id, StreamId(session))?;
                }
                None if fin => {
                    return Err(Fault::Stream(Code::REQUEST_INCOMPLETE, "the stream ended without a session"));
                }
                None => return Ok(()),
            }
        }
        self.deliver(id, bytes);
        if fin && let Some(stream) = self.streams.get_mut(&id) {
            stream.inbox.end();
            self.tell_readable(id);
        }
        Ok(())
    }

    /// A stream has said which session is its.
    fn join(&mut self, id: StreamId, session: StreamId) -> Result<(), Fault> {
        if let Some(stream) = self.streams.get_mut(&id).filter(|stream| stream.outbox.stage == Stage::Head) {
            stream.outbox.stage = Stage::Body;
        }
        match self.place(session)? {
            Place::Open => self.join_open(id, session),
            Place::Early if self.early.streams_len() < self.config.limits.early_streams_max.into() => {
                self.early.push_stream(id, session, self.now + self.config.limits.early());
                Ok(())
            }
            Place::Early => {
                self.stats.early_streams_rejected += 1;
                Err(Fault::Stream(Code::WT_BUFFERED_STREAM_REJECTED, "too many streams wait for their session"))
            }
            Place::Extended | Place::Other | Place::Gone => {
                Err(Fault::Stream(Code::WT_SESSION_GONE, "the session of the stream is not there"))
            }
        }
    }

    fn join_open(&mut self, id: StreamId, session: StreamId) -> Result<(), Fault> {
        let max = self.config.limits.session_streams_max.into();
        let Some(open) = self.sessions.get_mut(&session) else { return Ok(()) };
        if open.streams.len() >= max {
            return Err(Fault::Stream(Code::EXCESSIVE_LOAD, "too many streams of one session"));
        }
        open.streams.insert(id);
        self.events.push_back(Event::Stream { id, session });
        Ok(())
    }

    /// Finds what an id names.
    fn place(&self, id: StreamId) -> Result<Place, Fault> {
        const WRONG: Fault = Fault::Connection(Code::ID_ERROR, "an id that names no request");
        if !id.is_request() {
            return Err(WRONG);
        }
        if let Some(session) = self.sessions.get(&id) {
            return Ok(if session.is_open() { Place::Open } else { Place::Early });
        }
        match self.streams.get(&id).map(|stream| stream.message()) {
            Some(Some(message)) if message.is_extended => Ok(Place::Extended),
            Some(Some(message)) if message.awaits_head() && self.is_server => Ok(Place::Early),
            Some(_) => Ok(Place::Other),
            None if !self.is_server => {
                if id.index() < self.next_bidi {
                    Ok(Place::Gone)
                } else {
                    Err(WRONG)
                }
            }
            None if !self.seen_bidi.is_to_come(id) => Ok(Place::Gone),
            None if self.seen_bidi.is_possible(id, self.config.limits.streams_max) => Ok(Place::Early),
            None => Err(WRONG),
        }
    }

    /// RFC 9297 section 2.1: a quarter of the id of the request, then the payload.
    pub(crate) fn take_datagram(&mut self, mut bytes: Bytes) -> Result<(), (StreamId, Fault)> {
        const WRONG: Fault = Fault::Connection(Code::DATAGRAM_ERROR, "a datagram without a stream");
        let id = match varint::read(&bytes) {
            Some((quarter, len)) if quarter <= varint::MAX >> 2 => {
                bytes.advance(len);
                StreamId(quarter << 2)
            }
            _ => return Err((StreamId(0), WRONG)),
        };
        match self.place(id).map_err(|fault| (id, fault))? {
            Place::Open | Place::Extended => self.push_datagram(id, bytes),
            Place::Early => self.hold_datagram(id, bytes),
            Place::Gone => self.stats.datagrams_late += 1,
            Place::Other => return Err((id, OF_A_REQUEST)),
        }
        Ok(())
    }

    /// A datagram that waits for its session.
    fn hold_datagram(&mut self, id: StreamId, payload: Bytes) {
        match self.early.datagrams_len() < self.config.limits.early_datagrams_max.into() {
            true => self.early.push_datagram(id, payload),
            false => self.stats.datagrams_dropped += 1,
        }
    }

    /// A head has come that asks for no session: what waited for one cannot have it.
    pub(crate) fn settle_early(&mut self, id: StreamId) -> Result<(), Fault> {
        for stream in self.early.take_streams(id) {
            self.fail(stream, Fault::Stream(Code::WT_SESSION_GONE, "the request is no session"));
        }
        let datagrams = self.early.take_datagrams(id);
        let is_extended =
            self.streams.get(&id).and_then(|stream| stream.message()).is_some_and(|message| message.is_extended);
        match is_extended || datagrams.is_empty() {
            true => datagrams.into_iter().for_each(|payload| self.push_datagram(id, payload)),
            false => return Err(OF_A_REQUEST),
        }
        Ok(())
    }

    /// Bytes on the stream of a session.
    pub(crate) fn take_capsules(&mut self, id: StreamId, mut data: Bytes) -> Result<(), Fault> {
        let bytes_max = self.config.limits.capsule_bytes_max;
        loop {
            let session = self.sessions.get_mut(&id).ok_or(malformed("bytes behind the close of a session"))?;
            let is_open = session.is_open();
            match capsule::next(&mut session.capsules, &mut data, bytes_max)? {
                None => return Ok(()),
                Some(Capsule::Drain) if is_open => self.events.push_back(Event::SessionDraining(id)),
                Some(Capsule::Drain) => {}
                Some(Capsule::Datagram(payload)) if is_open => self.push_datagram(id, payload),
                Some(Capsule::Datagram(payload)) => self.hold_datagram(id, payload),
                Some(Capsule::Close { code, reason }) => {
                    self.lose_session(id, code, reason);
                    self.finish_session_stream(id);
                    // One that was not accepted is gone with all that follows.
                    if data.is_empty() || !self.streams.contains_key(&id) {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// The peer ended the stream of a session: a close without a code.
    pub(crate) fn take_session_fin(&mut self, id: StreamId) -> Result<(), Fault> {
        if self.sessions.get(&id).is_some_and(|session| !session.capsules.is_between()) {
            return Err(malformed("a capsule is cut by the end of its stream"));
        }
        self.lose_session(id, 0, String::new());
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.inbox.end();
        }
        self.finish_session_stream(id);
        if self.streams.get(&id).is_some_and(|stream| !stream.inbox.is_open()) {
            self.drop_inbox(id);
        }
        Ok(())
    }

    /// Ends this end's side of a session's stream, too.
    fn finish_session_stream(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        match stream.outbox.stage {
            Stage::Head => self.abort(id, Code::REQUEST_CANCELLED),
            Stage::Body => {
                stream.outbox.end();
                self.list(id);
            }
            Stage::Ended | Stage::Done => {}
        }
    }

    /// Ends a session that is not wished to end, if `id` is one: the app is told, its streams are reset.
    pub(crate) fn lose_session(&mut self, id: StreamId, code: u32, reason: String) {
        let Some(session) = self.sessions.get(&id) else { return };
        // The app does not know of one that still waits for settings.
        if session.held.is_none() {
            self.events.push_back(Event::SessionClosed { id, code, reason });
        }
        self.lose_session_quietly(id);
    }

    /// Ends a session, and whatever belongs to it; the stream of its CONNECT stays.
    pub(crate) fn lose_session_quietly(&mut self, id: StreamId) {
        let Some(session) = self.sessions.remove(&id) else { return };
        for stream in session.streams {
            self.abort(stream, Code::WT_SESSION_GONE);
        }
        self.drop_early(id);
    }

    /// Drops what waits for a session that will not be.
    pub(crate) fn drop_early(&mut self, id: StreamId) {
        for stream in self.early.take_streams(id) {
            self.abort(stream, Code::WT_SESSION_GONE);
        }
        self.early.take_datagrams(id);
    }

    /// An early stream whose session did not come in time.
    pub(crate) fn reject_early(&mut self, id: StreamId) {
        self.stats.early_streams_rejected += 1;
        self.fail(id, Fault::Stream(Code::WT_BUFFERED_STREAM_REJECTED, "the session of the stream did not come"));
    }

    pub(crate) fn take_webtransport_reset(&mut self, id: StreamId, reset: Code) {
        let Some(stream) = self.streams.get(&id).filter(|stream| stream.inbox.is_open()) else { return };
        let is_early = self.is_early_stream(stream);
        self.drop_inbox(id);
        match is_early {
            true => self.abort(id, Code::WT_BUFFERED_STREAM_REJECTED),
            false => self.events.push_back(Event::StreamReset { id, code: code::from_http(reset) }),
        }
    }

    pub(crate) fn take_webtransport_stop(&mut self, id: StreamId, stop: Code) {
        if !self.give_up_sending(id) {
            return;
        }
        if self.streams.get(&id).is_some_and(|stream| !self.is_early_stream(stream)) {
            self.events.push_back(Event::StreamStopped { id, code: code::from_http(stop) });
        }
        self.settle(id);
    }

    pub(crate) fn forget_webtransport(&mut self, id: StreamId, session: Option<StreamId>) {
        if let Some(session) = session.and_then(|session| self.sessions.get_mut(&session)) {
            session.streams.remove(&id);
        }
        self.early.forget(id);
    }
}

const OF_A_REQUEST: Fault = Fault::Stream(Code::DATAGRAM_ERROR, "a datagram for a request that has none");
