//! The client's side of a session, as far as a load needs it: hello, ping and publish, in both codecs.

use bytes::BytesMut;
use session::{Client, Credential, DecodeError, Hello, Level, Server, SubState, Subscription, Topic};

use crate::options::Codec;

/// The language of all sessions of a run.
#[derive(Clone, Debug)]
pub struct Speech {
    codec: session::Codec,
    token: String,
}

/// What a server's message means to a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// The session is open and its subscriptions are in force.
    Welcome,
    /// The answer to a ping.
    Pong(u32),
    /// The server wants to hear something.
    Asked,
    /// A publication is accepted.
    Acknowledged {
        /// Which.
        id: u32,
        /// Whether it is on disk.
        durable: bool,
    },
    /// A request was refused.
    Refused {
        /// Which; 0: none in particular.
        id: u32,
        /// The code's name.
        code: &'static str,
    },
    /// History was trimmed before it was delivered.
    Gap,
    /// The server is about to leave.
    GoAway,
    /// Nothing that matters here.
    Other,
}

impl Speech {
    /// Sessions with this token, in this codec.
    #[must_use]
    pub fn new(codec: Codec, token: String) -> Self {
        let codec = match codec {
            Codec::Json => session::Codec::Json,
            Codec::Proto => session::Codec::Binary,
        };
        Self { codec, token }
    }

    /// Whether messages are text.
    #[must_use]
    pub fn is_text(&self) -> bool {
        self.codec == session::Codec::Json
    }

    /// The WebSocket subprotocol that chooses the codec.
    #[must_use]
    pub fn subprotocol(&self) -> &'static str {
        match self.codec {
            session::Codec::Json => "ringshard.json",
            session::Codec::Binary => "ringshard.proto",
        }
    }

    /// Opens a session for one device, with one subscription from now on.
    #[must_use]
    pub fn hello(&self, id: u32, device: &str, topic: Option<&str>) -> BytesMut {
        let mut hello = Hello::new(id, Credential::Token(self.token.as_str().into()), device);
        hello.subs.extend(topic.map(|topic| Subscription { topic: topic.into(), epoch: None, after: None }));
        self.encode(&Client::Hello(hello))
    }

    /// A ping.
    #[must_use]
    pub fn ping(&self, id: u32) -> BytesMut {
        self.encode(&Client::Ping { id })
    }

    /// A chat message; `text` needs no escape.
    #[must_use]
    pub fn publish(&self, id: u32, topic: &str, seq: u64, text: &str) -> BytesMut {
        let body = body(text);
        self.encode(&Client::Pub { id, topic: Topic::from(topic), seq: Some(seq), body: body.as_bytes() })
    }

    /// What a message means.
    pub fn decode(&self, message: &[u8]) -> Result<Told, DecodeError> {
        Ok(match session::decode_server(self.codec, message)? {
            Server::Welcome { id, subs, .. } => {
                let refused = subs.iter().find_map(|sub| match &sub.state {
                    SubState::Refused { code, .. } => Some(code.name()),
                    SubState::Ok { .. } => None,
                });
                refused.map_or(Told::Welcome, |code| Told::Refused { id, code })
            }
            Server::Pong { id: 0, .. } => Told::Asked,
            Server::Pong { id, .. } => Told::Pong(id),
            Server::PubOk { id, level, .. } => Told::Acknowledged { id, durable: level == Level::Durable },
            Server::Err { id, code, .. } => Told::Refused { id: id.unwrap_or(0), code: code.name() },
            Server::Gap { .. } => Told::Gap,
            Server::Goaway { .. } => Told::GoAway,
            Server::SubOk { .. }
            | Server::UnsubOk { .. }
            | Server::Res { .. }
            | Server::Msg { .. }
            | Server::Eph { .. }
            | Server::Presence { .. } => Told::Other,
        })
    }

    fn encode(&self, message: &Client<'_>) -> BytesMut {
        let mut out = BytesMut::new();
        session::encode_client(self.codec, message, &mut out);
        out
    }
}

/// The body of a chat message; `text` needs no escape.
#[must_use]
pub fn body(text: &str) -> String {
    format!(r#"{{"type":"text","text":"{text}"}}"#)
}

#[cfg(test)]
mod tests {
    use session::{Code, SubResult};

    use super::*;

    const CODECS: [(Codec, session::Codec); 2] =
        [(Codec::Json, session::Codec::Json), (Codec::Proto, session::Codec::Binary)];

    #[test]
    fn what_we_say_is_what_a_server_reads() {
        for (codec, theirs) in CODECS {
            let speech = Speech::new(codec, "token".to_owned());
            let hello = speech.hello(1, "load-7", Some("chat/load"));
            let Ok(Client::Hello(hello)) = session::decode_client(theirs, &hello) else { panic!("no hello") };
            assert_eq!((&*hello.device, &*hello.subs[0].topic), ("load-7", "chat/load"));
            let message = speech.publish(5, "chat/load", 9, "~stamp:");
            let read = session::decode_client(theirs, &message).expect("a message");
            let body = br#"{"type":"text","text":"~stamp:"}"#;
            assert_eq!(read, Client::Pub { id: 5, topic: "chat/load".into(), seq: Some(9), body });
            assert_eq!(session::decode_client(theirs, &speech.ping(3)), Ok(Client::Ping { id: 3 }));
        }
    }

    #[test]
    fn what_a_server_says_is_understood() {
        for (codec, theirs) in CODECS {
            let speech = Speech::new(codec, String::new());
            let told = |message: &Server<'_>| {
                let mut bytes = BytesMut::new();
                session::encode_server(theirs, message, &mut bytes);
                speech.decode(&bytes).expect("a message")
            };
            assert_eq!(told(&Server::Pong { id: 0, at_ms: 1 }), Told::Asked);
            assert_eq!(told(&Server::Pong { id: 8, at_ms: 1 }), Told::Pong(8));
            for (level, durable) in [(Level::Memory, false), (Level::Durable, true)] {
                let stored = Server::PubOk { id: 6, topic: "chat/load".into(), offset: 4, level };
                assert_eq!(told(&stored), Told::Acknowledged { id: 6, durable });
            }
            let full = Server::Err { id: Some(4), code: Code::ResourceExhausted, message: "".into(), retry_ms: None };
            assert_eq!(told(&full), Told::Refused { id: 4, code: "resource_exhausted" });
            let welcome = |state| Server::Welcome {
                id: 1,
                session: "0190-".into(),
                user: "load".into(),
                ticket: "t".into(),
                shard: 0,
                ping_ms: 25_000,
                subs: vec![SubResult { topic: "chat/load".into(), state }],
            };
            assert_eq!(told(&welcome(SubState::Ok { alias: 1, epoch: 2, head: 3 })), Told::Welcome);
            let refused = SubState::Refused { code: Code::ResourceExhausted, message: "full".into() };
            assert_eq!(told(&welcome(refused)), Told::Refused { id: 1, code: "resource_exhausted" });
        }
    }
}
