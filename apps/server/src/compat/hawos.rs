//! A client of Hawos: who it is, the room that it is in, and the requests of it that are not answered yet.

mod place;
pub(super) mod wire;

use std::collections::BTreeMap;

use chat::conversation::{Conversation, personal};
use prost::Message;
use serde_json::json;
use session::{Client, Code, DecodeError, Flaw, Server};

use self::{
    place::Place,
    wire::{
        AuthMsg, AuthResp, ChatMsg, CreateRoomArg, Created, CrossDayMsg, Id, Inbox, Members, Pong, Request, Response,
        RoomInfo, Said, Stored, TargetRoom,
    },
};
use super::exchange::{Exchange, WORLD, broken, invalid, name_of, topic_of, unknown};

/// What this user's devices are called that speak Hawos.
const DEVICE: &str = "hawos";

/// What a room is called that a client of Hawos makes: it gives none.
const ROOM_NAME: &str = "room";

/// Conversations among which the unread ones are looked for, and members that are named: one page of each.
const LINES: usize = 200;

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// A client of Hawos.
#[derive(Debug)]
pub(super) struct Hawos {
    login: Login,
    /// It said who it is by `AuthMsg`, which has an answer.
    wants_token: bool,
    /// The `MsgID` of what was no request, for the error about it.
    hearing: i32,
    /// The topic of the room that it is in.
    room: Option<String>,
    /// Who is in the room, and in the world.
    places: BTreeMap<String, Place>,
    /// Who entered an open room and is not answered yet: its people are told right behind the subscription.
    entering: Option<Id>,
    /// The last message of the room that was told, and that which was told before the last pong.
    told: u64,
    ponged: u64,
    /// The members of the group are being asked for; and are to be again.
    asking: bool,
    again: bool,
    day: Option<u64>,
    /// Requests without an answer; the session lets no more than its credit in.
    waiting: BTreeMap<u32, Waiting>,
}

#[derive(Debug)]
enum Login {
    /// Nobody yet.
    Stranger,
    /// It said hello, under this name if it gave one.
    Asked { uid: String },
    /// It is somebody.
    In,
}

#[derive(Debug)]
enum Waiting {
    /// The answer is nobody's business.
    Quiet,
    /// A hello, for this request.
    Hello(Id),
    /// A ping of the client.
    Ping,
    /// A room that is being made.
    Create,
    /// Becoming a member of a group.
    Join(String),
    /// How far the user has come in a conversation.
    Unread(String),
    /// The subscription to a room, for this request.
    Enter(Id, String),
    /// The members of a group, for this request or for everybody.
    Members(Option<Id>, String),
    /// Something said.
    Say,
}

impl Hawos {
    /// Says hello if the URL has a token.
    pub(super) fn new(exchange: &mut Exchange, token: Option<&str>) -> Self {
        let mut hawos = Self {
            login: Login::Stranger,
            wants_token: false,
            hearing: Id::Unknown as i32,
            room: None,
            places: BTreeMap::from([(WORLD.to_owned(), Place::default())]),
            entering: None,
            told: 0,
            ponged: 0,
            asking: false,
            again: false,
            day: None,
            waiting: BTreeMap::new(),
        };
        if let Some(token) = token {
            hawos.hello(exchange, token, String::new(), Id::AuthToken);
        }
        hawos
    }

    /// Takes a message of the client.
    pub(super) fn hear(&mut self, exchange: &mut Exchange, bytes: &[u8]) -> Result<(), DecodeError> {
        self.hearing = Id::Unknown as i32;
        let request = Request::decode(bytes).map_err(|_| broken("no protobuf of `Request`"))?;
        self.hearing = request.msg_id;
        self.act(exchange, &request)?;
        self.hearing = Id::Unknown as i32;
        Ok(())
    }

