//! Messages that are edited and recalled, in memory and on disk: what was recalled is given to nobody again.

use chat::{Settings, rate::Rates};
use handler::Code;
use serde_json::{Value, json};
use topic::Limits;

use crate::world::World;

const USERS: [&str; 2] = ["ada", "bob"];

fn text(text: &str) -> Value {
    json!({"type": "text", "text": text})
}

/// A group of two, of which eight messages are in memory.
fn group(seed: u64, durable: bool) -> (World, String) {
    let mut world = World::small(seed, durable, &USERS, 8);
    world.befriend("ada", "bob");
    let ada = world.enter("ada");
    let made = world.ask(ada, "chat.create", json!({"name": "us", "users": ["bob"]})).expect("made");
    let topic = made["topic"].as_str().expect("a topic").to_owned();
    (world, topic)
}

/// All messages as pages of the history give them, and as a new subscription does: offset and body.
fn histories(world: &mut World, user: &str, topic: &str) -> [Vec<(u64, Value)>; 2] {
    let client = world.enter(user);
    let (mut pages, mut before) = (Vec::new(), None::<u64>);
    loop {
        let page = world.ask(client, "chat.history", json!({"topic": topic, "before": before, "limit": 7}));
        let page = page.expect("a page");
        let messages = page["messages"].as_array().expect("a list");
        let line = |line: &Value| (line["offset"].as_u64().expect("a number"), line["body"].clone());
        pages.splice(0..0, messages.iter().map(line));
        before = pages.first().map(|(offset, _)| *offset);
        if page["more"] == json!(false) {
            break;
        }
    }
    world.subscribe(client, topic, Some(0)).expect("a member");
    world.run();
    let heard = world.heard(client).into_iter().map(|(_, offset, _, body)| (offset, body)).collect();
    [pages, heard]
}

#[test]
fn a_recalled_message_and_its_edits_are_given_to_nobody_again() {
    for seed in 0..20 {
        for (durable, between) in [(true, 0), (true, 30), (false, 3)] {
            println!("seed {seed}, durable {durable}, {between} between");
            let (mut world, topic) = group(seed, durable);
            let [ada, bob] = USERS.map(|user| world.enter(user));
            let body = json!({"type": "text", "text": "secret", "client_id": "c-1"});
            assert_eq!(world.publish(bob, &topic, body), Ok(2));
            let edit = json!({"type": "edit", "offset": 2, "text": "a secret"});
            assert_eq!(world.publish(bob, &topic, edit), Ok(3));
            (0..between).for_each(|n| assert!(world.publish(ada, &topic, text(&n.to_string())).is_ok()));
            let [pages, heard] = histories(&mut world, "bob", &topic);
            assert_eq!(pages.iter().filter(|(_, body)| body.to_string().contains("secret")).count(), 2);
            assert_eq!(pages, heard);
            world.later(1_000);
            let at_ms = world.wall_ms;
            // After many messages it comes from the disk first.
            let recall = json!({"type": "recall", "offset": 2});
            assert_eq!(world.publish(ada, &topic, recall.clone()), Ok(4 + between), "the owner may");
            assert_eq!(world.publish(bob, &topic, recall).err(), Some(Code::FailedPrecondition), "once");
            let again = json!({"type": "edit", "offset": 2, "text": "again"});
            assert_eq!(world.publish(bob, &topic, again).err(), Some(Code::FailedPrecondition));
            for crashed in [false, durable] {
                if crashed {
                    world.crash();
                }
                let [pages, heard] = histories(&mut world, "bob", &topic);
                assert_eq!(pages, heard);
                let offsets: Vec<u64> = pages.iter().map(|(offset, _)| *offset).collect();
                assert_eq!(offsets, (1..=4 + between).collect::<Vec<_>>());
                let of = |offset: u64| json!({"type": "recalled", "offset": offset, "by": "ada", "at_ms": at_ms, "client_id": "c-1"});
                assert_eq!((&pages[1].1, &pages[2].1), (&of(2), &of(3)));
                assert!(pages.iter().all(|(_, body)| !body.to_string().contains("secret")));
            }
        }
    }
}

