//! A client of the world: connects, talks, is cut off, comes back, and knows at once when something is not as promised.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use bytes::{Buf, BytesMut};
use rand::{Rng, SeedableRng, rngs::StdRng};
use session::{Client as Say, Code, Codec, Credential, Hello, Server, SubState, Subscription};
use simnet::{Arrival, PipeConfig};
use tcp::frame::Deframer;
use websocket::Event;

use super::{
    end::{End, Heard},
    kernel::Kernel,
    oracle::Oracle,
    quantum::Line as Quantum,
    quic::{Carrier, Keys, Line as Quic},
};
use quantum::ClientConfig;

/// How a client speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Speech {
    JsonSocket,
    BinarySocket,
    BinaryStream,
    Quantum,
    /// The lanes are streams of a QUIC connection.
    Quic,
    /// The lanes are streams of a session over HTTP/3.
    WebTransport,
}

/// The speeches, in the order in which clients get them.
const SPEECHES: [Speech; 4] = [Speech::JsonSocket, Speech::Quantum, Speech::BinaryStream, Speech::BinarySocket];

/// The same in worlds with QUIC; the smallest have three clients.
const SPEECHES_WITH_QUIC: [Speech; 6] = [
    Speech::WebTransport,
    Speech::Quic,
    Speech::JsonSocket,
    Speech::Quantum,
    Speech::BinaryStream,
    Speech::BinarySocket,
];

/// What a client is up to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mood {
    /// Talks, stops reading, is cut off, repeats itself.
    Troubled,
    /// Talks.
    Chatty,
    /// Finishes what is open.
    Calm,
}

/// One user on one device.
pub(crate) struct Client {
    pub(crate) number: usize,
    pub(crate) user: String,
    pub(crate) topic: String,
    pub(crate) speech: Speech,
    token: String,
    rng: StdRng,
    network: PipeConfig,
    line: Option<Line>,
    /// The end of those that speak in datagrams; it outlives connections.
    end: Option<Box<dyn End>>,
    /// When it does something by itself next.
    pub(crate) next: Instant,
    /// The last offset it has, and of which history.
    pub(crate) last: u64,
    pub(crate) epoch: Option<u64>,
    /// Published and not acknowledged, in order; kept over connections.
    pub(crate) outbox: VecDeque<(u64, String)>,
    seq: u64,
    resume: Option<(String, String)>,
    pub(crate) mood: Mood,
    pub(crate) goaways: u32,
    pub(crate) crowd: u32,
    stalled: bool,
    /// Since when it has been waiting for the answer to a ping, or to its hello.
    asked: Option<Instant>,
    /// Something was not taken: it is said again later.
    refused: bool,
    /// How often it has waited too long on a connection over QUIC.
    pub(crate) deaf: u64,
}

/// How long a client waits for an answer, as long as apps do.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection of a client.
struct Line {
    /// Where its bytes go; nowhere in datagrams.
    wire: usize,
    stage: Stage,
    out: BytesMut,
    head: Vec<u8>,
    welcomed: bool,
    ended: bool,
}

enum Stage {
    /// Waits for the answer to its upgrade.
    Upgrading,
    Socket(Box<websocket::Connection>),
    Stream(Deframer),
    /// The client's own end does it all.
    Datagrams,
}

impl Client {
    pub(crate) fn new(
        number: usize,
        topic: &str,
        (user, token): (String, String),
        rng: &mut StdRng,
        kernel: &mut Kernel,
        (quantum, quic): (&ClientConfig, Option<&Keys>),
    ) -> Self {
        let mut rng = StdRng::seed_from_u64(rng.random());
        let speeches = if quic.is_some() { &SPEECHES_WITH_QUIC[..] } else { &SPEECHES };
        let speech = speeches[number % speeches.len()];
        let end: Option<Box<dyn End>> = match (speech, quic) {
            (Speech::Quantum, _) => Some(Box::new(Quantum::new(kernel, quantum, rng.random()))),
            (Speech::Quic, Some(keys)) => Some(Box::new(Quic::new(kernel, keys, Carrier::Streams, rng.random()))),
            (Speech::WebTransport, Some(keys)) => {
                Some(Box::new(Quic::new(kernel, keys, Carrier::Session, rng.random())))
            }
            _ => None,
        };
        let network = PipeConfig {
            delay: Duration::from_millis(rng.random_range(0..80)),
            jitter: Duration::from_millis(rng.random_range(0..40)),
            rate_bytes_per_s: rng.random_bool(0.3).then(|| rng.random_range(20_000..200_000)),
            window_bytes: rng.random_range(2_000..64_000),
            segment_max: rng.random_range(40..1_460),
            ..PipeConfig::default()
        };
        let next = kernel.now + Duration::from_millis(rng.random_range(0..2_000));
        Self {
            number,
            user,
            topic: topic.to_owned(),
            speech,
            token,
            rng,
            network,
            line: None,
            end,
            next,
            last: 0,
            epoch: None,
            outbox: VecDeque::new(),
            seq: 0,
            resume: None,
            mood: Mood::Troubled,
            goaways: 0,
            crowd: 0,
            stalled: false,
            asked: None,
            refused: false,
            deaf: 0,
        }
    }

