//! Sessions over QUIC beside the others: one order, ephemeral and bulk lanes, resumption on another transport.

use std::time::Duration;

use quic::{Direction, Event, StreamId, Transport};
use serde_json::json;
use session::{Client as Say, Credential, Server as Told};

use super::talker::{Carrier, Line, User, bounded, encoded, tls};
use crate::{
    hostile::{
        talker::{Talker, token},
        wire::Wire,
    },
    process::Server,
    quantum::talker::Quantum,
};

const LINES: usize = 20;

const FAST: &[(&str, &str)] =
    &[("RINGSHARD_LIMITS_MESSAGES_PER_SEC", "1000"), ("RINGSHARD_LIMITS_MESSAGES_BURST", "1000")];

#[test]
fn chat_over_webtransport_quic_quantum_and_websocket_has_one_order() {
    let server = Server::start(FAST);
    let topic = "chat/mixed";
    let mut users: Vec<User> = (0..4)
        .map(|n| {
            let user = if n % 2 == 0 { User::raw(&server) } else { User::web(&server) };
            user.enter(&format!("u{n}"), topic)
        })
        .collect();
    let mut over_quantum = Quantum::enter(&server, "q", topic);
    let mut over_websocket = Talker::enter(Wire::plain(&server), "w", topic);
    for n in 0..LINES {
        for (at, user) in users.iter_mut().enumerate() {
            user.publish(&format!("u{at} {n}"));
        }
        over_quantum.publish(&format!("q {n}"));
        let text = format!("w {n}");
        over_websocket
            .say(&json!({"kind": "pub", "id": 100 + n, "topic": topic, "body": {"type": "text", "text": text}}));
    }
    let all = LINES * 6;
    let first: Vec<(u64, String)> = (0..all).map(|_| over_quantum.line()).collect();
    assert!(first.iter().map(|(offset, _)| *offset).eq(1..=all as u64), "{first:?}");
    for user in &mut users {
        assert_eq!((0..all).map(|_| user.next_line()).collect::<Vec<_>>(), first);
    }
    let text = |body: &str| serde_json::from_str::<serde_json::Value>(body).expect("JSON")["text"].clone();
    for (offset, body) in &first {
        let heard = over_websocket.hear("msg");
        assert_eq!((&heard["offset"], &heard["body"]["text"]), (&json!(offset), &text(body)));
    }
    assert_eq!(server.metric("ringshard_connections{", "transport=\"webtransport\""), 2);
    assert_eq!(server.metric("ringshard_connections{", "transport=\"quic\""), 2);
    assert_eq!(server.metric("ringshard_steer_forwarded_total", ""), 0);
}

#[test]
fn ephemeral_messages_travel_in_datagrams_both_ways() {
    let server = Server::start(&[]);
    for (carry, name) in [(User::raw as fn(&Server) -> User, "raw"), (User::web, "web")] {
        let topic = format!("chat/cursors-{name}");
        let mut ada = carry(&server).enter("ada", &topic);
        let mut bob = carry(&server).enter("bob", &topic);
        // A datagram may be lost, even here: the newest one counts, so it is said until it is heard.
        let heard = (0..200).any(|_| {
            ada.say(&Say::Eph { topic: topic.as_str().into(), key: "typing".into(), body: b"{\"on\":true}" });
            bob.turn(Duration::from_millis(50));
            bob.heard_eph("ada")
        });
        assert!(heard, "{name}");
        bob.works();
    }
    assert_eq!(server.dropped("frame"), 0);
}

#[test]
fn a_large_answer_comes_on_a_stream_of_its_own() {
    let server = Server::start(FAST);
    for (carry, topic) in [(User::raw as fn(&Server) -> User, "chat/raw"), (User::web, "chat/web")] {
        let mut ada = carry(&server).enter("ada", topic);
        for n in 0..20 {
            ada.publish(&format!("{n} {}", "x".repeat(2_000)));
        }
        (0..20).for_each(|_| drop(ada.next_line()));
        let body = format!("{{\"topic\":\"{topic}\",\"limit\":20}}");
        ada.say(&Say::Req { id: 9, op: "chat.history".into(), body: body.as_bytes() });
        let len = ada.hear("the history", |message| match message {
            Told::Res { id: 9, body, .. } => Some(body.len()),
            Told::Err { message, .. } => panic!("{message}"),
            _ => None,
        });
        assert!(len > 30_000, "{len}");
        ada.until("its stream's end", |ada| ada.aside == 1);
        ada.works();
    }
}

