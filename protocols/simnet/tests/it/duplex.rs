//! What one side of a connection does, and when the other one learns it.

use std::time::{Duration, Instant};

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