    /// Connections that a shard has for it when it is online: HTTP/3 is one, and the session on it another.
    pub(crate) fn connections(&self) -> usize {
        if self.speech == Speech::WebTransport { 2 } else { 1 }
    }

    pub(crate) fn is_online(&self) -> bool {
        self.line.as_ref().is_some_and(|line| line.welcomed)
    }

    /// When it does something next, or its end does.
    pub(crate) fn deadline(&mut self) -> Instant {
        let end = self.end.as_mut().and_then(|end| end.deadline());
        end.map_or(self.next, |at| at.min(self.next))
    }

    pub(crate) fn set(&mut self, kernel: &mut Kernel, mood: Mood) {
        self.mood = mood;
        if let Some(end) = self.end.as_ref().filter(|_| mood != Mood::Troubled) {
            kernel.way(end.way()).calm();
        }
    }

    /// Does what is due by its own clock.
    pub(crate) fn act(&mut self, kernel: &mut Kernel) {
        if self.next > kernel.now {
            return;
        }
        let pause = if self.mood == Mood::Calm && self.is_online() { 20_000 } else { self.rng.random_range(20..1_500) };
        self.next = kernel.now + Duration::from_millis(pause);
        if self.line.is_none() {
            self.connect(kernel);
            return;
        }
        if self.mood != Mood::Troubled {
            self.unstall(kernel);
        }
        if self.is_deaf(kernel) {
            self.deaf += 1;
            return self.hang_up(kernel);
        }
        if std::mem::take(&mut self.refused) && self.is_online() {
            (0..self.outbox.len()).for_each(|place| self.send_pub(kernel, place));
            return;
        }
        let dice = match self.mood {
            Mood::Troubled => self.rng.random_range(0..100),
            Mood::Chatty => self.rng.random_range(0..70),
            Mood::Calm => 100,
        };
        match dice {
            0..60 => self.publish(kernel),
            60..70 => self.wave(kernel),
            70..76 => self.disturb(kernel),
            76..84 => self.drop_line(kernel),
            84..90 => self.repeat(kernel),
            _ => self.say(kernel, &Say::Ping { id: 1 }),
        }
    }

    /// Whether its connection is of no use, over QUIC: on the others that would be our fault, and the world is to notice it.
    fn is_deaf(&self, kernel: &Kernel) -> bool {
        let speaks = matches!(self.speech, Speech::Quic | Speech::WebTransport);
        speaks && !self.stalled && self.asked.is_some_and(|at| at + PATIENCE <= kernel.now)
    }

    /// Says one more thing and is then silent: whatever becomes of it, nothing else will wake anybody.
    pub(crate) fn say_last(&mut self, kernel: &mut Kernel) {
        self.publish(kernel);
        self.next = kernel.now + Duration::from_secs(3_600);
    }

    /// Takes what has arrived, and writes what there is room for.
    pub(crate) fn exchange(&mut self, kernel: &mut Kernel, oracle: &mut Oracle) {
        if let Some(end) = &mut self.end {
            let heard = end.exchange(kernel);
            heard.into_iter().for_each(|one| self.hear_end(kernel, oracle, one));
            return;
        }
        while let Some(line) = &mut self.line {
            match kernel.read(line.wire) {
                Some(Arrival::Data(bytes)) => self.hear(kernel, oracle, bytes),
                Some(Arrival::Finished) => {
                    kernel.finish(line.wire);
                    line.ended = true;
                    self.hang_up(kernel);
                }
                Some(Arrival::Reset) => self.hang_up(kernel),
                None => break,
            }
        }
        if let Some(line) = &mut self.line {
            while !line.out.is_empty() {
                let taken = kernel.write(line.wire, &line.out);
                line.out.advance(taken);
                if taken == 0 {
                    break;
                }
            }
        }
    }

