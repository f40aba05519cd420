//! A client that publishes and resumes: over WebSocket in JSON, in frames over TCP, or over Quantum.

use std::{
    collections::VecDeque,
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::BytesMut;
use quantum::Transport;
use ringshard::client::{Heard as Told, Wire};
use session::{Client as Say, Codec, Credential, Hello, Keys, Server as Says, SubState, Subscription};
use tcp::frame::Deframer;
use websocket::Event;

use crate::{
    process::{PATIENCE, SECRET, Server},
    quantum::talker::config,
};

/// How long it waits at a time.
const TURN: Duration = Duration::from_millis(50);

/// How a client speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Speech {
    Socket,
    Frames,
    Quantum,
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
    layer: Layer,
    heard: VecDeque<Heard>,
    welcome: Option<(u64, u64)>,
}

enum Layer {
    Socket(TcpStream, websocket::Connection),
    Frames(TcpStream, Deframer),
    Quantum(Box<Wire>),
}

impl Client {
    /// Comes in and subscribes; also gives epoch and head.
    pub(crate) fn enter(
        server: &Server,
        speech: Speech,
        user: &str,
        topic: &str,
        epoch: Option<u64>,
        after: Option<u64>,
    ) -> (Self, u64, u64) {
        let layer = match speech {
            Speech::Socket => return Self::enter_at(server.plain, user, topic, epoch, after),
            Speech::Frames => {
                let mut stream = connect(server.plain);
                stream.write_all(tcp::PREFACE).expect("sent");
                Layer::Frames(stream, Deframer::new(1 << 20))
            }
            Speech::Quantum => {
                let mut wire = Wire::new(server.udp, config(server), Transport::default()).expect("a socket");
                wire.connect("localhost").expect("begun");
                Layer::Quantum(Box::new(wire))
            }
        };
        Self::greet(layer, user, topic, epoch, after)
    }

    /// The same over a WebSocket, of which only the address has to be known: also from another thread.
    pub(crate) fn enter_at(
        address: SocketAddr,
        user: &str,
        topic: &str,
        epoch: Option<u64>,
        after: Option<u64>,
    ) -> (Self, u64, u64) {
        let mut stream = connect(address);
        let socket = upgrade(&mut stream);
        Self::greet(Layer::Socket(stream, socket), user, topic, epoch, after)
    }

    fn greet(layer: Layer, user: &str, topic: &str, epoch: Option<u64>, after: Option<u64>) -> (Self, u64, u64) {
        let mut client = Self { layer, heard: VecDeque::new(), welcome: None };
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
            assert!(Instant::now() < until && client.read(TURN), "no welcome: {:?}", client.heard);
        }
    }

    pub(crate) fn publish(&mut self, topic: &str, seq: u64, text: &str) {
        let body = format!("{{\"type\":\"text\",\"text\":\"{text}\"}}");
        let id = u32::try_from(seq).expect("few");
        self.say(&Say::Pub { id, topic: topic.into(), seq: Some(seq), body: body.as_bytes() });
    }

    /// The next thing that it is told; `None` when the connection has ended.
    pub(crate) fn hear(&mut self, within: Duration) -> Option<Heard> {
        self.hear_unless(within, &AtomicBool::new(false))
    }

    /// The same; also `None` when the server is gone, which over UDP nobody says.
    pub(crate) fn hear_unless(&mut self, within: Duration, gone: &AtomicBool) -> Option<Heard> {
        let until = Instant::now() + within;
        loop {
            if let Some(heard) = self.heard.pop_front() {
                return Some(heard);
            }
            assert!(Instant::now() < until, "nothing is heard");
            let over = matches!(self.layer, Layer::Quantum(_)) && gone.load(Ordering::Relaxed);
            if (over || !self.read(TURN)) && self.heard.is_empty() {
                return None;
            }
        }
    }

    fn say(&mut self, message: &Say<'_>) {
        let mut bytes = BytesMut::new();
        match &mut self.layer {
            Layer::Frames(stream, _) => {
                session::encode_client(Codec::Binary, message, &mut bytes);
                // The server may have gone; that is heard when reading.
                let _ = stream.write_all(&bytes);
            }
            Layer::Socket(stream, socket) => {
                let mut text = BytesMut::new();
                session::encode_client(Codec::Json, message, &mut text);
                socket.send_text(str::from_utf8(&text).expect("JSON is text"));
                socket.take_output(&mut bytes);
                let _ = stream.write_all(&bytes);
            }
            Layer::Quantum(wire) => {
                session::encode_client(Codec::Binary, message, &mut bytes);
                wire.client().say(&bytes);
                let _ = wire.send();
            }
        }
    }

    /// Reads once; whether the connection is still there.
    fn read(&mut self, within: Duration) -> bool {
        match &mut self.layer {
            Layer::Quantum(wire) => match wire.hear(within).expect("the socket works") {
                Some(Told::Frame(frame)) => self.understand(Codec::Binary, &frame),
                Some(Told::Closed(_)) => return false,
                Some(Told::Up | Told::Ended) | None => {}
            },
            Layer::Socket(stream, _) | Layer::Frames(stream, _) => {
                let mut chunk = vec![0; 64 * 1024];
                stream.set_read_timeout(Some(within)).expect("not zero");
                let read = match stream.read(&mut chunk) {
                    Ok(read) => read,
                    Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {
                        return true;
                    }
                    Err(_) => 0,
                };
                self.take(&mut chunk[..read]);
                return read > 0;
            }
        }
        true
    }

    fn take(&mut self, mut bytes: &mut [u8]) {
        let mut messages = Vec::new();
        match &mut self.layer {
            Layer::Frames(_, deframer) => {
                let mut bytes = &*bytes;
                while let Some(frame) = deframer.next(&mut bytes).expect("frames") {
                    messages.push((Codec::Binary, frame.to_vec()));
                }
            }
            Layer::Socket(stream, socket) => {
                while let Some(event) = socket.next(&mut bytes) {
                    if let Event::Text(text) = event {
                        messages.push((Codec::Json, text.as_bytes().to_vec()));
                    }
                }
                let mut out = BytesMut::new();
                socket.take_output(&mut out);
                let _ = stream.write_all(&out);
            }
            Layer::Quantum(_) => {}
        }
        messages.into_iter().for_each(|(codec, message)| self.understand(codec, &message));
    }

    fn understand(&mut self, codec: Codec, message: &[u8]) {
        match session::decode_server(codec, message).expect("the server says what can be read") {
            Says::Welcome { subs, .. } => match &subs[0].state {
                SubState::Ok { epoch, head, .. } => self.welcome = Some((*epoch, *head)),
                other => panic!("refused: {other:?}"),
            },
            message => self.heard.push_back(understood(&message)),
        }
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, PATIENCE).expect("the server listens");
    stream.set_nodelay(true).expect("set");
    stream
}

fn understood(message: &Says<'_>) -> Heard {
    match message {
        Says::PubOk { id, offset, .. } => Heard::PubOk { seq: u64::from(*id), offset: *offset },
        Says::Msg { offset, body, .. } => {
            let body: serde_json::Value = serde_json::from_slice(body).expect("JSON");
            Heard::Msg { offset: *offset, text: body["text"].as_str().expect("a text").to_owned() }
        }
        Says::Err { code, message, .. } => Heard::Err { code: *code, message: message.to_string() },
        Says::Goaway { .. } => Heard::Goaway,
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