#[test]
fn a_message_is_edited_and_recalled_when_it_is_on_disk_only() {
    for seed in 0..20 {
        println!("seed {seed}");
        let (mut world, topic) = group(seed, true);
        let [ada, bob] = USERS.map(|user| world.enter(user));
        assert_eq!(world.publish(bob, &topic, text("wrong")), Ok(2));
        (0..20).for_each(|n| assert!(world.publish(ada, &topic, text(&n.to_string())).is_ok()));
        let edit = json!({"type": "edit", "offset": 2, "text": "better"});
        assert_eq!(world.publish(ada, &topic, edit.clone()).err(), Some(Code::PermissionDenied));
        assert_eq!(world.publish_seq(bob, &topic, Some(1), edit.clone()), Ok(23));
        assert_eq!(world.publish_seq(bob, &topic, Some(1), edit), Ok(23), "a repeat");
        let system = json!({"type": "recall", "offset": 1});
        assert_eq!(world.publish(ada, &topic, system).err(), Some(Code::FailedPrecondition), "the server's");
        assert_eq!(world.publish(bob, &topic, json!({"type": "recall", "offset": 2})), Ok(24));
    }
}

#[test]
fn a_message_is_edited_so_often() {
    let edit = json!({"type": "edit", "offset": 2, "text": "y"});
    let (mut world, topic) = group(1, true);
    let bob = world.enter("bob");
    assert_eq!(world.publish(bob, &topic, text("x")), Ok(2));
    (0..100).for_each(|_| assert!(world.publish(bob, &topic, edit.clone()).is_ok()));
    assert_eq!(world.publish(bob, &topic, edit).err(), Some(Code::FailedPrecondition));
    assert!(world.publish(bob, &topic, json!({"type": "recall", "offset": 2})).is_ok());
    let [pages, _] = histories(&mut world, "bob", &topic);
    assert_eq!(pages.iter().filter(|(_, body)| body["type"] == "recalled").count(), 101);
}

#[test]
fn a_recall_that_was_refused_has_not_happened() {
    for seed in 0..20 {
        println!("seed {seed}");
        let (mut world, topic) = group(seed, true);
        let bob = world.enter("bob");
        assert_eq!(world.publish(bob, &topic, text("still here")), Ok(2));
        let recall = json!({"type": "recall", "offset": 2});
        if seed % 2 == 0 {
            world.stop_taking();
        } else {
            (0..3).for_each(|shard| world.fill_disk(shard, true));
        }
        assert_eq!(world.publish(bob, &topic, recall.clone()).err(), Some(Code::Unavailable));
        (0..3).for_each(|shard| world.fill_disk(shard, false));
        world.crash();
        let [pages, heard] = histories(&mut world, "bob", &topic);
        assert_eq!((&pages[1].1, pages.len()), (&text("still here"), 2));
        assert_eq!(pages, heard);
        let bob = world.enter("bob");
        assert_eq!(world.publish(bob, &topic, recall), Ok(3));
    }
}

#[test]
fn an_edit_that_opens_a_new_day_is_found_again_when_its_message_is_recalled() {
    for seed in 0..20 {
        println!("seed {seed}");
        let (mut world, topic) = group(seed, seed % 2 == 0);
        let bob = world.enter("bob");
        world.later(86_399_000 - world.wall_ms);
        assert_eq!(world.publish(bob, &topic, text("secret")), Ok(2));
        world.later(2_000);
        assert_eq!(world.publish(bob, &topic, json!({"type": "edit", "offset": 2, "text": "secrets"})), Ok(4));
        assert_eq!(world.publish(bob, &topic, json!({"type": "recall", "offset": 2})), Ok(5));
        let [pages, heard] = histories(&mut world, "bob", &topic);
        assert_eq!(pages, heard);
        let types: Vec<&Value> = pages.iter().map(|(_, body)| &body["type"]).collect();
        assert_eq!(types, ["system", "recalled", "system", "recalled", "recall"]);
    }
}

