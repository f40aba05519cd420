//! Who is there, over several devices and shards, and who may know.

use chat::presence::{BEAT_TTL, GRACE};
use handler::{Code, Push};
use serde_json::{Value, json};

use crate::world::World;

const USERS: [&str; 5] = ["ada", "bob", "eve", "mia", "tom"];

/// Ada and bob are contacts.
fn friends(seed: u64) -> (World, usize, usize) {
    let mut world = World::new(seed, false, &USERS);
    let (ada, bob) = (world.enter("ada"), world.enter("bob"));
    world.ask(ada, "contact.request", json!({"user": "bob"})).expect("asked");
    world.ask(bob, "contact.accept", json!({"user": "ada"})).expect("accepted");
    pass(&mut world, 200);
    (world, ada, bob)
}

/// Time passes in small steps, so that timers are in time.
fn pass(world: &mut World, ms: u64) {
    let step = if ms > 10_000 { 1_000 } else { 50 };
    (0..ms / step).for_each(|_| world.later(step));
}

fn state(world: &mut World, who: usize, of: &str) -> String {
    line(world, who, of)["state"].as_str().expect("a state").to_owned()
}

fn line(world: &mut World, who: usize, of: &str) -> Value {
    // Questions are not free.
    pass(world, 1_000);
    let answer = world.ask(who, "presence.get", json!({"users": [of]})).expect("an answer");
    assert_eq!(answer["users"][0]["user"], of);
    answer["users"][0].clone()
}

/// What a client was told about others since it last looked.
fn told(world: &mut World, who: usize) -> Vec<(String, String)> {
    let told = world.told(who).into_iter().filter_map(|push| match push {
        Push::Eph { from, key, body, .. } if &*key == "presence" => {
            let body: Value = serde_json::from_slice(&body).expect("JSON");
            Some((from.to_string(), body["state"].as_str().expect("a state").to_owned()))
        }
        _ => None,
    });
    told.collect()
}

fn watch(world: &mut World, who: usize, user: &str) -> Value {
    world.subscribe(who, &format!("chat/u/{user}"), None).expect("the own one");
    world.ask(who, "presence.watch", json!({})).expect("an answer")
}

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(user, state)| ((*user).to_owned(), (*state).to_owned())).collect()
}

#[test]
fn a_contact_is_told_of_the_first_device_and_of_the_last_one() {
    for seed in 0..10 {
        let (mut world, _, bob) = friends(seed);
        let seen = watch(&mut world, bob, "bob");
        assert_eq!(seen, json!({"users": [{"user": "ada", "state": "online"}], "more": false}), "seed {seed}");
        let second = world.enter("ada");
        pass(&mut world, 400);
        world.leave(second);
        pass(&mut world, 60_000);
        assert_eq!(told(&mut world, bob), [], "seed {seed}: another device is nothing to tell");
        world.leave(0);
        let left_ms = world.wall_ms;
        pass(&mut world, 100);
        pass(&mut world, GRACE.as_millis() as u64 - 2_000);
        assert_eq!(told(&mut world, bob), [], "seed {seed}: the grace");
        assert_eq!(state(&mut world, bob, "ada"), "online", "seed {seed}");
        pass(&mut world, 1_000);
        assert_eq!(told(&mut world, bob), pairs(&[("ada", "offline")]), "seed {seed}");
        let line = line(&mut world, bob, "ada");
        let last_seen_ms = line["last_seen_ms"].as_u64().expect("seen");
        assert!((left_ms..left_ms + 100).contains(&last_seen_ms), "seed {seed}: {last_seen_ms} {left_ms}");
        pass(&mut world, 3_000);
        let third = world.enter("ada");
        pass(&mut world, 400);
        assert_eq!(told(&mut world, bob), pairs(&[("ada", "online")]), "seed {seed}: within half a second");
        pass(&mut world, 3_000);
        world.ask(third, "presence.set", json!({"state": "away"})).expect("set");
        pass(&mut world, 400);
        assert_eq!(told(&mut world, bob), pairs(&[("ada", "away")]), "seed {seed}");
    }
}

#[test]
fn who_flaps_is_not_told_of_each_time() {
    for seed in 0..5 {
        let (mut world, _, bob) = friends(seed);
        watch(&mut world, bob, "bob");
        for _ in 0..50 {
            let device = world.enter("ada");
            pass(&mut world, 100);
            world.leave(device);
            pass(&mut world, 100);
        }
        assert_eq!(told(&mut world, bob), [], "seed {seed}: she was there all the time");
        for n in 0..100 {
            let state = if n % 2 == 0 { "away" } else { "online" };
            world.ask(0, "presence.set", json!({"state": state})).expect("set");
            pass(&mut world, 100);
        }
        pass(&mut world, 3_000);
        let told = told(&mut world, bob);
        assert!(told.len() <= 6, "seed {seed}: {told:?}");
        assert_eq!(state(&mut world, bob, "ada"), "online", "seed {seed}");
    }
}

