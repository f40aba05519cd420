//! HTTP/3 and WebTransport over whole connections, on good and bad links.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use quic::{
    CloseReason, Event, Handle, Side, StreamId, Transport, Web,
    h3::{self, Config, Piece},
};
use simnet::LinkConfig;

use crate::{
    traffic::bad,
    world::{World, plain},
};

/// A world whose two ends speak HTTP/3.
struct Net {
    world: World,
    client: (Handle, Web),
    server: ((usize, Handle), Web),
    /// How far the events of the world are handed on.
    told: (usize, usize),
    closed: [Option<CloseReason>; 2],
}

impl Net {
    fn new(seed: u64, link: LinkConfig, transport: &Transport) -> Self {
        let mut world = World::with(seed, 2, link, transport, |_| {});
        let (client, server) = world.connected();
        let config = Arc::new(Config::default());
        let web = |side| Web::new(world.now, side, config.clone());
        let (client, server) = ((client, web(Side::Client)), (server, web(Side::Server)));
        let mut net = Self { world, client, server, told: (0, 0), closed: [None, None] };
        net.run_until(|net| net.client.1.http().peer_settings().is_some());
        net
    }

    /// Hands on what the world tells, and what both ends want.
    fn turn(&mut self) {
        let now = self.world.now;
        while let Some((handle, event)) = self.world.client_events.get(self.told.0).cloned() {
            self.told.0 += 1;
            assert_eq!(handle, self.client.0);
            match (event, self.world.client.connection(handle)) {
                (Event::Closed(reason), _) => self.closed[0] = Some(reason),
                (event, Some(quic)) => self.client.1.handle(now, quic, &event),
                _ => {}
            }
        }
        while let Some((shard, handle, event)) = self.world.server_events.get(self.told.1).cloned() {
            self.told.1 += 1;
            assert_eq!((shard, handle), self.server.0);
            match (event, self.world.shards[shard].connection(handle)) {
                (Event::Closed(reason), _) => self.closed[1] = Some(reason),
                (event, Some(quic)) => self.server.1.handle(now, quic, &event),
                _ => {}
            }
        }
        if self.client.1.deadline().is_some_and(|at| at <= now)
            && let Some(quic) = self.world.client.connection(self.client.0)
        {
            self.client.1.handle_timeout(now, quic);
        }
        let (shard, handle) = self.server.0;
        if self.server.1.deadline().is_some_and(|at| at <= now)
            && let Some(quic) = self.world.shards[shard].connection(handle)
        {
            self.server.1.handle_timeout(now, quic);
        }
        self.world.flush();
    }

    fn run_until(&mut self, mut done: impl FnMut(&mut Self) -> bool) {
        for _ in 0..200_000 {
            self.turn();
            let done = done(self);
            self.flush();
            if done {
                return;
            }
            self.world.run_for(Duration::from_millis(1));
        }
        panic!("not done: {:?} {:?}", self.world.client_events, self.world.server_events);
    }

    /// Carries out what the apps of both ends did.
    fn flush(&mut self) {
        let now = self.world.now;
        if let Some(quic) = self.world.client.connection(self.client.0) {
            self.client.1.flush(now, quic);
        }
        let (shard, handle) = self.server.0;
        if let Some(quic) = self.world.shards[shard].connection(handle) {
            self.server.1.flush(now, quic);
        }
        self.world.flush();
    }

    fn client(&mut self) -> &mut h3::Connection {
        self.client.1.http()
    }

    fn server(&mut self) -> &mut h3::Connection {
        self.server.1.http()
    }
}

/// Reads what has come; whether that was all.
fn read(http: &mut h3::Connection, id: StreamId, into: &mut Vec<u8>) -> bool {
    loop {
        match http.read(id) {
            Some(Piece::Data(bytes)) => into.extend_from_slice(&bytes),
            Some(Piece::Trailers(_)) => {}
            Some(Piece::End) => return true,
            None => return false,
        }
    }
}

fn body(len: usize, seed: u64) -> Bytes {
    (0..len).map(|at| (at as u64 * 31 + at as u64 / 251 + seed) as u8).collect()
}

fn post() -> Request<()> {
    Request::post("https://a.example/echo").body(()).unwrap()
}

