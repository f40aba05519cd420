//! What a session says and hears, whatever it is carried by: bytes to messages for apps, errors to answers.

use std::{borrow::Cow, time::Duration};

use bytes::BytesMut;
use engine::Io;
use handler::{App as _, Close, Code, Message, Peer, PeerInfo};
use serde::Deserialize;
use session::{Action, AuthError, Client, Codec, DecodeError, Refusal, Server, Topic, auth::LoginId};

use crate::{
    connection::{Connection, Kind},
    housekeeping::Ended,
    line::Line,
    mail::Mail,
    metrics::Drop,
    peers::hello::{NO_APP, NO_CAP},
    shard::{Ground, Shard},
    speaker::{HELLO_IDS, Speaker},
    wording,
};

/// Why a connection ends, in the words of its last message.
pub(crate) struct Farewell {
    pub(crate) close: Close,
    pub(crate) code: u16,
    pub(crate) reason: String,
}

impl Farewell {
    /// The peer closed its WebSocket; nothing more to say.
    pub(crate) fn closed(code: u16) -> Self {
        let close = if code == 1002 || code == 1007 || code == 1009 { Close::PeerMisbehaved } else { Close::PeerLeft };
        Self { close, code, reason: String::new() }
    }

    pub(crate) fn unauthenticated(reason: &str) -> Self {
        Self::broken(reason)
    }

    fn broken(reason: &str) -> Self {
        Self { close: Close::PeerMisbehaved, code: POLICY, reason: reason.to_owned() }
    }
}

impl Ground {
    /// Takes one message of a client. Answers that need no app are appended to `answers`, in the session's dialect.
    pub(crate) fn hear(
        &mut self,
        io: &mut Io<Mail>,
        line: Line,
        speaker: &mut Speaker,
        bytes: &[u8],
        answers: &mut BytesMut,
    ) -> Result<(), Farewell> {
        if speaker.foreign.is_some() {
            return self.hear_foreign(io, line, speaker, bytes, answers);
        }
        self.hear_session(io, line, speaker, (speaker.dialect.codec(), bytes), answers)
    }

    /// Takes one message of the session protocol.
    pub(crate) fn hear_session(
        &mut self,
        io: &mut Io<Mail>,
        line: Line,
        speaker: &mut Speaker,
        (codec, bytes): (Codec, &[u8]),
        answers: &mut BytesMut,
    ) -> Result<(), Farewell> {
        self.stats.messages_in.add(1);
        self.stats.message_bytes_in.add(bytes.len() as u64);
        let client = match session::decode_client(codec, bytes) {
            Ok(client) => client,
            Err(error) => return self.undecodable(io, speaker, bytes.len(), &error, answers),
        };
        match speaker.session.on_client(io.now(), bytes.len(), &client) {
            Ok(()) => self.act(io, line, speaker, &client, answers),
            Err(refusal) => self.decline(speaker, client.id(), &refusal, refusal.message, answers),
        }
    }

    /// Answers what is no message, if the session does not let it pass.
    pub(crate) fn undecodable(
        &mut self,
        io: &Io<Mail>,
        speaker: &mut Speaker,
        len: usize,
        error: &DecodeError,
        answers: &mut BytesMut,
    ) -> Result<(), Farewell> {
        self.stats.drop_for(Drop::Frame);
        let refusal = speaker.session.on_undecodable(io.now(), len, error);
        let words = error.to_string();
        refusal.map_or(Ok(()), |refusal| self.decline(speaker, error.id, &refusal, &words, answers))
    }

    /// Answers what the session does not allow; the worst of it ends the connection.
    fn decline(
        &mut self,
        speaker: &mut Speaker,
        id: Option<u32>,
        refusal: &Refusal,
        words: &str,
        answers: &mut BytesMut,
    ) -> Result<(), Farewell> {
        self.stats.error(wording::app_code(refusal.code));
        if refusal.code == session::Code::ResourceExhausted {
            if !speaker.session.is_open() {
                self.stats.drop_for(Drop::HelloLarge);
            } else if refusal.retry_ms.is_some() {
                self.stats.drop_for(Drop::Rate);
            }
        }
        let error = Server::Err { id, code: refusal.code, message: words.into(), retry_ms: refusal.retry_ms };
        self.answer(speaker, &error, answers);
        if refusal.fatal { Err(Farewell::broken(words)) } else { Ok(()) }
    }

