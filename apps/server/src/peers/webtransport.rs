//! WebTransport sessions on a connection: `/wt` speaks the session protocol in lanes, `/wt/echo` gives back what it gets.

use std::{collections::BTreeMap, time::Instant};

use bytes::Bytes;
use engine::Io;
use handler::Close;
use http::{HeaderMap, Request, StatusCode};
use quic::{
    Handle, StreamId, Web,
    h3::{Code, Piece},
    webtransport,
};

use crate::{
    connection::{Connection, Kind},
    line::{Line, SessionHandle},
    mail::Mail,
    metrics::{Drop, Transport},
    pipe::{LaneId, parting},
    routes::Problem,
    shard::Shard,
};

/// The sessions of a connection and whose each stream is.
#[derive(Default)]
pub(crate) struct Tenants {
    sessions: BTreeMap<StreamId, Tenant>,
    /// Streams of sessions, by what reads them.
    streams: BTreeMap<StreamId, Stream>,
}

/// What a session is for.
#[derive(Clone, Copy)]
enum Tenant {
    /// The session protocol.
    Session(SessionHandle),
    /// An echo.
    Echo {
        /// When something was last given back.
        progress: Instant,
    },
}

/// Whose a stream is.
#[derive(Clone, Copy)]
enum Stream {
    /// A lane of a session.
    Lane { of: StreamId, session: SessionHandle },
    /// What comes on it goes back on `to`.
    Echo { of: StreamId, to: StreamId },
}

impl Tenants {
    pub(crate) fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// When the echo last gave something back that has not done so for the longest time.
    pub(crate) fn progress(&self) -> Option<Instant> {
        let progress = |tenant: &Tenant| match tenant {
            Tenant::Echo { progress } => Some(*progress),
            Tenant::Session(_) => None,
        };
        self.sessions.values().filter_map(progress).min()
    }

    fn echoed(&mut self, session: StreamId, now: Instant) {
        if let Some(Tenant::Echo { progress }) = self.sessions.get_mut(&session) {
            *progress = now;
        }
    }
}

impl Shard {
    fn web(&mut self, handle: Handle) -> Option<&mut Web> {
        let (web, _) = self.ground.wires.quic.as_mut()?.web(handle)?;
        Some(web)
    }

