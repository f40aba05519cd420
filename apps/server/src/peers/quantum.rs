//! Sessions over Quantum: what its endpoint reports, turned into frames of the session protocol.

use engine::Io;
use handler::Close;
use quantum::{CloseReason, Event, Handle, StreamId};
use tcp::frame::EPHEMERAL;

use crate::{
    connection::{Connection, Kind},
    dialect::Dialect,
    lane::{Lanes, ORDERED, is_bulk, parting},
    line::Line,
    mail::Mail,
    metrics::{Drop, Transport},
    shard::Shard,
};

impl Shard {
    /// Works off what the endpoint has to report; whether there was anything.
    pub(crate) fn serve_quantum(&mut self, io: &mut Io<Mail>) -> bool {
        let mut any = false;
        while let Some((handle, event)) = self.ground.wires.quantum.as_mut().and_then(|endpoint| endpoint.poll_event())
        {
            self.quantum_event(io, handle, event);
            any = true;
        }
        if any {
            self.apply(io);
        }
        any
    }

    fn quantum_event(&mut self, io: &mut Io<Mail>, handle: Handle, event: Event) {
        let line = Line::Quantum(handle);
        match event {
            Event::Connected => self.quantum_connected(io, handle),
            Event::Opened(id) if is_bulk(id) => self.with(io, line, |shard, io, connection| {
                shard.begin_bulk(io, connection, id);
            }),
            Event::Readable(id) => self.with(io, line, |shard, io, connection| shard.read_lane(io, connection, id)),
            Event::Datagram => self.with(io, line, |shard, io, connection| shard.read_datagrams(io, connection)),
            Event::Message => self.with(io, line, |shard, io, connection| shard.refuse_messages(io, connection)),
            Event::Finished(ORDERED) => self.with(io, line, |shard, io, connection| {
                // It has all there was to say.
                if connection.closing.is_some() {
                    connection.close(io, &mut shard.ground.wires);
                }
            }),
            Event::Stopped { id: ORDERED, .. } | Event::Reset { id: ORDERED, .. } => {
                self.with(io, line, |shard, io, connection| shard.abandon(io, connection, Close::PeerLeft));
            }
            Event::Reset { id, .. } => self.with(io, line, |_, _, connection| {
                if let Kind::Quantum(lanes) = &mut connection.kind {
                    lanes.end(id);
                }
            }),
            Event::Writable(id) => self.with(io, line, |shard, io, connection| {
                connection.resume(io.now(), id, &mut shard.ground.wires);
            }),
            Event::Moved => self.with(io, line, |shard, io, connection| shard.moved(io, connection)),
            // The client's first stream shows itself with its first bytes. What a client does not want of an answer is
            // its own affair, and that it wants to go it says in its session. A bulk answer for which no stream was free
            // went the ordered way. Messages are not sent.
            Event::Opened(_)
            | Event::Finished(_)
            | Event::Stopped { .. }
            | Event::StreamsAvailable(_)
            | Event::MessagesWritable
            | Event::GoAway { .. } => {}
            Event::Closed(reason) => self.quantum_closed(io, line, &reason),
        }
    }

    fn quantum_connected(&mut self, io: &mut Io<Mail>, handle: Handle) {
        let Some(transport) = self.ground.wires.peek(handle) else { return };
        let (id, remote) = (transport.id(), transport.remote());
        tracing::debug!(connection = %id, %remote, shard = %io.shard(), "a Quantum connection is up");
        self.ground.stats.open(Transport::Quantum);
        let speaker = self.speaker(io, Dialect::BinaryStream);
        let hello_bytes = self.ground.limits.hello_bytes;
        let lanes = Lanes::new(id, speaker, hello_bytes);
        let mut connection = Box::new(Connection::quantum(handle, remote.ip(), lanes, io.now()));
        if self.ground.drain.is_some() {
            self.ground.stats.drop_for(Drop::Draining);
            self.abandon(io, &mut connection, Close::Draining);
        }
        self.admit(io, connection);
    }

    fn quantum_closed(&mut self, io: &mut Io<Mail>, line: Line, reason: &CloseReason) {
        self.with(io, line, |_, io, connection| {
            if let Kind::Quantum(lanes) = &connection.kind {
                tracing::debug!(connection = %lanes.id, ?reason, shard = %io.shard(), "a Quantum connection is gone");
            }
        });
        self.closed(io, line, close_of(reason));
    }

    fn begin_bulk(&mut self, io: &mut Io<Mail>, connection: &mut Connection, id: StreamId) {
        let body_max = self.ground.limits.hello_bytes;
        let Kind::Quantum(lanes) = &mut connection.kind else { return };
        // Quantum's own limit of streams is the same, so a client that keeps it has room.
        if !lanes.begin(id, body_max)
            && let Line::Quantum(handle) = connection.line
            && let Some(transport) = self.ground.wires.connection(handle)
        {
            let _ = transport.stop(id, parting(Close::OutOfLimit).0);
        }
        self.read_lane(io, connection, id);
    }

