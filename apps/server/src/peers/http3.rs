//! HTTP/3 on a connection: requests to routes and jobs, answers back on their streams.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use engine::{Io, ShardId};
use handler::Close;
use http::{Method, Request, Response, StatusCode};
use quic::{
    Handle, StreamId,
    h3::{Code, Event, Piece, Prepared},
};
use ringshard_http::RequestId;

use crate::{
    connection::{Caller, Connection, Kind},
    job::Asked,
    mail::Mail,
    metrics::Drop,
    peers::webtransport::Tenants,
    routes::{self, Problem, Routed},
    shard::{Ground, Shard},
};

/// What a connection that speaks HTTP/3 is in the middle of.
pub(crate) struct Http3 {
    pub(crate) handle: Handle,
    /// Requests whose body is not whole yet.
    open: BTreeMap<StreamId, Open>,
    /// WebTransport sessions and their streams.
    pub(crate) tenants: Tenants,
    /// When the last request was answered, or the last session ended.
    last: Instant,
    /// Once it was told to go.
    leaving: Option<Leaving>,
}

/// A connection that was told to go.
#[derive(Clone, Copy)]
struct Leaving {
    /// When it was told so, or was last seen to read what waits for it.
    since: Instant,
    /// How many bytes that was then.
    waiting: usize,
}

/// A request whose body is on its way.
struct Open {
    request: Request<()>,
    body: BytesMut,
    since: Instant,
    /// It is answered already.
    refused: Option<Refused>,
}

/// What comes of a body whose request is answered already.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Refused {
    /// Bytes that were dropped.
    dropped: usize,
    /// When the last of them came.
    heard: Instant,
}

impl Open {
    /// When no more of it is waited for.
    fn until(&self) -> Instant {
        let whole = self.since + BODY_MAX;
        self.refused.map_or(whole, |refused| whole.min(refused.heard + REFUSED_SILENCE))
    }
}

/// Bytes of a refused body that are read and dropped before its client is told to stop. Chromium takes that badly: it
/// sends no more, and waits for ever to be able to before it looks at the answer.
const REFUSED_MAX: usize = 16 << 20;

/// Silence after which the client of a refused body is told to stop. curl gives up sending when it is refused, and 1 in
/// some hundred times it forgets to end its side; until its stream is over it waits, though it has the whole answer.
const REFUSED_SILENCE: Duration = Duration::from_secs(2);

/// How long a body may take, as over HTTP/1.1 and 2.
const BODY_MAX: Duration = Duration::from_secs(30);

impl Http3 {
    pub(crate) fn new(handle: Handle, now: Instant) -> Self {
        Self { handle, open: BTreeMap::new(), tenants: Tenants::default(), last: now, leaving: None }
    }

    /// Something ended at this time.
    pub(crate) fn touch(&mut self, now: Instant) {
        self.last = now;
    }

    /// When something is due, apart from what HTTP/3 itself waits for.
    pub(crate) fn deadline(&self, idle: Duration) -> Option<Instant> {
        let body = self.open.values().map(Open::until).min();
        let echo = self.tenants.progress().map(|progress| progress + idle);
        let quiet = self.leaving.map_or(self.last, |leaving| leaving.since.max(self.last));
        let silence = (self.open.is_empty() && self.tenants.is_empty()).then(|| quiet + idle);
        [body, echo, silence].into_iter().flatten().min()
    }

    /// A request whose body is late, and whether it is answered already.
    fn late(&self, now: Instant) -> Option<(StreamId, bool)> {
        let mut late = self.open.iter().filter(|(_, open)| open.until() <= now);
        late.next().map(|(id, open)| (*id, open.refused.is_some()))
    }
}

impl Shard {
    /// Carries out what HTTP/3 wants of QUIC, and answers what was asked.
    pub(crate) fn serve_http3(&mut self, io: &mut Io<Mail>, connection: &mut Connection) {
        let Kind::Http3(http) = &connection.kind else { return };
        let handle = http.handle;
        loop {
            let Some((web, transport)) = self.ground.wires.quic.as_mut().and_then(|quic| quic.web(handle)) else {
                return;
            };
            web.carry_out(io.now(), transport);
            let Some(event) = web.http().poll_event() else {
                web.flush(io.now(), transport);
                break;
            };
            self.http3_event(io, connection, event);
        }
        if let Some(quic) = &mut self.ground.wires.quic {
            quic.settled(handle);
        }
    }