    /// A client of an allowed origin asks for a session.
    pub(crate) fn session_request(
        &mut self,
        io: &mut Io<Mail>,
        connection: &mut Connection,
        id: StreamId,
        request: &Request<()>,
    ) {
        let Kind::Http3(http) = &mut connection.kind else { return };
        let handle = http.handle;
        let path = request.uri().path();
        let problem = match path {
            "/wt" | "/wt/echo" if self.ground.drain.is_some() => Some(
                Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "the server is stopping").retry_after(1),
            ),
            "/wt" | "/wt/echo" => None,
            _ => Some(Problem::new(StatusCode::NOT_FOUND, "not_found", "WebTransport sessions are at /wt")),
        };
        if let Some(problem) = problem {
            return self.http3_answer(io, connection, id, problem.response());
        }
        let Some(quic) = &mut self.ground.wires.quic else { return };
        let tenant =
            if path == "/wt" { Tenant::Session(quic.begin(handle, id)) } else { Tenant::Echo { progress: io.now() } };
        http.tenants.sessions.insert(id, tenant);
        let accepted = self.web(handle).is_some_and(|web| web.http().accept_session(id, HeaderMap::new()).is_ok());
        if !accepted {
            // The head is larger than what the client takes: it hears that there was an answer.
            if let Some(web) = self.web(handle) {
                web.http().reset(id, Code::INTERNAL_ERROR);
            }
            return self.session_gone(io, connection, id);
        }
        self.ground.stats.request(StatusCode::OK.as_u16());
        if let Tenant::Session(session) = tenant {
            let transport = self.ground.wires.quic.as_ref().and_then(|quic| quic.endpoint.peek(handle));
            let name = transport.and_then(quic::Connection::id).map_or_else(String::new, |name| name.to_string());
            self.open_lanes(io, Line::WebTransport(session), format!("{name}/{}", id.0), None, Transport::WebTransport);
        }
    }

    /// A session of this connection ended by the client's wish, or because a rule was broken on it.
    pub(crate) fn session_gone(&mut self, io: &mut Io<Mail>, connection: &mut Connection, id: StreamId) {
        let Kind::Http3(http) = &mut connection.kind else { return };
        let Some(tenant) = http.tenants.sessions.remove(&id) else { return };
        http.tenants.streams.retain(|_, stream| match stream {
            Stream::Lane { of, .. } | Stream::Echo { of, .. } => *of != id,
        });
        http.touch(io.now());
        if let Tenant::Session(session) = tenant {
            self.session_closed(io, Line::WebTransport(session), Close::PeerLeft);
        }
    }

    /// Ends the echoes whose last progress is so.
    pub(crate) fn end_echoes(
        &mut self,
        io: &mut Io<Mail>,
        connection: &mut Connection,
        reason: Close,
        is_so: impl Fn(Instant) -> bool,
    ) {
        let Kind::Http3(http) = &connection.kind else { return };
        let handle = http.handle;
        let ends = |tenant: &Tenant| matches!(tenant, Tenant::Echo { progress } if is_so(*progress));
        let ending = http.tenants.sessions.iter().filter(|(_, tenant)| ends(tenant));
        let ending: Vec<_> = ending.map(|(id, _)| *id).collect();
        let (code, words) = parting(reason);
        for id in ending {
            if let Some(web) = self.web(handle) {
                // One that is gone by itself needs no words.
                let _ = web.http().close_session(id, code, words);
            }
            self.ground.stats.drop_for(if reason == Close::Draining { Drop::Draining } else { Drop::Idle });
            self.session_gone(io, connection, id);
        }
    }

    /// A session is over, by whose wish ever.
    pub(crate) fn session_closed(&mut self, io: &mut Io<Mail>, line: Line, close: Close) {
        let Line::WebTransport(session) = line else { return };
        self.closed(io, line, close);
        let Some(quic) = &mut self.ground.wires.quic else { return };
        let carrier = quic.carrier(session);
        quic.forget(session);
        // If its connection is the one at work, that has done this already.
        if let Some(carrier) = carrier {
            self.with(io, Line::Quic(carrier), |_, io, connection| {
                let Kind::Http3(http) = &mut connection.kind else { return };
                let is_it = |tenant: &Tenant| matches!(tenant, Tenant::Session(other) if *other == session);
                http.tenants.sessions.retain(|_, tenant| !is_it(tenant));
                http.tenants
                    .streams
                    .retain(|_, stream| !matches!(stream, Stream::Lane { session: other, .. } if *other == session));
                http.touch(io.now());
            });
        }
    }

    /// The client opened a stream of a session.
    pub(crate) fn session_stream(
        &mut self,
        io: &mut Io<Mail>,
        connection: &mut Connection,
        id: StreamId,
        session: StreamId,
    ) {
        let Kind::Http3(http) = &mut connection.kind else { return };
        match http.tenants.sessions.get(&session) {
            Some(Tenant::Session(line)) => {
                let line = *line;
                http.tenants.streams.insert(id, Stream::Lane { of: session, session: line });
                let mut is_over = true;
                self.with(io, Line::WebTransport(line), |shard, io, connection| {
                    shard.begin_lane(io, connection, id);
                    is_over = !connection.has_lane(LaneId(id.0));
                });
                // One that was refused is not heard of again.
                if is_over && let Kind::Http3(http) = &mut connection.kind {
                    http.tenants.streams.remove(&id);
                }
            }
            Some(Tenant::Echo { .. }) => {
                let handle = http.handle;
                let Some(web) = self.web(handle) else { return };
                let to = if id.is_uni() { web.http().open_uni(session) } else { Ok(id) };
                match to {
                    Ok(to) => {
                        let Kind::Http3(http) = &mut connection.kind else { return };
                        http.tenants.streams.insert(id, Stream::Echo { of: session, to });
                    }
                    Err(_) => web.http().stop(id, webtransport::code::to_http(parting(Close::OutOfLimit).0)),
                }
            }
            None => {}
        }
    }

    /// The first stream in both directions is the ordered lane, and those to us are transfers.
    fn begin_lane(&mut self, io: &mut Io<Mail>, connection: &mut Connection, id: StreamId) {
        let id = LaneId(id.0);
        let Kind::Lanes(lanes) = &mut connection.kind else { return };
        if id.is_bulk() {
            return self.begin_bulk(io, connection, id);
        }
        if lanes.ordered_id.is_none() {
            lanes.ordered_id = Some(id);
        } else if let Some(mut pipe) = self.ground.wires.pipe(connection.line) {
            pipe.refuse(id);
        }
    }

    /// A stream of a session has something to read.
    pub(crate) fn session_readable(&mut self, io: &mut Io<Mail>, connection: &mut Connection, id: StreamId) {
        let Kind::Http3(http) = &mut connection.kind else { return };
        match http.tenants.streams.get(&id) {
            Some(Stream::Lane { session, .. }) => {
                let line = Line::WebTransport(*session);
                let mut is_over = true;
                self.with(io, line, |shard, io, connection| {
                    shard.read_lane(io, connection, LaneId(id.0));
                    is_over = !connection.has_lane(LaneId(id.0));
                });
                if is_over && let Kind::Http3(http) = &mut connection.kind {
                    http.tenants.streams.remove(&id);
                }
            }
            Some(Stream::Echo { of, to }) => {
                let (handle, of, to) = (http.handle, *of, *to);
                let Some(web) = self.web(handle) else { return };
                let before = web.peek().in_bytes();
                let is_over = echo(web, id, to);
                if is_over || web.peek().in_bytes() < before {
                    http.tenants.echoed(of, io.now());
                }
                if is_over {
                    http.tenants.streams.remove(&id);
                }
            }
            None => {}
        }
    }

    /// A stream of a session has room again.
    pub(crate) fn session_writable(&mut self, io: &mut Io<Mail>, connection: &mut Connection, id: StreamId) {
        let Kind::Http3(http) = &mut connection.kind else { return };
        if let Some(Stream::Lane { session, .. }) = http.tenants.streams.get(&id) {
            let line = Line::WebTransport(*session);
            return self.with(io, line, |shard, io, connection| {
                connection.resume(io.now(), LaneId(id.0), &mut shard.ground.wires);
            });
        }
        let source = http.tenants.streams.iter().find_map(|(source, stream)| match stream {
            Stream::Echo { to, .. } if *to == id => Some(*source),
            Stream::Lane { .. } | Stream::Echo { .. } => None,
        });
        match source {
            Some(source) => self.session_readable(io, connection, source),
            // A transfer to the client: it is in no list, and only its session knows it.
            None => self.each_session(io, connection, |shard, io, connection| {
                connection.resume(io.now(), LaneId(id.0), &mut shard.ground.wires);
            }),
        }
    }

    fn each_session(
        &mut self,
        io: &mut Io<Mail>,
        connection: &Connection,
        act: impl Fn(&mut Self, &mut Io<Mail>, &mut Connection),
    ) {
        let Kind::Http3(http) = &connection.kind else { return };
        let sessions = http.tenants.sessions.values();
        let sessions: Vec<_> = sessions
            .filter_map(|tenant| match tenant {
                Tenant::Session(session) => Some(*session),
                Tenant::Echo { .. } => None,
            })
            .collect();
        for session in sessions {
            self.with(io, Line::WebTransport(session), &act);
        }
    }

    /// The client gave up a stream of a session.
    pub(crate) fn session_stream_reset(&mut self, io: &mut Io<Mail>, connection: &mut Connection, id: StreamId) {
        let Kind::Http3(http) = &mut connection.kind else { return };
        match http.tenants.streams.remove(&id) {
            Some(Stream::Lane { session, .. }) => {
                self.with(io, Line::WebTransport(session), |shard, io, connection| {
                    shard.lane_reset(io, connection, LaneId(id.0));
                })
            }
            Some(Stream::Echo { to, .. }) => {
                let handle = http.handle;
                if let Some(web) = self.web(handle) {
                    web.http().reset_sending(to, webtransport::code::to_http(0));
                }
            }
            None => {}
        }
    }

    /// The client wants no more of a stream of a session.
    pub(crate) fn session_stream_stopped(&mut self, io: &mut Io<Mail>, connection: &mut Connection, id: StreamId) {
        let Kind::Http3(http) = &mut connection.kind else { return };
        match http.tenants.streams.get(&id) {
            Some(Stream::Lane { session, .. }) => {
                let line = Line::WebTransport(*session);
                self.with(io, line, |shard, io, connection| shard.lane_stopped(io, connection, LaneId(id.0)));
            }
            Some(Stream::Echo { .. }) | None => {
                let handle = http.handle;
                let of_it = |stream: &Stream| matches!(stream, Stream::Echo { to, .. } if *to == id);
                let sources = http.tenants.streams.iter().filter(|(_, stream)| of_it(stream));
                let sources: Vec<_> = sources.map(|(source, _)| *source).collect();
                http.tenants.streams.retain(|_, stream| !of_it(stream));
                if sources.is_empty() {
                    return self.each_session(io, connection, |shard, io, connection| {
                        shard.lane_stopped(io, connection, LaneId(id.0));
                    });
                }
                for source in sources {
                    if let Some(web) = self.web(handle) {
                        web.http().stop(source, webtransport::code::to_http(0));
                    }
                }
            }
        }
    }

    /// A datagram of a session.
    pub(crate) fn session_datagram(
        &mut self,
        io: &mut Io<Mail>,
        connection: &mut Connection,
        id: StreamId,
        payload: &[u8],
    ) {
        let Kind::Http3(http) = &mut connection.kind else { return };
        match http.tenants.sessions.get(&id) {
            Some(Tenant::Session(session)) => {
                let line = Line::WebTransport(*session);
                self.with(io, line, |shard, io, connection| shard.hear_datagram(io, connection, payload));
            }
            Some(Tenant::Echo { .. }) => {
                let handle = http.handle;
                let Some(web) = self.web(handle) else { return };
                // What finds no room is lost, as datagrams are.
                let _ = web.http().send_datagram(id, payload);
                // They are no excuse for whoever does not read his streams.
                if web.peek().out_bytes() == 0 {
                    http.tenants.echoed(id, io.now());
                }
            }
            None => {}
        }
    }
}

/// Gives back what came on `from`, as far as there is room on `to`; whether that was all.
fn echo(web: &mut Web, from: StreamId, to: StreamId) -> bool {
    while web.http().ask_room(to) {
        let sent = match web.http().read(from) {
            Some(Piece::Data(bytes)) => web.http().send(to, bytes, false),
            Some(Piece::Trailers(_)) => Ok(()),
            Some(Piece::End) => {
                // An end is always taken, or nobody waits for it.
                let _ = web.http().send(to, Bytes::new(), true);
                return true;
            }
            None => return false,
        };
        if sent.is_err() {
            return true;
        }
    }
    false
}
