//! Every named limit is filled, and what is one more is refused as the limit says.

use std::time::Duration;

use super::*;

fn refused(connection: &mut Connection) -> Option<Verdict> {
    drain_events(connection).into_iter().find_map(|event| match event {
        Event::Refused { verdict, .. } => Some(verdict),
        _ => None,
    })
}

/// An accepted session on stream 0.
fn session(limits: Limits) -> Connection {
    let mut connection = server(limited(limits));
    feed(&mut connection, 0, &headers(&CONNECT_WT), false);
    connection.accept_session(StreamId(0), http::HeaderMap::new()).expect("it was asked for");
    drain_actions(&mut connection);
    drain_events(&mut connection);
    connection
}

#[test]
fn section_bytes() {
    let limits = Limits { section_bytes_max: 400, ..Limits::default() };
    // As RFC 9114 section 4.2.2 counts; one more field has a value, a name of 1 and 32.
    let base: usize = GET.iter().map(|(name, value)| name.len() + value.len() + 32).sum();
    let value = &vec![b'v'; 400 - base - 33];
    let mut connection = server(limited(limits));
    feed(&mut connection, 0, &with(&GET, &[(b"x", value)]), true);
    assert_eq!(refused(&mut connection), None);
    feed(&mut connection, 4, &with(&GET, &[(b"xx", value)]), true);
    assert_eq!(refused(&mut connection), Some(Verdict::Status(431)));
    // As a frame that is too long already, and what follows it is nobody's.
    feed(&mut connection, 8, &concat(&[&frame(kind::HEADERS, &[0; 401]), &frame(kind::DATA, b"x")]), true);
    assert_eq!((refused(&mut connection), connection.is_over()), (Some(Verdict::Status(431)), false));
}

#[test]
fn fields() {
    let mut connection = server(limited(Limits { fields_max: 6, ..Limits::default() }));
    feed(&mut connection, 0, &with(&GET, &[(&b"x"[..], &b""[..]); 2]), true);
    assert_eq!(refused(&mut connection), None);
    feed(&mut connection, 4, &with(&GET, &[(&b"x"[..], &b""[..]); 3]), true);
    assert_eq!(refused(&mut connection), Some(Verdict::Status(431)));
}

#[test]
fn target_bytes() {
    let mut connection = server(limited(Limits { target_bytes_max: 10, ..Limits::default() }));
    for (id, path, expected) in [(0, &b"/123456789"[..], None), (4, b"/1234567890", Some(Verdict::Status(414)))] {
        feed(&mut connection, id, &headers(&[GET[0], GET[1], (b":path", path), GET[3]]), true);
        assert_eq!(refused(&mut connection), expected);
    }
}

#[test]
fn control_frame_bytes() {
    let limits = Limits { control_frame_bytes_max: 100, ..Limits::default() };
    for (len, expected) in [(100, None), (101, Some(Code::EXCESSIVE_LOAD))] {
        let mut payload = vec![b' '; len];
        payload[0] = 0;
        let mut connection = server(limited(limits));
        feed(&mut connection, 2, &frame(kind::PRIORITY_UPDATE_REQUEST, &payload), false);
        assert_eq!(closed(&drain_actions(&mut connection)), expected);
        let mut connection = fresh(true, limited(limits));
        feed(&mut connection, 2, &concat(&[&[0], &frame(kind::SETTINGS, &vec![0; len])]), false);
        let code = closed(&drain_actions(&mut connection));
        assert_eq!(code == Some(Code::EXCESSIVE_LOAD), expected.is_some());
    }
}

#[test]
fn streams() {
    let connection = || server(limited(Limits { streams_max: 10, ..Limits::default() }));
    for (quarter, expected) in [(9, None), (10, Some(Code::ID_ERROR))] {
        let mut connection = connection();
        connection.on_datagram(Instant::now(), vec![quarter]);
        assert_eq!(closed(&drain_actions(&mut connection)), expected);
    }
}

