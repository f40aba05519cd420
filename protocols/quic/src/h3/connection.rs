//! One connection: its state, what goes in and what comes out.

mod control;
mod end;
mod receive;
mod send;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Instant,
};

use bytes::{Bytes, BytesMut};

use self::{
    control::{Critical, Uni},
    end::Leaving,
};
use super::{
    Action, Code, Config, Event, Piece, Priority, Settings, Stats, StreamId,
    code::Fault,
    frame,
    known::Known,
    outbox::Outbox,
    seen::Seen,
    settings,
    stream::{Kind, Stream},
    varint,
};
use crate::{
    stream::{Direction, Side},
    webtransport::{Early, Session},
};

/// What a read of a stream outside the app's may bring at once: all of it is used up or refused.
const ROOM_OTHER: usize = 16 * 1024;

/// The type of a control stream (RFC 9114 section 6.2.1).
const CONTROL_STREAM: u64 = 0x0;

/// HTTP/3 and WebTransport on one QUIC connection.
#[derive(Debug)]
pub struct Connection {
    pub(crate) config: Arc<Config>,
    pub(crate) is_server: bool,
    pub(crate) now: Instant,
    is_over: bool,
    /// The close, when what waits to be written goes first.
    last: Option<Action>,
    /// Whether what arrives may be 0-RTT.
    is_early: bool,
    /// Whether the transport can carry datagrams to the peer.
    has_datagrams: bool,
    pub(crate) peer: Option<Settings>,
    pub(crate) streams: BTreeMap<StreamId, Box<Stream>>,
    unis: BTreeMap<StreamId, Uni>,
    critical: Critical,
    pub(crate) seen_bidi: Seen,
    seen_uni: Seen,
    pub(crate) next_bidi: u64,
    pub(crate) next_uni: u64,
    /// Streams that the peer lets this end open now.
    pub(crate) credit_bidi: u64,
    pub(crate) credit_uni: u64,
    /// The control stream and, if there is one, the reserved stream of this end.
    control: Outbox,
    control_id: StreamId,
    actions: VecDeque<Action>,
    pub(crate) events: VecDeque<Event>,
    /// Streams that have something to send, in the order of their asking.
    ready: VecDeque<StreamId>,
    /// The stream of the last write, until it is sure that nothing of it comes back.
    written: Option<StreamId>,
    /// Streams whose owner was told that there is no room.
    stalled: BTreeSet<StreamId>,
    /// Streams whose app waits for room, of which the connection has none.
    starved: BTreeSet<StreamId>,
    /// Bytes in all inboxes.
    in_bytes: usize,
    /// Bytes in all outboxes.
    pub(crate) out_bytes: usize,
    datagrams_in: u16,
    datagrams_out: u16,
    pub(crate) requests: usize,
    resets: u32,
    priorities: BTreeMap<StreamId, Priority>,
    /// The head of the last request (server).
    known: Known,
    /// Streams without a whole head, and until when they may be.
    heads: VecDeque<(Instant, StreamId)>,
    pub(crate) leaving: Leaving,
    pub(crate) sessions: BTreeMap<StreamId, Session>,
    pub(crate) early: Early,
    pub(crate) stats: Stats,
}

impl Connection {
    /// Serves the requests of a client.
    #[must_use]
    pub fn server(now: Instant, config: Arc<Config>) -> Self {
        Self::new(now, config, true)
    }

    /// Sends requests to a server.
    #[must_use]
    pub fn client(now: Instant, config: Arc<Config>) -> Self {
        Self::new(now, config, false)
    }

    fn new(now: Instant, config: Arc<Config>, is_server: bool) -> Self {
        let mut connection = Self {
            is_server,
            now,
            is_over: false,
            last: None,
            is_early: true,
            has_datagrams: false,
            peer: None,
            streams: BTreeMap::new(),
            unis: BTreeMap::new(),
            critical: Critical::default(),
            seen_bidi: Seen::default(),
            seen_uni: Seen::default(),
            next_bidi: 0,
            next_uni: 1,
            credit_bidi: 0,
            credit_uni: 0,
            control: Outbox::default(),
            control_id: StreamId::new(side(is_server), Direction::Unidirectional, 0),
            actions: VecDeque::new(),
            events: VecDeque::new(),
            ready: VecDeque::new(),
            written: None,
            stalled: BTreeSet::new(),
            starved: BTreeSet::new(),
            in_bytes: 0,
            out_bytes: 0,
            datagrams_in: 0,
            datagrams_out: 0,
            requests: 0,
            resets: 0,
            priorities: BTreeMap::new(),
            known: Known::default(),
            heads: VecDeque::new(),
            leaving: Leaving::default(),
            sessions: BTreeMap::new(),
            early: Early::default(),
            stats: Stats::default(),
            config,
        };
        connection.open_control();
        connection
    }

