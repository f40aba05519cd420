//! One client of a storm, without sockets: what a good client does when its server goes and comes back.
//!
//! It does as the chat page's `session.js` does, with the same waits: a backoff that doubles and is only partly kept, the
//! ticket of its last welcome and the token if that is refused, every topic from the last offset that it has, one
//! publication per topic under way, and the same one again until it is answered.

use std::{collections::VecDeque, mem};

use bytes::BytesMut;
use engine::Stream;
use session::{
    Client as Say, Code, Credential, DecodeError, Hello, Level, Server, SubState, Subscription, Topic, decode_server,
    encode_client,
};
use thiserror::Error;

use super::{
    book::{Acknowledged, Book},
    plan::{Place, Setup},
};
use crate::{
    speech::body,
    stamp::Stamp,
    wire::{self, Item, Wire, WireError},
};

const MS: u64 = 1_000_000;
/// From the first byte to `welcome`.
const HELLO_NS: u64 = 10_000 * MS;
/// Reconnecting: doubled from first to last, and only 50-100 % of it, so that clients do not come back in step.
const BACKOFF_FIRST_NS: u64 = 300 * MS;
const BACKOFF_LAST_NS: u64 = 15_000 * MS;
/// A connection that lived this long was a good one: the next backoff starts afresh.
const STABLE_NS: u64 = 5_000 * MS;
/// A subscription of the hello that `welcome` did not confirm is asked for again.
const SUB_NS: u64 = 3_000 * MS;
/// An unanswered publication: the connection is taken for dead.
const ANSWER_NS: u64 = 20_000 * MS;
/// After `goaway` the server finishes what is under way.
const GOAWAY_NS: u64 = 1_500 * MS;
/// When to try again if a refusal does not say.
const RETRY_NS: u64 = 1_000 * MS;

/// Correlation ids: the hello's, a subscription's by its place, any ping's, and from there on publications by number.
const HELLO_ID: u32 = 1;
const SUB_ID: u32 = 2;
const PING_ID: u32 = 4;
const PUB_ID: u32 = 5;

/// How far a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// It waits until it tries again.
    Away,
    /// A connection is being opened, or the session on it.
    Greeting,
    /// Its session is open.
    Online,
    /// The server said that it goes; what is under way may end.
    Leaving,
}

/// What a client waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// To connect again.
    Retry,
    /// The welcome.
    Hello,
    /// The connection to have been a good one.
    Stable,
    /// Subscriptions that were not confirmed.
    Subs,
    /// The end that the server has announced.
    Goodbye,
    /// The answer to a publication: by its number.
    Answer(u64),
    /// The end of a pause that a refusal asked for.
    Flush,
}

/// What a client does not do itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// Tell it when this time has come, unless its connection has ended by then.
    Wake(u64, Timer),
    /// Open a connection.
    Connect,
    /// It has got a `pub_ok` for what was meant to leave at this time.
    Acknowledged(u64),
    /// It has got a message that was meant to leave at this time.
    Delivered(u64),
    /// A try failed, for this reason.
    Failed(&'static str),
}

