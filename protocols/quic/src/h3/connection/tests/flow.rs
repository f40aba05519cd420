//! Requests and their answers as a server sees them: bodies, back-pressure, priorities, resets, going away.

use std::time::Duration;

use super::*;

fn writes(actions: &[Action]) -> Vec<(u64, Vec<u8>, bool)> {
    let write = |action: &Action| match action {
        Action::Write { id, bytes, fin } => Some((id.0, bytes.to_vec(), *fin)),
        _ => None,
    };
    actions.iter().filter_map(write).collect()
}

#[test]
fn a_request_with_body_and_trailers_is_answered() {
    let mut connection = server(config());
    let trailers = headers(&[(b"x", b"y")]);
    feed(&mut connection, 0, &concat(&[&headers(&GET), &frame(kind::DATA, b"hello"), &trailers]), true);
    let events = drain_events(&mut connection);
    assert!(
        matches!(&events[..], [Event::Request { request, protocol: None, early: false, .. }, Event::Readable(_)]
            if request.uri() == "/" && request.headers()["host"] == "a.example"),
        "{events:?}"
    );
    assert!(matches!(connection.read(StreamId(0)), Some(Piece::Data(bytes)) if bytes == "hello"));
    assert!(matches!(connection.read(StreamId(0)), Some(Piece::Trailers(map)) if map["x"] == "y"));
    assert!(matches!(connection.read(StreamId(0)), Some(Piece::End)));
    assert!(connection.read(StreamId(0)).is_none());
    connection.answer(StreamId(0), Response::new(Bytes::from_static(b"world"))).expect("it is open");
    let sent = writes(&drain_actions(&mut connection));
    assert_eq!(sent.len(), 1, "a small answer is one piece");
    assert!(sent[0].2 && sent[0].1.ends_with(b"\0\x05world"));
    assert_eq!((connection.streams_len(), connection.requests), (0, 0));
    assert_eq!(connection.answer(StreamId(0), Response::new(Bytes::new())), Err(SendError::Gone));
}

#[test]
fn answers_without_a_body_have_none() {
    for (head, status, expected) in [
        (&[(&b":method"[..], &b"HEAD"[..]), GET[1], GET[2], GET[3]], 200, false),
        (&GET, 204, false),
        (&GET, 304, false),
        (&GET, 200, true),
    ] {
        let mut connection = server(config());
        feed(&mut connection, 0, &headers(head), true);
        let response = Response::builder().status(status).body(Bytes::from_static(b"body")).expect("valid");
        connection.answer(StreamId(0), response).expect("it is open");
        let sent = writes(&drain_actions(&mut connection));
        assert_eq!(sent[0].1.ends_with(b"\0\x04body"), expected, "{status}");
    }
}

#[test]
fn large_bodies_are_handed_on_by_reference() {
    let mut connection = server(config());
    feed(&mut connection, 0, &headers(&GET), true);
    let body = Bytes::from(vec![7; 100_000]);
    connection.answer(StreamId(0), Response::new(body.clone())).expect("it is open");
    let piece = drain_actions(&mut connection).into_iter().find_map(|action| match action {
        Action::Write { bytes, fin: true, .. } => Some(bytes),
        _ => None,
    });
    assert_eq!(piece.expect("the body is last").as_ptr(), body.as_ptr());
    let input = Bytes::from(concat(&[&headers(&GET), &frame(kind::DATA, &[9; 5_000])]));
    connection.on_stream(Instant::now(), StreamId(4), input.clone(), false);
    let Some(Piece::Data(got)) = connection.read(StreamId(4)) else { panic!("there is a body") };
    assert!(input.as_ptr_range().contains(&got.as_ptr()) && got.len() == 5_000);
}

