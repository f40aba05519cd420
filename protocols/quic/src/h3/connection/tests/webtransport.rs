//! Sessions as a server sees them: asking, streams both ways, what comes early, and how they end.

use http::HeaderMap;

use super::*;
use crate::webtransport::{OriginRule, capsule, code::to_http};

const SESSION: StreamId = StreamId(0);

fn bidi(session: u8, payload: &[u8]) -> Vec<u8> {
    concat(&[b"\x40\x41", &[session], payload])
}

fn uni(session: u8, payload: &[u8]) -> Vec<u8> {
    concat(&[b"\x40\x54", &[session], payload])
}

/// A server with an accepted session.
fn accepted() -> Connection {
    let mut connection = server(config());
    feed(&mut connection, 0, &headers(&CONNECT_WT), false);
    assert!(matches!(&drain_events(&mut connection)[..],
        [Event::SessionRequest { id: SESSION, request }] if request.uri().path() == "/wt"));
    connection.accept_session(SESSION, HeaderMap::new()).expect("it was asked for");
    assert_eq!(connection.accept_session(SESSION, HeaderMap::new()), Err(SendError::Order));
    drain_actions(&mut connection);
    connection
}

/// What the stream of the session got, without its frames, as far as a DATA frame is at its end.
fn capsule_sent(actions: &[Action]) -> Option<(Vec<u8>, bool)> {
    actions.iter().find_map(|action| match action {
        Action::Write { id: SESSION, bytes, fin } => Some((bytes.to_vec(), *fin)),
        _ => None,
    })
}

fn ends(actions: &[Action], code: Code) -> Vec<(u64, bool)> {
    let mut ends: Vec<_> = actions
        .iter()
        .filter_map(|action| match action {
            Action::Reset(id, found) if *found == code => Some((id.0, true)),
            Action::Stop(id, found) if *found == code => Some((id.0, false)),
            _ => None,
        })
        .collect();
    ends.sort_unstable();
    ends
}

