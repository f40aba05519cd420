//! A client that publishes and resumes, over WebSocket in JSON or in frames.

use std::{
    collections::VecDeque,
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::BytesMut;
use session::{Client as Say, Codec, Credential, Hello, Keys, Server, SubState, Subscription};
use tcp::frame::Deframer;
use websocket::Event;

use crate::process::{PATIENCE, SECRET};

/// How a client speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Speech {
    Socket,
    Frames,
}

/// What a client was told.
#[derive(Debug)]
pub(crate) enum Heard {
    /// The id of a publication is its counter.
    PubOk {
        seq: u64,
        offset: u64,
    },
    Msg {
        offset: u64,
        text: String,
    },
    Err {
        code: session::Code,
        message: String,
    },
    Goaway,
    Other,
}

/// A session in one room.
pub(crate) struct Client {
    stream: TcpStream,
    layer: Layer,
    heard: VecDeque<Heard>,
    welcome: Option<(u64, u64)>,
}

enum Layer {
    Socket(websocket::Connection),
    Frames(Deframer),
}

impl Client {
    /// Comes in and subscribes; also gives epoch and head.
    pub(crate) fn enter(
        address: SocketAddr,
        speech: Speech,
        user: &str,
        topic: &str,
        epoch: Option<u64>,
        after: Option<u64>,
    ) -> (Self, u64, u64) {
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE).expect("the server listens");
        stream.set_nodelay(true).expect("set");
        let layer = match speech {
            Speech::Socket => Layer::Socket(upgrade(&mut stream)),
            Speech::Frames => {
                stream.write_all(tcp::PREFACE).expect("sent");
                Layer::Frames(Deframer::new(1 << 20))
            }
        };
        let mut client = Self { stream, layer, heard: VecDeque::new(), welcome: None };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
        let token = Keys::new(SECRET.as_bytes()).mint(now, user, 3600, &[], false);
        let mut hello = Hello::new(u32::MAX >> 8, Credential::Token(token.into()), "phone");
        hello.subs.push(Subscription { topic: topic.into(), epoch, after });
        client.say(&Say::Hello(hello));
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some((epoch, head)) = client.welcome {
                return (client, epoch, head);
            }
            assert!(Instant::now() < until && client.read(PATIENCE), "no welcome: {:?}", client.heard);
        }
    }

    pub(crate) fn publish(&mut self, topic: &str, seq: u64, text: &str) {
        let body = format!("{{\"type\":\"text\",\"text\":\"{text}\"}}");
        let id = u32::try_from(seq).expect("few");
        self.say(&Say::Pub { id, topic: topic.into(), seq: Some(seq), body: body.as_bytes() });
    }

    /// The next thing that it is told; `None` when the connection has ended.
    pub(crate) fn hear(&mut self, within: Duration) -> Option<Heard> {
        let until = Instant::now() + within;
        loop {
            if let Some(heard) = self.heard.pop_front() {
                return Some(heard);
            }
            let left = until.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "nothing is heard");
            if !self.read(left) && self.heard.is_empty() {
                return None;
            }
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
        // The server may have gone; that is heard when reading.
        let _ = self.stream.write_all(&bytes);
    }

    /// Reads once; whether the connection is still there.
    fn read(&mut self, within: Duration) -> bool {
        let mut chunk = vec![0; 64 * 1024];
        self.stream.set_read_timeout(Some(within)).expect("not zero");
        let read = match self.stream.read(&mut chunk) {
            Ok(read) => read,
            Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => return true,
            Err(_) => 0,
        };
        self.take(&mut chunk[..read]);
        read > 0
    }

    fn take(&mut self, mut bytes: &mut [u8]) {
        let Self { layer, heard, welcome, stream } = self;
        let mut understand = |codec, message: &[u8]| match session::decode_server(codec, message)
            .expect("the server says what can be read")
        {
            Server::Welcome { subs, .. } => match &subs[0].state {
                SubState::Ok { epoch, head, .. } => *welcome = Some((*epoch, *head)),
                other => panic!("refused: {other:?}"),
            },
            message => heard.push_back(understood(&message)),
        };
        match layer {
            Layer::Frames(deframer) => {
                let mut bytes = &*bytes;
                while let Some(frame) = deframer.next(&mut bytes).expect("frames") {
                    understand(Codec::Binary, frame);
                }
            }
            Layer::Socket(socket) => {
                while let Some(event) = socket.next(&mut bytes) {
                    if let Event::Text(text) = event {
                        understand(Codec::Json, text.as_bytes());
                    }
                }
                let mut out = BytesMut::new();
                socket.take_output(&mut out);
                let _ = stream.write_all(&out);
            }
        }
    }
}

fn understood(message: &Server<'_>) -> Heard {
    match message {
        Server::PubOk { id, offset, .. } => Heard::PubOk { seq: u64::from(*id), offset: *offset },
        Server::Msg { offset, body, .. } => {
            let body: serde_json::Value = serde_json::from_slice(body).expect("JSON");
            Heard::Msg { offset: *offset, text: body["text"].as_str().expect("a text").to_owned() }
        }
        Server::Err { code, message, .. } => Heard::Err { code: *code, message: message.to_string() },
        Server::Goaway { .. } => Heard::Goaway,
        _ => Heard::Other,
    }
}

pub(crate) fn upgrade(stream: &mut TcpStream) -> websocket::Connection {
    let request = "GET /ws HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                   sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(request.as_bytes()).expect("sent");
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).expect("an answer");
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
    websocket::Connection::client(websocket::Limits { message_max: 1 << 20, frame_max: 1 << 20 }, [7; 32])
}