    fn act(
        &mut self,
        io: &mut Io<Mail>,
        line: Line,
        speaker: &mut Speaker,
        client: &Client<'_>,
        answers: &mut BytesMut,
    ) -> Result<(), Farewell> {
        let peer = line.peer();
        if client.id().is_some_and(|id| id >= HELLO_IDS) {
            return self.reserved_id(speaker, client, answers);
        }
        if io.mail_waiting() >= engine::MAIL_WAITING_HIGH && asks_of_app(client) {
            self.refuse(speaker, client.id(), Code::Unavailable, "the shards are overloaded", answers);
            return Ok(());
        }
        let message = match client {
            Client::Hello(hello) => return self.greet(io, peer, speaker, hello, answers),
            Client::Ping { id } => {
                self.answer(speaker, &Server::Pong { id: *id, at_ms: io.wall_ms() }, answers);
                return Ok(());
            }
            Client::Req { id, op, body } if *op == RENEW_OP => {
                self.renew(io, peer, speaker, (*id, body), answers);
                return Ok(());
            }
            Client::Req { id, op, body } => match app_of_operation(op) {
                Some(App::Chat) if !speaker.may(op) => {
                    self.refuse(speaker, Some(*id), Code::PermissionDenied, NO_CAP, answers);
                    return Ok(());
                }
                Some(App::Chat) => Message::Req { id: *id, op, body },
                None => {
                    self.refuse(speaker, Some(*id), Code::Unimplemented, "there is no such operation", answers);
                    return Ok(());
                }
            },
            Client::Sub { topic, .. }
            | Client::Unsub { topic, .. }
            | Client::Pub { topic, .. }
            | Client::Eph { topic, .. }
            | Client::Ack { topic, .. } => {
                let shared;
                let topic: &str = match topic {
                    Topic::Name(name) => name,
                    Topic::Alias(alias) => match self.chat.topic_of(peer, *alias) {
                        Some(name) => {
                            shared = name;
                            &shared
                        }
                        None => {
                            let message = "no subscription has this alias";
                            self.refuse(speaker, client.id(), Code::NotFound, message, answers);
                            return Ok(());
                        }
                    },
                };
                let Some(App::Chat) = app_of_topic(topic) else {
                    if let Client::Sub { .. } = client {
                        speaker.session.forget(topic);
                    }
                    self.refuse(speaker, client.id(), Code::NotFound, NO_APP, answers);
                    return Ok(());
                };
                if !speaker.may(topic) {
                    if let Client::Sub { .. } = client {
                        speaker.session.forget(topic);
                    }
                    self.refuse(speaker, client.id(), Code::PermissionDenied, NO_CAP, answers);
                    return Ok(());
                }
                let Some(message) = wording::about(client, topic) else { return Ok(()) };
                // From here on the app answers, and its answer takes this away again.
                if let Client::Sub { id, .. } = client {
                    speaker.asked.push((*id, topic.into()));
                }
                self.chat(io, |chat, cx| chat.on_message(cx, peer, message));
                return Ok(());
            }
        };
        self.chat(io, |chat, cx| chat.on_message(cx, peer, message));
        Ok(())
    }

    /// `session.renew {token}`: a newer token of the same user, so that the session need not end with the one that opened it.
    fn renew(
        &mut self,
        io: &Io<Mail>,
        peer: Peer,
        speaker: &mut Speaker,
        (id, body): (u32, &[u8]),
        answers: &mut BytesMut,
    ) {
        let Some(info) = &speaker.info else { return };
        let renew = serde_json::from_slice::<Renew<'_>>(body);
        let now = io.wall_ms() / 1000;
        let claims = renew.map_err(|error| (Code::InvalidArgument, error.to_string())).and_then(|Renew { token }| {
            let claims = self.setup.keys.verify(now, &token);
            let logins = &self.setup.logins;
            let claims =
                claims.and_then(|claims| match logins.allow((&claims.sub, claims.guest), claims.iat, claims.sid) {
                    true => Ok(claims),
                    false => Err(AuthError::Revoked),
                });
            claims.map_err(|error| (Code::Unauthenticated, error.to_string()))
        });
        match claims {
            Ok(claims) if *claims.sub == *info.user && claims.guest == info.guest => {
                speaker.expires = Some(io.now() + Duration::from_secs(claims.exp.saturating_sub(now)));
                self.belongs(speaker, peer, claims.sid);
                speaker.caps = claims.caps.into();
                speaker.session.on_answered();
                let body = format!("{{\"expires_at\":{}}}", claims.exp);
                self.answer(speaker, &Server::Res { id, body: body.as_bytes() }, answers);
            }
            Ok(_) => self.refuse(speaker, Some(id), Code::PermissionDenied, "that token is another user's", answers),
            Err((code, message)) => self.refuse(speaker, Some(id), code, &message, answers),
        }
    }

    /// From here on a session belongs to that login, and ends with it.
    pub(crate) fn belongs(&mut self, speaker: &mut Speaker, peer: Peer, login: Option<LoginId>) {
        if let Some(before) = std::mem::replace(&mut speaker.login, login) {
            self.by_login.remove(&(before, peer));
        }
        self.by_login.extend(login.map(|login| (login, peer)));
    }

