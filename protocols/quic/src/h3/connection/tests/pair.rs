//! A client and a server of this crate over memory, whose transport takes and gives bytes as it likes.

use http::HeaderMap;

use super::*;

/// Both ends, and a transport that never takes more than so many bytes at once.
struct Pair {
    client: Connection,
    server: Connection,
    piece: usize,
}

impl Pair {
    fn new(piece: usize) -> Self {
        let config = Config { grease: Some(11), ..config() };
        let mut pair = Self { client: fresh_noisy(false, config.clone()), server: fresh_noisy(true, config), piece };
        pair.run();
        assert!(pair.client.peer_settings().is_some_and(|peer| peer.webtransport && peer.datagrams));
        drain_events(&mut pair.client);
        drain_events(&mut pair.server);
        pair
    }

    /// Moves everything there is to move.
    fn run(&mut self) {
        while carry(&mut self.client, &mut self.server, self.piece)
            | carry(&mut self.server, &mut self.client, self.piece)
        {}
    }
}

/// With the first writes still to be done.
fn fresh_noisy(is_server: bool, config: Config) -> Connection {
    let mut connection = Connection::new(Instant::now(), Arc::new(config), is_server);
    connection.on_established(Instant::now(), true);
    connection.on_credit(1_000, 1_000);
    connection
}

/// Carries out all actions of one end at the other.
fn carry(from: &mut Connection, to: &mut Connection, piece: usize) -> bool {
    let now = Instant::now();
    let mut moved = false;
    let mut blocked = Vec::new();
    while let Some(action) = from.poll_action() {
        moved = true;
        match action {
            Action::Write { id, bytes, fin } => {
                let take = bytes.len().min(piece).min(to.room(id));
                let whole = take == bytes.len();
                to.on_stream(now, id, bytes.slice(..take), fin && whole);
                if !whole {
                    from.on_blocked(id, bytes.slice(take..), fin);
                    blocked.push(id);
                }
            }
            Action::Reset(id, code) => to.on_reset(now, id, code),
            Action::Stop(id, code) => to.on_stop(now, id, code),
            Action::Datagram(bytes) => to.on_datagram(now, bytes),
            Action::Read(_) | Action::Prioritize(..) => {}
            Action::Close { code, .. } => assert_eq!(code, Code::NO_ERROR),
        }
    }
    for id in blocked {
        if to.room(id) > 0 {
            from.on_writable(id);
        }
    }
    moved
}

#[test]
fn a_request_and_its_answer() {
    for piece in [1, 7, 1_000_000] {
        let mut pair = Pair::new(piece);
        let id = pair.client.request(&get("/path?query"), None, false).expect("there is credit");
        pair.client.send(id, Bytes::from_static(b"question"), false).expect("open");
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", "1".parse().expect("valid"));
        pair.client.send_trailers(id, &trailers).expect("open");
        pair.run();
        let events = drain_events(&mut pair.server);
        assert!(matches!(&events[0], Event::Request { request, .. } if request.uri() == "/path?query"), "{events:?}");
        assert_eq!(read_all(&mut pair.server, id.0), (b"question".to_vec(), true));
        let body = Bytes::from(vec![5; 50_000]);
        pair.server.answer(id, Response::new(body.clone())).expect("open");
        pair.run();
        let events = drain_events(&mut pair.client);
        assert!(
            matches!(&events[..], [Event::Response { response, .. }, Event::Readable(_)]
            if response.headers()["content-length"] == "50000"),
            "{events:?}"
        );
        assert_eq!(read_all(&mut pair.client, id.0), (body.to_vec(), true));
        assert_eq!((pair.client.streams_len(), pair.server.streams_len()), (0, 0));
    }
}