    fn hear_end(&mut self, kernel: &mut Kernel, oracle: &mut Oracle, heard: Heard) {
        if self.line.is_none() {
            return;
        }
        match heard {
            Heard::Up => self.greet(kernel),
            Heard::Frame(frame) => {
                let message = session::decode_server(Codec::Binary, &frame).expect("the server says what can be read");
                self.understand(kernel, oracle, message);
            }
            Heard::Over => self.hang_up(kernel),
        }
    }

    fn connect(&mut self, kernel: &mut Kernel) {
        if let Some(end) = &mut self.end {
            (self.stalled, self.asked) = (false, Some(kernel.now));
            end.connect(kernel);
            let stage = Stage::Datagrams;
            let (out, head) = (BytesMut::new(), Vec::new());
            self.line = Some(Line { wire: usize::MAX, stage, out, head, welcomed: false, ended: false });
            return;
        }
        let Some(wire) = kernel.connect(self.network) else { return };
        self.stalled = false;
        let mut out = BytesMut::new();
        let stage = match self.speech {
            Speech::BinaryStream => {
                out.extend_from_slice(tcp::PREFACE);
                Stage::Stream(Deframer::new(64 * 1024))
            }
            Speech::Quantum | Speech::Quic | Speech::WebTransport => return,
            Speech::JsonSocket | Speech::BinarySocket => {
                let protocol = if self.speech == Speech::JsonSocket { "ringshard.json" } else { "ringshard.proto" };
                let head = format!(
                    "GET /ws HTTP/1.1\r\nHost: world\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                     Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                     Sec-WebSocket-Protocol: {protocol}\r\n\r\n"
                );
                out.extend_from_slice(head.as_bytes());
                Stage::Upgrading
            }
        };
        let greets = matches!(stage, Stage::Stream(_));
        self.line = Some(Line { wire, stage, out, head: Vec::new(), welcomed: false, ended: false });
        if greets {
            self.greet(kernel);
        }
    }

    fn greet(&mut self, kernel: &mut Kernel) {
        let resume = self.resume.take().filter(|_| self.rng.random_bool(0.7));
        let credential = match &resume {
            Some((session, ticket)) => Credential::Resume { session: session.into(), ticket: ticket.into() },
            None => Credential::Token(self.token.clone().into()),
        };
        let device = if resume.is_some() { "" } else { "phone" };
        let mut hello = Hello::new(1, credential, device);
        let topic = self.topic.clone();
        hello.subs.push(Subscription { topic: topic.into(), epoch: self.epoch, after: Some(self.last) });
        self.say(kernel, &Say::Hello(hello));
    }

    fn publish(&mut self, kernel: &mut Kernel) {
        if self.outbox.len() >= 20 || !self.is_online() {
            return;
        }
        self.seq += 1;
        let padding = if self.rng.random_bool(0.1) { self.rng.random_range(0..4_000) } else { 0 };
        let text = format!("{} {} {}", self.user, self.seq, "x".repeat(padding));
        self.outbox.push_back((self.seq, text));
        self.send_pub(kernel, self.outbox.len() - 1);
    }

    fn send_pub(&mut self, kernel: &mut Kernel, place: usize) {
        let Some((seq, text)) = self.outbox.get(place).cloned() else { return };
        let body = format!("{{\"type\":\"text\",\"text\":\"{text}\"}}");
        let topic = self.topic.clone();
        let id = u32::try_from(seq).expect("few") + 1_000;
        self.say(kernel, &Say::Pub { id, topic: topic.as_str().into(), seq: Some(seq), body: body.as_bytes() });
    }

    /// Publishes something again that it may have published already.
    fn repeat(&mut self, kernel: &mut Kernel) {
        if self.is_online() && !self.outbox.is_empty() {
            let place = self.rng.random_range(0..self.outbox.len());
            self.send_pub(kernel, place);
        }
    }

    fn wave(&mut self, kernel: &mut Kernel) {
        if self.is_online() {
            let topic = self.topic.clone();
            self.say(kernel, &Say::Eph { topic: topic.as_str().into(), key: "typing".into(), body: b"{\"on\":true}" });
        }
    }

