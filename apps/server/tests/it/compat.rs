//! Clients of GoChat and Hawos beside ours, from outside: one conversation, one order, and hostile ones hurt nobody.

mod client;

use serde_json::{Value, json};

use self::client::{GoChat, Hawos, Socket, Texts};
use crate::{
    hostile::{noise, talker::Innocents},
    messenger::person::{Person, call, post},
    process::Server,
    restart::client::Speech,
};
use prost::Message;

/// Hashing a password is not what these tests are about.
const CHEAP: [(&str, &str); 2] = [("RINGSHARD_AUTH_ARGON2_KIB", "8"), ("RINGSHARD_AUTH_ARGON2_PASSES", "1")];

fn account(server: &Server, name: &str) -> String {
    post(server, "register", &json!({"name": name, "password": "long enough"}))
}

fn text(text: &str) -> Value {
    json!({"type": "text", "text": text})
}

/// The next text that one of ours hears in a topic.
fn hear_text(person: &mut Person, topic: &str) -> String {
    loop {
        let body = person.hear(topic);
        if body["type"] == "text" {
            return body["text"].as_str().expect("a text").to_owned();
        }
    }
}

#[test]
fn three_protocols_talk_in_one_group_in_one_order() {
    let server = Server::start(&CHEAP);
    let mut ada = Person::register(&server, Speech::Socket, "ada");
    let bobs = account(&server, "bob");
    let mut bob = GoChat::enter(&server, &bobs);
    let mut eve = Hawos::enter(&server, "eve", &account(&server, "eve"));
    bob.ping();
    let made = ada.ask("chat.create", &json!({"name": "us", "users": ["bob"], "open": true})).expect("made");
    let topic = made["topic"].as_str().expect("a topic").to_owned();
    let name = topic.strip_prefix("chat/").expect("of chat").to_owned();
    ada.subscribe(&topic, Some(0)).expect("a member");
    // GoChat has no words for an invitation; another device of bob says yes.
    Person::enter_with(&server, "bob", &bobs).ask("chat.join", &json!({"topic": topic})).expect("invited");
    let info = eve.go(&name).room();
    assert_eq!((&*info.room_id, info.member_num, info.member_ids.join(" ")), (&*name, 3, "ada bob eve".to_owned()));
    // Who was brought in hears of it where GoChat has it, and follows by itself.
    let notice = bob.hear_that("notice", |message| message["data"]["messageType"] == 4);
    assert_eq!(notice["data"]["conversationId"], name);
    for n in 0..5 {
        ada.publish(&topic, &text(&format!("ada {n}"))).expect("published");
        bob.send(&name, &format!("bob {n}"), &format!("m-{n}"));
        assert_eq!(eve.send("", &format!("eve {n}")), 200);
    }
    let all: Vec<String> = (0..15).map(|_| hear_text(&mut ada, &topic)).collect();
    let of_bob: Vec<_> = (0..15).map(|_| bob.text(&name)).collect();
    let of_eve: Vec<_> = (0..15).map(|_| eve.text()).collect();
    assert!(all.iter().eq(of_bob.iter().map(|(_, text, _)| text)), "{all:?} {of_bob:?}");
    assert!(all.iter().eq(of_eve.iter().map(|(_, text, _)| text)), "{all:?} {of_eve:?}");
    assert!(of_bob.iter().all(|(from, text, _)| text.starts_with(&**from)), "{of_bob:?}");
    assert!(of_eve.iter().all(|(from, text, room)| text.starts_with(&**from) && *room == name), "{of_eve:?}");
    assert!(of_bob.windows(2).all(|two| two[0].2 < two[1].2), "{of_bob:?}");
    // Somebody of the group leaves: Hawos is told who is still there.
    ada.ask("chat.leave", &json!({"topic": topic})).expect("left");
    server.until("two are left", |_| eve.hear(10_002).room().member_num == 2);
}