/// Why a connection is ended from here.
#[derive(Debug, Error)]
pub(crate) enum Fault {
    #[error("{0}")]
    Wire(#[from] WireError),
    #[error("{0}")]
    Speech(#[from] DecodeError),
    #[error("the hello was refused: {}", .0.name())]
    Refused(Code, Option<u32>),
    #[error("the server closed")]
    Closed,
}

#[derive(Debug)]
struct Held {
    topic: u32,
    name: Box<str>,
    epoch: Option<u64>,
    last: u64,
    head: u64,
    alias: u32,
    joined: bool,
    outbox: VecDeque<Entry>,
    flying: bool,
    seq: u64,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    number: u64,
    seq: u64,
    planned_ns: u64,
}

/// One client.
#[derive(Debug)]
pub(crate) struct Client {
    id: u32,
    pub(crate) stream: Option<Stream>,
    pub(crate) state: State,
    /// Counts its connections: a timer of an earlier one is void.
    pub(crate) life: u32,
    wire: Wire,
    rest: Vec<u8>,
    held: [Held; 2],
    resume: Option<(Box<str>, Box<str>)>,
    said_hello: bool,
    attempt: u32,
    published: u64,
    held_until_ns: u64,
    farewell_ns: Option<u64>,
    online_ns: u64,
    random: u32,
}

/// Where a client's doings go.
pub(crate) struct Cx<'a> {
    pub(crate) setup: &'a Setup,
    pub(crate) now_ns: u64,
    /// Seconds since 1970.
    pub(crate) now_secs: u64,
    pub(crate) book: &'a mut Book,
    pub(crate) out: &'a mut Vec<u8>,
    pub(crate) acts: &'a mut Vec<Act>,
}

impl Client {
    pub(crate) fn new(id: u32, setup: &Setup) -> Self {
        let held = |place| Held {
            topic: setup.topic(id, place),
            name: setup.topic_name(setup.topic(id, place)).into(),
            epoch: None,
            last: 0,
            head: 0,
            alias: 0,
            joined: false,
            outbox: VecDeque::new(),
            flying: false,
            seq: 0,
        };
        Self {
            id,
            stream: None,
            state: State::Away,
            life: 0,
            wire: wire(setup),
            rest: Vec::new(),
            held: Place::ALL.map(held),
            resume: None,
            said_hello: false,
            attempt: 0,
            published: 0,
            held_until_ns: 0,
            farewell_ns: None,
            online_ns: 0,
            random: (id ^ setup.plan.seed as u32).wrapping_mul(0x9e37_79b9) | 1,
        }
    }

    /// Whether its session is open and it has all that was said while it was away.
    pub(crate) fn has_resumed(&self) -> bool {
        self.state == State::Online && self.held.iter().all(|held| held.joined && held.last >= held.head)
    }

    /// Since when its session is open, if it is.
    pub(crate) fn online_since(&self) -> Option<u64> {
        (self.state == State::Online).then_some(self.online_ns)
    }

    /// Publications that wait for their answer.
    pub(crate) fn waiting(&self) -> u64 {
        self.held.iter().map(|held| held.outbox.len() as u64).sum()
    }

    /// How far it has come, for the book.
    pub(crate) fn close(&self, book: &mut Book) {
        book.account.unanswered += self.waiting();
        self.held.iter().for_each(|held| book.end(held.topic, held.last));
    }

    /// Begins to open a connection.
    pub(crate) fn connect(&mut self, cx: &mut Cx<'_>) {
        self.state = State::Greeting;
        cx.acts.push(Act::Connect);
        cx.acts.push(Act::Wake(cx.now_ns + HELLO_NS, Timer::Hello));
    }

    /// The connection is up.
    pub(crate) fn opened(&mut self, stream: Stream, cx: &mut Cx<'_>) {
        self.stream = Some(stream);
        self.wire = wire(cx.setup);
        wire::put_upgrade(&cx.setup.target.to_string(), "/ws", Some(cx.setup.subprotocol()), cx.out);
    }

    /// The connection is gone, or did not come; it is tried again after `wait_ns`, or after the backoff.
    pub(crate) fn lost(&mut self, wait_ns: Option<u64>, cx: &mut Cx<'_>) {
        self.detach();
        let most = BACKOFF_LAST_NS.min(BACKOFF_FIRST_NS << self.attempt.min(16));
        let wait_ns = wait_ns.or(self.farewell_ns.take()).unwrap_or_else(|| self.part_of(most / 2, most));
        self.farewell_ns = None;
        self.attempt += 1;
        cx.acts.push(Act::Wake(cx.now_ns + wait_ns, Timer::Retry));
    }

    fn detach(&mut self) {
        self.life += 1;
        self.state = State::Away;
        self.stream = None;
        self.rest = Vec::new();
        if mem::take(&mut self.said_hello) {
            // Not even an answer to the ticket: next time the token.
            self.resume = None;
        }
        for held in &mut self.held {
            (held.joined, held.flying) = (false, false);
        }
    }

