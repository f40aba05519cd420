//! What the QUIC endpoint reports, handed to what is spoken on each connection: HTTP/3, or a session in lanes.

use engine::Io;
use handler::Close;
use quic::{CloseReason, Event, Handle};

use crate::{
    connection::{Connection, Kind},
    lane::FIRST,
    line::Line,
    mail::Mail,
    metrics::{Drop, Transport},
    pipe::LaneId,
    shard::Shard,
};

/// The protocols on QUIC, the best first.
pub(crate) const ALPN: &[&[u8]] = &[b"h3", b"ringshard/1"];

impl Shard {
    /// Works off what the endpoint has to report, and what HTTP/3 wants of it; whether there was anything.
    pub(crate) fn serve_quic(&mut self, io: &mut Io<Mail>) -> bool {
        let mut any = false;
        while let Some((handle, event)) = self.ground.wires.quic.as_mut().and_then(|quic| quic.endpoint.poll_event()) {
            self.quic_event(io, handle, event);
            any = true;
        }
        while let Some(handle) = self.ground.wires.quic.as_mut().and_then(|quic| quic.next_stirred()) {
            self.with(io, Line::Quic(handle), Self::serve_http3);
            any = true;
        }
        while let Some(line) = self.ground.wires.quic.as_mut().and_then(|quic| quic.next_ended()) {
            self.session_closed(io, line, Close::PeerLeft);
            any = true;
        }
        if any {
            self.apply(io);
        }
        any
    }

    fn quic_event(&mut self, io: &mut Io<Mail>, handle: Handle, event: Event) {
        let line = Line::Quic(handle);
        match event {
            Event::Early | Event::Connected => self.quic_open(io, handle, &event),
            Event::Closed(reason) => self.quic_closed(io, handle, &reason),
            // It came in 0-RTT, before the session that it is for.
            event if !self.connections.has(line) => {
                if let Some(quic) = &mut self.ground.wires.quic {
                    quic.keep_early(handle, event);
                }
            }
            Event::Moved => self.with(io, line, |shard, io, connection| shard.moved(io, connection)),
            // What is due then is looked at when its HTTP/3 is served.
            event if self.hand_on(io, handle, &event) => {}
            event => self.with(io, line, |shard, io, connection| match &connection.kind {
                Kind::Http3(_) => {}
                Kind::Lanes(_) => shard.quic_lane(io, connection, event),
                Kind::Start(_) | Kind::Http(_) | Kind::Framed(_) | Kind::WebSocket(_) => {}
            }),
        }
    }

    /// The handshake has come so far that it is known what is spoken.
    fn quic_open(&mut self, io: &mut Io<Mail>, handle: Handle, event: &Event) {
        let Some(quic) = &mut self.ground.wires.quic else { return };
        let Some(transport) = quic.endpoint.peek(handle) else { return };
        let (address, id) = (transport.remote().ip(), transport.id().map_or_else(String::new, |id| id.to_string()));
        match (transport.alpn(), event) {
            (b"h3", _) => {
                if !self.connections.has(Line::Quic(handle)) {
                    quic.join(io.now(), handle);
                    tracing::debug!(connection = %id, remote = %address, shard = %io.shard(), "HTTP/3 is up");
                    self.ground.stats.open(Transport::Http3);
                    self.admit(io, Box::new(Connection::http3(handle, address, io.now())));
                }
                self.hand_on(io, handle, event);
                if *event == Event::Connected
                    && let Some(drain) = &self.ground.drain
                {
                    let is_last = drain.told;
                    self.ground.stats.drop_for(Drop::Draining);
                    self.with(io, Line::Quic(handle), |shard, io, connection| {
                        shard.drain_http3(io, connection, is_last);
                    });
                }
            }
            // What came in 0-RTT may be a replay: a session is for whoever has finished the handshake.
            (b"ringshard/1", Event::Connected) => {
                let (line, early) = (Line::Quic(handle), quic.take_early(handle));
                self.open_lanes(io, line, id, Some(FIRST), Transport::Quic);
                self.with(io, line, |shard, io, connection| {
                    // The hello is there, whatever of the rest came before it.
                    shard.read_lane(io, connection, FIRST);
                    early.into_iter().for_each(|event| shard.quic_lane(io, connection, event));
                });
            }
            (b"ringshard/1", _) => {}
            // Without a common protocol TLS gives up by itself; this client has offered none.
            _ => {
                self.ground.stats.drop_for(Drop::Protocol);
                if let Some(transport) = quic.endpoint.connection(handle) {
                    transport.close(0, b"no application protocol");
                }
            }
        }
    }

    /// Hands an event of the connection to its HTTP/3, which is served at the end of the lap; `false`: it speaks none.
    fn hand_on(&mut self, io: &Io<Mail>, handle: Handle, event: &Event) -> bool {
        let web = self.ground.wires.quic.as_mut().and_then(|quic| quic.web(handle));
        web.map(|(web, transport)| web.handle(io.now(), transport, event)).is_some()
    }

    fn quic_lane(&mut self, io: &mut Io<Mail>, connection: &mut Connection, event: Event) {
        match event {
            Event::Opened(id) if LaneId(id.0).is_bulk() => self.begin_bulk(io, connection, LaneId(id.0)),
            Event::Readable(id) => self.read_lane(io, connection, LaneId(id.0)),
            Event::Datagram => self.read_datagrams(io, connection),
            Event::Stopped { id, .. } => self.lane_stopped(io, connection, LaneId(id.0)),
            Event::Reset { id, .. } => self.lane_reset(io, connection, LaneId(id.0)),
            Event::Writable(id) => connection.resume(io.now(), LaneId(id.0), &mut self.ground.wires),
            // A bulk answer for which no stream was free went the ordered way.
            Event::Early
            | Event::Connected
            | Event::Opened(_)
            | Event::StreamsAvailable(_)
            | Event::Moved
            | Event::Closed(_) => {}
        }
    }

    fn quic_closed(&mut self, io: &mut Io<Mail>, handle: Handle, reason: &CloseReason) {
        let close = close_of(reason);
        for session in self.ground.wires.quic.as_mut().map(|quic| quic.part(handle)).unwrap_or_default() {
            self.session_closed(io, Line::WebTransport(session), close);
        }
        self.carrier_closed(io, Line::Quic(handle), reason, close);
    }

    /// Starts to drain: no new connections. Those that are open are told by what they speak.
    pub(crate) fn drain_quic(&mut self) {
        if let Some(quic) = &mut self.ground.wires.quic {
            quic.endpoint.drain();
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
        CloseReason::Transport { .. } => Close::PeerMisbehaved,
    }
}
