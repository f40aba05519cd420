//! Bytes in: from the kernel up through TLS to whatever is spoken on the connection.

use std::time::Duration;

use bytes::BytesMut;
use engine::Io;
use handler::{App as _, Close};
use tcp::frame::{Deframer, FrameError};

use crate::{
    connection::{Connection, Framed, Kind},
    dialect::Dialect,
    line::Line,
    mail::Mail,
    metrics::{Drop, Transport},
    peers::session::Farewell,
    shard::{Ground, Shard, Timer},
    speaker::Speaker,
};

impl Shard {
    /// Takes what the kernel received.
    pub(crate) fn receive(&mut self, io: &mut Io<Mail>, connection: &mut Connection, bytes: &mut [u8]) {
        if connection.closing.is_some() || (self.ground.drain.is_some() && connection.speaker().is_some()) {
            // While draining a session is not read any more: what still arrives after the barrier was passed was never
            // acknowledged, and must not be published behind it.
            return;
        }
        let Some(tls) = &mut connection.tls else {
            self.feed(io, connection, bytes);
            return;
        };
        let mut plain = std::mem::take(&mut self.ground.plain);
        plain.clear();
        let shaking = tls.is_handshaking();
        let outcome = tls.handle(bytes, &mut plain);
        if shaking && !tls.is_handshaking() {
            self.ground.stats.tls_handshakes.add(1);
        }
        connection.flush_tls(io, &mut self.ground.wires);
        if outcome.is_err() {
            // The alert is on its way; what was decrypted before it is not trusted any further.
            self.ground.stats.drop_for(Drop::Tls);
            self.end(io, connection, Close::PeerMisbehaved);
        } else if !plain.is_empty() || matches!(connection.kind, Kind::Start(_)) {
            self.choose_by_alpn(io, connection);
            self.feed(io, connection, &mut plain);
        }
        if connection.tls.as_ref().is_some_and(|tls| tls.peer_closed()) && connection.closing.is_none() {
            self.ended(io, connection);
        }
        plain.clear();
        self.ground.plain = plain;
    }

    /// Counts a connection as what it speaks from now on.
    pub(crate) fn speaks(&mut self, connection: &mut Connection, transport: Transport) {
        self.ground.stats.close(connection.transport);
        self.ground.stats.open(transport);
        connection.transport = transport;
    }

    /// Hands plain bytes to what is spoken; the first ones decide what that is.
    pub(crate) fn feed(&mut self, io: &mut Io<Mail>, connection: &mut Connection, bytes: &mut [u8]) {
        if bytes.is_empty() || connection.closing.is_some() {
            return;
        }
        match &mut connection.kind {
            Kind::Start(first) => {
                first.extend_from_slice(bytes);
                if let Some(guess) = guess(first) {
                    let mut first = std::mem::take(first);
                    self.start(io, connection, guess, &mut first);
                }
            }
            Kind::Http(http) => {
                http.handle(io.now(), bytes);
                self.serve_http(io, connection);
            }
            Kind::Framed(_) => self.feed_frames(io, connection, bytes),
            Kind::WebSocket(_) => self.feed_socket(io, connection, bytes),
            // Their bytes are fetched stream by stream.
            Kind::Http3(_) | Kind::Lanes(_) => {}
        }
    }

    fn start(&mut self, io: &mut Io<Mail>, connection: &mut Connection, guess: Guess, first: &mut [u8]) {
        let http = self.ground.setup.http_limits();
        let mut skip = 0;
        self.speaks(
            connection,
            match guess {
                Guess::Http1 => Transport::Http1,
                Guess::Http2 => Transport::Http2,
                Guess::Framed => Transport::Tcp,
            },
        );
        connection.kind = match guess {
            Guess::Http1 => Kind::Http(Box::new(ringshard_http::Connection::http1(io.now(), http))),
            Guess::Http2 => Kind::Http(Box::new(ringshard_http::Connection::http2(io.now(), http))),
            Guess::Framed => {
                skip = if first.starts_with(tcp::PREFACE) { tcp::PREFACE.len() } else { 0 };
                Kind::Framed(Box::new(Framed {
                    // What a stranger sends is held in memory, too.
                    deframer: Deframer::new(self.ground.limits.hello_bytes),
                    speaker: self.speaker(io, Dialect::BinaryStream),
                }))
            }
        };
        self.feed(io, connection, &mut first[skip..]);
    }