    fn http3_event(&mut self, io: &mut Io<Mail>, connection: &mut Connection, event: Event) {
        match event {
            Event::Request { id, request, early, .. } => {
                self.opened(connection);
                self.http3_request(io, connection, id, request, early);
            }
            Event::Readable(id) => self.http3_readable(io, connection, id),
            Event::Cancelled { id, .. } => self.http3_gone(io, connection, id),
            Event::Refused { id, why, .. } => {
                self.ground.stats.drop_for(Drop::Http);
                tracing::trace!(shard = %io.shard(), stream = id.0, why, "refused over HTTP/3");
                self.http3_gone(io, connection, id);
            }
            Event::SessionRequest { id, request } => {
                self.opened(connection);
                self.session_request(io, connection, id, &request);
            }
            Event::SessionClosed { id, .. } => self.session_gone(io, connection, id),
            Event::Stream { id, session } => self.session_stream(io, connection, id, session),
            Event::StreamReset { id, .. } => self.session_stream_reset(io, connection, id),
            Event::StreamStopped { id, .. } => self.session_stream_stopped(io, connection, id),
            Event::Writable(id) => self.session_writable(io, connection, id),
            Event::Datagram { id, payload } => self.session_datagram(io, connection, id, &payload),
            Event::Closed { code, why } => {
                self.ground.stats.drop_for(if code == Code::NO_ERROR { Drop::Idle } else { Drop::Http });
                tracing::debug!(shard = %io.shard(), code = code.0, why, "HTTP/3 closed its connection");
            }
            // A client that wants its session ended ends it.
            Event::SessionDraining(_)
            | Event::Settings(_)
            | Event::GoAway
            | Event::Response { .. }
            | Event::SessionOpen { .. } => {}
        }
    }

    fn http3_request(
        &mut self,
        io: &mut Io<Mail>,
        connection: &mut Connection,
        id: StreamId,
        request: Request<()>,
        early: bool,
    ) {
        if request.method() == Method::CONNECT {
            let problem = Problem::new(StatusCode::NOT_IMPLEMENTED, "unimplemented", "this is no proxy");
            self.http3_answer(io, connection, id, problem.response());
            return self.http3_stop(connection, id);
        }
        let Kind::Http3(http) = &mut connection.kind else { return };
        let is_refused = early && ![Method::GET, Method::HEAD].contains(request.method());
        let refused = is_refused.then_some(Refused { dropped: 0, heard: io.now() });
        if let Some((web, _)) = self.ground.wires.quic.as_mut().and_then(|quic| quic.web(http.handle))
            && !is_refused
            && web.http().is_at_end(id)
        {
            let _ = web.http().read(id);
            return self.http3_whole(io, connection, id, &request.map(|()| Bytes::new()));
        }
        http.open.insert(id, Open { request, body: BytesMut::new(), since: io.now(), refused });
        if is_refused {
            let problem = Problem::new(StatusCode::TOO_EARLY, "unavailable", "send this after the handshake");
            self.http3_answer(io, connection, id, problem.response());
        }
        self.http3_readable(io, connection, id);
    }

