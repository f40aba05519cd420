//! HTTP on a connection: requests to routes and jobs, answers back in order, and the upgrade to WebSocket.

use bytes::BytesMut;
use engine::{Io, ShardId};
use handler::Close;
use http::{HeaderMap, Request, StatusCode, header};
use ringshard_http::{Event, RequestId};

use crate::{
    compat::{Foreign, Protocol},
    connection::{Caller, Connection, Kind, Socket},
    dialect::Dialect,
    housekeeping::{Done, Identity},
    job::{self, Answer, Asked},
    login::Stands,
    mail::Mail,
    metrics::{Drop, Transport},
    routes::{self, Context, Problem, Routed},
    shard::{Ground, Shard},
};

impl Shard {
    /// Answers what was asked, and sends what there is to send.
    pub(crate) fn serve_http(&mut self, io: &mut Io<Mail>, connection: &mut Connection) {
        loop {
            self.poll_http(io, connection);
            // Requests may have waited for room in the output.
            if !self.flush_http(io, connection) || connection.closing.is_some() {
                break;
            }
        }
    }

    fn poll_http(&mut self, io: &mut Io<Mail>, connection: &mut Connection) {
        while let Kind::Http(http) = &mut connection.kind {
            match http.poll() {
                Some(Event::Request { id, request }) => {
                    self.opened(connection);
                    self.request(io, connection, id, &request);
                }
                Some(Event::Upgrade { id, request }) => {
                    self.opened(connection);
                    self.upgrade(io, connection, id, &request);
                }
                Some(Event::Refused(_)) => self.ground.stats.drop_for(Drop::Http),
                None => break,
            }
        }
    }

    /// Sends output while the queue is short; the rest waits for `Sent`. Whether there was any.
    fn flush_http(&mut self, io: &mut Io<Mail>, connection: &mut Connection) -> bool {
        let mut any = false;
        while connection.queued < self.ground.limits.queue_soft_bytes {
            let Kind::Http(http) = &mut connection.kind else { return false };
            let Some(piece) = http.take_piece(io.now(), PIECE_BYTES) else { break };
            connection.write_shared(io, &piece, &mut self.ground.wires);
            any = true;
        }
        let Kind::Http(http) = &mut connection.kind else { return false };
        let ends = http.wants_close();
        let pause = !http.wants_input();
        if ends {
            self.end(io, connection, Close::PeerLeft);
        } else if pause != connection.paused {
            connection.paused = pause;
            connection.pause(io, pause);
        }
        any
    }

    /// The control thread has answered.
    pub(crate) fn answered(&mut self, io: &mut Io<Mail>, connection: &mut Connection, id: RequestId, answer: Answer) {
        let mut response = match answer {
            Ok(Done::Welcome(identity)) => self.ground.token(io, &identity),
            Ok(Done::Goodbye) => job::dismissed(),
            Err(refusal) => job::refused(refusal),
        };
        let caller = connection.caller();
        self.ground.with_context(io, caller, |context| routes::finish(context, response.headers_mut()));
        match &mut connection.kind {
            Kind::Http(http) => {
                self.ground.stats.request(response.status().as_u16());
                http.respond(io.now(), id, response);
                self.serve_http(io, connection);
            }
            Kind::Http3(_) => self.http3_send(io, connection, quic::StreamId(id.0), response),
            // It has become a session meanwhile.
            Kind::Start(_) | Kind::Framed(_) | Kind::WebSocket(_) | Kind::Lanes(_) => {}
        }
    }

    fn request(
        &mut self,
        io: &mut Io<Mail>,
        connection: &mut Connection,
        id: RequestId,
        request: &Request<bytes::Bytes>,
    ) {
        let caller = connection.caller();
        let Kind::Http(http) = &mut connection.kind else { return };
        match self.ground.with_context(io, caller, |context| routes::route(context, request)) {
            Routed::Foreign(response) => {
                self.ground.stats.drop_for(Drop::Origin);
                self.ground.stats.request(response.status().as_u16());
                http.respond(io.now(), id, response);
            }
            Routed::Respond(response) => {
                self.ground.stats.request(response.status().as_u16());
                http.respond(io.now(), id, response);
            }
            Routed::Job(job) => {
                let asked = Asked { line: connection.line, request: id, job };
                io.mail(ShardId::CONTROL, Mail::Asked(Box::new(asked)));
            }
        }
    }