    fn act(&mut self, exchange: &mut Exchange, request: &Request) -> Result<(), DecodeError> {
        let id = Id::of(request.msg_id).ok_or(unknown("there is no such `MsgID`"))?;
        let payload = &request.payload[..];
        if matches!(self.login, Login::Stranger) && id != Id::AuthToken && !request.token.is_empty() {
            self.hello(exchange, &request.token, String::new(), id);
        }
        match id {
            Id::AuthToken if !matches!(self.login, Login::Stranger) => Err(invalid("it is somebody already")),
            Id::AuthToken => {
                let AuthMsg { uid, secret, .. } = read(payload)?;
                self.hello(exchange, &secret, uid, id);
                self.wants_token = true;
                Ok(())
            }
            Id::Ping => {
                self.ping(exchange);
                Ok(())
            }
            Id::CreateRoom => self.create(exchange, &read(payload)?),
            Id::EnterRoom => {
                let TargetRoom { room_id } = read(payload)?;
                self.enter(exchange, topic_of(&room_id).ok_or(NO_ROOM)?);
                Ok(())
            }
            Id::SendGlobalMsg => self.say(exchange, &read(payload)?),
            Id::Unknown | Id::CrossDay | Id::GlobalMsg | Id::BroadcastRoomInfo => {
                Err(unknown("only the server says that"))
            }
        }
    }

    fn hello(&mut self, exchange: &mut Exchange, token: &str, uid: String, about: Id) {
        let id = exchange.hello(token, DEVICE);
        self.waiting.insert(id, Waiting::Hello(about));
        self.login = Login::Asked { uid };
    }

    /// A client that pings again has had the last pong, and with it all that was told before.
    fn ping(&mut self, exchange: &mut Exchange) {
        if let Some(room) = self.room.as_deref().filter(|room| has_marks(room) && self.ponged > 0) {
            exchange.acknowledge(room, self.ponged);
        }
        self.ponged = 0;
        let id = exchange.id();
        self.waiting.insert(id, Waiting::Ping);
        exchange.ask(&Client::Ping { id });
    }

    fn create(&mut self, exchange: &mut Exchange, room: &CreateRoomArg) -> Result<(), DecodeError> {
        if !(0..=1).contains(&room.kind) {
            return Err(invalid("only rooms of `Type` 1 are made here"));
        }
        if room.max_member < 0 {
            return Err(invalid("`MaxMember` is less than 0"));
        }
        exchange.dropped += u64::from(room.max_member > 0);
        let id = exchange.request("chat.create", &json!({"name": ROOM_NAME, "open": true}));
        self.waiting.insert(id, Waiting::Create);
        Ok(())
    }

    fn say(&mut self, exchange: &mut Exchange, chat: &ChatMsg) -> Result<(), DecodeError> {
        let topic = match &*chat.room_id {
            "" => self.room.clone().unwrap_or_else(|| WORLD.to_owned()),
            name => topic_of(name).ok_or(NO_ROOM)?,
        };
        let body = serde_json::to_string(&Said { kind: "text", text: &chat.msg }).unwrap_or_default();
        let id = exchange.id();
        exchange.ask(&Client::Pub { id, topic: topic.as_str().into(), seq: None, body: body.as_bytes() });
        self.waiting.insert(id, Waiting::Say);
        Ok(())
    }

    /// Goes into a room: a group's member first, then from the first unread message on.
    fn enter(&mut self, exchange: &mut Exchange, topic: String) {
        if topic == WORLD {
            self.entered(exchange, Id::EnterRoom, topic);
            return;
        }
        match Conversation::parse(&topic) {
            Some(Conversation::Group(_)) => {
                let id = exchange.request("chat.join", &json!({"topic": topic}));
                self.waiting.insert(id, Waiting::Join(topic));
            }
            Some(Conversation::Direct(..)) => self.look_for_unread(exchange, topic),
            Some(Conversation::World | Conversation::Room(_) | Conversation::Personal(_)) | None => {
                self.subscribe(exchange, Id::EnterRoom, topic, None);
            }
        }
    }

    fn look_for_unread(&mut self, exchange: &mut Exchange, topic: String) {
        let id = exchange.request("inbox.list", &json!({"limit": LINES}));
        self.waiting.insert(id, Waiting::Unread(topic));
    }

    fn subscribe(&mut self, exchange: &mut Exchange, about: Id, topic: String, after: Option<u64>) {
        let id = exchange.follow(&topic, after);
        self.waiting.insert(id, Waiting::Enter(about, topic));
    }

