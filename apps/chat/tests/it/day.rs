//! A new day in a conversation is said before its first message, once, whatever happens in between.

use chat::{Settings, rate::Rates};
use serde_json::{Value, json};

use crate::world::{Heard, World};

const DAY_MS: u64 = 86_400_000;
const ROOM: &str = "chat/lobby";

fn text(text: &str) -> Value {
    json!({"type": "text", "text": text})
}

fn notice(date: &str, day: u64) -> Value {
    json!({"type": "system", "event": "day", "date": date, "day": day, "by": ""})
}

fn bodies(heard: Vec<Heard>) -> Vec<Value> {
    heard.into_iter().map(|(.., body)| body).collect()
}

/// At this hour of the first day that the worlds know.
fn at_hour(world: &mut World, day: u64, hour: u64) {
    let ms = day * DAY_MS + hour * 3_600_000;
    world.later(ms - world.wall_ms);
}

#[test]
fn the_first_message_of_a_day_has_its_date_before_it_in_every_kind_of_conversation() {
    for (seed, durable) in (0..10_u64).map(|seed| (seed, seed.is_multiple_of(2))) {
        let mut world = World::new(seed, durable, &["ada", "bob"]);
        let (ada, bob) = (world.enter("ada"), world.enter("bob"));
        let made = world.ask(ada, "chat.create", json!({"name": "us", "users": ["bob"]})).expect("made");
        let group = made["topic"].as_str().expect("a topic").to_owned();
        world.ask(bob, "chat.join", json!({"topic": group})).expect("asked");
        for topic in [ROOM, "chat/d/ada~bob", group.as_str()] {
            world.publish(ada, topic, text("one")).expect("published");
            world.subscribe(bob, topic, None).expect("may");
        }
        world.heard(bob);
        at_hour(&mut world, 3, 1);
        for topic in [ROOM, "chat/d/ada~bob", group.as_str()] {
            // Two at once: while the notice is on its way to disk.
            let (topic, body) = (String::leak(topic.to_owned()), text("two").to_string().into_bytes().leak());
            for client in [ada, bob] {
                world.say(client, |id| handler::Message::Pub { id, topic, seq: None, body });
            }
            world.run();
            world.publish(ada, topic, text("three")).expect("published");
            let expected = vec![notice("1970-01-04", 3), text("two"), text("two"), text("three")];
            assert_eq!(bodies(world.heard(bob)), expected, "seed {seed}: {topic}");
        }
        at_hour(&mut world, 4, 1);
        world.ask(ada, "chat.rename", json!({"topic": group, "name": "we"})).expect("renamed");
        let told: Vec<Value> = bodies(world.heard(bob));
        assert_eq!(told.iter().map(|body| &body["event"]).collect::<Vec<_>>(), ["day", "renamed"], "seed {seed}");
    }
}

#[test]
fn a_day_is_said_once_also_across_crashes() {
    for seed in 0..40 {
        let mut world = World::new(seed, true, &["ada"]);
        let mut ada = world.enter("ada");
        world.publish(ada, ROOM, text("one")).expect("published");
        let mut acknowledged = 1;
        for day in 1..4 {
            at_hour(&mut world, day, 2);
            for n in 0..3_u64 {
                let body = text("more").to_string().into_bytes().leak();
                world.say(ada, |id| handler::Message::Pub { id, topic: ROOM, seq: None, body });
                // The crash comes somewhere between a message and its acknowledgement.
                (0..(seed * 7 + day * 3 + n) % 9).for_each(|_| _ = world.step());
                world.crash();
                world.run();
                ada = world.enter("ada");
            }
            world.publish(ada, ROOM, text("kept")).expect("published");
            acknowledged += 1;
        }
        world.subscribe(ada, ROOM, Some(0)).expect("may");
        world.run();
        let all = bodies(world.heard(ada));
        let days: Vec<u64> = all.iter().filter_map(|body| body["day"].as_u64()).collect();
        assert_eq!(days, [1, 2, 3], "seed {seed}: {all:?}");
        let kept = all.iter().filter(|body| body["text"] == "kept" || body["text"] == "one").count();
        assert_eq!(kept, acknowledged, "seed {seed}");
        assert_eq!(all[0], text("one"), "seed {seed}: nothing came before the first message");
    }
}

#[test]
fn midnight_is_where_the_configuration_has_it() {
    for (offset_min, hour) in [(0, 24), (120, 22), (-300, 29)] {
        let settings = Settings { rates: Rates::OFF, day_offset_min: offset_min, ..Settings::default() };
        let mut world = World::with(1, false, &["ada"], settings);
        let ada = world.enter("ada");
        at_hour(&mut world, 1, 12);
        world.publish(ada, ROOM, text("noon")).expect("published");
        world.later((hour - 12) * 3_600_000 - 1);
        assert_eq!(world.publish(ada, ROOM, text("late")), Ok(2), "{offset_min}");
        world.later(1);
        assert_eq!(world.publish(ada, ROOM, text("early")), Ok(4), "{offset_min}: a notice is before it");
    }
}
