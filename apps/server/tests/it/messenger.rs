//! The messenger from outside: accounts by HTTP, sessions over WebSocket and in frames, and a crash in between.

pub(crate) mod person;

use std::{fs, process::Command};

use serde_json::{Value, json};

use self::person::Person;
use crate::{process::Server, restart::client::Speech};

/// Hashing a password is not what these tests are about.
const CHEAP: [(&str, &str); 2] = [("RINGSHARD_AUTH_ARGON2_KIB", "8"), ("RINGSHARD_AUTH_ARGON2_PASSES", "1")];

const DENIED: &str = "permission_denied";

fn start(settings: &[(&str, &str)]) -> Server {
    Server::start(&[&CHEAP, settings].concat())
}

fn text(text: &str) -> Value {
    json!({"type": "text", "text": text})
}

/// Makes a group of two who are contacts before.
fn create(server: &Server, person: &mut Person, other: &mut Person) -> String {
    person.ask("contact.request", &json!({"user": other.name})).expect("asked");
    // The request goes to the home of the other one, its answer to that of the first.
    server.until("asked", |_| other.ask("contact.accept", &json!({"user": person.name})).is_ok());
    server.until("contacts", |_| person.ask("contact.list", &json!({})).expect("a list")["users"] != json!([]));
    let made = person.ask("chat.create", &json!({"name": "us", "users": [other.name]})).expect("made");
    assert_eq!(made.get("invited"), None);
    made["topic"].as_str().expect("a topic").to_owned()
}

/// Whether a journal has this in a record about a topic. A batch that is being written is not taken for one.
fn has_on_disk(server: &Server, topic: &str, text: &str) -> bool {
    let mut inspect = Command::new(env!("CARGO_BIN_EXE_ringshard"));
    inspect.args(["journal", "inspect"]).arg(server.data()).args(["--running", "--records", "--topic", topic]);
    let output = inspect.output().expect("it runs");
    String::from_utf8_lossy(&output.stdout).contains(text)
}

/// What somebody may not do who does not take part.
fn is_kept_out(person: &mut Person, topic: &str) {
    assert_eq!(person.subscribe(topic, Some(0)).expect_err("refused"), DENIED);
    assert_eq!(person.publish(topic, &text("x")).expect_err("refused"), DENIED);
    for (op, body) in [
        ("chat.history", json!({"topic": topic})),
        ("chat.marks", json!({"topic": topic})),
        ("inbox.read", json!({"topic": topic, "read": 1})),
    ] {
        assert_eq!(person.ask(op, &body).expect_err("refused"), DENIED, "{op}");
    }
    person.wave(topic, "typing");
    person.acknowledge(topic, 1);
    assert_eq!(person.error(), "failed_precondition", "who does not listen sends no ephemeral values");
}

#[test]
fn a_group_lives_from_its_making_to_the_last_member() {
    let server = start(&[]);
    let mut ada = Person::register(&server, Speech::Socket, "ada");
    let mut bob = Person::register(&server, Speech::Frames, "bob");
    let mut eve = Person::register(&server, Speech::Socket, "eve");
    let topic = create(&server, &mut ada, &mut bob);
    for member in [&mut ada, &mut bob] {
        assert_eq!(member.subscribe(&topic, Some(0)), Ok(1));
        assert_eq!(member.hear(&topic)["event"], "created");
    }
    is_kept_out(&mut eve, &topic);
    assert_eq!(bob.publish(&topic, &text("hi")), Ok(2));
    assert_eq!(ada.hear(&topic), text("hi"));
    assert_eq!(bob.ask("chat.invite", &json!({"topic": topic, "users": ["eve"]})), Err(DENIED.to_owned()));
    let invited = ada.ask("chat.invite", &json!({"topic": topic, "users": ["eve"]})).expect("invited");
    assert_eq!(invited, json!({"invited": ["eve"]}));
    is_kept_out(&mut eve, &topic);
    server.until("asked", |_| {
        let invitations = eve.ask("inbox.invitations", &json!({})).expect("a list");
        invitations["invitations"][0]["topic"] == json!(topic)
    });
    eve.ask("chat.join", &json!({"topic": topic})).expect("she was asked");
    assert_eq!(ada.hear(&topic)["event"], "joined");
    assert_eq!(eve.subscribe(&topic, None), Ok(3));
    let until_ms = 4_000_000_000_000_u64;
    ada.ask("chat.mute", &json!({"topic": topic, "user": "eve", "until_ms": until_ms})).expect("muted");
    assert_eq!(eve.publish(&topic, &text("x")), Err(DENIED.to_owned()));
    ada.ask("chat.role", &json!({"topic": topic, "user": "bob", "role": "admin"})).expect("an admin");
    bob.ask("chat.ban", &json!({"topic": topic, "user": "eve"})).expect("banned");
    assert!(ada.publish(&topic, &text("without eve")).is_ok());
    is_kept_out(&mut eve, &topic);
    assert!(!eve.has_heard("without eve"));
    let members = ada.ask("chat.members", &json!({"topic": topic})).expect("a list");
    let roles: Vec<_> = members["members"].as_array().expect("a list").iter().map(|member| &member["role"]).collect();
    assert_eq!(roles, ["owner", "admin"]);
    ada.ask("chat.leave", &json!({"topic": topic})).expect("left");
    let info = bob.ask("chat.info", &json!({"topic": topic})).expect("a member");
    assert_eq!(info["owner"], "bob", "the admin is next");
    bob.ask("chat.leave", &json!({"topic": topic})).expect("left");
    assert_eq!(bob.ask("chat.info", &json!({"topic": topic})), Err("not_found".to_owned()));
}