/// The server answers each request with its body, and holds no more of it than its limit.
fn echo(net: &mut Net, open: &mut Vec<(StreamId, Option<Bytes>, bool)>) {
    while let Some(event) = net.server().poll_event() {
        if let h3::Event::Request { id, .. } = event {
            net.server().respond(id, &Response::new(()), false).unwrap();
            open.push((id, None, false));
        }
    }
    for (id, waits, ended) in &mut *open {
        loop {
            if let Some(bytes) = waits.take() {
                if net.server().send_room(*id) == 0 {
                    *waits = Some(bytes);
                    break;
                }
                net.server().send(*id, bytes, false).unwrap();
            }
            match net.server().read(*id) {
                Some(Piece::Data(bytes)) => *waits = Some(bytes),
                Some(Piece::End) => {
                    net.server().send(*id, Bytes::new(), true).unwrap();
                    *ended = true;
                    break;
                }
                _ => break,
            }
        }
    }
    open.retain(|(_, _, ended)| !ended);
}

#[test]
fn requests_are_answered_over_bad_links() {
    for seed in 0..10 {
        let mut net = Net::new(seed, bad(), &Transport::default());
        let mut asked = Vec::new();
        for len in [0, 10, 70_000, 300_000] {
            let id = net.client().request(&post(), None, false).unwrap();
            net.client().send(id, body(len, id.0), true).unwrap();
            asked.push((id, len, Vec::new(), false));
        }
        let mut open = Vec::new();
        net.run_until(|net| {
            echo(net, &mut open);
            while let Some(event) = net.client().poll_event() {
                assert!(
                    !matches!(event, h3::Event::Refused { .. } | h3::Event::Closed { .. }),
                    "{event:?}, seed {seed}"
                );
            }
            for (id, _, got, ended) in &mut asked {
                *ended = *ended || read(net.client(), *id, got);
            }
            asked.iter().all(|(_, _, _, ended)| *ended)
        });
        for (id, len, got, _) in asked {
            assert!(got == body(len, id.0), "{} of {len} bytes, seed {seed}", got.len());
        }
        assert_eq!((net.client().streams_len(), net.server().streams_len()), (0, 0), "seed {seed}");
    }
}

#[test]
fn an_app_that_does_not_read_holds_the_peer_back() {
    let transport = Transport {
        data_max: 200_000,
        data_window_max: 200_000,
        stream_data_max: 100_000,
        stream_window_max: 100_000,
        ..Transport::default()
    };
    let mut net = Net::new(1, plain(), &transport);
    let id = net.client().request(&post(), None, false).unwrap();
    let whole = body(1_000_000, 7);
    let mut rest = whole.clone();
    let mut got = Vec::new();
    let (mut ended, mut turns) = (false, 0);
    net.run_until(|net| {
        while !rest.is_empty() && net.client().send_room(id) > 0 {
            let piece = rest.split_to(rest.len().min(10_000));
            net.client().send(id, piece, rest.is_empty()).unwrap();
        }
        turns += 1;
        if turns == 1_000 {
            let limits = h3::Limits::default();
            assert!(net.server().in_bytes() <= limits.stream_in_bytes_max as usize);
            // A window, and what each end holds by its own limits.
            let held_max = 100_000 + limits.stream_in_bytes_max + limits.stream_out_bytes_max + 10_000;
            assert!(whole.len() - rest.len() <= held_max as usize, "{} left", rest.len());
        }
        ended = ended || turns > 1_000 && read(net.server(), id, &mut got);
        ended
    });
    assert!(got == whole);
}

