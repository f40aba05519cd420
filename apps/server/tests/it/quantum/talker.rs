//! A user that speaks Quantum, on a real socket.

use std::{
    collections::VecDeque,
    fs,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use quantum::{ClientConfig, CloseReason, Transport, crypto::Trust};
use ringshard::client::{Heard, Wire};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use session::{Client as Say, Codec, Credential, Hello, Server as Told, Subscription};
use sha2::{Digest, Sha256};

use crate::{
    hostile::talker::token,
    process::{PATIENCE, Server},
};

/// A configuration that trusts the server's own certificate alone.
pub(crate) fn config(server: &Server) -> ClientConfig {
    let pem = fs::read(server.data().join("certificate.pem")).expect("made");
    let certificate = CertificateDer::from_pem_slice(&pem).expect("a certificate");
    let trust = Trust::Certificate(Sha256::digest(&certificate).into());
    ClientConfig::builder(trust).build().expect("a configuration")
}

/// A session over Quantum.
pub(crate) struct Quantum {
    pub(crate) wire: Wire,
    topic: String,
    heard: VecDeque<Vec<u8>>,
    pub(crate) closed: Option<CloseReason>,
    pub(crate) ended: bool,
    said: u64,
}

impl Quantum {
    /// A connection whose handshake is done.
    pub(crate) fn connect(server: &Server) -> Self {
        let mut wire = Wire::new(server.udp, config(server), Transport::default()).expect("a socket");
        wire.connect("localhost").expect("begun");
        let mut this = Self { wire, topic: String::new(), heard: VecDeque::new(), closed: None, ended: false, said: 0 };
        this.until("up", |this| this.wire.client().is_up());
        this
    }

    /// A session of `user` in `topic`.
    pub(crate) fn enter(server: &Server, user: &str, topic: &str) -> Self {
        let mut this = Self::connect(server);
        this.greet(Credential::Token(token(user).into()), topic, None);
        this.hear("a welcome", |message| matches!(message, Told::Welcome { .. }).then_some(()));
        this
    }

    pub(crate) fn greet(&mut self, credential: Credential<'_>, topic: &str, after: Option<u64>) {
        let mut hello = Hello::new(1, credential, "test");
        hello.subs.push(Subscription { topic: topic.into(), epoch: None, after });
        topic.clone_into(&mut self.topic);
        self.say(&Say::Hello(hello));
    }

    pub(crate) fn say(&mut self, message: &Say<'_>) {
        let mut frame = BytesMut::new();
        session::encode_client(Codec::Binary, message, &mut frame);
        match message {
            Say::Eph { .. } => self.wire.client().wave(&frame),
            _ => assert!(self.wire.client().say(&frame), "room"),
        }
        self.wire.send().expect("sent");
    }

    /// Publishes a line; its counter is also its correlation id.
    pub(crate) fn publish(&mut self, text: &str) -> u32 {
        self.said += 1;
        let body = format!("{{\"type\":\"text\",\"text\":\"{text}\"}}");
        let (id, topic) = (1_000 + self.said as u32, self.topic.clone());
        self.say(&Say::Pub { id, topic: topic.as_str().into(), seq: Some(self.said), body: body.as_bytes() });
        id
    }

    /// Goes on until it is so.
    pub(crate) fn until(&mut self, what: &str, mut so: impl FnMut(&mut Self) -> bool) {
        let until = Instant::now() + PATIENCE;
        while !so(self) {
            assert!(Instant::now() < until, "not {what}; closed: {:?}", self.closed);
            self.turn(Duration::from_millis(20));
        }
    }

    /// Waits once for something to hear.
    pub(crate) fn turn(&mut self, within: Duration) {
        match self.wire.hear(within).expect("the socket works") {
            Some(Heard::Frame(frame)) => self.heard.push_back(frame),
            Some(Heard::Ended) => self.ended = true,
            Some(Heard::Closed(reason)) => self.closed = Some(reason),
            Some(Heard::Up) | None => {}
        }
    }

    /// Waits for a message that is so, and what is wanted of it; others before it are skipped.
    pub(crate) fn hear<T>(&mut self, what: &str, so: impl Fn(&Told<'_>) -> Option<T>) -> T {
        let until = Instant::now() + PATIENCE;
        loop {
            while let Some(frame) = self.heard.pop_front() {
                let message = session::decode_server(Codec::Binary, &frame).expect("a message");
                if let Some(wanted) = so(&message) {
                    return wanted;
                }
            }
            assert!(Instant::now() < until && self.closed.is_none(), "no {what}; closed: {:?}", self.closed);
            self.turn(Duration::from_millis(20));
        }
    }

    /// The next line in its room: offset and text.
    pub(crate) fn line(&mut self) -> (u64, String) {
        self.hear("a line", |message| match message {
            Told::Msg { offset, body, .. } => Some((*offset, String::from_utf8_lossy(body).into_owned())),
            _ => None,
        })
    }

    /// Says a line in its room, and hears it.
    pub(crate) fn works(&mut self) {
        let text = format!("line {}", self.said + 1);
        self.publish(&text);
        while !self.line().1.contains(&text) {}
    }
}

impl Quantum {
    /// Whether an ephemeral message of `user` is among what was heard.
    pub(crate) fn heard_eph(&self, user: &str) -> bool {
        self.heard.iter().any(|frame| {
            let message = session::decode_server(Codec::Binary, frame).expect("a message");
            matches!(message, Told::Eph { from, .. } if from == user)
        })
    }
}
