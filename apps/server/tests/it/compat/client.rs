//! A client of GoChat and one of Hawos, by what their documents say and nothing else.

use std::{
    collections::VecDeque,
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use prost::Message;
use serde_json::{Value, json};
use websocket::Event;

use crate::process::{PATIENCE, Server};

/// A WebSocket of a path.
pub(crate) struct Socket {
    stream: TcpStream,
    socket: websocket::Connection,
    heard: VecDeque<Vec<u8>>,
    /// The code of the close, if the server said one.
    code: Option<u16>,
}

impl Socket {
    pub(crate) fn open(server: &Server, path: &str) -> Self {
        let mut stream = TcpStream::connect_timeout(&server.plain, PATIENCE).expect("the server listens");
        stream.set_nodelay(true).expect("set");
        let head = format!(
            "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).expect("sent");
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("a head");
            answer.push(byte[0]);
        }
        assert!(answer.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&answer));
        let limits = websocket::Limits { message_max: 1 << 20, frame_max: 1 << 20 };
        let socket = websocket::Connection::client(limits, [3; 32]);
        Self { stream, socket, heard: VecDeque::new(), code: None }
    }

    pub(crate) fn send_text(&mut self, text: &str) {
        self.socket.send_text(text);
        self.flush();
    }

    pub(crate) fn send_binary(&mut self, bytes: &[u8]) {
        self.socket.send_binary(bytes);
        self.flush();
    }

    fn flush(&mut self) {
        let mut out = BytesMut::new();
        self.socket.take_output(&mut out);
        // A server that has closed does not take what is still said.
        let _ = self.stream.write_all(&out);
    }

    /// The next message; `None`: the server has closed.
    fn next(&mut self) -> Option<Vec<u8>> {
        let until = Instant::now() + PATIENCE;
        while self.heard.is_empty() {
            let left = until.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "nothing is heard");
            if self.code.is_some() || !self.read(left) {
                return None;
            }
        }
        self.heard.pop_front()
    }

    fn read(&mut self, within: Duration) -> bool {
        let mut chunk = vec![0; 64 * 1024];
        self.stream.set_read_timeout(Some(within)).expect("not zero");
        let read = match self.stream.read(&mut chunk) {
            Ok(0) => return false,
            Ok(read) => read,
            Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => return true,
            Err(_) => return false,
        };
        let mut bytes = &mut chunk[..read];
        while let Some(event) = self.socket.next(&mut bytes) {
            match event {
                Event::Text(text) => self.heard.push_back(text.as_bytes().to_vec()),
                Event::Binary(bytes) => self.heard.push_back(bytes.to_vec()),
                Event::Pong => {}
                Event::Closed { code, .. } => self.code = Some(code),
            }
        }
        self.flush();
        true
    }

    /// The code with which the server has closed, behind all that it said.
    pub(crate) fn closed(mut self) -> Option<u16> {
        while self.next().is_some() {}
        self.code
    }
}

/// A client of GoChat.
pub(crate) struct GoChat {
    pub(crate) socket: Socket,
    heard: VecDeque<Value>,
}

impl GoChat {
    /// Comes in: the token is all that there is to say.
    pub(crate) fn enter(server: &Server, token: &str) -> Self {
        Self { socket: Socket::open(server, &format!("/ws/gochat?token={token}")), heard: VecDeque::new() }
    }

    pub(crate) fn say(&mut self, message: &Value) {
        self.socket.send_text(&message.to_string());
    }

    /// The next message of a type; others stay.
    pub(crate) fn hear(&mut self, kind: &str) -> Value {
        self.hear_that(kind, |message| message["type"] == kind)
    }

    pub(crate) fn hear_that(&mut self, what: &str, so: impl Fn(&Value) -> bool) -> Value {
        let mut place = 0;
        loop {
            while let Some(message) = self.heard.get(place) {
                if so(message) {
                    return self.heard.remove(place).expect("it is there");
                }
                place += 1;
            }
            let message = self.socket.next().unwrap_or_else(|| panic!("no {what}: {:?}", self.heard));
            self.heard.push_back(serde_json::from_slice(&message).expect("JSON"));
        }
    }

    pub(crate) fn ping(&mut self) {
        self.say(&json!({"type": "ping"}));
        self.hear("pong");
    }

    /// Says something and gives the id that it got.
    pub(crate) fn send(&mut self, conversation: &str, text: &str, name: &str) -> String {
        let data = json!({"conversationId": conversation, "content": text, "messageType": 1, "client_msg_id": name});
        self.say(&json!({"type": "send-message", "data": data, "timestamp": 1}));
        let ack = self
            .hear_that("ack", |message| message["type"] == "message-ack" && message["data"]["client_msg_id"] == name);
        assert_eq!(ack["data"]["status"], "success");
        ack["data"]["messageId"].as_str().expect("an id").to_owned()
    }