    /// RFC 9114 section 6.2.1: settings first. QPACK's streams stay unopened, as nothing would be sent on them.
    fn open_control(&mut self) {
        let mut out = BytesMut::new();
        varint::write(&mut out, CONTROL_STREAM);
        frame::write(&mut out, frame::kind::SETTINGS, &settings::payload(&self.config, self.is_server));
        if let Some(seed) = self.config.grease {
            frame::write(&mut out, frame::grease(seed.wrapping_mul(7)), b"grease");
        }
        self.write_control(out);
    }

    pub(crate) fn write_control(&mut self, bytes: BytesMut) {
        self.out_bytes += bytes.len();
        self.control.push(bytes.freeze());
        self.list(self.control_id);
    }

    /// The handshake is complete: what arrives from now on is not 0-RTT. `datagrams`: whether the peer's transport
    /// takes datagrams (its `max_datagram_frame_size` is not 0).
    pub fn on_established(&mut self, now: Instant, datagrams: bool) {
        (self.now, self.is_early, self.has_datagrams) = (now, false, datagrams);
        self.check_datagram_setting();
    }

    /// How many streams of each direction the peer lets this end open now. To be told when the handshake is complete
    /// and whenever it grows; this layer counts down by itself.
    pub fn on_credit(&mut self, bidi: u64, uni: u64) {
        (self.credit_bidi, self.credit_uni) = (bidi, uni);
    }

    /// Bytes of a stream arrived, at most [`Connection::room`]; `fin`: it ends behind them. Bodies are handed on
    /// without a copy, so `bytes` stay alive as long as a piece of them waits.
    pub fn on_stream(&mut self, now: Instant, id: StreamId, bytes: impl Into<Bytes>, fin: bool) {
        if self.is_over {
            return;
        }
        self.now = now;
        let taken = match id.is_uni() {
            true => self.take_uni(id, bytes.into(), fin),
            false => self.take_bidi(id, bytes.into(), fin),
        };
        if let Err(fault) = taken {
            self.fail(id, fault);
        }
    }

    /// The peer reset its side of a stream.
    pub fn on_reset(&mut self, now: Instant, id: StreamId, code: Code) {
        if !self.is_over {
            self.now = now;
            if let Err(fault) = self.take_reset(id, code) {
                self.fail(id, fault);
            }
        }
    }

    /// The peer wants no more of this end's side of a stream. The transport answers with a reset by itself (RFC 9000
    /// section 3.5).
    pub fn on_stop(&mut self, now: Instant, id: StreamId, code: Code) {
        if !self.is_over {
            self.now = now;
            if let Err(fault) = self.take_stop(id, code) {
                self.fail(id, fault);
            }
        }
    }

    /// A datagram arrived.
    pub fn on_datagram(&mut self, now: Instant, bytes: impl Into<Bytes>) {
        if !self.is_over {
            self.now = now;
            if let Err((id, fault)) = self.take_datagram(bytes.into()) {
                self.fail(id, fault);
            }
        }
    }

    /// The transport takes bytes of this stream again.
    pub fn on_writable(&mut self, id: StreamId) {
        if let Some(outbox) = self.outbox_mut(id) {
            outbox.unblock();
            self.list(id);
        }
    }

    /// Of the last polled write, the transport did not take `rest`, which may be empty if it did not take `fin`.
    pub fn on_blocked(&mut self, id: StreamId, rest: Bytes, fin: bool) {
        let len = rest.len();
        if let Some(outbox) = self.outbox_mut(id) {
            outbox.put_back(rest, fin);
            self.out_bytes += len;
        }
    }

    /// What the transport is to do next.
    pub fn poll_action(&mut self) -> Option<Action> {
        if let Some(id) = self.written.take() {
            self.after_write(id);
        }
        if let Some(action) = self.actions.pop_front() {
            self.datagrams_out -= u16::from(matches!(action, Action::Datagram(_)));
            return Some(action);
        }
        while let Some(id) = self.ready.front().copied() {
            if let Some((bytes, fin)) = self.outbox_mut(id).and_then(Outbox::take) {
                self.written = Some(id);
                self.out_bytes -= bytes.len();
                return Some(Action::Write { id, bytes, fin });
            }
            self.ready.pop_front();
        }
        self.last.take()
    }

