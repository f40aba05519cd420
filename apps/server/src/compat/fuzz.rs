//! Any bytes as what a client of another protocol says, against a session that answers.

use bytes::BytesMut;
use prost::Message;
use session::{Client, Code, Codec, Level, Server, SubState};

use super::{Foreign, Protocol, hawos::wire::Response};

/// For the fuzzer and the replay of its corpus: lines, each a message of a client of GoChat, or behind a `<` something
/// that the server says to its session.
pub fn gochat(bytes: &[u8]) {
    let mut foreign = Foreign::new(Protocol::GoChat, Some("token=t"));
    for line in bytes.split(|byte| *byte == b'\n') {
        say(&mut foreign, line);
        settle(&mut foreign, |reply| drop(serde_json::from_slice::<serde_json::Value>(reply).expect("JSON")));
    }
}

/// For the fuzzer and the replay of its corpus: messages of a client of Hawos behind their length in a byte, or behind a
/// `<` something that the server says to its session.
pub fn hawos(mut bytes: &[u8]) {
    let mut foreign = Foreign::new(Protocol::Hawos, None);
    while let Some((len, rest)) = bytes.split_first() {
        let (message, rest) = rest.split_at(rest.len().min(usize::from(*len)));
        bytes = rest;
        say(&mut foreign, message);
        settle(&mut foreign, |reply| drop(Response::decode(reply).expect("protobuf")));
    }
}

fn say(foreign: &mut Foreign, message: &[u8]) {
    let Some(told) = message.strip_prefix(b"<") else {
        if let Err(error) = foreign.hear(message) {
            foreign.told(&Server::Err { id: None, code: error.code(), message: error.reason.into(), retry_ms: None });
        }
        return;
    };
    if let Ok(told) = session::decode_server(Codec::Json, told) {
        foreign.told(&told);
    }
}

/// Answers what the adapter asks for, until it asks no more: it always comes to an end.
fn settle(foreign: &mut Foreign, mut check: impl FnMut(&[u8])) {
    let mut asked = 0;
    while let Some(ask) = foreign.next_ask() {
        asked += 1;
        assert!(asked <= ASKS_MAX, "one message is not the cause of so much");
        answer(foreign, &ask);
    }
    while let Some(reply) = foreign.next_reply() {
        check(&reply);
    }
}

fn answer(foreign: &mut Foreign, ask: &BytesMut) {
    let client = session::decode_client(Codec::Json, ask).expect("a message of a session");
    match client {
        Client::Hello(hello) => {
            let ok = SubState::Ok { alias: 0, epoch: 1, head: 0 };
            let subs = hello.subs.into_iter();
            let subs = subs.map(|sub| session::SubResult { topic: sub.topic, state: ok.clone() }).collect();
            let (session, user, ticket) = ("s".into(), "ada".into(), "t".into());
            foreign.told(&Server::Welcome { id: hello.id, session, user, ticket, shard: 0, ping_ms: 25_000, subs });
        }
        Client::Sub { id, topic: session::Topic::Name(topic), .. } => {
            foreign.told(&Server::SubOk { id, topic, alias: 0, epoch: 1, head: 0 });
        }
        Client::Unsub { id, topic: session::Topic::Name(topic) } => foreign.told(&Server::UnsubOk { id, topic }),
        Client::Pub { id, topic: session::Topic::Name(topic), body, .. } => {
            let topic = &topic;
            foreign.told(&Server::PubOk { id, topic: topic.clone(), offset: 1, level: Level::Durable });
            foreign.told(&Server::Msg {
                topic: topic.clone(),
                alias: 0,
                offset: 1,
                from: "ada".into(),
                at_ms: 1,
                body,
            });
        }
        Client::Req { id, op, .. } => match &*op {
            "chat.create" => foreign.told(&Server::Res { id, body: br#"{"topic":"chat/g/1"}"# }),
            "chat.members" => foreign.told(&Server::Res { id, body: br#"{"count":1,"members":[{"user":"ada"}]}"# }),
            "inbox.list" => foreign.told(&Server::Res { id, body: INBOX }),
            _ => foreign.told(&Server::Err {
                id: Some(id),
                code: Code::PermissionDenied,
                message: "no".into(),
                retry_ms: None,
            }),
        },
        Client::Ping { id } => foreign.told(&Server::Pong { id, at_ms: 86_400_000 }),
        Client::Ack { .. } => {}
        Client::Eph { .. } | Client::Sub { .. } | Client::Unsub { .. } | Client::Pub { .. } => {
            panic!("no adapter says that")
        }
    }
}

/// More than the longest of it: a hello, a list, and its conversations.
const ASKS_MAX: usize = 60;

const INBOX: &[u8] = br#"{"conversations":[{"topic":"chat/g/1","head":5,"unread":2,"left":false}]}"#;
