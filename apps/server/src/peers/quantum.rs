//! Sessions over Quantum: what its endpoint reports.

use engine::Io;
use handler::Close;
use quantum::{CloseReason, Event, Handle, StreamId};

use crate::{
    connection::Connection,
    lane::FIRST,
    line::Line,
    mail::Mail,
    metrics::{Drop, Transport},
    pipe::{LaneId, parting},
    shard::Shard,
};

/// The ordered lane, as Quantum calls it.
const ORDERED: StreamId = StreamId(FIRST.0);

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
            Event::Connected => {
                let Some(transport) = self.ground.wires.quantum.as_ref().and_then(|quantum| quantum.peek(handle))
                else {
                    return;
                };
                let id = transport.id().to_string();
                self.open_lanes(io, line, id, Some(FIRST), Transport::Quantum);
            }
            Event::Opened(id) if LaneId(id.0).is_bulk() => self.with(io, line, |shard, io, connection| {
                shard.begin_bulk(io, connection, LaneId(id.0));
            }),
            Event::Readable(id) => self.with(io, line, |shard, io, connection| {
                shard.read_lane(io, connection, LaneId(id.0));
            }),
            Event::Datagram => self.with(io, line, |shard, io, connection| shard.read_datagrams(io, connection)),
            Event::Message => self.with(io, line, |shard, io, connection| shard.refuse_messages(io, connection)),
            Event::Finished(ORDERED) => self.with(io, line, |shard, io, connection| {
                // It has all there was to say.
                if connection.closing.is_some() {
                    connection.close(io, &mut shard.ground.wires);
                }
            }),
            Event::Stopped { id, .. } => self.with(io, line, |shard, io, connection| {
                shard.lane_stopped(io, connection, LaneId(id.0));
            }),
            Event::Reset { id, .. } => self.with(io, line, |shard, io, connection| {
                shard.lane_reset(io, connection, LaneId(id.0));
            }),
            Event::Writable(id) => self.with(io, line, |shard, io, connection| {
                connection.resume(io.now(), LaneId(id.0), &mut shard.ground.wires);
            }),
            Event::Moved => self.with(io, line, |shard, io, connection| shard.moved(io, connection)),
            // The client's first stream shows itself with its first bytes, and that the client wants to go it says in its
            // session. A bulk answer for which no stream was free went the ordered way. Messages are not sent.
            Event::Opened(_)
            | Event::Finished(_)
            | Event::StreamsAvailable(_)
            | Event::MessagesWritable
            | Event::GoAway { .. } => {}
            Event::Closed(reason) => self.carrier_closed(io, line, &reason, close_of(&reason)),
        }
    }

    /// The session has no use for Quantum's messages.
    fn refuse_messages(&mut self, io: &mut Io<Mail>, connection: &mut Connection) {
        self.ground.stats.drop_for(Drop::Frame);
        self.abandon(io, connection, Close::PeerMisbehaved);
    }

    /// Starts to drain: no new connections, and those that are open are told.
    pub(crate) fn drain_quantum(&mut self, io: &mut Io<Mail>) {
        if let Some(endpoint) = &mut self.ground.wires.quantum {
            let (code, reason) = parting(Close::Draining);
            endpoint.drain(io.now(), code.into(), reason.as_bytes());
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
