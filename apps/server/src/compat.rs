//! Clients of two other messengers, GoChat and Hawos, as sessions of this one: same topics, same order, same limits.
//!
//! An adapter is a state machine. A message of its client goes in, and messages of the session protocol come out as any
//! client of ours would send them; what the server says to that session goes in, and messages for its client come out.
//! So accounts, rights, rates and histories are those of every session, and nothing here knows of topics' homes or shards.
//!
//! ```text
//! client's bytes -> hear -> next_ask   -> the session (JSON, as it is on /ws)
//! client's bytes <- next_reply <- told <- the session
//! ```
//!
//! What an adapter asks for by itself counts against the session's rate, and is no sign that its client is there. If it is
//! refused for now, the adapter asks again with the next messages of the client.
//!
//! A name of a conversation is its topic without `chat/`: `world`, `g/<id>`, `d/<a>~<b>`, or a room. Who somebody is
//! says the token of `/api/v1/login`, nothing that a message claims, and when that token ends, so does the connection:
//! neither protocol can renew it, so a client comes back with one of `/api/v1/refresh`. What a protocol has no words
//! for is not told, and counted as `ringshard_drops_total{reason="gochat"}` or `"hawos"`: edits, recalls, typing, gaps
//! of trimmed histories, notices of contacts and invitations, a pending restart. What this server has no words for gets
//! the protocol's own error. Bytes that are not in the protocol at all get that error, and end the connection.
//! `vectors/` has every message of this page in both directions.
//!
//! # GoChat, `/ws/gochat?token=..`
//!
//! Text messages `{"type", "data"}` as its `01_http_ws_api.md` has them; the names of fields in its gateway's code
//! (`conversation_id`, ..) are understood, too. The session listens to `chat/world`, to the user's own topic and to the 50
//! newest conversations, to each from the first unread message on: so it goes on after a cut where `mark-read` has left it.
//! It follows conversations that the user enters later, and rooms that it speaks in.
//!
//! | GoChat | session |
//! |---|---|
//! | `?token=` | `hello` as the device `gochat` |
//! | `send-message {conversationId, content, messageType, client_msg_id}` | `pub`; its `seq` is made of `client_msg_id`, so that a repeat is stored once and acknowledged again |
//! | `messageType` 1; 2, 3, 5, 6 | `text`; `image`, `file`, `audio`, `video`, whose `content` is the JSON of `file` |
//! | `mark-read {conversationId, seqId}` | `ack` |
//! | `ping` | `ping` |
//! | `message-ack {client_msg_id, messageId, status}` | `pub_ok`; `messageId` is `<conversationId>:<seqId>` |
//! | `new-message {.., seqId, createdAt}` | `msg`, also of one's own; notices of the server have `messageType` 4 and `content` in JSON |
//! | `online-status {userId, status}` | `presence` in conversations of two |
//! | `pong` | `pong` |
//! | `error AUTH_FAILED` | `unauthenticated` |
//! | `error INVALID_MESSAGE` | `invalid_argument`, `unimplemented`, `failed_precondition`, `out_of_range` |
//! | `error CONVERSATION_NOT_FOUND` | `not_found`, `permission_denied` |
//! | `error MESSAGE_TOO_LARGE` | more than 5,000 characters |
//! | `error RATE_LIMITED` | `resource_exhausted`, with `details.retryMs` |
//! | `error INTERNAL_ERROR` | any other |
//!
//! # Hawos, `/ws/hawos`
//!
//! Binary messages `Request {MsgID, Token, Payload}` and `Response {MsgID, Code, Payload}`. Besides its room a session hears
//! `world` and what programs push to the user (`chat.push`), which has no `RoomId`. It is in one room at a time, as there:
//! what is still on its way from the last one is not told.
//!
//! | Hawos | session |
//! |---|---|
//! | `?token=`, or `Token` in the first message | `hello` as the device `hawos` |
//! | 100 `C2S_AUTH_TOKEN AuthMsg {Uid, Secret}` | `hello` with the token `Secret`; `Uid` has to be its user. The answer's `Token` resumes the session |
//! | 101 `C2S_PING` | `ping`; a second one shows that what came before the last `Pong` has arrived: `ack` |
//! | 102 `C2S_CREATE_ROOM {Type, MaxMember}` | `chat.create` of an open group, `sub`; only `Type` 0 and 1. `MaxMember` is not kept, and counted |
//! | 103 `C2S_ENTER_ROOM {RoomId}` | `chat.join` of a group, `sub` from the first unread message on, `unsub` of the last room |
//! | 104 `C2S_SEND_GLOBAL_MSG ChatMsg {RoomId, Msg}` | `pub`; without `RoomId` to the room that it is in, or to `world` |
//! | 10000 `S2C_CROSS_DAY {DayNo}` | the first `pong` of a new day (days since 1970, UTC) |
//! | 10001 `S2C_GLOBAL_MSG ChatMsg` | `msg` with a text, also of one's own; `Nickname` is the user |
//! | 10002 `S2C_BROADCAST_ROOM_INFO RoomInfo` | `presence` in a room, notices of a group's members; at most 200 `MemberIds` |
//! | code 200 | done |
//! | code 406 | no such `MsgID` |
//! | code 10000 | `unauthenticated`, `permission_denied` |
//! | code 10001 | `invalid_argument`, `not_found`, `failed_precondition`, `out_of_range`, `unimplemented` |
//! | code 1000 | any other |