#[test]
fn after_a_cut_both_go_on_where_they_were_and_a_repeat_is_no_second_message() {
    let server = Server::start(&CHEAP);
    let mut ada = Person::register(&server, Speech::Frames, "ada");
    let (bobs, eves) = (account(&server, "bob"), account(&server, "eve"));
    let mut eve = Hawos::enter(&server, "eve", &eves);
    let mut bob = GoChat::enter(&server, &bobs);
    let made = eve.ask(102, &[8, 1]).room();
    let name = made.room_id;
    let topic = format!("chat/{name}");
    assert_eq!((made.member_num, &*made.member_ids.join(" ")), (1, "eve"));
    for joins in [&mut ada, &mut Person::enter_with(&server, "bob", &bobs)] {
        joins.ask("chat.join", &json!({"topic": topic})).expect("an open group");
    }
    bob.hear_that("the notice that bob is in it", |message| message["data"]["messageType"] == 4);
    ada.publish(&topic, &text("before")).expect("published");
    let (.., seq) = bob.text(&name);
    let id = bob.send(&name, "only once", "m-1");
    let (.., last) = bob.text(&name);
    assert_eq!(id, format!("{name}:{last}"));
    bob.say(&json!({"type": "mark-read", "data": {"conversationId": name, "seqId": last}}));
    bob.ping();
    for said in ["before", "only once"] {
        assert_eq!(eve.text().1, said);
    }
    // The second ping says that what came before the first pong is here.
    eve.ping();
    eve.ping();
    let resumes = eve.token.clone();
    drop((bob, eve));
    for n in 0..3 {
        ada.publish(&topic, &text(&format!("missed {n}"))).expect("published");
    }
    let mut bob = GoChat::enter(&server, &bobs);
    let mut eve = Hawos::open(&server, &resumes);
    assert_eq!(eve.go(&name).room().member_num, 3);
    for n in 0..3 {
        let (from, said, at) = bob.text(&name);
        assert_eq!((&*from, said, at), ("ada", format!("missed {n}"), last + 1 + n));
        assert_eq!(eve.text(), ("ada".to_owned(), format!("missed {n}"), name.clone()));
    }
    assert!(seq < last);
    assert_eq!(bob.send(&name, "only once", "m-1"), id, "a repeat gets the first answer");
    assert_eq!(eve.send("", "and on"), 200);
    assert_eq!(bob.text(&name).1, "and on", "the repeat was stored once");
    assert_eq!((eve.text().1.as_str(), eve.left(), bob.left("new-message")), ("and on", 0, 0));
    assert_eq!(server.metric("ringshard_sessions_resumed_total{", ""), 1);
}

#[test]
fn two_alone_and_what_programs_push() {
    let server = Server::start(&CHEAP);
    let (bobs, eves) = (account(&server, "bob"), account(&server, "eve"));
    let mut phone = Person::enter_with(&server, "bob", &bobs);
    let mut bob = GoChat::enter(&server, &bobs);
    let mut eve = Hawos::enter(&server, "eve", &eves);
    let mut mallory = GoChat::enter(&server, &account(&server, "mallory"));
    let (name, topic) = ("d/bob~eve", "chat/d/bob~eve");
    phone.subscribe(topic, None).expect("one of the two");
    assert_eq!(bob.send(name, "hi eve", "m-1"), format!("{name}:1"));
    let info = eve.go(name).room();
    assert_eq!((info.member_num, &*info.member_ids.join(" ")), (2, "bob eve"));
    let online = bob.hear_that("eve", |message| message["data"]["userId"] == "eve");
    assert_eq!((&online["type"], &online["data"]["status"]), (&json!("online-status"), &json!("online")));
    assert_eq!(eve.send("", "hi bob"), 200);
    assert_eq!((bob.text(name).1, bob.text(name).1), ("hi eve".to_owned(), "hi bob".to_owned()));
    assert_eq!(
        (hear_text(&mut phone, topic), hear_text(&mut phone, topic)),
        ("hi eve".to_owned(), "hi bob".to_owned())
    );
    let first = eve.text();
    assert_eq!(first.2, name);
    assert_eq!(if first.1 == "hi eve" { eve.text().1 } else { first.1 }, "hi bob");
    mallory.say(&json!({"type": "send-message", "data": {"conversationId": name, "content": "x", "messageType": 1}}));
    assert_eq!(mallory.hear("error")["data"]["code"], "CONVERSATION_NOT_FOUND");

    let mut program = Person::program(&server, "program", &["chat.*", "chat.push"]);
    program.ask("chat.push", &json!({"target": {"users": ["bob", "eve"]}, "body": text("for you")})).expect("pushed");
    assert_eq!(bob.text("u/bob").1, "for you");
    assert_eq!(eve.text(), (String::new(), "for you".to_owned(), String::new()));
    program.ask("chat.push", &json!({"target": {"all": true}, "body": text("for all")})).expect("pushed");
    assert_eq!((bob.text("world").1, mallory.text("world").1), ("for all".to_owned(), "for all".to_owned()));
    assert_eq!(eve.text().2, "world");
}

