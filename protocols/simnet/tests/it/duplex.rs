//! What one side of a connection does, and when the other one learns it.

use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng, rngs::StdRng};
use simnet::{Arrival, Duplex, PipeConfig, Side};

const MS: Duration = Duration::from_millis(1);

fn connection() -> (Duplex, Instant) {
    (Duplex::new(5, PipeConfig { delay: 10 * MS, ..PipeConfig::default() }), Instant::now())
}

/// All that a side gets until nothing happens any more.
fn drain(duplex: &mut Duplex, side: Side) -> Vec<Arrival> {
    let mut arrivals = Vec::new();
    while let Some(at) = duplex.deadline() {
        let arrival = duplex.poll(at, side).expect("nothing is for the other side");
        match (arrivals.last_mut(), arrival) {
            (Some(Arrival::Data(last)), Arrival::Data(more)) => last.extend(more),
            (_, arrival) => arrivals.push(arrival),
        }
    }
    arrivals
}

#[test]
fn each_side_hears_the_other_and_half_a_close_leaves_the_other_half() {
    let (mut duplex, start) = connection();
    duplex.write(start, Side::Client, b"question");
    duplex.finish(start, Side::Client);
    assert_eq!(drain(&mut duplex, Side::Server), [Arrival::Data(b"question".to_vec()), Arrival::Finished]);
    assert!(!duplex.is_over());
    let later = start + 50 * MS;
    assert_eq!(duplex.write(later, Side::Client, b"more"), 0);
    duplex.write(later, Side::Server, b"answer");
    duplex.finish(later, Side::Server);
    assert_eq!(drain(&mut duplex, Side::Client), [Arrival::Data(b"answer".to_vec()), Arrival::Finished]);
    assert!(duplex.is_over());
}

#[test]
fn a_side_that_is_gone_is_deaf_at_once_and_the_other_learns_it_later() {
    let (mut duplex, start) = connection();
    duplex.write(start, Side::Server, b"nobody hears this");
    duplex.reset(start, Side::Client);
    assert_eq!(duplex.poll(start + 10 * MS, Side::Client), None);
    assert_eq!(duplex.write(start, Side::Client, b"x"), 0);
    assert_eq!(duplex.room(start, Side::Server), 64 * 1024 - 17, "it does not know yet");
    assert_eq!(duplex.deadline(), Some(start + 10 * MS));
    assert_eq!(drain(&mut duplex, Side::Server), [Arrival::Reset]);
    assert!(duplex.is_over());
    assert_eq!(duplex.write(start + 20 * MS, Side::Server, b"x"), 0);
}

#[test]
fn a_reset_after_a_fin_is_heard_too() {
    let (mut duplex, start) = connection();
    duplex.finish(start, Side::Client);
    assert_eq!(drain(&mut duplex, Side::Server), [Arrival::Finished]);
    duplex.reset(start + 20 * MS, Side::Client);
    assert_eq!(drain(&mut duplex, Side::Server), [Arrival::Reset]);
}

#[test]
fn only_the_side_that_stalls_stops_reading() {
    let (mut duplex, start) = connection();
    duplex.stall(Side::Client, true);
    duplex.write(start, Side::Server, b"unread");
    duplex.write(start, Side::Client, b"read");
    assert_eq!(drain(&mut duplex, Side::Server), [Arrival::Data(b"read".to_vec())]);
    assert_eq!(duplex.poll(start + 60_000 * MS, Side::Client), None);
    duplex.stall(Side::Client, false);
    assert_eq!(drain(&mut duplex, Side::Client), [Arrival::Data(b"unread".to_vec())]);
}

/// What one side of a random conversation wrote and heard.
#[derive(Default)]
struct Ear {
    written: Vec<u8>,
    heard: Vec<u8>,
    ended: Option<Arrival>,
}

#[test]
fn whatever_happens_each_side_hears_what_the_other_wrote_in_order_or_a_reset() {
    let mut resets = 0;
    for seed in 0..500 {
        let (reset, ears) = converse(seed);
        resets += usize::from(reset);
        for (ear, peer) in [(&ears[0], &ears[1]), (&ears[1], &ears[0])] {
            assert!(peer.written.starts_with(&ear.heard), "seed {seed}: other bytes than were written");
            if !reset {
                assert_eq!(ear.ended, Some(Arrival::Finished), "seed {seed}");
                assert_eq!(ear.heard.len(), peer.written.len(), "seed {seed}: bytes are missing");
            }
        }
    }
    assert!((100..400).contains(&resets));
}

/// Two sides write, stall and vanish by chance; then both finish and read to the end.
fn converse(seed: u64) -> (bool, [Ear; 2]) {
    let config = PipeConfig {
        delay: 3 * MS,
        jitter: 9 * MS,
        rate_bytes_per_s: Some(1_000_000),
        window_bytes: 3_000,
        ..PipeConfig::default()
    };
    let (mut rng, mut duplex, mut now) = (StdRng::seed_from_u64(seed), Duplex::new(seed, config), Instant::now());
    let (mut ears, mut reset) = ([Ear::default(), Ear::default()], false);
    for _ in 0..200 {
        now += rng.random_range(0..3) * MS;
        let at = rng.random_range(0..2);
        let side = [Side::Client, Side::Server][at];
        match rng.random_range(0..100) {
            0..50 => {
                let bytes: Vec<u8> = (0..rng.random_range(0..2_000)).map(|_| rng.random()).collect();
                let len = duplex.write(now, side, &bytes);
                ears[at].written.extend(&bytes[..len]);
            }
            50..60 => duplex.stall(side, rng.random()),
            60..62 => duplex.hold(now + 40 * MS),
            62 if rng.random_bool(0.4) => {
                duplex.reset(now, side);
                reset = true;
            }
            _ => listen(&mut duplex, now, side, &mut ears[at]),
        }
    }
    for side in [Side::Client, Side::Server] {
        duplex.stall(side, false);
        duplex.finish(now, side);
    }
    for _ in 0..10_000 {
        listen(&mut duplex, now, Side::Client, &mut ears[0]);
        listen(&mut duplex, now, Side::Server, &mut ears[1]);
        let Some(deadline) = duplex.deadline() else { break };
        assert!(deadline > now, "seed {seed}: all that had arrived was heard");
        now = deadline;
    }
    assert!(duplex.is_over(), "seed {seed}: it never ends");
    (reset, ears)
}

fn listen(duplex: &mut Duplex, now: Instant, side: Side, ear: &mut Ear) {
    while let Some(arrival) = duplex.poll(now, side) {
        match arrival {
            Arrival::Data(data) => ear.heard.extend(data),
            end => ear.ended = Some(end),
        }
    }
}