    fn choose_by_alpn(&mut self, io: &Io<Mail>, connection: &mut Connection) {
        let Kind::Start(first) = &connection.kind else { return };
        let Some(tls) = &connection.tls else { return };
        if !first.is_empty() || tls.is_handshaking() {
            return;
        }
        let http = self.ground.setup.http_limits();
        let (transport, http) = match tls.alpn() {
            Some(b"h2") => (Transport::Http2, ringshard_http::Connection::http2(io.now(), http)),
            Some(b"http/1.1") => (Transport::Http1, ringshard_http::Connection::http1(io.now(), http)),
            // `ringshard/1` may leave out the preface, and who asked for nothing is known by the first bytes.
            _ => return,
        };
        connection.kind = Kind::Http(Box::new(http));
        self.speaks(connection, transport);
    }

    pub(crate) fn speaker(&self, io: &Io<Mail>, dialect: Dialect) -> Speaker {
        Speaker::new(dialect, session::Session::new(io.now(), self.ground.setup.session_limits()))
    }

    fn feed_frames(&mut self, io: &mut Io<Mail>, connection: &mut Connection, bytes: &mut [u8]) {
        let Kind::Framed(framed) = &mut connection.kind else { return };
        let Framed { deframer, speaker } = &mut **framed;
        let mut answers = std::mem::take(&mut self.ground.answers);
        let outcome = self.ground.hear_frames(io, connection.line, speaker, deframer, bytes, &mut answers);
        self.finish_hearing(io, connection, answers, outcome);
    }

    /// Writes the answers of what was heard, and parts when it was too bad.
    pub(crate) fn finish_hearing(
        &mut self,
        io: &mut Io<Mail>,
        connection: &mut Connection,
        mut answers: BytesMut,
        outcome: Result<(), Farewell>,
    ) {
        if connection.speaker().is_some_and(|speaker| speaker.session.is_open()) {
            self.opened(connection);
        }
        connection.write(io, &answers, &mut self.ground.wires);
        answers.clear();
        self.ground.answers = answers;
        self.write_welcome(io, connection);
        match outcome {
            Ok(()) if connection.queued > self.ground.limits.queue_hard_bytes => {
                self.ground.stats.drop_for(Drop::QueueFull);
                self.abandon(io, connection, Close::OutOfLimit);
            }
            Ok(()) => {}
            Err(farewell) => self.farewell_with(io, connection, farewell.close, farewell.code, &farewell.reason),
        }
    }

    /// The peer has sent its FIN: what it asked for is answered, then the connection ends.
    pub(crate) fn ended(&mut self, io: &mut Io<Mail>, connection: &mut Connection) {
        connection.ended = true;
        match &mut connection.kind {
            Kind::Http(http) => {
                // Half-closed clients still want their answers.
                http.handle_end(io.now());
                self.serve_http(io, connection);
            }
            Kind::Start(_) | Kind::Framed(_) | Kind::WebSocket(_) | Kind::Http3(_) | Kind::Lanes(_) => {
                self.end(io, connection, Close::PeerLeft);
            }
        }
    }

    /// Ends a connection after what is queued; it lingers for the peer's FIN, not for ever.
    pub(crate) fn end(&mut self, io: &mut Io<Mail>, connection: &mut Connection, reason: Close) {
        self.leave(io, connection, reason);
        connection.closing_max = io.now() + self.ground.limits.idle_secs;
        connection.finish(io, io.now() + LINGER, reason, &mut self.ground.wires);
    }

    /// Sets the timer of a connection's earliest deadline, unless an earlier one is set.
    pub(crate) fn arm(&mut self, now: std::time::Instant, connection: &mut Connection) {
        let Some(at) = self.deadline(connection) else { return };
        if connection.armed.is_none_or(|armed| at < armed) {
            connection.armed = Some(at);
            self.ground.set(now, at, Timer::Connection(connection.line, at));
        }
    }

    fn deadline(&mut self, connection: &mut Connection) -> Option<std::time::Instant> {
        let limits = &self.ground.limits;
        if connection.closing.is_some() {
            return connection.closing;
        }
        let stall = (connection.queued > 0).then(|| connection.progress + limits.idle_secs);
        let speaks = match &mut connection.kind {
            Kind::Start(_) => Some(connection.opened + limits.hello_secs),
            Kind::Http(http) => http.deadline(),
            Kind::Framed(framed) => framed.speaker.deadline(),
            Kind::WebSocket(socket) => socket.speaker.deadline(),
            Kind::Http3(http) => {
                let web = self.ground.wires.quic.as_mut().and_then(|quic| quic.web_deadline(http.handle));
                let idle = if connection.half_open { limits.hello_secs } else { limits.http_idle_secs };
                http.deadline(idle).into_iter().chain(web).min()
            }
            Kind::Lanes(lanes) => lanes.speaker.deadline(),
        };
        [stall, speaks].into_iter().flatten().min()
    }