#[test]
fn the_order_of_an_answer_is_kept() {
    let mut connection = server(config());
    feed(&mut connection, 0, &headers(&GET), true);
    let id = StreamId(0);
    assert_eq!(connection.send(id, Bytes::from_static(b"x"), false), Err(SendError::Order));
    assert_eq!(connection.send_trailers(id, &http::HeaderMap::new()), Err(SendError::Order));
    let early = Response::builder().status(103).body(()).expect("valid");
    assert_eq!(connection.respond(id, &early, true), Err(SendError::Order));
    connection.respond(id, &early, false).expect("informational heads may be several");
    connection.respond(id, &early, false).expect("informational heads may be several");
    connection.respond(id, &ok(), false).expect("the head");
    assert_eq!(connection.respond(id, &ok(), false), Err(SendError::Order));
    connection.send(id, Bytes::from_static(b"x"), false).expect("the body");
    connection.send_trailers(id, &http::HeaderMap::new()).expect("the trailers");
    assert_eq!(connection.send(id, Bytes::new(), true), Err(SendError::Order));
    assert!(writes(&drain_actions(&mut connection)).last().is_some_and(|(.., fin)| *fin));
    assert_eq!(connection.respond(StreamId(4), &ok(), true), Err(SendError::Gone));
}

#[test]
fn what_the_transport_does_not_take_is_sent_first_later() {
    let mut connection = server(config());
    feed(&mut connection, 0, &headers(&GET), true);
    assert!(matches!(read_all(&mut connection, 0), (body, true) if body.is_empty()));
    connection.respond(StreamId(0), &ok(), false).expect("open");
    drain_actions(&mut connection);
    connection.send(StreamId(0), Bytes::from(vec![1; 3_000]), true).expect("open");
    let Some(Action::Write { id, .. }) = connection.poll_action() else { panic!("the frame's head") };
    let Some(Action::Write { bytes, fin: true, .. }) = connection.poll_action() else { panic!("the body") };
    connection.on_blocked(id, bytes.slice(1_000..), true);
    assert!(connection.poll_action().is_none() && connection.streams_len() == 1);
    connection.on_writable(id);
    assert_eq!(writes(&drain_actions(&mut connection)), [(0, vec![1; 2_000], true)]);
    assert_eq!(connection.streams_len(), 0);
}

#[test]
fn a_slow_transport_stalls_the_app() {
    let mut connection = server(limited(Limits { stream_out_bytes_max: 1_000, ..Limits::default() }));
    let id = StreamId(0);
    feed(&mut connection, 0, &headers(&GET), true);
    drain_events(&mut connection);
    connection.respond(id, &ok(), false).expect("open");
    while connection.send(id, Bytes::from_static(&[0; 100]), false).is_ok() {}
    assert!(connection.send_room(id) == 0 && connection.streams[&id].outbox.len() < 1_200);
    assert_eq!(connection.send(id, Bytes::from_static(b"x"), false), Err(SendError::Full));
    assert!(drain_events(&mut connection).is_empty());
    drain_actions(&mut connection);
    assert!(matches!(drain_events(&mut connection)[..], [Event::Writable(StreamId(0))]));
    connection.send(id, Bytes::from_static(b"x"), true).expect("there is room again");
}

#[test]
fn a_slow_transport_stalls_the_apps_of_all_streams() {
    let limits = Limits { stream_out_bytes_max: 1_000, connection_out_bytes_max: 2_000, ..Limits::default() };
    let mut connection = server(limited(limits));
    for id in [0, 4, 8] {
        feed(&mut connection, id, &headers(&GET), true);
        connection.respond(StreamId(id), &ok(), false).expect("open");
    }
    drain_events(&mut connection);
    for id in [0, 4].map(StreamId) {
        connection.send(id, Bytes::from(vec![0; 1_000]), false).expect("there is room");
    }
    assert!(connection.out_bytes() > 2_000 && connection.send_room(StreamId(8)) == 0);
    assert!(!connection.ask_room(StreamId(8)));
    assert_eq!(connection.send(StreamId(8), Bytes::from_static(b"x"), false), Err(SendError::Full));
    // What one stream gives up is room for the others, as is what the transport takes.
    connection.reset_sending(StreamId(0), Code::INTERNAL_ERROR);
    assert!(connection.ask_room(StreamId(8)));
    connection.send(StreamId(8), Bytes::from(vec![0; 900]), false).expect("there is room");
    connection.send(StreamId(8), Bytes::from(vec![0; 1_000]), false).expect("there is room");
    let asked = [0, 4, 8].map(|id| connection.ask_room(StreamId(id)));
    assert_eq!((asked, drain_events(&mut connection).len()), ([false; 3], 0));
    drain_actions(&mut connection);
    let told: Vec<_> = drain_events(&mut connection);
    let told =
        [4, 8].map(|wanted| told.iter().any(|event| matches!(event, Event::Writable(StreamId(id)) if *id == wanted)));
    assert_eq!((told, connection.out_bytes(), connection.starved.len()), ([true; 2], 0, 0));
}

