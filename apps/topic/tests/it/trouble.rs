//! Disks that are full, read-only, broken or that rot: what is refused, what can still be read, and what is never believed.

use std::time::Duration;

use bytes::Bytes;
use handler::{Code, Peer, PeerInfo, Push};
use rand::Rng;
use simnet::{CrashPlan, Disk};
use topic::{
    Change, FACT_VALUE_BYTES_MAX, Limits,
    journal::{BLOCK_BYTES, Record, RecoverError, name_of, number_of, walk},
};

use crate::{
    disk::{Folder, Heard, ORIGIN, Stop},
    power::TOPICS,
    reader::Story,
};

pub(crate) const TOPIC: &str = TOPICS[0];
pub(crate) const READER: usize = 1;
pub(crate) const WRITER: usize = 3;

pub(crate) const POWER: Stop = Stop::PowerLoss(CrashPlan { keep: 0.5, garbage: 0.2, flip_synced_bits: 0 });

pub(crate) fn limits() -> Limits {
    Limits { segment_bytes: 32 * 1024, history_records_max: 8, history_bytes_max: 2_048, ..Limits::default() }
}

/// A machine whose disk may get into trouble, with a reader and a writer who has published so much.
pub(crate) fn begin(seed: u64, messages: usize) -> Story {
    println!("seed {seed}");
    let mut story = Story::new(seed, 1, limits(), false);
    story.troubled = true;
    story.machine.start(false).expect("an empty disk");
    [READER, WRITER].iter().for_each(|who| story.connect(*who));
    write(&mut story, messages);
    story
}

/// Publishes, in several batches.
pub(crate) fn write(story: &mut Story, messages: usize) {
    for _ in 0..messages {
        story.publish(WRITER, TOPIC);
        story.pass(Duration::from_millis(1));
    }
    story.pass(Duration::from_millis(50));
}

pub(crate) fn disk(story: &mut Story) -> &mut Disk {
    &mut story.machine.shards[0].disk
}

pub(crate) fn trouble(story: &Story) -> Option<&'static str> {
    story.machine.shards[0].topics.journal().expect("there is one").trouble
}

/// After trouble and a power loss all is there that was promised, and publications are taken.
pub(crate) fn end(mut story: Story) {
    story.stop(POWER);
    story.machine.start(false).expect("nothing is damaged");
    story.check_recovered();
    story.audit();
    story.check_answered();
    story.audit();
}

#[test]
fn a_full_disk_refuses_serves_what_is_stored_and_goes_on_when_there_is_space() {
    for seed in 0..20 {
        let mut story = begin(seed, 100);
        let full = disk(&mut story).used_bytes() + seed * 1_000;
        disk(&mut story).set_capacity(full);
        write(&mut story, 200);
        assert_eq!(trouble(&story), Some("the disk is full"));
        let refused = story.refused;
        assert!(refused > 0 && !story.machine.record("user/ada", &[change(1)], 1));
        story.audit();
        story.repair();
        story.pass(Duration::from_secs(2));
        assert_eq!(trouble(&story), None);
        write(&mut story, 20);
        assert_eq!(story.refused, refused, "there is space again");
        end(story);
    }
}

#[test]
fn a_read_only_disk_refuses_and_serves_what_is_stored() {
    for seed in 0..20 {
        let mut story = begin(seed, 100);
        // A read-only file system opens nothing for writing: who reads has the files open.
        story.audit();
        // A batch is written and cannot be synced: nobody may believe it later.
        for _ in (0..200).take_while(|_| seed.is_multiple_of(2)) {
            if story.machine.shards[0].is_writing().1 {
                break;
            }
            story.publish(WRITER, TOPIC);
            story.pass(Duration::from_micros(100));
        }
        disk(&mut story).set_read_only(true);
        write(&mut story, 50);
        assert_eq!(trouble(&story), Some("the disk is read-only"));
        assert!(story.refused > 0);
        story.audit();
        story.repair();
        story.pass(Duration::from_secs(2));
        assert_eq!(trouble(&story), None);
        let refused = story.refused;
        write(&mut story, 20);
        assert_eq!(story.refused, refused);
        end(story);
    }
}

