//! Somebody with an account, or a guest, on one device: asks and waits for the answer.

use std::{
    collections::{BTreeMap, VecDeque},
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::BytesMut;
use serde_json::{Value, json};
use session::{Client as Say, Codec, Credential, Hello, Keys, Server as Told};
use tcp::frame::Deframer;
use websocket::Event;

use crate::{
    process::{PATIENCE, SECRET, Server},
    restart::client::{Speech, upgrade},
};

pub(crate) struct Person {
    pub(crate) name: String,
    token: String,
    stream: TcpStream,
    layer: Layer,
    id: u32,
    welcome: bool,
    answers: VecDeque<(Option<u32>, Result<Value, String>)>,
    messages: VecDeque<(String, Value)>,
    /// Topic, sender, key, value.
    waves: VecDeque<[Value; 4]>,
    /// How it ended: whether the stream is over, and the code of a WebSocket.
    over: bool,
    code: Option<u16>,
    /// In frames a topic has a number.
    aliases: BTreeMap<u32, String>,
    ticket: Option<(String, String)>,
}

enum Layer {
    Socket(websocket::Connection),
    Frames(Deframer),
}

impl Person {
    pub(crate) fn register(server: &Server, speech: Speech, name: &str) -> Self {
        let token = post(server, "register", &json!({"name": name, "password": "long enough"}));
        Self::enter(server, speech, name, token)
    }

    pub(crate) fn guest(server: &Server, name: &str) -> Self {
        let token = post(server, "guest", &json!({"name": name}));
        Self::enter(server, Speech::Socket, name, token)
    }

    /// A program with a token of the operator's.
    pub(crate) fn program(server: &Server, name: &str, caps: &[&str]) -> Self {
        Self::enter(server, Speech::Frames, name, Self::token(Duration::from_secs(3600), name, caps))
    }

    /// A token of the operator's, from now on.
    pub(crate) fn token(ttl: Duration, name: &str, caps: &[&str]) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
        let caps: Vec<String> = caps.iter().map(|cap| (*cap).to_owned()).collect();
        Keys::new(SECRET.as_bytes()).mint(now, name, ttl.as_secs(), &caps, false)
    }

    /// Somebody who has a token already.
    pub(crate) fn enter_with(server: &Server, name: &str, token: &str) -> Self {
        Self::enter(server, Speech::Socket, name, token.to_owned())
    }

    /// Another session of the same user.
    pub(crate) fn again(&self, server: &Server, speech: Speech) -> Self {
        Self::enter(server, speech, &self.name, self.token.clone())
    }

    pub(crate) fn enter(server: &Server, speech: Speech, name: &str, token: String) -> Self {
        let mut stream = TcpStream::connect_timeout(&server.plain, PATIENCE).expect("the server listens");
        stream.set_nodelay(true).expect("set");
        let layer = match speech {
            Speech::Socket => Layer::Socket(upgrade(&mut stream)),
            Speech::Frames => {
                stream.write_all(tcp::PREFACE).expect("sent");
                Layer::Frames(Deframer::new(1 << 20))
            }
            Speech::Quantum => panic!("a person is on a stream"),
        };
        let mut person = Self {
            name: name.to_owned(),
            token,
            stream,
            layer,
            id: 1,
            welcome: false,
            answers: VecDeque::new(),
            messages: VecDeque::new(),
            waves: VecDeque::new(),
            over: false,
            code: None,
            ticket: None,
            aliases: BTreeMap::new(),
        };
        let token = person.token.clone();
        person.say(&Say::Hello(Hello::new(1, credential(&token), "device")));
        person.read_until(|person| person.welcome || person.over);
        person
    }

    /// Whether the server took the token; if not, the code of its error and of its close.
    pub(crate) fn came_in(&mut self) -> Result<(), (String, Option<u16>)> {
        if self.welcome { Ok(()) } else { Err(self.end()) }
    }

    /// The session and the ticket by which it goes on elsewhere.
    pub(crate) fn ticket(&self) -> (String, String) {
        self.ticket.clone().expect("a welcome")
    }

    /// The end of the connection: the error before it, and the code of the WebSocket.
    pub(crate) fn end(&mut self) -> (String, Option<u16>) {
        self.read_until(|person| person.over);
        let mut errors = self.answers.iter().filter_map(|(id, answer)| answer.clone().err().map(|error| (*id, error)));
        let last = errors.rfind(|(id, _)| id.is_none_or(|id| id == 1));
        (last.expect("an error before the end").1, self.code)
    }

    /// The next ephemeral value: topic, sender, key, value.
    pub(crate) fn wave_heard(&mut self) -> [Value; 4] {
        self.read_until(|person| !person.waves.is_empty());
        self.waves.pop_front().expect("it is there")
    }

    /// How many ephemeral values are waiting to be looked at.
    pub(crate) fn waves(&self) -> usize {
        self.waves.len()
    }

    pub(crate) fn ask(&mut self, op: &str, body: &Value) -> Result<Value, String> {
        let (id, body) = (self.next(), body.to_string());
        self.say(&Say::Req { id, op: op.into(), body: body.as_bytes() });
        self.answer(Some(id))
    }

    pub(crate) fn publish(&mut self, topic: &str, body: &Value) -> Result<u64, String> {
        let (id, body) = (self.next(), body.to_string());
        self.say(&Say::Pub { id, topic: topic.into(), seq: None, body: body.as_bytes() });
        self.answer(Some(id)).map(|offset| offset.as_u64().expect("an offset"))
    }

    /// Subscribes; gives the head.
    pub(crate) fn subscribe(&mut self, topic: &str, after: Option<u64>) -> Result<u64, String> {
        let id = self.next();
        self.say(&Say::Sub { id, topic: topic.into(), epoch: None, after });
        self.answer(Some(id)).map(|head| head.as_u64().expect("a head"))
    }

    pub(crate) fn wave(&mut self, topic: &str, key: &str) {
        self.say(&Say::Eph { topic: topic.into(), key: key.into(), body: b"{}" });
    }

    pub(crate) fn acknowledge(&mut self, topic: &str, read: u64) {
        self.say(&Say::Ack { topic: topic.into(), delivered: read, read });
    }

    /// The code of an error that answers no request.
    pub(crate) fn error(&mut self) -> String {
        loop {
            let code = self.answer(None).expect_err("an error");
            // Who was banned is told that, too.
            if code != "permission_denied" {
                return code;
            }
        }
    }

    /// The lines of the list of conversations.
    pub(crate) fn list(&mut self) -> Vec<Value> {
        let list = self.ask("inbox.list", &json!({})).expect("a list");
        list["conversations"].as_array().expect("a list").clone()
    }

    /// The next message of a topic.
    pub(crate) fn hear(&mut self, topic: &str) -> Value {
        self.read_until(|person| person.messages.iter().any(|(of, _)| of == topic));
        let place = self.messages.iter().position(|(of, _)| of == topic).expect("it is there");
        self.messages.remove(place).expect("it is there").1
    }

    /// Whether a text was among all that came so far; a question and its answer bring everything that was sent before.
    pub(crate) fn has_heard(&mut self, text: &str) -> bool {
        let _ = self.ask("chat.history", &json!({"topic": "chat/lobby"}));
        self.messages.iter().any(|(_, body)| body["text"] == text)
    }

    fn answer(&mut self, id: Option<u32>) -> Result<Value, String> {
        self.read_until(|person| person.answers.iter().any(|(of, _)| *of == id));
        let place = self.answers.iter().position(|(of, _)| *of == id).expect("it is there");
        self.answers.remove(place).expect("it is there").1
    }

    fn next(&mut self) -> u32 {
        self.id += 1;
        self.id
    }

    fn read_until(&mut self, done: impl Fn(&Self) -> bool) {
        let until = Instant::now() + PATIENCE;
        while !done(self) {
            let left = until.saturating_duration_since(Instant::now());
            assert!(!self.over, "the connection of {} has ended: {:?}", self.name, self.answers);
            assert!(!left.is_zero(), "{} hears nothing: {:?} {:?}", self.name, self.answers, self.messages);
            self.read(left);
        }
    }

    fn say(&mut self, message: &Say<'_>) {
        let mut bytes = BytesMut::new();
        match &mut self.layer {
            Layer::Frames(_) => session::encode_client(Codec::Binary, message, &mut bytes),
            Layer::Socket(socket) => {
                let mut text = BytesMut::new();
                session::encode_client(Codec::Json, message, &mut text);
                socket.send_text(str::from_utf8(&text).expect("JSON is text"));
                socket.take_output(&mut bytes);
            }
        }
        self.stream.write_all(&bytes).expect("sent");
    }

    fn read(&mut self, within: Duration) {
        let mut chunk = vec![0; 64 * 1024];
        self.stream.set_read_timeout(Some(within)).expect("not zero");
        let read = match self.stream.read(&mut chunk) {
            Ok(read) => read,
            Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => return,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                self.over = true;
                return;
            }
            Err(error) => panic!("{}: {error}", self.name),
        };
        if read == 0 {
            self.over = true;
            return;
        }
        let mut bytes = &mut chunk[..read];
        let mut out = BytesMut::new();
        let mut told = Vec::new();
        match &mut self.layer {
            Layer::Frames(deframer) => {
                let mut bytes = &*bytes;
                while let Some(frame) = deframer.next(&mut bytes).expect("frames") {
                    told.push((Codec::Binary, frame.to_vec()));
                }
            }
            Layer::Socket(socket) => {
                while let Some(event) = socket.next(&mut bytes) {
                    match event {
                        Event::Text(text) => told.push((Codec::Json, text.as_bytes().to_vec())),
                        Event::Closed { code, .. } => (self.over, self.code) = (true, Some(code)),
                        Event::Binary(_) | Event::Pong => {}
                    }
                }
                socket.take_output(&mut out);
            }
        }
        // Who has closed need not read the answer to that.
        let written = self.stream.write_all(&out);
        assert!(written.is_ok() || self.over, "{}: {written:?}", self.name);
        for (codec, message) in told {
            self.take(&session::decode_server(codec, &message).expect("the server says what can be read"));
        }
    }

    fn take(&mut self, told: &Told<'_>) {
        let parsed = |body: &[u8]| serde_json::from_slice::<Value>(body).expect("JSON");
        match told {
            Told::Welcome { session, ticket, .. } => {
                (self.welcome, self.ticket) = (true, Some((session.to_string(), ticket.to_string())));
            }
            Told::Res { id, body } => self.answers.push_back((Some(*id), Ok(parsed(body)))),
            Told::PubOk { id, offset, .. } => self.answers.push_back((Some(*id), Ok(json!(offset)))),
            Told::SubOk { id, topic, alias, head, .. } => {
                self.aliases.insert(*alias, topic.to_string());
                self.answers.push_back((Some(*id), Ok(json!(head))));
            }
            Told::Err { id, code, .. } => self.answers.push_back((*id, Err(code.name().to_owned()))),
            Told::Msg { topic, alias, body, .. } => {
                let topic = if topic.is_empty() { self.aliases[alias].clone() } else { topic.to_string() };
                self.messages.push_back((topic, parsed(body)));
            }
            Told::Eph { topic, alias, from, key, body } => {
                let topic = if topic.is_empty() { self.aliases[alias].clone() } else { topic.to_string() };
                self.waves.push_back([json!(topic), json!(from), json!(key), parsed(body)]);
            }
            _ => {}
        }
    }
}

fn credential(token: &str) -> Credential<'_> {
    match token.split_once(' ') {
        Some((session, ticket)) => Credential::Resume { session: session.into(), ticket: ticket.into() },
        None => Credential::Token(token.into()),
    }
}

/// Asks for a token.
pub(crate) fn post(server: &Server, what: &str, body: &Value) -> String {
    let (_, answer) = call(server, what, body);
    answer["token"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
}

/// Asks by HTTP: the status, and the answer.
pub(crate) fn call(server: &Server, what: &str, body: &Value) -> (u16, Value) {
    let mut stream = TcpStream::connect(server.plain).expect("the server listens");
    let body = body.to_string();
    let head = format!("POST /api/v1/{what} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n");
    let head = format!("{head}content-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    stream.write_all(format!("{head}{body}").as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body).expect("a body");
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, serde_json::from_str(body).unwrap_or_else(|_| panic!("{answer}")))
}