    /// A write is out of this layer's hands.
    fn after_write(&mut self, id: StreamId) {
        self.feed_starved();
        let out_max = self.config.limits.stream_out_bytes_max;
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if stream.outbox.tell_room(out_max) {
            self.events.push_back(Event::Writable(id));
        }
        self.settle(id);
    }

    /// Tells the apps of streams that the connection had no room for that half of it is free.
    fn feed_starved(&mut self) {
        let limits = &self.config.limits;
        if self.starved.is_empty() || self.out_bytes > limits.connection_out_bytes_max as usize / 2 {
            return;
        }
        self.events.extend(std::mem::take(&mut self.starved).into_iter().map(Event::Writable));
    }

    /// Whether a stream and the connection take bytes now. If not, the app is told when they do.
    pub(crate) fn has_room(&mut self, id: StreamId) -> bool {
        let limits = &self.config.limits;
        let Some(stream) = self.streams.get_mut(&id) else { return false };
        if !stream.outbox.has_room(limits.stream_out_bytes_max) {
            return false;
        }
        let room = self.out_bytes < limits.connection_out_bytes_max as usize;
        if !room {
            self.starved.insert(id);
        }
        room
    }

    /// Gives up what waits on a stream to be written. `false`: there was nothing left to give up.
    pub(crate) fn give_up_sending(&mut self, id: StreamId) -> bool {
        let Some(stream) = self.streams.get_mut(&id) else { return false };
        self.out_bytes -= stream.outbox.len();
        self.starved.remove(&id);
        let open = stream.outbox.give_up();
        self.feed_starved();
        open
    }

    /// What the app is told next.
    pub fn poll_event(&mut self) -> Option<Event> {
        let event = self.events.pop_front()?;
        self.datagrams_in -= u16::from(matches!(event, Event::Datagram { .. }));
        Some(event)
    }

    /// Bytes of a stream that this layer takes now. 0: leave them with the transport until [`Action::Read`].
    pub fn room(&mut self, id: StreamId) -> usize {
        let limits = &self.config.limits;
        let stream_max = limits.stream_in_bytes_max as usize;
        let room = match self.streams.get(&id) {
            Some(stream) if !stream.inbox.is_open() => return ROOM_OTHER,
            Some(stream) if self.is_early_stream(stream) => {
                (limits.early_stream_bytes_max as usize).saturating_sub(stream.inbox.len())
            }
            Some(stream) => stream_max.saturating_sub(stream.inbox.len()),
            None if self.unis.contains_key(&id) => return ROOM_OTHER,
            // It may turn out to be early.
            None => stream_max.min(limits.early_stream_bytes_max as usize),
        };
        let room = room.min((limits.connection_in_bytes_max as usize).saturating_sub(self.in_bytes));
        if room == 0 {
            self.stalled.insert(id);
        }
        room
    }

    /// The next piece of a request's body, a response's, or a WebTransport stream. `None`: nothing now,
    /// [`Event::Readable`] follows.
    pub fn read(&mut self, id: StreamId) -> Option<Piece> {
        let stream = self.streams.get_mut(&id)?;
        let piece = stream.inbox.read();
        match &piece {
            Some(Piece::Data(bytes)) => {
                self.in_bytes -= bytes.len();
                self.resume();
            }
            Some(Piece::End) => self.settle(id),
            Some(Piece::Trailers(_)) | None => {}
        }
        piece
    }

    /// Whether the end is all that [`Connection::read`] has left to say of a stream.
    #[must_use]
    pub fn is_at_end(&self, id: StreamId) -> bool {
        self.streams.get(&id).is_some_and(|stream| stream.inbox.is_at_end())
    }

    /// Whether [`Connection::poll_action`] has something to say or to tidy up.
    pub(crate) fn has_actions(&self) -> bool {
        self.written.is_some() || !self.actions.is_empty() || !self.ready.is_empty() || self.last.is_some()
    }

