//! A user's list of conversations: what is in it, how far it was read, and its pages.

use std::{cell::Cell, collections::BTreeMap};

use bytes::Bytes;
use chat::{
    Facts, Who, apply,
    directory::{CONVERSATIONS_MAX, Cursor, Decision, Entry, Last, Letter, Op, Recent, decide, page, receive},
};
use handler::Code;
use rand::{Rng, SeedableRng, rngs::StdRng, seq::SliceRandom};
use serde_json::{Value, json};

#[derive(Default)]
struct Home {
    facts: BTreeMap<String, Bytes>,
}

impl Home {
    fn hear(&mut self, letter: &Letter) -> Result<Decision, Code> {
        let decision = receive(&self.facts, "ada", 9, letter).map_err(|why| why.code)?;
        apply(&mut self.facts, &decision.changes);
        Ok(decision)
    }

    fn listed(&mut self, topic: &str, at_ms: u64, offset: u64) -> Result<Decision, Code> {
        self.hear(&Letter::Listed { topic: topic.to_owned(), at_ms, offset, by: None })
    }

    fn marked(&mut self, topic: &str, delivered: u64, read: u64) -> Result<Decision, Code> {
        self.hear(&Letter::Marked { topic: topic.to_owned(), delivered, read })
    }

    fn ask(&mut self, op: &str, body: Value) -> Result<Decision, Code> {
        let op = Op::read(op, body.to_string().as_bytes()).expect("an operation").expect("well written");
        let who = Who { user: "ada", guest: false };
        let decision = decide(&self.facts, &who, 9, &|_| true, &op).map_err(|why| why.code)?;
        apply(&mut self.facts, &decision.changes);
        Ok(decision)
    }

    fn entry(&self, topic: &str) -> Option<Entry> {
        let fact = self.facts.get(&format!("u/ada/c/{topic}"))?;
        Some(serde_json::from_slice(fact).expect("an entry"))
    }

    fn marks(&self, topic: &str) -> Option<(u64, u64)> {
        self.entry(topic).map(|entry| (entry.delivered, entry.read))
    }
}

#[test]
fn a_conversation_is_listed_read_left_and_joined_again() {
    let mut home = Home::default();
    let topic = "chat/g/1";
    let listed = home.listed(topic, 5, 40).expect("listed");
    assert_eq!(
        listed.notices,
        [r#"{"type":"conversation","topic":"chat/g/1","entry":{"joined_ms":5,"read":40,"delivered":40}}"#]
    );
    assert_eq!(home.listed(topic, 6, 50).map(|again| again.changes), Ok(vec![]));
    home.marked(topic, 45, 42).expect("marked");
    home.marked(topic, 41, 41).expect("late");
    assert_eq!(home.marks(topic), Some((45, 42)));
    home.marked(topic, 0, 50).expect("what was seen has arrived");
    assert_eq!(home.marks(topic), Some((50, 50)));
    assert_eq!(home.marked("chat/g/2", 5, 5).map(|unknown| unknown.changes), Ok(vec![]));

    home.ask("inbox.set", json!({"topic": topic, "pinned": true})).expect("pinned");
    home.ask("inbox.set", json!({"topic": topic, "muted": true})).expect("muted");
    assert_eq!(home.entry(topic).map(|entry| (entry.pinned, entry.muted)), Some((true, true)));
    assert_eq!(home.ask("inbox.set", json!({"topic": "chat/g/2"})), Err(Code::NotFound));

    home.hear(&Letter::Unlisted { topic: topic.to_owned(), at_ms: 7 }).expect("left");
    home.hear(&Letter::Unlisted { topic: topic.to_owned(), at_ms: 8 }).expect("twice");
    assert_eq!(home.entry(topic).and_then(|entry| entry.left_ms), Some(7));
    home.listed(topic, 9, 70).expect("back");
    let new = Entry { joined_ms: 9, read: 70, delivered: 70, muted: false, pinned: false, left_ms: None };
    assert_eq!(home.entry(topic), Some(new));
    let forgotten = home.ask("inbox.forget", json!({"topic": topic})).expect("forgotten");
    assert_eq!(forgotten.notices, [r#"{"type":"conversation","topic":"chat/g/1"}"#]);
    assert!(home.facts.is_empty(), "also none that counts");
    assert_eq!(home.ask("inbox.forget", json!({"topic": topic})).map(|again| again.notices), Ok(vec![]));
}

#[test]
fn a_full_list_gives_up_what_was_left_and_what_comes_back_by_itself() {
    let mut home = Home::default();
    for n in 0..CONVERSATIONS_MAX {
        let topic = if n < 200 { format!("chat/d/ada~u{n}") } else { format!("chat/g/{n}") };
        home.listed(&topic, n as u64, 0).expect("room");
    }
    home.ask("inbox.set", json!({"topic": "chat/d/ada~u0", "pinned": true})).expect("pinned");
    for n in [9_007, 9_008, 9_009] {
        home.hear(&Letter::Unlisted { topic: format!("chat/g/{n}"), at_ms: 90_000 - n }).expect("left");
    }
    let come = home.listed("chat/g/last", 100_000, 0).expect("there is always room");
    // Those that were left, last to first, then those of two, the oldest first, but not what is pinned.
    let expected = [9_009, 9_008, 9_007].map(|n| format!("chat/g/{n}"));
    assert_eq!(come.unlisted[..3], expected);
    assert_eq!(come.unlisted[3..], (1..98).map(|n| format!("chat/d/ada~u{n}")).collect::<Vec<_>>());
    assert_eq!(come.notices.len(), 101, "the devices hear of each");
    assert_eq!(home.facts.len(), CONVERSATIONS_MAX - 100 + 1 + 1, "and one that counts");
    assert!(home.entry("chat/g/last").is_some() && home.entry("chat/d/ada~u0").is_some());
}

/// Facts that count how many were looked at.
struct Counting<'a>(&'a BTreeMap<String, Bytes>, Cell<u64>);

impl Facts for Counting<'_> {
    fn get(&self, key: &str) -> Option<&[u8]> {
        Facts::get(self.0, key)
    }

    fn range<'f>(&'f self, prefix: &str, after: Option<&str>) -> impl Iterator<Item = (&'f str, &'f [u8])> {
        Facts::range(self.0, prefix, after).inspect(|_| self.1.set(self.1.get() + 1))
    }
}

