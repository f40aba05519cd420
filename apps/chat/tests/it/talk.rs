//! A messenger at work on three shards: groups, two users alone, several devices, lists and ticks.

use std::sync::Arc;

use chat::{
    Settings, WordList,
    conversation::{Conversation, personal as personal_topic},
    rate::Rates,
};
use handler::{Code, Message, Push};
use serde_json::{Value, json};

use crate::world::{Heard, World};

const USERS: [&str; 4] = ["ada", "bob", "eve", "Zoë"];
const DENIED: Option<Code> = Some(Code::PermissionDenied);

/// A story is told with a journal and without one, in several orders of events.
fn tell(story: impl Fn(&mut World)) {
    for seed in 0..20 {
        for durable in [true, false] {
            println!("seed {seed}, durable {durable}");
            story(&mut World::new(seed, durable, &USERS));
        }
    }
}

fn text(text: &str) -> Value {
    json!({"type": "text", "text": text})
}

fn create(world: &mut World, (client, user): (usize, &str), users: &[&str]) -> String {
    users.iter().for_each(|other| world.befriend(user, other));
    let made = world.ask(client, "chat.create", json!({"name": "us", "users": users})).expect("made");
    made["topic"].as_str().expect("a topic").to_owned()
}

fn bodies(heard: &[Heard]) -> Vec<&Value> {
    heard.iter().map(|(.., body)| body).collect()
}

/// What somebody may not do who does not take part.
fn is_kept_out(world: &mut World, client: usize, topic: &str) {
    assert_eq!(world.subscribe(client, topic, Some(0)).err(), DENIED);
    assert_eq!(world.publish(client, topic, text("x")).err(), DENIED);
    assert_eq!(world.ask(client, "chat.history", json!({"topic": topic})).err(), DENIED);
    assert_eq!(world.ask(client, "chat.marks", json!({"topic": topic})).err(), DENIED);
    assert_eq!(world.ask(client, "inbox.read", json!({"topic": topic, "read": 1})).err(), DENIED);
    world.told(client);
    let name: &'static str = String::leak(topic.to_owned());
    world.say(client, |_| Message::Eph { topic: name, key: "typing", body: b"{}" });
    world.say(client, |_| Message::Ack { topic: name, delivered: 1, read: 1 });
    world.later(1_000);
    assert!(matches!(world.told(client)[..], [Push::Err { id: None, .. }]), "the value is refused, the marks ignored");
}

#[test]
fn a_group_is_for_its_members() {
    tell(|world| {
        let [ada, bob, eve] = ["ada", "bob", "eve"].map(|user| world.enter(user));
        let topic = create(world, (ada, "ada"), &["bob"]);
        assert_eq!(topic.len(), "chat/g/".len() + 24);
        for member in [ada, bob] {
            assert_eq!(world.subscribe(member, &topic, Some(0)), Ok(1));
            let (_, _, from, body) = world.heard(member).remove(0);
            assert_eq!((from.as_str(), &body["event"], &body["by"]), ("", &json!("created"), &json!("ada")));
        }
        is_kept_out(world, eve, &topic);
        assert_eq!(world.publish(bob, &topic, text("hi")), Ok(2));
        assert_eq!(bodies(&world.heard(ada)), [&text("hi")]);
        assert_eq!(world.ask(bob, "chat.invite", json!({"topic": topic, "users": ["eve"]})).err(), DENIED);
        let unknown = world.ask(ada, "chat.invite", json!({"topic": topic, "users": ["nobody"]}));
        assert_eq!(unknown.err(), Some(Code::NotFound));
        world.ask(ada, "chat.invite", json!({"topic": topic, "users": ["eve"]})).expect("invited");
        is_kept_out(world, eve, &topic);
        world.ask(eve, "chat.join", json!({"topic": topic})).expect("asked");
        assert_eq!(world.subscribe(eve, &topic, Some(0)), Ok(3));
        assert_eq!(world.heard(eve).len(), 3, "what came before may be read");
        let until_ms = world.wall_ms + 5_000;
        world.ask(ada, "chat.mute", json!({"topic": topic, "user": "eve", "until_ms": until_ms})).expect("muted");
        let muted = world.publish_seq(eve, &topic, None, text("x"));
        assert_eq!(muted.err(), Some((Code::PermissionDenied, Some(5_000))));
        world.later(6_000);
        assert!(world.publish(eve, &topic, text("x")).is_ok());
        world.ask(ada, "chat.role", json!({"topic": topic, "user": "bob", "role": "admin"})).expect("an admin");
        world.ask(bob, "chat.ban", json!({"topic": topic, "user": "eve"})).expect("banned");
        let told = world.told(eve);
        assert!(told.iter().any(|push| matches!(push, Push::Err { id: None, code: Code::PermissionDenied, .. })));
        assert!(world.publish(ada, &topic, text("without eve")).is_ok());
        assert!(world.heard(eve).is_empty());
        is_kept_out(world, eve, &topic);
        world.ask(bob, "chat.leave", json!({"topic": topic})).expect("left");
        is_kept_out(world, bob, &topic);
    });
}