#[test]
fn a_disk_that_failed_is_not_believed_until_the_next_start() {
    for seed in 0..40 {
        let mut story = begin(seed, 60);
        if seed.is_multiple_of(2) {
            disk(&mut story).fail_next_write()
        } else {
            disk(&mut story).fail_next_sync()
        }
        write(&mut story, 20);
        assert_eq!(trouble(&story), Some("the disk has failed"));
        story.pass(Duration::from_secs(60));
        assert_eq!(trouble(&story), Some("the disk has failed"), "it is not tried again");
        story.audit();
        // What the kernel shows of the batch that failed is not on the disk, whatever a new process sees.
        story.stop(Stop::Kill);
        story.machine.start(false).expect("nothing is damaged");
        story.check_recovered();
        story.audit();
        [READER, WRITER].iter().for_each(|who| story.connect(*who));
        write(&mut story, 20);
        end(story);
    }
}

#[test]
fn history_that_cannot_be_read_is_waited_for() {
    for seed in 0..10 {
        let mut story = begin(seed, 100);
        disk(&mut story).fail_reads(true);
        story.subscribe_from_start(READER, TOPIC);
        story.pass(Duration::from_secs(10));
        assert!(story.machine.shards[0].topics.stats().unreadable > 0);
        assert_eq!(trouble(&story), None, "what cannot be read may be written");
        disk(&mut story).fail_reads(false);
        story.pass(Duration::from_secs(3));
        story.audit();
        end(story);
    }
}

#[test]
fn facts_that_were_taken_back_are_what_is_on_disk() {
    let mut story = begin(1, 10);
    let rounds = 40;
    for round in 0..rounds {
        // One value on disk, one in a batch under way, one in the next: the second batch may fail alone.
        for token in 0..3 {
            story.record_as("user/ada", &[change(round * 3 + token)]);
            story.pass(Duration::from_micros(500));
        }
        story.pass(Duration::from_millis(2));
        let used = disk(&mut story).used_bytes();
        disk(&mut story).set_capacity(used);
        story.pass(Duration::from_millis(50));
        story.record_as("user/ada", &[change(round)]);
        story.pass(Duration::from_millis(50));
        story.rest();
        let before = story.machine.shards[0].topics.journal().expect("there is one").live_bytes;
        story.stop(Stop::Kill);
        story.machine.start(false).expect("nothing is damaged");
        story.check_recovered();
        let after = story.machine.shards[0].topics.journal().expect("there is one").live_bytes;
        assert_eq!(before, after, "bytes that are needed, counted anew in round {round}");
        story.connect(WRITER);
    }
    end(story);
}

fn change(number: u64) -> Change {
    Change { key: "f/1".to_owned(), value: Some(Bytes::from(format!("{number} {}", "z".repeat(5_000)))) }
}

#[test]
fn a_segment_that_cannot_be_removed_keeps_its_place() {
    for seed in 0..20 {
        println!("seed {seed}");
        let limits = Limits { journal_bytes: 3 * 32 * 1024, ..limits() };
        let mut story = Story::new(seed, 1, limits, true);
        story.troubled = true;
        story.machine.start(false).expect("an empty disk");
        story.connect(WRITER);
        write(&mut story, 300);
        let before = segments(disk(&mut story));
        // The removal comes with the next look at what may go.
        disk(&mut story).set_read_only(true);
        story.pass(Duration::from_secs(6));
        story.repair();
        write(&mut story, 100);
        assert!(segments(disk(&mut story)).len() >= before.len(), "nothing was to be removed");
        story.pass(Duration::from_secs(6));
        let after = segments(disk(&mut story));
        assert!(after[0] > before[0], "{before:?} {after:?}");
        end(story);
    }
}

