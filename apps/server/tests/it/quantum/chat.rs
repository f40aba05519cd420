//! Sessions over Quantum beside the others: one order, ephemeral and bulk lanes, resumption.

use serde_json::json;
use session::{Client as Say, Credential, Server as Told};

use super::talker::Quantum;
use crate::{
    hostile::{
        talker::{Framed, Talker},
        wire::Wire,
    },
    process::Server,
};

const LINES: usize = 20;

const FAST: &[(&str, &str)] =
    &[("RINGSHARD_LIMITS_MESSAGES_PER_SEC", "1000"), ("RINGSHARD_LIMITS_MESSAGES_BURST", "1000")];

#[test]
fn chat_over_quantum_websocket_and_tcp_has_one_order() {
    let server = Server::start(FAST);
    let topic = "chat/mixed";
    let mut over_quantum: Vec<_> = (0..3).map(|n| Quantum::enter(&server, &format!("q{n}"), topic)).collect();
    let mut over_websocket: Vec<_> =
        (0..2).map(|n| Talker::enter(Wire::plain(&server), &format!("w{n}"), topic)).collect();
    let mut over_tcp = Framed::enter(Wire::secure(&server, b"ringshard/1"), "t", topic);
    for n in 0..LINES {
        for (user, quantum) in over_quantum.iter_mut().enumerate() {
            quantum.publish(&format!("q{user} {n}"));
        }
        for (user, talker) in over_websocket.iter_mut().enumerate() {
            let text = format!("w{user} {n}");
            talker.say(&json!({"kind": "pub", "id": 100 + n, "topic": topic, "body": {"type": "text", "text": text}}));
        }
        let body = format!("{{\"type\":\"text\",\"text\":\"t {n}\"}}");
        over_tcp.say(&Say::Pub { id: 100 + n as u32, topic: topic.into(), seq: None, body: body.as_bytes() });
    }
    let all = LINES * 6;
    let first: Vec<(u64, String)> = (0..all).map(|_| over_quantum[0].line()).collect();
    assert!(first.iter().map(|(offset, _)| *offset).eq(1..=all as u64), "{first:?}");
    for quantum in &mut over_quantum[1..] {
        assert_eq!((0..all).map(|_| quantum.line()).collect::<Vec<_>>(), first);
    }
    let text = |body: &str| serde_json::from_str::<serde_json::Value>(body).expect("JSON")["text"].clone();
    for talker in &mut over_websocket {
        for (offset, body) in &first {
            let heard = talker.hear("msg");
            assert_eq!((&heard["offset"], &heard["body"]["text"]), (&json!(offset), &text(body)));
        }
    }
    for (offset, body) in &first {
        over_tcp.hear("the next line", |message| match message {
            Told::Msg { offset: heard, body: said, .. } => {
                assert_eq!((heard, *said), (offset, body.as_bytes()));
                true
            }
            _ => false,
        });
    }
    assert_eq!(server.metric("ringshard_connections{", "transport=\"quantum\""), 3);
    assert_eq!(server.metric("ringshard_steer_forwarded_total", ""), 0);
}

#[test]
fn ephemeral_messages_travel_in_datagrams_both_ways() {
    let server = Server::start(&[]);
    let mut ada = Quantum::enter(&server, "ada", "chat/cursors");
    let mut bob = Quantum::enter(&server, "bob", "chat/cursors");
    let mut eve = Talker::enter(Wire::plain(&server), "eve", "chat/cursors");
    // A datagram may be lost, even here: the newest one counts, so it is said until it is heard.
    let mut heard = false;
    for _ in 0..200 {
        ada.say(&Say::Eph { topic: "chat/cursors".into(), key: "typing".into(), body: b"{\"on\":true}" });
        ada.turn(std::time::Duration::from_millis(50));
        bob.turn(std::time::Duration::from_millis(50));
        heard |= bob.heard_eph("ada");
        if heard {
            break;
        }
    }
    assert!(heard);
    let wave = eve.hear("eph");
    assert_eq!((&wave["from"], &wave["key"]), (&json!("ada"), &json!("typing")));
    assert_eq!(server.dropped("frame"), 0);
    bob.works();
}

#[test]
fn a_large_answer_comes_on_a_stream_of_its_own() {
    let server = Server::start(FAST);
    let mut ada = Quantum::enter(&server, "ada", "chat/long");
    for n in 0..20 {
        ada.publish(&format!("{n} {}", "x".repeat(2_000)));
    }
    (0..20).for_each(|_| drop(ada.line()));
    let body = br#"{"topic":"chat/long","limit":20}"#;
    ada.say(&Say::Req { id: 9, op: "chat.history".into(), body });
    let len = ada.hear("the history", |message| match message {
        Told::Res { id: 9, body, .. } => Some(body.len()),
        Told::Err { message, .. } => panic!("{message}"),
        _ => None,
    });
    assert!(len > 30_000, "{len}");
    ada.works();
}

#[test]
fn a_session_is_resumed_on_another_connection_without_gap_or_repeat() {
    let server = Server::start(&[]);
    let mut ada = Quantum::connect(&server);
    ada.greet(Credential::Token(crate::hostile::talker::token("ada").into()), "chat/resumed", None);
    let (session, ticket) = ada.hear("a welcome", |message| match message {
        Told::Welcome { session, ticket, .. } => Some((session.to_string(), ticket.to_string())),
        _ => None,
    });
    ada.works();
    // Its power fails; others go on talking.
    ada.wire.client().vanish();
    let mut bob = Talker::enter(Wire::plain(&server), "bob", "chat/resumed");
    (0..3).for_each(|_| bob.works());
    let mut ada = Quantum::connect(&server);
    let resume = Credential::Resume { session: session.as_str().into(), ticket: ticket.into() };
    ada.greet(resume, "chat/resumed", Some(1));
    let again = ada.hear("a welcome", |message| match message {
        Told::Welcome { session, .. } => Some(session.to_string()),
        _ => None,
    });
    assert_eq!(again, session);
    assert_eq!([ada.line().0, ada.line().0, ada.line().0], [2, 3, 4]);
}