    fn upgrade(
        &mut self,
        io: &mut Io<Mail>,
        connection: &mut Connection,
        id: RequestId,
        request: &Request<bytes::Bytes>,
    ) {
        let caller = connection.caller();
        let Kind::Http(http) = &mut connection.kind else { return };
        let (dialect, name, foreign) = match self.ground.upgradable(request) {
            Ok(upgrade) => upgrade,
            Err(problem) => {
                let mut response = problem.response();
                self.ground.with_context(io, caller, |context| routes::finish(context, response.headers_mut()));
                self.ground.stats.request(response.status().as_u16());
                http.respond(io.now(), id, response);
                return;
            }
        };
        let Some(rest) = http.accept_websocket(io.now(), id, name) else { return };
        self.ground.stats.request(StatusCode::SWITCHING_PROTOCOLS.as_u16());
        let mut head = BytesMut::new();
        http.take_output(io.now(), &mut head, PIECE_BYTES);
        connection.write(io, &head, &mut self.ground.wires);
        let mut speaker = self.speaker(io, dialect);
        speaker.foreign = foreign;
        // What a stranger sends is held in memory, too.
        let stranger = self.ground.limits.hello_bytes;
        let socket = websocket::Connection::server(websocket::Limits { message_max: stranger, frame_max: stranger });
        if std::mem::take(&mut connection.paused) {
            connection.pause(io, false);
        }
        connection.kind = Kind::WebSocket(Box::new(Socket { socket, speaker }));
        // Until its hello is accepted a session counts as half open, like a connection that says nothing.
        self.half_open_again(connection);
        self.speaks(connection, Transport::Websocket);
        self.pursue(io, connection);
        self.feed(io, connection, &mut rest.to_vec());
    }
}

impl Ground {
    /// What routes may know, for the length of a call.
    pub(crate) fn with_context<R>(&mut self, io: &Io<Mail>, caller: Caller, act: impl FnOnce(&Context<'_>) -> R) -> R {
        let setup = &self.setup;
        let wall_ms = io.wall_ms();
        let (shards, cert_hash) = (|| setup.shards_json(wall_ms), || setup.cert_hash());
        act(&Context {
            date: self.date.header(io.wall_ms()),
            cert_hash: &cert_hash,
            origins: &setup.config.listen.origins,
            keys: &setup.keys,
            address: caller.address,
            policy: setup.policy(),
            is_on_http3: caller.is_on_http3,
            alt_svc: setup.alt_svc(),
            shards: &shards,
        })
    }

    /// The answer to somebody who may come in.
    fn token(&mut self, io: &Io<Mail>, identity: &Identity) -> http::Response<bytes::Bytes> {
        let (auth, keys, now) = (&self.setup.config.auth, &self.setup.keys, io.wall_ms() / 1000);
        match identity.login {
            None => {
                let ttl = auth.token_ttl.as_secs();
                let token = keys.mint(now, &identity.user, ttl, &[], identity.guest);
                job::welcomed(&identity.user, (&token, now + ttl), None)
            }
            Some(Stands { refresh, expires_at }) => {
                let ttl = auth.access_ttl.as_secs().min(expires_at.saturating_sub(now));
                let token = keys.mint_for(now, &identity.user, ttl, refresh.login);
                let again = keys.refresh_token(refresh);
                job::welcomed(&identity.user, (&token, now + ttl), Some((&again, expires_at)))
            }
        }
    }

    /// The form of a WebSocket session, or why there is none.
    fn upgradable(&self, request: &Request<bytes::Bytes>) -> Result<Upgrade, Problem> {
        let uri = request.uri();
        let protocol = Protocol::of_path(uri.path());
        if uri.path() != "/ws" && protocol.is_none() {
            return Err(Problem::new(StatusCode::NOT_FOUND, "not_found", "WebSocket sessions are at /ws"));
        }
        if !routes::origin_allowed(request.headers(), routes::host(request), &self.setup.config.listen.origins) {
            self.stats.drop_for(Drop::Origin);
            let message = "this origin is not allowed; add it to listen.origins";
            return Err(Problem::new(StatusCode::FORBIDDEN, "permission_denied", message));
        }
        if self.drain.is_some() {
            let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "the server is stopping");
            return Err(problem.retry_after(1));
        }
        let Some(protocol) = protocol else {
            let (dialect, name) = subprotocol(request.headers())?;
            return Ok((dialect, name, None));
        };
        let dialect = match protocol {
            Protocol::GoChat => Dialect::JsonSocket,
            Protocol::Hawos => Dialect::BinarySocket,
        };
        Ok((dialect, None, Some(Box::new(Foreign::new(protocol, uri.query())))))
    }
}

/// How messages look, the subprotocol that is agreed on, and the adapter of a client that has another one.
type Upgrade = (Dialect, Option<&'static str>, Option<Box<Foreign>>);

/// The first offered subprotocol that is known; JSON when none is offered.
fn subprotocol(headers: &HeaderMap) -> Result<(Dialect, Option<&'static str>), Problem> {
    let mut offered = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().peekable();
    if offered.peek().is_none() {
        return Ok((Dialect::JsonSocket, None));
    }
    for name in offered.filter_map(|value| value.to_str().ok()).flat_map(|list| list.split(',')) {
        match name.trim() {
            "ringshard.json" => return Ok((Dialect::JsonSocket, Some("ringshard.json"))),
            "ringshard.proto" => return Ok((Dialect::BinarySocket, Some("ringshard.proto"))),
            _ => {}
        }
    }
    let message = "none of the offered subprotocols is known: ringshard.json, ringshard.proto";
    Err(Problem::new(StatusCode::BAD_REQUEST, "invalid_argument", message))
}

/// Bytes of a response taken at once. 16 KiB fill a TLS record.
const PIECE_BYTES: usize = 16 * 1024;