#[test]
fn requests() {
    let mut connection = server(limited(Limits { requests_max: 3, ..Limits::default() }));
    for id in 0..3 {
        feed(&mut connection, 4 * id, &headers(&GET), true);
        assert_eq!(refused(&mut connection), None);
    }
    feed(&mut connection, 12, &headers(&GET), true);
    assert_eq!(refused(&mut connection), Some(Verdict::Reset(Code::REQUEST_REJECTED)));
    read_all(&mut connection, 4);
    connection.answer(StreamId(4), Response::new(Bytes::new())).expect("open");
    drain_actions(&mut connection);
    feed(&mut connection, 16, &headers(&GET), true);
    assert_eq!(refused(&mut connection), None);
}

#[test]
fn resets() {
    let limits = Limits { resets_max: 5, ..Limits::default() };
    let mut connection = server(limited(limits));
    let cancel = |connection: &mut Connection, id: u64| {
        feed(connection, id, &headers(&GET), false);
        connection.on_reset(Instant::now(), StreamId(id), Code::REQUEST_CANCELLED);
        closed(&drain_actions(connection))
    };
    for n in 0..5 {
        assert_eq!(cancel(&mut connection, 4 * n), None);
    }
    // A finished request makes up for one.
    feed(&mut connection, 20, &headers(&GET), true);
    read_all(&mut connection, 20);
    connection.answer(StreamId(20), Response::new(Bytes::new())).expect("open");
    drain_actions(&mut connection);
    assert_eq!(cancel(&mut connection, 24), None);
    assert_eq!(cancel(&mut connection, 28), Some(Code::EXCESSIVE_LOAD));
    // Malformed requests count the same.
    let mut connection = server(limited(limits));
    for n in 0..6 {
        feed(&mut connection, 4 * n, &headers(&[]), true);
        assert_eq!(closed(&drain_actions(&mut connection)).is_some(), n == 5);
    }
}

#[test]
fn priorities() {
    let mut connection = server(limited(Limits { priorities_max: 2, ..Limits::default() }));
    for id in [4, 8, 12] {
        feed(&mut connection, 2, &frame(kind::PRIORITY_UPDATE_REQUEST, &[id]), false);
    }
    assert_eq!((connection.priorities.len(), connection.stats().priorities_forgotten), (2, 1));
}

#[test]
fn datagrams_in_and_out() {
    let mut connection = session(Limits { datagrams_in_max: 3, datagrams_out_max: 2, ..Limits::default() });
    for _ in 0..5 {
        connection.on_datagram(Instant::now(), Bytes::from_static(b"\0x"));
    }
    assert_eq!((drain_events(&mut connection).len(), connection.stats().datagrams_dropped), (3, 2));
    connection.on_datagram(Instant::now(), Bytes::from_static(b"\0x"));
    assert_eq!(drain_events(&mut connection).len(), 1);
    let sent = [0; 3].map(|_| connection.send_datagram(StreamId(0), b"x"));
    assert_eq!(sent, [Ok(()), Ok(()), Err(SendError::Full)]);
    assert_eq!(drain_actions(&mut connection), [0; 2].map(|_| Action::Datagram(Bytes::from_static(b"\0x"))));
    assert_eq!(connection.send_datagram(StreamId(0), b"x"), Ok(()));
}

#[test]
fn sessions() {
    let mut connection = server(limited(Limits { sessions_max: 2, ..Limits::default() }));
    for id in [0, 4] {
        feed(&mut connection, id, &headers(&CONNECT_WT), false);
        assert_eq!(refused(&mut connection), None);
    }
    feed(&mut connection, 8, &headers(&CONNECT_WT), false);
    assert_eq!(refused(&mut connection), Some(Verdict::Status(429)));
    connection.respond(StreamId(0), &ok(), true).expect("it is asked for");
    feed(&mut connection, 12, &headers(&CONNECT_WT), false);
    assert_eq!(refused(&mut connection), None);
}