/// A room that is acknowledged from memory on a server with disks: what was recalled stays so, whatever the disk takes.
#[test]
fn a_recall_in_memory_holds_for_as_long_as_the_messages_do() {
    for seed in 0..20 {
        println!("seed {seed}");
        let mut world = World::in_memory(seed, &USERS, Limits::default(), &["chat/lobby"]);
        let topic = "chat/lobby";
        let [ada, bob] = USERS.map(|user| world.enter(user));
        world.subscribe(ada, topic, None).expect("open");
        assert_eq!(world.publish(bob, topic, text("secret")), Ok(1));
        assert_eq!(world.publish(bob, topic, json!({"type": "edit", "offset": 1, "text": "secrets"})), Ok(2));
        // The disk is full, which nobody has noticed, or everybody.
        world.fill_disks(seed % 2 == 0);
        if seed % 4 == 0 {
            assert!(world.ask(bob, "contact.request", json!({"user": "ada"})).is_err());
        }
        assert_eq!(world.publish(bob, topic, json!({"type": "recall", "offset": 1})), Ok(3));
        assert_eq!(world.heard(ada).len(), 3, "who listens is told of the recall");
        world.later(5_000);
        let check = |world: &mut World, when: &str| {
            let [pages, heard] = histories(world, "ada", topic);
            assert_eq!(pages, heard);
            let types: Vec<&Value> = pages.iter().map(|(_, body)| &body["type"]).collect();
            assert_eq!(types, ["recalled", "recalled", "recall"], "{when}");
        };
        check(&mut world, "while it runs");
        world.fill_disks(false);
        world.later(5_000);
        check(&mut world, "when there is space again");
        world.restart();
        check(&mut world, "in the next run");
        world.restart();
        check(&mut world, "in the run after that");
        // After a crash nothing is left of the room, and nothing is said of what it gets.
        world.crash();
        let [ada, bob] = USERS.map(|user| world.enter(user));
        (1..=3).for_each(|n| assert_eq!(world.publish(ada, topic, text(&n.to_string())), Ok(n)));
        assert_eq!(world.publish(ada, topic, json!({"type": "recall", "offset": 1})), Ok(4));
        let [pages, heard] = histories(&mut world, "bob", topic);
        assert_eq!(pages, heard);
        assert_eq!(pages[1].1, text("2"), "an edit of the room before is not one of this one");
        assert!(world.publish(bob, topic, text("hello")).is_ok());
    }
}

/// Rooms in memory that make room for others take with them what was said of their messages.
#[test]
fn a_room_that_begins_anew_is_told_nothing_of_the_one_before() {
    for (seed, durable) in (0..10).flat_map(|seed| [(seed, false), (seed, true)]) {
        println!("seed {seed}, durable {durable}");
        let limits = Limits { topics_max: 4, ..Limits::default() };
        let settings = Settings { rates: Rates::OFF, ..Settings::default() };
        let mut world = match durable {
            true => World::in_memory(seed, &USERS, limits, &["chat/*"]),
            false => World::with_limits(seed, false, &USERS, (settings, limits)),
        };
        let bob = world.enter("bob");
        let write = |world: &mut World, topic: &str| {
            assert_eq!(world.publish(bob, topic, text("x")), Ok(1));
            assert_eq!(world.publish(bob, topic, json!({"type": "edit", "offset": 1, "text": "y"})), Ok(2));
            assert_eq!(world.publish(bob, topic, text("z")), Ok(3));
        };
        for n in 0..40 {
            write(&mut world, &format!("chat/room-{n}"));
        }
        let said = world.facts_about("chat/room-");
        assert!(said <= 3 * 4, "{said} facts about rooms of which three shards hold four each");
        // The next run has fewer places.
        world.limits.topics_max = 1;
        world.restart();
        let said = world.facts_about("chat/room-");
        assert!((1..=3).contains(&said), "{said} facts about rooms of which three shards hold one each");
    }
}

/// An edit that finds no room in memory has not happened, and what gets its offset is somebody else's.
#[test]
fn an_edit_that_finds_no_room_leaves_nothing_behind() {
    for seed in 0..10 {
        println!("seed {seed}");
        let limits = Limits { history_bytes_max: 2_048, ..Limits::default() };
        let settings = Settings { rates: Rates::OFF, ..Settings::default() };
        let mut world = World::with_limits(seed, false, &USERS, (settings, limits));
        let topic = "chat/lobby";
        let [ada, bob] = USERS.map(|user| world.enter(user));
        assert_eq!(world.publish(bob, topic, text("secret")), Ok(1));
        let long = json!({"type": "edit", "offset": 1, "text": "x".repeat(3_000)});
        assert_eq!(world.publish(bob, topic, long).err(), Some(Code::ResourceExhausted));
        assert_eq!(world.publish(ada, topic, text("hello")), Ok(2));
        assert_eq!(world.publish(bob, topic, json!({"type": "recall", "offset": 1})), Ok(3));
        let [pages, heard] = histories(&mut world, "ada", topic);
        assert_eq!(pages, heard);
        assert_eq!((&pages[0].1["type"], &pages[1].1), (&json!("recalled"), &text("hello")));
    }
}