#[test]
fn an_open_room_has_one_answer_to_who_is_there() {
    let server = Server::start(&CHEAP);
    let mut eve = Hawos::enter(&server, "eve", &account(&server, "eve"));
    let mut bob = GoChat::enter(&server, &account(&server, "bob"));
    let info = eve.go("lobby").room();
    assert_eq!((&*info.room_id, info.member_num), ("lobby", 1));
    bob.send("lobby", "hello", "m-1");
    assert_eq!(eve.text(), ("bob".to_owned(), "hello".to_owned(), "lobby".to_owned()));
    server.until("two are there", |_| eve.hear(10_002).room().member_num == 2);
    // It is in one room at a time.
    assert_eq!(eve.go("attic").room().member_num, 1);
    bob.send("lobby", "who hears this?", "m-2");
    bob.send("attic", "and this?", "m-3");
    assert_eq!(eve.text().1, "and this?");
    assert_eq!(eve.go("world").room().room_id, "world");
    // Guests talk where everybody may, and nowhere else.
    let guest = post(&server, "guest", &json!({"name": "gast"}));
    let mut gast = GoChat::enter(&server, &guest);
    gast.send("world", "good evening", "m-1");
    assert_eq!(eve.text().1, "good evening");
    assert_eq!(Hawos::open(&server, &guest).ask(102, b"").code, 10_000);
}

#[test]
fn hostile_clients_get_an_error_and_end_alone() {
    let server = Server::start(&CHEAP);
    let mut innocents = Innocents::enter(&server);
    let token = account(&server, "mallory");
    for bytes in [noise(300), b"{\"type\":".to_vec(), vec![0xff; 40]] {
        let mut gochat = GoChat::enter(&server, &token);
        gochat.socket.send_text(&String::from_utf8_lossy(&bytes));
        assert_eq!(gochat.hear("error")["data"]["code"], "INVALID_MESSAGE");
        assert_eq!(gochat.socket.closed(), Some(1008));
        let mut hawos = Hawos::enter(&server, "mallory", &token);
        hawos.socket.send_binary(&[&[0xff], &*bytes].concat());
        assert_eq!(hawos.hear(0).code, 10_001);
        assert_eq!(hawos.socket.closed(), Some(1008));
    }
    // Nobody: no token, a forged one, another user's name, and who says something before it says who it is.
    for bad in ["", "a.b.c", "a/b", "%00"] {
        let mut gochat = GoChat::enter(&server, bad);
        assert_eq!(gochat.hear("error")["data"]["code"], "AUTH_FAILED", "{bad}");
        assert_eq!(gochat.socket.closed(), Some(1008));
        let mut hawos = Hawos::open(&server, bad);
        assert_eq!(hawos.send("world", "x"), 10_000, "{bad}");
        assert_eq!(hawos.socket.closed(), Some(1008));
    }
    // Not even into the world, where everybody is: a stranger has ten messages, and the first one that is no hello ends it.
    let mut stranger = Hawos::open(&server, "");
    (0..50).for_each(|_| stranger.say(103, &Texts { one: "world".into(), ..Texts::default() }.encode_to_vec()));
    assert_eq!(stranger.hear(103).code, 10_000);
    assert_eq!(stranger.socket.closed(), Some(1008));
    let mut hawos = Hawos::open(&server, "");
    let auth = Texts { one: "ann".into(), three: token.clone(), ..Texts::default() };
    assert_eq!(hawos.ask(100, &auth.encode_to_vec()).code, 10_000);
    assert_eq!(hawos.socket.closed(), Some(1008));
    // What is larger than any message, and messages in the other form.
    let mut gochat = GoChat::enter(&server, &token);
    gochat.ping();
    gochat.socket.send_text(&"x".repeat(70_000));
    assert_eq!(gochat.socket.closed(), Some(1009));
    let mut stranger = Socket::open(&server, "/ws/hawos");
    stranger.send_binary(&[0; 5_000]);
    assert_eq!(stranger.closed(), Some(1009));
    let mut gochat = GoChat::enter(&server, &token);
    gochat.socket.send_binary(b"{}");
    assert_eq!(gochat.socket.closed(), Some(1008));
    innocents.work();
}