mod exchange;
mod fuzz;
mod gochat;
mod hawos;
#[cfg(test)]
mod script;

use std::borrow::Cow;

use bytes::BytesMut;
use session::{DecodeError, Server};
use websocket::frame::{self, Opcode};

pub use self::fuzz::{gochat as fuzz_gochat, hawos as fuzz_hawos};
use self::{exchange::Exchange, gochat::GoChat, hawos::Hawos};

/// Which protocol a WebSocket speaks that is not a session's own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Protocol {
    /// JSON texts.
    GoChat,
    /// Protobuf in binary messages.
    Hawos,
}

/// A client of another protocol.
#[derive(Debug)]
pub(crate) struct Foreign {
    client: Client,
    exchange: Exchange,
}

#[derive(Debug)]
enum Client {
    GoChat(GoChat),
    Hawos(Hawos),
}

impl Protocol {
    /// The protocol of a URL's path.
    pub(crate) fn of_path(path: &str) -> Option<Self> {
        match path {
            "/ws/gochat" => Some(Self::GoChat),
            "/ws/hawos" => Some(Self::Hawos),
            _ => None,
        }
    }
}

/// A value of a URL's query: programs write `/`, which the tokens of sessions have, as `%2F`.
fn decoded(value: &str) -> Cow<'_, str> {
    let (mut bytes, mut rest) = (Vec::with_capacity(value.len()), value.as_bytes());
    while let Some((first, behind)) = rest.split_first() {
        let byte;
        (byte, rest) = escaped(*first, behind).unwrap_or((*first, behind));
        bytes.push(byte);
    }
    String::from_utf8(bytes).map_or(value.into(), Cow::Owned)
}

/// The byte that a `%` and two hexadecimal digits stand for, and what is behind it.
fn escaped(first: u8, behind: &[u8]) -> Option<(u8, &[u8])> {
    let (digits, after) = behind.split_first_chunk::<2>().filter(|_| first == b'%')?;
    let [high, low] = digits.map(|digit| char::from(digit).to_digit(16));
    u8::try_from(high? << 4 | low?).ok().map(|byte| (byte, after))
}

impl Foreign {
    /// A client that has just connected, perhaps with a token in the URL's query.
    pub(crate) fn new(protocol: Protocol, query: Option<&str>) -> Self {
        let token = query.and_then(|query| query.split('&').find_map(|pair| pair.strip_prefix("token="))).map(decoded);
        let token = token.as_deref();
        let mut exchange = Exchange::default();
        let client = match protocol {
            Protocol::GoChat => Client::GoChat(GoChat::new(&mut exchange, token.unwrap_or_default())),
            Protocol::Hawos => Client::Hawos(Hawos::new(&mut exchange, token)),
        };
        Self { client, exchange }
    }

    /// Which one it speaks.
    pub(crate) fn protocol(&self) -> Protocol {
        match self.client {
            Client::GoChat(_) => Protocol::GoChat,
            Client::Hawos(_) => Protocol::Hawos,
        }
    }

    /// Takes one message of the client.
    ///
    /// # Errors
    /// It is none; the session says what becomes of it, and the client is told in its own words.
    pub(crate) fn hear(&mut self, bytes: &[u8]) -> Result<(), DecodeError> {
        match &mut self.client {
            Client::GoChat(gochat) => gochat.hear(&mut self.exchange, bytes),
            Client::Hawos(hawos) => hawos.hear(&mut self.exchange, bytes),
        }
    }

    /// Takes what the server says to the session. More may be asked for then.
    pub(crate) fn told(&mut self, message: &Server<'_>) {
        match &mut self.client {
            Client::GoChat(gochat) => gochat.told(&mut self.exchange, message),
            Client::Hawos(hawos) => hawos.told(&mut self.exchange, message),
        }
    }

    /// The next message for the session, in JSON.
    pub(crate) fn next_ask(&mut self) -> Option<BytesMut> {
        self.exchange.asks.pop_front()
    }

    /// The next message for the client.
    pub(crate) fn next_reply(&mut self) -> Option<Vec<u8>> {
        self.exchange.replies.pop_front()
    }

    /// Appends what there is to say to the client, in WebSocket messages.
    pub(crate) fn take_output(&mut self, out: &mut BytesMut) {
        let opcode = match self.protocol() {
            Protocol::GoChat => Opcode::Text,
            Protocol::Hawos => Opcode::Binary,
        };
        while let Some(reply) = self.next_reply() {
            frame::encode(opcode, &reply, out);
        }
    }

    /// How much was left out since the last call, for want of words.
    pub(crate) fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.exchange.dropped)
    }

    /// Why the connection is to end, if so.
    pub(crate) fn ends(&self) -> Option<&'static str> {
        self.exchange.ends
    }
}