/// Nothing of a stream that only ends waits for room, as it gives the peer room for the next one.
#[test]
fn streams_that_only_end_leave_nothing_at_a_server_that_is_full() {
    let mut net = Net::new(1, plain(), &Transport::default());
    let in_bytes_max = h3::Limits::default().connection_in_bytes_max as usize;
    let ids: Vec<_> = (0..20).map(|_| net.client().request(&post(), None, false).unwrap()).collect();
    net.run_until(|net| {
        for id in &ids {
            if net.client().send_room(*id) > 0 {
                net.client().send(*id, body(10_000, 7), false).unwrap();
            }
        }
        net.server().in_bytes() == in_bytes_max
    });
    let held = format!("{:?}", net.server).len();
    let mut next = 8;
    net.run_until(|net| {
        let client = net.world.client_at(net.client.0);
        while next < 3_000 && client.write(StreamId(next << 2 | 2), b"", true).is_ok() {
            next += 1;
        }
        next == 3_000
    });
    net.world.run_for(Duration::from_secs(1));
    net.turn();
    assert_eq!(net.server().in_bytes(), in_bytes_max);
    let more = format!("{:?}", net.server).len() - held;
    assert!(more < 1_000, "{more} bytes to tell of what is held");
}

#[test]
fn a_session_carries_streams_and_datagrams() {
    let mut net = Net::new(3, plain(), &Transport::default());
    let request = Request::connect("https://a.example/wt").body(()).unwrap();
    let session = net.client().request(&request, Some("webtransport"), false).unwrap();
    let mut open = None;
    net.run_until(|net| {
        while let Some(event) = net.server().poll_event() {
            if let h3::Event::SessionRequest { id, .. } = event {
                net.server().accept_session(id, HeaderMap::new()).unwrap();
            }
        }
        while let Some(event) = net.client().poll_event() {
            if let h3::Event::SessionOpen { id, response } = event {
                assert_eq!(response.status(), StatusCode::OK);
                open = Some(id);
            }
        }
        open == Some(session)
    });
    let up = net.client().open_bidi(session).unwrap();
    net.client().send(up, body(50_000, 1), true).unwrap();
    let down = net.server().open_uni(session).unwrap();
    net.server().send(down, body(50_000, 2), true).unwrap();
    net.client().send_datagram(session, b"ping").unwrap();
    let (mut upped, mut downed, mut pinged) = ((Vec::new(), false), (Vec::new(), false), false);
    net.run_until(|net| {
        while let Some(event) = net.server().poll_event() {
            pinged |= matches!(event, h3::Event::Datagram { id, ref payload } if id == session && payload == "ping");
        }
        upped.1 = upped.1 || read(net.server(), up, &mut upped.0);
        downed.1 = downed.1 || read(net.client(), down, &mut downed.0);
        upped.1 && downed.1 && pinged
    });
    assert!(upped.0 == body(50_000, 1) && downed.0 == body(50_000, 2));
    // The peer stops a stream that is open, and gives up one: both are told with the app's codes.
    let stopped = net.client().open_uni(session).unwrap();
    net.client().send(stopped, body(10, 3), false).unwrap();
    net.run_until(|net| net.server().read(stopped).is_some());
    net.server().stop(stopped, quic::webtransport::code::to_http(9));
    let mut code = None;
    net.run_until(|net| {
        while let Some(event) = net.client().poll_event() {
            if let h3::Event::StreamStopped { id, code: told } = event {
                assert_eq!(id, stopped);
                code = told;
            }
        }
        code.is_some()
    });
    assert_eq!(code, Some(9));
}

#[test]
fn streams_given_up_before_they_are_sent_are_none_to_the_peer() {
    let transport = Transport { streams_unidirectional_max: 4, ..Transport::default() };
    let mut net = Net::new(5, plain(), &transport);
    let request = Request::connect("https://a.example/wt").body(()).unwrap();
    let session = net.client().request(&request, Some("webtransport"), false).unwrap();
    net.run_until(|net| {
        while let Some(event) = net.server().poll_event() {
            if let h3::Event::SessionRequest { id, .. } = event {
                net.server().accept_session(id, HeaderMap::new()).unwrap();
            }
        }
        std::iter::from_fn(|| net.client().poll_event()).any(|event| matches!(event, h3::Event::SessionOpen { .. }))
    });
    let mut opened = 0;
    net.run_until(|net| {
        if let Ok(id) = net.server().open_uni(session) {
            net.server().reset(id, quic::webtransport::code::to_http(1));
            opened += 1;
        }
        opened == 20
    });
    // The last of them would have left none of the client's streams to this one.
    let mut sent = None;
    net.run_until(|net| {
        sent = net.server().open_uni(session).ok();
        sent.is_some()
    });
    let id = sent.unwrap();
    net.server().send(id, Bytes::from_static(b"here"), true).unwrap();
    let mut got = Vec::new();
    net.run_until(|net| read(net.client(), id, &mut got));
    assert_eq!(got, b"here");
}

