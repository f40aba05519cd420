//! The client's side of a session, as far as a load needs it: hello, ping and publish, in both codecs.

use serde::Deserialize;
use serde_json::json;
use thiserror::Error;

use crate::options::Codec;

/// What a client of the framed protocol sends first.
pub const PREFACE: &[u8] = b"RINGSHARD/1\n";

/// The language of all sessions of a run.
#[derive(Clone, Debug)]
pub struct Speech {
    codec: Codec,
    token: String,
}

/// What a server's message means to a load.
#[derive(Debug, PartialEq, Eq)]
pub enum Told {
    /// The session is open and its subscriptions are in force.
    Welcome,
    /// The answer to a ping.
    Pong(u32),
    /// A publication is accepted.
    Acknowledged,
    /// A request was refused.
    Refused {
        /// Which.
        id: u32,
        /// The code's name.
        code: String,
    },
    /// History was trimmed before it was delivered.
    Gap,
    /// The server is about to leave.
    GoAway,
    /// Nothing that matters here.
    Other,
}

/// A message that is no message of the session.
#[derive(Debug, Error)]
#[error("a message that cannot be decoded: {0}")]
pub struct SpeechError(String);

impl Speech {
    /// Sessions with this token, in this codec.
    #[must_use]
    pub fn new(codec: Codec, token: String) -> Self {
        Self { codec, token }
    }

    /// Whether messages are text.
    #[must_use]
    pub fn is_text(&self) -> bool {
        self.codec == Codec::Json
    }

    /// The WebSocket subprotocol that chooses the codec.
    #[must_use]
    pub fn subprotocol(&self) -> &'static str {
        match self.codec {
            Codec::Json => "ringshard.json",
            Codec::Proto => "ringshard.proto",
        }
    }

    /// Opens a session for one device, with one subscription from now on.
    #[must_use]
    pub fn hello(&self, id: u32, device: &str, topic: Option<&str>) -> Vec<u8> {
        let subs: Vec<_> = topic.iter().map(|topic| json!({ "topic": topic })).collect();
        json!({ "kind": "hello", "id": id, "token": self.token, "device": device, "subs": subs })
            .to_string()
            .into_bytes()
    }

    /// A ping.
    #[must_use]
    pub fn ping(&self, id: u32) -> Vec<u8> {
        format!(r#"{{"kind":"ping","id":{id}}}"#).into_bytes()
    }

    /// A chat message; `text` needs no escape.
    #[must_use]
    pub fn publish(&self, id: u32, topic: &str, seq: u64, text: &str) -> Vec<u8> {
        format!(r#"{{"kind":"pub","id":{id},"topic":"{topic}","seq":{seq},"body":{{"type":"text","text":"{text}"}}}}"#)
            .into_bytes()
    }

    /// What a message means.
    pub fn decode(&self, message: &[u8]) -> Result<Told, SpeechError> {
        let head: Head<'_> = serde_json::from_slice(message).map_err(|error| SpeechError(error.to_string()))?;
        Ok(match head.kind {
            "welcome" => Told::Welcome,
            "pong" => Told::Pong(head.id),
            "pub_ok" => Told::Acknowledged,
            "err" => Told::Refused { id: head.id, code: head.code.unwrap_or("unknown").to_owned() },
            "gap" => Told::Gap,
            "goaway" => Told::GoAway,
            _ => Told::Other,
        })
    }
}

#[derive(Deserialize)]
struct Head<'a> {
    kind: &'a str,
    #[serde(default)]
    id: u32,
    code: Option<&'a str>,
}