    /// Does what is due.
    pub(crate) fn expire(&mut self, io: &mut Io<Mail>) {
        let mut due = std::mem::take(&mut self.ground.due);
        self.ground.wheel.expire(io.now(), |timer| due.push(timer));
        for timer in due.drain(..) {
            match timer {
                Timer::Connection(line, at) => self.connection_due(io, line, at),
                Timer::Chat(timer) => {
                    if self.ground.chat_timers.get(&timer).is_some_and(|at| *at <= io.now()) {
                        self.ground.chat_timers.remove(&timer);
                        self.ground.chat(io, |chat, cx| chat.on_timer(cx, timer));
                    }
                }
            }
        }
        self.ground.due = due;
    }

    fn connection_due(&mut self, io: &mut Io<Mail>, line: Line, at: std::time::Instant) {
        let Some(mut connection) = self.connections.take(line) else { return };
        if connection.armed == Some(at) {
            connection.armed = None;
            self.overdue(io, &mut connection);
            self.arm(io.now(), &mut connection);
        }
        self.connections.put_back(connection);
    }

    fn overdue(&mut self, io: &mut Io<Mail>, connection: &mut Connection) {
        let now = io.now();
        if connection.closing.is_some_and(|until| until <= now) {
            connection.closing = Some(now + LINGER);
            connection.close(io, &mut self.ground.wires);
            return;
        }
        if connection.closing.is_some() {
            return;
        }
        if connection.queued > 0 && connection.progress + self.ground.limits.idle_secs <= now {
            connection.refresh(now, &mut self.ground.wires);
        }
        if connection.queued > 0 && connection.progress + self.ground.limits.idle_secs <= now {
            self.ground.stats.drop_for(Drop::Idle);
            self.abandon(io, connection, Close::PeerSilent);
            return;
        }
        match &mut connection.kind {
            Kind::Start(_) if connection.opened + self.ground.limits.hello_secs <= now => {
                self.ground.stats.drop_for(Drop::HelloLate);
                self.end(io, connection, Close::PeerSilent);
            }
            Kind::Start(_) => {}
            Kind::Http(http) => {
                http.handle_timeout(now);
                self.serve_http(io, connection);
            }
            Kind::Http3(_) => self.http3_overdue(io, connection),
            Kind::Framed(_) | Kind::WebSocket(_) | Kind::Lanes(_) => self.session_overdue(io, connection),
        }
    }
}

impl Ground {
    /// Takes the frames of a byte stream as far as they are whole.
    pub(crate) fn hear_frames(
        &mut self,
        io: &mut Io<Mail>,
        line: Line,
        speaker: &mut Speaker,
        deframer: &mut Deframer,
        mut bytes: &[u8],
        answers: &mut BytesMut,
    ) -> Result<(), Farewell> {
        loop {
            match deframer.next(&mut bytes) {
                Ok(Some(frame)) => {
                    self.hear(io, line, speaker, frame, answers)?;
                    if speaker.session.is_open() {
                        deframer.set_body_max(self.limits.frame_bytes);
                    }
                }
                Ok(None) => return Ok(()),
                Err(error) => {
                    self.stats.drop_for(match error {
                        FrameError::Version(_) => Drop::Frame,
                        FrameError::TooLong { .. } => too_large(speaker),
                    });
                    return Err(self.broken(speaker, &error.to_string(), answers));
                }
            }
        }
    }
}

/// As what a message is counted that is larger than its sender may send.
pub(crate) fn too_large(speaker: &Speaker) -> Drop {
    if speaker.session.is_open() { Drop::FrameLarge } else { Drop::HelloLarge }
}

/// What the first bytes of a connection say.
enum Guess {
    Framed,
    Http1,
    Http2,
}

/// Tells apart by the first bytes; none while they could still be a preface.
fn guess(first: &[u8]) -> Option<Guess> {
    const HTTP2: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let may_be = |preface: &[u8]| preface.starts_with(first) || first.starts_with(preface);
    if first.starts_with(tcp::PREFACE)
        || first.first().is_some_and(|byte| byte & 0b111 == FRAME_VERSION && *byte < b' ')
    {
        Some(Guess::Framed)
    } else if first.starts_with(HTTP2) {
        Some(Guess::Http2)
    } else if may_be(tcp::PREFACE) || may_be(HTTP2) {
        None
    } else {
        Some(Guess::Http1)
    }
}

// A frame without the preface starts with its version; no HTTP method starts with a control character.
const FRAME_VERSION: u8 = 1;

/// How long a connection waits for the peer's FIN after ours, and for each next byte of what is queued to be taken.
pub(crate) const LINGER: Duration = Duration::from_secs(2);
