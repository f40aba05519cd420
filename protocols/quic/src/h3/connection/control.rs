//! The streams that are not the app's: control and QPACK's (RFC 9114 section 6.2, RFC 9204 section 4.2).

use bytes::Bytes;

use super::{Action, Code, Connection, Event, Fault, Kind, Priority, Settings, StreamId};
use crate::h3::{
    code::unexpected,
    frame::{Item, Plan, Reader, kind},
    qpack::{self, DecoderStream},
    varint::{self, Partial},
};

/// Types of unidirectional streams.
mod stream_type {
    pub(super) const CONTROL: u64 = super::super::CONTROL_STREAM;
    pub(super) const PUSH: u64 = 0x1;
    pub(super) const QPACK_ENCODER: u64 = 0x2;
    pub(super) const QPACK_DECODER: u64 = 0x3;
    pub(super) const WEBTRANSPORT: u64 = 0x54;
}

/// A unidirectional stream of the peer.
#[derive(Debug)]
pub(super) enum Uni {
    /// Its type has not arrived whole.
    Typing(Partial),
    /// Frames about the connection.
    Control(Reader),
    /// Instructions of the peer's encoder.
    Encoder,
    /// Answers of the peer's decoder.
    Decoder(DecoderStream),
}

impl Default for Uni {
    fn default() -> Self {
        Self::Typing(Partial::default())
    }
}

/// The peer's streams of which there is one each, and which must not end.
#[derive(Debug, Default)]
pub(super) struct Critical {
    control: bool,
    encoder: bool,
    decoder: bool,
    /// The largest push id that the peer, a client, allows.
    push_max: Option<u64>,
}

impl Connection {
    /// Bytes of a unidirectional stream that is not the app's, or whose type is not known.
    pub(super) fn take_typed(&mut self, id: StreamId, mut bytes: Bytes, fin: bool) -> Result<(), Fault> {
        loop {
            match self.unis.get_mut(&id) {
                None => return Ok(()),
                Some(Uni::Typing(partial)) => match partial.take(&mut bytes) {
                    Some(stream_type::WEBTRANSPORT) if self.config.webtransport => {
                        self.unis.remove(&id);
                        self.insert_stream(id, Kind::WebTransport { session: None, partial: Partial::default() });
                        return self.take_app(id, bytes, fin);
                    }
                    Some(found) => self.take_type(id, found)?,
                    None => break,
                },
                Some(Uni::Control(_)) => {
                    self.take_control(id, &mut bytes)?;
                    break;
                }
                Some(Uni::Encoder) => {
                    qpack::check_encoder_stream(&bytes)?;
                    break;
                }
                Some(Uni::Decoder(stream)) => {
                    stream.check(&bytes)?;
                    break;
                }
            }
        }
        if fin { self.take_uni_reset(id) } else { Ok(()) }
    }

    /// A stream without a type may end; the others are critical.
    pub(super) fn take_uni_reset(&mut self, id: StreamId) -> Result<(), Fault> {
        match self.unis.remove(&id) {
            Some(Uni::Control(_) | Uni::Encoder | Uni::Decoder(_)) => {
                Err(Fault::Connection(Code::CLOSED_CRITICAL_STREAM, "a critical stream ended"))
            }
            Some(Uni::Typing(_)) => Ok(()),
            None if id.is_of_server() == self.is_server => Ok(()),
            None => self.seen_uni.admit(id).map(|_| ()),
        }
    }

    fn take_type(&mut self, id: StreamId, found: u64) -> Result<(), Fault> {
        let (uni, before) = match found {
            stream_type::CONTROL => (Uni::Control(Reader::default()), &mut self.critical.control),
            stream_type::QPACK_ENCODER => (Uni::Encoder, &mut self.critical.encoder),
            stream_type::QPACK_DECODER => (Uni::Decoder(DecoderStream::default()), &mut self.critical.decoder),
            stream_type::PUSH if self.is_server => {
                return Err(Fault::Connection(Code::STREAM_CREATION_ERROR, "a client pushes nothing"));
            }
            stream_type::PUSH => return Err(Fault::Connection(Code::ID_ERROR, "no push was allowed")),
            // RFC 9114 section 6.2: not read any further.
            _ => {
                self.unis.remove(&id);
                self.act(Action::Stop(id, Code::STREAM_CREATION_ERROR));
                return Ok(());
            }
        };
        if std::mem::replace(before, true) {
            return Err(Fault::Connection(Code::STREAM_CREATION_ERROR, "a second stream of a type that has one"));
        }
        self.unis.insert(id, uni);
        Ok(())
    }