    /// Stops reading, reads again, or the way is cut for a while.
    fn disturb(&mut self, kernel: &mut Kernel) {
        if let Some(end) = &mut self.end {
            let until = kernel.now + Duration::from_millis(self.rng.random_range(0..3_000));
            match self.rng.random_range(0..4) {
                0 => {
                    self.stalled = true;
                    end.stall(kernel, true);
                }
                1 => kernel.way(end.way()).cut(until),
                2 => end.wander(kernel),
                _ => self.unstall(kernel),
            }
            return;
        }
        let Some(line) = &self.line else { return };
        match self.rng.random_range(0..3) {
            0 => {
                self.stalled = true;
                kernel.stall(line.wire, true);
            }
            1 => kernel.hold(line.wire, kernel.now + Duration::from_millis(self.rng.random_range(0..3_000))),
            _ => self.unstall(kernel),
        }
    }

    fn unstall(&mut self, kernel: &mut Kernel) {
        if let Some(end) = &mut self.end {
            end.stall(kernel, false);
            self.stalled = false;
            return;
        }
        if let Some(line) = self.line.as_ref().filter(|_| self.stalled) {
            kernel.stall(line.wire, false);
            self.stalled = false;
        }
    }

    fn drop_line(&mut self, kernel: &mut Kernel) {
        if let Some(end) = &mut self.end {
            let mut last = BytesMut::new();
            session::encode_client(Codec::Binary, &Say::Ping { id: 2 }, &mut last);
            if self.rng.random_bool(0.5) && end.finish(kernel, &last) && self.rng.random_bool(0.5) {
                return end.send(kernel);
            }
            if self.rng.random_bool(0.3) {
                end.vanish();
            }
            self.hang_up(kernel);
            return;
        }
        if let Some(line) = &self.line {
            if self.rng.random_bool(0.5) {
                kernel.finish(line.wire);
            }
            self.hang_up(kernel);
        }
    }

    fn hang_up(&mut self, kernel: &mut Kernel) {
        if let Some(end) = &mut self.end {
            end.close(kernel);
            end.send(kernel);
            self.line = None;
            self.next = kernel.now + Duration::from_millis(self.rng.random_range(0..800));
            return;
        }
        if let Some(line) = self.line.take() {
            if !line.ended {
                kernel.reset(line.wire);
            } else {
                kernel.leave(line.wire);
            }
            self.next = kernel.now + Duration::from_millis(self.rng.random_range(0..800));
        }
    }

    fn say(&mut self, kernel: &mut Kernel, message: &Say<'_>) {
        let Some(line) = &mut self.line else { return };
        if matches!(message, Say::Hello(_) | Say::Ping { .. }) {
            self.asked.get_or_insert(kernel.now);
        }
        let mut bytes = BytesMut::new();
        if let Some(end) = &mut self.end {
            session::encode_client(Codec::Binary, message, &mut bytes);
            match message {
                Say::Eph { .. } => end.wave(kernel, &bytes),
                _ => end.say(kernel, &bytes),
            }
            end.send(kernel);
            return;
        }
        match &mut line.stage {
            Stage::Upgrading | Stage::Datagrams => return,
            Stage::Stream(_) => session::encode_client(Codec::Binary, message, &mut line.out),
            Stage::Socket(socket) if self.speech == Speech::JsonSocket => {
                session::encode_client(Codec::Json, message, &mut bytes);
                socket.send_text(std::str::from_utf8(&bytes).expect("JSON is text"));
                socket.take_output(&mut line.out);
            }
            Stage::Socket(socket) => {
                session::encode_client(Codec::Binary, message, &mut bytes);
                socket.send_binary(&bytes);
                socket.take_output(&mut line.out);
            }
        }
        let taken = kernel.write(line.wire, &line.out);
        line.out.advance(taken);
    }

