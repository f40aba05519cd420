//! What an adapter has to say to both sides, and what both adapters say alike.

use std::collections::VecDeque;

use bytes::BytesMut;
use chat::{AUDIT_TOPIC, conversation::Conversation};
use session::{Client, Code, Codec, Credential, DecodeError, Flaw, Hello, Subscription};

/// What is waiting to be said.
#[derive(Default, Debug)]
pub(super) struct Exchange {
    /// To the session, in JSON.
    pub(super) asks: VecDeque<BytesMut>,
    /// To the client.
    pub(super) replies: VecDeque<Vec<u8>>,
    /// What the client's protocol has no words for.
    pub(super) dropped: u64,
    /// Why the connection is to end.
    pub(super) ends: Option<&'static str>,
    last_id: u32,
}

/// The room of everybody.
pub(super) const WORLD: &str = "chat/world";

/// Bytes of a client's own name of a message: it is kept until the answer.
pub(super) const CLIENT_ID_BYTES_MAX: usize = 128;

/// A token that nobody has: a session says nothing without one, and no token at all is as good as a forged one.
const NOBODY: &str = "-";

/// Ids below this are free for clients; those above are the server's own.
const IDS: u32 = 0x7fff_ffff;

impl Exchange {
    /// The id of the next request.
    pub(super) fn id(&mut self) -> u32 {
        self.last_id = self.last_id % IDS + 1;
        self.last_id
    }

    /// Says something to the session.
    pub(super) fn ask(&mut self, message: &Client<'_>) {
        let mut bytes = BytesMut::new();
        session::encode_client(Codec::Json, message, &mut bytes);
        self.asks.push_back(bytes);
    }

    /// Says hello, and listens to what is said to everybody from now on.
    pub(super) fn hello(&mut self, token: &str, device: &str) -> u32 {
        let id = self.id();
        let credential = match token.split_once('/') {
            Some(("", _) | (_, "")) => Credential::Token(NOBODY.into()),
            Some((session, ticket)) => Credential::Resume { session: session.into(), ticket: ticket.into() },
            None if token.is_empty() => Credential::Token(NOBODY.into()),
            None => Credential::Token(token.into()),
        };
        let device = if matches!(credential, Credential::Token(_)) { device } else { "" };
        let mut hello = Hello::new(id, credential, device);
        hello.subs.push(Subscription { topic: WORLD.into(), epoch: None, after: None });
        self.ask(&Client::Hello(hello));
        id
    }

    /// Subscribes.
    pub(super) fn follow(&mut self, topic: &str, after: Option<u64>) -> u32 {
        let id = self.id();
        self.ask(&Client::Sub { id, topic: topic.into(), epoch: None, after });
        id
    }

    /// Calls an operation.
    pub(super) fn request(&mut self, op: &str, body: &serde_json::Value) -> u32 {
        let id = self.id();
        self.ask(&Client::Req { id, op: op.into(), body: body.to_string().as_bytes() });
        id
    }

    /// Says that all up to here was seen.
    pub(super) fn acknowledge(&mut self, topic: &str, offset: u64) {
        self.ask(&Client::Ack { topic: topic.into(), delivered: offset, read: offset });
    }

    /// Something was left out.
    pub(super) fn drop_one(&mut self) {
        self.dropped += 1;
    }
}

/// The topic of a conversation that clients may name.
pub(super) fn topic_of(name: &str) -> Option<String> {
    let topic = format!("chat/{name}");
    match Conversation::parse(&topic)? {
        Conversation::Personal(_) => None,
        Conversation::Direct(..) | Conversation::Group(_) | Conversation::World | Conversation::Room(_) => {
            (topic != AUDIT_TOPIC).then_some(topic)
        }
    }
}

/// What clients call a topic.
pub(super) fn name_of(topic: &str) -> &str {
    topic.strip_prefix("chat/").unwrap_or(topic)
}

/// Whether a request was refused only for now: too much at once, or too much to do. What an adapter asked for by itself
/// it asks for again then, since its client does not know that it did.
pub(super) fn passes(code: Code, retry_ms: Option<u32>) -> bool {
    code == Code::Unavailable || (code == Code::ResourceExhausted && retry_ms.is_some())
}

/// Bytes that are not in the protocol.
pub(super) const fn broken(reason: &'static str) -> DecodeError {
    DecodeError { flaw: Flaw::Broken, id: None, reason, field: "" }
}

/// A message that says nothing that can be done.
pub(super) const fn invalid(reason: &'static str) -> DecodeError {
    DecodeError { flaw: Flaw::Invalid, id: None, reason, field: "" }
}

/// A message of a kind that nobody knows here.
pub(super) const fn unknown(reason: &'static str) -> DecodeError {
    DecodeError { flaw: Flaw::UnknownKind, id: None, reason, field: "" }
}
