//! A pipe keeps every byte in its place, whatever it does to the pieces.

use std::time::{Duration, Instant};

use simnet::{Arrival, Pipe, PipeConfig};

const MS: Duration = Duration::from_millis(1);

fn config() -> PipeConfig {
    PipeConfig { delay: 10 * MS, jitter: 5 * MS, window_bytes: 4_000, ..PipeConfig::default() }
}

/// Writes all of `plain` through the pipe and gives what came out, in its pieces, and when it ended.
fn pass(pipe: &mut Pipe, start: Instant, plain: &[u8]) -> (Vec<Vec<u8>>, Instant) {
    let (mut now, mut rest, mut pieces) = (start, plain, Vec::new());
    loop {
        rest = &rest[pipe.write(now, rest)..];
        if rest.is_empty() {
            pipe.finish(now);
        }
        while let Some(arrival) = pipe.poll(now) {
            match arrival {
                Arrival::Data(data) => pieces.push(data),
                Arrival::Finished => return (pieces, now),
                Arrival::Reset => panic!("nobody reset it"),
            }
        }
        now = pipe.deadline().expect("it is not over").max(now);
    }
}

#[test]
fn bytes_come_in_order_and_whole_in_other_pieces() {
    let plain: Vec<u8> = (0..20_000_u32).map(|number| (number % 251) as u8).collect();
    for seed in 0..100 {
        let mut pipe = Pipe::new(seed, config());
        let (pieces, _) = pass(&mut pipe, Instant::now(), &plain);
        assert_eq!(pieces.concat(), plain, "seed {seed}");
        assert!(pieces.len() > 5, "seed {seed}: the window alone makes pieces");
        assert_eq!((pipe.stats().written, pipe.stats().read), (20_000, 20_000));
        assert!(pipe.is_ended());
    }
}

#[test]
fn two_writes_come_as_one_and_one_as_two() {
    let (mut joined, mut split) = (false, false);
    for seed in 0..50 {
        let (mut pipe, now) = (Pipe::new(seed, PipeConfig::default()), Instant::now());
        pipe.write(now, b"one");
        pipe.write(now, b"two");
        while let Some(Arrival::Data(data)) = pipe.poll(now) {
            joined |= data == b"onetwo";
            split |= data.len() < 3;
        }
    }
    assert!(joined && split);
}

#[test]
fn a_stalled_reader_fills_the_window_and_stops_the_writer() {
    let (mut pipe, start) = (Pipe::new(3, PipeConfig { jitter: Duration::ZERO, ..config() }), Instant::now());
    pipe.stall(true);
    assert_eq!(pipe.write(start, &[7; 10_000]), 4_000);
    assert_eq!((pipe.room(start + 60_000 * MS), pipe.poll(start + 60_000 * MS), pipe.deadline()), (0, None, None));
    pipe.stall(false);
    let later = start + 60_000 * MS;
    let mut read = 0;
    while let Some(Arrival::Data(data)) = pipe.poll(later) {
        read += data.len();
    }
    assert_eq!((read, pipe.room(later)), (4_000, 0), "the writer does not know yet");
    assert_eq!(pipe.deadline(), Some(later + 10 * MS));
    assert_eq!(pipe.room(later + 10 * MS), 4_000);
}

#[test]
fn a_rate_is_kept() {
    let config = PipeConfig { rate_bytes_per_s: Some(10_000), window_bytes: 1 << 20, ..PipeConfig::default() };
    let start = Instant::now();
    let (_, end) = pass(&mut Pipe::new(3, config), start, &[7; 20_000]);
    assert!((1_999..=2_001).contains(&(end - start).as_millis()));
}

#[test]
fn a_way_that_is_cut_delivers_when_it_is_repaired() {
    let (mut pipe, start) = (Pipe::new(3, config()), Instant::now());
    pipe.write(start, b"before");
    pipe.hold(start + 500 * MS);
    pipe.write(start, b" and during");
    assert_eq!(pipe.deadline(), Some(start + 500 * MS));
    let mut got = Vec::new();
    while let Some(Arrival::Data(data)) = pipe.poll(start + 500 * MS) {
        got.extend(data);
    }
    assert_eq!(got, b"before and during");
}

#[test]
fn a_reset_comes_last_with_or_without_what_was_on_its_way() {
    let mut losses = 0;
    for seed in 0..50 {
        let (mut pipe, start) = (Pipe::new(seed, config()), Instant::now());
        pipe.write(start, &[1; 100]);
        pipe.reset(start + MS);
        pipe.reset(start + 2 * MS);
        assert_eq!((pipe.write(start + MS, b"late"), pipe.room(start + MS)), (0, 0));
        let mut got = 0;
        let mut last = None;
        while let Some(at) = pipe.deadline() {
            match pipe.poll(at).unwrap() {
                Arrival::Data(data) => got += data.len(),
                end => last = Some(end),
            }
        }
        assert_eq!(last, Some(Arrival::Reset));
        assert!(got == 100 || (got == 0 && pipe.stats().dropped == 100));
        losses += u32::from(got == 0);
    }
    assert!((10..40).contains(&losses));
}

#[test]
fn the_same_seed_gives_the_same_pieces_at_the_same_times() {
    let start = Instant::now();
    let run = |seed| pass(&mut Pipe::new(seed, config()), start, &[5; 9_000]);
    assert!(run(1) == run(1) && run(1) != run(2));
}