#[test]
fn a_large_answer_that_is_not_wanted_is_let_go() {
    let server = Server::start(FAST);
    let transport = Transport { stream_data_max: 4_096, stream_window_max: 4_096, ..Transport::default() };
    let line = Line::resume(&server, &mut bounded("ringshard/1", &transport), None);
    let mut ada = User::new(Carrier::Raw(Box::new(line))).enter("ada", "chat/stopped");
    for n in 0..20 {
        ada.publish(&format!("{n} {}", "x".repeat(2_000)));
        ada.next_line();
    }
    let body = br#"{"topic":"chat/stopped","limit":20}"#;
    let ask = encoded(&Say::Req { id: 9, op: "chat.history".into(), body });
    let line = ada.line();
    assert_eq!(line.quic().write(StreamId(0), &ask, false), Ok(ask.len()));
    let mut transfer = None;
    line.until("a transfer", |line| {
        transfer = line.next().and_then(|event| match event {
            Event::Readable(id) if id.is_uni() => Some(id),
            _ => None,
        });
        transfer.is_some()
    });
    // Most of it finds no room in the client's window.
    server.until("queued", |server| server.metric("ringshard_queue_bytes", "") > 20_000);
    line.quic().stop(transfer.expect("one came"), 0);
    server.until("let go", |server| {
        line.turn(Duration::from_millis(1));
        server.metric("ringshard_queue_bytes", "") == 0
    });
    ada.works();
}

/// A connection with a ticket, before the server has said anything.
fn early(server: &Server) -> Line {
    let mut tls = tls("ringshard/1");
    let mut first = Line::resume(server, &mut tls, None);
    first.until("a ticket", |line| line.quic().session().is_some());
    let ticket = first.quic().session().expect("a ticket").to_vec();
    Line::begin(server, &mut tls, Some(&ticket))
}

/// Says hello, and publishes a line in a transfer of its own.
fn greet_and_transfer(line: &mut Line, topic: &str) {
    let mut hello = session::Hello::new(1, Credential::Token(token("ada").into()), "test");
    hello.subs.push(session::Subscription { topic: topic.into(), epoch: None, after: None });
    let body = br#"{"type":"text","text":"aside"}"#;
    let text = Say::Pub { id: 2, topic: topic.into(), seq: Some(1), body };
    let id = line.quic().open(Direction::Unidirectional).expect("a stream");
    for (id, message) in [(StreamId(0), Say::Hello(hello)), (id, text)] {
        let frame = encoded(&message);
        assert_eq!(line.quic().write(id, &frame, id.is_uni()), Ok(frame.len()));
    }
}

#[test]
fn what_comes_in_0rtt_is_heard_after_the_handshake() {
    let server = Server::start(&[]);
    let mut line = early(&server);
    greet_and_transfer(&mut line, "chat/early");
    let eph = Say::Eph { topic: "chat/early".into(), key: "typing".into(), body: b"{\"on\":true}" };
    assert!(line.quic().send_datagram(encoded(&eph)));
    line.send();
    let mut ada = User::new(Carrier::Raw(Box::new(line)));
    assert!(ada.next_line().1.contains("aside"));
    assert_eq!(server.metric("ringshard_quic_early_total", ""), 1);
    let mut bob = User::raw(&server).enter("bob", "chat/early");
    let heard = (0..200).any(|_| {
        ada.say(&eph);
        bob.turn(Duration::from_millis(50));
        bob.heard_eph("ada")
    });
    assert!(heard);
}

#[test]
fn transfers_that_are_given_up_make_room_for_the_next() {
    let server = Server::start(&[]);
    let mut line = early(&server);
    // In 0-RTT the server looks at a stream late: it finds its end where it was told of bytes.
    let given_up = [(); 8].map(|()| line.quic().open(Direction::Unidirectional).expect("a stream"));
    for id in given_up {
        line.quic().write(id, &[1; 3], false).expect("room");
    }
    line.send();
    for id in given_up {
        line.quic().reset(id, 0);
    }
    line.send();
    greet_and_transfer(&mut line, "chat/given-up");
    let mut ada = User::new(Carrier::Raw(Box::new(line)));
    assert!(ada.next_line().1.contains("aside"));
}

#[test]
fn a_session_goes_on_over_another_transport_without_gap_or_repeat() {
    let server = Server::start(&[]);
    let mut ada = User::web(&server);
    ada.greet(Credential::Token(token("ada").into()), "chat/resumed", None);
    let (session, ticket) = ada.hear("a welcome", |message| match message {
        Told::Welcome { session, ticket, .. } => Some((session.to_string(), ticket.to_string())),
        _ => None,
    });
    ada.works();
    // Its power fails; others go on talking.
    drop(ada);
    let mut bob = Talker::enter(Wire::plain(&server), "bob", "chat/resumed");
    (0..3).for_each(|_| bob.works());
    let mut ada = User::raw(&server);
    let resume = Credential::Resume { session: session.as_str().into(), ticket: ticket.into() };
    ada.greet(resume, "chat/resumed", Some(1));
    let again = ada.hear("a welcome", |message| match message {
        Told::Welcome { session, .. } => Some(session.to_string()),
        _ => None,
    });
    assert_eq!(again, session);
    assert_eq!([(); 3].map(|()| ada.next_line().0), [2, 3, 4]);
}
