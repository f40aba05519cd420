//! Topics whose last message has gone: they leave memory, go on where they were, and are forgotten when there are too many.

use std::time::Duration;

use bytes::Bytes;
use handler::{Code, Message, Peer, PeerInfo, Push};
use rand::Rng;
use simnet::CrashPlan;
use topic::{Change, Limits, Size, Stats, Watermark};

use crate::{
    disk::{Heard, Stop},
    reader::Story,
};

const READER: usize = 1;
const WRITER: usize = 3;

const POWER: Stop = Stop::PowerLoss(CrashPlan { keep: 0.5, garbage: 0.2, flip_synced_bits: 0 });

/// Longer than messages are kept, and than it takes to look for what may go.
const AGE: Duration = Duration::from_secs(45);

fn begin(seed: u64, topics_max: usize) -> Story {
    println!("seed {seed}");
    let limits = Limits { segment_bytes: 32 * 1024, retention_ms: 30_000, topics_max, ..Limits::default() };
    Story::new(seed, 1, limits, true)
}

fn run(story: &mut Story) {
    story.machine.start(false).expect("nothing is damaged");
    [READER, WRITER].iter().for_each(|who| story.connect(*who));
}

fn size(story: &Story) -> Size {
    story.machine.shards[0].topics.size()
}

fn stats(story: &Story) -> Stats {
    story.machine.shards[0].topics.stats()
}

fn write(story: &mut Story, topic: &str, messages: usize) {
    for _ in 0..messages {
        story.publish(WRITER, topic);
        story.pass(Duration::from_millis(1));
    }
    story.pass(Duration::from_millis(50));
}

#[test]
fn topics_without_messages_leave_memory_and_go_on_where_they_were() {
    let mut story = begin(1, 8);
    run(&mut story);
    let rooms: Vec<String> = (0..24).map(|n| format!("room/{n}")).collect();
    for (n, room) in rooms.iter().enumerate() {
        write(&mut story, room, 3);
        if n == 0 {
            story.subscribe_from_start(READER, room);
            story.pass(Duration::from_millis(50));
            story.mark(READER, room);
            story.unsubscribe(READER, room);
        }
        if n % 4 == 3 {
            // Without this the table would be full.
            story.pass(AGE);
        }
    }
    assert_eq!((size(&story).topics, size(&story).asleep), (0, rooms.len()), "only what cannot be told otherwise");
    let marked = story.machine.shards[0].topics.watermark("room/0", "ada").expect("it was raised");
    for _ in 0..2 {
        story.learn_heads_of(&rooms);
        assert_eq!(size(&story).topics, 0, "whoever only looks wakes nobody");
        assert_eq!(story.machine.shards[0].topics.tail("room/1").head, story.oracle.known("room/1"));
        assert_eq!(story.machine.shards[0].topics.watermark("room/0", "ada"), Some(marked));
        assert_eq!(story.machine.shards[0].topics.marks("room/0").collect::<Vec<_>>(), [("ada", marked)]);
        story.stop(POWER);
        run(&mut story);
        story.check_recovered();
        // Of some the last segment had old messages, which go first.
        story.pass(AGE);
        assert_eq!((size(&story).topics, size(&story).asleep), (0, rooms.len()), "also after a new start");
    }
    let before = story.mark_of(READER, "room/0").expect("it has read that");
    story.subscribe_from_start(READER, "room/0");
    story.pass(Duration::from_millis(50));
    assert_eq!(story.mark_of(READER, "room/0").expect("subscribed").0, before.0, "it is the same history");
    write(&mut story, "room/0", 2);
    assert!(story.oracle.known("room/0") > before.1);
    assert_eq!((story.oracle.begun_anew, size(&story).topics), (0, 1));
    assert_eq!(story.machine.shards[0].topics.watermark("room/0", "ada"), Some(marked));
}

#[test]
fn what_somebody_listens_to_or_has_messages_stays() {
    let mut story = begin(2, 8);
    run(&mut story);
    write(&mut story, "room/a", 3);
    write(&mut story, "room/b", 3);
    story.subscribe_from_start(READER, "room/a");
    story.pass(AGE);
    assert_eq!((size(&story).topics, size(&story).asleep), (1, 1));
    write(&mut story, "room/b", 1);
    assert_eq!((size(&story).topics, size(&story).asleep), (2, 0));
    story.unsubscribe(READER, "room/a");
    story.pass(AGE);
    assert_eq!((size(&story).topics, size(&story).asleep), (0, 2));
    assert_eq!(size(&story).names, 0, "nothing is held for them");
}