    /// A time has come; true if the connection is to be given up.
    pub(crate) fn woken(&mut self, timer: Timer, cx: &mut Cx<'_>) -> bool {
        match timer {
            Timer::Retry => self.connect(cx),
            Timer::Hello if self.state == State::Greeting => {
                cx.acts.push(Act::Failed("no welcome within 10 s"));
                return true;
            }
            Timer::Stable => self.attempt = 0,
            Timer::Subs => self.ask_again(cx),
            Timer::Goodbye => return self.state == State::Leaving,
            Timer::Answer(number) => {
                let waits = |held: &Held| held.flying && held.outbox.front().is_some_and(|head| head.number == number);
                if self.held.iter().any(waits) {
                    cx.book.fault("a publication without an answer for 20 s");
                    return true;
                }
            }
            Timer::Flush => self.flush(cx),
            Timer::Hello => {}
        }
        false
    }

    /// Publishes a message that was meant to leave at `planned_ns`, now or as soon as it can be.
    pub(crate) fn publish(&mut self, planned_ns: u64, place: Place, cx: &mut Cx<'_>) {
        let held = &mut self.held[place as usize];
        held.seq += 1;
        held.outbox.push_back(Entry { number: self.published, seq: held.seq, planned_ns });
        self.published += 1;
        cx.book.account.published += 1;
        self.flush(cx);
    }

    /// Bytes arrived.
    pub(crate) fn handle(&mut self, bytes: &[u8], cx: &mut Cx<'_>) -> Result<(), Fault> {
        if self.rest.is_empty() {
            let used = self.take(bytes, cx)?;
            self.rest.extend_from_slice(&bytes[used..]);
            return Ok(());
        }
        let mut whole = mem::take(&mut self.rest);
        whole.extend_from_slice(bytes);
        let used = self.take(&whole, cx)?;
        if used < whole.len() {
            whole.drain(..used);
            self.rest = whole;
        }
        Ok(())
    }

    fn take(&mut self, bytes: &[u8], cx: &mut Cx<'_>) -> Result<usize, Fault> {
        let mut used = 0;
        while let Some((len, item)) = self.wire.parse(&bytes[used..])? {
            used += len;
            match item {
                Item::Message(message) => self.told(message, cx)?,
                Item::Upgraded => {
                    self.wire = Wire::WebSocket { upgraded: true, text: is_text(cx.setup) };
                    self.hello(cx);
                }
                Item::Ping(payload) => {
                    let mask = self.random();
                    self.wire.put_pong(payload, mask, cx.out);
                }
                Item::Pong => {}
                Item::Close(_) => return Err(Fault::Closed),
            }
        }
        Ok(used)
    }

    fn hello(&mut self, cx: &mut Cx<'_>) {
        let credential = match &self.resume {
            Some((session, ticket)) => Credential::Resume { session: (**session).into(), ticket: (**ticket).into() },
            None => Credential::Token(cx.setup.token(self.id, cx.now_secs).into()),
        };
        let mut hello = Hello::new(HELLO_ID, credential, "phone");
        hello.subs.extend(self.held.iter().map(|held| Subscription {
            topic: (*held.name).into(),
            epoch: held.epoch,
            after: Some(held.last),
        }));
        let message = encode(cx.setup, &Say::Hello(hello));
        self.said_hello = true;
        self.say(&message, cx);
    }

