//! A client of Hawos: who it is, the room that it is in, and the requests of it that are not answered yet.

mod place;
mod told;
pub(super) mod wire;

use std::collections::{BTreeMap, VecDeque};

use chat::conversation::Conversation;
use prost::Message;
use serde_json::json;
use session::{Client, DecodeError, Flaw};

use self::{
    place::Place,
    told::{INTERNAL_ERR, respond, respond_with},
    wire::{AuthMsg, ChatMsg, CreateRoomArg, Id, Request, RoomInfo, Said, TargetRoom},
};
use super::exchange::{Exchange, WORLD, broken, invalid, name_of, topic_of, unknown};

/// What this user's devices are called that speak Hawos.
const DEVICE: &str = "hawos";

/// What a room is called that a client of Hawos makes: it gives none.
const ROOM_NAME: &str = "room";

/// Conversations among which the unread ones are looked for, and members that are named: one page of each.
const LINES: usize = 200;

/// A client of Hawos.
#[derive(Debug)]
pub(super) struct Hawos {
    login: Login,
    /// It said who it is by `AuthMsg`, which has an answer.
    wants_token: bool,
    /// The `MsgID` of what was no request, for the error about it.
    hearing: i32,
    /// The user's own topic.
    own: Option<String>,
    /// The topic of the room that it is in.
    room: Option<String>,
    /// Who is in the room, and in the world.
    places: BTreeMap<String, Place>,
    /// How often the open room was entered without an answer yet: its people are told right behind the subscription.
    entering: u32,
    /// The last message of the room that was told, and that which was told before the last pong.
    told: u64,
    ponged: u64,
    /// The members of the group are being asked for; and are to be again.
    asking: bool,
    again: bool,
    day: Option<u64>,
    /// What was refused for a while, and is to be asked for again. Each is a subscription, of which a session has some.
    owed: VecDeque<Owed>,
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

/// What nobody but the adapter asks for.
#[derive(Debug)]
enum Owed {
    /// To hear what is pushed to the user.
    Own(String),
    /// To hear no more of a room.
    Leave(String),
}

#[derive(Debug)]
enum Waiting {
    /// The answer is nobody's business.
    Quiet(Owed),
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
            own: None,
            room: None,
            places: BTreeMap::from([(WORLD.to_owned(), Place::default())]),
            entering: 0,
            told: 0,
            ponged: 0,
            asking: false,
            again: false,
            day: None,
            owed: VecDeque::new(),
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
        if let Some(owed) = self.owed.pop_front() {
            self.ask_owed(exchange, owed);
        }
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
        if self.again && !self.asking {
            self.look_again(exchange);
        }
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
        match Conversation::parse(&topic) {
            Some(Conversation::Group(_)) => {
                let id = exchange.request("chat.join", &json!({"topic": topic}));
                self.waiting.insert(id, Waiting::Join(topic));
            }
            Some(Conversation::Direct(..)) => self.look_for_unread(exchange, topic),
            // The session hears the world already, and says so: without a question this would be free, for strangers too.
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
                    None => self.entering += 1,
                }
                self.places.entry(topic).or_default();
            }
        }
    }

    fn leave(&mut self, exchange: &mut Exchange) {
        self.again = false;
        for _ in 0..std::mem::take(&mut self.entering) {
            // Who is there was never told before it went on.
            respond_with(exchange, Id::EnterRoom as i32, INTERNAL_ERR, Vec::new());
        }
        let Some(last) = self.room.take().filter(|room| room != WORLD) else { return };
        self.places.remove(&last);
        self.ask_owed(exchange, Owed::Leave(last));
    }

    fn ask_owed(&mut self, exchange: &mut Exchange, owed: Owed) {
        let id = match &owed {
            Owed::Own(topic) => exchange.follow(topic, None),
            Owed::Leave(topic) => {
                let id = exchange.id();
                exchange.ask(&Client::Unsub { id, topic: topic.as_str().into() });
                id
            }
        };
        self.waiting.insert(id, Waiting::Quiet(owed));
    }

    /// Whether it has left a room that the session still hears.
    fn still_hears(&self, topic: &str) -> bool {
        self.owed.iter().any(|owed| matches!(owed, Owed::Leave(left) if left == topic))
    }

    /// Asks once more who is in the group.
    fn look_again(&mut self, exchange: &mut Exchange) {
        self.again = false;
        if let Some(room) = self.room.clone() {
            self.ask_members(exchange, None, room);
        }
    }

    fn ask_members(&mut self, exchange: &mut Exchange, about: Option<Id>, topic: String) {
        self.asking = true;
        let id = exchange.request("chat.members", &json!({"topic": topic, "limit": LINES}));
        self.waiting.insert(id, Waiting::Members(about, topic));
    }
}

/// Whether it is kept how far users have come in a topic.
fn has_marks(topic: &str) -> bool {
    matches!(Conversation::parse(topic), Some(Conversation::Group(_) | Conversation::Direct(..)))
}

fn read<T: Message + Default>(payload: &[u8]) -> Result<T, DecodeError> {
    T::decode(payload).map_err(|_| DecodeError { flaw: Flaw::Invalid, ..broken("no protobuf of what `MsgID` says") })
}

const NO_ROOM: DecodeError = invalid("`RoomId` is no conversation");