    /// The next text of a conversation: who, what, and its number.
    pub(crate) fn text(&mut self, conversation: &str) -> (String, String, u64) {
        let message = self.hear_that("text", |message| {
            let data = &message["data"];
            message["type"] == "new-message" && data["conversationId"] == conversation && data["messageType"] == 1
        });
        let data = &message["data"];
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        (text(&data["sender"]["id"]), text(&data["content"]), data["seqId"].as_u64().expect("a number"))
    }

    /// How many messages of a type came and were not taken.
    pub(crate) fn left(&self, kind: &str) -> usize {
        self.heard.iter().filter(|message| message["type"] == kind).count()
    }
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Request {
    #[prost(int32, tag = "1")]
    pub(crate) msg_id: i32,
    #[prost(string, tag = "2")]
    pub(crate) token: String,
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) payload: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Response {
    #[prost(int32, tag = "1")]
    pub(crate) msg_id: i32,
    #[prost(int32, tag = "2")]
    pub(crate) code: i32,
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) payload: Vec<u8>,
}

/// `AuthMsg`, `ChatMsg`, `TargetRoom` and `AuthResp`: texts in the order of their numbers.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Texts {
    #[prost(string, tag = "1")]
    pub(crate) one: String,
    #[prost(string, tag = "2")]
    pub(crate) two: String,
    #[prost(string, tag = "3")]
    pub(crate) three: String,
    #[prost(string, tag = "4")]
    pub(crate) four: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct RoomInfo {
    #[prost(string, tag = "1")]
    pub(crate) room_id: String,
    #[prost(int32, tag = "2")]
    pub(crate) member_num: i32,
    #[prost(string, repeated, tag = "3")]
    pub(crate) member_ids: Vec<String>,
}

/// A client of Hawos.
pub(crate) struct Hawos {
    pub(crate) socket: Socket,
    heard: VecDeque<Response>,
    /// What every request carries.
    pub(crate) token: String,
}

impl Hawos {
    pub(crate) fn open(server: &Server, token: &str) -> Self {
        Self { socket: Socket::open(server, "/ws/hawos"), heard: VecDeque::new(), token: token.to_owned() }
    }

    /// Comes in with a token of the account; gets one that resumes.
    pub(crate) fn enter(server: &Server, user: &str, token: &str) -> Self {
        let mut hawos = Self::open(server, "");
        let auth = Texts { one: user.into(), two: "app".into(), three: token.into(), four: String::new() };
        let answer = hawos.ask(100, &auth.encode_to_vec());
        assert_eq!(answer.code, 200);
        hawos.token = Texts::decode(&*answer.payload).expect("an AuthResp").one;
        hawos
    }

    pub(crate) fn say(&mut self, msg_id: i32, payload: &[u8]) {
        let request = Request { msg_id, token: self.token.clone(), payload: payload.to_vec() };
        self.socket.send_binary(&request.encode_to_vec());
    }

    pub(crate) fn ask(&mut self, msg_id: i32, payload: &[u8]) -> Response {
        self.say(msg_id, payload);
        self.hear(msg_id)
    }

    /// The next response of an id; others stay.
    pub(crate) fn hear(&mut self, msg_id: i32) -> Response {
        let mut place = 0;
        loop {
            while let Some(response) = self.heard.get(place) {
                if response.msg_id == msg_id {
                    return self.heard.remove(place).expect("it is there");
                }
                place += 1;
            }
            let response = self.socket.next().unwrap_or_else(|| panic!("no {msg_id}: {:?}", self.heard));
            self.heard.push_back(Response::decode(&*response).expect("protobuf"));
        }
    }

    pub(crate) fn ping(&mut self) {
        assert_eq!(self.ask(101, b"").code, 200);
    }

    pub(crate) fn go(&mut self, room: &str) -> Response {
        self.ask(103, &Texts { one: room.into(), ..Texts::default() }.encode_to_vec())
    }

    pub(crate) fn send(&mut self, room: &str, text: &str) -> i32 {
        let chat = Texts { two: room.into(), three: "any".into(), four: text.into(), ..Texts::default() };
        self.ask(104, &chat.encode_to_vec()).code
    }

    /// The next text: who, what, and in which room.
    pub(crate) fn text(&mut self) -> (String, String, String) {
        let chat = Texts::decode(&*self.hear(10_001).payload).expect("a ChatMsg");
        assert_eq!(chat.one, chat.three, "the nickname is the user");
        (chat.one, chat.four, chat.two)
    }

    /// How many texts came and were not taken.
    pub(crate) fn left(&self) -> usize {
        self.heard.iter().filter(|response| response.msg_id == 10_001).count()
    }
}

impl Response {
    pub(crate) fn room(&self) -> RoomInfo {
        assert_eq!(self.code, 200, "{self:?}");
        RoomInfo::decode(&*self.payload).expect("a RoomInfo")
    }
}