#[test]
fn a_slow_app_stalls_its_stream() {
    let limits = Limits { stream_in_bytes_max: 1_000, early_stream_bytes_max: 1_000, ..Limits::default() };
    let mut connection = server(limited(limits));
    let id = StreamId(0);
    feed(&mut connection, 0, &concat(&[&headers(&GET), &[0, 0x80, 0, 0x40, 0]]), false);
    let mut taken = 0;
    while connection.room(id) > 0 {
        let more = connection.room(id).min(300);
        taken += more;
        feed(&mut connection, 0, &vec![0; more], false);
    }
    assert_eq!((taken, connection.in_bytes()), (1_000, 1_000));
    assert_eq!(connection.room(StreamId(4)), 1_000, "the others go on");
    assert!(drain_actions(&mut connection).is_empty());
    // Half must be free, then it is said once.
    connection.read(id);
    assert!(drain_actions(&mut connection).is_empty());
    assert_eq!(read_all(&mut connection, 0).0.len(), 700);
    assert_eq!(drain_actions(&mut connection), [Action::Read(id)]);
    assert_eq!((connection.in_bytes(), connection.room(id)), (0, 1_000));
}

#[test]
fn all_streams_stall_when_the_connection_is_full() {
    let limits = Limits { connection_in_bytes_max: 2_000, stream_in_bytes_max: 1_500, ..Limits::default() };
    let mut connection = server(limited(limits));
    for id in [0, 4] {
        feed(&mut connection, id, &concat(&[&headers(&GET), &frame(kind::DATA, &[0; 1_000])]), false);
    }
    assert_eq!([0, 4, 8].map(|id| connection.room(StreamId(id))), [0, 0, 0]);
    assert!(connection.room(StreamId(2)) > 0, "control goes on");
    read_all(&mut connection, 0);
    let mut read = drain_actions(&mut connection);
    read.sort_by_key(|action| format!("{action:?}"));
    assert_eq!(read, [0, 8].map(StreamId).map(Action::Read), "stream 4 is two thirds full");
    connection.on_reset(Instant::now(), StreamId(4), Code::REQUEST_CANCELLED);
    assert_eq!((connection.in_bytes(), connection.stalled.len()), (0, 0));
}

#[test]
fn a_stream_that_comes_when_the_connection_is_full_goes_on_with_the_others() {
    let limits = Limits { connection_in_bytes_max: 64_000, stream_in_bytes_max: 32_000, ..Limits::default() };
    let mut connection = server(limited(limits));
    for id in [0, 4] {
        feed(&mut connection, id, &concat(&[&headers(&GET), &frame(kind::DATA, &[0; 32_000])]), false);
    }
    assert_eq!(connection.room(StreamId(8)), 0);
    for id in [0, 4] {
        read_all(&mut connection, id);
    }
    assert_eq!(drain_actions(&mut connection), [Action::Read(StreamId(8))]);
}

