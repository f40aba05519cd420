//! HTTP/3 as the routes serve it, and what WebTransport asks of it.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request};
use quic::{StreamId, Transport, h3, webtransport};

use super::talker::{Http3, Line, User, bounded, read, tls};
use crate::process::{PATIENCE, Server};

fn json() -> HeaderMap {
    HeaderMap::from_iter([(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"))])
}

#[test]
fn requests_are_answered_as_over_tcp() {
    let server = Server::start(&[]);
    let mut client = Http3::connect(&server);
    let none = HeaderMap::new();
    let (status, headers, body) = client.ask("GET", "/chat", b"", &none);
    assert_eq!((status, &headers["content-type"]), (200, &HeaderValue::from_static("text/html; charset=utf-8")));
    assert!(headers.contains_key("date") && !headers.contains_key("alt-svc") && body.ends_with(b"</html>\n"));
    let (status, headers, rest) = client.ask("HEAD", "/chat", b"", &none);
    assert_eq!((status, rest.len(), &headers["content-length"]), (200, 0, &HeaderValue::from(body.len())));
    assert_eq!(client.ask("GET", "/nowhere", b"", &none).0, 404);
    assert_eq!(client.ask("DELETE", "/", b"", &none).0, 405);
    assert_eq!(client.ask("GET", "/wt", b"", &none).0, 426);
    // The control thread answers this one.
    let (status, _, body) = client.ask("POST", "/api/v1/guest", br#"{"name":"ada"}"#, &json());
    let answer: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!((status, &answer["user"]), (200, &"ada".into()));
    let (status, _, _) = client.ask("POST", "/api/v1/guest", &vec![b'x'; 100 << 10], &json());
    assert_eq!(status, 413);
    assert_eq!(client.ask("GET", "/", b"", &none).0, 200, "the connection goes on");
    assert_eq!(server.metric("ringshard_connections{", "transport=\"http3\""), 1);
}

#[test]
fn what_many_ask_for_is_answered_each_time_as_the_first_time() {
    let server = Server::start(&[]);
    let mut client = Http3::connect(&server);
    let none = HeaderMap::new();
    for path in ["/cert-hash", "/chat"] {
        let (first, mut headers, body) = client.ask("GET", path, b"", &none);
        assert_eq!((first, headers.contains_key("content-security-policy")), (200, path == "/chat"));
        assert_eq!((&headers["x-frame-options"], &headers["x-content-type-options"]), (&deny(), &nosniff()));
        headers.remove("date");
        let tag = headers.get("etag").cloned();
        for _ in 0..3 {
            let (status, mut again, same) = client.ask("GET", path, b"", &none);
            again.remove("date");
            assert_eq!((status, again, &same), (200, headers.clone(), &body));
            let (status, mut again, nothing) = client.ask("HEAD", path, b"", &none);
            again.remove("date");
            assert_eq!((status, again, nothing.len()), (200, headers.clone(), 0));
            assert_eq!(client.ask("DELETE", path, b"", &none).0, 405);
            let Some(tag) = &tag else { continue };
            let held = HeaderMap::from_iter([(http::header::IF_NONE_MATCH, tag.clone())]);
            let (status, _, nothing) = client.ask("GET", path, b"", &held);
            assert_eq!((status, nothing.len()), (304, 0));
        }
    }
}

fn deny() -> HeaderValue {
    HeaderValue::from_static("deny")
}

fn nosniff() -> HeaderValue {
    HeaderValue::from_static("nosniff")
}

#[test]
fn a_client_that_forgets_to_end_a_refused_body_is_told_to_stop() {
    let server = Server::start(&[]);
    let mut client = Http3::connect(&server);
    let request = Request::post("https://localhost/api/v1/guest").header("content-length", 4 << 20).body(());
    let id = client.web.http().request(&request.expect("valid"), None, false).expect("sent");
    client.web.http().send(id, vec![b' '; 100 << 10].into(), false).expect("room");
    assert_eq!(client.answer(id).0, 413);
    // It says nothing more; were it not told, its side of the stream would stay open.
    client.until("told to stop", |client| client.web.http().streams_len() == 0);
    assert_eq!(client.ask("GET", "/", b"", &HeaderMap::new()).0, 200, "the connection goes on");
}

#[test]
fn tcp_says_where_http3_is() {
    let server = Server::start(&[]);
    let mut wire = crate::hostile::wire::Wire::plain(&server);
    wire.send(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    let head = wire.text();
    let expected = format!("alt-svc: h3=\":{}\"; ma=86400", server.udp.port());
    assert!(head.contains(&expected), "{head}");
}

#[test]
fn an_early_request_is_answered_only_if_a_replay_does_no_harm() {
    let mut server = Server::start(&[("RINGSHARD_SERVER_DRAIN_SECS", "3600")]);
    let mut tls = tls("h3");
    let mut first = Http3::on(Line::resume(&server, &mut tls, None));
    first.until("a ticket", |first| first.line.quic().session().is_some());
    assert_eq!(first.ask("GET", "/", b"", &HeaderMap::new()).0, 200);
    let ticket = first.line.quic().session().expect("a ticket").to_vec();
    let line = Line::begin(&server, &mut tls, Some(&ticket));
    let mut again = Http3::on(line);
    again.flush();
    let request = |method: &str, path: &str| {
        let request = Request::builder().method(method).uri(format!("https://localhost{path}"));
        request.body(()).expect("valid")
    };
    // Both are sent before the server has said anything.
    let get = again.web.http().request(&request("GET", "/"), None, true);
    let post = again.web.http().request(&request("POST", "/api/v1/guest"), None, false);
    let (Ok(get), Ok(post)) = (get, post) else {
        panic!("no credit before the handshake");
    };
    again.web.http().send(post, Bytes::from_static(br#"{"name":"ada"}"#), true).expect("room");
    assert_eq!(again.answer(get).0, 200);
    assert_eq!(again.answer(post).0, 425);
    assert_eq!(server.metric("ringshard_quic_early_total", ""), 1);
    // Nothing of them is left for which a server that stops would wait.
    drop((first, again));
    server.signal("TERM");
    assert!(server.ended(PATIENCE).success());
}

#[test]
fn a_plain_connect_is_refused_at_once() {
    let server = Server::start(&[]);
    let mut client = Http3::connect(&server);
    let request = Request::connect("elsewhere.example:443").body(()).expect("valid");
    let id = client.web.http().request(&request, None, false).expect("sent");
    assert_eq!(client.answer(id).0, 501);
}

#[test]
fn a_session_whose_answer_the_client_does_not_take_is_reset() {
    let server = Server::start(&[]);
    let limits = h3::Limits { section_bytes_max: 40, ..h3::Limits::default() };
    let mut client = Http3::with(Line::connect(&server, "h3"), h3::Config { limits, ..h3::Config::default() });
    client.until("settings", |client| client.web.http().peer_settings().is_some());
    let request = Request::connect("https://localhost/wt").body(()).expect("valid");
    let id = client.web.http().request(&request, Some("webtransport"), false).expect("sent");
    client.until("reset", |client| client.web.http().streams_len() == 0);
    assert!(client.web.http().send(id, Bytes::new(), true).is_err());
    assert!(client.line.is_open());
}

/// Opens streams of an echo, fills them, and reads none.
fn fill(client: &mut Http3, session: StreamId, streams: usize, bytes: usize) {
    let http = client.web.http();
    for _ in 0..streams {
        let id = http.open_bidi(session).expect("a stream");
        http.send(id, vec![0; bytes].into(), false).expect("room");
    }
}

#[test]
fn an_echo_nobody_reads_holds_little_and_ends_in_time() {
    let server = Server::start(&[("RINGSHARD_LIMITS_HTTP_IDLE_SECS", "3")]);
    // The client takes next to nothing of what comes back, so that it still hears of the end.
    let transport = Transport { stream_data_max: 256, stream_window_max: 256, ..Transport::default() };
    let line = Line::resume(&server, &mut bounded("h3", &transport), None);
    let limits = h3::Limits { connection_out_bytes_max: 64 << 20, stream_in_bytes_max: 1_000, ..h3::Limits::default() };
    let mut client = Http3::with(line, h3::Config { limits, ..h3::Config::default() });
    client.until("settings", |client| client.web.http().peer_settings().is_some());
    let session = client.session("/wt/echo", None).expect("a session");
    let before = server.memory();
    fill(&mut client, session, 60, 250_000);
    let mut most = before;
    // Nothing is read of the streams, but datagrams go on.
    client.until("closed", |client| {
        let _ = client.web.http().send_datagram(session, b"I am here");
        assert!(client.line.is_open(), "{:?}", client.line.closed);
        most = most.max(server.memory());
        client.events.iter().any(|event| matches!(event, h3::Event::SessionClosed { code: 1, .. }))
    });
    assert!(most < before + (10 << 20), "{} KiB", (most - before) >> 10);
}

#[test]
fn a_client_that_reads_no_answer_is_closed() {
    let server = Server::start(&[("RINGSHARD_LIMITS_HTTP_IDLE_SECS", "1")]);
    let transport = Transport { stream_data_max: 0, stream_window_max: 0, ..Transport::default() };
    let mut client = Http3::on(Line::resume(&server, &mut bounded("h3", &transport), None));
    client.flush();
    let request = Request::get("https://localhost/").body(()).expect("valid");
    client.web.http().request(&request, None, true).expect("sent");
    client.until("closed", |client| {
        if client.line.is_open() {
            client.line.quic().ping();
        }
        !client.line.is_open()
    });
    assert_eq!(server.dropped("idle"), 1);
}

#[test]
fn sessions_are_for_pages_of_this_server_and_of_listed_origins() {
    let server = Server::start(&[("RINGSHARD_LISTEN_ORIGINS", "https://chat.example")]);
    let mut client = Http3::connect(&server);
    let own = format!("http://localhost:{}", server.plain.port());
    assert!(client.session("/wt", Some(&own)).is_ok());
    assert!(client.session("/wt", Some("https://chat.example")).is_ok());
    assert!(client.session("/wt", None).is_ok());
    assert_eq!(client.session("/wt", Some("https://evil.example")), Err(403));
    assert_eq!(client.session("/elsewhere", None), Err(404));
    assert_eq!(server.metric("ringshard_connections{", "transport=\"webtransport\""), 3);
}

#[test]
fn the_echo_gives_back_streams_and_datagrams() {
    let server = Server::start(&[]);
    let mut client = Http3::connect(&server);
    let session = client.session("/wt/echo", None).expect("a session");
    let payload: Vec<u8> = (0..3_000_000u32).map(|at| (at ^ (at >> 8)) as u8).collect();
    for is_uni in [false, true] {
        let http = client.web.http();
        let id = if is_uni { http.open_uni(session) } else { http.open_bidi(session) }.expect("a stream");
        let (mut sent, mut from, mut back) = (0, (!is_uni).then_some(id), Vec::new());
        client.until("all is back", |client| {
            while sent < payload.len() && client.web.http().ask_room(id) {
                let until = payload.len().min(sent + 50_000);
                let piece = Bytes::copy_from_slice(&payload[sent..until]);
                client.web.http().send(id, piece, until == payload.len()).expect("room");
                sent = until;
            }
            while let Some(event) = client.events.pop_front() {
                if let h3::Event::Stream { id, .. } = event {
                    from = Some(id);
                }
            }
            from.is_some_and(|from| read(client.web.http(), from, &mut back))
        });
        assert!(back == payload, "{} of {} bytes", back.len(), payload.len());
    }
    let heard = (0..200).any(|n| {
        let _ = client.web.http().send_datagram(session, format!("wave {n}").as_bytes());
        client.turn(Duration::from_millis(20));
        client
            .events
            .iter()
            .any(|event| matches!(event, h3::Event::Datagram { payload, .. } if payload.starts_with(b"wave ")))
    });
    assert!(heard);
    client.web.http().close_session(session, 7, "bye").expect("it is open");
    client.flush();
    assert_eq!(client.ask("GET", "/", b"", &HeaderMap::new()).0, 200);
}

#[test]
fn several_sessions_share_a_connection_and_end_one_by_one() {
    let server = Server::start(&[]);
    let mut client = Http3::connect(&server);
    let sessions: Vec<_> = (0..3).map(|_| client.session("/wt", None).expect("a session")).collect();
    let count = |server: &Server| server.metric("ringshard_connections{", "transport=\"webtransport\"");
    assert_eq!(count(&server), 3);
    client.web.http().close_session(sessions[1], 0, "").expect("open");
    client.flush();
    server.until("one less", |server| {
        client.turn(Duration::from_millis(1));
        count(server) == 2
    });
    // Garbage ends its session, with a code, and no other.
    let lane = client.web.http().open_bidi(sessions[0]).expect("a stream");
    client.web.http().send(lane, Bytes::from_static(&[0xFF; 64]), false).expect("room");
    let code = client.take("a close", |event| match event {
        h3::Event::SessionClosed { id, code, .. } => Some((*id, *code)),
        _ => None,
    });
    assert_eq!(code, (sessions[0], 2));
    assert_eq!(count(&server), 1);
    assert_eq!(client.ask("GET", "/", b"", &HeaderMap::new()).0, 200);
    let _ = webtransport::code::to_http(0);
}

#[test]
fn a_second_ordered_stream_is_refused_and_disturbs_nothing() {
    let server = Server::start(&[]);
    let mut user = User::web(&server).enter("ada", "chat/lanes");
    if let super::talker::Carrier::Web { http, session, .. } = &mut user.carrier {
        let second = http.web.http().open_bidi(*session).expect("a stream");
        http.web.http().send(second, Bytes::from_static(&[1; 32]), false).expect("room");
    }
    (0..3).for_each(|_| user.works());
    assert_eq!(server.dropped("frame"), 0);
}