#[test]
fn who_opens_a_segment_that_goes_is_told_of_the_gap() {
    for seed in 0..20 {
        println!("seed {seed}");
        let limits = Limits { journal_bytes: 3 * 32 * 1024, ..limits() };
        let mut story = Story::new(seed, 1, limits, true);
        story.machine.start(false).expect("an empty disk");
        [READER, WRITER].iter().for_each(|who| story.connect(*who));
        write(&mut story, 300);
        // The file is being opened when the time comes to look at what may go.
        story.pass(Duration::from_micros(4_999_990) - story.machine.elapsed());
        story.subscribe_from_start(READER, TOPIC);
        story.pass(Duration::from_secs(10));
        assert!(segments(disk(&mut story))[0] > 1, "nothing was removed");
        assert!(story.gaps > 0);
        story.check_answered();
    }
}

pub(crate) fn segments(disk: &Disk) -> Vec<u64> {
    disk.list().iter().filter_map(|name| number_of(name)).collect()
}

/// What a journal holds, and where the batch of each thing lies: segment and blocks.
type Held = Vec<(String, (u64, u32, u32))>;

fn held(disk: &mut Disk) -> Result<Held, RecoverError> {
    let mut held = Vec::new();
    walk((0, ORIGIN), &mut Folder { disk, fuse: false }, false, &mut |found| {
        assert!(!matches!(found.record, Record::Name { .. }));
        let at = (found.at.segment, found.at.block, found.at.blocks);
        held.push((format!("{} {} {:?}", found.name, found.epoch, found.record), at));
    })?;
    Ok(held)
}

/// The first block of the last batch, or of the one before if that was still on its way when the last one was written.
fn first_of_the_end(disk: &Disk, (segment, block, _): (u64, u32, u32)) -> u32 {
    let bytes = disk.bytes(&name_of(segment)).expect("it is there");
    let head = &bytes[block as usize * BLOCK_BYTES..];
    block - u32::from_le_bytes(head[12..16].try_into().expect("four bytes"))
}

