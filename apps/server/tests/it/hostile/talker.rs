//! Clients that know the session protocol: over WebSocket in JSON, and in frames.

use std::{
    collections::VecDeque,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::BytesMut;
use serde_json::{Value, json};
use session::{Client, Codec, Credential, Hello, Keys, Server as Say, Subscription};
use tcp::frame::Deframer;
use websocket::Event;

use super::wire::{Got, Wire};
use crate::process::{PATIENCE, SECRET, Server};

const LIMITS: websocket::Limits = websocket::Limits { message_max: 1 << 24, frame_max: 1 << 24 };

/// The upgrade of a WebSocket session, with more headers.
pub(crate) fn upgrade(more: &str) -> String {
    format!(
        "GET /ws HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n"
    )
}

pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

pub(crate) fn token(user: &str) -> String {
    Keys::new(SECRET.as_bytes()).mint(now(), user, 3600, &[], false)
}

/// A session over WebSocket, in JSON.
pub(crate) struct Talker {
    pub(crate) wire: Wire,
    socket: websocket::Connection,
    heard: VecDeque<Value>,
    code: Option<u16>,
    said: u64,
    topic: String,
}

impl Talker {
    /// Upgrades, and says nothing yet.
    pub(crate) fn upgrade(mut wire: Wire) -> Self {
        wire.send(upgrade("").as_bytes());
        let mut head = Vec::new();
        let until = Instant::now() + PATIENCE;
        let end = loop {
            match wire.read(until.saturating_duration_since(Instant::now())) {
                Got::Bytes(bytes) => head.extend(bytes),
                other => panic!("{other:?} after {}", String::from_utf8_lossy(&head)),
            }
            if let Some(end) = head.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
        };
        assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
        let socket = websocket::Connection::client(LIMITS, [7; 32]);
        let (heard, topic) = (VecDeque::new(), String::new());
        let mut talker = Self { wire, socket, heard, code: None, said: 0, topic };
        talker.take(&mut head[end..]);
        talker
    }

    /// A session of `user` in `topic`.
    pub(crate) fn enter(wire: Wire, user: &str, topic: &str) -> Self {
        let mut talker = Self::upgrade(wire);
        talker.say(
            &json!({"kind": "hello", "id": 1, "token": token(user), "device": "test", "subs": [{"topic": topic}]}),
        );
        let welcome = talker.hear("welcome");
        assert_eq!((&welcome["user"], &welcome["subs"][0]["topic"]), (&json!(user), &json!(topic)), "{welcome}");
        talker.topic = topic.to_owned();
        talker
    }

    pub(crate) fn say(&mut self, message: &Value) {
        self.say_text(&message.to_string());
    }

    pub(crate) fn say_text(&mut self, text: &str) {
        self.socket.send_text(text);
        self.flush();
    }

    pub(crate) fn say_binary(&mut self, bytes: &[u8]) {
        self.socket.send_binary(bytes);
        self.flush();
    }

    fn flush(&mut self) {
        let mut out = BytesMut::new();
        self.socket.take_output(&mut out);
        self.wire.send(&out);
    }

    fn take(&mut self, mut bytes: &mut [u8]) {
        while let Some(event) = self.socket.next(&mut bytes) {
            match event {
                Event::Text(text) => self.heard.push_back(serde_json::from_str(&text).expect("JSON")),
                Event::Binary(_) | Event::Pong => {}
                Event::Closed { code, clean, .. } => {
                    assert!(clean, "the server broke the protocol: {code}");
                    self.code = Some(code);
                }
            }
        }
        self.flush();
    }

    /// Reads once; whether the server is still there.
    pub(crate) fn read(&mut self, within: Duration) -> bool {
        match self.wire.read(within) {
            Got::Bytes(mut bytes) => self.take(&mut bytes),
            Got::Closed => return false,
            Got::Nothing => {}
        }
        true
    }

    /// The next message that is so; others before it are skipped.
    pub(crate) fn hear_that(&mut self, what: &str, so: impl Fn(&Value) -> bool) -> Value {
        let until = Instant::now() + PATIENCE;
        loop {
            while let Some(message) = self.heard.pop_front() {
                if so(&message) {
                    return message;
                }
            }
            let left = until.saturating_duration_since(Instant::now());
            assert!(!left.is_zero() && self.read(left), "no {what}, code {:?}", self.code);
        }
    }

    /// The next message of a kind.
    pub(crate) fn hear(&mut self, kind: &str) -> Value {
        self.hear_that(kind, |message| message["kind"] == kind)
    }

    /// The answer to a request.
    pub(crate) fn answer(&mut self, id: u64) -> Value {
        self.hear_that("answer", |message| message["id"] == id)
    }

    /// The code with which the server closes.
    pub(crate) fn code(&mut self) -> u16 {
        let until = Instant::now() + PATIENCE;
        while self.read(until.saturating_duration_since(Instant::now())) {
            assert!(Instant::now() < until, "not closed: {:?}", self.heard);
        }
        self.code.unwrap_or_else(|| panic!("closed without a code: {:?}", self.heard))
    }

    /// What was heard and not taken, as text.
    pub(crate) fn said(&self) -> String {
        format!("{:?}", self.heard)
    }

    /// Says a line in its topic, and hears it.
    pub(crate) fn works(&mut self) {
        self.said += 1;
        let (id, text) = (1000 + self.said, format!("line {}", self.said));
        self.say(&json!({"kind": "pub", "id": id, "topic": self.topic, "body": {"type": "text", "text": text}}));
        let heard = self.hear_that("line", |message| message["kind"] == "msg" && message["body"]["text"] == text);
        assert_eq!(heard["topic"], self.topic);
    }
}

/// A session in frames.
pub(crate) struct Framed {
    pub(crate) wire: Wire,
    deframer: Deframer,
    input: Vec<u8>,
}

impl Framed {
    /// Sends the preface, and nothing else yet.
    pub(crate) fn new(mut wire: Wire) -> Self {
        wire.send(tcp::PREFACE);
        Self { wire, deframer: Deframer::new(1 << 24), input: Vec::new() }
    }

    /// A session of `user` in `topic`.
    pub(crate) fn enter(wire: Wire, user: &str, topic: &str) -> Self {
        let mut framed = Self::new(wire);
        let mut hello = Hello::new(1, Credential::Token(token(user).into()), "test");
        hello.subs.push(Subscription { topic: topic.into(), epoch: None, after: None });
        framed.say(&Client::Hello(hello));
        framed.hear("a welcome", |message| matches!(message, Say::Welcome { .. }));
        framed
    }

    pub(crate) fn say(&mut self, message: &Client<'_>) {
        let mut out = BytesMut::new();
        session::encode_client(Codec::Binary, message, &mut out);
        self.wire.send(&out);
    }

    /// Waits for a message that is so; others before it are skipped.
    pub(crate) fn hear(&mut self, what: &str, so: impl Fn(&Say<'_>) -> bool) {
        let until = Instant::now() + PATIENCE;
        loop {
            let held = std::mem::take(&mut self.input);
            let mut input = &held[..];
            while let Some(frame) = self.deframer.next(&mut input).expect("frames") {
                if so(&session::decode_server(Codec::Binary, frame).expect("a message")) {
                    self.input = input.to_vec();
                    return;
                }
            }
            match self.wire.read(until.saturating_duration_since(Instant::now())) {
                Got::Bytes(bytes) => self.input = bytes,
                other => panic!("no {what}: {other:?}"),
            }
        }
    }

    /// Whether it is answered.
    pub(crate) fn works(&mut self) {
        self.say(&Client::Ping { id: 77 });
        self.hear("a pong", |message| matches!(message, Say::Pong { id: 77, .. }));
    }

    /// Waits for the last words before the end: an error that says `words`.
    pub(crate) fn refused(&mut self, words: &str) {
        self.hear(words, |message| matches!(message, Say::Err { message, .. } if message.contains(words)));
        self.wire.rest(PATIENCE);
    }
}

/// An honest user over WebSocket, and another one in frames over TLS: opened before an attack, asked after it.
pub(crate) struct Innocents(Talker, Framed);

impl Innocents {
    pub(crate) fn enter(server: &Server) -> Self {
        let talker = Talker::enter(Wire::plain(server), "ann", "chat/quiet");
        Self(talker, Framed::enter(Wire::secure(server, b"ringshard/1"), "bob", "chat/quiet"))
    }

    pub(crate) fn work(&mut self) {
        self.0.works();
        self.1.hear("what ann said", |message| matches!(message, Say::Msg { from, .. } if from == "ann"));
        self.1.works();
    }
}