    /// Reads a body, or a stream of a session.
    fn http3_readable(&mut self, io: &mut Io<Mail>, connection: &mut Connection, id: StreamId) {
        let body_max = self.ground.limits.http_body_bytes;
        let Kind::Http3(http) = &mut connection.kind else { return };
        let Some(open) = http.open.get_mut(&id) else {
            return self.session_readable(io, connection, id);
        };
        let Some((web, _)) = self.ground.wires.quic.as_mut().and_then(|quic| quic.web(http.handle)) else { return };
        loop {
            match (web.http().read(id), &mut open.refused) {
                (Some(Piece::Data(bytes)), Some(refused)) => {
                    refused.dropped += bytes.len();
                    refused.heard = io.now();
                    if refused.dropped > REFUSED_MAX {
                        return self.http3_stop(connection, id);
                    }
                }
                (Some(Piece::Data(bytes)), None) if open.body.len() + bytes.len() > body_max => {
                    let refused = Refused { dropped: bytes.len(), heard: io.now() };
                    (open.body, open.refused) = (BytesMut::new(), Some(refused));
                    self.ground.stats.drop_for(Drop::Http);
                    let message = format!("the body is longer than {body_max} bytes");
                    let problem = Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "out_of_range", message);
                    self.http3_answer(io, connection, id, problem.response());
                    return self.http3_readable(io, connection, id);
                }
                (Some(Piece::Data(bytes)), None) => open.body.extend_from_slice(&bytes),
                (Some(Piece::Trailers(_)), _) => {}
                (Some(Piece::End), _) => break,
                (None, _) => return,
            }
        }
        if let Some(Open { request, body, refused: None, .. }) = http.open.remove(&id) {
            self.http3_whole(io, connection, id, &request.map(|()| body.freeze()));
        }
    }

    fn http3_whole(&mut self, io: &mut Io<Mail>, connection: &mut Connection, id: StreamId, request: &Request<Bytes>) {
        if let Some(answer) = self.ground.coded(io, connection.caller(), request) {
            return self.http3_put(io, connection, id, &answer);
        }
        match self.ground.with_context(io, connection.caller(), |context| routes::route(context, request)) {
            Routed::Foreign(response) => {
                self.ground.stats.drop_for(Drop::Origin);
                self.http3_send(io, connection, id, response);
            }
            Routed::Respond(response) => {
                let answer = self.ground.code(io, connection.caller(), Some(request), response);
                self.http3_put(io, connection, id, &answer);
            }
            Routed::Job(job) => {
                let asked = Asked { line: connection.line, request: RequestId(id.0), job };
                io.mail(ShardId::CONTROL, Mail::Asked(Box::new(asked)));
            }
        }
    }

    /// Reads no more of a body; its request is answered.
    fn http3_stop(&mut self, connection: &mut Connection, id: StreamId) {
        let Kind::Http3(http) = &mut connection.kind else { return };
        http.open.remove(&id);
        if let Some((web, _)) = self.ground.wires.quic.as_mut().and_then(|quic| quic.web(http.handle)) {
            web.http().stop(id, Code::NO_ERROR);
        }
    }

    /// Answers with the headers that all answers have.
    pub(crate) fn http3_answer(
        &mut self,
        io: &mut Io<Mail>,
        connection: &mut Connection,
        id: StreamId,
        mut response: Response<Bytes>,
    ) {
        self.ground.with_context(io, connection.caller(), |context| routes::finish(context, response.headers_mut()));
        self.http3_send(io, connection, id, response);
    }

    pub(crate) fn http3_send(
        &mut self,
        io: &Io<Mail>,
        connection: &mut Connection,
        id: StreamId,
        response: Response<Bytes>,
    ) {
        let answer = self.ground.code(io, connection.caller(), None, response);
        self.http3_put(io, connection, id, &answer);
    }

    fn http3_put(&mut self, io: &Io<Mail>, connection: &mut Connection, id: StreamId, answer: &Prepared) {
        self.ground.stats.request(answer.status().as_u16());
        let Kind::Http3(http) = &mut connection.kind else { return };
        http.last = io.now();
        if let Some((web, _)) = self.ground.wires.quic.as_mut().and_then(|quic| quic.web(http.handle)) {
            // Gone: nobody waits for it. Too large for what the client takes: it hears that there was an answer.
            if let Err(quic::h3::SendError::TooLarge) = web.http().answer_prepared(id, answer) {
                web.http().reset(id, Code::INTERNAL_ERROR);
            }
        }
    }

    fn http3_gone(&mut self, io: &mut Io<Mail>, connection: &mut Connection, id: StreamId) {
        let Kind::Http3(http) = &mut connection.kind else { return };
        if http.open.remove(&id).is_none() {
            self.session_gone(io, connection, id);
        }
    }

    /// Something is due: a body that is late, silence, or what HTTP/3 waits for.
    pub(crate) fn http3_overdue(&mut self, io: &mut Io<Mail>, connection: &mut Connection) {
        let (now, limits) = (io.now(), &self.ground.limits);
        let idle = if connection.half_open { limits.hello_secs } else { limits.http_idle_secs };
        while let Kind::Http3(http) = &connection.kind
            && let Some((id, is_answered)) = http.late(now)
        {
            if !is_answered {
                self.ground.stats.drop_for(Drop::Http);
                let problem = Problem::new(StatusCode::REQUEST_TIMEOUT, "deadline_exceeded", "the body took too long");
                self.http3_answer(io, connection, id, problem.response());
            }
            self.http3_stop(connection, id);
        }
        self.end_echoes(io, connection, Close::PeerSilent, |progress| progress + idle <= now);
        self.http3_silent(io, connection, idle);
        let Kind::Http3(http) = &connection.kind else { return };
        if let Some((web, transport)) = self.ground.wires.quic.as_mut().and_then(|quic| quic.web(http.handle)) {
            web.handle_timeout(now, transport);
        }
        self.serve_http3(io, connection);
    }

    /// A connection on which nothing is open is told to go; one that does not even read that is closed.
    fn http3_silent(&mut self, io: &mut Io<Mail>, connection: &mut Connection, idle: Duration) {
        let now = io.now();
        let Kind::Http3(http) = &mut connection.kind else { return };
        let is_quiet = http.open.is_empty() && http.tenants.is_empty();
        if !is_quiet || http.deadline(idle).is_none_or(|at| at > now) {
            return;
        }
        let Some((web, _)) = self.ground.wires.quic.as_mut().and_then(|quic| quic.web(http.handle)) else { return };
        match http.leaving {
            None => {
                web.http().drain(now);
                web.http().shutdown(now);
            }
            // Slow, but it reads: the rest of an answer is worth waiting for.
            Some(before) if web.peek().out_bytes() < before.waiting => {}
            Some(_) => {
                self.ground.stats.drop_for(Drop::Idle);
                return self.abandon(io, connection, Close::PeerSilent);
            }
        }
        http.leaving = Some(Leaving { since: now, waiting: web.peek().out_bytes() });
    }

    /// The server is stopping: the client learns of it, and when what is open is done, the connection ends.
    pub(crate) fn drain_http3(&mut self, io: &mut Io<Mail>, connection: &mut Connection, is_last: bool) {
        if is_last {
            self.end_echoes(io, connection, Close::Draining, |_| true);
        }
        let Kind::Http3(http) = &mut connection.kind else { return };
        let Some((web, _)) = self.ground.wires.quic.as_mut().and_then(|quic| quic.web(http.handle)) else { return };
        if is_last {
            web.http().shutdown(io.now());
        } else {
            web.http().drain(io.now());
        }
        http.leaving = Some(Leaving { since: io.now(), waiting: web.peek().out_bytes() });
        self.serve_http3(io, connection);
    }
}

