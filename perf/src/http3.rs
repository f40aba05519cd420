//! The operations of HTTP/3 and WebTransport: a client and a server joined in memory, without QUIC between them, whose
//! library reads the clock and has random numbers of its own.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, header};
use quic::h3::{Action, Common, Config, Connection, Event, StreamId};

/// Streams that either side may open in all.
const CREDIT: u64 = 1 << 40;

const DATAGRAM: [u8; 100] = [7; 100];

struct Pair {
    now: Instant,
    client: Connection,
    server: Connection,
    common: Common,
}

impl Pair {
    fn new() -> Self {
        let (now, config) = (Instant::now(), Arc::new(Config::default()));
        let (client, server) = (Connection::client(now, Arc::clone(&config)), Connection::server(now, config));
        let headers = [(header::DATE, "Sun, 06 Nov 1994 08:49:37 GMT"), (header::X_FRAME_OPTIONS, "DENY")];
        let headers = headers.map(|(name, value)| (name, HeaderValue::from_static(value)));
        let common = Common::new(&HeaderMap::from_iter(headers));
        let mut pair = Self { now, client, server, common };
        for end in [&mut pair.client, &mut pair.server] {
            end.on_established(now, true);
            end.on_credit(CREDIT, CREDIT);
        }
        pair.exchange();
        pair
    }

    /// Hands on what both have to send until neither has, and answers what is asked; how much the client was told.
    fn exchange(&mut self) -> usize {
        while hand_on(self.now, &mut self.client, &mut self.server) | self.answer() | self.back() {}
        std::iter::from_fn(|| self.client.poll_event()).count()
    }

    fn back(&mut self) -> bool {
        hand_on(self.now, &mut self.server, &mut self.client)
    }

    fn answer(&mut self) -> bool {
        let mut any = false;
        while let Some(event) = self.server.poll_event() {
            match event {
                Event::Request { id, .. } => {
                    let answer = Response::new(Bytes::from_static(&[b'.'; 64]));
                    self.server.answer_with(id, answer, &self.common).expect("it is open");
                }
                Event::SessionRequest { id, .. } => {
                    self.server.accept_session(id, HeaderMap::new()).expect("it is open");
                }
                Event::Datagram { id, payload } => self.server.send_datagram(id, &payload).expect("room"),
                Event::Readable(id) => while self.server.read(id).is_some() {},
                _ => {}
            }
            any = true;
        }
        any
    }
}

fn hand_on(now: Instant, from: &mut Connection, to: &mut Connection) -> bool {
    let mut any = false;
    while let Some(action) = from.poll_action() {
        match action {
            Action::Write { id, bytes, fin } => to.on_stream(now, id, bytes, fin),
            Action::Datagram(bytes) => to.on_datagram(now, bytes),
            _ => {}
        }
        any = true;
    }
    any
}

/// `count` requests and their answers of 64 bytes, read to the end.
pub(crate) fn request(count: u64) {
    let mut pair = Pair::new();
    let request = Request::get("https://127.0.0.1:8443/api/v1/shards").header("user-agent", "perf").body(());
    let request = request.expect("valid");
    for _ in 0..count {
        let id = pair.client.request(&request, None, true).expect("credit");
        pair.exchange();
        assert_eq!(read(&mut pair.client, id), 2, "the body and its end");
    }
}

fn read(client: &mut Connection, id: StreamId) -> usize {
    std::iter::from_fn(|| client.read(id)).count()
}

/// `count` datagrams of 100 bytes there and back in a WebTransport session.
pub(crate) fn datagram(count: u64) {
    let mut pair = Pair::new();
    let request = Request::connect("https://127.0.0.1:8443/wt/echo").body(()).expect("valid");
    let session = pair.client.request(&request, Some("webtransport"), false).expect("credit");
    pair.exchange();
    for _ in 0..count {
        pair.client.send_datagram(session, &DATAGRAM).expect("room");
        assert_eq!(pair.exchange(), 1, "it came back");
    }
}
