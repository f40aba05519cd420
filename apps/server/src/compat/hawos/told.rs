//! What a session hears, in Hawos' words.

use chat::conversation::personal;
use prost::Message;
use session::{Code, Server};

use super::{
    Exchange, Hawos, Login, Owed, Waiting,
    wire::{AuthResp, ChatMsg, Created, CrossDayMsg, Id, Inbox, Members, Pong, Response, RoomInfo, Stored},
};
use crate::compat::exchange::{WORLD, name_of, passes};

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

impl Hawos {
    /// Takes what the server says.
    pub(in crate::compat) fn told(&mut self, exchange: &mut Exchange, message: &Server<'_>) {
        match message {
            Server::Welcome { id, session, user, ticket, .. } => {
                self.waiting.remove(id);
                self.welcome(exchange, user, &format!("{session}/{ticket}"));
            }
            Server::SubOk { id, .. } => {
                if let Some(Waiting::Enter(about, topic)) = self.waiting.remove(id) {
                    self.entered(exchange, about, topic);
                }
            }
            Server::UnsubOk { id, .. } => drop(self.waiting.remove(id)),
            Server::PubOk { id, .. } => {
                self.waiting.remove(id);
                respond_with(exchange, Id::SendGlobalMsg as i32, SUCCESS, Vec::new());
            }
            Server::Res { id, body } => self.answered(exchange, *id, body),
            Server::Pong { id, at_ms } => {
                if self.waiting.remove(id).is_some() {
                    let timestamp = i64::try_from(at_ms / 1000).unwrap_or(i64::MAX);
                    respond(exchange, Id::Ping, &Pong { timestamp });
                    self.ponged = self.told;
                    self.day(exchange, *at_ms);
                }
            }
            Server::Err { id, code, retry_ms, .. } => {
                let about = id.and_then(|id| self.waiting.remove(&id));
                self.refused(exchange, about, (*code, *retry_ms));
            }
            Server::Msg { topic, offset, from, body, .. } => self.message(exchange, (topic, *offset), from, body),
            Server::Presence { topic, joined, left, count, .. } => {
                self.presence(exchange, topic, *count, (joined.iter(), left.iter()));
            }
            Server::Eph { .. } | Server::Gap { .. } | Server::Goaway { .. } => exchange.drop_one(),
        }
    }

    fn welcome(&mut self, exchange: &mut Exchange, user: &str, token: &str) {
        let Login::Asked { uid } = std::mem::replace(&mut self.login, Login::In) else { return };
        if !uid.is_empty() && uid != user {
            respond_with(exchange, Id::AuthToken as i32, AUTH_ERR, Vec::new());
            exchange.ends = Some("the token is another user's");
            return;
        }
        if self.wants_token {
            respond(exchange, Id::AuthToken, &AuthResp { token: token.to_owned() });
        }
        self.own = personal(user);
        if let Some(own) = self.own.clone() {
            self.ask_owed(exchange, Owed::Own(own));
        }
    }

    fn answered(&mut self, exchange: &mut Exchange, id: u32, body: &[u8]) {
        match self.waiting.remove(&id) {
            Some(Waiting::Create) => match serde_json::from_slice(body) {
                Ok(Created { topic }) => self.subscribe(exchange, Id::CreateRoom, topic, Some(0)),
                Err(_) => respond_with(exchange, Id::CreateRoom as i32, INTERNAL_ERR, Vec::new()),
            },
            Some(Waiting::Join(topic)) => self.look_for_unread(exchange, topic),
            Some(Waiting::Unread(topic)) => {
                let after = Inbox::read(body, &topic);
                self.subscribe(exchange, Id::EnterRoom, topic, after);
            }
            Some(Waiting::Members(about, topic)) => {
                self.asking = false;
                let members = serde_json::from_slice(body).unwrap_or(Members { count: 0, members: Vec::new() });
                let member_ids = members.members.into_iter().map(|member| member.user).collect();
                let info = RoomInfo { room_id: name_of(&topic).to_owned(), member_num: members.count, member_ids };
                respond(exchange, about.unwrap_or(Id::BroadcastRoomInfo), &info);
                if self.again && self.room.as_ref() == Some(&topic) {
                    self.look_again(exchange);
                }
            }
            Some(Waiting::Quiet(_) | Waiting::Hello(_) | Waiting::Ping | Waiting::Enter(..) | Waiting::Say) | None => {}
        }
    }

