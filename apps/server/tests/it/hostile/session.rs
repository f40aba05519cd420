//! Lies in the session protocol: tokens, names, JSON, frames and WebSocket messages that are not what they should be.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use serde_json::json;
use session::{Client, Keys, Server as Say};

use crate::{
    hostile::{
        noise,
        talker::{Framed, Innocents, Talker, now, token},
        wire::Wire,
    },
    process::{PATIENCE, SECRET, Server},
};

#[test]
fn forged_and_expired_tokens_and_tickets_open_nothing() {
    let server = Server::start(&[]);
    let mut innocents = Innocents::enter(&server);
    let keys = Keys::new(SECRET.as_bytes());
    let good = token("eve");
    let (rest, signature) = good.rsplit_once('.').expect("three parts");
    let none = BASE64.encode(r#"{"alg":"none","typ":"JWT"}"#);
    let claims = BASE64.encode(format!(r#"{{"sub":"root","iat":{},"exp":{}}}"#, now(), now() + 3600));
    let hello = |credential: serde_json::Value| {
        let mut hello = json!({"kind": "hello", "id": 1, "device": "d"});
        hello.as_object_mut().expect("an object").extend(credential.as_object().expect("an object").clone());
        hello
    };
    let forged = [
        keys.mint(now() - 7200, "eve", 3600, &[], false),
        keys.mint(now() + 3600, "eve", 3600, &[], false),
        keys.mint(now(), "", 3600, &[], false),
        keys.mint(now(), "e\nve", 3600, &[], false),
        Keys::new(b"another secret of thirty-two bytes").mint(now(), "eve", 3600, &[], false),
        format!("{none}.{claims}."),
        format!("{none}.{claims}.{signature}"),
        format!("{}.{claims}.{signature}", rest.split('.').next().expect("a header")),
        rest.to_owned(),
        "..".to_owned(),
        "x".repeat(3000),
    ];
    let mut attempts: Vec<_> = forged.iter().map(|token| hello(json!({"token": token}))).collect();
    attempts.push(hello(json!({"resume": {"session": "00000000-0000-7000-8000-000000000000", "ticket": "AAAA"}})));
    attempts.push(hello(json!({"resume": {"session": "", "ticket": good}})));
    for attempt in &attempts {
        let before = server.dropped("unauthenticated");
        let mut talker = Talker::upgrade(Wire::plain(&server));
        talker.say(attempt);
        let error = talker.answer(1);
        assert_eq!((&error["kind"], &error["code"]), (&json!("err"), &json!("unauthenticated")), "{attempt}");
        assert_eq!(talker.code(), 1008, "{attempt}");
        assert_eq!(server.dropped("unauthenticated"), before + 1);
    }
    let mut talker = Talker::upgrade(Wire::plain(&server));
    talker.say(&json!({"kind": "pub", "id": 2, "topic": "chat/quiet", "body": {"type": "text", "text": "x"}}));
    assert_eq!((talker.answer(2)["code"].as_str(), talker.code()), (Some("unauthenticated"), 1008));
    // A ticket of another session, or with one letter changed.
    let mut eve = Talker::upgrade(Wire::plain(&server));
    eve.say(&hello(json!({"token": good})));
    let welcome = eve.answer(1);
    let ticket = welcome["ticket"].as_str().expect("a ticket");
    let changed = format!("{}{}", &ticket[..ticket.len() - 1], if ticket.ends_with('A') { "B" } else { "A" });
    let other = "00000000-0000-7000-8000-000000000000";
    for resume in
        [json!({"session": other, "ticket": ticket}), json!({"session": welcome["session"], "ticket": changed})]
    {
        let mut talker = Talker::upgrade(Wire::plain(&server));
        talker.say(&hello(json!({"resume": resume})));
        assert_eq!((talker.answer(1)["code"].as_str(), talker.code()), (Some("unauthenticated"), 1008));
    }
    innocents.work();
}

#[test]
fn from_is_whom_the_server_knows_and_limits_hold() {
    let server = Server::start(&[("RINGSHARD_LIMITS_SUBS_PER_SESSION", "4")]);
    let mut innocents = Innocents::enter(&server);
    let mut eve = Talker::enter(Wire::plain(&server), "eve", "chat/loud");
    eve.say(&json!({"kind": "pub", "id": 2, "topic": "chat/loud", "from": "ann", "at_ms": 1, "offset": 99,
                    "body": {"type": "text", "text": "I am ann"}}));
    let heard = eve.hear("msg");
    assert!(heard["from"] == "eve" && heard["at_ms"].as_u64() > Some(1) && heard["offset"] == 1, "{heard}");
    eve.say(
        &json!({"kind": "pub", "id": 3, "topic": "chat/loud", "body": {"type": "text", "text": "x", "from": "ann"}}),
    );
    assert_eq!(eve.answer(3)["code"], "invalid_argument");
    // What is refused does not count, and the server's own ids are its own.
    for id in 10..30 {
        let topic = ["nowhere/x", "chat/..", "chat/BAD", "chat/loud"][id % 4];
        eve.say(&json!({"kind": "sub", "id": id, "topic": topic}));
        assert_eq!(eve.answer(id as u64)["kind"], "err", "{topic}");
    }
    for (id, kind) in [(40, "sub_ok"), (41, "sub_ok"), (42, "sub_ok"), (43, "err")] {
        eve.say(&json!({"kind": "sub", "id": id, "topic": format!("chat/room{id}")}));
        assert_eq!(eve.answer(id)["kind"], kind, "{id}");
    }
    eve.say(&json!({"kind": "ping", "id": 0xffff_f000_u32}));
    assert_eq!(eve.answer(0xffff_f000)["code"], "invalid_argument");
    // The same with the subscriptions of a hello.
    let mut eve = Talker::upgrade(Wire::plain(&server));
    let subs: Vec<_> = ["nowhere/x", "chat/..", "nowhere/y", "chat/loud"].map(|topic| json!({"topic": topic})).into();
    eve.say(&json!({"kind": "hello", "id": 1, "token": token("eve"), "device": "d", "subs": subs}));
    let welcome = eve.hear("welcome");
    assert_eq!(
        welcome["subs"].as_array().map(|subs| subs.iter().filter(|sub| sub["code"].is_string()).count()),
        Some(3)
    );
    for (id, kind) in [(40, "sub_ok"), (41, "sub_ok"), (42, "sub_ok"), (43, "err")] {
        eve.say(&json!({"kind": "sub", "id": id, "topic": format!("chat/room{id}")}));
        assert_eq!(eve.answer(id)["kind"], kind, "{id}");
    }
    innocents.work();
}

#[test]
fn whoever_asks_for_too_many_topics_keeps_its_subscriptions() {
    // Half of the places are kept for conversations of accounts.
    let settings = [("RINGSHARD_LIMITS_TOPICS_MAX", "4"), ("RINGSHARD_LIMITS_SUBS_PER_SESSION", "8")];
    let server = Server::start(&settings);
    let mut innocents = Innocents::enter(&server);
    let mut eve = Talker::upgrade(Wire::plain(&server));
    eve.say(&json!({"kind": "hello", "id": 1, "token": token("eve"), "device": "d"}));
    eve.hear("welcome");
    let mut stand = 0;
    for id in 2..40 {
        eve.say(&json!({"kind": "sub", "id": id, "topic": format!("chat/room{id}")}));
        let answer = eve.answer(id);
        stand += u64::from(answer["kind"] == "sub_ok");
        assert!(answer["kind"] == "sub_ok" || answer["message"] == "too many topics", "{answer}");
    }
    assert_eq!(stand, 3, "two homes of two open topics each, and one topic is the innocents'");
    assert_eq!(server.metric("ringshard_topics{", ""), 4);
    innocents.work();
}

#[test]
fn json_bombs_are_errors() {
    let server = Server::start(&[]);
    let mut innocents = Innocents::enter(&server);
    let deep = |brackets: usize| {
        let body = format!("{}{}", "[".repeat(brackets), "]".repeat(brackets));
        format!(r#"{{"kind":"pub","id":2,"topic":"chat/loud","body":{{"type":"text","text":{body}}}}}"#)
    };
    // Broken JSON ends a connection: what comes after it cannot be trusted either.
    let fatal = [
        deep(20_000),
        deep(40),
        "[".repeat(60_000),
        "{".to_owned(),
        String::new(),
        "null".to_owned(),
        r#"{"kind":"ping","id":2}{"kind":"ping","id":3}"#.to_owned(),
        r#"{"kind":"ping","id":2,}"#.to_owned(),
        r#"{"kind":"ping","id":2,"id":3}"#.to_owned(),
        r#"{"kind":"ping","kind":"hello","id":2}"#.to_owned(),
        r#"{"kind":"ping","\u0069d":2,"id":3}"#.to_owned(),
        "{\"kind\":\"ping\",\"id\":2,\"x\":\"\u{1}\"}".to_owned(),
    ];
    for text in &fatal {
        let mut eve = Talker::enter(Wire::plain(&server), "eve", "chat/loud");
        eve.say_text(text);
        assert_eq!(eve.hear("err")["code"], "invalid_argument");
        assert_eq!(eve.code(), 1008, "{text:.80}");
    }
    // What is JSON and no message is an error, and the session goes on.
    let mut eve = Talker::enter(Wire::plain(&server), "eve", "chat/loud");
    let huge = "9".repeat(1000);
    for (text, code) in [
        (deep(10), "invalid_argument"),
        (format!(r#"{{"kind":"ping","id":{huge}}}"#), "invalid_argument"),
        (r#"{"kind":"ping","id":4294967296}"#.to_owned(), "invalid_argument"),
        (r#"{"kind":"ping","id":-1}"#.to_owned(), "invalid_argument"),
        (r#"{"kind":"ping","id":0}"#.to_owned(), "invalid_argument"),
        (r#"{"kind":"ping","id":1e3}"#.to_owned(), "invalid_argument"),
        (format!(r#"{{"kind":"pub","id":2,"seq":{huge},"topic":"chat/loud","body":{{}}}}"#), "invalid_argument"),
        (format!(r#"{{"kind":"sub","id":2,"topic":"{}"}}"#, "chat/".repeat(1000)), "invalid_argument"),
        (r#"{"kind":"pub","id":2,"topic":"chat/loud","body":"text"}"#.to_owned(), "invalid_argument"),
        (r#"{"kind":"eph","topic":"chat/loud","key":"","body":{}}"#.to_owned(), "invalid_argument"),
        (r#"{"kind":"teleport","id":2}"#.to_owned(), "unimplemented"),
        (r#"{"kind":"req","id":2,"op":"chat.explode","body":{}}"#.to_owned(), "unimplemented"),
        ("{}".to_owned(), "invalid_argument"),
    ] {
        eve.say_text(&text);
        assert_eq!(eve.hear("err")["code"], code, "{text:.80}");
    }
    eve.works();
    innocents.work();
}

#[test]
fn frames_that_lie_are_errors() {
    let server = Server::start(&[]);
    let mut innocents = Innocents::enter(&server);
    let frame = |first: u8, kind: u8, len: u32, id: u32, body: &[u8]| {
        let mut frame = vec![first, kind, 0, 0];
        frame.extend(len.to_le_bytes());
        frame.extend(0_u32.to_le_bytes());
        frame.extend(id.to_le_bytes());
        frame.extend(body);
        frame
    };
    const PING: u8 = 3;
    const PUB: u8 = 13;
    for (bad, words) in [
        (frame(2, PING, 0, 5, b""), "frame of version 2"),
        (frame(0, PING, 0, 5, b""), "frame of version 0"),
        (frame(1 | 0x20, PING, 0, 5, &[0; 8]), ""),
        (frame(1 | 0x10, PING, 0, 5, b""), ""),
        (frame(1 | 0x40, PING, 0, 5, b""), ""),
        (frame(1, PUB, 5, 5, &[0x0a, 0xff, 0xff, 0xff, 0x0f]), ""),
        (frame(1, PUB, 3, 5, &[0xff; 3]), ""),
        // The length says less than there is: the rest is read as the next frame.
        (frame(1, PING, 0, 5, b"Zzzzzzzzzzzzzzzzzzz"), "frame of version"),
    ] {
        let before = server.dropped("frame");
        let mut eve = Framed::enter(Wire::plain(&server), "eve", "chat/loud");
        eve.wire.send(&bad);
        eve.refused(words);
        assert!(server.dropped("frame") > before, "{bad:?}");
    }
    let mut eve = Framed::enter(Wire::plain(&server), "eve", "chat/loud");
    for kind in [0, 2, 4, 15, 20, 21, 200, 255] {
        eve.wire.send(&frame(1, kind, 0, 9, b""));
        eve.hear("an error", |message| matches!(message, Say::Err { id: Some(9), .. }));
    }
    // Nobody must know what may be skipped.
    eve.wire.send(&frame(1 | 0x80, 200, 3, 9, b"abc"));
    eve.works();
    // An alias that no subscription has.
    eve.say(&Client::Unsub { id: 8, topic: session::Topic::Alias(u32::MAX) });
    eve.hear("an error", |message| matches!(message, Say::Err { id: Some(8), .. }));
    // A length that is never fulfilled holds nobody up but its sender.
    eve.wire.send(&frame(1, PUB, 60_000, 9, b"only this"));
    eve.wire.finish();
    eve.wire.rest(PATIENCE);
    for seed in 0..40 {
        let mut eve = Framed::enter(Wire::plain(&server), "eve", "chat/loud");
        let mut bad = noise(200 + seed)[seed..].to_vec();
        bad[0] = 1;
        bad[5..8].fill(0);
        eve.wire.send(&bad);
        eve.wire.finish();
        eve.wire.rest(PATIENCE);
    }
    innocents.work();
}

#[test]
fn breaking_websocket_gets_its_close_code() {
    let server = Server::start(&[]);
    let mut innocents = Innocents::enter(&server);
    let masked = |first: u8, second: u8, extra: &[u8], payload: &[u8]| {
        let mut frame = vec![first, second | 0x80];
        frame.extend(extra);
        frame.extend([0; 4]);
        frame.extend(payload);
        frame
    };
    let long = 70_000_u64.to_be_bytes();
    let endless = u64::MAX.to_be_bytes();
    for (bad, code) in [
        (vec![0x81, 2, b'{', b'}'], 1002),
        (masked(0xc1, 2, b"", b"{}"), 1002),
        (masked(0x83, 0, b"", b""), 1002),
        (masked(0x8b, 0, b"", b""), 1002),
        (masked(0x80, 2, b"", b"{}"), 1002),
        (masked(0x09, 1, b"", b"x"), 1002),
        (masked(0x89, 126, &[0, 126], &[0; 126]), 1002),
        ([masked(0x01, 1, b"", b"{"), masked(0x81, 1, b"", b"}")].concat(), 1002),
        (masked(0x88, 1, b"", &[3]), 1002),
        (masked(0x88, 2, b"", &[0x03, 0xed]), 1002),
        (masked(0x81, 2, b"", &[0xff, 0xff]), 1007),
        (masked(0x88, 3, b"", &[0x03, 0xe8, 0xff]), 1007),
        (masked(0x81, 127, &long, b"{"), 1009),
        (masked(0x81, 127, &endless, b"{"), 1009),
        (masked(0x82, 2, b"", b"{}"), 1008),
    ] {
        let before = (server.dropped("websocket"), server.dropped("frame_large"), server.dropped("frame"));
        let mut eve = Talker::enter(Wire::plain(&server), "eve", "chat/loud");
        eve.wire.send(&bad);
        assert_eq!(eve.code(), code, "{bad:x?}");
        let after = (server.dropped("websocket"), server.dropped("frame_large"), server.dropped("frame"));
        let counted = match code {
            1009 => (0, 1, 0),
            1008 => (0, 0, 1),
            _ => (1, 0, 0),
        };
        assert_eq!(after, (before.0 + counted.0, before.1 + counted.1, before.2 + counted.2), "{bad:x?}");
    }
    // A hello before what breaks the rules is answered, and nothing comes behind the close.
    let hello = json!({"kind": "hello", "id": 1, "token": token("eve"), "device": "d"}).to_string();
    let length = u16::try_from(hello.len()).expect("short").to_be_bytes();
    let mut eve = Talker::upgrade(Wire::plain(&server));
    eve.wire.send(&[masked(0x81, 126, &length, hello.as_bytes()), masked(0x81, 127, &endless, b"{")].concat());
    let said = eve.wire.rest(PATIENCE);
    let at = said.windows(9).position(|bytes| bytes == b"\"welcome\"").expect("a welcome");
    let close =
        said.windows(4).rposition(|bytes| [bytes[0], bytes[2], bytes[3]] == [0x88, 0x03, 0xf1]).expect("a close");
    assert!(at < close && close + 2 + usize::from(said[close + 1]) == said.len(), "{said:x?}");
    // A stranger may send a hello, and nothing much larger.
    let mut eve = Talker::upgrade(Wire::plain(&server));
    eve.say_text(&" ".repeat(5000));
    assert_eq!((eve.code(), server.dropped("hello_large")), (1009, 1));
    let mut eve = Talker::upgrade(Wire::secure(&server, b"http/1.1"));
    for id in 1..=11 {
        eve.say(&json!({"kind": "ping", "id": id}));
    }
    assert_eq!((eve.answer(11)["code"].as_str(), eve.code()), (Some("resource_exhausted"), 1008));
    assert_eq!(server.dropped("hello_large"), 2);
    let mut eve = Talker::enter(Wire::plain(&server), "eve", "chat/loud");
    eve.say_binary(b"{}");
    assert_eq!(eve.code(), 1008);
    innocents.work();
}
