//! Two people in a room.

use handler::{Code, Message, Push};
use serde_json::{Value, json};

use crate::shard::{Shard, refusal};

const LOBBY: &str = "chat/lobby";

fn text(text: &str) -> Vec<u8> {
    json!({"type": "text", "text": text}).to_string().into_bytes()
}

fn publish(body: &[u8]) -> Message<'_> {
    Message::Pub { id: 4, topic: LOBBY, seq: None, body }
}

fn subscribe(topic: &str) -> Message<'_> {
    Message::Sub { id: 2, topic, epoch: None, after: None }
}

#[test]
fn two_people_talk() {
    let mut shard = Shard::new();
    let (ada, bob) = (shard.open(0, "ada"), shard.open(1, "bob"));
    for peer in [ada, bob] {
        assert!(matches!(shard.say(peer, subscribe(LOBBY))[0], Push::SubOk { id: 2, head: 0, .. }));
    }
    let body = text("hello \"bob\"\n😀");
    let told = shard.say(ada, publish(&body));
    assert!(told.iter().any(|push| matches!(push, Push::PubOk { id: 4, offset: 1, .. })));
    let heard = shard.told.iter().find_map(|(peer, push)| match push {
        Push::Msg { from, body, offset: 1, at_ms: 5, .. } if *peer == bob => Some((from.to_string(), body.clone())),
        _ => None,
    });
    assert_eq!(heard, Some(("ada".to_owned(), body.into())));
    shard.told.clear();
    assert!(shard.say(bob, Message::Eph { topic: LOBBY, key: "typing", body: b"{\"on\":true}" }).is_empty());
    assert!(matches!(&shard.told[..], [(peer, Push::Eph { .. })] if *peer == ada));
}

#[test]
fn what_makes_no_sense_is_refused() {
    let mut shard = Shard::new();
    let ada = shard.open(0, "ada");
    let bad = Some((Some(4), Code::InvalidArgument));
    for body in [&b"{}"[..], b"", b"hi", &text(""), &text(&"x".repeat(5_001)), b"{\"type\":\"image\",\"text\":\"x\"}"] {
        assert_eq!(refusal(&shard.say(ada, publish(body))), bad, "{}", String::from_utf8_lossy(body));
    }
    for topic in ["canvas/lobby", "lobby", "chat/", "chat/A", "chat/a/b", "chat/\u{0}"] {
        let told = shard.say(ada, Message::Pub { id: 4, topic, seq: None, body: &text("x") });
        assert_eq!(refusal(&told), bad, "{topic}");
        assert_eq!(refusal(&shard.say(ada, subscribe(topic))), Some((Some(2), Code::InvalidArgument)), "{topic}");
    }
    shard.say(ada, subscribe(LOBBY));
    for body in [&b""[..], b"7", b"{", b"[]"] {
        let told = shard.say(ada, Message::Eph { topic: LOBBY, key: "typing", body });
        assert_eq!(refusal(&told), Some((None, Code::InvalidArgument)));
    }
}

#[test]
fn the_history_comes_in_pages() {
    let mut shard = Shard::new();
    let ada = shard.open(0, "ada \"the\" first");
    let long = "\u{1}".repeat(1_000);
    for n in 0..30 {
        shard.say(ada, publish(&text(&format!("{n}{long}"))));
    }
    let mut ask = |body: Value| -> Value {
        let body = body.to_string();
        let told = shard.say(ada, Message::Req { id: 7, op: "chat.history", body: body.as_bytes() });
        let [Push::Res { id: 7, body }] = &told[..] else { panic!("{told:?}") };
        assert!(body.len() < 64 * 1024, "an answer fits a frame");
        serde_json::from_slice(body).expect("JSON")
    };
    let offsets = |page: &Value| -> Vec<u64> {
        let messages = page["messages"].as_array().expect("a list");
        messages.iter().map(|message| message["offset"].as_u64().expect("a number")).collect()
    };
    let page = ask(json!({"topic": LOBBY, "limit": 3}));
    assert_eq!(offsets(&page), [28, 29, 30]);
    assert_eq!((&page["topic"], &page["head"], &page["more"]), (&json!(LOBBY), &json!(30), &json!(true)));
    assert_eq!(page["messages"][2]["from"], "ada \"the\" first");
    assert_eq!(page["messages"][2]["body"], json!({"type": "text", "text": format!("29{long}")}));
    assert_eq!(page["epoch"].as_str().map(str::len), Some(16));
    assert_eq!(offsets(&ask(json!({"topic": LOBBY, "before": 4}))), [1, 2, 3]);
    let (mut before, mut seen) = (31, Vec::new());
    while before > 1 {
        let page = ask(json!({"topic": LOBBY, "before": before}));
        let mut page = offsets(&page);
        before = page[0];
        page.append(&mut seen);
        seen = page;
    }
    assert_eq!(seen, (1..=30).collect::<Vec<_>>());
    let none = ask(json!({"topic": "chat/nobody"}));
    assert_eq!((offsets(&none), &none["more"], &none["head"]), (vec![], &json!(false), &json!(0)));
    assert_eq!(offsets(&ask(json!({"topic": LOBBY, "before": 0}))), [0_u64; 0]);
    assert_eq!(offsets(&ask(json!({"topic": LOBBY, "before": u64::MAX, "limit": 1}))), [30]);
}

#[test]
fn a_bad_operation_is_answered() {
    let mut shard = Shard::new();
    let ada = shard.open(0, "ada");
    let mut ask = |op: &str, body: &str| {
        refusal(&shard.say(ada, Message::Req { id: 7, op, body: body.as_bytes() })).map(|(id, code)| {
            assert_eq!(id, Some(7));
            code
        })
    };
    assert_eq!(ask("chat.dance", "{}"), Some(Code::Unimplemented));
    let bad = [
        "",
        "{}",
        "[]",
        r#"{"topic":"canvas/x"}"#,
        r#"{"topic":7}"#,
        r#"{"topic":"chat/a","limit":0}"#,
        r#"{"topic":"chat/a","limit":101}"#,
        r#"{"topic":"chat/a","before":-1}"#,
        r#"{"topic":"chat/a","what":1}"#,
    ];
    for body in bad {
        assert_eq!(ask("chat.history", body), Some(Code::InvalidArgument), "{body}");
    }
}
