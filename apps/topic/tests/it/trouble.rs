//! Disks that are full, read-only, broken or that rot: what is refused, what can still be read, and what is never believed.

use std::time::Duration;

use bytes::Bytes;
use rand::Rng;
use simnet::{CrashPlan, Disk};
use topic::{
    Change, Limits,
    journal::{BLOCK_BYTES, Record, RecoverError, name_of, number_of, walk},
};

use crate::{
    disk::{Folder, ORIGIN, Stop},
    power::TOPICS,
    reader::Story,
};

const TOPIC: &str = TOPICS[0];
const READER: usize = 1;
const WRITER: usize = 3;

const POWER: Stop = Stop::PowerLoss(CrashPlan { keep: 0.5, garbage: 0.2, flip_synced_bits: 0 });

fn limits() -> Limits {
    Limits { segment_bytes: 32 * 1024, history_records_max: 8, history_bytes_max: 2_048, ..Limits::default() }
}

/// A machine whose disk may get into trouble, with a reader and a writer who has published so much.
fn begin(seed: u64, messages: usize) -> Story {
    println!("seed {seed}");
    let mut story = Story::new(seed, 1, limits(), false);
    story.troubled = true;
    story.machine.start(false).expect("an empty disk");
    [READER, WRITER].iter().for_each(|who| story.connect(*who));
    write(&mut story, messages);
    story
}

/// Publishes, in several batches.
fn write(story: &mut Story, messages: usize) {
    for _ in 0..messages {
        story.publish(WRITER, TOPIC);
        story.pass(Duration::from_millis(1));
    }
    story.pass(Duration::from_millis(50));
}

fn disk(story: &mut Story) -> &mut Disk {
    &mut story.machine.shards[0].disk
}

fn trouble(story: &Story) -> Option<&'static str> {
    story.machine.shards[0].topics.journal().expect("there is one").trouble
}

/// After trouble and a power loss all is there that was promised, and publications are taken.
fn end(mut story: Story) {
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

fn segments(disk: &Disk) -> Vec<u64> {
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

/// A bit that rots on the disk is an error that names its segment, or the very last batch is not there, which cannot be
/// told from one that was torn.
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
        for _ in 0..150 {
            let segment = numbers[story.machine.rng.random_range(0..numbers.len())];
            let name = name_of(segment);
            let len = disk(&mut story).len(&name).expect("it is there");
            let (offset, bit) = (story.machine.rng.random_range(0..len), story.machine.rng.random_range(0..8));
            let mut rotten = disk(&mut story).clone();
            rotten.corrupt(&name, offset, bit).expect("it is there");
            let block = (offset / BLOCK_BYTES as u64) as u32;
            let in_last = segment == last.0 && (last.1..last.1 + last.2).contains(&block);
            match held(&mut rotten) {
                Ok(after) if after == before => unharmed += 1,
                Ok(after) => {
                    let without_last = before.iter().filter(|(_, at)| *at != last).cloned().collect::<Held>();
                    assert!(in_last && after == without_last, "bit {bit} of {offset} in {segment} was not noticed");
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
    println!("{errors} errors, {shorter} without the last batch, {unharmed} where nothing was");
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