impl Ground {
    /// Codes an answer, or finds it coded.
    fn code(
        &mut self,
        io: &Io<Mail>,
        caller: Caller,
        request: Option<&Request<Bytes>>,
        response: Response<Bytes>,
    ) -> Prepared {
        self.renew_coded(io, caller);
        self.coded.code(request, response)
    }

    /// The answer to a request that was asked for in this second already, and is the same for everybody.
    fn coded(&mut self, io: &Io<Mail>, caller: Caller, request: &Request<Bytes>) -> Option<Prepared> {
        self.renew_coded(io, caller);
        self.coded.find(request).cloned()
    }

    /// Forgets what is of another second, or of a certificate of before.
    fn renew_coded(&mut self, io: &Io<Mail>, caller: Caller) {
        let (second, certificate) = (io.wall_ms() / 1000, self.wires.quic.as_ref().map_or(0, |quic| quic.certificate));
        if !self.coded.is_of(second, certificate) {
            let mut coded = std::mem::take(&mut self.coded);
            self.with_context(io, caller, |context| coded.renew(second, certificate, context));
            self.coded = coded;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_body_is_due_first_whatever_its_stream() {
        let start = Instant::now();
        let after = |secs| start + Duration::from_secs(secs);
        let mut http = Http3::new(Handle { index: 0, generation: 0 }, start);
        // The lower id came later, as packets do.
        let talks = Refused { dropped: 0, heard: after(40) };
        for (id, since, refused) in [(0, after(5), None), (4, start, Some(talks))] {
            let request = Request::new(());
            http.open.insert(StreamId(id), Open { request, body: BytesMut::new(), since, refused });
        }
        assert_eq!(http.deadline(Duration::ZERO), Some(start + BODY_MAX));
        assert_eq!(http.late(start + BODY_MAX), Some((StreamId(4), true)));
        http.open.remove(&StreamId(4));
        assert_eq!((http.deadline(Duration::ZERO), http.late(start + BODY_MAX)), (Some(after(5) + BODY_MAX), None));
    }

    #[test]
    fn a_refused_body_is_waited_for_as_long_as_it_comes() {
        let start = Instant::now();
        let after = |secs| start + Duration::from_secs(secs);
        let until = |heard| {
            let refused = Some(Refused { dropped: 1, heard });
            Open { request: Request::new(()), body: BytesMut::new(), since: start, refused }.until()
        };
        assert_eq!(until(start), start + REFUSED_SILENCE);
        assert_eq!(until(after(10)), after(10) + REFUSED_SILENCE);
        assert_eq!(until(after(29)), start + BODY_MAX);
    }
}
