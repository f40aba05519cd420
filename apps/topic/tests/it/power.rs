//! Power losses at any moment of random lives: what was acknowledged or read is there afterwards, at its place, once.

use rand::Rng;
use simnet::CrashPlan;
use topic::{Limits, journal::RecoverError};

use crate::{disk::Stop, reader::Story};

pub(crate) const TOPICS: [&str; 4] = ["chat/lobby", "chat/b", "chat/c", "canvas/d"];
pub(crate) const NAMES: [&str; 5] = ["user/ada", "user/bob", "room/x", "chat/lobby", "chat/b"];

/// Power losses in one test run, unless the environment says how many.
const LOSSES: u64 = 1_000;

/// Limits of retention that nothing reaches.
const ALL: u64 = 1 << 40;

/// What the seeds together have seen, so that a world in which nothing happens is no proof.
#[derive(Default, Debug)]
struct Tally {
    losses: u64,
    kills: u64,
    while_writing: u64,
    while_syncing: u64,
    while_making: u64,
    while_mending: u64,
    torn: u64,
    segments: u64,
    repeats: u64,
    gathered: u64,
    trimmed: u64,
    compacted: u64,
    gaps: u64,
    covered: u64,
    begun_anew: u64,
    refused: u64,
    msgs: u64,
}

fn limits(seed: u64) -> (Limits, bool) {
    let segment_bytes = [32, 64, 128][(seed % 3) as usize] * 1024;
    let small = Limits { history_records_max: 8, history_bytes_max: 2_048, ..Limits::default() };
    let rings =
        if seed.is_multiple_of(2) { small } else { Limits { history_total_bytes_max: 100_000, ..Limits::default() } };
    let all = Limits { segment_bytes, ..rings };
    let limits = match seed / 2 % 6 {
        0 => Limits { retention_bytes: 20_000, ..all },
        1 => Limits { journal_bytes: 4 * segment_bytes, ..all },
        2 => Limits { retention_ms: 30_000, ..all },
        _ => all,
    };
    (limits, seed / 2 % 6 < 3)
}

/// A machine that loses its power again and again; at most `losses` times.
fn live(seed: u64, losses: u64, tally: &mut Tally) -> u64 {
    println!("seed {seed}");
    let (limits, trims) = limits(seed);
    let mut story = Story::new(seed, 1 + (seed % 5 / 3) as u16, limits, trims);
    let kept = [limits, Limits { retention_bytes: ALL, retention_ms: ALL, journal_bytes: ALL, ..limits }];
    story.troubled = seed % 4 == 3;
    story.machine.start(false).expect("empty disks");
    let losses = losses.min(story.machine.rng.random_range(4..16));
    for _ in 0..losses {
        let most = [10, 60, 250][story.machine.rng.random_range(0..3)];
        let acts = story.machine.rng.random_range(0..most);
        (0..acts).for_each(|_| story.act());
        if story.machine.rng.random_ratio(1, 5) {
            story.rest();
        }
        // The operator keeps messages for longer now and then.
        story.machine.limits = kept[usize::from(story.machine.rng.random_ratio(1, 4))];
        lose_power(&mut story, tally);
        if story.machine.rng.random() {
            story.audit();
        }
    }
    story.rest();
    story.audit();
    story.check_answered();
    tally.repeats += story.oracle.repeats;
    tally.begun_anew += story.oracle.begun_anew;
    tally.refused += story.refused;
    tally.gaps += story.gaps;
    tally.covered += story.oracle.covered;
    tally.msgs += story.msgs;
    story.machine.hash()
}

/// The power goes, or the process is killed, and comes back; once in a while it goes again while a journal is mended.
fn lose_power(story: &mut Story, tally: &mut Tally) {
    for shard in &story.machine.shards {
        let (writing, syncing) = shard.is_writing();
        tally.while_writing += u64::from(writing);
        tally.while_syncing += u64::from(syncing);
        tally.while_making += u64::from(shard.is_making());
        let stats = shard.topics.stats();
        (tally.gathered, tally.trimmed) = (tally.gathered + stats.gathered, tally.trimmed + stats.trimmed_batches);
        tally.compacted += stats.compacted;
    }
    let mut fuse = story.machine.rng.random_ratio(1, 8);
    loop {
        let stop = stop(story);
        tally.losses += 1;
        tally.kills += u64::from(matches!(stop, Stop::Kill));
        story.stop(stop);
        match story.machine.start(fuse) {
            Ok(recovered) => {
                tally.torn += u64::from(recovered.torn_bytes > 0);
                tally.segments += recovered.segments;
                return story.check_recovered();
            }
            Err(RecoverError::Io { .. }) if fuse => {
                tally.while_mending += 1;
                fuse = false;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

fn stop(story: &mut Story) -> Stop {
    let rng = &mut story.machine.rng;
    if rng.random_ratio(1, 5) {
        return Stop::Kill;
    }
    let keep = [0.0, 0.2, 0.5, 0.9, 1.0][rng.random_range(0..5)];
    let garbage = [0.0, 0.0, 0.1, 0.5][rng.random_range(0..4)];
    Stop::PowerLoss(CrashPlan { keep, garbage, flip_synced_bits: 0 })
}

#[test]
fn no_power_loss_takes_what_was_promised() {
    let wanted = std::env::var("RINGSHARD_POWER_LOSSES").ok().map(|text| text.parse().expect("a number"));
    let wanted = wanted.unwrap_or(LOSSES);
    let mut tally = Tally::default();
    let mut seed = 0;
    while tally.losses < wanted {
        live(seed, wanted - tally.losses, &mut tally);
        seed += 1;
    }
    println!("{seed} lives: {tally:?}");
    let Tally { losses, kills, while_writing, while_syncing, while_making, while_mending, torn, .. } = tally;
    assert!(kills * 20 > losses && while_writing * 20 > losses && while_syncing * 20 > losses, "{tally:?}");
    assert!(while_making * 40 > losses && while_mending * 40 > losses && torn * 40 > losses, "{tally:?}");
    assert!(tally.repeats > losses && tally.gathered > losses && tally.trimmed > losses, "{tally:?}");
    assert!(tally.compacted * 20 > losses, "{tally:?}");
    assert!(tally.covered > losses, "{tally:?}");
    assert!(tally.gaps > 0 && tally.refused > 0 && tally.segments > 2 * losses, "{tally:?}");
}

#[test]
fn a_seed_loses_its_power_the_same_way_twice() {
    for seed in 0..6 {
        assert_eq!(live(seed, 6, &mut Tally::default()), live(seed, 6, &mut Tally::default()), "seed {seed}");
    }
    assert_ne!(live(1, 6, &mut Tally::default()), live(7, 6, &mut Tally::default()));
}