#[test]
fn their_limits_are_those_of_every_session() {
    let server = Server::start(&CHEAP);
    let token = account(&server, "bob");
    let mut gochat = GoChat::enter(&server, &token);
    (0..150).for_each(|_| gochat.say(&json!({"type": "ping"})));
    let error = gochat.hear("error");
    assert_eq!(error["data"]["code"], "RATE_LIMITED");
    assert!(error["data"]["details"]["retryMs"].as_u64().is_some_and(|ms| ms > 0), "{error}");
    let long = "x".repeat(5_001);
    server.until("there is room again", |_| {
        let data = json!({"conversationId": "world", "content": long, "messageType": 1});
        gochat.say(&json!({"type": "send-message", "data": data}));
        gochat.hear("error")["data"]["code"] == "MESSAGE_TOO_LARGE"
    });
    let mut hawos = Hawos::enter(&server, "bob", &token);
    (0..150).for_each(|_| hawos.say(101, b""));
    server.until("too much", |_| hawos.hear(101).code == 1000);
    // Whatever is asked costs something, also what is known already.
    let mut here = Hawos::enter(&server, "bob", &token);
    (0..150).for_each(|_| here.say(103, &Texts { one: "world".into(), ..Texts::default() }.encode_to_vec()));
    server.until("too much again", |_| here.hear(103).code == 1000);
    assert!(server.dropped("rate") > 0 && server.dropped("gochat") + server.dropped("hawos") > 0);
    // Unknown things are refused, and the session goes on.
    let mut hawos = Hawos::enter(&server, "bob", &token);
    assert_eq!(
        (hawos.ask(105, b"").code, hawos.ask(103, b"\xff").code, hawos.ask(102, &[8, 2]).code),
        (406, 10_001, 10_001)
    );
    hawos.ping();
}

#[test]
fn news_of_others_keep_no_dead_client_alive() {
    let server = Server::start(&[
        CHEAP[0],
        CHEAP[1],
        ("RINGSHARD_LIMITS_PING_SECS", "1"),
        ("RINGSHARD_LIMITS_IDLE_SECS", "5"),
        ("RINGSHARD_CHAT_RATE_MIN", "0"),
        ("RINGSHARD_CHAT_RATE_HOUR", "0"),
    ]);
    let mut ada = Person::register(&server, Speech::Socket, "ada");
    let made = ada.ask("chat.create", &json!({"name": "us", "open": true})).expect("made");
    let topic = made["topic"].as_str().expect("a topic").to_owned();
    let mut bob = Person::register(&server, Speech::Socket, "bob");
    let mut eve = Hawos::enter(&server, "eve", &account(&server, "eve"));
    eve.go(topic.strip_prefix("chat/").expect("of chat"));
    drop(ada);
    // From here on eve reads nothing, so nothing of it answers a ping; its session asks who is there after each of these.
    server.until("eve is missed", |server| {
        for op in ["chat.join", "chat.leave"] {
            // As often as the rates let it.
            let _ = bob.ask(op, &json!({"topic": topic}));
        }
        server.dropped("idle") > 0
    });
}

#[test]
fn a_login_that_ends_ends_for_them_too() {
    let server = Server::start(&CHEAP);
    let (_, login) = call(&server, "register", &json!({"name": "bob", "password": "long enough"}));
    let token = login["token"].as_str().expect("a token");
    let mut bob = GoChat::enter(&server, token);
    let mut eve = Hawos::enter(&server, "bob", token);
    let resumes = eve.token.clone();
    bob.ping();
    let (status, _) = call(&server, "logout", &json!({"refresh_token": login["refresh_token"], "all": true}));
    assert_eq!(status, 200);
    assert_eq!(bob.hear("error")["data"]["code"], "AUTH_FAILED");
    assert_eq!(eve.hear(0).code, 10_000);
    assert_eq!((bob.socket.closed(), eve.socket.closed()), (Some(4401), Some(4401)));
    for ended in [token, &resumes.replace('/', "%2F")] {
        assert_eq!(GoChat::enter(&server, ended).hear("error")["data"]["code"], "AUTH_FAILED", "{ended}");
        let hawos = Socket::open(&server, &format!("/ws/hawos?token={ended}"));
        assert_eq!(hawos.closed(), Some(1008));
    }
}