    /// It is in the room: out of the last one, and whoever asked is told who is there.
    fn entered(&mut self, exchange: &mut Exchange, about: Id, topic: String) {
        if self.room.as_ref() != Some(&topic) {
            self.leave(exchange);
            (self.told, self.ponged) = (0, 0);
            self.room = Some(topic.clone());
        }
        match Conversation::parse(&topic) {
            Some(Conversation::Group(_)) => self.ask_members(exchange, Some(about), topic),
            Some(Conversation::Direct(a, b)) => {
                let info = RoomInfo { room_id: name_of(&topic).to_owned(), member_num: 2, member_ids: vec![a, b] };
                respond(exchange, about, &info);
            }
            Some(Conversation::World | Conversation::Room(_) | Conversation::Personal(_)) | None => {
                match self.places.get(&topic).filter(|place| place.is_known()) {
                    Some(place) => respond(exchange, about, &place.info(&topic)),
                    None => self.entering = Some(about),
                }
                self.places.entry(topic).or_default();
            }
        }
    }

    fn leave(&mut self, exchange: &mut Exchange) {
        let Some(last) = self.room.take().filter(|room| room != WORLD) else { return };
        self.places.remove(&last);
        let id = exchange.id();
        exchange.ask(&Client::Unsub { id, topic: last.as_str().into() });
        self.waiting.insert(id, Waiting::Quiet);
    }

    fn ask_members(&mut self, exchange: &mut Exchange, about: Option<Id>, topic: String) {
        self.asking = true;
        let id = exchange.request("chat.members", &json!({"topic": topic, "limit": LINES}));
        self.waiting.insert(id, Waiting::Members(about, topic));
    }

    /// Takes what the server says.
    pub(super) fn told(&mut self, exchange: &mut Exchange, message: &Server<'_>) {
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
            Server::Err { id, code, .. } => {
                let about = id.and_then(|id| self.waiting.remove(&id));
                self.refused(exchange, about, *code);
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
        if let Some(own) = personal(user) {
            let id = exchange.follow(&own, None);
            self.waiting.insert(id, Waiting::Quiet);
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
                if std::mem::take(&mut self.again) && self.room.as_ref() == Some(&topic) {
                    self.ask_members(exchange, None, topic);
                }
            }
            Some(Waiting::Quiet | Waiting::Hello(_) | Waiting::Ping | Waiting::Enter(..) | Waiting::Say) | None => {}
        }
    }

    fn refused(&mut self, exchange: &mut Exchange, about: Option<Waiting>, code: Code) {
        let about = match about {
            // What somebody may not join it may be in already, and what it may not list has no unread messages: the
            // subscription decides.
            Some(Waiting::Join(topic)) if code == Code::PermissionDenied => {
                return self.look_for_unread(exchange, topic);
            }
            Some(Waiting::Unread(topic)) if code == Code::PermissionDenied => {
                return self.subscribe(exchange, Id::EnterRoom, topic, None);
            }
            Some(Waiting::Enter(about, topic)) if code == Code::AlreadyExists => {
                return self.entered(exchange, about, topic);
            }
            Some(Waiting::Quiet) => return,
            Some(Waiting::Members(about, _)) => {
                (self.asking, self.again) = (false, false);
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
        let Ok(Stored { kind, text, event }) = serde_json::from_slice(body) else { return exchange.drop_one() };
        match (&*kind, text, event) {
            ("text", Some(msg), _) => {
                let room_id = if is_room || topic == WORLD { name_of(topic) } else { "" };
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
            let about = self.entering.take().unwrap_or(Id::BroadcastRoomInfo);
            respond(exchange, about, &place.info(topic));
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

/// Whether it is kept how far users have come in a topic.
fn has_marks(topic: &str) -> bool {
    matches!(Conversation::parse(topic), Some(Conversation::Group(_) | Conversation::Direct(..)))
}

fn read<T: Message + Default>(payload: &[u8]) -> Result<T, DecodeError> {
    T::decode(payload).map_err(|_| DecodeError { flaw: Flaw::Invalid, ..broken("no protobuf of what `MsgID` says") })
}

fn respond(exchange: &mut Exchange, about: Id, payload: &impl Message) {
    respond_with(exchange, about as i32, SUCCESS, payload.encode_to_vec());
}

fn respond_with(exchange: &mut Exchange, msg_id: i32, code: i32, payload: Vec<u8>) {
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

const NO_ROOM: DecodeError = invalid("`RoomId` is no conversation");

// The codes of `errcode.proto`.
const SUCCESS: i32 = 200;
const NO_HANDLES: i32 = 406;
const INTERNAL_ERR: i32 = 1000;
const AUTH_ERR: i32 = 10_000;
const INVALID_PARAM: i32 = 10_001;