#[test]
fn nobody_takes_part_who_was_not_asked_or_has_blocked_who_asks() {
    tell(|world| {
        let [ada, bob, eve] = ["ada", "bob", "eve"].map(|user| world.enter(user));
        world.ask(eve, "contact.block", json!({"user": "ada"})).expect("blocked");
        world.subscribe(bob, "chat/u/bob", None).expect("the own one");
        let made = world.ask(ada, "chat.create", json!({"name": "us", "users": ["bob", "eve"]})).expect("made");
        assert_eq!(made["invited"], json!(["bob", "eve"]), "who has blocked looks like who has not answered");
        let topic = made["topic"].as_str().expect("a topic");
        let (by, at_ms) = ("ada", world.wall_ms);
        let line = json!({"topic": topic, "by": by, "name": "us", "at_ms": at_ms});
        let mut notice = line.clone();
        notice["type"] = json!("invitation");
        assert_eq!(bodies(&world.heard(bob)), [&notice]);
        let invitations =
            |world: &mut World, client| world.ask(client, "inbox.invitations", json!({})).expect("a list");
        assert_eq!(invitations(world, bob), json!({"more": false, "invitations": [line]}));
        assert_eq!(invitations(world, eve)["invitations"], json!([]));
        for client in [bob, eve] {
            assert_eq!(world.ask(client, "inbox.list", json!({})).expect("a list")["conversations"], json!([]));
        }
        let again = world.ask(ada, "chat.invite", json!({"topic": topic, "users": ["bob", "eve"]}));
        assert_eq!(again, Ok(json!({"invited": ["bob", "eve"]})));
        world.ask(bob, "chat.decline", json!({"topic": topic})).expect("asked");
        assert_eq!(invitations(world, bob)["invitations"], json!([]));
        assert_eq!(world.subscribe(bob, topic, None).err(), DENIED);
        world.ask(ada, "chat.invite", json!({"topic": topic, "users": ["bob"]})).expect("asked again");
        world.ask(bob, "chat.join", json!({"topic": topic})).expect("yes");
        assert_eq!(invitations(world, bob)["invitations"], json!([]));
        assert_eq!(world.ask(bob, "inbox.list", json!({})).expect("a list")["conversations"][0]["topic"], json!(topic));
        let other = world.ask(bob, "chat.create", json!({"name": "x", "users": ["eve"]})).expect("made");
        assert_eq!(invitations(world, eve)["invitations"][0]["topic"], other["topic"]);
        world.ask(eve, "contact.block", json!({"user": "bob"})).expect("blocked");
        assert_eq!(invitations(world, eve)["invitations"], json!([]));
        let blocked = world.ask(eve, "chat.create", json!({"name": "x", "users": ["bob"]}));
        assert_eq!(blocked.err(), Some(Code::FailedPrecondition));
    });
}