#[test]
fn priorities_reach_the_transport() {
    let mut connection = server(config());
    let update = |id: u8, value: &[u8]| frame(kind::PRIORITY_UPDATE_REQUEST, &concat(&[&[id], value]));
    feed(&mut connection, 2, &update(4, b"u=1, i"), false);
    feed(&mut connection, 0, &with(&GET, &[(b"priority", b"u=6")]), true);
    feed(&mut connection, 4, &with(&GET, &[(b"priority", b"u=6")]), true);
    feed(&mut connection, 2, &update(0, b"u=0"), false);
    let priority = |urgency, incremental| Priority { urgency, incremental };
    let expected = [
        Action::Prioritize(StreamId(0), priority(6, false)),
        Action::Prioritize(StreamId(4), priority(1, true)),
        Action::Prioritize(StreamId(0), priority(0, false)),
    ];
    assert_eq!(drain_actions(&mut connection), expected);
    assert!(connection.priorities.is_empty());
}

#[test]
fn a_request_that_is_taken_back_is_gone() {
    for by_reset in [true, false] {
        let mut connection = server(config());
        feed(&mut connection, 0, &concat(&[&headers(&GET), &frame(kind::DATA, &[0; 500])]), false);
        drain_events(&mut connection);
        let (id, code) = (StreamId(0), Code::REQUEST_CANCELLED);
        match by_reset {
            true => connection.on_reset(Instant::now(), id, code),
            false => connection.on_stop(Instant::now(), id, code),
        }
        assert!(matches!(drain_events(&mut connection)[..], [Event::Cancelled { id: StreamId(0), .. }]));
        let expected = if by_reset { Action::Reset(id, code) } else { Action::Stop(id, code) };
        assert_eq!(drain_actions(&mut connection), [expected]);
        assert_eq!((connection.streams_len(), connection.in_bytes(), connection.requests), (0, 0, 0));
        feed(&mut connection, 0, b"late bytes", true);
        assert!(drain_actions(&mut connection).is_empty() && drain_events(&mut connection).is_empty());
    }
    // Before its head came, nobody is told; a reset may even be all that comes of a stream.
    let mut connection = server(config());
    feed(&mut connection, 4, &[1, 9], false);
    for id in [0, 4] {
        connection.on_reset(Instant::now(), StreamId(id), Code::REQUEST_CANCELLED);
    }
    assert!(drain_events(&mut connection).is_empty() && connection.streams_len() == 0);
}

#[test]
fn an_answer_may_come_before_the_body_ends() {
    let mut connection = server(config());
    feed(&mut connection, 0, &concat(&[&headers(&GET), &frame(kind::DATA, b"abc")]), false);
    connection.answer(StreamId(0), Response::new(Bytes::new())).expect("open");
    connection.stop(StreamId(0), Code::NO_ERROR);
    let actions = drain_actions(&mut connection);
    assert!(matches!(actions[..], [Action::Stop(_, Code::NO_ERROR), Action::Write { fin: true, .. }]), "{actions:?}");
    assert_eq!((connection.streams_len(), connection.in_bytes()), (0, 0));
}

#[test]
fn connect_in_early_data_is_too_early() {
    for head in [&CONNECT_WT[..], &[(b":method", b"CONNECT"), (b":authority", b"a:1")]] {
        let mut connection = Connection::server(Instant::now(), Arc::new(config()));
        drain_actions(&mut connection);
        feed(&mut connection, 0, &headers(&GET), true);
        feed(&mut connection, 4, &headers(head), false);
        let events = drain_events(&mut connection);
        let refused = |event: &Event| matches!(event, Event::Refused { verdict: Verdict::Status(425), .. });
        assert!(matches!(events[0], Event::Request { early: true, .. }) && events.iter().any(refused), "{events:?}");
        drain_actions(&mut connection);
        assert_eq!((connection.sessions.len(), connection.requests), (0, 1));
    }
}

