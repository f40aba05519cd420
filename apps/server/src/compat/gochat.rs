//! A client of GoChat: its conversations, and the requests of it that are not answered yet.

mod wire;

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, VecDeque},
};

use chat::{
    TEXT_CHARS_MAX,
    conversation::{Conversation, personal},
};
use serde_json::json;
use session::{Client, Code, DecodeError, Names, Server};
use sha2::{Digest, Sha256};

use self::wire::{Detail, Envelope, Inbox, News, Out, Payload, Read, Said, Say, Sender, Stored};
use super::exchange::{CLIENT_ID_BYTES_MAX, Exchange, WORLD, broken, invalid, name_of, passes, topic_of, unknown};

/// What this user's devices are called that speak GoChat: a repeat is known after a reconnect, too.
const DEVICE: &str = "gochat";

/// Conversations that are taken up at the start: what a screen or two show, and half of what a session may say at once.
const CONVERSATIONS_MAX: usize = 50;

/// Topics that are followed: some fewer than a session may subscribe to.
const TOPICS_MAX: usize = 200;

/// Subscriptions that are asked for at once: most of a session's credit is left to what the client says meanwhile.
const FOLLOWING_MAX: usize = 16;

const TOO_LARGE: &str = "`content` has more than 5000 characters";

const _: () = assert!(TEXT_CHARS_MAX == 5000, "the message says so");

/// A client of GoChat.
#[derive(Debug)]
pub(super) struct GoChat {
    /// Who it is, once that is known, and the user's own topic.
    user: String,
    own: Option<String>,
    /// Topics that are followed, or will be.
    topics: BTreeSet<String>,
    /// Those of them that are still to be asked for, each from where on; and how many are being asked for.
    behind: VecDeque<(String, Option<u64>)>,
    following: usize,
    /// The list of conversations was refused, and is to be asked for again.
    listless: bool,
    /// Requests without an answer; the session lets no more than its credit in.
    waiting: BTreeMap<u32, Waiting>,
}

#[derive(Debug)]
enum Waiting {
    /// A ping of the client.
    Ping,
    /// The list of conversations.
    Inbox,
    /// A subscription, and from where on.
    Topic(String, Option<u64>),
    /// A message, under its client's name of it.
    Message(Option<String>),
}

impl GoChat {
    /// Says hello at once: the token is in the URL.
    pub(super) fn new(exchange: &mut Exchange, token: &str) -> Self {
        exchange.hello(token, DEVICE);
        Self {
            user: String::new(),
            own: None,
            topics: BTreeSet::from([WORLD.to_owned()]),
            behind: VecDeque::new(),
            following: 0,
            listless: false,
            waiting: BTreeMap::new(),
        }
    }

    /// Takes a message of the client.
    pub(super) fn hear(&mut self, exchange: &mut Exchange, bytes: &[u8]) -> Result<(), DecodeError> {
        let envelope: Envelope<'_> =
            serde_json::from_slice(bytes).map_err(|_| broken("not {\"type\": .., \"data\": ..}"))?;
        self.go_on(exchange);
        let data = envelope.data.map_or("null", |data| data.get());
        match &*envelope.kind {
            "ping" => {
                let id = exchange.id();
                self.waiting.insert(id, Waiting::Ping);
                exchange.ask(&Client::Ping { id });
                Ok(())
            }
            "send-message" => {
                let say = serde_json::from_str(data)
                    .map_err(|_| invalid("`data` is {conversationId, content, messageType, client_msg_id}"))?;
                self.send(exchange, say)
            }
            "mark-read" => {
                let Read { conversation, seq } =
                    serde_json::from_str(data).map_err(|_| invalid("`data` is {conversationId, seqId}"))?;
                exchange.acknowledge(&topic_of(&conversation).ok_or(NO_CONVERSATION)?, seq);
                Ok(())
            }
            _ => Err(unknown("there is no such `type`")),
        }
    }

    fn send(&mut self, exchange: &mut Exchange, say: Say<'_>) -> Result<(), DecodeError> {
        let topic = topic_of(&say.conversation).ok_or(NO_CONVERSATION)?;
        let client_id = say.client_id.as_deref().filter(|id| !id.is_empty());
        if client_id.is_some_and(|id| id.len() > CLIENT_ID_BYTES_MAX) {
            return Err(invalid("`client_msg_id` has more than 128 bytes"));
        }
        if say.content.chars().count() > TEXT_CHARS_MAX {
            return Err(invalid(TOO_LARGE));
        }
        let kind = say.kind.as_ref().map_or(Some("text"), wire::MessageType::name).ok_or(NO_TYPE)?;
        let body = Said::new(kind, &say.content, client_id).ok_or(NO_FILE)?.json();
        if self.note(exchange, &topic) {
            // Not behind others: what is said next is to be heard.
            self.subscribe(exchange, topic.clone(), None);
        }
        let id = exchange.id();
        let seq = client_id.map(counter);
        exchange.ask(&Client::Pub { id, topic: topic.as_str().into(), seq, body: body.as_bytes() });
        self.waiting.insert(id, Waiting::Message(client_id.map(str::to_owned)));
        Ok(())
    }