#[test]
fn a_full_list_is_not_searched_for_each_conversation_that_comes() {
    let mut facts = BTreeMap::new();
    let mut looks = 0;
    for n in 0..CONVERSATIONS_MAX + 500 {
        let counting = Counting(&facts, Cell::new(0));
        let letter = Letter::Listed { topic: format!("chat/g/{n}"), at_ms: n as u64, offset: 0, by: None };
        let decision = receive(&counting, "ada", 9, &letter).expect("there is always room");
        looks += counting.1.get();
        apply(&mut facts, &decision.changes);
    }
    assert!(looks <= 5 * CONVERSATIONS_MAX as u64, "{looks} facts were looked at");
    assert!(facts.contains_key("u/ada/c/chat/g/10499") && !facts.contains_key("u/ada/c/chat/g/499"));
    assert!(facts.contains_key("u/ada/c/chat/g/500"));
}

fn recent(topic: &str, last_at_ms: u64) -> Recent {
    let topic = topic.to_owned();
    Recent {
        topic,
        name: None,
        head: 0,
        read: 0,
        own: 0,
        last_at_ms,
        last: None,
        muted: false,
        pinned: false,
        left: false,
    }
}

#[test]
fn a_line_says_what_is_new() {
    let last = Last::of(9, "bob", br#"{"type":"image","file":{"name":"cat.png"},"text":"look \u263a"}"#);
    let line = Recent { head: 9, read: 7, last: Some(last), pinned: true, ..recent("chat/d/ada~bob", 5) };
    let answer = page([line, recent("chat/lobby", 3)], None, 1).expect("a page").answer();
    let answer: Value = serde_json::from_slice(&answer).expect("JSON");
    let line = json!({
        "topic": "chat/d/ada~bob", "head": 9, "unread": 2, "last_at_ms": 5, "muted": false, "pinned": true, "left": false,
        "last": {"offset": 9, "from": "bob", "type": "image", "text": "look ☺"},
    });
    assert_eq!(answer, json!({"conversations": [line], "next": "0.5.chat/d/ada~bob"}));
    assert_eq!(Recent { head: 9, read: 4, own: 2, ..recent("x", 0) }.unread(), 3, "one's own are not");
    assert_eq!(Recent { head: 3, read: 7, ..recent("x", 0) }.unread(), 0, "a history that starts anew");
    assert_eq!(Recent { head: 9, left: true, ..recent("x", 0) }.unread(), 0);
    let long = format!(r#"{{"type":"text","text":"{}"}}"#, "é".repeat(5_000));
    assert_eq!(Last::of(1, "bob", long.as_bytes()).text, "é".repeat(100));
    let event = Last::of(1, "bob", br#"{"type":"system","event":"joined","user":"bob","by":"bob"}"#);
    assert_eq!((event.kind.as_str(), event.text.as_str()), ("system", "joined"));
    assert_eq!(Last::of(1, "bob", b"7").kind, "unknown");
    for bad in ["", "1", "2.3.x", "1.x.y", "1.-3.y"] {
        assert!(bad.parse::<Cursor>().is_err(), "{bad}");
    }
}

#[test]
fn pages_show_every_conversation_once_and_the_newest_first() {
    for seed in 0..200 {
        let mut rng = StdRng::seed_from_u64(seed);
        let count = rng.random_range(0..300);
        let mut entries: Vec<Recent> = (0..count)
            .map(|n| {
                let last =
                    Some(Last { offset: 1, from: "b".repeat(64), kind: "text".into(), text: "\u{1}".repeat(100) });
                let pinned = rng.random_bool(0.1);
                Recent { pinned, last, ..recent(&format!("chat/g/{n}"), rng.random_range(0..50)) }
            })
            .collect();
        let limit = rng.random_range(1..=200);
        let (mut cursor, mut seen) = (None::<Cursor>, Vec::new());
        loop {
            entries.shuffle(&mut rng);
            let page = page(entries.clone(), cursor.as_ref(), limit).expect("a page");
            assert!(page.conversations.len() <= limit, "seed {seed}");
            assert!(page.answer().len() <= topic::BODY_BYTES_MAX, "seed {seed}");
            seen.extend(page.conversations);
            let Some(next) = page.next else { break };
            cursor = Some(next.to_string().parse().expect("it was written by us"));
        }
        entries.sort_by(|a, b| {
            let key = |entry: &Recent| (!entry.pinned, std::cmp::Reverse(entry.last_at_ms), entry.topic.clone());
            key(a).cmp(&key(b))
        });
        assert_eq!(seen, entries, "seed {seed}");
    }
    assert!(page([], None, 0).is_err() && page([], None, 201).is_err());
}