#[test]
fn more_requests_than_the_peer_allows_wait_for_credit() {
    let transport = Transport { streams_bidirectional_max: 4, ..Transport::default() };
    let mut net = Net::new(4, plain(), &transport);
    let (mut asked, mut answered, mut refused) = (0, 0, 0);
    net.run_until(|net| {
        while asked < 50 {
            match net.client().request(&Request::get("https://a.example/").body(()).unwrap(), None, true) {
                Ok(_) => asked += 1,
                Err(error) => {
                    assert_eq!(error, h3::SendError::NoCredit);
                    refused += 1;
                    break;
                }
            }
        }
        while let Some(event) = net.server().poll_event() {
            if let h3::Event::Request { id, .. } = event {
                net.server().answer(id, Response::new(Bytes::from_static(b"hello"))).unwrap();
            }
        }
        while let Some(event) = net.client().poll_event() {
            if let h3::Event::Readable(id) = event {
                answered += usize::from(read(net.client(), id, &mut Vec::new()));
            }
        }
        answered == 50
    });
    assert!(refused > 0);
}

#[test]
fn an_orderly_end_loses_nothing() {
    for seed in 0..10 {
        let mut net = Net::new(seed, bad(), &Transport::default());
        let id = net.client().request(&Request::get("https://a.example/").body(()).unwrap(), None, true).unwrap();
        let mut got = (Vec::new(), false);
        net.run_until(|net| {
            while let Some(event) = net.server().poll_event() {
                if let h3::Event::Request { id, .. } = event {
                    assert!(read(net.server(), id, &mut Vec::new()));
                    net.server().answer(id, Response::new(body(40_000, 5))).unwrap();
                    let now = net.world.now;
                    net.server().shutdown(now);
                }
            }
            got.1 = got.1 || read(net.client(), id, &mut got.0);
            net.closed.iter().all(Option::is_some)
        });
        assert!(got.1 && got.0 == body(40_000, 5), "{} bytes, seed {seed}: {:?}", got.0.len(), net.closed);
        let code = h3::Code::NO_ERROR.0;
        let by_server = net.closed[1] == Some(CloseReason::Local { code });
        let by_client = net.closed[0] == Some(CloseReason::Local { code });
        assert!(by_server || by_client, "{:?}, seed {seed}", net.closed);
    }
}

#[test]
fn a_request_in_0rtt_is_told_as_early_and_answered() {
    let mut world = World::new(6, 1, plain());
    let (first, _) = world.connected();
    world.run_for(Duration::from_millis(300));
    let session = world.client_at(first).session().unwrap().to_vec();
    let (client_told, server_told) = (world.client_events.len(), world.server_events.len());
    let handle = world.connect(Some(&session));
    world.flush();
    assert!(world.client_told(handle, &Event::Early));
    let config = Arc::new(Config::default());
    let now = world.now;
    let mut client = Web::new(now, Side::Client, config.clone());
    client.handle(now, world.client_at(handle), &Event::Early);
    let id = client.http().request(&Request::get("https://a.example/").body(()).unwrap(), None, true).unwrap();
    client.flush(now, world.client_at(handle));
    world.run_until(Duration::from_secs(2), |world| world.server_events.len() > server_told);
    let (shard, server, _) = world.server_events[server_told];
    let client = (handle, client);
    let server = ((shard, server), Web::new(world.now, Side::Server, config));
    let mut net = Net { world, client, server, told: (client_told + 1, server_told), closed: [None, None] };
    let (mut early, mut ended) = (None, false);
    net.run_until(|net| {
        while let Some(event) = net.server().poll_event() {
            if let h3::Event::Request { id, early: told, .. } = event {
                early = Some(told);
                net.server().answer(id, Response::new(body(3_000, 1))).unwrap();
            }
        }
        ended = ended || read(net.client(), id, &mut Vec::new());
        ended
    });
    assert_eq!(early, Some(true));
}
