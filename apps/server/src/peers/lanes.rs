//! Sessions in lanes: what their carriers report, turned into frames of the session protocol.

use engine::Io;
use handler::Close;
use tcp::frame::EPHEMERAL;

use crate::{
    connection::{Connection, Kind},
    dialect::Dialect,
    lane::Lanes,
    line::Line,
    mail::Mail,
    metrics::{Drop, Transport},
    pipe::{LaneId, Read},
    shard::Shard,
};

impl Shard {
    /// A session may begin on `line`, whose carrier is up.
    pub(crate) fn open_lanes(
        &mut self,
        io: &mut Io<Mail>,
        line: Line,
        id: String,
        ordered: Option<LaneId>,
        transport: Transport,
    ) {
        let Some(way) = self.ground.wires.way(line) else { return };
        tracing::debug!(connection = %id, remote = %way.remote, shard = %io.shard(), transport = transport.name(), "up");
        self.ground.stats.open(transport);
        let speaker = self.speaker(io, Dialect::BinaryStream);
        let lanes = Lanes::new(id, ordered, speaker, self.ground.limits.hello_bytes);
        self.admit(io, Box::new(Connection::lanes(line, way.remote.ip(), lanes, transport, io.now())));
        if self.ground.drain.is_some() {
            self.ground.stats.drop_for(Drop::Draining);
            self.with(io, line, |shard, io, connection| shard.abandon(io, connection, Close::Draining));
        }
    }

    pub(crate) fn begin_bulk(&mut self, io: &mut Io<Mail>, connection: &mut Connection, id: LaneId) {
        let body_max = self.ground.limits.hello_bytes;
        let Kind::Lanes(lanes) = &mut connection.kind else { return };
        // The carrier's own limit of streams is the same where it is the session's alone.
        if !lanes.begin(id, body_max)
            && let Some(mut pipe) = self.ground.wires.pipe(connection.line)
        {
            pipe.stop(id, Close::OutOfLimit);
        }
        self.read_lane(io, connection, id);
    }

    /// Reads a stream as far as it goes, and hears what is whole.
    pub(crate) fn read_lane(&mut self, io: &mut Io<Mail>, connection: &mut Connection, id: LaneId) {
        // While draining a session is not read any more, as on every other transport.
        while connection.closing.is_none() && self.ground.drain.is_none() {
            let mut plain = std::mem::take(&mut self.ground.plain);
            let pipe = self.ground.wires.pipe(connection.line);
            let read = pipe.map_or(Read::More, |mut pipe| pipe.read(id, &mut plain));
            if !plain.is_empty() {
                self.hear_lane(io, connection, id, &plain);
            }
            let more = !plain.is_empty();
            plain.clear();
            self.ground.plain = plain;
            match read {
                Read::More if more => {}
                Read::More => return,
                Read::End => return self.lane_ended(io, connection, id),
                Read::Reset => return self.lane_reset(io, connection, id),
            }
        }
    }

    fn hear_lane(&mut self, io: &mut Io<Mail>, connection: &mut Connection, id: LaneId, bytes: &[u8]) {
        let line = connection.line;
        let Kind::Lanes(lanes) = &mut connection.kind else { return };
        let Lanes { ordered_id, ordered, bulk, speaker, .. } = &mut **lanes;
        let transfer = bulk.iter_mut().find(|(other, _)| *other == id);
        let deframer = if *ordered_id == Some(id) { Some(ordered) } else { transfer.map(|(_, deframer)| deframer) };
        let Some(deframer) = deframer else { return };
        let mut answers = std::mem::take(&mut self.ground.answers);
        let outcome = self.ground.hear_frames(io, line, speaker, deframer, bytes, &mut answers);
        self.finish_hearing(io, connection, answers, outcome);
    }

    fn lane_ended(&mut self, io: &mut Io<Mail>, connection: &mut Connection, id: LaneId) {
        let Kind::Lanes(lanes) = &mut connection.kind else { return };
        if lanes.ordered_id == Some(id) {
            return self.ended(io, connection);
        }
        lanes.end(id);
    }

    /// The client gave up a stream.
    pub(crate) fn lane_reset(&mut self, io: &mut Io<Mail>, connection: &mut Connection, id: LaneId) {
        let Kind::Lanes(lanes) = &mut connection.kind else { return };
        if lanes.ordered_id == Some(id) {
            return self.abandon(io, connection, Close::PeerLeft);
        }
        lanes.end(id);
    }

    /// The client wants no more of a stream. Of an answer that is its own affair.
    pub(crate) fn lane_stopped(&mut self, io: &mut Io<Mail>, connection: &mut Connection, id: LaneId) {
        let Kind::Lanes(lanes) = &mut connection.kind else { return };
        if lanes.ordered_id == Some(id) {
            return self.abandon(io, connection, Close::PeerLeft);
        }
        // What waits for it would wait for ever, and look as if nobody read.
        lanes.forget(id);
        connection.refresh(io.now(), &mut self.ground.wires);
    }

    /// Hears what waits in datagrams.
    pub(crate) fn read_datagrams(&mut self, io: &mut Io<Mail>, connection: &mut Connection) {
        while let Some(bytes) = self.ground.wires.pipe(connection.line).and_then(|mut pipe| pipe.recv_datagram()) {
            self.hear_datagram(io, connection, &bytes);
        }
    }

    /// Hears an ephemeral message: one frame per datagram, from whoever has said hello.
    pub(crate) fn hear_datagram(&mut self, io: &mut Io<Mail>, connection: &mut Connection, bytes: &[u8]) {
        if connection.closing.is_some() || self.ground.drain.is_some() {
            return;
        }
        let line = connection.line;
        let Some(speaker) = connection.speaker() else { return };
        if !speaker.session.is_open() || bytes.first().is_none_or(|flags| flags & EPHEMERAL == 0) {
            // It came before its hello, which may only be late, or it is none of those that may be lost.
            return self.ground.stats.drop_for(Drop::Frame);
        }
        let mut answers = std::mem::take(&mut self.ground.answers);
        let outcome = self.ground.hear(io, line, speaker, bytes, &mut answers);
        self.finish_hearing(io, connection, answers, outcome);
    }

    /// The client has another address.
    pub(crate) fn moved(&mut self, io: &Io<Mail>, connection: &mut Connection) {
        let Some(way) = self.ground.wires.way(connection.line) else { return };
        connection.address = way.remote.ip();
        if let Kind::Lanes(lanes) = &connection.kind {
            tracing::debug!(connection = %lanes.id, remote = %way.remote, shard = %io.shard(), "moved");
        }
    }

    /// Whether a packet of the client has come since this was last asked: nobody else can seal one.
    pub(crate) fn is_alive(&mut self, connection: &mut Connection) -> bool {
        let Kind::Lanes(lanes) = &mut connection.kind else { return false };
        let Some(way) = self.ground.wires.way(connection.line) else { return false };
        std::mem::replace(&mut lanes.heard, way.packets_received) < way.packets_received
    }

    /// The carrier is gone, and the session with it.
    pub(crate) fn carrier_closed(&mut self, io: &mut Io<Mail>, line: Line, reason: &dyn std::fmt::Debug, close: Close) {
        self.with(io, line, |_, io, connection| {
            if let Kind::Lanes(lanes) = &connection.kind {
                tracing::debug!(connection = %lanes.id, ?reason, shard = %io.shard(), "gone");
            }
        });
        self.closed(io, line, close);
    }
}