/// What was changed and is kept no longer does not come back when the operator keeps messages for longer: what was said of
/// it is gone.
#[test]
fn what_was_changed_and_trimmed_stays_gone_when_messages_are_kept_for_longer() {
    for (seed, recalls) in (0..10).flat_map(|seed| [(seed, false), (seed, true)]) {
        println!("seed {seed}, recalls {recalls}");
        let (short, long) = (30_000, 3_600_000);
        let limits = Limits { retention_ms: short, ..Limits::default() };
        let settings = Settings { rates: Rates::OFF, ..Settings::default() };
        let mut world = World::with_limits(seed, true, &USERS, (settings, limits));
        let topic = "chat/lobby";
        let bob = world.enter("bob");
        assert_eq!(world.publish(bob, topic, text("secret")), Ok(1));
        assert_eq!(world.publish(bob, topic, json!({"type": "edit", "offset": 1, "text": "secrets"})), Ok(2));
        if recalls {
            assert_eq!(world.publish(bob, topic, json!({"type": "recall", "offset": 1})), Ok(3));
        }
        (0..5).for_each(|_| world.later(5_000));
        let kept = world.publish(bob, topic, text("kept")).expect("open");
        (0..3).for_each(|_| world.later(5_000));
        assert_eq!(world.facts_about(topic), 0, "what was said of what is gone went with it");
        let edit = json!({"type": "edit", "offset": kept, "text": "kept for longer"});
        assert_eq!(world.publish(bob, topic, edit), Ok(kept + 1));
        assert_eq!(world.facts_about(topic), 1);
        world.limits.retention_ms = long;
        for _ in 0..2 {
            world.crash();
            let [pages, heard] = histories(&mut world, "ada", topic);
            assert_eq!(pages, heard);
            let offsets: Vec<u64> = pages.iter().map(|(offset, _)| *offset).collect();
            assert_eq!(offsets, [kept, kept + 1]);
        }
    }
}

/// Two users' conversation is in memory, and the operator wants it on disk from the next run on: what was recalled stays
/// so, with its edits.
#[test]
fn a_recall_in_memory_holds_when_the_next_run_writes_the_conversation_to_disk() {
    for seed in 0..10 {
        println!("seed {seed}");
        let mut world = World::in_memory(seed, &USERS, Limits::default(), &["chat/d/*"]);
        let topic = "chat/d/ada~bob";
        let bob = world.enter("bob");
        assert_eq!(world.publish(bob, topic, text("secret")), Ok(1));
        assert_eq!(world.publish(bob, topic, json!({"type": "edit", "offset": 1, "text": "secrets"})), Ok(2));
        assert_eq!(world.publish(bob, topic, json!({"type": "recall", "offset": 1})), Ok(3));
        assert_eq!(world.publish(bob, topic, text("a word")), Ok(4));
        assert_eq!(world.publish(bob, topic, json!({"type": "edit", "offset": 4, "text": "two words"})), Ok(5));
        let check = |world: &mut World, wanted: &[&str]| {
            let [pages, heard] = histories(world, "ada", topic);
            assert_eq!(pages, heard);
            let types: Vec<&Value> = pages.iter().map(|(_, body)| &body["type"]).collect();
            assert_eq!(types, wanted, "{pages:?}");
        };
        let before = ["recalled", "recalled", "recall", "text", "edit"];
        world.restart();
        check(&mut world, &before);
        world.in_memory.clear();
        world.restart();
        check(&mut world, &before);
        // The list of edits came along.
        let bob = world.enter("bob");
        assert_eq!(world.publish(bob, topic, json!({"type": "recall", "offset": 4})), Ok(6));
        let after = ["recalled", "recalled", "recall", "recalled", "recalled", "recall"];
        check(&mut world, &after);
        world.crash();
        check(&mut world, &after);
    }
}
