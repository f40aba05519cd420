//! The upgrade to WebSocket.

use ringshard_http::Rule;

use crate::owner::Owner;

const HEAD: &str = "GET /ws HTTP/1.1\r\nHost: a\r\n";
const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
const VERSION: &str = "Sec-WebSocket-Version: 13\r\n";
const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

fn request() -> String {
    format!("{HEAD}{UPGRADE}{VERSION}{KEY}Sec-WebSocket-Protocol: ringshard.json\r\n\r\n")
}

#[test]
fn an_upgrade_is_accepted_and_the_bytes_after_it_are_handed_over() {
    let mut owner = Owner::http1();
    owner.feed(request() + "\u{1}frames");
    let (id, upgrade) = owner.upgrades.remove(0);
    assert_eq!(upgrade.uri().path(), "/ws");
    owner.feed(" and more");
    let rest = owner.connection.accept_websocket(owner.now, id, Some("ringshard.json"));
    assert_eq!(rest.as_deref(), Some(&b"\x01frames and more"[..]));
    assert_eq!(
        owner.output(),
        "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nsec-websocket-protocol: ringshard.json\r\n\r\n",
        "the example of RFC 6455",
    );
    assert_eq!(owner.connection.accept_websocket(owner.now, id, None), None, "once");
    assert_eq!(owner.connection.deadline(), None);
}

#[test]
fn a_protocol_cannot_split_the_answer() {
    let mut owner = Owner::http1();
    owner.feed(request());
    let id = owner.upgrades.remove(0).0;
    let _ = owner.connection.accept_websocket(owner.now, id, Some("a\r\nx: y"));
    assert!(!owner.output().contains("x: y"));
}

#[test]
fn an_upgrade_waits_for_the_answers_before_it() {
    let mut owner = Owner::http1();
    owner.feed("GET /1 HTTP/1.1\r\nHost: a\r\n\r\n".to_owned() + &request());
    assert_eq!((owner.requests.len(), owner.upgrades.len()), (1, 0));
    owner.echo();
    assert_eq!(owner.upgrades.len(), 1);
}

#[test]
fn an_upgrade_that_is_refused_ends_the_connection() {
    let mut owner = Owner::http1();
    owner.feed(request() + "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n");
    let id = owner.upgrades.remove(0).0;
    owner.answer(id, "no");
    assert!(owner.output().contains("connection: close"));
    assert!(owner.connection.wants_close() && owner.requests.is_empty());
}

#[test]
fn meant_but_wrong_upgrades_are_refused() {
    let key = |value: &str| format!("{HEAD}{UPGRADE}{VERSION}Sec-WebSocket-Key: {value}\r\n\r\n");
    for (request, rule) in [
        (format!("{HEAD}{UPGRADE}{VERSION}\r\n"), Rule::Upgrade),
        (format!("{HEAD}{UPGRADE}{KEY}\r\n"), Rule::Upgrade),
        (format!("{HEAD}{UPGRADE}{KEY}{KEY}{VERSION}\r\n"), Rule::Upgrade),
        (format!("{HEAD}{UPGRADE}{KEY}Sec-WebSocket-Version: 8\r\n\r\n"), Rule::UpgradeVersion),
        (format!("{HEAD}{UPGRADE}{KEY}{VERSION}Content-Length: 1\r\n\r\nx"), Rule::Upgrade),
        (request().replace("GET", "POST"), Rule::Upgrade),
        (key(""), Rule::Upgrade),
        (key("dGhlIHNhbXBsZSBub25jZQ="), Rule::Upgrade),
        (key("dGhlIHNhbXBsZSBub25jZR=="), Rule::Upgrade),
        (key("dGhlIHNhbXBsZSBub25j!Q=="), Rule::Upgrade),
        (key("dGhlIHNhbXBsZSBub25jZQ==dGhlIHNhbXBsZSBub25jZQ=="), Rule::Upgrade),
    ] {
        let mut owner = Owner::http1();
        owner.feed(&request);
        assert_eq!(owner.refused, [rule], "{request}");
        assert!(owner.output().contains(&format!("HTTP/1.1 {}", rule.status().map_or(0, |status| status.as_u16()))));
        assert!(owner.connection.wants_close());
    }
    let mut owner = Owner::http1();
    owner.feed(format!("{HEAD}{UPGRADE}{KEY}Sec-WebSocket-Version: 8\r\n\r\n"));
    assert!(owner.output().contains("sec-websocket-version: 13"));
}

#[test]
fn other_upgrades_are_plain_requests() {
    for request in [
        format!("{HEAD}Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAA\r\n\r\n"),
        format!("{HEAD}Upgrade: websocket\r\n{KEY}{VERSION}\r\n"),
        format!("{HEAD}Connection: Upgrade\r\n{KEY}{VERSION}\r\n"),
        request().replace("HTTP/1.1", "HTTP/1.0"),
    ] {
        let mut owner = Owner::http1();
        owner.feed(&request);
        assert_eq!((owner.requests.len(), owner.upgrades.len(), owner.refused.len()), (1, 0, 0), "{request}");
    }
}