    fn take_control(&mut self, id: StreamId, bytes: &mut Bytes) -> Result<(), Fault> {
        let max = self.config.limits.control_frame_bytes_max.into();
        loop {
            let has_settings = self.peer.is_some();
            let Some(Uni::Control(reader)) = self.unis.get_mut(&id) else { return Ok(()) };
            let item = reader.next(bytes, |kind| plan(kind, has_settings, max))?;
            match item {
                None => return Ok(()),
                Some(Item::Whole(kind, payload)) => self.take_control_frame(kind, &payload)?,
                Some(Item::TooLong(kind::SETTINGS | kind::PRIORITY_UPDATE_REQUEST | kind::PRIORITY_UPDATE_PUSH)) => {
                    return Err(Fault::Connection(Code::EXCESSIVE_LOAD, "a frame is too long"));
                }
                Some(_) => return Err(Fault::Connection(Code::FRAME_ERROR, "a frame is too long")),
            }
        }
    }

    fn take_control_frame(&mut self, kind: u64, payload: &[u8]) -> Result<(), Fault> {
        match kind {
            kind::SETTINGS => self.take_settings(payload),
            kind::GOAWAY => self.take_goaway(only_id(payload)?),
            kind::MAX_PUSH_ID => self.take_push_max(only_id(payload)?),
            kind::CANCEL_PUSH => {
                // Nothing was promised, and nothing allowed: whatever the id, it is a wrong one.
                only_id(payload)?;
                Err(Fault::Connection(Code::ID_ERROR, "there is no such push"))
            }
            _ => self.take_priority(kind, payload),
        }
    }

    fn take_settings(&mut self, payload: &[u8]) -> Result<(), Fault> {
        let settings = Settings::parse(payload)?;
        self.peer = Some(settings);
        self.events.push_back(Event::Settings(settings));
        self.check_datagram_setting();
        self.release_session_requests();
        Ok(())
    }

    /// RFC 9297 section 2.1.1: who says that it takes datagrams must have said so to the transport, too.
    pub(super) fn check_datagram_setting(&mut self) {
        if !self.is_early && !self.has_datagrams && self.peer.is_some_and(|peer| peer.datagrams) {
            self.fail(self.control_id, Fault::Connection(Code::SETTINGS_ERROR, "the transport has no datagrams"));
        }
    }

    fn take_push_max(&mut self, id: u64) -> Result<(), Fault> {
        if !self.is_server {
            return Err(unexpected("a server sends no MAX_PUSH_ID"));
        }
        let falls = self.critical.push_max.is_some_and(|before| id < before);
        self.check(!falls, Code::ID_ERROR, "MAX_PUSH_ID falls")?;
        self.critical.push_max = Some(id);
        Ok(())
    }

    /// RFC 9218 section 7.2.
    fn take_priority(&mut self, kind: u64, payload: &[u8]) -> Result<(), Fault> {
        if !self.is_server {
            return Err(unexpected("a server sends no PRIORITY_UPDATE"));
        }
        let (id, len) = varint::read(payload).ok_or(Fault::Connection(Code::FRAME_ERROR, "an id is cut"))?;
        self.check(kind != kind::PRIORITY_UPDATE_PUSH, Code::ID_ERROR, "there is no such push")?;
        let id = StreamId(id);
        let possible = id.is_request() && self.seen_bidi.is_possible(id, self.config.limits.streams_max);
        self.check(possible, Code::ID_ERROR, "there is no such request")?;
        let priority = Priority::parse(&payload[len..]);
        match self.streams.get(&id).and_then(|stream| stream.message()) {
            Some(message) if !message.awaits_head() => self.act(Action::Prioritize(id, priority)),
            None if !self.seen_bidi.is_to_come(id) => {}
            _ if self.priorities.len() < self.config.limits.priorities_max.into() => {
                self.priorities.insert(id, priority);
            }
            _ => self.stats.priorities_forgotten += 1,
        }
        Ok(())
    }
}

/// Which frames may stand on the control stream (RFC 9114 section 7.2), and how much of them is held.
fn plan(kind: u64, has_settings: bool, max: usize) -> Result<Plan, Fault> {
    match kind {
        kind::SETTINGS if has_settings => Err(unexpected("SETTINGS a second time")),
        kind::SETTINGS => Ok(Plan::Gather(max)),
        _ if !has_settings => Err(Fault::Connection(Code::MISSING_SETTINGS, "the first frame must be SETTINGS")),
        kind::GOAWAY | kind::MAX_PUSH_ID | kind::CANCEL_PUSH => Ok(Plan::Gather(varint::LEN_MAX)),
        kind::PRIORITY_UPDATE_REQUEST | kind::PRIORITY_UPDATE_PUSH => Ok(Plan::Gather(max)),
        kind::DATA | kind::HEADERS | kind::PUSH_PROMISE => Err(unexpected("a frame of request streams")),
        _ if kind::is_of_http2(kind) => Err(unexpected("a frame of HTTP/2")),
        _ => Ok(Plan::Skip),
    }
}

/// The payload of a frame that is one id and nothing else.
fn only_id(payload: &[u8]) -> Result<u64, Fault> {
    varint::read_only(payload).ok_or(Fault::Connection(Code::FRAME_ERROR, "a frame is not one id"))
}
