//! Facts about messages on bad disks: what was said of a message holds for as long as the message can be read, whatever
//! retention takes, the operator changes and the power does.

use std::time::Duration;

use handler::{Message, Peer, PeerInfo, Push};
use rand::Rng;
use simnet::{CrashPlan, DiskConfig, Latency};
use topic::{Limits, Stats};

use crate::disk::{Heard, Machine, Stop, disk_config};

const TOPIC: &str = "room/a";
const PEER: Peer = Peer { index: 7, generation: 0 };
const POWER: Stop = Stop::PowerLoss(CrashPlan { keep: 0.5, garbage: 0.2, flip_synced_bits: 0 });

/// What readers get of a message that was recalled.
const GONE: &str = "recalled";

fn begin(seed: u64, limits: Limits) -> Machine {
    println!("seed {seed}");
    let mut machine = Machine::new(seed, 1, limits);
    start(&mut machine);
    machine
}

fn start(machine: &mut Machine) {
    machine.start(false).expect("nothing is damaged");
    machine.open(0, PEER, &PeerInfo { user: "eve".into(), device: "x".into(), guest: false });
}

fn publish(machine: &mut Machine, body: &str) {
    machine.call(0, |topics, cx| topics.publish_own(cx, (TOPIC, "ada"), body.as_bytes())).expect("taken");
}

/// Recalls messages with a publication, and takes away what is said of some that are gone; whether that is on disk.
fn recall(machine: &mut Machine, offsets: &[u64]) -> bool {
    let token = machine.rng.random_range(0..1_000_000);
    machine.call(0, |topics, cx| {
        let mut changes = topics.stale_facts(TOPIC, 8);
        changes.extend(offsets.iter().filter_map(|offset| topics.instead(TOPIC, *offset, GONE.as_bytes())));
        changes.extend(offsets.iter().filter_map(|offset| topics.say_of(TOPIC, ("edits/", *offset), b"[]")));
        topics.accompany(TOPIC, changes, token).expect("short");
        topics.publish_own(cx, (TOPIC, "ada"), b"a recall").expect("taken");
    });
    for _ in 0..100 {
        machine.pass(Duration::from_millis(1));
        let settled = |heard| match heard {
            Heard::Settled(_, of, is_so) if of == token => Some(is_so),
            _ => None,
        };
        if let Some(is_so) = machine.heard.drain(..).find_map(settled) {
            return is_so;
        }
    }
    panic!("it never settles");
}

fn facts(machine: &Machine) -> Vec<String> {
    let topics = &machine.shards[0].topics;
    let found = ["instead/", "edits/"].into_iter().flat_map(|kind| topics.facts(TOPIC, kind, None));
    found.map(|(key, _)| key.to_owned()).collect()
}

fn stats(machine: &Machine) -> Stats {
    machine.shards[0].topics.stats()
}

/// A page, which comes at once or out of the disk: offsets and bodies.
fn page(machine: &mut Machine, before: Option<u64>) -> Vec<(u64, String)> {
    machine.heard.clear();
    machine.browse((0, PEER), TOPIC, before, 40);
    for _ in 0..2_000 {
        for heard in machine.heard.drain(..) {
            if let Heard::Page(_, page) = heard {
                return page.records().map(|it| (it.offset, String::from_utf8_lossy(it.body).into_owned())).collect();
            }
        }
        machine.pass(Duration::from_micros(500));
    }
    panic!("no page comes");
}

fn pages(machine: &mut Machine) -> Vec<(u64, String)> {
    let mut all = page(machine, None);
    while let Some((first, _)) = all.first().filter(|(first, _)| *first > 1) {
        let before = page(machine, Some(*first));
        if before.is_empty() {
            break;
        }
        all.splice(0..0, before);
    }
    all
}

/// What a new subscription brings from the first message on.
fn subscription(machine: &mut Machine, head: u64) -> Vec<(u64, String)> {
    machine.heard.clear();
    machine.say((0, PEER), Message::Sub { id: 1, topic: TOPIC, epoch: None, after: Some(0) });
    let mut all = Vec::new();
    for _ in 0..2_000 {
        all.extend(machine.heard.drain(..).filter_map(|heard| match heard {
            Heard::Push(_, _, Push::Msg { offset, body, .. }) => {
                Some((offset, String::from_utf8_lossy(&body).into_owned()))
            }
            _ => None,
        }));
        if all.last().is_some_and(|(last, _)| *last == head) {
            break;
        }
        machine.pass(Duration::from_micros(500));
    }
    machine.say((0, PEER), Message::Unsub { id: 2, topic: TOPIC });
    all
}

/// All that anybody gets to read, by pages and by a subscription.
fn read(machine: &mut Machine) -> Vec<(u64, String)> {
    let pages = pages(machine);
    let head = pages.last().map_or(0, |(head, _)| *head);
    assert_eq!(subscription(machine, head), pages);
    pages
}