#[test]
fn extended_connect_reaches_the_app_if_it_wants() {
    let head: [Field<'_>; 5] =
        [CONNECT_WT[0], CONNECT_WT[1], CONNECT_WT[2], CONNECT_WT[3], (b":protocol", b"websocket")];
    let mut connection = server(config());
    feed(&mut connection, 0, &concat(&[&headers(&head), &frame(kind::DATA, b"raw")]), false);
    let events = drain_events(&mut connection);
    assert!(matches!(&events[0], Event::Request { protocol: Some(name), .. } if name.as_str() == "websocket"));
    assert_eq!(read_all(&mut connection, 0).0, b"raw");
    connection.on_datagram(Instant::now(), Bytes::from_static(b"\0hi"));
    assert!(
        matches!(&drain_events(&mut connection)[..], [Event::Datagram { id: StreamId(0), payload }] if payload == "hi")
    );
    let mut connection = server(Config { extended_connect: false, webtransport: false, ..config() });
    feed(&mut connection, 0, &headers(&head), false);
    assert!(matches!(drain_events(&mut connection)[..], [Event::Refused { verdict: Verdict::Status(501), .. }]));
}

#[test]
fn a_server_that_drains_refuses_late_requests_and_then_closes() {
    let now = Instant::now();
    let mut connection = server(config());
    feed(&mut connection, 0, &headers(&GET), true);
    read_all(&mut connection, 0);
    connection.drain(now);
    connection.drain(now);
    feed(&mut connection, 4, &headers(&GET), true);
    read_all(&mut connection, 4);
    let sent = writes(&drain_actions(&mut connection));
    assert_eq!(sent, [(3, frame(kind::GOAWAY, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfc]), false)]);
    connection.shutdown(now);
    feed(&mut connection, 8, &headers(&GET), true);
    let actions = drain_actions(&mut connection);
    assert!(actions.contains(&Action::Reset(StreamId(8), Code::REQUEST_REJECTED)), "{actions:?}");
    assert_eq!(writes(&actions), [(3, frame(kind::GOAWAY, &[8]), false)]);
    for id in [0, 4] {
        assert!(!connection.is_over());
        connection.answer(StreamId(id), Response::new(Bytes::new())).expect("both are served");
        let actions = drain_actions(&mut connection);
        let close = Action::Close { code: Code::NO_ERROR, reason: "all is done", flush: true };
        assert_eq!(actions.last() == Some(&close), id == 4, "{actions:?}");
    }
    assert!(connection.is_over() && drain_actions(&mut connection).is_empty());
}

#[test]
fn heads_that_take_too_long_are_answered_with_408() {
    let limits = Limits { head_secs: 5, ..Limits::default() };
    let mut connection = server(limited(limits));
    let start = connection.now;
    assert_eq!(connection.deadline(), None);
    connection.on_stream(start, StreamId(0), headers(&GET)[..4].to_vec(), false);
    connection.on_stream(start + Duration::from_secs(2), StreamId(4), headers(&GET)[..4].to_vec(), false);
    connection.on_stream(start + Duration::from_secs(3), StreamId(0), headers(&GET)[4..].to_vec(), false);
    drain_events(&mut connection);
    assert_eq!(connection.deadline(), Some(start + Duration::from_secs(7)));
    connection.handle_timeout(start + Duration::from_secs(6));
    assert!(drain_events(&mut connection).is_empty());
    connection.handle_timeout(start + Duration::from_secs(7));
    assert!(matches!(
        drain_events(&mut connection)[..],
        [Event::Refused { id: StreamId(4), verdict: Verdict::Status(408), .. }]
    ));
    drain_actions(&mut connection);
    assert_eq!((connection.deadline(), connection.streams_len()), (None, 1));
}

#[test]
fn nothing_happens_after_the_end() {
    let mut connection = server(config());
    feed(&mut connection, 0, &frame(kind::DATA, b""), false);
    drain_actions(&mut connection);
    drain_events(&mut connection);
    feed(&mut connection, 4, &headers(&GET), true);
    connection.on_datagram(Instant::now(), Bytes::from_static(b"\0"));
    connection.on_reset(Instant::now(), StreamId(8), Code::NO_ERROR);
    connection.on_stop(Instant::now(), StreamId(3), Code::NO_ERROR);
    connection.shutdown(Instant::now());
    connection.handle_timeout(Instant::now());
    assert!(drain_actions(&mut connection).is_empty() && drain_events(&mut connection).is_empty());
}