    /// Reads a stream as far as it goes, and hears what is whole.
    fn read_lane(&mut self, io: &mut Io<Mail>, connection: &mut Connection, id: StreamId) {
        // While draining a session is not read any more, as on every other transport.
        while connection.closing.is_none() && self.ground.drain.is_none() {
            let mut plain = std::mem::take(&mut self.ground.plain);
            let finished = self.fetch(connection, id, &mut plain);
            if !plain.is_empty() {
                self.hear_lane(io, connection, id, &plain);
            }
            let more = !plain.is_empty();
            plain.clear();
            self.ground.plain = plain;
            if finished {
                return self.lane_ended(io, connection, id);
            }
            if !more {
                return;
            }
        }
    }

    /// Takes the next bytes of a stream; whether they are its last.
    fn fetch(&mut self, connection: &Connection, id: StreamId, plain: &mut Vec<u8>) -> bool {
        let Line::Quantum(handle) = connection.line else { return false };
        let Some(transport) = self.ground.wires.connection(handle) else { return false };
        let Ok(chunk) = transport.chunk(id) else { return false };
        let len = chunk.len();
        plain.extend_from_slice(chunk);
        transport.consume(id, len);
        transport.is_finished(id)
    }

    fn hear_lane(&mut self, io: &mut Io<Mail>, connection: &mut Connection, id: StreamId, bytes: &[u8]) {
        let line = connection.line;
        let Kind::Quantum(lanes) = &mut connection.kind else { return };
        let Lanes { ordered, bulk, speaker, .. } = &mut **lanes;
        let transfer = bulk.iter_mut().find(|(other, _)| *other == id);
        let Some(deframer) = (if id == ORDERED { Some(ordered) } else { transfer.map(|(_, deframer)| deframer) })
        else {
            return;
        };
        let mut answers = std::mem::take(&mut self.ground.answers);
        let outcome = self.ground.hear_frames(io, line, speaker, deframer, bytes, &mut answers);
        self.finish_hearing(io, connection, answers, outcome);
    }

    fn lane_ended(&mut self, io: &mut Io<Mail>, connection: &mut Connection, id: StreamId) {
        if id == ORDERED {
            return self.ended(io, connection);
        }
        if let Kind::Quantum(lanes) = &mut connection.kind {
            lanes.end(id);
        }
    }

    /// Hears ephemeral messages: one frame per datagram, from whoever has said hello.
    fn read_datagrams(&mut self, io: &mut Io<Mail>, connection: &mut Connection) {
        let Line::Quantum(handle) = connection.line else { return };
        while let Some(bytes) = self.ground.wires.connection(handle).and_then(|transport| transport.recv_datagram()) {
            if connection.closing.is_some() || self.ground.drain.is_some() {
                continue;
            }
            let Some(speaker) = connection.speaker() else { return };
            if !speaker.session.is_open() || bytes.first().is_none_or(|flags| flags & EPHEMERAL == 0) {
                // It came before its hello, which may only be late, or it is none of those that may be lost.
                self.ground.stats.drop_for(Drop::Frame);
                continue;
            }
            let mut answers = std::mem::take(&mut self.ground.answers);
            let outcome = self.ground.hear(io, Line::Quantum(handle), speaker, &bytes, &mut answers);
            self.finish_hearing(io, connection, answers, outcome);
        }
    }

    /// The session has no use for Quantum's messages.
    fn refuse_messages(&mut self, io: &mut Io<Mail>, connection: &mut Connection) {
        self.ground.stats.drop_for(Drop::Frame);
        self.abandon(io, connection, Close::PeerMisbehaved);
    }

    /// The client has another address.
    fn moved(&mut self, io: &Io<Mail>, connection: &mut Connection) {
        let (Line::Quantum(handle), Kind::Quantum(lanes)) = (connection.line, &connection.kind) else { return };
        let Some(transport) = self.ground.wires.peek(handle) else { return };
        connection.address = transport.remote().ip();
        let remote = transport.remote();
        tracing::debug!(connection = %lanes.id, %remote, shard = %io.shard(), "a Quantum connection has moved");
    }

    /// Whether a packet of the client has come since this was last asked: nobody else can seal one.
    pub(crate) fn is_alive(&mut self, connection: &mut Connection) -> bool {
        let (Line::Quantum(handle), Kind::Quantum(lanes)) = (connection.line, &mut connection.kind) else {
            return false;
        };
        let Some(transport) = self.ground.wires.peek(handle) else { return false };
        let received = transport.stats().packets_received;
        std::mem::replace(&mut lanes.heard, received) < received
    }

    /// Starts to drain: no new connections, and those that are open are told.
    pub(crate) fn drain_quantum(&mut self, io: &mut Io<Mail>) {
        if let Some(endpoint) = &mut self.ground.wires.quantum {
            let (code, reason) = parting(Close::Draining);
            endpoint.drain(io.now(), code, reason.as_bytes());
        }
    }
}

/// What the end of a connection means to apps.
fn close_of(reason: &CloseReason) -> Close {
    match reason {
        CloseReason::Local { .. } | CloseReason::Peer { .. } | CloseReason::Reset | CloseReason::Version => {
            Close::PeerLeft
        }
        CloseReason::Idle | CloseReason::HandshakeTimeout => Close::PeerSilent,
        CloseReason::Transport(_) => Close::PeerMisbehaved,
    }
}
