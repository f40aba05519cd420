//! Whoever speaks QUIC, on a real socket: HTTP/3, a session in WebTransport, or one on raw streams.

use std::{
    collections::VecDeque,
    fs,
    net::{SocketAddr, UdpSocket},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request};
use quic::{
    Client as Tls, CloseReason, Endpoint, EndpointConfig, Event, Handle, Meta, Side, StreamId, Transport, Trust, Web,
    h3::{self, Piece},
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use session::{Client as Say, Codec, Credential, Hello, Server as Told, Subscription};
use tcp::frame::Deframer;

use crate::{
    hostile::talker::token,
    process::{PATIENCE, Server},
};

const FRAME_MAX: usize = 16 << 20;

/// A connection on a socket of its own.
pub(crate) struct Line {
    socket: UdpSocket,
    endpoint: Endpoint,
    pub(crate) handle: Handle,
    /// The address that the client believes to have.
    local: SocketAddr,
    events: VecDeque<Event>,
    pub(crate) closed: Option<CloseReason>,
    buffer: Vec<u8>,
}

/// How clients connect. The server's certificate is compared afterwards: one that is no authority signs nobody, not even
/// itself.
pub(crate) fn tls(alpn: &str) -> Tls {
    bounded(alpn, &Transport::default())
}

/// The same with limits of one's own.
pub(crate) fn bounded(alpn: &str, transport: &Transport) -> Tls {
    Tls::new(&Trust::DangerousAnybody, &[alpn.into()], transport).expect("TLS")
}

/// The server's own certificate.
fn certificate(server: &Server) -> Vec<u8> {
    let pem = fs::read(server.data().join("certificate.pem")).expect("made");
    CertificateDer::from_pem_slice(&pem).expect("a certificate").to_vec()
}

fn socket() -> UdpSocket {
    UdpSocket::bind("127.0.0.1:0").expect("a port")
}

impl Line {
    pub(crate) fn connect(server: &Server, alpn: &str) -> Self {
        let mut line = Self::resume(server, &mut tls(alpn), None);
        assert_eq!(line.quic().peer_certificate(), Some(&*certificate(server)));
        line
    }

    /// Connects with the ticket of an earlier connection, if there is one.
    pub(crate) fn resume(server: &Server, tls: &mut Tls, session: Option<&[u8]>) -> Self {
        let mut line = Self::begin(server, tls, session);
        line.until("up", |line| line.events.contains(&Event::Connected));
        line
    }

    pub(crate) fn begin(server: &Server, tls: &mut Tls, session: Option<&[u8]>) -> Self {
        let (socket, seed) = (socket(), StdRng::from_os_rng().random());
        let mut endpoint =
            Endpoint::new(EndpointConfig::single(seed, Transport::default()), None, seed).expect("an endpoint");
        let meta = Meta { local: socket.local_addr().expect("bound"), remote: server.udp };
        let handle = endpoint.connect(Instant::now(), meta, "localhost", tls, session).expect("begun");
        let (events, buffer) = (VecDeque::new(), vec![0; 65_535]);
        let mut line = Self { socket, endpoint, handle, local: meta.local, events, closed: None, buffer };
        line.send();
        line
    }

    pub(crate) fn quic(&mut self) -> &mut quic::Connection {
        self.endpoint.connection(self.handle).expect("it is open")
    }

    pub(crate) fn is_open(&self) -> bool {
        self.closed.is_none()
    }

    /// Another socket, as behind a NAT that has forgotten the old one; the client knows nothing of it.
    pub(crate) fn rebind(&mut self) {
        self.socket = socket();
    }

    /// The client moves by itself.
    pub(crate) fn migrate(&mut self) {
        self.socket = socket();
        let local = self.socket.local_addr().expect("bound");
        self.quic().migrate(local).expect("it may move");
        self.local = local;
    }

    /// What is next to be told.
    pub(crate) fn next(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Sends what is to be sent.
    pub(crate) fn send(&mut self) {
        let now = Instant::now();
        if self.endpoint.deadline().is_some_and(|at| at <= now) {
            self.endpoint.handle_timeout(now);
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        while let Some(transmit) = self.endpoint.poll_transmit(now, &mut buffer, 64) {
            for datagram in buffer[..transmit.size].chunks(transmit.segment) {
                let _ = self.socket.send_to(datagram, transmit.to);
            }
        }
        self.buffer = buffer;
        while let Some((_, event)) = self.endpoint.poll_event() {
            match event {
                Event::Closed(reason) => self.closed = Some(reason),
                event => self.events.push_back(event),
            }
        }
    }

    /// Waits once for datagrams, and takes them.
    pub(crate) fn turn(&mut self, within: Duration) {
        self.send();
        let now = Instant::now();
        let due = self.endpoint.deadline().map_or(within, |at| at.saturating_duration_since(now).min(within));
        self.socket.set_read_timeout(Some(due.max(Duration::from_millis(1)))).expect("set");
        let mut buffer = std::mem::take(&mut self.buffer);
        while let Ok((len, remote)) = self.socket.recv_from(&mut buffer) {
            let meta = Meta { local: self.local, remote };
            self.endpoint.handle(Instant::now(), 0, meta, &mut buffer[..len]);
            self.socket.set_read_timeout(Some(Duration::from_micros(1))).expect("set");
        }
        self.buffer = buffer;
        self.send();
    }

    pub(crate) fn until(&mut self, what: &str, mut so: impl FnMut(&mut Self) -> bool) {
        let until = Instant::now() + PATIENCE;
        while !so(self) {
            assert!(Instant::now() < until, "not {what}; closed: {:?}", self.closed);
            self.turn(Duration::from_millis(20));
        }
    }
}

/// HTTP/3 on a connection.
pub(crate) struct Http3 {
    pub(crate) line: Line,
    pub(crate) web: Web,
    pub(crate) events: VecDeque<h3::Event>,
}

impl Http3 {
    pub(crate) fn connect(server: &Server) -> Self {
        let mut this = Self::on(Line::connect(server, "h3"));
        this.until("settings", |this| this.web.http().peer_settings().is_some());
        this
    }

    pub(crate) fn on(line: Line) -> Self {
        Self::with(line, h3::Config::default())
    }

    pub(crate) fn with(line: Line, config: h3::Config) -> Self {
        let web = Web::new(Instant::now(), Side::Client, Arc::new(config));
        Self { line, web, events: VecDeque::new() }
    }

    pub(crate) fn turn(&mut self, within: Duration) {
        self.flush();
        self.line.turn(within);
        self.flush();
    }

    /// Carries out what was done, and takes what there is to hear.
    pub(crate) fn flush(&mut self) {
        let now = Instant::now();
        while let Some(event) = self.line.next() {
            if self.line.is_open() {
                self.web.handle(now, self.line.quic(), &event);
            }
        }
        if self.line.is_open() {
            self.web.flush(now, self.line.quic());
        }
        self.line.send();
        while let Some(event) = self.web.http().poll_event() {
            self.events.push_back(event);
        }
    }

    pub(crate) fn until(&mut self, what: &str, mut so: impl FnMut(&mut Self) -> bool) {
        let until = Instant::now() + PATIENCE;
        while !so(self) {
            assert!(Instant::now() < until, "not {what}; closed: {:?}, {:?}", self.line.closed, self.events);
            self.turn(Duration::from_millis(20));
        }
    }

    /// Takes the first event that is so.
    pub(crate) fn take<T>(&mut self, what: &str, so: impl Fn(&h3::Event) -> Option<T>) -> T {
        let mut found = None;
        self.until(what, |this| {
            let place = this.events.iter().position(|event| so(event).is_some());
            found = place.and_then(|place| so(&this.events.remove(place)?));
            found.is_some()
        });
        found.expect("it is so")
    }

    /// Asks, and waits for the status and the body.
    pub(crate) fn ask(&mut self, method: &str, path: &str, body: &[u8], more: &HeaderMap) -> (u16, HeaderMap, Vec<u8>) {
        let mut request = Request::builder().method(method).uri(format!("https://localhost{path}"));
        request.headers_mut().expect("valid").extend(more.clone());
        let request = request.body(()).expect("valid");
        let id = self.web.http().request(&request, None, body.is_empty()).expect("sent");
        if !body.is_empty() {
            self.web.http().send(id, Bytes::copy_from_slice(body), true).expect("room");
        }
        self.answer(id)
    }

    pub(crate) fn answer(&mut self, id: StreamId) -> (u16, HeaderMap, Vec<u8>) {
        let (status, headers) = self.take("an answer", |event| match event {
            h3::Event::Response { id: other, response } if *other == id => {
                Some((response.status().as_u16(), response.headers().clone()))
            }
            _ => None,
        });
        let mut body = Vec::new();
        self.until("the body", |this| read(this.web.http(), id, &mut body));
        (status, headers, body)
    }

    /// Asks for a WebTransport session; the status of the answer.
    pub(crate) fn session(&mut self, path: &str, origin: Option<&str>) -> Result<StreamId, u16> {
        let mut request = Request::connect(format!("https://localhost{path}"));
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        let request = request.body(()).expect("valid");
        let id = self.web.http().request(&request, Some("webtransport"), false).expect("sent");
        self.take("an answer", |event| match event {
            h3::Event::SessionOpen { id: other, .. } if *other == id => Some(Ok(id)),
            h3::Event::Response { id: other, response } if *other == id => Some(Err(response.status().as_u16())),
            _ => None,
        })
    }
}

/// Reads what has come; whether that was all.
pub(crate) fn read(http: &mut h3::Connection, id: StreamId, into: &mut Vec<u8>) -> bool {
    loop {
        match http.read(id) {
            Some(Piece::Data(bytes)) => into.extend_from_slice(&bytes),
            Some(Piece::Trailers(_)) => {}
            Some(Piece::End) => return true,
            None => return false,
        }
    }
}

/// How a session is carried.
pub(crate) enum Carrier {
    Raw(Box<Line>),
    Web { http: Box<Http3>, session: StreamId, ordered: StreamId },
}

/// A user of the session protocol over QUIC.
pub(crate) struct User {
    pub(crate) carrier: Carrier,
    deframer: Deframer,
    heard: VecDeque<Vec<u8>>,
    topic: String,
    pub(crate) ended: bool,
    /// The code that a WebTransport session was closed with.
    pub(crate) code: Option<u32>,
    /// Frames that came on streams of their own.
    pub(crate) aside: usize,
    said: u64,
}

impl User {
    pub(crate) fn raw(server: &Server) -> Self {
        Self::new(Carrier::Raw(Box::new(Line::connect(server, "ringshard/1"))))
    }

    pub(crate) fn web(server: &Server) -> Self {
        let mut http = Http3::connect(server);
        let session = http.session("/wt", None).expect("a session");
        let ordered = http.web.http().open_bidi(session).expect("a stream");
        Self::new(Carrier::Web { http: Box::new(http), session, ordered })
    }

    pub(crate) fn new(carrier: Carrier) -> Self {
        Self {
            carrier,
            deframer: Deframer::new(FRAME_MAX),
            heard: VecDeque::new(),
            topic: String::new(),
            ended: false,
            code: None,
            aside: 0,
            said: 0,
        }
    }

    /// A session of `user` in `topic`.
    pub(crate) fn enter(mut self, user: &str, topic: &str) -> Self {
        self.greet(Credential::Token(token(user).into()), topic, None);
        self.hear("a welcome", |message| matches!(message, Told::Welcome { .. }).then_some(()));
        self
    }

    pub(crate) fn greet(&mut self, credential: Credential<'_>, topic: &str, after: Option<u64>) {
        let mut hello = Hello::new(1, credential, "test");
        hello.subs.push(Subscription { topic: topic.into(), epoch: None, after });
        topic.clone_into(&mut self.topic);
        self.say(&Say::Hello(hello));
    }

    pub(crate) fn line(&mut self) -> &mut Line {
        match &mut self.carrier {
            Carrier::Raw(line) => line,
            Carrier::Web { http, .. } => &mut http.line,
        }
    }

    pub(crate) fn say(&mut self, message: &Say<'_>) {
        let frame = encoded(message);
        let is_ephemeral = matches!(message, Say::Eph { .. });
        match &mut self.carrier {
            Carrier::Raw(line) if is_ephemeral => drop(line.quic().send_datagram(frame)),
            Carrier::Raw(line) => assert_eq!(line.quic().write(StreamId(0), &frame, false), Ok(frame.len())),
            Carrier::Web { http, session, .. } if is_ephemeral => {
                let _ = http.web.http().send_datagram(*session, &frame);
            }
            Carrier::Web { http, ordered, .. } => {
                http.web.http().send(*ordered, frame, false).expect("room");
            }
        }
        self.turn(Duration::from_millis(1));
    }

    /// Waits once for something to hear.
    pub(crate) fn turn(&mut self, within: Duration) {
        match &mut self.carrier {
            Carrier::Raw(line) => {
                line.turn(within);
                while let Some(event) = line.next() {
                    let id = match event {
                        Event::Readable(id) => id,
                        Event::Datagram => {
                            while let Some(datagram) = line.quic().recv_datagram() {
                                self.heard.push_back(datagram.to_vec());
                            }
                            continue;
                        }
                        _ => continue,
                    };
                    while let Ok((bytes, end)) = line.quic().read_shared(id, 64 << 10) {
                        hear(&mut self.deframer, &bytes, &mut self.heard);
                        self.ended |= end && id == StreamId(0);
                        self.aside += usize::from(end && id != StreamId(0));
                        if end {
                            break;
                        }
                    }
                }
            }
            Carrier::Web { http, ordered, .. } => {
                http.turn(within);
                while let Some(event) = http.events.pop_front() {
                    match event {
                        h3::Event::Datagram { payload, .. } => self.heard.push_back(payload.to_vec()),
                        h3::Event::Readable(id) => {
                            let mut bytes = Vec::new();
                            let end = read(http.web.http(), id, &mut bytes);
                            hear(&mut self.deframer, &bytes, &mut self.heard);
                            self.ended |= end && id == *ordered;
                            self.aside += usize::from(end && id != *ordered);
                        }
                        h3::Event::SessionClosed { code, .. } => (self.ended, self.code) = (true, Some(code)),
                        _ => {}
                    }
                }
            }
        }
    }

    /// Publishes a line; its counter is also its correlation id.
    pub(crate) fn publish(&mut self, text: &str) {
        self.said += 1;
        let body = format!("{{\"type\":\"text\",\"text\":\"{text}\"}}");
        let (id, topic) = (1_000 + self.said as u32, self.topic.clone());
        self.say(&Say::Pub { id, topic: topic.as_str().into(), seq: Some(self.said), body: body.as_bytes() });
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
            let closed = self.line().closed.clone();
            assert!(Instant::now() < until && closed.is_none(), "no {what}; closed: {closed:?}");
            self.turn(Duration::from_millis(20));
        }
    }

    /// Goes on until it is so.
    pub(crate) fn until(&mut self, what: &str, mut so: impl FnMut(&mut Self) -> bool) {
        let until = Instant::now() + PATIENCE;
        while !so(self) {
            assert!(Instant::now() < until, "not {what}; closed: {:?}", self.line().closed);
            self.turn(Duration::from_millis(20));
        }
    }

    /// The next line in its room: offset and text.
    pub(crate) fn next_line(&mut self) -> (u64, String) {
        self.hear("a line", |message| match message {
            Told::Msg { offset, body, .. } => Some((*offset, String::from_utf8_lossy(body).into_owned())),
            _ => None,
        })
    }

    /// Says a line in its room, and hears it.
    pub(crate) fn works(&mut self) {
        let text = format!("line {}", self.said + 1);
        self.publish(&text);
        while !self.next_line().1.contains(&text) {}
    }

    /// Whether an ephemeral message of `user` is among what was heard.
    pub(crate) fn heard_eph(&self, user: &str) -> bool {
        self.heard.iter().any(|frame| {
            let message = session::decode_server(Codec::Binary, frame).expect("a message");
            matches!(message, Told::Eph { from, .. } if from == user)
        })
    }
}

/// A message as its frame.
pub(crate) fn encoded(message: &Say<'_>) -> Bytes {
    let mut frame = BytesMut::new();
    session::encode_client(Codec::Binary, message, &mut frame);
    frame.freeze()
}

fn hear(deframer: &mut Deframer, mut bytes: &[u8], heard: &mut VecDeque<Vec<u8>>) {
    while let Some(frame) = deframer.next(&mut bytes).expect("frames") {
        heard.push_back(frame.to_vec());
    }
}