#[test]
fn a_block_wins_over_a_contact_that_still_seems_to_be_one() {
    let mut raced = 0;
    for seed in 0..200 {
        println!("seed {seed}");
        let mut world = World::new(seed, seed % 2 == 0, &USERS);
        let [ada, eve] = ["ada", "eve"].map(|user| world.enter(user));
        world.befriend("ada", "eve");
        let block = world.start_ask(eve, "contact.block", json!({"user": "ada"}));
        while !world.is_answered(eve, block) {
            world.step();
        }
        let made = world.ask(ada, "chat.create", json!({"name": "us", "users": ["eve"]})).expect("made");
        raced += u32::from(made.get("invited").is_none());
        let members = world.ask(ada, "chat.members", json!({"topic": made["topic"]})).expect("a member");
        assert_eq!(members["count"], json!(1));
        assert_eq!(world.ask(eve, "inbox.list", json!({})).expect("a list")["conversations"], json!([]));
    }
    assert!(raced > 1, "the home of ada took eve for a contact {raced} times");
}

#[test]
fn what_is_said_after_a_removal_is_not_heard_even_in_the_same_moment() {
    for seed in 0..100 {
        println!("seed {seed}");
        let mut world = World::new(seed, seed % 2 == 0, &USERS);
        let [ada, eve] = ["ada", "eve"].map(|user| world.enter(user));
        let topic: &'static str = String::leak(create(&mut world, (ada, "ada"), &["eve"]));
        world.subscribe(ada, topic, None).expect("a member");
        world.subscribe(eve, topic, None).expect("a member");
        world.start_ask(ada, "chat.remove", json!({"topic": topic, "user": "eve"}));
        world.say(ada, |id| Message::Pub { id, topic, seq: None, body: br#"{"type":"text","text":"secret"}"# });
        world.run();
        assert!(world.heard(ada).iter().any(|(.., body)| *body == text("secret")));
        assert!(world.heard(eve).iter().all(|(.., body)| *body != text("secret")));
    }
}

#[test]
fn two_users_talk_on_all_their_devices_and_nobody_hears_them() {
    tell(|world| {
        let [phone, laptop, other, eve] = ["ada", "ada", "Zoë", "eve"].map(|user| world.enter(user));
        let topic = Conversation::direct("ada", "Zoë").expect("a pair").topic();
        let personal = |user: &str| personal_topic(user).expect("a name");
        world.subscribe(other, &personal("Zoë"), Some(0)).expect("the own one");
        for device in [phone, laptop, other] {
            world.subscribe(device, &topic, None).expect("one of two");
        }
        is_kept_out(world, eve, &topic);
        assert_eq!(world.publish(phone, &topic, text("hi")), Ok(1));
        for device in [phone, laptop, other] {
            let heard = world.heard(device);
            assert!(heard.iter().any(|(of, _, from, body)| *of == topic && from == "ada" && *body == text("hi")));
            let news = heard.iter().filter(|(of, ..)| *of == personal("Zoë")).count();
            assert_eq!(news, usize::from(device == other), "the conversation is new in the list");
        }
        assert!(world.heard(eve).is_empty());
        let list = |world: &mut World, client| world.ask(client, "inbox.list", json!({})).expect("a list");
        assert_eq!(list(world, other)["conversations"][0]["topic"], json!(topic));
        assert_eq!(list(world, other)["conversations"][0]["unread"], json!(1));
        assert_eq!(list(world, eve)["conversations"], json!([]));

        world.ask(other, "contact.block", json!({"user": "ada"})).expect("blocked");
        assert_eq!(world.publish(phone, &topic, text("x")).err(), DENIED);
        assert_eq!(world.publish(other, &topic, text("x")).err(), Some(Code::FailedPrecondition));
        world.ask(other, "contact.unblock", json!({"user": "ada"})).expect("not any longer");
        assert!(world.publish(phone, &topic, text("x")).is_ok());
        world.ask(other, "inbox.forget", json!({"topic": topic})).expect("forgotten");
        assert_eq!(list(world, other)["conversations"], json!([]));
        assert!(world.publish(phone, &topic, text("back")).is_ok());
        assert_eq!(list(world, other)["conversations"][0]["last"]["text"], json!("back"));
        let nobody = world.publish(phone, "chat/d/ada~nobody", text("x"));
        assert_eq!(nobody.err(), Some(Code::NotFound));
        let guest = world.enter_as("ada", true);
        is_kept_out(world, guest, &topic);
    });
}

#[test]
fn a_users_devices_hear_what_concerns_it_and_nobody_else_does() {
    tell(|world| {
        let [ada, bob, eve] = ["ada", "bob", "eve"].map(|user| world.enter(user));
        assert_eq!(world.subscribe(eve, "chat/u/ada", Some(0)).err(), DENIED);
        assert_eq!(world.ask(eve, "chat.history", json!({"topic": "chat/u/ada"})).err(), DENIED);
        assert_eq!(world.publish(ada, "chat/u/ada", text("x")).err(), DENIED);
        assert_eq!(world.publish(eve, "chat/u/ada", text("x")).err(), DENIED);
        let guest = world.enter_as("ada", true);
        assert_eq!(world.subscribe(guest, "chat/u/ada", Some(0)).err(), DENIED);
        world.ask(bob, "contact.request", json!({"user": "ada", "text": "it is me"})).expect("asked");
        assert_eq!(world.subscribe(ada, "chat/u/ada", Some(0)), Ok(1), "it was there before the device came");
        let (_, offset, from, news) = world.heard(ada).remove(0);
        assert_eq!((offset, from.as_str(), &news["user"], &news["state"]), (1, "", &json!("bob"), &json!("incoming")));
        world.ask(ada, "contact.accept", json!({"user": "bob"})).expect("accepted");
        assert_eq!(world.heard(ada)[0].3["state"], json!("contact"));
        for (client, other) in [(ada, "bob"), (bob, "ada")] {
            let contacts = world.ask(client, "contact.list", json!({})).expect("a list");
            assert_eq!(contacts["users"][0]["user"], json!(other));
        }
        let missing = world.ask(ada, "contact.request", json!({"user": "nobody"}));
        assert_eq!(missing.err(), Some(Code::NotFound));
        assert_eq!(world.ask(guest, "contact.list", json!({})).err(), DENIED);
        assert_eq!(world.ask(ada, "chat.search", json!({"prefix": "ZO"})), Ok(json!({"users": ["Zoë"]})));
        assert_eq!(world.ask(guest, "chat.search", json!({"prefix": "ZO"})).err(), DENIED);
        assert_eq!(world.ask(ada, "inbox.dance", json!({})).err(), Some(Code::Unimplemented));
    });
}

#[test]
fn ticks_and_unread_counts_follow_the_reader() {
    tell(|world| {
        let [ada, bob, tablet] = ["ada", "bob", "bob"].map(|user| world.enter(user));
        let topic: &'static str = String::leak(create(world, (ada, "ada"), &["bob"]));
        world.subscribe(ada, topic, None).expect("a member");
        world.subscribe(bob, topic, None).expect("a member");
        world.subscribe(tablet, "chat/u/bob", None).expect("the own one");
        (0..3).for_each(|n| assert!(world.publish(ada, topic, text(&n.to_string())).is_ok()));
        let line =
            |world: &mut World| world.ask(tablet, "inbox.list", json!({})).expect("a list")["conversations"][0].clone();
        assert_eq!((&line(world)["unread"], &line(world)["last"]["text"]), (&json!(4), &json!("2")));
        world.told(ada);
        world.told(tablet);
        world.say(bob, |_| Message::Ack { topic, delivered: 4, read: 3 });
        world.run();
        world.later(1_000);
        let tick = |push: &Push| match push {
            Push::Eph { from, key, body, .. } => Some((from.to_string(), key.to_string(), body.to_vec())),
            _ => None,
        };
        let expected = |from: &str, body: &[u8]| (from.to_owned(), "read".to_owned(), body.to_vec());
        let ticks: Vec<_> = world.told(ada).iter().filter_map(tick).collect();
        assert_eq!(ticks, [expected("bob", br#"{"delivered":4,"read":3}"#)]);
        let of = format!(r#"{{"topic":"{topic}","delivered":4,"read":3}}"#);
        assert_eq!(world.told(tablet).iter().filter_map(tick).collect::<Vec<_>>(), [expected("", of.as_bytes())]);
        assert_eq!(line(world)["unread"], json!(1));
        world.ask(tablet, "inbox.read", json!({"topic": topic, "read": 99})).expect("read");
        assert_eq!(line(world)["unread"], json!(0));
        let marks = world.ask(ada, "chat.marks", json!({"topic": topic})).expect("marks");
        assert_eq!(marks["marks"], json!([{"user": "bob", "delivered": 4, "read": 4}]));
        world.told(ada);
        world.say(ada, |_| Message::Eph { topic, key: "read", body: b"{}" });
        assert!(matches!(world.told(ada)[..], [Push::Err { code: Code::InvalidArgument, .. }]));
        world.ask(bob, "inbox.set", json!({"topic": topic, "pinned": true})).expect("set");
        assert_eq!(line(world)["pinned"], json!(true));
    });
}

#[test]
fn what_somebody_says_itself_is_not_unread() {
    tell(|world| {
        let [ada, bob] = ["ada", "bob"].map(|user| world.enter(user));
        let topic = create(world, (ada, "ada"), &["bob"]);
        let unread = |world: &mut World, client, topic: &str| {
            let list = world.ask(client, "inbox.list", json!({})).expect("a list");
            let lines = list["conversations"].as_array().expect("a list").clone();
            let line = lines.into_iter().find(|line| line["topic"] == json!(topic)).expect("it is in the list");
            line["unread"].clone()
        };
        (0..3).for_each(|n| assert!(world.publish(ada, &topic, text(&n.to_string())).is_ok()));
        assert!(world.publish(bob, &topic, text("one")).is_ok());
        // That the group was made, and what the other one said.
        assert_eq!((unread(world, ada, &topic), unread(world, bob, &topic)), (json!(2), json!(4)));
        world.ask(bob, "inbox.read", json!({"topic": topic, "read": 4})).expect("read");
        assert_eq!(unread(world, bob, &topic), json!(0), "all but the own one is read");
        assert!(world.publish(ada, &topic, text("more")).is_ok());
        assert_eq!(unread(world, bob, &topic), json!(1));
        let pair = "chat/d/ada~eve";
        (0..3).for_each(|n| assert!(world.publish(ada, pair, text(&n.to_string())).is_ok()));
        assert_eq!(unread(world, ada, pair), json!(0));
        let eve = world.enter("eve");
        assert_eq!(unread(world, eve, pair), json!(3));
    });
}

#[test]
fn what_is_said_while_a_conversation_is_forgotten_brings_it_back() {
    let topic = "chat/d/ada~bob";
    for seed in 0..100 {
        println!("seed {seed}");
        let mut world = World::new(seed, seed % 2 == 0, &USERS);
        let [ada, bob] = ["ada", "bob"].map(|user| world.enter(user));
        assert!(world.publish(ada, topic, text("old")).is_ok());
        world.ask(bob, "inbox.read", json!({"topic": topic, "read": 1})).expect("read");
        let forget = world.start_ask(bob, "inbox.forget", json!({"topic": topic}));
        while !world.is_answered(bob, forget) {
            world.step();
        }
        assert!(world.publish(ada, topic, text("new")).is_ok());
        let list = world.ask(bob, "inbox.list", json!({})).expect("a list");
        let line = &list["conversations"][0];
        assert_eq!((&line["last"]["text"], &line["unread"]), (&json!("new"), &json!(1)));
        world.ask(bob, "inbox.forget", json!({"topic": topic})).expect("forgotten");
        assert_eq!(world.ask(bob, "inbox.list", json!({})).expect("a list")["conversations"], json!([]));
    }
}

#[test]
fn messages_are_edited_and_recalled() {
    tell(|world| {
        let [ada, bob] = ["ada", "bob"].map(|user| world.enter(user));
        let topic = create(world, (ada, "ada"), &["bob"]);
        let edit = |offset: u64| json!({"type": "edit", "offset": offset, "text": "better"});
        let recall = |offset: u64| json!({"type": "recall", "offset": offset});
        assert_eq!(world.publish(bob, &topic, text("wrong")), Ok(2));
        assert_eq!(world.publish(ada, &topic, edit(2)).err(), DENIED);
        assert_eq!(world.publish(bob, &topic, edit(2)), Ok(3));
        assert_eq!(world.publish(bob, &topic, edit(9)).err(), Some(Code::OutOfRange));
        assert_eq!(world.publish(bob, &topic, edit(1)).err(), Some(Code::FailedPrecondition), "the server's");
        assert_eq!(world.publish(ada, &topic, recall(2)), Ok(4), "the owner may");
        for again in [edit(2), recall(2)] {
            assert_eq!(world.publish(bob, &topic, again).err(), Some(Code::FailedPrecondition), "recalled");
        }
        assert_eq!(world.publish(bob, &topic, text("late")), Ok(5));
        world.later(chat::body::EDIT_MS_MAX.max(chat::body::RECALL_MS_MAX) + 1);
        assert_eq!(world.publish(bob, &topic, edit(5)).err(), Some(Code::FailedPrecondition));
        let image = json!({"url": "/files/1/cat.png", "name": "cat.png", "bytes": 7, "mime": "image/png"});
        assert_eq!(world.publish(bob, "chat/lobby", json!({"type": "image", "file": image})), Ok(1));
        let system = json!({"type": "system", "event": "joined", "user": "bob", "by": "bob"});
        assert_eq!(world.publish(bob, &topic, system).err(), Some(Code::InvalidArgument));
    });
}

#[test]
fn words_are_masked_or_refused_before_a_message_gets_its_place() {
    tell(|world| {
        let [ada, bob] = ["ada", "bob"].map(|user| world.enter(user));
        let list = WordList::parse("darn\nworse\treject").expect("a list");
        world.shared.words.store(Some(Arc::new(list)));
        for topic in ["chat/lobby".to_owned(), create(world, (ada, "ada"), &["bob"])] {
            let head = world.subscribe(bob, &topic, None).expect("may read");
            let body = json!({"type": "text", "text": "\"darn\"\n it", "client_id": "7"});
            assert_eq!(world.publish_seq(ada, &topic, Some(1), body), Ok(head + 1));
            let masked = json!({"type": "text", "text": "\"****\"\n it", "client_id": "7"});
            assert_eq!(bodies(&world.heard(bob)), [&masked]);
            assert_eq!(world.publish(ada, &topic, text("it is worse")).err(), DENIED);
            assert_eq!(world.publish_seq(ada, &topic, Some(1), text("it is worse")), Ok(head + 1), "a repeat");
            let file = json!({"url": "/files/1/x", "name": "darn.png", "bytes": 7, "mime": "image/png"});
            assert_eq!(world.publish(ada, &topic, json!({"type": "image", "file": file})).err(), DENIED);
        }
    });
}

#[test]
fn a_user_publishes_so_much_and_a_slow_group_takes_less() {
    let settings = Settings { rates: Rates::new(0, 100, 1_000), ..Settings::default() };
    let mut world = World::with(7, true, &USERS, settings);
    let [ada, bob, eve] = ["ada", "bob", "eve"].map(|user| world.enter(user));
    (0..100).for_each(|n| assert!(world.publish(ada, "chat/lobby", text(&n.to_string())).is_ok()));
    let refused = world.publish_seq(ada, "chat/lobby", None, text("x"));
    assert_eq!(refused.err(), Some((Code::ResourceExhausted, Some(600))));
    assert!(world.publish(bob, "chat/lobby", text("x")).is_ok());
    let topic = create(&mut world, (bob, "bob"), &["eve"]);
    world.ask(bob, "chat.settings", json!({"topic": topic, "slow_ms": 10_000})).expect("slow");
    assert_eq!(world.publish_seq(eve, &topic, Some(1), text("1")), Ok(3));
    let slow = world.publish_seq(eve, &topic, Some(2), text("2"));
    assert_eq!(slow.err(), Some((Code::ResourceExhausted, Some(10_000))));
    assert_eq!(world.publish_seq(eve, &topic, Some(1), text("1")), Ok(3), "a repeat is not judged again");
    world.later(10_000);
    assert!(world.publish(eve, &topic, text("2")).is_ok());
}

#[test]
fn a_program_says_something_to_users_a_group_or_all() {
    tell(|world| {
        let [ada, bob] = ["ada", "bob"].map(|user| world.enter(user));
        let topic = create(world, (ada, "ada"), &["bob"]);
        world.subscribe(bob, "chat/u/bob", None).expect("the own one");
        world.subscribe(bob, &topic, None).expect("a member");
        world.subscribe(bob, "chat/world", None).expect("everybody");
        let users = json!({"users": ["bob", "nobody", "eve", "a b", "bob"], "except": ["eve"]});
        let results = world.ask(ada, "chat.push", json!({"target": users, "body": text("for you")}));
        let failed = |name: &str, code: &str| json!({"target": name, "ok": false, "code": code});
        let expected =
            [failed("a b", "invalid_argument"), json!({"target": "bob", "ok": true}), failed("nobody", "not_found")];
        assert_eq!(results, Ok(json!({"results": expected})));
        assert_eq!(bodies(&world.heard(bob)), [&text("for you")]);
        for (target, to) in [(json!({"group": topic}), topic.as_str()), (json!({"all": true}), "chat/world")] {
            let results = world.ask(ada, "chat.push", json!({"target": target, "body": text("for all")}));
            assert_eq!(results, Ok(json!({"results": [{"target": to, "ok": true}]})));
            let heard = world.heard(bob);
            assert_eq!((heard.len(), heard[0].0.as_str(), heard[0].2.as_str()), (1, to, ""));
        }
        let missing = world.ask(ada, "chat.push", json!({"target": {"group": "chat/g/none"}, "body": text("x")}));
        assert_eq!(missing, Ok(json!({"results": [failed("chat/g/none", "not_found")]})));
        for target in [json!({}), json!({"all": true, "group": topic}), json!({"all": true, "except": ["bob"]})] {
            let refused = world.ask(ada, "chat.push", json!({"target": target, "body": text("x")}));
            assert_eq!(refused.err(), Some(Code::InvalidArgument));
        }
    });
}

#[test]
fn what_is_done_to_others_is_on_record() {
    tell(|world| {
        let [ada, bob, auditor] = ["ada", "bob", "eve"].map(|user| world.enter(user));
        world.shared.words.store(Some(Arc::new(WordList::parse("odd\tflag\nworse\treject").expect("a list"))));
        let topic = create(world, (ada, "ada"), &["bob"]);
        world.subscribe(auditor, "chat/audit", None).expect("the server says who may");
        assert_eq!(world.publish(auditor, "chat/audit", text("x")).err(), Some(Code::InvalidArgument));
        world.ask(ada, "chat.role", json!({"topic": topic, "user": "bob", "role": "admin"})).expect("an admin");
        assert!(world.publish(bob, &topic, text("how odd")).is_ok());
        assert!(world.publish(bob, &topic, text("it gets worse")).is_err());
        assert!(world.publish(ada, &topic, json!({"type": "recall", "offset": 3})).is_ok());
        world.ask(ada, "chat.remove", json!({"topic": topic, "user": "bob"})).expect("removed");
        let heard = world.heard(auditor);
        let record: Vec<_> =
            heard.iter().map(|(_, _, from, body)| (from.as_str(), &body["what"], &body["by"])).collect();
        let line = |what: &str, by: &str| (json!(what), json!(by));
        let expected = [
            line("role", "ada"),
            line("flagged", "bob"),
            line("rejected", "bob"),
            line("recall", "ada"),
            line("remove", "ada"),
        ];
        assert_eq!(record, expected.each_ref().map(|(what, by)| ("", what, by)));
        assert_eq!(heard[2].3["detail"], text("it gets worse"));
        assert_eq!(heard[4].3["detail"]["event"], json!("removed"));
    });
}
