//! Presence from outside: two devices, a crash of none of them, and nothing for strangers.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    messenger::person::Person,
    process::{PATIENCE, Server},
    restart::client::Speech,
};

/// How long somebody whose last device has left is still there.
const GRACE: Duration = Duration::from_secs(30);

const CHEAP: [(&str, &str); 2] = [("RINGSHARD_AUTH_ARGON2_KIB", "8"), ("RINGSHARD_AUTH_ARGON2_PASSES", "1")];

/// Asks until the rate allows it.
fn ask(person: &mut Person, op: &str, body: &Value) -> Value {
    let until = Instant::now() + PATIENCE;
    loop {
        match person.ask(op, body) {
            Err(code) if code == "resource_exhausted" && Instant::now() < until => {
                thread::sleep(Duration::from_millis(100))
            }
            answer => return answer.expect("an answer"),
        }
    }
}

fn state(person: &mut Person, of: &str) -> Value {
    ask(person, "presence.get", &json!({"users": [of]}))["users"][0]["state"].clone()
}

/// Until somebody sees that: shards tell each other what is new twenty times a second.
fn comes(server: &Server, person: &mut Person, of: &str, expected: &str) {
    server.until(expected, |_| state(person, of) == expected);
}

/// They are contacts, and both homes know it.
fn befriend(server: &Server, one: (&mut Person, &str), other: (&mut Person, &str)) {
    one.0.ask("contact.request", &json!({"user": other.1})).expect("asked");
    let known = |person: &mut Person, list: &str| {
        let users = person.ask(list, &json!({})).expect("a list")["users"].clone();
        users.as_array().is_some_and(|users| users.len() == 1)
    };
    server.until("asked", |_| known(other.0, "contact.requests"));
    other.0.ask("contact.accept", &json!({"user": one.1})).expect("accepted");
    server.until("contacts", |_| known(one.0, "contact.list"));
}

#[test]
fn a_contact_hears_within_half_a_second_and_a_stranger_nothing() {
    let server = Server::start(&CHEAP);
    let mut ada = Person::register(&server, Speech::Socket, "ada");
    let mut bob = Person::register(&server, Speech::Frames, "bob");
    let mut eve = Person::register(&server, Speech::Socket, "eve");
    let mut guest = Person::guest(&server, "gast");
    befriend(&server, (&mut ada, "ada"), (&mut bob, "bob"));
    for (person, user) in [(&mut ada, "ada"), (&mut bob, "bob"), (&mut eve, "eve")] {
        person.subscribe(&format!("chat/u/{user}"), None).expect("the own one");
    }
    comes(&server, &mut bob, "ada", "online");
    let seen = ask(&mut bob, "presence.watch", &json!({}));
    assert_eq!(seen, json!({"users": [{"user": "ada", "state": "online"}], "more": false}));
    let seen = eve.ask("presence.watch", &json!({})).expect("an answer");
    assert_eq!(seen, json!({"users": [], "more": false}));
    for (person, expected) in [(&mut bob, "online"), (&mut eve, "offline")] {
        assert_eq!(state(person, "ada"), expected);
    }
    assert_eq!(state(&mut eve, "nobody"), "offline", "as one that does not exist");
    for (op, body) in [("presence.get", json!({"users": ["ada"]})), ("presence.watch", json!({}))] {
        assert_eq!(guest.ask(op, &body), Err("permission_denied".to_owned()), "{op}");
    }
    assert_eq!(eve.subscribe("chat/u/bob", None), Err("permission_denied".to_owned()));
    let told = |state: &str| [json!("chat/u/bob"), json!("ada"), json!("presence"), json!({"state": state})];
    let start = Instant::now();
    ada.ask("presence.set", &json!({"state": "away"})).expect("set");
    assert_eq!(bob.wave_heard(), told("away"));
    println!("told after {:?}", start.elapsed());
    let mut second = ada.again(&server, Speech::Frames);
    assert_eq!(bob.wave_heard(), told("online"), "her other device is not away");
    second.ask("presence.set", &json!({"state": "away"})).expect("set");
    assert_eq!(bob.wave_heard(), told("away"));
    drop(second);
    drop(ada);
    assert_eq!(state(&mut bob, "ada"), "away", "for half a minute");
    let until = Instant::now() + GRACE + PATIENCE;
    while state(&mut bob, "ada") == "away" {
        assert!(Instant::now() < until, "ada does not go");
    }
    let [_, from, key, value] = bob.wave_heard();
    assert_eq!((from, key, &value["state"]), (json!("ada"), json!("presence"), &json!("offline")));
    assert!(value["last_seen_ms"].is_u64(), "{value}");
    assert_eq!((state(&mut bob, "ada"), state(&mut eve, "ada")), (json!("offline"), json!("offline")));
    assert_eq!((eve.waves(), bob.waves()), (0, 0), "nobody was told more");
}

#[test]
fn who_is_blocked_sees_nobody() {
    let server = Server::start(&CHEAP);
    let mut ada = Person::register(&server, Speech::Frames, "ada");
    let mut bob = Person::register(&server, Speech::Socket, "bob");
    befriend(&server, (&mut ada, "ada"), (&mut bob, "bob"));
    bob.subscribe("chat/u/bob", None).expect("the own one");
    comes(&server, &mut bob, "ada", "online");
    ask(&mut bob, "presence.watch", &json!({}));
    comes(&server, &mut ada, "bob", "online");
    ada.ask("contact.block", &json!({"user": "bob"})).expect("blocked");
    let [_, from, _, value] = bob.wave_heard();
    assert_eq!((from, value), (json!("ada"), json!({"state": "offline"})), "and not when she was seen");
    assert_eq!(state(&mut bob, "ada"), "offline");
    assert_eq!(state(&mut ada, "bob"), "offline");
}