    fn told(&mut self, message: &[u8], cx: &mut Cx<'_>) -> Result<(), Fault> {
        match decode_server(cx.setup.codec(), message)? {
            Server::Welcome { session, ticket, subs, .. } => {
                self.said_hello = false;
                self.resume = Some(((*session).into(), (*ticket).into()));
                (self.state, self.online_ns) = (State::Online, cx.now_ns);
                cx.acts.push(Act::Wake(cx.now_ns + STABLE_NS, Timer::Stable));
                cx.acts.push(Act::Wake(cx.now_ns + SUB_NS, Timer::Subs));
                for sub in &subs {
                    match sub.state {
                        SubState::Ok { alias, epoch, head } => self.joined(&sub.topic, alias, epoch, head, cx),
                        SubState::Refused { code, .. } => cx.book.fault(format!("subscription: {}", code.name())),
                    }
                }
                self.flush(cx);
            }
            Server::SubOk { topic, alias, epoch, head, .. } => self.joined(&topic, alias, epoch, head, cx),
            Server::Msg { topic, alias, offset, body, .. } => self.message(&topic, alias, offset, body, cx),
            Server::PubOk { id, offset, level, .. } => self.acknowledged(id, offset, level, cx),
            Server::Err { id, code, retry_ms, .. } => return self.refused(id, code, retry_ms, cx),
            Server::Pong { id: 0, .. } => {
                let ping = encode(cx.setup, &Say::Ping { id: PING_ID });
                self.say(&ping, cx);
            }
            Server::Gap { .. } => cx.book.fault("gap in a topic"),
            Server::Goaway { retry_ms, .. } => self.sent_away(retry_ms, cx),
            Server::Pong { .. }
            | Server::UnsubOk { .. }
            | Server::Res { .. }
            | Server::Eph { .. }
            | Server::Presence { .. } => {}
        }
        Ok(())
    }

    fn joined(&mut self, topic: &str, alias: u32, epoch: u64, head: u64, cx: &mut Cx<'_>) {
        let Some(held) = self.held.iter_mut().find(|held| *held.name == *topic) else {
            return cx.book.fault("a subscription that nobody asked for");
        };
        // A topic in which nobody has said anything has nothing to keep.
        if held.last > 0 && (held.epoch != Some(epoch) || head < held.last) {
            cx.book.account.forgotten += 1;
            held.last = 0;
        }
        (held.epoch, held.head, held.alias, held.joined) = (Some(epoch), head, alias, true);
    }

    fn message(&mut self, topic: &str, alias: u32, offset: u64, body: &[u8], cx: &mut Cx<'_>) {
        let is_it = |held: &Held| match topic {
            "" => held.joined && held.alias == alias,
            topic => *held.name == *topic,
        };
        let Some(held) = self.held.iter_mut().find(|held| is_it(held)) else {
            return cx.book.fault("a message of a topic that is not subscribed to");
        };
        let Some(stamp) = Stamp::find(body).flatten() else {
            cx.book.account.different += 1;
            return;
        };
        held.last = cx.book.read(held.topic, held.last, offset, (stamp.connection, stamp.number));
        cx.acts.push(Act::Delivered(stamp.planned_ns));
    }

    fn acknowledged(&mut self, id: u32, offset: u64, level: Level, cx: &mut Cx<'_>) {
        let Some(held) = self.answered(id) else {
            return cx.book.fault("an answer to nothing");
        };
        held.flying = false;
        if let Some(entry) = held.outbox.pop_front() {
            let topic = held.topic;
            cx.book.account.from_memory += u64::from(level != Level::Durable);
            cx.book.acknowledge(Acknowledged { topic, offset, message: (self.id, entry.number) });
            cx.acts.push(Act::Acknowledged(entry.planned_ns));
        }
        self.flush(cx);
    }

    fn refused(&mut self, id: Option<u32>, code: Code, retry_ms: Option<u32>, cx: &mut Cx<'_>) -> Result<(), Fault> {
        if self.state == State::Greeting {
            return Err(Fault::Refused(code, retry_ms));
        }
        let name = code.name();
        let passes =
            matches!(code, Code::ResourceExhausted | Code::Unavailable | Code::DeadlineExceeded | Code::Internal);
        let Some(held) = id.and_then(|id| self.answered(id)) else {
            cx.book.fault(format!("refused: {name}"));
            return Ok(());
        };
        held.flying = false;
        if passes {
            // The answer of a server that stops: the same publication again.
            cx.acts.push(Act::Failed("a publication was put off"));
            self.held_until_ns = cx.now_ns + retry_ms.map_or(RETRY_NS, |ms| u64::from(ms) * MS);
            cx.acts.push(Act::Wake(self.held_until_ns, Timer::Flush));
        } else {
            held.outbox.pop_front();
            cx.book.account.unanswered += 1;
            cx.book.fault(format!("publication refused: {name}"));
            self.flush(cx);
        }
        Ok(())
    }