    fn hear(&mut self, kernel: &mut Kernel, oracle: &mut Oracle, mut bytes: Vec<u8>) {
        let Some(mut line) = self.line.take() else { return };
        if matches!(line.stage, Stage::Upgrading) {
            line.head.extend_from_slice(&bytes);
            let Some(end) = line.head.windows(4).position(|four| four == b"\r\n\r\n") else {
                self.line = Some(line);
                return;
            };
            let status = String::from_utf8_lossy(&line.head[..end]).into_owned();
            if !status.starts_with("HTTP/1.1 101") {
                assert!(status.contains(" 503 "), "the upgrade was refused: {status}");
                self.line = Some(line);
                return;
            }
            bytes = line.head.split_off(end + 4);
            let limits = websocket::Limits { message_max: 1 << 20, frame_max: 1 << 20 };
            line.stage = Stage::Socket(Box::new(websocket::Connection::client(limits, self.rng.random())));
            self.line = Some(line);
            self.greet(kernel);
            return self.hear(kernel, oracle, bytes);
        }
        let mut heard: Vec<(Codec, Vec<u8>)> = Vec::new();
        let json = self.speech == Speech::JsonSocket;
        match &mut line.stage {
            Stage::Upgrading | Stage::Datagrams => {}
            Stage::Socket(socket) => {
                let mut rest = &mut bytes[..];
                while let Some(event) = socket.next(&mut rest) {
                    match event {
                        Event::Text(text) => heard.push((Codec::Json, text.as_bytes().to_vec())),
                        Event::Binary(frame) => heard.push((Codec::Binary, frame.to_vec())),
                        Event::Pong | Event::Closed { .. } => {}
                    }
                }
                socket.take_output(&mut line.out);
                assert!(heard.iter().all(|(codec, _)| (*codec == Codec::Json) == json), "the other codec");
            }
            Stage::Stream(deframer) => {
                let mut rest = &bytes[..];
                while let Some(frame) = deframer.next(&mut rest).expect("the server sends whole frames") {
                    heard.push((Codec::Binary, frame.to_vec()));
                }
            }
        }
        self.line = Some(line);
        for (codec, bytes) in heard {
            let message = session::decode_server(codec, &bytes).expect("the server says what can be read");
            self.understand(kernel, oracle, message);
        }
    }

    fn understand(&mut self, kernel: &mut Kernel, oracle: &mut Oracle, message: Server<'_>) {
        // What comes in datagrams says nothing about the streams.
        if !matches!(message, Server::Eph { .. }) {
            self.asked = None;
        }
        match message {
            Server::Welcome { session, ticket, user, subs, .. } => {
                assert_eq!(user, self.user.as_str());
                self.resume = Some((session.into_owned(), ticket.into_owned()));
                let SubState::Ok { epoch, head, .. } = &subs[0].state else { panic!("refused: {subs:?}") };
                // A topic that nobody listens to and nobody published in is forgotten; nothing is lost with it.
                let same = self.epoch.is_none_or(|known| known == *epoch);
                assert!(same || self.last == 0, "a history was lost");
                assert!(*head >= self.last, "the head went back");
                self.epoch = Some(*epoch);
                if let Some(line) = &mut self.line {
                    line.welcomed = true;
                }
                for place in 0..self.outbox.len() {
                    self.send_pub(kernel, place);
                }
            }
            Server::Msg { offset, from, body, .. } => {
                assert!(self.is_online(), "a message before the welcome");
                assert_eq!(offset, self.last + 1, "client {}: a gap or a repeat", self.number);
                self.last = offset;
                oracle.heard(&self.topic, offset, &from, body);
            }
            Server::Gap { first, .. } => {
                assert!(first > self.last + 1, "a gap that is none");
                oracle.gap(&self.topic, first);
                self.last = first - 1;
            }
            Server::PubOk { id, offset, .. } => {
                let seq = u64::from(id) - 1_000;
                oracle.acknowledged(&self.topic, &self.user, seq, offset);
                self.outbox.retain(|(known, _)| *known != seq);
            }
            Server::Presence { count, .. } => self.crowd = count,
            Server::Goaway { .. } => self.goaways += 1,
            Server::Err { code, message, .. } => {
                self.refused |= code == Code::Unavailable;
                self.next = self.next.min(kernel.now + Duration::from_secs(2));
                oracle.refused(code, &message);
            }
            Server::SubOk { .. }
            | Server::UnsubOk { .. }
            | Server::Res { .. }
            | Server::Pong { .. }
            | Server::Eph { .. } => {}
        }
    }
}

/// Where each client stands at the end.
pub(crate) fn standings(clients: &[Client]) -> BTreeMap<&str, Vec<u64>> {
    let mut standings: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for client in clients {
        standings.entry(&client.topic).or_default().push(client.last);
    }
    standings
}