    /// Takes what the server says.
    pub(super) fn told(&mut self, exchange: &mut Exchange, message: &Server<'_>) {
        match message {
            Server::Welcome { user, .. } => self.welcome(exchange, user),
            Server::SubOk { id, .. } => {
                if let Some(Waiting::Topic(..)) = self.waiting.remove(id) {
                    self.following -= 1;
                    self.advance(exchange);
                }
            }
            Server::UnsubOk { id, topic } => {
                self.waiting.remove(id);
                self.topics.remove(&**topic);
            }
            Server::PubOk { id, topic, offset, .. } => {
                if let Some(Waiting::Message(client_msg_id)) = self.waiting.remove(id) {
                    let message_id = message_id(topic, *offset);
                    reply(exchange, Out::MessageAck { client_msg_id, message_id, status: "success" });
                }
            }
            Server::Res { id, body } => {
                if let Some(Waiting::Inbox) = self.waiting.remove(id) {
                    self.take_up(exchange, body);
                }
            }
            Server::Pong { id, at_ms } => {
                if let Some(Waiting::Ping) = self.waiting.remove(id) {
                    exchange.replies.push_back(json!({"type": "pong", "timestamp": at_ms / 1000}).to_string().into());
                }
            }
            Server::Err { id, code, message, retry_ms } => {
                let about = id.and_then(|id| self.waiting.remove(&id));
                self.refused(exchange, about, (*code, message, *retry_ms));
            }
            Server::Msg { topic, offset, from, at_ms, body, .. } => {
                self.message(exchange, (topic, *offset), (from, *at_ms), body);
            }
            Server::Presence { topic, joined, left, .. } => self.presence(exchange, topic, joined, left),
            Server::Eph { .. } | Server::Gap { .. } | Server::Goaway { .. } => exchange.drop_one(),
        }
    }

    /// Listens to the user's own topic, and asks what else there is.
    fn welcome(&mut self, exchange: &mut Exchange, user: &str) {
        user.clone_into(&mut self.user);
        self.own = personal(user);
        if let Some(own) = self.own.clone() {
            self.follow(exchange, &own, None);
        }
        self.ask_inbox(exchange);
    }

    fn ask_inbox(&mut self, exchange: &mut Exchange) {
        let id = exchange.request("inbox.list", &json!({"limit": CONVERSATIONS_MAX}));
        self.waiting.insert(id, Waiting::Inbox);
    }

    /// Asks again for what was refused for a while: one thing for each message of the client, then as answers come.
    fn go_on(&mut self, exchange: &mut Exchange) {
        if std::mem::take(&mut self.listless) {
            self.ask_inbox(exchange);
        } else if self.following == 0
            && let Some((topic, after)) = self.behind.pop_front()
        {
            self.subscribe(exchange, topic, after);
        }
    }

    fn take_up(&mut self, exchange: &mut Exchange, list: &[u8]) {
        let Ok(Inbox { conversations }) = serde_json::from_slice(list) else { return exchange.drop_one() };
        for line in conversations.iter().filter(|line| !line.left).take(CONVERSATIONS_MAX) {
            self.follow(exchange, &line.topic, Some(line.head.saturating_sub(line.unread)));
        }
    }

    /// Subscribes, unless it has or there is no room for more.
    fn follow(&mut self, exchange: &mut Exchange, topic: &str, after: Option<u64>) {
        if self.note(exchange, topic) {
            self.behind.push_back((topic.to_owned(), after));
            self.advance(exchange);
        }
    }

    /// Whether a topic is now one of those that are followed, and was not before.
    fn note(&mut self, exchange: &mut Exchange, topic: &str) -> bool {
        if self.topics.contains(topic) {
            return false;
        }
        if self.topics.len() >= TOPICS_MAX {
            exchange.drop_one();
            return false;
        }
        self.topics.insert(topic.to_owned())
    }

    fn advance(&mut self, exchange: &mut Exchange) {
        while self.following < FOLLOWING_MAX
            && let Some((topic, after)) = self.behind.pop_front()
        {
            self.subscribe(exchange, topic, after);
        }
    }

    fn subscribe(&mut self, exchange: &mut Exchange, topic: String, after: Option<u64>) {
        let id = exchange.follow(&topic, after);
        self.waiting.insert(id, Waiting::Topic(topic, after));
        self.following += 1;
    }

    fn forget(&mut self, topic: &str) {
        self.topics.remove(topic);
        self.behind.retain(|(other, _)| other != topic);
    }