fn check(machine: &mut Machine, recalled: &[u64]) -> Vec<(u64, String)> {
    let all = read(machine);
    for (offset, body) in &all {
        assert!(!recalled.contains(offset) || body == GONE, "{offset} was recalled, and is `{body}`");
    }
    all
}

/// A message was recalled and trimmed, and what was said of it is gone too: a run that keeps messages for longer finds it
/// in a segment, and shows it to nobody.
#[test]
fn what_was_recalled_is_not_shown_again_by_a_run_that_keeps_messages_for_longer() {
    let (mut swept, mut floors) = (0, 0);
    for seed in 0..40 {
        let rings =
            if seed % 2 == 0 { Limits { history_records_max: 8, ..Limits::default() } } else { Limits::default() };
        let segment_bytes = [32 * 1024, 4 * 1024 * 1024][(seed / 2 % 2) as usize];
        let mut machine = begin(seed, Limits { retention_ms: 30_000, segment_bytes, ..rings });
        for n in 1..=60 {
            publish(&mut machine, &format!("secret {n} {}", "x".repeat(200)));
            if machine.rng.random_ratio(2, 3) {
                machine.pass(Duration::from_millis(5));
            }
            if n == 30 {
                machine.pass(Duration::from_secs(20));
            }
        }
        let mut recalled: Vec<u64> = (1..=60).filter(|_| machine.rng.random_ratio(1, 8)).collect();
        assert!(recall(&mut machine, &recalled));
        assert_eq!(check(&mut machine, &recalled).len(), 61);
        // The first half is too old now.
        machine.pass(Duration::from_secs(16));
        let oldest = machine.shards[0].topics.oldest(TOPIC);
        assert!((2..=31).contains(&oldest), "{oldest}");
        check(&mut machine, &recalled);
        // With them has gone what was said of them, whether anybody says anything more or not.
        let expected = recalled.iter().filter(|offset| **offset >= oldest).count();
        assert_eq!(facts(&machine).len(), 2 * expected);
        swept += 2 * (recalled.len() - expected);
        let has_floor = expected < recalled.len();
        if seed % 5 > 0 && !recalled.contains(&60) {
            recalled.push(60);
            assert!(recall(&mut machine, &[60]));
        }
        // Soon enough that the power may go while that is on its way to disk.
        let soon = machine.rng.random_range(0..10);
        machine.pass(Duration::from_millis(soon));
        check(&mut machine, &recalled);
        let how = if machine.rng.random() { Stop::Kill } else { POWER };
        machine.stop(how);
        machine.limits.retention_ms = 3_600_000;
        for _ in 0..2 {
            start(&mut machine);
            let all = check(&mut machine, &recalled);
            let first = all[0].0;
            assert!(first == oldest || (first < oldest && !has_floor), "{first} and {oldest}");
            floors += usize::from(has_floor);
            publish(&mut machine, "and so on");
            machine.pass(Duration::from_secs(20));
            check(&mut machine, &recalled);
            machine.stop(how);
        }
    }
    println!("{swept} facts were swept, {floors} topics began where they may");
    assert!(swept > 100 && floors > 40, "{swept} {floors}");
}

/// Batches that were trimmed and still lie in a segment are gone before anybody comes to read them, whether they
/// are too old, too many of their topic or too many at all.
#[test]
fn what_was_trimmed_is_gone_before_the_first_reader_comes() {
    for seed in 0..10 {
        let limits = Limits { segment_bytes: 32 * 1024, ..Limits::default() };
        // By age, by bytes of the topic and by bytes of the journal.
        let small = match seed % 3 {
            0 => Limits { retention_ms: 30_000, ..limits },
            1 => Limits { retention_bytes: 2_000, ..limits },
            _ => Limits { journal_bytes: 32 * 1024, ..limits },
        };
        let mut machine = begin(seed, limits);
        let many = if seed % 3 == 2 { 20 } else { 4 };
        for n in 0..many {
            if n == many - 2 {
                machine.pass(Duration::from_secs(75));
            }
            publish(&mut machine, &format!("{n} {}", "x".repeat(1_000)));
            machine.pass(Duration::from_millis(20));
        }
        assert_eq!(pages(&mut machine).len(), many);
        machine.stop(Stop::Kill);
        machine.limits = small;
        start(&mut machine);
        // No time has passed, and no look for what may go.
        let found = page(&mut machine, None);
        assert!(!found.is_empty() && found.len() < many, "{} of {many} messages", found.len());
        assert!(stats(&machine).trimmed_batches > 0);
        assert_eq!(found[0].0, machine.shards[0].topics.oldest(TOPIC));
    }
}