/// A bit that rots on the disk is an error that names its segment, or the very last batch is not there, and with it what
/// was under way at the same time: that cannot be told from what was torn.
#[test]
fn a_bit_that_rots_is_found() {
    let (mut errors, mut shorter, mut unharmed) = (0, 0, 0);
    for seed in 0..8 {
        let mut story = begin(seed, 150);
        story.rest();
        story.machine.stop(POWER);
        let before = held(disk(&mut story)).expect("nothing is damaged");
        let numbers = segments(disk(&mut story));
        let last = before.last().expect("something was written").1;
        let end = first_of_the_end(disk(&mut story), last);
        for _ in 0..150 {
            let segment = numbers[story.machine.rng.random_range(0..numbers.len())];
            let name = name_of(segment);
            let len = disk(&mut story).len(&name).expect("it is there");
            let (offset, bit) = (story.machine.rng.random_range(0..len), story.machine.rng.random_range(0..8));
            let mut rotten = disk(&mut story).clone();
            rotten.corrupt(&name, offset, bit).expect("it is there");
            let block = (offset / BLOCK_BYTES as u64) as u32;
            let in_last = segment == last.0 && (end..last.1 + last.2).contains(&block);
            let is_before = |at: &(u64, u32, u32)| at.0 != segment || at.1 + at.2 <= block;
            match held(&mut rotten) {
                Ok(after) if after == before => unharmed += 1,
                Ok(after) => {
                    let rest = before.iter().filter(|(_, at)| is_before(at)).cloned().collect::<Held>();
                    assert!(in_last && after == rest, "bit {bit} of {offset} in {segment} was not noticed");
                    shorter += 1;
                }
                Err(RecoverError::Damaged(damage)) => {
                    assert_eq!(damage.segment, segment, "{damage}");
                    assert!(damage.place <= offset, "{damage}: it is at {offset}");
                    errors += 1;
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
    println!("{errors} errors, {shorter} without the end, {unharmed} where nothing was");
    assert!(errors > 200 && shorter > 3 && unharmed > 100);
}

/// When retention has taken all of a topic, and then the power goes, it goes on where it was, and so do its marks.
#[test]
fn marks_are_those_of_their_history() {
    println!("seed 1");
    let limits = Limits { retention_ms: 30_000, ..limits() };
    let mut story = Story::new(1, 1, limits, true);
    story.machine.start(false).expect("an empty disk");
    [READER, WRITER].iter().for_each(|who| story.connect(*who));
    story.subscribe_from_start(READER, TOPIC);
    write(&mut story, 50);
    story.mark(READER, TOPIC);
    story.rest();
    for _ in 0..2 {
        // The facts of the last segment are carried to a new one, so that it can go, too.
        story.pass(Duration::from_secs(60));
        story.stop(POWER);
        story.machine.start(false).expect("nothing is damaged");
        story.check_recovered();
        story.pass(Duration::from_secs(60));
    }
    assert_eq!(story.oracle.begun_anew, 0, "it goes on where it was");
    story.connect(WRITER);
    write(&mut story, 50);
    story.audit();
    end(story);
}

/// A reader who is served from the disk waits rather than get what has rotted.
#[test]
fn a_reader_never_gets_what_has_rotted() {
    for seed in 0..10 {
        let mut story = begin(seed, 100);
        story.rest();
        let len = disk(&mut story).len(&name_of(1)).expect("it is there");
        for _ in 0..40 {
            let (offset, bit) = (story.machine.rng.random_range(4_096..len), story.machine.rng.random_range(0..8));
            disk(&mut story).corrupt(&name_of(1), offset, bit).expect("it is there");
        }
        story.subscribe_from_start(READER, TOPIC);
        story.pass(Duration::from_secs(10));
        assert!(story.machine.shards[0].topics.stats().unreadable > 0);
    }
}

/// A disk that the journal itself has filled: what must be written to free space has a segment of its own.
#[test]
fn a_disk_that_is_full_of_messages_frees_itself_although_facts_lie_between_them() {
    for seed in 0..10 {
        println!("seed {seed}");
        let limits = Limits { retention_ms: 30_000, ..limits() };
        let mut story = Story::new(seed, 1, limits, true);
        story.troubled = true;
        story.machine.start(false).expect("an empty disk");
        story.connect(WRITER);
        disk(&mut story).set_capacity(10 * 32 * 1024 + seed * 1_000);
        for round in 0..200 {
            if trouble(&story).is_some() {
                break;
            }
            if round % 3 == 0 {
                // In every segment there is something that stays.
                let change = Change { key: format!("f/{}", round % 30), value: Some("z".repeat(300).into()) };
                story.record_as("user/ada", &[change]);
            }
            write(&mut story, 3);
        }
        assert_eq!(trouble(&story), Some("the disk is full"));
        story.pass(Duration::from_secs(120));
        assert_eq!(trouble(&story), None, "nobody but the journal itself has made room");
        let refused = story.refused;
        write(&mut story, 5);
        assert_eq!(story.refused, refused);
        end(story);
    }
}

/// Facts are carried in steps: what else is to be written never waits for all of them.
#[test]
fn facts_are_carried_in_steps() {
    println!("seed 1");
    let limits = Limits { retention_ms: 30_000, segment_bytes: 4 * 1024 * 1024, ..limits() };
    let mut story = Story::new(1, 1, limits, true);
    story.machine.start(false).expect("an empty disk");
    story.connect(WRITER);
    for n in 0..200 {
        let change = Change { key: format!("f/{n}"), value: Some("z".repeat(16_000).into()) };
        story.record_as("user/ada", &[change]);
        story.pass(Duration::from_millis(5));
    }
    for n in 0..200 {
        // So many bytes that the next segment is begun.
        story.record_as(
            "user/bob",
            &[Change { key: "f/1".to_owned(), value: Some(format!("{n}{}", "y".repeat(16_000)).into()) }],
        );
        story.pass(Duration::from_millis(5));
    }
    let first = segments(disk(&mut story))[0];
    let mut most = 0;
    for _ in 0..20_000 {
        story.pass(Duration::from_millis(1));
        most = most.max(story.machine.shards[0].topics.journal().expect("there is one").waiting_bytes);
    }
    assert!(segments(disk(&mut story))[0] > first, "the facts of the first segment were carried");
    assert!(most > 0 && most < 1024 * 1024, "{most} bytes of 3,200,000 at once");
    story.rest();
    story.stop(POWER);
    story.machine.start(false).expect("nothing is damaged");
    story.check_recovered();
}

/// Whoever needs what cannot be read for minutes is told what is missing, and goes on.
#[test]
fn a_reader_goes_on_behind_what_stays_unreadable() {
    for seed in 0..6 {
        println!("seed {seed}");
        let mut story = Story::new(seed, 1, limits(), true);
        story.machine.start(false).expect("an empty disk");
        [READER, WRITER].iter().for_each(|who| story.connect(*who));
        write(&mut story, 100);
        story.rest();
        for offset in BLOCK_BYTES as u64..BLOCK_BYTES as u64 + 100 {
            disk(&mut story).corrupt(&name_of(1), offset, 3).expect("it is there");
        }
        story.subscribe_from_start(READER, TOPIC);
        let peer = Peer { index: 99, generation: 0 };
        story.machine.open(0, peer, &PeerInfo { user: "eve".into(), device: "x".into(), guest: false });
        story.pass(Duration::from_secs(60));
        assert_eq!(story.gaps, 0, "it may be readable again");
        assert!(story.machine.shards[0].topics.journal().expect("there is one").readers > 0);
        story.pass(Duration::from_secs(90));
        assert!(story.gaps > 0 && story.machine.shards[0].topics.stats().given_up > 0);
        let (_, last) = story.mark_of(READER, TOPIC).expect("subscribed");
        assert_eq!(last, story.oracle.known(TOPIC), "it has the rest");
        // The next one does not wait as long, and a page that cannot be had is an error.
        story.machine.browse((0, peer), TOPIC, Some(2), 1);
        story.machine.pass(Duration::from_secs(1));
        let heard = story
            .machine
            .heard
            .drain(..)
            .any(|heard| matches!(heard, Heard::Push(0, at, Push::Err { code: Code::Internal, .. }) if at == peer));
        assert!(heard, "it is answered");
        assert_eq!(story.machine.shards[0].topics.journal().expect("there is one").readers, 0);
    }
}

/// A segment is read for the first time while one that was written anew takes its name: the places are those of the old.
#[test]
fn a_first_reader_during_a_compaction_reads_what_it_means() {
    let (mut met, mut compacted) = (0, 0);
    for seed in 0..60 {
        println!("seed {seed}");
        let limits = Limits { retention_bytes: 60_000, ..limits() };
        let mut story = Story::new(seed, 1, limits, true);
        story.machine.start(false).expect("an empty disk");
        [READER, WRITER].iter().for_each(|who| story.connect(*who));
        for n in 0..400 {
            // The one topic loses its oldest messages, the other one keeps its own, behind those.
            story.publish(WRITER, TOPICS[usize::from(n % 16 == 3)]);
            story.pass(Duration::from_millis(1));
        }
        story.pass(Duration::from_micros(4_999_000) - story.machine.elapsed());
        let mut later = story.machine.rng.random_range(0..40);
        for _ in 0..10_000 {
            if story.machine.shards[0].is_renaming() {
                if later == 0 {
                    break;
                }
                later -= 1;
            }
            story.pass(Duration::from_micros(100));
        }
        let before = story.machine.shards[0].is_renaming();
        story.subscribe_from_start(READER, TOPICS[1]);
        story.pass(Duration::from_micros(300));
        met += u64::from(before && !story.machine.shards[0].is_renaming());
        story.pass(Duration::from_secs(3));
        assert_eq!(story.machine.shards[0].topics.stats().unreadable, 0);
        compacted += story.machine.shards[0].topics.stats().compacted;
    }
    assert!(met > 5 && compacted > 600, "{met} met one of {compacted} compactions");
}

/// Batches that are longer than what a compaction reads at once are copied like others.
#[test]
fn a_segment_with_long_batches_is_written_anew() {
    println!("seed 1");
    let mut story = Story::new(1, 1, Limits { segment_bytes: 2 * 1024 * 1024, ..limits() }, false);
    story.machine.start(false).expect("an empty disk");
    for round in 0..12 {
        // Half of them are replaced by the next ones, the other half are needed.
        let key = |n: usize| if n.is_multiple_of(2) { format!("f/{n}") } else { format!("f/{round}-{n}") };
        let value = Bytes::from(vec![b'y'; FACT_VALUE_BYTES_MAX]);
        let of = |n| Change { key: key(n), value: Some(value.clone()) };
        let changes: Vec<Change> = (0..400_000 / FACT_VALUE_BYTES_MAX).map(of).collect();
        story.record_as("room/x", &changes);
        story.pass(Duration::from_millis(50));
    }
    story.pass(Duration::from_secs(10));
    assert!(story.machine.shards[0].topics.stats().compacted > 1);
    end(story);
}

/// Too many open files are waited out like a full disk.
#[test]
fn too_many_open_files_are_no_failed_disk() {
    for seed in 0..20 {
        let mut story = begin(seed, 100);
        story.machine.no_files = true;
        write(&mut story, 100);
        assert_eq!(trouble(&story), Some("no file can be made for now"));
        assert!(story.refused > 0);
        story.pass(Duration::from_secs(10));
        story.machine.no_files = false;
        story.pass(Duration::from_secs(2));
        assert_eq!(trouble(&story), None);
        let refused = story.refused;
        write(&mut story, 20);
        assert_eq!(story.refused, refused);
        end(story);
    }
}

/// What is left of an attempt to make a segment is removed late: that is never the next attempt.
#[test]
fn a_late_removal_takes_no_newer_draft() {
    for ms in 990..1_020 {
        let mut story = Story::new(ms, 1, limits(), false);
        println!("seed {ms}");
        story.troubled = true;
        disk(&mut story).set_capacity(0);
        story.machine.slow_removal = Duration::from_millis(ms);
        story.machine.start(false).expect("an empty disk");
        story.pass(Duration::from_millis(100));
        assert_eq!(trouble(&story), Some("the disk is full"));
        story.repair();
        story.pass(Duration::from_secs(5));
        assert_eq!(trouble(&story), None, "removals that take {ms} ms");
        story.connect(WRITER);
        write(&mut story, 5);
        end(story);
    }
}

/// What waits for a disk that hangs is bounded, also if it is said again and again: the others are told to try later.
#[test]
fn repeats_that_wait_for_a_disk_are_bounded() {
    let mut story = begin(1, 1);
    let hours = simnet::Latency { min: Duration::from_secs(36_000), max: Duration::from_secs(36_000) };
    disk(&mut story).configure(simnet::DiskConfig { write_latency: hours, ..crate::disk::disk_config() });
    let peer = Peer { index: 99, generation: 0 };
    story.machine.open(0, peer, &PeerInfo { user: "eve".into(), device: "x".into(), guest: false });
    let body = vec![b'x'; 60_000];
    let answers = |story: &mut Story| {
        let mut counts = [0, 0];
        for heard in story.machine.heard.drain(..) {
            match heard {
                Heard::Push(_, at, Push::PubOk { .. }) if at == peer => counts[0] += 1,
                Heard::Push(_, at, Push::Err { code: Code::ResourceExhausted, retry_ms: Some(_), .. })
                    if at == peer =>
                {
                    counts[1] += 1;
                }
                _ => {}
            }
        }
        counts
    };
    answers(&mut story);
    for round in 0..3 {
        for id in 0..2_000 {
            story.machine.say((0, peer), handler::Message::Pub { id, topic: TOPIC, seq: Some(7), body: &body });
        }
        let [_, refused] = answers(&mut story);
        assert_eq!(refused, if round == 0 { 2_000 - 1 - 1_024 } else { 2_000 });
    }
    disk(&mut story).configure(crate::disk::disk_config());
    story.machine.pass(Duration::from_secs(40_000));
    assert_eq!(answers(&mut story), [1 + 1_024, 0], "those that waited are answered");
    // There is room for others.
    story.machine.say((0, peer), handler::Message::Pub { id: 1, topic: TOPIC, seq: Some(8), body: &body });
    story.machine.say((0, peer), handler::Message::Pub { id: 2, topic: TOPIC, seq: Some(8), body: &body });
    story.machine.pass(Duration::from_secs(1));
    assert_eq!(answers(&mut story), [2, 0]);
}