    /// A subscription was refused: for now, since there is one, or for good.
    fn not_followed(
        &mut self,
        exchange: &mut Exchange,
        (topic, after): (String, Option<u64>),
        (code, retry_ms): (Code, Option<u32>),
    ) {
        self.following -= 1;
        if passes(code, retry_ms) {
            if self.topics.contains(&topic) {
                self.behind.push_front((topic, after));
            }
            return;
        }
        if code != Code::AlreadyExists {
            self.topics.remove(&topic);
        }
        self.advance(exchange);
    }

    fn refused(
        &mut self,
        exchange: &mut Exchange,
        about: Option<Waiting>,
        (code, message, retry_ms): (Code, &str, Option<u32>),
    ) {
        let client_msg_id = match about {
            // A guest has no list.
            Some(Waiting::Inbox) => {
                self.listless = passes(code, retry_ms);
                return;
            }
            Some(Waiting::Topic(topic, after)) => {
                return self.not_followed(exchange, (topic, after), (code, retry_ms));
            }
            Some(Waiting::Message(client_msg_id)) => client_msg_id,
            Some(Waiting::Ping) | None => None,
        };
        let code = if message == TOO_LARGE { "MESSAGE_TOO_LARGE" } else { error_code(code) };
        reply(exchange, Out::Error { code, message, details: Detail { client_msg_id, retry_ms } });
    }

    fn message(
        &mut self,
        exchange: &mut Exchange,
        (topic, offset): (&str, u64),
        (from, at_ms): (&str, u64),
        body: &[u8],
    ) {
        if self.own.as_deref() == Some(topic)
            && let Ok(news) = serde_json::from_slice::<News>(body)
        {
            return self.news(exchange, news);
        }
        let Some((message_type, content)) = Stored::read(body).and_then(Stored::shown) else {
            return exchange.drop_one();
        };
        let sender = Sender { id: from, username: from, avatar_url: "" };
        let (id, conversation_id) = (message_id(topic, offset), name_of(topic));
        let created_at = at_ms / 1000;
        reply(
            exchange,
            Out::NewMessage { id, conversation_id, sender, content, message_type, seq_id: offset, created_at },
        );
    }

    /// What is new in the user's list of conversations.
    fn news(&mut self, exchange: &mut Exchange, news: News) {
        match news {
            News::Conversation { topic, entry: Some(entry) } if entry.left_ms.is_none() => {
                self.follow(exchange, &topic, Some(entry.read));
            }
            News::Conversation { topic, .. } => self.forget(&topic),
            News::Contact {} => exchange.drop_one(),
        }
    }

    /// Elsewhere somebody who leaves a conversation may still be there in another one.
    fn presence(&self, exchange: &mut Exchange, topic: &str, joined: &Names<'_>, left: &Names<'_>) {
        if !matches!(Conversation::parse(topic), Some(Conversation::Direct(..))) {
            return exchange.drop_one();
        }
        for user_id in joined.iter().filter(|user| *user != self.user) {
            reply(exchange, Out::OnlineStatus { user_id, status: "online" });
        }
        for user_id in left.iter().filter(|user| *user != self.user) {
            reply(exchange, Out::OnlineStatus { user_id, status: "offline" });
        }
    }
}

fn reply(exchange: &mut Exchange, out: Out<'_>) {
    exchange.replies.push_back(Payload::json(&out));
}

fn message_id(topic: &str, offset: u64) -> String {
    format!("{}:{offset}", name_of(topic))
}

/// A counter for a name: 53 bits of its SHA-256, so that two names of one user in one topic have one by an accident of
/// 1 in 10^10 among a thousand.
fn counter(client_id: &str) -> u64 {
    let digest = Sha256::digest(client_id);
    let first = digest.iter().take(8).fold(0, |number, byte| (number << 8) | u64::from(*byte));
    (first >> 11).max(1)
}

fn error_code(code: Code) -> &'static str {
    match code {
        Code::Unauthenticated => "AUTH_FAILED",
        Code::InvalidArgument | Code::Unimplemented | Code::FailedPrecondition | Code::OutOfRange => "INVALID_MESSAGE",
        Code::NotFound | Code::PermissionDenied => "CONVERSATION_NOT_FOUND",
        Code::ResourceExhausted => "RATE_LIMITED",
        Code::Unknown | Code::DeadlineExceeded | Code::AlreadyExists | Code::Internal | Code::Unavailable => {
            "INTERNAL_ERROR"
        }
    }
}

/// A text borrowed from a message, or made.
type Text<'a> = Cow<'a, str>;

const NO_CONVERSATION: DecodeError = invalid("`conversationId` is no conversation");
const NO_TYPE: DecodeError = invalid("`messageType` is 1, 2, 3, 5 or 6");
const NO_FILE: DecodeError = invalid("the `content` of a file is {url, name, bytes, mime, ..} in JSON");
