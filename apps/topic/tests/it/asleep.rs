//! Topics whose last message has gone: they leave memory, go on where they were, and are forgotten when there are too many.

use std::time::Duration;

use bytes::Bytes;
use handler::{Code, Message, Peer, PeerInfo, Push};
use rand::Rng;
use simnet::{CrashPlan, DiskConfig, Latency};
use topic::{Change, Limits, Size, Stats, Watermark};

use crate::{
    disk::{Heard, NOBODY, Stop, disk_config},
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

/// Says something of messages of a room, of each in two ways.
fn say(story: &mut Story, room: &str, offsets: std::ops::Range<u64>) {
    story.machine.call(0, |topics, _| {
        let of = |offset| [topics.instead(room, offset, b"{}"), topics.say_of(room, ("edits/", offset), b"[]")];
        let changes: Vec<Change> = offsets.flat_map(of).flatten().collect();
        topics.record(room, &changes, NOBODY).expect("there is room");
    });
}

/// How many facts there are about messages of a room, and whether it has begun.
fn said(story: &Story, room: &str) -> (usize, bool) {
    let topics = &story.machine.shards[0].topics;
    let said = ["instead/", "edits/"].into_iter().map(|kind| topics.facts(room, kind, None).count()).sum();
    (said, topics.tail(room).head > 0)
}

/// What was said of a topic's messages keeps no topic, and nothing of it outlives the topic, wherever the power goes.
#[test]
fn topics_are_forgotten_with_what_was_said_of_their_messages() {
    let (mut forgotten, mut met, mut with_facts) = (0, 0, 0);
    for seed in 0..6 {
        let mut story = begin(seed, 4);
        story.crowded = true;
        run(&mut story);
        let rooms: Vec<String> = (0..60).map(|n| format!("room/{n}")).collect();
        for (round, room) in rooms.iter().enumerate() {
            // Nobody publishes here again: what is said of it would stay for ever.
            write(&mut story, room, 12);
            assert!(said(&story, room).1, "there is no place for {room}");
            say(&mut story, room, 1..4);
            let ms = story.machine.rng.random_range(30_000..70_000);
            story.pass(Duration::from_millis(ms));
            if round % 4 == 3 {
                // About when a look forgets some.
                let to_look = 5_000 - (story.machine.elapsed().as_millis() as u64 % 5_000);
                let us = story.machine.rng.random_range(0..6_000);
                story.pass(Duration::from_millis(to_look) + Duration::from_micros(us));
                forgotten += stats(&story).forgotten;
                let how = if story.machine.rng.random() { Stop::Kill } else { POWER };
                story.stop(how);
                run(&mut story);
                story.check_recovered();
            }
            for room in &rooms {
                let (said, has_begun) = said(&story, room);
                let oldest = story.machine.shards[0].topics.oldest(room);
                // Those of messages that are there, and of others until a look takes them.
                let least = 2 * (1..4).filter(|offset| *offset >= oldest).count();
                let most = if has_begun { 6 } else { 0 };
                assert!(!has_begun || (least..=most).contains(&said), "{room}: {said} facts, {least} at least");
                assert!(has_begun || said == 0, "{room}: {said} facts");
                met += u64::from(has_begun);
                with_facts += u64::from(said > 0);
            }
            let Size { topics, asleep, .. } = size(&story);
            assert!(topics + asleep < 16, "{topics} and {asleep}");
        }
        forgotten += stats(&story).forgotten;
        assert_eq!(story.refused, 0);
    }
    println!("{forgotten} were forgotten, {met} times one was not, {with_facts} times with facts");
    assert!(forgotten > 200 && met > 1_000 && with_facts > 30);
}

/// So much can be said of one topic that it goes in steps.
#[test]
fn what_was_said_a_thousand_times_is_forgotten_in_steps() {
    let mut story = begin(8, 4);
    story.crowded = true;
    run(&mut story);
    write(&mut story, "room/said", 12);
    for part in 0..20 {
        say(&mut story, "room/said", part * 400..(part + 1) * 400);
        story.pass(Duration::from_millis(50));
    }
    let (mut before, mut steps) = (said(&story, "room/said").0, 0);
    assert_eq!(before, 16_000);
    for n in 0..40 {
        write(&mut story, &format!("room/{n}"), 12);
        for _ in 0..900 {
            story.pass(Duration::from_millis(50));
            let (now, has_begun) = said(&story, "room/said");
            assert!(now <= before && before - now <= 8_000, "{before} and then {now}");
            assert!(has_begun || now == 0, "the rest goes with it");
            let waiting = story.machine.shards[0].topics.journal().expect("there is one").waiting_bytes;
            assert!(waiting < 1024 * 1024, "{waiting} bytes at once");
            steps += u64::from(now < before);
            before = now;
        }
    }
    assert_eq!((before, steps > 1), (0, true), "after {steps} steps");
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

/// Somebody comes to a room that has no messages any more, raises a mark and leaves.
fn read_and_leave(story: &mut Story, room: &str) {
    story.hear();
    let peer = Peer { index: 99, generation: 0 };
    story.machine.open(0, peer, &PeerInfo { user: "eve".into(), device: "x".into(), guest: false });
    story.machine.say((0, peer), Message::Sub { id: 1, topic: room, epoch: None, after: None });
    story.machine.say((0, peer), Message::Ack { topic: room, delivered: 2, read: 1 });
    story.machine.close(0, peer);
    story.machine.heard.clear();
}

const MARK: Option<Watermark> = Some(Watermark { delivered: 2, read: 1 });

fn mark_of_eve(story: &Story, room: &str) -> Option<Watermark> {
    story.machine.shards[0].topics.watermark(room, "eve")
}

/// A disk in trouble takes no marks: their topics stay awake until it does, and then they are on disk.
#[test]
fn no_topic_sleeps_before_its_marks_are_on_disk() {
    for seed in 0..20 {
        let mut story = begin(seed, 8);
        story.troubled = true;
        run(&mut story);
        write(&mut story, "room/a", 9);
        write(&mut story, "room/b", 9);
        story.pass(AGE);
        assert_eq!((size(&story).topics, size(&story).asleep), (0, 2));
        if seed % 4 == 1 {
            // A look for what may go comes while the mark is on its way.
            let slow = Latency { min: Duration::from_secs(6), max: Duration::from_secs(6) };
            story.machine.shards[0].disk.configure(DiskConfig { write_latency: slow, ..disk_config() });
        }
        story.machine.shards[0].disk.set_read_only(true);
        if seed % 2 == 0 {
            // The trouble is known; else the batch with the mark is the one that finds it.
            write(&mut story, "room/b", 1);
        }
        read_and_leave(&mut story, "room/a");
        story.pass(Duration::from_secs(30));
        assert_eq!((mark_of_eve(&story, "room/a"), size(&story).topics), (MARK, 1), "it waits for the disk");
        story.repair();
        story.pass(Duration::from_secs(30));
        assert_eq!((mark_of_eve(&story, "room/a"), size(&story).topics), (MARK, 0), "it is asleep");
        assert_eq!(stats(&story).marks_lost, 0);
        story.stop(Stop::Kill);
        run(&mut story);
        assert_eq!(mark_of_eve(&story, "room/a"), MARK);
    }
}

/// After a disk has failed for good nothing is waited for; and a place that somebody needs is not kept for marks either.
#[test]
fn marks_that_cannot_be_written_are_given_up_when_the_disk_has_failed_or_places_are_needed() {
    for seed in 0..20 {
        let mut story = begin(seed, 4);
        story.troubled = true;
        run(&mut story);
        let rooms: Vec<String> = (0..6).map(|n| format!("room/{n}")).collect();
        for room in &rooms {
            write(&mut story, room, 9);
            story.pass(AGE);
        }
        assert_eq!((size(&story).topics, size(&story).asleep), (0, 6));
        let has_failed = seed % 2 == 0;
        if has_failed {
            story.machine.shards[0].disk.fail_next_write();
        } else {
            story.machine.shards[0].disk.set_read_only(true);
        }
        rooms[..4].iter().for_each(|room| read_and_leave(&mut story, room));
        story.pass(Duration::from_secs(10));
        let (topics, lost) = if has_failed { (0, 4) } else { (4, 0) };
        assert_eq!((size(&story).topics, stats(&story).marks_lost), (topics, lost));
        // Whoever wants another room gets it.
        story.subscribe_from_start(READER, &rooms[5]);
        story.pass(Duration::from_secs(1));
        assert!(story.mark_of(READER, &rooms[5]).is_some(), "it is refused");
        assert_eq!(stats(&story).marks_lost, if has_failed { 4 } else { 1 });
        story.repair();
        story.pass(Duration::from_secs(10));
        let kept = rooms.iter().filter(|room| mark_of_eve(&story, room) == MARK).count();
        assert_eq!((kept, size(&story).topics), (if has_failed { 0 } else { 3 }, 1));
    }
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
