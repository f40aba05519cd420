//! Messages that were in memory only when a run stopped in good order, and the journal that the next run has for them:
//! nothing is lost, and nothing that was recalled is shown, whatever the disk does meanwhile.

use std::time::Duration;

use handler::{Level, Message, Peer, PeerInfo, Push};
use rand::Rng;
use simnet::{CrashPlan, DiskConfig, Latency};
use topic::{Limits, snapshot::Snapshot};

use crate::disk::{Heard, Machine, Stop, disk_config};

const TOPIC: &str = "room/a";
const PEER: Peer = Peer { index: 7, generation: 0 };
const POWER: Stop = Stop::PowerLoss(CrashPlan { keep: 0.5, garbage: 0.2, flip_synced_bits: 0 });

/// What readers get of a message that was recalled.
const GONE: &str = "recalled";

/// What all of a run's topics are.
const MEMORY: bool = true;
const DISK: bool = false;

/// A machine and what was said on it.
struct Story {
    machine: Machine,
    bodies: Vec<String>,
    recalled: Vec<u64>,
}

impl Story {
    fn begin(seed: u64, limits: Limits, in_memory: bool) -> Self {
        println!("seed {seed}");
        let machine = Machine::new(seed, 1, limits);
        let mut story = Self { machine, bodies: Vec::new(), recalled: Vec::new() };
        story.wants(in_memory);
        story.machine.start(false).expect("an empty disk");
        story.open();
        story
    }

    fn wants(&mut self, in_memory: bool) {
        self.machine.in_memory = if in_memory { vec!["*".into()] } else { Vec::new() };
    }

    fn open(&mut self) {
        self.machine.open(0, PEER, &PeerInfo { user: "eve".into(), device: "x".into(), guest: false });
    }

    /// Stops in good order and starts again.
    fn restart(&mut self, in_memory: bool) -> topic::snapshot::Restored {
        let snapshot = self.machine.hand_over();
        self.machine.stop(Stop::Kill);
        self.wants(in_memory);
        self.start_with(&snapshot)
    }

    fn start_with(&mut self, snapshot: &Snapshot) -> topic::snapshot::Restored {
        let restored = self.machine.start_with(snapshot);
        self.open();
        restored
    }

    /// Publishes, and gives how safe that is; `None`: it was refused.
    fn publish(&mut self, body: &str) -> Option<Level> {
        self.publish_as(body, None)
    }

    fn publish_as(&mut self, body: &str, seq: Option<u64>) -> Option<Level> {
        self.machine.heard.clear();
        self.machine.say((0, PEER), Message::Pub { id: 1, topic: TOPIC, seq, body: body.as_bytes() });
        for _ in 0..200 {
            for heard in self.machine.heard.drain(..) {
                match heard {
                    Heard::Push(_, _, Push::PubOk { offset, level, .. }) => {
                        if offset > self.bodies.len() as u64 {
                            self.bodies.push(body.to_owned());
                            assert_eq!(offset, self.bodies.len() as u64, "offsets go on");
                        }
                        return Some(level);
                    }
                    Heard::Push(_, _, Push::Err { .. }) => return None,
                    _ => {}
                }
            }
            self.machine.pass(Duration::from_millis(1));
        }
        panic!("nobody answers");
    }

    fn say(&mut self, many: usize) {
        for _ in 0..many {
            let body = format!("secret {} {}", self.bodies.len() + 1, "x".repeat(200));
            assert!(self.publish(&body).is_some());
        }
    }

    /// Recalls messages; whether that was taken.
    fn recall(&mut self, offsets: &[u64]) -> bool {
        let token = self.machine.rng.random_range(0..1_000_000);
        let taken = self.machine.call(0, |topics, _| {
            let mut changes: Vec<_> =
                offsets.iter().filter_map(|offset| topics.instead(TOPIC, *offset, GONE.as_bytes())).collect();
            changes.extend(offsets.iter().filter_map(|offset| topics.say_of(TOPIC, ("edits/", *offset), b"[]")));
            assert_eq!(changes.len(), 2 * offsets.len());
            topics.record(TOPIC, &changes, token).is_ok()
        });
        for _ in (0..2_000).take_while(|_| taken) {
            let settled = |heard| match heard {
                Heard::Settled(_, of, is_so) if of == token => Some(is_so),
                _ => None,
            };
            if let Some(is_so) = self.machine.heard.drain(..).find_map(settled) {
                self.recalled.extend(offsets.iter().filter(|_| is_so));
                return is_so;
            }
            self.machine.pass(Duration::from_millis(1));
        }
        assert!(!taken, "it never settles");
        false
    }