/// Messages that were trimmed while their segment was written anew are in one batch with those that were not: pages end
/// before them.
#[test]
fn a_page_ends_where_the_topic_begins_in_the_middle_of_a_batch() {
    let limits = Limits { segment_bytes: 32 * 1024, history_records_max: 2, retention_ms: 8_000, ..Limits::default() };
    let mut machine = begin(1, limits);
    for n in 1..=12 {
        if n == 4 {
            machine.pass(Duration::from_secs(3));
        }
        publish(&mut machine, &format!("number {n}"));
        machine.pass(Duration::from_millis(20));
    }
    // It is begun with the first look for what may go, and not over when the second one trims.
    let slow = Latency { min: Duration::from_secs(4), max: Duration::from_secs(4) };
    machine.shards[0].disk.configure(DiskConfig { write_latency: slow, ..disk_config() });
    machine.pass(Duration::from_secs(7) + Duration::from_millis(500));
    assert_eq!((stats(&machine).trimmed_batches, stats(&machine).compacted), (3, 0));
    machine.pass(Duration::from_millis(3_000));
    assert_eq!(stats(&machine).trimmed_batches, 3);
    assert!(stats(&machine).compacted > 0);
    let offsets = |found: Vec<(u64, String)>| found.iter().map(|(offset, _)| *offset).collect::<Vec<_>>();
    assert_eq!(offsets(page(&mut machine, Some(7))), [4, 5, 6]);
    assert_eq!(offsets(read(&mut machine)), (4..=12).collect::<Vec<_>>());
}

/// What is said of messages that are gone goes too, also when nobody says anything more: on disk, and in memory.
#[test]
fn facts_of_messages_that_are_gone_go_without_a_new_one() {
    for in_memory in [false, true] {
        let limits = Limits { retention_ms: 30_000, segment_bytes: 32 * 1024, ..Limits::default() };
        let limits = if in_memory { Limits { history_records_max: 100, ..limits } } else { limits };
        println!("in memory: {in_memory}");
        let mut machine = Machine::new(3, 1, limits);
        machine.in_memory = if in_memory { vec!["*".into()] } else { Vec::new() };
        start(&mut machine);
        for n in 1..=200 {
            publish(&mut machine, &format!("number {n}"));
        }
        machine.pass(Duration::from_millis(50));
        for n in 1..=200 {
            // As an app would that never looks for those that are stale.
            let change = machine.shards[0].topics.instead(TOPIC, n, GONE.as_bytes()).expect("there is one");
            let edits = machine.shards[0].topics.say_of(TOPIC, ("edits/", n), b"[]").expect("there is one");
            assert!(machine.record(TOPIC, &[change, edits], n));
        }
        machine.pass(Duration::from_millis(50));
        assert_eq!(facts(&machine).len(), 400);
        machine.pass(Duration::from_secs(60));
        let oldest = machine.shards[0].topics.oldest(TOPIC);
        assert_eq!(oldest, if in_memory { 101 } else { 201 });
        let left = if in_memory { 200 } else { 0 };
        assert_eq!(facts(&machine).len(), left, "those of the messages that are there");
        machine.limits.retention_ms = 3_600_000;
        machine.stop(POWER);
        start(&mut machine);
        assert_eq!((facts(&machine).len(), pages(&mut machine).len()), (0, 0), "and none of them is shown again");
    }
}

/// A wall clock that is wrong for a few seconds takes nothing away; one that is set right, when it has settled, lets
/// messages go as before.
#[test]
fn a_clock_that_is_wrong_for_a_moment_takes_nothing_away() {
    const YEAR_MS: u64 = 365 * 24 * 3_600 * 1_000;
    for seed in 0..10 {
        let mut machine = begin(seed, Limits { segment_bytes: 32 * 1024, ..Limits::default() });
        machine.skew_ms += YEAR_MS;
        for n in 1..=60 {
            publish(&mut machine, &format!("number {n} {}", "x".repeat(1_000)));
            machine.pass(Duration::from_millis(20));
        }
        for _ in 0..3 {
            let secs = machine.rng.random_range(1..20);
            machine.skew_ms += YEAR_MS;
            machine.pass(Duration::from_secs(secs));
            machine.skew_ms -= YEAR_MS;
            machine.pass(Duration::from_secs(60));
        }
        machine.pass(Duration::from_secs(2 * 3_600));
        assert_eq!(pages(&mut machine).len(), 60);
        assert_eq!(stats(&machine).trimmed_batches, 0);
        // It is set, as at the boot of a machine without a clock of its own.
        machine.skew_ms += YEAR_MS;
        machine.pass(Duration::from_secs(3_500));
        assert_eq!(pages(&mut machine).len(), 60);
        machine.pass(Duration::from_secs(200));
        assert_eq!(pages(&mut machine).len(), 0);
    }
}