#[test]
fn a_direct_message_reaches_all_devices_of_two_users_and_nobody_else() {
    let server = start(&[]);
    let mut phone = Person::register(&server, Speech::Socket, "Ada");
    let mut laptop = phone.again(&server, Speech::Frames);
    let mut bob = Person::register(&server, Speech::Socket, "bob");
    let mut eve = Person::register(&server, Speech::Frames, "eve");
    let mut guest = Person::guest(&server, "gast");
    let topic = "chat/d/~.0021.da~bob";
    for person in [&mut phone, &mut laptop, &mut bob] {
        assert_eq!(person.subscribe(topic, None), Ok(0));
    }
    bob.subscribe("chat/u/bob", Some(0)).expect("the own one");
    is_kept_out(&mut eve, topic);
    is_kept_out(&mut guest, topic);
    assert_eq!(eve.subscribe("chat/u/bob", Some(0)), Err(DENIED.to_owned()));
    assert_eq!(phone.publish(topic, &text("for bob")), Ok(1));
    for person in [&mut laptop, &mut bob] {
        assert_eq!(person.hear(topic), text("for bob"));
    }
    assert_eq!(bob.hear("chat/u/bob")["topic"], topic);
    assert!(!eve.has_heard("for bob") && !guest.has_heard("for bob"));
    bob.ask("contact.block", &json!({"user": "Ada"})).expect("blocked");
    // The conversation's home hears of it from bob's home.
    server.until("blocked", |_| phone.publish(topic, &text("more")) == Err(DENIED.to_owned()));
    assert_eq!(phone.publish("chat/d/~.0021.da~nobody", &text("x")), Err("not_found".to_owned()));
    assert_eq!(phone.ask("chat.search", &json!({"prefix": "BO"})), Ok(json!({"users": ["bob"]})));
}

#[test]
fn lists_and_contacts_survive_a_crash() {
    let server = start(&[]);
    let mut ada = Person::register(&server, Speech::Socket, "ada");
    let mut bob = Person::register(&server, Speech::Socket, "bob");
    let mut eve = Person::register(&server, Speech::Socket, "eve");
    let topic = create(&server, &mut ada, &mut bob);
    (0..3).for_each(|n| assert!(ada.publish(&topic, &text(&n.to_string())).is_ok()));
    eve.ask("contact.request", &json!({"user": "ada", "text": "it is me"})).expect("asked");
    server.until("listed", |_| bob.list().len() == 1);
    bob.ask("inbox.read", &json!({"topic": topic, "read": 2})).expect("read");
    assert_eq!(bob.list()[0]["unread"], 2);
    server.until("there", |_| {
        let requests = ada.ask("contact.requests", &json!({})).expect("a list");
        requests["users"].as_array().is_some_and(|users| users.len() == 1)
    });
    // Marks are on disk a while after they have risen.
    server.until("on disk", |server| has_on_disk(server, &topic, "\"key\":\"mark/bob\""));
    let mut server = server;
    server.signal("KILL");
    server.ended(crate::process::PATIENCE);
    let server = server.next(&CHEAP);
    let (mut ada, mut bob) = (ada.again(&server, Speech::Socket), bob.again(&server, Speech::Frames));
    let mut eve = eve.again(&server, Speech::Socket);
    let line = bob.list().remove(0);
    assert_eq!((&line["topic"], &line["head"], &line["unread"]), (&json!(topic), &json!(4), &json!(2)));
    assert_eq!((&line["last"]["text"], &line["last"]["from"]), (&json!("2"), &json!("ada")));
    assert_eq!(line["name"], "us", "what the group is called");
    ada.ask("contact.accept", &json!({"user": "eve"})).expect("accepted");
    server.until("contacts", |_| {
        let contacts = eve.ask("contact.list", &json!({})).expect("a list");
        contacts["users"][0]["user"] == "ada"
    });
}