    /// Lets streams go on that had no room, once there is so much again that it is worth a read.
    fn resume(&mut self) {
        let limits = &self.config.limits;
        let enough = limits.stream_in_bytes_max.min(limits.connection_in_bytes_max) as usize / 2;
        if self.stalled.is_empty() || self.in_bytes + enough > limits.connection_in_bytes_max as usize {
            return;
        }
        // An early stream, or one that may be, never has room for more.
        let early = enough.min(limits.early_stream_bytes_max as usize / 2);
        for id in std::mem::take(&mut self.stalled) {
            let is_known = self.streams.get(&id).is_some_and(|stream| !self.is_early_stream(stream));
            let enough = if is_known { enough } else { early };
            match self.room(id) {
                room if room < enough => drop(self.stalled.insert(id)),
                _ => self.actions.push_back(Action::Read(id)),
            }
        }
    }

    /// Lets a stream go on whose session was accepted.
    pub(crate) fn resume_early(&mut self, id: StreamId) {
        if self.stalled.remove(&id) {
            self.actions.push_back(Action::Read(id));
        }
    }

    /// The peer's settings, once they are here.
    #[must_use]
    pub fn peer_settings(&self) -> Option<Settings> {
        self.peer
    }

    /// Streams that carry a message or belong to a session, or may yet.
    #[must_use]
    pub fn streams_len(&self) -> usize {
        self.streams.len()
    }

    /// Bytes that wait to be read by the app, of all streams.
    #[must_use]
    pub fn in_bytes(&self) -> usize {
        self.in_bytes
    }

    /// Bytes that wait for the transport, of all streams.
    #[must_use]
    pub fn out_bytes(&self) -> usize {
        self.out_bytes
    }

    /// What was dropped so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// Whether the connection is closed, by whichever side; nothing is taken any more.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// Which end of the connection this is.
    #[must_use]
    pub fn side(&self) -> Side {
        side(self.is_server)
    }

    fn outbox_mut(&mut self, id: StreamId) -> Option<&mut Outbox> {
        match id == self.control_id {
            true => Some(&mut self.control),
            false => self.streams.get_mut(&id).map(|stream| &mut stream.outbox),
        }
    }

    /// Puts a stream into the list of those that have something to send.
    pub(crate) fn list(&mut self, id: StreamId) {
        if self.outbox_mut(id).is_some_and(Outbox::list) {
            self.ready.push_back(id);
        }
    }

    pub(crate) fn act(&mut self, action: Action) {
        self.actions.push_back(action);
    }

    /// Opens the app's side of a fresh stream.
    pub(crate) fn insert_stream(&mut self, id: StreamId, kind: Kind) -> &mut Stream {
        let is_own = id.is_of_server() == self.is_server;
        self.streams.entry(id).or_insert_with(|| Box::new(Stream::new(kind, id, is_own)))
    }

    /// Tells the app that a stream has something to read, if it may know of the stream.
    pub(crate) fn tell_readable(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get(&id) else { return };
        if self.is_early_stream(stream) {
            return;
        }
        if self.streams.get_mut(&id).is_some_and(|stream| stream.inbox.tell()) {
            self.events.push_back(Event::Readable(id));
        }
    }

    /// Hands bytes to the app's side of a stream.
    pub(crate) fn deliver(&mut self, id: StreamId, bytes: Bytes) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let before = stream.inbox.len();
        stream.inbox.push(bytes);
        self.in_bytes += stream.inbox.len() - before;
        self.tell_readable(id);
    }

    pub(crate) fn push_datagram(&mut self, id: StreamId, payload: Bytes) {
        if self.datagrams_in >= self.config.limits.datagrams_in_max {
            self.stats.datagrams_dropped += 1;
            return;
        }
        self.datagrams_in += 1;
        self.events.push_back(Event::Datagram { id, payload });
    }

    /// Whether datagrams can reach the peer.
    pub(crate) fn has_datagrams(&self) -> bool {
        self.has_datagrams
    }

    /// Counts a datagram for the transport; `false`: too many wait.
    pub(crate) fn count_datagram_out(&mut self) -> bool {
        let room = self.datagrams_out < self.config.limits.datagrams_out_max;
        self.datagrams_out += u16::from(room);
        room
    }

    fn check(&self, holds: bool, code: Code, why: &'static str) -> Result<(), Fault> {
        if holds { Ok(()) } else { Err(Fault::Connection(code, why)) }
    }
}

fn side(is_server: bool) -> Side {
    if is_server { Side::Server } else { Side::Client }
}

#[cfg(test)]
mod tests;