#[test]
fn a_session_with_everything() {
    for piece in [1, 1_000_000] {
        let mut pair = Pair::new(piece);
        let request = Request::connect("https://a.example/wt").body(()).expect("valid");
        let session = pair.client.request(&request, Some("webtransport"), false).expect("the server speaks it");
        // Nothing of a session can be used before it is accepted.
        assert_eq!(pair.client.open_bidi(session), Err(SendError::Gone));
        pair.run();
        assert!(matches!(drain_events(&mut pair.server)[..], [Event::SessionRequest { .. }]));
        pair.server.accept_session(session, HeaderMap::new()).expect("it was asked for");
        let first = pair.server.open_uni(session).expect("open");
        pair.server.send(first, Bytes::from_static(b"hi"), true).expect("open");
        pair.run();
        let events = drain_events(&mut pair.client);
        assert!(
            matches!(events[..], [Event::SessionOpen { .. }, Event::Stream { .. }, Event::Readable(_)]),
            "{events:?}"
        );
        assert_eq!(read_all(&mut pair.client, first.0), (b"hi".to_vec(), true));

        let stream = pair.client.open_bidi(session).expect("open");
        pair.client.send(stream, Bytes::from(vec![3; 20_000]), true).expect("open");
        pair.client.send_datagram(session, b"quick").expect("the server takes them");
        pair.run();
        let (body, end) = read_all(&mut pair.server, stream.0);
        assert_eq!((body.len(), end), (20_000, true));
        let datagram = |event: &Event| matches!(event, Event::Datagram { payload, .. } if payload == "quick");
        assert!(drain_events(&mut pair.server).iter().any(datagram));
        pair.server.send(stream, Bytes::from(body), true).expect("open");
        pair.run();
        assert_eq!(read_all(&mut pair.client, stream.0).0.len(), 20_000);

        let opened = pair.server.open_bidi(session).expect("open");
        pair.run();
        assert!(
            drain_events(&mut pair.client)
                .iter()
                .any(|event| matches!(event, Event::Stream { id, .. } if *id == opened))
        );
        pair.client.close_session(session, 3, "done").expect("it is open");
        pair.run();
        let closed = |event: &Event| matches!(event, Event::SessionClosed { code: 3, reason, .. } if reason == "done");
        assert!(drain_events(&mut pair.server).iter().any(closed));
        pair.run();
        assert_eq!((pair.client.streams_len(), pair.server.streams_len()), (0, 0));
        assert!(!pair.client.is_over() && !pair.server.is_over());
    }
}

#[test]
fn a_refused_session_is_a_response() {
    let mut pair = Pair::new(100);
    let request = Request::connect("https://a.example/wt").header("origin", "https://evil.example").body(());
    let session = pair.client.request(&request.expect("valid"), Some("webtransport"), false).expect("there is credit");
    pair.run();
    assert!(matches!(drain_events(&mut pair.server)[..], [Event::Refused { verdict: Verdict::Status(403), .. }]));
    assert!(matches!(&drain_events(&mut pair.client)[0], Event::Response { response, .. } if response.status() == 403));
    assert_eq!(read_all(&mut pair.client, session.0), (vec![], true));
    pair.run();
    assert_eq!((pair.client.streams_len(), pair.server.streams_len()), (0, 0));
}

#[test]
fn a_client_that_leaves_ends_the_connection() {
    let mut pair = Pair::new(100);
    pair.client.shutdown(Instant::now());
    pair.run();
    assert!(pair.server.is_over() && pair.client.is_over());
    assert_eq!(pair.client.request(&get("/"), None, true), Err(SendError::Leaving));
}

#[test]
fn a_client_learns_which_requests_were_not_looked_at() {
    let mut pair = Pair::new(100);
    let first = pair.client.request(&get("/1"), None, true).expect("there is credit");
    pair.run();
    let second = pair.client.request(&get("/2"), None, true).expect("there is credit");
    pair.server.shutdown(Instant::now());
    carry(&mut pair.server, &mut pair.client, 100);
    let events = drain_events(&mut pair.client);
    assert!(
        matches!(events[..], [Event::GoAway, Event::Cancelled { id, code: Code::REQUEST_REJECTED }] if id == second),
        "{events:?}"
    );
    read_all(&mut pair.server, first.0);
    pair.server.answer(first, Response::new(Bytes::new())).expect("it was looked at");
    pair.run();
    assert_eq!(read_all(&mut pair.client, first.0), (vec![], true));
    pair.run();
    assert!(pair.server.is_over() && pair.client.is_over());
}

#[test]
fn what_the_peer_does_not_speak_is_not_sent() {
    let mut client = fresh(false, config());
    let request = Request::connect("https://a.example/wt").body(()).expect("valid");
    assert_eq!(client.request(&request, Some("webtransport"), false), Err(SendError::NotYet));
    feed(&mut client, 3, &concat(&[&[0], &frame(kind::SETTINGS, &[6, 0x40, 200])]), false);
    assert_eq!(client.request(&request, Some("webtransport"), false), Err(SendError::Unsupported));
    assert_eq!(client.request(&get(&"x".repeat(200)), None, true), Err(SendError::TooLarge));
    client.on_credit(0, 0);
    assert_eq!(client.request(&get("/"), None, true), Err(SendError::NoCredit));
}

#[test]
fn resets_go_both_ways() {
    let mut pair = Pair::new(100);
    let id = pair.client.request(&get("/"), None, false).expect("there is credit");
    pair.run();
    drain_events(&mut pair.server);
    pair.client.reset(id, Code::REQUEST_CANCELLED);
    pair.run();
    assert!(matches!(drain_events(&mut pair.server)[..], [Event::Cancelled { .. }]));
    let id = pair.client.request(&get("/"), None, true).expect("there is credit");
    pair.run();
    pair.server.reset(id, Code::INTERNAL_ERROR);
    pair.run();
    let events = drain_events(&mut pair.client);
    assert!(matches!(events[..], [Event::Cancelled { code: Code::INTERNAL_ERROR, .. }]), "{events:?}");
    assert_eq!((pair.client.streams_len(), pair.server.streams_len(), pair.client.requests), (0, 0, 0));
}
