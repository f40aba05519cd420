//! HTTP that two readers could understand in two ways, hosts and origins that are not ours, and admin from a web page.

use crate::{
    hostile::{
        talker::{Innocents, Talker, upgrade},
        wire::Wire,
    },
    process::Server,
};

/// What a second reader could take for another request.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";

#[test]
fn ambiguous_requests_get_400_once_and_the_connection_ends() {
    let server = Server::start(&[]);
    let mut innocents = Innocents::enter(&server);
    let post = "POST /api/v1/guest HTTP/1.1\r\nhost: a\r\n";
    let get = "GET / HTTP/1.1\r\nhost: a\r\n";
    for bad in [
        format!("{post}content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
        format!("{post}transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n"),
        format!("{post}content-length: 5\r\ncontent-length: 6\r\n\r\nabcde"),
        format!("{post}content-length: 5\r\ncontent-length: 5\r\n\r\nabcde"),
        format!("{post}content-length: 5, 5\r\n\r\nabcde"),
        format!("{post}content-length: +5\r\n\r\nabcde"),
        format!("{post}content-length: 0x5\r\n\r\nabcde"),
        format!("{post}content-length: -1\r\n\r\n"),
        format!("{post}content-length: 5 5\r\n\r\nabcde"),
        format!("{post}content-length : 5\r\n\r\nabcde"),
        format!("{post}transfer-encoding: identity\r\n\r\n"),
        format!("{post}transfer-encoding: xchunked\r\n\r\n0\r\n\r\n"),
        format!("{post}transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
        format!("{post}transfer-encoding: chunked\r\n\r\n5\nabcde\r\n0\r\n\r\n"),
        format!("{post}transfer-encoding: chunked\r\n\r\n-5\r\nabcde\r\n0\r\n\r\n"),
        "POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
        format!("{get}x: a\r\n b\r\n\r\n"),
        format!("{get}x: a\r\n\tb\r\n\r\n"),
        format!("{get}x: a\n\r\n"),
        format!("{get}x: a\ry: b\r\n\r\n"),
        "GET / HTTP/1.1\nhost: a\n\n".to_owned(),
        format!("{get}x: a\0b\r\n\r\n"),
        format!("{get}: nothing\r\n\r\n"),
        "GET  / HTTP/1.1\r\nhost: a\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nx: a\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nhost: a b\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nhost: a@b\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nhost: a/b\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nhost: a:99999\r\n\r\n".to_owned(),
        "GET http://b/ HTTP/1.1\r\nhost: a\r\n\r\n".to_owned(),
    ] {
        let refused = server.dropped("http");
        for mut wire in [Wire::plain(&server), Wire::secure(&server, b"http/1.1")] {
            wire.send(bad.as_bytes());
            wire.send(SMUGGLED.as_bytes());
            let text = wire.text();
            assert!(text.starts_with("HTTP/1.1 400 ") && text.matches("HTTP/1.1").count() == 1, "{bad:?}: {text}");
        }
        assert_eq!(server.dropped("http"), refused + 2, "{bad:?}");
    }
    assert_eq!(server.metric("ringshard_http_requests_total", "4xx"), 0, "none of it was a request");
    innocents.work();
}

#[test]
fn the_admin_listener_answers_one_request_and_no_web_page() {
    let server = Server::start(&[]);
    for say in [
        format!("GET /healthz HTTP/1.1\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{SMUGGLED}"),
        SMUGGLED.repeat(50),
    ] {
        let mut wire = Wire::to(server.admin);
        wire.send(say.as_bytes());
        let text = wire.text();
        assert_eq!(text.matches("HTTP/1.1").count(), 1, "{text}");
    }
    let mut wire = Wire::to(server.admin);
    wire.send(b"POST /debug/log?level=trace HTTP/1.1\r\norigin: http://evil.example\r\n\r\n");
    assert!(wire.text().starts_with("HTTP/1.1 403 "));
    assert!(server.admin("/debug/log").contains("info"));
    // More silent ones than there are threads: the next one is told, and none is in the way for long.
    let mut silent: Vec<Wire> = (0..40).map(|_| Wire::to(server.admin)).collect();
    let answers: Vec<String> = silent.iter_mut().map(Wire::text).collect();
    let count = |status: &str| answers.iter().filter(|answer| answer.starts_with(status)).count();
    let (late, full) = (count("HTTP/1.1 408 "), count("HTTP/1.1 503 "));
    // Those from before may not have given their places back yet.
    assert!((10..=16).contains(&late) && late + full == 40, "{late} late, {full} too many");
    assert_eq!(server.admin("/healthz"), "ok\n");
}

#[test]
fn a_flood_of_logins_holds_up_only_itself() {
    let server = Server::start(&[("RINGSHARD_AUTH_LOGINS_PER_MIN_ADDRESS", "100000")]);
    let mut innocents = Innocents::enter(&server);
    let mut wires: Vec<Wire> = (0..300).map(|_| Wire::plain(&server)).collect();
    for (n, wire) in wires.iter_mut().enumerate() {
        let body = format!("{{\"name\":\"user{n}\",\"password\":\"correct horse {n}\"}}");
        let head =
            "POST /api/v1/register HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-type: application/json\r\n";
        wire.send(format!("{head}content-length: {}\r\n\r\n{body}", body.len()).as_bytes());
    }
    innocents.work();
    let answers: Vec<String> = wires.iter_mut().map(Wire::text).collect();
    let count = |status: &str| answers.iter().filter(|answer| answer.starts_with(status)).count();
    let (good, busy) = (count("HTTP/1.1 200 "), count("HTTP/1.1 429 "));
    let other =
        answers.iter().find(|answer| !answer.starts_with("HTTP/1.1 200 ") && !answer.starts_with("HTTP/1.1 429 "));
    assert!(good >= 1 && busy >= 1 && good + busy == 300, "{good} good, {busy} busy, or {other:?}");
    assert_eq!(server.metric("ringshard_accounts", ""), good as u64);
    innocents.work();
}

#[test]
fn foreign_origins_open_no_session_and_get_no_token() {
    let server = Server::start(&[("RINGSHARD_LISTEN_ORIGINS", "https://friend.example")]);
    let mut innocents = Innocents::enter(&server);
    for (origin, status) in [
        ("http://evil.example", 403),
        ("null", 403),
        ("http://localhost.evil.example", 403),
        ("file://", 403),
        ("http://localhost:1", 403),
        ("https://friend.example.evil.example", 403),
        ("\u{e9}", 403),
        ("http://localhost", 101),
        ("https://friend.example", 101),
    ] {
        let mut wire = Wire::plain(&server);
        wire.send(upgrade(&format!("origin: {origin}\r\n")).as_bytes());
        wire.finish();
        let text = wire.text();
        assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{origin}: {text}");
    }
    assert_eq!(server.dropped("origin"), 7);
    let mut wire = Wire::plain(&server);
    wire.send(
        b"POST /api/v1/guest HTTP/1.1\r\nhost: localhost\r\norigin: http://evil.example\r\nconnection: close\r\n\
          content-type: application/json\r\ncontent-length: 14\r\n\r\n{\"name\":\"eve\"}",
    );
    let text = wire.text();
    assert!(text.starts_with("HTTP/1.1 403 ") && !text.contains("token\""), "{text}");
    assert_eq!(server.dropped("origin"), 8);
    innocents.work();
}

#[test]
fn broken_upgrades_and_wrong_paths_get_a_status() {
    let server = Server::start(&[]);
    let mut innocents = Innocents::enter(&server);
    let good = upgrade("");
    for (say, status) in [
        (good.replace("/ws", "/elsewhere"), 404),
        (good.replace("version: 13", "version: 12"), 426),
        (good.replace("dGhlIHNhbXBsZSBub25jZQ==", "short"), 400),
        (good.replace("GET", "POST"), 400),
        (upgrade("sec-websocket-protocol: soap\r\n"), 400),
        (upgrade("content-length: 5\r\n"), 400),
        ("GET /ws HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n".to_owned(), 426),
        ("GET /ws/hawos HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n".to_owned(), 426),
        ("DELETE / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n".to_owned(), 405),
        ("GET /../../etc/passwd HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n".to_owned(), 404),
        ("CONNECT a:80 HTTP/1.1\r\nhost: a:80\r\n\r\n".to_owned(), 501),
    ] {
        let mut wire = Wire::plain(&server);
        wire.send(say.as_bytes());
        wire.finish();
        let text = wire.text();
        assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{say}: {text}");
    }
    for body in [
        "",
        "{",
        "[]",
        "{\"name\":1}",
        "{\"name\":\"a\",\"name\":\"b\"}",
        "{\"name\":\"a\",\"admin\":true}",
        "{\"name\":\"\\u0000\"}",
    ] {
        let mut wire = Wire::plain(&server);
        let head = "POST /api/v1/guest HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-type: application/json\r\n";
        wire.send(format!("{head}content-length: {}\r\n\r\n{body}", body.len()).as_bytes());
        let text = wire.text();
        assert!(text.starts_with("HTTP/1.1 400 ") && text.contains("invalid_argument"), "{body}: {text}");
    }
    innocents.work();
}

#[test]
fn what_follows_an_upgrade_at_once_is_the_sessions() {
    let server = Server::start(&[]);
    let mut talker = Talker::upgrade(Wire::plain(&server));
    talker.say_text("{\"kind\":\"ping\",\"id\":5}");
    assert_eq!(talker.answer(5)["kind"], "pong");
}