#[test]
fn the_answer_of_draft_2_has_its_field() {
    for draft_2 in [false, true] {
        let mut connection = server(config());
        let more: &[Field<'_>] = if draft_2 { &[(b"sec-webtransport-http3-draft02", b"1")] } else { &[] };
        feed(&mut connection, 0, &with(&CONNECT_WT, more), false);
        connection.accept_session(SESSION, HeaderMap::new()).expect("it was asked for");
        let answer = capsule_sent(&drain_actions(&mut connection)).expect("an answer").0;
        let fields: &[Field<'_>] = &[(b":status", b"200"), (b"sec-webtransport-http3-draft", b"draft02")];
        assert_eq!(answer, headers(&fields[..1 + usize::from(draft_2)]));
    }
}

#[test]
fn the_clients_settings_are_awaited() {
    let mut connection = fresh(true, config());
    feed(&mut connection, 0, &headers(&CONNECT_WT), false);
    assert!(drain_events(&mut connection).is_empty());
    assert_eq!(connection.accept_session(SESSION, HeaderMap::new()), Err(SendError::Gone));
    feed(&mut connection, 2, &settings(), false);
    assert!(matches!(drain_events(&mut connection)[..], [Event::Settings(_), Event::SessionRequest { .. }]));
    // One that goes before is nobody's loss.
    let mut connection = fresh(true, config());
    feed(&mut connection, 0, &headers(&CONNECT_WT), false);
    connection.on_reset(Instant::now(), SESSION, Code::REQUEST_CANCELLED);
    feed(&mut connection, 2, &settings(), false);
    assert!(matches!(drain_events(&mut connection)[..], [Event::Settings(_)]));
}

#[test]
fn origins_are_checked() {
    let rule = Some(OriginRule::new(|origin, _| origin == "https://b.example"));
    for (origin, expected) in
        [(&b"https://a.example"[..], None), (b"https://b.example", None), (b"https://c.example", Some(403))]
    {
        let mut connection = server(Config { origin: rule.clone(), ..config() });
        feed(&mut connection, 0, &with(&CONNECT_WT, &[(b"origin", origin)]), false);
        let status = drain_events(&mut connection).into_iter().find_map(|event| match event {
            Event::Refused { verdict: Verdict::Status(status), .. } => Some(status),
            _ => None,
        });
        assert_eq!((status, connection.sessions.len()), (expected, usize::from(expected.is_none())));
    }
}

#[test]
fn streams_of_the_client() {
    let mut connection = accepted();
    feed(&mut connection, 4, &bidi(0, b"hello"), false);
    feed(&mut connection, 6, &uni(0, b"one way"), true);
    let events = drain_events(&mut connection);
    assert!(
        matches!(
            events[..],
            [
                Event::Stream { id: StreamId(4), session: SESSION },
                Event::Readable(StreamId(4)),
                Event::Stream { id: StreamId(6), session: SESSION },
                Event::Readable(StreamId(6))
            ]
        ),
        "{events:?}"
    );
    assert_eq!(read_all(&mut connection, 4), (b"hello".to_vec(), false));
    assert_eq!(read_all(&mut connection, 6), (b"one way".to_vec(), true));
    assert_eq!(connection.send(StreamId(6), Bytes::from_static(b"x"), false), Err(SendError::Gone));
    connection.send(StreamId(4), Bytes::from_static(b"raw"), true).expect("it goes both ways");
    let expected = [Action::Write { id: StreamId(4), bytes: Bytes::from_static(b"raw"), fin: true }];
    assert_eq!(drain_actions(&mut connection), expected);
    feed(&mut connection, 4, b"", true);
    assert_eq!((read_all(&mut connection, 4).1, connection.session_streams_len(SESSION)), (true, 0));
}

#[test]
fn streams_of_the_server() {
    let mut connection = accepted();
    let (one, two) = (connection.open_bidi(SESSION).expect("open"), connection.open_uni(SESSION).expect("open"));
    connection.send(one, Bytes::from_static(b"a"), false).expect("open");
    connection.send(two, Bytes::from_static(b"b"), true).expect("open");
    let write =
        |id: u64, bytes: &'static [u8], fin| Action::Write { id: StreamId(id), bytes: Bytes::from_static(bytes), fin };
    let expected =
        [write(1, b"\x40\x41\0", false), write(1, b"a", false), write(7, b"\x40\x54\0", false), write(7, b"b", true)];
    assert_eq!(drain_actions(&mut connection), expected);
    feed(&mut connection, 1, b"answer", true);
    assert!(matches!(drain_events(&mut connection)[..], [Event::Readable(StreamId(1))]));
    assert_eq!(read_all(&mut connection, 1), (b"answer".to_vec(), true));
    connection.on_credit(0, 0);
    assert_eq!(
        (connection.open_bidi(SESSION), connection.open_uni(SESSION)),
        (Err(SendError::NoCredit), Err(SendError::NoCredit))
    );
    assert_eq!(connection.open_bidi(StreamId(4)), Err(SendError::Gone));
}

#[test]
fn what_comes_early_is_handed_over_in_order() {
    let mut connection = server(config());
    feed(&mut connection, 4, &bidi(0, b"early"), false);
    connection.on_datagram(Instant::now(), Bytes::from_static(b"\0dgram"));
    feed(&mut connection, 6, &uni(0, b"too"), true);
    assert!(drain_events(&mut connection).is_empty() && drain_actions(&mut connection).is_empty());
    feed(&mut connection, 0, &headers(&CONNECT_WT), false);
    feed(&mut connection, 4, b" bird", false);
    assert!(matches!(drain_events(&mut connection)[..], [Event::SessionRequest { .. }]));
    connection.accept_session(SESSION, HeaderMap::new()).expect("it was asked for");
    let events = drain_events(&mut connection);
    assert!(
        matches!(
            events[..],
            [
                Event::Stream { id: StreamId(4), .. },
                Event::Readable(StreamId(4)),
                Event::Stream { id: StreamId(6), .. },
                Event::Readable(StreamId(6)),
                Event::Datagram { id: SESSION, .. }
            ]
        ),
        "{events:?}"
    );
    assert_eq!(read_all(&mut connection, 4).0, b"early bird");
    assert_eq!(read_all(&mut connection, 6), (b"too".to_vec(), true));
}

#[test]
fn a_refused_session_takes_its_early_streams_along() {
    let mut connection = server(config());
    feed(&mut connection, 4, &bidi(0, b"early"), false);
    feed(&mut connection, 0, &headers(&CONNECT_WT), false);
    let response = Response::builder().status(404).body(()).expect("valid");
    connection.respond(SESSION, &response, true).expect("it was asked for");
    let actions = drain_actions(&mut connection);
    assert_eq!(ends(&actions, Code::WT_SESSION_GONE), [(4, false), (4, true)]);
    assert_eq!((connection.streams_len(), connection.in_bytes(), connection.sessions.len()), (0, 0, 0));
    // The session is known to be gone from now on.
    feed(&mut connection, 8, &bidi(0, b"late"), false);
    assert_eq!(ends(&drain_actions(&mut connection), Code::WT_SESSION_GONE), [(8, false), (8, true)]);
    connection.on_datagram(Instant::now(), Bytes::from_static(b"\0late"));
    assert_eq!(connection.stats().datagrams_late, 1);
}

#[test]
fn a_request_that_is_no_session_has_no_streams_and_no_datagrams() {
    let mut connection = server(config());
    feed(&mut connection, 4, &bidi(0, b"early"), false);
    connection.on_datagram(Instant::now(), Bytes::from_static(b"\0early"));
    feed(&mut connection, 0, &headers(&GET), false);
    let actions = drain_actions(&mut connection);
    assert_eq!(ends(&actions, Code::WT_SESSION_GONE), [(4, false), (4, true)]);
    assert_eq!(ends(&actions, Code::DATAGRAM_ERROR), [(0, false), (0, true)]);
    feed(&mut connection, 8, &headers(&GET), false);
    connection.on_datagram(Instant::now(), Bytes::from_static(b"\x02late"));
    assert_eq!(ends(&drain_actions(&mut connection), Code::DATAGRAM_ERROR), [(8, false), (8, true)]);
    assert_eq!((connection.streams_len(), connection.requests), (0, 0));
}

#[test]
fn a_malformed_request_takes_along_what_waits_for_it() {
    let mut connection = server(config());
    feed(&mut connection, 4, &bidi(0, b"early"), false);
    connection.on_datagram(Instant::now(), Bytes::from_static(b"\0early"));
    feed(&mut connection, 0, &headers(&CONNECT_WT[1..]), false);
    assert_eq!(ends(&drain_actions(&mut connection), Code::WT_SESSION_GONE), [(4, false), (4, true)]);
    assert_eq!((connection.streams_len(), connection.early.take_datagrams(SESSION).len()), (0, 0));
}

#[test]
fn an_answer_that_is_too_large_can_be_tried_again() {
    let mut connection = fresh(true, config());
    feed(&mut connection, 2, &concat(&[&[0], &frame(kind::SETTINGS, &[6, 0x40, 100])]), false);
    feed(&mut connection, 0, &headers(&CONNECT_WT), false);
    let mut fields = HeaderMap::new();
    fields.insert("x", "y".repeat(60).parse().expect("valid"));
    assert_eq!(connection.accept_session(SESSION, fields), Err(SendError::TooLarge));
    assert_eq!(connection.open_uni(SESSION), Err(SendError::Gone));
    connection.accept_session(SESSION, HeaderMap::new()).expect("it fits");
    connection.open_uni(SESSION).expect("it is open");
}

#[test]
fn ids_that_name_no_request_end_the_connection() {
    for (id, bytes) in [(4, bidi(1, b"")), (4, bidi(2, b"")), (6, uni(3, b"")), (6, concat(&[b"\x40\x54\x7f\xfc"]))] {
        let mut connection = accepted();
        feed(&mut connection, id, &bytes, false);
        assert_eq!(closed(&drain_actions(&mut connection)), Some(Code::ID_ERROR));
    }
    for (datagram, code) in [
        (&b""[..], Code::DATAGRAM_ERROR),
        (b"\x40", Code::DATAGRAM_ERROR),
        (b"\xff\xff\xff\xff\xff\xff\xff\xff", Code::DATAGRAM_ERROR),
        (b"\xd0\0\0\0\0\0\0\0", Code::DATAGRAM_ERROR),
        (b"\x40\xff", Code::ID_ERROR),
    ] {
        let mut connection = accepted();
        connection.on_datagram(Instant::now(), datagram.to_vec());
        assert_eq!(closed(&drain_actions(&mut connection)), Some(code), "{datagram:?}");
    }
}

#[test]
fn the_signal_may_only_begin_a_stream() {
    for first in [headers(&GET), frame(frame::grease(1), b"")] {
        let mut connection = accepted();
        feed(&mut connection, 4, &concat(&[&first, &bidi(0, b"")]), false);
        assert_eq!(closed(&drain_actions(&mut connection)), Some(Code::FRAME_ERROR));
    }
    // Without WebTransport it is an unknown frame, and an unknown stream.
    let mut connection = server(Config { webtransport: false, ..config() });
    feed(&mut connection, 4, &concat(&[&bidi(0, b""), &headers(&GET)]), true);
    feed(&mut connection, 6, &uni(0, b""), false);
    assert!(matches!(drain_events(&mut connection)[..], [Event::Request { .. }, Event::Readable(_)]));
    assert_eq!(ends(&drain_actions(&mut connection), Code::STREAM_CREATION_ERROR), [(6, false)]);
}

#[test]
fn streams_cut_before_their_session_are_refused() {
    let mut connection = accepted();
    feed(&mut connection, 4, b"\x40\x41", true);
    feed(&mut connection, 6, b"\x40\x54\x40", true);
    let refused = drain_events(&mut connection).into_iter().filter(|event| matches!(event, Event::Refused { .. }));
    assert_eq!((refused.count(), connection.streams_len()), (2, 1));
    assert_eq!(ends(&drain_actions(&mut connection), Code::REQUEST_INCOMPLETE), [(4, false), (4, true), (6, false)]);
}

#[test]
fn codes_of_resets_and_stops_are_the_apps() {
    let mut connection = accepted();
    for id in [4, 8] {
        feed(&mut connection, id, &bidi(0, b"unread"), false);
    }
    drain_events(&mut connection);
    connection.on_reset(Instant::now(), StreamId(4), to_http(7));
    connection.on_stop(Instant::now(), StreamId(4), to_http(30));
    connection.on_stop(Instant::now(), StreamId(8), Code(3));
    let events = drain_events(&mut connection);
    assert!(
        matches!(
            events[..],
            [
                Event::StreamReset { id: StreamId(4), code: Some(7) },
                Event::StreamStopped { id: StreamId(4), code: Some(30) },
                Event::StreamStopped { id: StreamId(8), code: None }
            ]
        ),
        "{events:?}"
    );
    assert_eq!((connection.session_streams_len(SESSION), connection.in_bytes()), (1, 6));
    connection.reset_sending(StreamId(8), to_http(1));
    connection.stop(StreamId(8), to_http(2));
    assert_eq!(drain_actions(&mut connection), [Action::Stop(StreamId(8), to_http(2))], "it was stopped already");
    assert_eq!((connection.session_streams_len(SESSION), connection.in_bytes()), (0, 0));
}

#[test]
fn the_client_closes() {
    let close = frame(kind::DATA, &capsule::close_bytes(7, "bye"));
    let grease = frame(kind::DATA, &frame(frame::grease(4), b"grease"));
    for (bytes, fin, code, reason) in
        [(concat(&[&grease, &close]), true, 7, "bye"), (close.clone(), false, 7, "bye"), (grease, true, 0, "")]
    {
        let mut connection = accepted();
        feed(&mut connection, 4, &bidi(0, b"x"), false);
        let own = connection.open_uni(SESSION).expect("open");
        drain_events(&mut connection);
        drain_actions(&mut connection);
        feed(&mut connection, 0, &bytes, fin);
        let events = drain_events(&mut connection);
        assert!(
            matches!(&events[..], [Event::SessionClosed { id: SESSION, code: found, reason: text }]
            if *found == code && text == reason),
            "{events:?}"
        );
        let actions = drain_actions(&mut connection);
        assert_eq!(ends(&actions, Code::WT_SESSION_GONE), [(4, false), (4, true), (own.0, true)]);
        assert_eq!(capsule_sent(&actions), Some((vec![], true)), "the stream of the session ends as well");
        assert_eq!(connection.streams_len(), usize::from(!fin));
        feed(&mut connection, 0, b"", true);
        assert_eq!((connection.streams_len(), connection.requests), (0, 0));
        assert_eq!(connection.close_session(SESSION, 0, ""), Err(SendError::Gone));
    }
}

#[test]
fn bytes_behind_a_close_and_cut_capsules_are_malformed() {
    let close = capsule::close_bytes(7, "bye");
    for (bytes, fin) in [
        (frame(kind::DATA, &concat(&[&close, b"x"])), false),
        (concat(&[&frame(kind::DATA, &close), &frame(kind::DATA, b"x")]), false),
        (frame(kind::DATA, &close[..4]), true),
        (frame(kind::DATA, &frame(0x2843, b"abc")), false),
        (frame(kind::DATA, &frame(0x78ae, b"x")), false),
    ] {
        let mut connection = accepted();
        feed(&mut connection, 0, &bytes, fin);
        let events = drain_events(&mut connection);
        let refused =
            |event: &Event| matches!(event, Event::Refused { verdict: Verdict::Reset(Code::MESSAGE_ERROR), .. });
        let closes = events.iter().filter(|event| matches!(event, Event::SessionClosed { .. })).count();
        assert!(events.iter().any(refused) && closes == 1, "{events:?}");
        assert_eq!((connection.sessions.len(), connection.streams_len(), connection.is_over()), (0, 0, false));
    }
}

#[test]
fn the_server_closes() {
    let mut connection = accepted();
    feed(&mut connection, 4, &bidi(0, b"x"), false);
    drain_events(&mut connection);
    connection.close_session(SESSION, 9, "enough").expect("it is open");
    let actions = drain_actions(&mut connection);
    assert_eq!(ends(&actions, Code::WT_SESSION_GONE), [(4, false), (4, true)]);
    assert_eq!(capsule_sent(&actions), Some((frame(kind::DATA, &capsule::close_bytes(9, "enough")), true)));
    feed(&mut connection, 0, &frame(kind::DATA, b"\x21\0"), true);
    assert!(drain_events(&mut connection).is_empty() && connection.streams_len() == 0 && connection.requests == 0);
}

#[test]
fn datagrams_by_both_ways_and_drain() {
    let mut connection = accepted();
    connection.on_datagram(Instant::now(), Bytes::from_static(b"\0one"));
    feed(&mut connection, 0, &frame(kind::DATA, &concat(&[&frame(0, b"two"), &frame(0x78ae, b"")])), false);
    let events = drain_events(&mut connection);
    assert!(
        matches!(&events[..], [
            Event::Datagram { id: SESSION, payload: one },
            Event::Datagram { id: SESSION, payload: two },
            Event::SessionDraining(SESSION)
        ] if one == "one" && two == "two"),
        "{events:?}"
    );
    connection.drain_session(SESSION).expect("it is open");
    assert_eq!(capsule_sent(&drain_actions(&mut connection)), Some((frame(kind::DATA, &frame(0x78ae, b"")), false)));
    connection.drain(Instant::now());
    let actions = drain_actions(&mut connection);
    assert_eq!(capsule_sent(&actions), Some((frame(kind::DATA, &frame(0x78ae, b"")), false)));
    assert_eq!(connection.send(SESSION, Bytes::from_static(b"x"), false), Err(SendError::Order), "capsules only");
}

#[test]
fn datagrams_need_the_peers_consent() {
    let mut connection = fresh(true, config());
    feed(&mut connection, 2, &concat(&[&[0], &frame(kind::SETTINGS, b"")]), false);
    feed(&mut connection, 0, &headers(&CONNECT_WT), false);
    connection.accept_session(SESSION, HeaderMap::new()).expect("it was asked for");
    assert_eq!(connection.send_datagram(SESSION, b"x"), Err(SendError::Unsupported));
    assert_eq!(connection.send_datagram(StreamId(4), b"x"), Err(SendError::Gone));
}

#[test]
fn sessions_side_by_side_do_not_touch_each_other() {
    let mut connection = accepted();
    feed(&mut connection, 4, &headers(&CONNECT_WT), false);
    connection.accept_session(StreamId(4), HeaderMap::new()).expect("it was asked for");
    feed(&mut connection, 8, &bidi(0, b"zero"), false);
    feed(&mut connection, 12, &bidi(4, b"four"), false);
    connection.close_session(SESSION, 0, "").expect("it is open");
    assert_eq!(ends(&drain_actions(&mut connection), Code::WT_SESSION_GONE), [(8, false), (8, true)]);
    assert_eq!(read_all(&mut connection, 12).0, b"four");
    connection.on_datagram(Instant::now(), Bytes::from_static(b"\x01x"));
    let datagram = |event: &Event| matches!(event, Event::Datagram { id: StreamId(4), .. });
    assert!(drain_events(&mut connection).iter().any(datagram));
    // A request beside them is served as ever.
    feed(&mut connection, 16, &headers(&GET), true);
    assert!(drain_events(&mut connection).iter().any(|event| matches!(event, Event::Request { .. })));
}