#[test]
fn session_streams_of_both_sides() {
    let mut connection = session(Limits { session_streams_max: 3, ..Limits::default() });
    connection.open_bidi(StreamId(0)).expect("the first");
    connection.open_uni(StreamId(0)).expect("the second");
    feed(&mut connection, 6, b"\x40\x54\0", false);
    assert_eq!(connection.session_streams_len(StreamId(0)), 3);
    assert_eq!(connection.open_uni(StreamId(0)), Err(SendError::Limit));
    drain_events(&mut connection);
    feed(&mut connection, 10, b"\x40\x54\0", false);
    assert_eq!(refused(&mut connection), Some(Verdict::Reset(Code::EXCESSIVE_LOAD)));
    connection.on_reset(Instant::now(), StreamId(6), Code::NO_ERROR);
    connection.open_uni(StreamId(0)).expect("one has ended");
}

#[test]
fn early_streams_their_bytes_and_their_time() {
    let limits = Limits {
        early_streams_max: 2,
        early_stream_bytes_max: 100,
        early_secs: 3,
        streams_max: 8,
        ..Limits::default()
    };
    let mut connection = server(limited(limits));
    let start = connection.now;
    let send = |connection: &mut Connection, at, id, bytes: &[u8]| {
        connection.on_stream(start + Duration::from_secs(at), StreamId(id), bytes.to_vec(), false);
    };
    send(&mut connection, 0, 4, b"\x40\x41\0");
    send(&mut connection, 1, 6, b"\x40\x54\0");
    send(&mut connection, 2, 10, b"\x40\x54\0");
    assert_eq!(refused(&mut connection), Some(Verdict::Reset(Code::WT_BUFFERED_STREAM_REJECTED)));
    assert_eq!(drain_actions(&mut connection), [Action::Stop(StreamId(10), Code::WT_BUFFERED_STREAM_REJECTED)]);
    assert_eq!(connection.room(StreamId(6)), 100);
    feed(&mut connection, 6, &[0; 100], false);
    assert_eq!((connection.room(StreamId(6)), connection.in_bytes()), (0, 100));
    assert_eq!(connection.deadline(), Some(start + Duration::from_secs(3)));
    connection.handle_timeout(start + Duration::from_secs(3));
    let code = Code::WT_BUFFERED_STREAM_REJECTED;
    let both = [Action::Stop(StreamId(4), code), Action::Reset(StreamId(4), code)];
    assert_eq!(drain_actions(&mut connection), both);
    assert_eq!(connection.deadline(), Some(start + Duration::from_secs(4)));
    connection.handle_timeout(start + Duration::from_secs(4));
    assert_eq!((connection.streams_len(), connection.in_bytes()), (0, 0));
    assert_eq!((connection.stats().early_streams_rejected, connection.deadline()), (3, None));
}

#[test]
fn early_datagrams() {
    let mut connection = server(limited(Limits { early_datagrams_max: 2, ..Limits::default() }));
    for payload in [&b"\0a"[..], b"\0b", b"\0c"] {
        connection.on_datagram(Instant::now(), payload.to_vec());
    }
    feed(&mut connection, 0, &headers(&CONNECT_WT), false);
    connection.accept_session(StreamId(0), http::HeaderMap::new()).expect("it was asked for");
    let datagrams: Vec<_> = drain_events(&mut connection)
        .into_iter()
        .filter_map(|event| match event {
            Event::Datagram { payload, .. } => Some(payload),
            _ => None,
        })
        .collect();
    assert_eq!((&datagrams[..], connection.stats().datagrams_dropped), (&[Bytes::from("a"), Bytes::from("b")][..], 1));
}

#[test]
fn capsule_bytes() {
    let mut connection = session(Limits { capsule_bytes_max: 50, ..Limits::default() });
    for (len, expected) in [(50, 1), (51, 0)] {
        feed(&mut connection, 0, &frame(kind::DATA, &frame(0, &vec![0; len])), false);
        assert_eq!(drain_events(&mut connection).len(), expected);
    }
}
