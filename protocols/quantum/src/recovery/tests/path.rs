//! Another path, another space: what must not leak from one to the other.

use super::*;

#[test]
fn packets_of_an_old_path_move_neither_round_trip_nor_congestion() {
    let mut bench = Bench::new();
    bench.settle_rtt();
    // One is lost already, ten more are out.
    let before = bench.send_many(4);
    bench.wait(ms(40));
    bench.ack(&[before[1]..=before[3]]);
    assert_eq!(std::mem::take(&mut bench.log).lost, before[..1]);
    let sent = bench.send_many(10);
    bench.recovery.on_path_changed(bench.now, 1);
    bench.recovery.check();
    assert_eq!(bench.recovery.in_flight(), 0);
    let window = bench.recovery.congestion.window();
    bench.wait(ms(500));
    // Four arrived, six were lost: the data is dealt with, and nothing else.
    assert!(!bench.ack(&[sent[6]..=sent[9]]).rtt_sampled);
    assert_eq!((&bench.log.acked[..], &bench.log.lost[..]), (&sent[6..], &sent[..6]));
    assert_eq!(bench.recovery.congestion.window(), window);
    assert!(!bench.recovery.rtt.has_sample());
    // The late arrival of two of them is no reordering of the new path.
    bench.ack(&[sent[5]..=sent[9]]);
    bench.ack(&[before[0]..=before[3], sent[9]..=sent[9]]);
    assert_eq!(bench.recovery.counts().spurious, 2);
    assert_eq!(bench.recovery.tolerance.packets(), 3);

    let number = bench.send_with(Space::Application, |packet| packet.path = 1);
    assert_eq!(bench.recovery.in_flight(), u64::from(MTU));
    bench.wait(ms(15));
    assert!(bench.ack(&[number..=number]).rtt_sampled);
    assert_eq!(bench.recovery.rtt.smoothed(), ms(15));
}

#[test]
fn what_went_to_a_forgotten_port_is_sent_again_without_blame() {
    let mut bench = Bench::new();
    bench.settle_rtt();
    let sent = bench.send_many(10);
    let (window, rtt) = (bench.recovery.congestion.window(), bench.recovery.rtt.smoothed());
    bench.recovery.on_rebound(1, &mut bench.log);
    bench.recovery.check();
    assert_eq!(std::mem::take(&mut bench.log).lost, sent);
    assert_eq!((bench.recovery.in_flight(), bench.recovery.congestion.window()), (0, window));
    // Two had arrived before; that is no reordering, and no measurement.
    bench.wait(ms(70));
    bench.ack(&[sent[0]..=sent[1]]);
    assert_eq!(bench.recovery.counts().spurious, 2);
    assert_eq!((bench.recovery.tolerance.packets(), bench.recovery.rtt.smoothed()), (3, rtt));
    assert_eq!(bench.recovery.congestion.window(), window);
    // What follows is of the same path.
    let number = bench.send_with(Space::Application, |packet| packet.path = 1);
    bench.wait(ms(40));
    assert!(bench.ack(&[number..=number]).rtt_sampled);
}

#[test]
fn a_probe_of_another_path_is_not_in_flight_on_this_one() {
    let mut bench = Bench::new();
    bench.settle_rtt();
    let challenge = bench.send_with(Space::Application, |packet| packet.path = 9);
    assert_eq!(bench.recovery.in_flight(), 0);
    bench.wait(ms(300));
    assert!(!bench.ack(&[challenge..=challenge]).rtt_sampled);
    assert_eq!(bench.recovery.rtt.latest(), ms(40));
}

#[test]
fn a_discarded_space_takes_its_bytes_out_of_flight() {
    let mut bench = Bench::handshaking(Side::Server);
    bench.send_with(Space::Initial, |_| {});
    bench.send_with(Space::Handshake, |_| {});
    bench.recovery.discard(bench.now, Space::Initial);
    bench.recovery.check();
    assert_eq!(bench.recovery.in_flight(), u64::from(MTU));
    assert_eq!(bench.recovery.counts().discarded, 1);
    assert!(bench.log.lost.is_empty() && bench.log.acked.is_empty());
    assert_eq!(bench.recovery.next_number(Space::Initial, &mut bench.rng), 1, "numbers are never used again");
}

#[test]
fn what_a_refused_0rtt_carried_is_sent_again_without_blame() {
    let mut bench = Bench::handshaking(Side::Client);
    bench.send_with(Space::Initial, |_| {});
    let early = bench.send_many(3);
    let window = bench.recovery.congestion.window();
    bench.recovery.lose_all(Space::Application, &mut bench.log);
    bench.recovery.check();
    assert_eq!(bench.log.lost, early);
    assert_eq!((bench.recovery.in_flight(), bench.recovery.congestion.window()), (u64::from(MTU), window));
    assert_eq!(bench.send(), 3);
    bench.wait(ms(40));
    assert_eq!(bench.ack(&[0..=3]).largest_newly, Some(3));
}