    /// The sessions of a login.
    fn of_login(&self, login: LoginId) -> Vec<Peer> {
        let ends = Peer { index: 0, generation: 0 }..=Peer { index: u32::MAX, generation: u32::MAX };
        self.by_login.range((login, *ends.start())..=(login, *ends.end())).map(|(_, peer)| *peer).collect()
    }

    /// Ids of the server's own: an error, and for a hello the end.
    fn reserved_id(
        &mut self,
        speaker: &mut Speaker,
        client: &Client<'_>,
        answers: &mut BytesMut,
    ) -> Result<(), Farewell> {
        let message = "ids from 0xfffff000 up are the server's";
        match client {
            Client::Hello(_) => return Err(self.broken(speaker, message, answers)),
            // It was not counted as a request, so its answer gives nothing back.
            Client::Ping { .. } => {
                let error = Server::Err {
                    id: client.id(),
                    code: session::Code::InvalidArgument,
                    message: message.into(),
                    retry_ms: None,
                };
                self.answer(speaker, &error, answers);
            }
            Client::Sub { .. }
            | Client::Unsub { .. }
            | Client::Pub { .. }
            | Client::Eph { .. }
            | Client::Ack { .. }
            | Client::Req { .. } => self.refuse(speaker, client.id(), Code::InvalidArgument, message, answers),
        }
        Ok(())
    }

    /// Appends an answer in the session's dialect.
    pub(crate) fn answer(&mut self, speaker: &mut Speaker, message: &Server<'_>, answers: &mut BytesMut) {
        let before = answers.len();
        speaker.say(message, answers);
        self.stats.sent(answers.len() - before);
    }

    /// Appends an error; the session goes on.
    pub(crate) fn refuse(
        &mut self,
        speaker: &mut Speaker,
        id: Option<u32>,
        code: Code,
        message: &str,
        answers: &mut BytesMut,
    ) {
        self.stats.error(code);
        if id.is_some() {
            speaker.session.on_answered();
        }
        let error = Server::Err { id, code: wording::code(code), message: message.into(), retry_ms: None };
        self.answer(speaker, &error, answers);
    }

    /// Appends the error of a message in a form that the session does not speak, after which the connection ends.
    pub(crate) fn unspoken(&mut self, speaker: &mut Speaker, reason: &str, answers: &mut BytesMut) -> Farewell {
        self.stats.drop_for(Drop::Frame);
        self.broken(speaker, reason, answers)
    }

    /// Appends the error of a broken frame, after which the connection ends.
    pub(crate) fn broken(&mut self, speaker: &mut Speaker, reason: &str, answers: &mut BytesMut) -> Farewell {
        let code = session::Code::InvalidArgument;
        self.answer(speaker, &Server::Err { id: None, code, message: reason.into(), retry_ms: None }, answers);
        Farewell::broken(reason)
    }
}

impl Shard {
    /// Ends a connection with its last words.
    pub(crate) fn farewell(&mut self, io: &mut Io<Mail>, connection: &mut Connection, close: Close, reason: &str) {
        let code = match close {
            Close::PeerLeft => NORMAL,
            Close::Draining => GOING_AWAY,
            Close::Unauthenticated => UNAUTHENTICATED,
            Close::PeerSilent | Close::PeerMisbehaved | Close::OutOfLimit => POLICY,
        };
        self.farewell_with(io, connection, close, code, reason);
    }

    pub(crate) fn farewell_with(
        &mut self,
        io: &mut Io<Mail>,
        connection: &mut Connection,
        close: Close,
        code: u16,
        reason: &str,
    ) {
        if connection.closing.is_some() {
            return;
        }
        if let Kind::WebSocket(both) = &mut connection.kind {
            both.socket.close(code, reason);
            let mut control = std::mem::take(&mut self.ground.control);
            both.socket.take_output(&mut control);
            connection.write(io, &control, &mut self.ground.wires);
            control.clear();
            self.ground.control = control;
        }
        self.end(io, connection, close);
    }

    /// The session's deadline has passed: a ping, or the end.
    pub(crate) fn session_overdue(&mut self, io: &mut Io<Mail>, connection: &mut Connection) {
        let now = io.now();
        let Some(speaker) = connection.speaker() else { return };
        if speaker.expires.is_some_and(|at| at <= now) {
            self.expire_token(io, connection);
            return;
        }
        if self.is_alive(connection) {
            // It says nothing, and its packets show that it is there.
            if let Some(speaker) = connection.speaker() {
                speaker.session.on_traffic(now);
            }
        }
        let Some(speaker) = connection.speaker() else { return };
        match speaker.session.handle_timeout(now) {
            None => {}
            Some(Action::Ping) => self.ping(io, connection),
            Some(Action::Close { reason }) => {
                self.ground.stats.drop_for(Drop::Idle);
                self.farewell(io, connection, Close::PeerSilent, reason);
            }
        }
    }

