//! Batches on their way to disk: two at a time, in segments that are filled beforehand, and what becomes of them when one
//! fails.

use std::time::Duration;

use topic::Limits;

use crate::{
    reader::Story,
    trouble::{POWER, READER, TOPIC, WRITER, begin, disk, end, limits, segments, trouble, write},
};

/// A sync that fails takes with it what another batch of the same file has written and not synced yet.
#[test]
fn what_was_under_way_with_a_batch_that_failed_is_not_believed() {
    for seed in 0..200 {
        let mut story = begin(seed, 4);
        disk(&mut story).fail_next_sync();
        write(&mut story, 4);
        assert_eq!(trouble(&story), Some("the disk has failed"));
        end(story);
    }
}

/// Of two batches under way one finds a read-only disk, the other one a disk that fails.
#[test]
fn a_disk_that_failed_is_so_whatever_else_it_says() {
    let mut wrong = Vec::new();
    for seed in 0..60 {
        let mut story = begin(seed, 4);
        disk(&mut story).fail_next_sync();
        story.publish(WRITER, TOPIC);
        story.pass(Duration::from_micros(1));
        story.publish(WRITER, TOPIC);
        story.pass(Duration::from_micros(100 * (seed % 60)));
        if trouble(&story).is_some() {
            continue;
        }
        disk(&mut story).set_read_only(true);
        story.pass(Duration::from_millis(50));
        let said = trouble(&story);
        story.repair();
        story.pass(Duration::from_secs(2));
        write(&mut story, 20);
        // A sync has failed meanwhile, of this batch or one of those.
        if trouble(&story) != Some("the disk has failed") {
            wrong.push((seed, said, trouble(&story)));
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// Zeros in a file that nobody uses yet: another file does as well.
#[test]
fn zeros_that_were_not_written_are_no_failed_disk() {
    let mut story = Story::new(1, 1, limits(), false);
    story.troubled = true;
    story.machine.start(false).expect("an empty disk");
    disk(&mut story).fail_next_write();
    [READER, WRITER].iter().for_each(|who| story.connect(*who));
    story.pass(Duration::from_secs(60));
    assert_eq!((trouble(&story), segments(disk(&mut story))), (None, vec![1]));
}

/// Segments that are longer than what is filled before they are used.
#[test]
fn long_segments_lose_nothing() {
    for seed in 0..3 {
        println!("seed {seed}");
        let long = Limits { segment_bytes: 9 * 1024 * 1024, ..limits() };
        let mut story = Story::new(seed, 1, long, false);
        story.troubled = true;
        story.machine.start(false).expect("an empty disk");
        [READER, WRITER].iter().for_each(|who| story.connect(*who));
        for _ in 0..2 {
            let before = segments(disk(&mut story)).len();
            write(&mut story, 3_000 + 300 * seed as usize);
            assert!(segments(disk(&mut story)).len() > before, "the next one was filled in time");
            story.stop(POWER);
            story.machine.start(false).expect("nothing is damaged");
            story.check_recovered();
            story.audit();
            [READER, WRITER].iter().for_each(|who| story.connect(*who));
        }
        end(story);
    }
}