#[test]
fn what_was_read_just_before_a_stop_stays_read() {
    let mut server = start(&[]);
    let mut ada = Person::register(&server, Speech::Socket, "ada");
    let mut bob = Person::register(&server, Speech::Socket, "bob");
    let topic = create(&server, &mut ada, &mut bob);
    (0..3).for_each(|n| assert!(ada.publish(&topic, &text(&n.to_string())).is_ok()));
    server.until("listed", |_| bob.list().first().is_some_and(|line| line["unread"] == 4));
    bob.ask("inbox.read", &json!({"topic": topic, "read": 3})).expect("read");
    server.signal("TERM");
    server.ended(crate::process::PATIENCE);
    let server = server.next(&CHEAP);
    assert_eq!(bob.again(&server, Speech::Socket).list()[0]["unread"], 1);
}

#[test]
fn messages_are_edited_recalled_and_masked() {
    let folder = tempfile::tempdir().expect("a folder");
    let words = folder.path().join("words");
    fs::write(&words, "darn\n").expect("written");
    let server = start(&[("RINGSHARD_CHAT_WORDS", words.to_str().expect("a path"))]);
    let mut ada = Person::register(&server, Speech::Socket, "ada");
    let mut bob = Person::register(&server, Speech::Frames, "bob");
    let topic = create(&server, &mut ada, &mut bob);
    bob.subscribe(&topic, None).expect("a member");
    assert_eq!(ada.publish(&topic, &text("darn \"it\"")), Ok(2));
    assert_eq!(bob.hear(&topic), text("**** \"it\""));
    let edit = json!({"type": "edit", "offset": 2, "text": "better"});
    assert_eq!(bob.publish(&topic, &edit), Err(DENIED.to_owned()));
    assert_eq!(ada.publish(&topic, &edit), Ok(3));
    assert_eq!(ada.publish(&topic, &json!({"type": "recall", "offset": 2})), Ok(4));
    assert_eq!(ada.publish(&topic, &edit), Err("failed_precondition".to_owned()));
    fs::write(&words, "worse\treject\n").expect("written");
    server.signal("HUP");
    server.until("reloaded", |_| ada.publish("chat/lobby", &text("it is worse")) == Err(DENIED.to_owned()));
    assert!(ada.publish(&topic, &text("darn")).is_ok());
}

#[test]
fn a_user_publishes_so_much_a_minute_with_all_its_sessions_on_a_shard() {
    let server = start(&[("RINGSHARD_CHAT_RATE_MIN", "5"), ("RINGSHARD_SERVER_SHARDS", "1")]);
    let mut phone = Person::register(&server, Speech::Socket, "ada");
    let mut laptop = phone.again(&server, Speech::Frames);
    (0..3).for_each(|_| assert!(phone.publish("chat/lobby", &text("x")).is_ok()));
    (0..2).for_each(|_| assert!(laptop.publish("chat/lobby", &text("x")).is_ok()));
    assert_eq!(phone.publish("chat/lobby", &text("x")), Err("resource_exhausted".to_owned()));
    let mut bob = Person::register(&server, Speech::Socket, "bob");
    assert!(bob.publish("chat/lobby", &text("x")).is_ok());
}

#[test]
fn only_a_token_with_that_capability_pushes() {
    let server = start(&[]);
    let mut ada = Person::register(&server, Speech::Socket, "ada");
    let mut program = Person::program(&server, "hawos", &["chat.*", "chat.push"]);
    let push = json!({"target": {"users": ["ada"]}, "body": text("for you")});
    assert_eq!(ada.ask("chat.push", &push), Err(DENIED.to_owned()));
    for person in [&mut ada, &mut program] {
        assert_eq!(person.subscribe("chat/audit", Some(0)), Err(DENIED.to_owned()));
        assert_eq!(person.ask("chat.history", &json!({"topic": "chat/audit"})), Err(DENIED.to_owned()));
    }
    let mut auditor = Person::program(&server, "auditor", &["chat/audit"]);
    assert_eq!(auditor.subscribe("chat/audit", Some(0)), Ok(0));
    ada.subscribe("chat/u/ada", None).expect("the own one");
    assert_eq!(program.ask("chat.push", &push), Ok(json!({"results": [{"target": "ada", "ok": true}]})));
    assert_eq!(ada.hear("chat/u/ada"), text("for you"));
}