    /// The token has ended: an error that says so, then the end.
    fn expire_token(&mut self, io: &mut Io<Mail>, connection: &mut Connection) {
        self.end_token(io, connection, Close::OutOfLimit, "the token has expired");
    }

    /// Logins have ended: so do the sessions that were opened with their tokens. They say so one after the other, for one
    /// that comes while this is done has asked whether its login stands. Only where an account logs out everywhere all
    /// connections are looked at, for those whose tokens are of no login.
    pub(crate) fn end_logins(&mut self, io: &mut Io<Mail>, ended: &Ended) {
        const REVOKED: &str = "the token was revoked";
        let peers: Vec<Peer> = ended.logins.iter().flat_map(|login| self.ground.of_login(*login)).collect();
        for peer in peers {
            self.with_peer(io, peer, |shard, io, connection| {
                shard.end_token(io, connection, Close::Unauthenticated, REVOKED);
            });
        }
        for line in if ended.all { self.connections.lines() } else { Vec::new() } {
            self.with(io, line, |shard, io, connection| {
                let own = |info: &PeerInfo| !info.guest && *info.user == *ended.user;
                if connection.speaker().is_some_and(|speaker| speaker.info.as_deref().is_some_and(own)) {
                    shard.end_token(io, connection, Close::Unauthenticated, REVOKED);
                }
            });
        }
        if let Some(what) = ended.record {
            self.ground.chat(io, |chat, cx| chat.record(cx, what, &ended.user));
        }
    }

    fn end_token(&mut self, io: &mut Io<Mail>, connection: &mut Connection, close: Close, message: &'static str) {
        if connection.closing.is_some() {
            return;
        }
        let mut out = std::mem::take(&mut self.ground.control);
        if let Some(speaker) = connection.speaker() {
            let code = session::Code::Unauthenticated;
            speaker.say(&Server::Err { id: None, code, message: message.into(), retry_ms: None }, &mut out);
        }
        connection.write(io, &out, &mut self.ground.wires);
        out.clear();
        self.ground.control = out;
        self.ground.stats.drop_for(Drop::Unauthenticated);
        self.farewell(io, connection, close, message);
    }

    fn ping(&mut self, io: &mut Io<Mail>, connection: &mut Connection) {
        let mut out = std::mem::take(&mut self.ground.control);
        match &mut connection.kind {
            Kind::WebSocket(both) => {
                both.socket.ping();
                both.socket.take_output(&mut out);
            }
            Kind::Framed(framed) => pong(&framed.speaker, io.wall_ms(), &mut out),
            // Its acknowledgement is the answer.
            Kind::Lanes(lanes) => pong(&lanes.speaker, io.wall_ms(), &mut out),
            Kind::Start(_) | Kind::Http(_) | Kind::Http3(_) => {}
        }
        connection.write(io, &out, &mut self.ground.wires);
        out.clear();
        self.ground.control = out;
    }
}

/// A session in frames has no ping of its own below it: the server's is a pong that nobody asked for.
fn pong(speaker: &Speaker, at_ms: u64, out: &mut BytesMut) {
    speaker.dialect.encode(&Server::Pong { id: 0, at_ms }, out);
}

/// Whether a message makes work for other shards that its sender waits for.
fn asks_of_app(client: &Client<'_>) -> bool {
    match client {
        Client::Pub { .. } | Client::Sub { .. } | Client::Req { .. } => true,
        Client::Hello(_) | Client::Unsub { .. } | Client::Eph { .. } | Client::Ack { .. } | Client::Ping { .. } => {
            false
        }
    }
}

/// The one operation that is the session's own.
const RENEW_OP: &str = "session.renew";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Renew<'a> {
    #[serde(borrow)]
    token: Cow<'a, str>,
}

/// The apps, by the prefix of their topics and operations.
pub(crate) enum App {
    Chat,
}

pub(crate) fn app_of_topic(topic: &str) -> Option<App> {
    topic.starts_with("chat/").then_some(App::Chat)
}

fn app_of_operation(operation: &str) -> Option<App> {
    let of_chat = ["chat.", "contact.", "inbox.", "presence."].iter().any(|prefix| operation.starts_with(prefix));
    of_chat.then_some(App::Chat)
}

// WebSocket close codes, RFC 6455 section 7.4.1.
const NORMAL: u16 = 1000;
const GOING_AWAY: u16 = 1001;
const POLICY: u16 = 1008;

/// One of those that are for applications: log in again. It is HTTP's 401 behind a 4.
const UNAUTHENTICATED: u16 = 4401;