    /// All that a new subscription brings: as many of what was said as `least` or more, and nothing that was recalled.
    fn check(&mut self, least: usize) {
        self.machine.heard.clear();
        self.machine.say((0, PEER), Message::Sub { id: 1, topic: TOPIC, epoch: None, after: Some(0) });
        let (mut found, mut quiet) = (Vec::new(), 0);
        while quiet < 50 {
            quiet += 1;
            for heard in self.machine.heard.drain(..) {
                if let Heard::Push(_, _, Push::Msg { offset, body, .. }) = heard {
                    found.push((offset, String::from_utf8_lossy(&body).into_owned()));
                    quiet = 0;
                }
            }
            self.machine.pass(Duration::from_micros(500));
        }
        self.machine.say((0, PEER), Message::Unsub { id: 2, topic: TOPIC });
        for (place, (offset, body)) in found.iter().enumerate() {
            assert_eq!(*offset, place as u64 + 1, "there is no gap");
            if self.recalled.contains(offset) {
                assert_eq!(body, GONE, "{offset} was recalled");
            } else {
                assert_eq!(*body, self.bodies[place], "{offset}");
            }
        }
        assert!((least..=self.bodies.len()).contains(&found.len()), "{} of {}", found.len(), self.bodies.len());
    }

    fn check_all(&mut self) {
        self.check(self.bodies.len());
    }

    fn moved(&self) -> u64 {
        self.machine.shards[0].topics.stats().moved
    }

    fn fill_disk(&mut self, full: bool) {
        let disk = &mut self.machine.shards[0].disk;
        disk.set_capacity(if full { disk.used_bytes() } else { u64::MAX });
    }
}

fn limits() -> Limits {
    Limits { segment_bytes: 32 * 1024, ..Limits::default() }
}

/// Two runs without, two with a journal: all is there in each of them, also behind a power loss.
#[test]
fn the_first_run_with_a_journal_writes_what_was_in_memory() {
    for seed in 0..20 {
        let mut story = Story::begin(seed, limits(), MEMORY);
        story.say(200);
        assert!(story.recall(&[3, 5, 190]));
        let restored = story.restart(MEMORY);
        assert_eq!((restored.records, restored.facts, restored.records_dropped), (200, 6, 0));
        assert!(story.recall(&[7]));
        story.say(10);
        story.check_all();
        let restored = story.restart(DISK);
        assert_eq!((restored.records, restored.facts, restored.records_dropped), (210, 8, 0));
        story.check_all();
        if seed % 2 == 0 {
            story.machine.pass(Duration::from_millis(200));
            assert_eq!(story.moved(), 210);
        }
        assert_eq!(story.publish("and now on disk"), Some(Level::Durable));
        assert_eq!(story.moved(), 210, "what came before has its place before");
        assert!(story.recall(&[9]));
        story.check_all();
        for round in 0..3 {
            if round == 1 {
                assert_eq!(story.restart(DISK).records, 0, "no snapshot has what is on disk");
            } else {
                story.machine.stop(POWER);
                story.machine.start(false).expect("nothing is damaged");
                story.open();
            }
            story.check_all();
            story.say(3);
        }
    }
}

/// A repeat is told how safe the message is, not how safe it will be.
#[test]
fn what_is_not_on_disk_yet_is_acknowledged_as_no_more() {
    let mut story = Story::begin(1, limits(), MEMORY);
    assert_eq!(story.publish_as("one", Some(5)), Some(Level::Memory));
    let snapshot = story.machine.hand_over();
    story.machine.stop(Stop::Kill);
    story.wants(DISK);
    let slow = Latency { min: Duration::from_secs(1), max: Duration::from_secs(1) };
    story.machine.shards[0].disk.configure(DiskConfig { write_latency: slow, ..disk_config() });
    story.start_with(&snapshot);
    assert_eq!(story.publish_as("one", Some(5)), Some(Level::Memory));
    story.machine.pass(Duration::from_secs(20));
    assert_eq!((story.publish_as("one", Some(5)), story.moved()), (Some(Level::Durable), 1));
}

/// The power goes while messages are on their way to disk: those that are there have with them what was said of them.
#[test]
fn no_power_loss_shows_what_was_recalled_while_it_was_in_memory() {
    let (mut some, mut all) = (0, 0);
    for seed in 0..300 {
        let mut story = Story::begin(seed, limits(), MEMORY);
        story.say(60);
        let recalled: Vec<u64> = (1..=60).filter(|_| story.machine.rng.random_ratio(1, 6)).collect();
        assert!(story.recall(&recalled));
        if seed % 3 == 0 {
            // So much that it takes a few batches.
            (0..6).for_each(|_| assert!(story.publish(&"y".repeat(60_000)).is_some()));
        }
        story.restart(DISK);
        let micros = story.machine.rng.random_range(0..20_000);
        story.machine.pass(Duration::from_micros(micros));
        story.machine.stop(POWER);
        story.machine.start(false).expect("nothing is damaged");
        story.open();
        story.check(0);
        let held = story.machine.shards[0].topics.newest(TOPIC);
        some += u64::from(held > 0);
        all += u64::from(held == story.bodies.len() as u64);
    }
    println!("{some} with something, {all} with all");
    assert!(some > 100 && all > 50 && some < 300, "{some} {all}");
}