/// A topic that was forgotten begins anew, and nothing of the history before ever comes back.
#[test]
fn too_many_topics_are_forgotten_once_no_segment_has_a_message_of_them() {
    let mut forgotten = 0;
    for seed in 0..6 {
        let mut story = begin(seed, 4);
        story.crowded = true;
        run(&mut story);
        let rooms: Vec<String> = (0..40).map(|n| format!("room/{n}")).collect();
        // The facts of an app keep what they are about.
        story.record_as("room/x", &[Change { key: "f/1".to_owned(), value: Some(Bytes::from_static(b"it is kept")) }]);
        write(&mut story, "room/x", 3);
        story.pass(AGE);
        for round in 0..60 {
            let room = &rooms[story.machine.rng.random_range(0..rooms.len())];
            write(&mut story, room, 12);
            let ms = story.machine.rng.random_range(0..60_000);
            story.pass(Duration::from_millis(ms));
            let Size { topics, asleep, .. } = size(&story);
            assert!(topics <= 4 && topics + asleep <= 16, "{topics} and {asleep}");
            if round % 6 == 5 {
                forgotten += stats(&story).forgotten;
                let how = if story.machine.rng.random() { Stop::Kill } else { POWER };
                story.stop(how);
                run(&mut story);
                story.check_recovered();
            }
            story.learn_heads_of(&rooms);
        }
        forgotten += stats(&story).forgotten;
        assert!(story.machine.shards[0].topics.tail("room/x").head > 0, "what has facts is not forgotten");
    }
    println!("{forgotten} were forgotten");
    assert!(forgotten > 60);
}

#[test]
fn nothing_is_forgotten_while_a_segment_may_have_a_message_of_it() {
    let mut story = begin(3, 4);
    (story.crowded, story.machine.limits.segment_bytes) = (true, 4 * 1024 * 1024);
    run(&mut story);
    // All of this fits the segment that is being written, which does not go.
    for n in 0..24 {
        story.publish(WRITER, &format!("room/{n}"));
        story.pass(Duration::from_millis(10));
        if n % 4 == 3 {
            story.pass(AGE);
        }
    }
    let Size { topics, asleep, .. } = size(&story);
    assert_eq!((topics + asleep, stats(&story).forgotten), (16, 0));
    assert!(story.refused > 0, "a room beyond those that may be known is refused");
    let refused = story.refused;
    write(&mut story, "room/0", 1);
    assert_eq!(story.refused, refused, "one that is known goes on");
}

/// What anybody can make leaves places for what only some can.
#[test]
fn places_are_kept_for_those_that_the_app_names() {
    let mut story = begin(4, 8);
    (story.crowded, story.machine.reserved) = (true, &["user/"]);
    // Nothing is forgotten, as this fits the segment that is being written.
    story.machine.limits.segment_bytes = 4 * 1024 * 1024;
    run(&mut story);
    for n in 0..8 {
        write(&mut story, &format!("room/{n}"), 1);
    }
    assert_eq!((size(&story).topics, story.refused), (4, 4));
    for n in 0..4 {
        write(&mut story, &format!("user/{n}"), 1);
    }
    assert_eq!((size(&story).topics, story.refused), (8, 4));
    write(&mut story, "user/4", 1);
    assert_eq!((size(&story).topics, story.refused), (8, 5));
    // So it is with those that are known: guests have half of them.
    for round in 0..10 {
        story.pass(AGE);
        for n in 0..4 {
            write(&mut story, &format!("hall/{round}/{n}"), 1);
        }
    }
    story.pass(AGE);
    let refused = story.refused;
    write(&mut story, "hall/last", 1);
    assert_eq!(story.refused, refused + 1);
    write(&mut story, "user/5", 1);
    assert_eq!(story.refused, refused + 1);
}