    /// What was said to the hello: when it is tried again.
    pub(crate) fn refusal_wait_ns(&mut self, retry_ms: Option<u32>) -> Option<u64> {
        if self.resume.take().is_some() {
            // The ticket is too old or from another life of the server: the token still counts.
            return Some(0);
        }
        retry_ms.map(|ms| u64::from(ms) * MS)
    }

    fn sent_away(&mut self, retry_ms: u32, cx: &mut Cx<'_>) {
        let first = u64::from(retry_ms) * MS;
        self.farewell_ns = Some(self.part_of(first, first + first / 2));
        self.state = State::Leaving;
        cx.acts.push(Act::Wake(cx.now_ns + GOAWAY_NS, Timer::Goodbye));
    }

    /// The topic whose publication under way has this correlation id.
    fn answered(&mut self, id: u32) -> Option<&mut Held> {
        self.held.iter_mut().find(|held| held.flying && held.outbox.front().is_some_and(|head| head.id() == id))
    }

    fn ask_again(&mut self, cx: &mut Cx<'_>) {
        if self.state != State::Online {
            return;
        }
        let mut asked = false;
        for place in Place::ALL {
            let held = &self.held[place as usize];
            if !held.joined {
                let (id, topic) = (SUB_ID + place as u32, Topic::from(&*held.name));
                let sub = Say::Sub { id, topic, epoch: held.epoch, after: Some(held.last) };
                let message = encode(cx.setup, &sub);
                self.say(&message, cx);
                asked = true;
            }
        }
        if asked {
            cx.book.fault("a subscription was asked for again");
            cx.acts.push(Act::Wake(cx.now_ns + SUB_NS, Timer::Subs));
        }
    }

    fn flush(&mut self, cx: &mut Cx<'_>) {
        if self.state != State::Online || cx.now_ns < self.held_until_ns {
            return;
        }
        for place in Place::ALL {
            let held = &mut self.held[place as usize];
            let Some(entry) = held.outbox.front().copied().filter(|_| !held.flying) else { continue };
            held.flying = true;
            let mut text = String::new();
            let stamp = Stamp { connection: self.id, number: entry.number, planned_ns: entry.planned_ns, late_ns: 0 };
            stamp.write_text(cx.setup.text_bytes(), &mut text);
            let text = body(&text);
            let topic = Topic::from(&*held.name);
            let message = Say::Pub { id: entry.id(), topic, seq: Some(entry.seq), body: text.as_bytes() };
            let message = encode(cx.setup, &message);
            self.say(&message, cx);
            cx.acts.push(Act::Wake(cx.now_ns + ANSWER_NS, Timer::Answer(entry.number)));
        }
    }

    fn say(&mut self, message: &[u8], cx: &mut Cx<'_>) {
        let mask = self.random();
        self.wire.put_slice(message, mask, cx.out);
    }

    fn part_of(&mut self, least: u64, most: u64) -> u64 {
        least + u64::from(self.random()) * (most - least) / u64::from(u32::MAX)
    }

    fn random(&mut self) -> u32 {
        // xorshift: unpredictable enough for waits and masks, and cheap.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 17;
        self.random ^= self.random << 5;
        self.random
    }
}

impl Entry {
    fn id(&self) -> u32 {
        PUB_ID + u32::try_from(self.number).unwrap_or(0)
    }
}

fn encode(setup: &Setup, message: &Say<'_>) -> BytesMut {
    let mut out = BytesMut::new();
    encode_client(setup.codec(), message, &mut out);
    out
}

fn is_text(setup: &Setup) -> bool {
    setup.codec() == session::Codec::Json
}

fn wire(setup: &Setup) -> Wire {
    Wire::WebSocket { upgraded: false, text: is_text(setup) }
}