/// The disk is full when the first run with a journal starts: messages stay in memory, stops hand them over, and they go
/// to disk when there is space.
#[test]
fn a_full_disk_takes_nothing_away() {
    for seed in 0..20 {
        let mut story = Story::begin(seed, limits(), MEMORY);
        story.say(100);
        assert!(story.recall(&[3, 5]));
        let snapshot = story.machine.hand_over();
        story.machine.stop(Stop::Kill);
        story.wants(DISK);
        story.fill_disk(true);
        let restored = story.start_with(&snapshot);
        assert_eq!((restored.records, restored.facts), (100, 4));
        story.machine.pass(Duration::from_secs(10));
        assert_eq!(story.publish("no space"), None);
        assert!(!story.recall(&[7]), "there is no space for what is said of messages that are to be on disk");
        assert_eq!(story.moved(), 0);
        story.check_all();
        let restored = story.restart(DISK);
        assert_eq!((restored.records, restored.facts), (100, 4));
        story.check_all();
        story.fill_disk(false);
        story.machine.pass(Duration::from_secs(20));
        assert_eq!(story.moved(), 100);
        story.say(2);
        story.machine.stop(POWER);
        story.machine.start(false).expect("nothing is damaged");
        story.open();
        story.check_all();
    }
}

/// A run stops in good order while the disk has a part of the messages, or is full in the midst of them: the next one has
/// all.
#[test]
fn a_stop_in_the_midst_of_it_loses_nothing() {
    let mut parts = 0;
    for seed in 0..100 {
        let mut story = Story::begin(seed, limits(), MEMORY);
        story.say(20);
        assert!(story.recall(&[3, 5]));
        (0..6).for_each(|_| assert!(story.publish(&"y".repeat(60_000)).is_some()));
        let snapshot = story.machine.hand_over();
        story.machine.stop(Stop::Kill);
        story.wants(DISK);
        if seed % 2 == 0 {
            let some = story.machine.rng.random_range(0..300_000);
            let disk = &mut story.machine.shards[0].disk;
            disk.set_capacity(disk.used_bytes() + some);
        }
        story.start_with(&snapshot);
        let micros = story.machine.rng.random_range(0..30_000);
        story.machine.pass(Duration::from_micros(micros));
        story.check_all();
        let moved = story.moved();
        parts += u64::from(moved > 0 && moved < 26);
        let snapshot = story.machine.hand_over();
        let how = if story.machine.rng.random() { Stop::Kill } else { POWER };
        story.machine.stop(how);
        story.fill_disk(false);
        story.start_with(&snapshot);
        story.check_all();
        story.say(1);
        story.machine.stop(POWER);
        story.machine.start(false).expect("nothing is damaged");
        story.open();
        story.check_all();
        story.machine.pass(Duration::from_secs(120));
        story.check_all();
    }
    println!("{parts} stops in the midst of it");
    assert!(parts > 10, "{parts}");
}

/// With a journal, without, and with it again: what the run between has is counted as lost, for the journal has another
/// history.
#[test]
fn what_a_run_without_a_journal_has_beside_one_is_counted() {
    let mut story = Story::begin(1, limits(), DISK);
    story.say(3);
    story.machine.pass(Duration::from_millis(100));
    let mut other = Story::begin(2, limits(), MEMORY);
    other.say(4);
    assert!(other.recall(&[1, 2]));
    let snapshot = other.machine.hand_over();
    story.machine.stop(Stop::Kill);
    let restored = story.start_with(&snapshot);
    assert_eq!((restored.topics, restored.topics_dropped, restored.records_dropped), (0, 1, 4));
    assert_eq!(restored.facts, 0, "what is said is about other messages");
    story.check_all();
}

/// A message is recalled before it is its turn to go to disk, and the run after that has no journal again.
#[test]
fn a_recall_on_disk_of_a_message_in_memory_is_handed_over_with_it() {
    let mut story = Story::begin(1, Limits::default(), MEMORY);
    for n in 0..60 {
        let (topic, body) = (format!("room/before-{}", n / 3), "y".repeat(60_000));
        story.machine.say((0, PEER), Message::Pub { id: 1, topic: &topic, seq: None, body: body.as_bytes() });
        story.machine.pass(Duration::from_millis(1));
    }
    story.say(5);
    let snapshot = story.machine.hand_over();
    story.machine.stop(Stop::Kill);
    story.wants(DISK);
    let slow = Latency { min: Duration::from_millis(10), max: Duration::from_millis(10) };
    story.machine.shards[0].disk.configure(DiskConfig { write_latency: slow, ..disk_config() });
    story.start_with(&snapshot);
    story.machine.pass(Duration::from_millis(30));
    let moved = story.moved();
    assert!(story.recall(&[2]));
    assert!(story.moved() < 65, "{moved} and then {} are on disk", story.moved());
    let snapshot = story.machine.hand_over();
    // The next run has an empty disk, which is all that one without a journal sees.
    let mut next = Story::begin(2, limits(), MEMORY);
    next.machine.stop(Stop::Kill);
    (next.bodies, next.recalled) = (story.bodies, story.recalled);
    next.start_with(&snapshot);
    next.check_all();
}