/// Marks of guests fill half of the room that there is, and leave the other half.
#[test]
fn marks_have_a_limit_and_guests_half_of_it() {
    let mut story = begin(5, 1);
    run(&mut story);
    write(&mut story, "room/a", 3);
    let topic = "room/a";
    let mark = |story: &mut Story, n: u32, guest: bool| {
        let (peer, user) = (Peer { index: 100 + n, generation: 0 }, format!("user-{n:02}"));
        story.machine.open(0, peer, &PeerInfo { user: user.as_str().into(), device: "x".into(), guest });
        story.machine.say((0, peer), Message::Sub { id: 1, topic, epoch: None, after: None });
        story.machine.say((0, peer), Message::Ack { topic, delivered: 2, read: 1 });
        story.machine.pass(Duration::from_secs(1));
        story.machine.close(0, peer);
        story.machine.heard.clear();
    };
    (0..6).for_each(|n| mark(&mut story, n, true));
    (6..12).for_each(|n| mark(&mut story, n, false));
    (0..2).for_each(|n| mark(&mut story, n, true));
    let kept = |story: &Story| {
        let facts = story.machine.shards[0].topics.facts(topic, "mark/", None);
        facts.map(|(key, _)| key.to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(kept(&story), ["mark/user-00", "mark/user-01", "mark/user-06", "mark/user-07"]);
    assert_eq!(stats(&story).marks_lost, 8);
    // Whoever leaves makes room, on disk too.
    story.machine.shards[0].topics.forget_marks(topic, "user-00");
    story.machine.pass(Duration::from_secs(1));
    story.stop(Stop::Kill);
    run(&mut story);
    assert_eq!(kept(&story), ["mark/user-01", "mark/user-06", "mark/user-07"]);
    let topics = &story.machine.shards[0].topics;
    assert_eq!(topics.watermark(topic, "user-00"), None);
    assert_eq!(topics.watermark(topic, "user-06"), Some(Watermark { delivered: 2, read: 1 }));
}

/// Marks of a history that is gone do not stay: neither on disk nor in memory.
#[test]
fn marks_go_with_the_history_that_they_are_of() {
    let mut story = begin(6, 4);
    story.crowded = true;
    run(&mut story);
    write(&mut story, "room/0", 3);
    story.subscribe_from_start(READER, "room/0");
    story.pass(Duration::from_millis(50));
    story.mark(READER, "room/0");
    story.pass(Duration::from_secs(1));
    story.unsubscribe(READER, "room/0");
    let marks = |story: &Story| story.machine.shards[0].topics.facts("room/0", "mark/", None).count();
    assert_eq!(marks(&story), 1);
    for n in 1..40 {
        write(&mut story, &format!("room/{n}"), 12);
        story.pass(AGE);
    }
    assert!(stats(&story).forgotten > 0);
    assert_eq!((marks(&story), story.machine.shards[0].topics.fact("room/0", "~head")), (0, None));
    let limits = story.machine.limits;
    story.machine.limits = Limits { topics_max: 1_000, ..limits };
    story.stop(POWER);
    run(&mut story);
    story.pass(Duration::from_secs(6));
    assert_eq!((marks(&story), story.machine.shards[0].topics.watermark("room/0", "ada")), (0, None));
}

/// What is known of a refusal by whoever gets it: a reason, and when to try again.
#[test]
fn a_topic_too_many_is_refused_with_the_reason() {
    let mut story = begin(7, 1);
    run(&mut story);
    for n in 0..4 {
        write(&mut story, &format!("room/{n}"), 1);
        story.pass(AGE);
    }
    let peer = Peer { index: 99, generation: 0 };
    story.machine.open(0, peer, &PeerInfo { user: "eve".into(), device: "x".into(), guest: true });
    story.machine.say((0, peer), Message::Sub { id: 7, topic: "room/more", epoch: None, after: None });
    let told = story.machine.heard.drain(..).find_map(|heard| match heard {
        Heard::Push(_, _, Push::Err { id: Some(7), code, message, retry_ms }) => Some((code, message, retry_ms)),
        _ => None,
    });
    let (code, message, retry_ms) = told.expect("refused");
    assert_eq!((code, &*message), (Code::ResourceExhausted, "too many topics have been written to"));
    assert!(retry_ms.is_some());
}