    fn refused(&mut self, exchange: &mut Exchange, about: Option<Waiting>, (code, retry_ms): (Code, Option<u32>)) {
        let about = match about {
            // What somebody may not join it may be in already, and what it may not list has no unread messages: the
            // subscription decides.
            Some(Waiting::Join(topic)) if code == Code::PermissionDenied => {
                return self.look_for_unread(exchange, topic);
            }
            Some(Waiting::Unread(topic)) if code == Code::PermissionDenied => {
                return self.subscribe(exchange, Id::EnterRoom, topic, None);
            }
            // One that it has left and could not unsubscribe from goes on without what it was not told meanwhile.
            Some(Waiting::Enter(about, topic)) if code == Code::AlreadyExists && !self.still_hears(&topic) => {
                return self.entered(exchange, about, topic);
            }
            Some(Waiting::Quiet(owed)) => {
                if passes(code, retry_ms) {
                    self.owed.push_back(owed);
                }
                return;
            }
            Some(Waiting::Members(about, topic)) => {
                let is_here = self.room.as_ref() == Some(&topic);
                (self.asking, self.again) = (false, is_here && passes(code, retry_ms));
                let Some(about) = about else { return };
                about as i32
            }
            Some(Waiting::Hello(about) | Waiting::Enter(about, _)) => about as i32,
            Some(Waiting::Join(_) | Waiting::Unread(_)) => Id::EnterRoom as i32,
            Some(Waiting::Ping) => Id::Ping as i32,
            Some(Waiting::Create) => Id::CreateRoom as i32,
            Some(Waiting::Say) => Id::SendGlobalMsg as i32,
            None => std::mem::take(&mut self.hearing),
        };
        respond_with(exchange, about, error_code(code), Vec::new());
    }

    fn message(&mut self, exchange: &mut Exchange, (topic, offset): (&str, u64), from: &str, body: &[u8]) {
        let is_room = self.room.as_deref() == Some(topic);
        if is_room {
            self.told = offset;
        }
        let room_id = match is_room || topic == WORLD {
            true => name_of(topic),
            false if self.own.as_deref() == Some(topic) => "",
            // Of a room that it has left: on its way then, or the session still hears it. Nobody pushed it to the user.
            false => return exchange.drop_one(),
        };
        let Ok(Stored { kind, text, event }) = serde_json::from_slice(body) else { return exchange.drop_one() };
        match (&*kind, text, event) {
            ("text", Some(msg), _) => {
                let (uid, nickname) = (from.to_owned(), from.to_owned());
                let chat = ChatMsg { uid, room_id: room_id.to_owned(), nickname, msg };
                respond(exchange, Id::GlobalMsg, &chat);
            }
            ("system", _, Some(event)) if is_room && MOVES.contains(&&*event) => match self.asking {
                true => self.again = true,
                false => self.ask_members(exchange, None, topic.to_owned()),
            },
            _ => exchange.drop_one(),
        }
    }

    fn presence<'a>(
        &mut self,
        exchange: &mut Exchange,
        topic: &str,
        count: u32,
        (joined, left): (impl Iterator<Item = &'a str>, impl Iterator<Item = &'a str>),
    ) {
        let Some(place) = self.places.get_mut(topic) else { return exchange.drop_one() };
        place.change(count, joined, left);
        if self.room.as_deref() == Some(topic) {
            let info = place.info(topic);
            match std::mem::take(&mut self.entering) {
                0 => respond(exchange, Id::BroadcastRoomInfo, &info),
                times => (0..times).for_each(|_| respond(exchange, Id::EnterRoom, &info)),
            }
        }
    }

    /// Tells that the day is another one than when the time was seen last.
    fn day(&mut self, exchange: &mut Exchange, at_ms: u64) {
        let today = at_ms / DAY_MS;
        let last = self.day.replace(self.day.unwrap_or(today).max(today));
        if last.is_some_and(|last| last < today) {
            let day_no = i32::try_from(today).unwrap_or(i32::MAX);
            respond(exchange, Id::CrossDay, &CrossDayMsg { day_no });
        }
    }
}

/// Notices of a group after which others are in it.
const MOVES: [&str; 6] = ["created", "invited", "joined", "left", "removed", "banned"];

pub(super) fn respond(exchange: &mut Exchange, about: Id, payload: &impl Message) {
    respond_with(exchange, about as i32, SUCCESS, payload.encode_to_vec());
}

pub(super) fn respond_with(exchange: &mut Exchange, msg_id: i32, code: i32, payload: Vec<u8>) {
    exchange.replies.push_back(Response { msg_id, code, payload }.encode_to_vec());
}

fn error_code(code: Code) -> i32 {
    match code {
        Code::Unauthenticated | Code::PermissionDenied => AUTH_ERR,
        Code::Unimplemented => NO_HANDLES,
        Code::InvalidArgument | Code::NotFound | Code::FailedPrecondition | Code::OutOfRange => INVALID_PARAM,
        Code::Unknown
        | Code::DeadlineExceeded
        | Code::AlreadyExists
        | Code::ResourceExhausted
        | Code::Internal
        | Code::Unavailable => INTERNAL_ERR,
    }
}

// The codes of `errcode.proto`.
const SUCCESS: i32 = 200;
const NO_HANDLES: i32 = 406;
pub(super) const INTERNAL_ERR: i32 = 1000;
const AUTH_ERR: i32 = 10_000;
const INVALID_PARAM: i32 = 10_001;