#[test]
fn strangers_and_guests_see_nothing_and_a_user_that_is_blocked_sees_nobody() {
    for seed in 0..10 {
        let (mut world, _, bob) = friends(seed);
        let eve = world.enter("eve");
        assert_eq!(line(&mut world, eve, "ada"), json!({"user": "ada", "state": "offline"}), "seed {seed}");
        assert_eq!(line(&mut world, eve, "nobody"), json!({"user": "nobody", "state": "offline"}), "seed {seed}");
        let seen = watch(&mut world, eve, "eve");
        assert_eq!(seen["users"], json!([]), "seed {seed}");
        assert_eq!(world.subscribe(eve, "chat/u/bob", None), Err(Code::PermissionDenied));
        let guest = world.enter_as("bob", true);
        for op in ["presence.get", "presence.watch"] {
            let body = if op == "presence.get" { json!({"users": ["ada"]}) } else { json!({}) };
            assert_eq!(world.ask(guest, op, body), Err(Code::PermissionDenied), "seed {seed}: {op}");
        }
        watch(&mut world, bob, "bob");
        world.ask(0, "contact.block", json!({"user": "bob"})).expect("blocked");
        pass(&mut world, 400);
        assert_eq!(told(&mut world, bob), pairs(&[("ada", "offline")]), "seed {seed}: at once");
        assert_eq!(line(&mut world, bob, "ada"), json!({"user": "ada", "state": "offline"}), "seed {seed}");
        assert_eq!(line(&mut world, 0, "bob")["state"], "offline", "seed {seed}: the block is for both");
        world.ask(0, "presence.set", json!({"state": "away"})).expect("set");
        pass(&mut world, 400);
        assert_eq!(told(&mut world, bob), [], "seed {seed}");
    }
}

#[test]
fn members_of_a_small_group_see_each_other_until_they_leave_it() {
    for seed in 0..10 {
        let mut world = World::new(seed, false, &USERS);
        let (ada, mia) = (world.enter("ada"), world.enter("mia"));
        let made = world.ask(ada, "chat.create", json!({"name": "us", "users": ["mia", "tom"]})).expect("made");
        let topic = made["topic"].as_str().expect("a topic").to_owned();
        let tom = world.enter("tom");
        for client in [mia, tom] {
            world.ask(client, "chat.join", json!({"topic": topic})).expect("asked");
        }
        world.leave(tom);
        pass(&mut world, 60_000);
        let seen = watch(&mut world, mia, "mia");
        let expected = json!([{"user": "ada", "state": "online"}, {"user": "tom", "state": "offline"}]);
        assert_eq!(seen["users"], expected, "seed {seed}");
        let tom = world.enter("tom");
        pass(&mut world, 400);
        assert_eq!(told(&mut world, mia), pairs(&[("tom", "online")]), "seed {seed}");
        world.ask(mia, "chat.leave", json!({"topic": topic})).expect("left");
        pass(&mut world, 200);
        assert_eq!(state(&mut world, mia, "tom"), "offline", "seed {seed}");
        // The circle is looked at every two minutes.
        pass(&mut world, 130_000);
        let mut lost = told(&mut world, mia);
        lost.sort();
        assert_eq!(lost, pairs(&[("ada", "offline"), ("tom", "offline")]), "seed {seed}");
        pass(&mut world, BEAT_TTL.as_millis() as u64);
        world.leave(tom);
        pass(&mut world, 60_000);
        assert_eq!(told(&mut world, mia), [], "seed {seed}");
        assert_eq!(state(&mut world, ada, "tom"), "offline", "seed {seed}");
    }
}

#[test]
fn a_direct_conversation_shows_both_to_each_other_and_sessions_that_live_long_stay_online() {
    for seed in 0..5 {
        let mut world = World::new(seed, true, &USERS);
        let (ada, tom) = (world.enter("ada"), world.enter("tom"));
        assert_eq!(state(&mut world, tom, "ada"), "offline", "seed {seed}");
        world.publish(tom, "chat/d/ada~tom", json!({"type": "text", "text": "hi"})).expect("published");
        pass(&mut world, 200);
        watch(&mut world, ada, "ada");
        pass(&mut world, 1_000_000);
        assert_eq!(told(&mut world, ada), [], "seed {seed}: refreshes are nothing to tell");
        assert_eq!(state(&mut world, tom, "ada"), "online", "seed {seed}: after a quarter of an hour");
        world.ask(ada, "inbox.forget", json!({"topic": "chat/d/ada~tom"})).expect("forgotten");
        assert_eq!(state(&mut world, tom, "ada"), "offline", "seed {seed}: not in her list any longer");
    }
}

#[test]
fn questions_are_bounded() {
    let (mut world, ada, _) = friends(1);
    let many: Vec<String> = (0..101).map(|n| format!("user-{n}")).collect();
    for bad in [json!({"users": []}), json!({"users": many}), json!({}), json!({"users": ["x".repeat(65)]})] {
        assert_eq!(world.ask(ada, "presence.get", bad), Err(Code::InvalidArgument));
    }
    for bad in [json!({"state": "offline"}), json!({}), json!({"state": 1})] {
        assert_eq!(world.ask(ada, "presence.set", bad), Err(Code::InvalidArgument));
    }
    pass(&mut world, 20_000);
    (0..10).for_each(|_| drop(world.ask(ada, "presence.watch", json!({})).expect("ten at once")));
    assert_eq!(world.ask(ada, "presence.watch", json!({})), Err(Code::ResourceExhausted));
    assert_eq!(world.ask(ada, "presence.get", json!({"users": ["bob"]})), Err(Code::ResourceExhausted));
    pass(&mut world, 1_000);
    assert!(world.ask(ada, "presence.watch", json!({})).is_ok());
}
