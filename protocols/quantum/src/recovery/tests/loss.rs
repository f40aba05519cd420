//! Which packets count as lost, and when.

use super::*;

#[test]
fn three_packets_overtake_a_lost_one() {
    // RFC 9002, section 6.1.1.
    let mut bench = Bench::new();
    let sent = bench.send_many(4);
    bench.wait(ms(40));
    bench.ack(&[sent[1]..=sent[2]]);
    assert_eq!(bench.log.lost, [0u64; 0]);
    bench.ack(&[sent[1]..=sent[3]]);
    assert_eq!(bench.log.lost, [sent[0]]);
    assert_eq!(bench.log.lost_items, [item(sent[0])]);
    assert_eq!(bench.recovery.in_flight(), 0);
}

#[test]
fn one_packet_overtakes_a_lost_one_after_nine_eighths_of_a_round_trip() {
    // RFC 9002, section 6.1.2.
    let mut bench = Bench::new();
    bench.settle_rtt();
    let sent = bench.send_many(2);
    let at = bench.now;
    bench.wait(ms(40));
    bench.ack(&[sent[1]..=sent[1]]);
    assert_eq!(bench.recovery.deadline(), Some(at + ms(45)));
    assert_eq!(bench.recovery.on_timeout(at + ms(44), &mut bench.log), Timeout::Early);
    assert_eq!(bench.fire(), Timeout::Lost);
    assert_eq!(bench.log.lost, [sent[0]]);
    assert_eq!(bench.recovery.deadline(), None);
}

#[test]
fn pitfall_6_a_hole_is_sent_again_once_however_often_it_is_told() {
    let mut bench = Bench::new();
    bench.settle_rtt();
    let sent = bench.send_many(20);
    bench.wait(ms(40));
    for last in &sent[1..] {
        bench.ack(&[sent[1]..=*last]);
        bench.wait(ms(1));
    }
    assert_eq!(bench.log.lost, [sent[0]]);
    assert_eq!(bench.log.acked, sent[1..]);
    while bench.recovery.deadline().is_some() {
        bench.fire();
    }
    assert_eq!(bench.log.lost, [sent[0]], "no timer says it again");
}

#[test]
fn a_lost_retransmission_is_noticed_as_fast_as_the_first_loss() {
    let mut bench = Bench::new();
    bench.settle_rtt();
    // The same data is sent, and lost, five times; each time the packets behind it tell within a round trip.
    for _ in 0..5 {
        let sent = bench.send_many(4);
        let at = bench.now;
        bench.wait(ms(40));
        bench.ack(&[sent[1]..=sent[3]]);
        assert_eq!(bench.log.lost.pop(), Some(sent[0]));
        assert_eq!(bench.now, at + ms(40));
    }
    assert_eq!(bench.recovery.counts().timeouts, 0);
}

#[test]
fn a_path_that_reorders_gets_more_patience_and_loses_it_again() {
    let mut bench = Bench::new();
    bench.settle_rtt();
    let sent = bench.send_many(6);
    bench.wait(ms(40));
    bench.ack(&[sent[1]..=sent[5]]);
    assert_eq!(bench.log.lost, [sent[0]]);
    bench.wait(ms(1));
    let counts = bench.recovery.counts();
    assert_eq!(bench.ack(&[sent[0]..=sent[5]]), Acked::default(), "nothing is newly acknowledged");
    assert_eq!(bench.recovery.counts().spurious, counts.spurious + 1);
    assert_eq!(bench.log.delivered, [item(sent[0])], "and need not be sent again");
    assert_eq!(bench.recovery.tolerance.packets(), 6);

    // Five packets may overtake it now.
    let sent = bench.send_many(8);
    bench.wait(ms(40));
    bench.ack(&[sent[1]..=sent[5]]);
    assert_eq!(bench.log.lost.len(), 1);
    bench.ack(&[sent[1]..=sent[6]]);
    assert_eq!(bench.log.lost.len(), 2);

    // 32 round trips later half of it is gone, and in the end all.
    bench.settle_rtt();
    assert_eq!(bench.recovery.tolerance.packets(), 4);
    bench.settle_rtt();
    assert_eq!(bench.recovery.tolerance.packets(), 3);
}

#[test]
fn where_packets_overtake_by_dozens_time_alone_decides() {
    let mut bench = Bench::new();
    bench.settle_rtt();
    let sent = bench.send_many(100);
    bench.wait(ms(40));
    bench.ack(&[sent[1]..=sent[99]]);
    bench.wait(ms(1));
    bench.ack(&[sent[0]..=sent[99]]);
    assert_eq!(bench.recovery.tolerance.packets(), u64::MAX);
    let sent = bench.send_many(100);
    bench.wait(ms(40));
    bench.ack(&[sent[1]..=sent[99]]);
    assert_eq!(bench.log.lost.len(), 1, "not yet");
    assert_eq!(bench.fire(), Timeout::Lost);
    assert_eq!(bench.log.lost.len(), 2);
}

#[test]
fn packets_that_come_late_widen_the_time_step_by_step() {
    let mut bench = Bench::new();
    bench.settle_rtt();
    let mut thresholds = Vec::new();
    for _ in 0..4 {
        let sent = bench.send_many(2);
        bench.wait(ms(40));
        bench.ack(&[sent[1]..=sent[1]]);
        bench.wait(ms(19));
        bench.recovery.on_timeout(bench.now, &mut bench.log);
        bench.ack(&[sent[0]..=sent[1]]);
        thresholds.push(bench.recovery.tolerance.time(&bench.recovery.rtt));
    }
    // Four eighths cover 19 ms: the last round lost nothing.
    assert_eq!(thresholds, [ms(50), ms(55), ms(60), ms(60)]);
    assert_eq!(bench.log.lost.len(), 3);
}

#[test]
fn the_example_of_persistent_congestion() {
    // RFC 9002, section 7.6.3: smoothed_rtt 1 s, deviation 0; the times are that table's.
    let mut bench = Bench::new();
    bench.recovery.set_ack_delay_max(Duration::ZERO);
    for _ in 0..60 {
        let number = bench.send();
        bench.wait(ms(1000));
        bench.ack(&[number..=number]);
    }
    let start = bench.now;
    let mut numbers = Vec::new();
    for at in [0, 1, 2, 3, 4, 5, 6, 8, 12] {
        bench.now = start + ms(at * 1000);
        numbers.push(bench.send());
        if at == 1 {
            bench.now = start + ms(1200);
            bench.ack(&[numbers[0]..=numbers[0]]);
        }
    }
    bench.now = start + ms(12_200);
    bench.ack(&[numbers[8]..=numbers[8]]);
    assert_eq!(bench.log.lost, numbers[1..8]);
    assert_eq!(bench.recovery.counts().persistent, 1);
    assert!(bench.recovery.congestion.window() <= 2 * u64::from(MTU), "{}", bench.recovery.congestion.window());
}

#[test]
fn congestion_is_not_persistent_when_something_came_through() {
    let mut bench = Bench::new();
    bench.settle_rtt();
    let first = bench.send();
    bench.wait(ms(150));
    let through = bench.send();
    bench.wait(ms(150));
    let last = bench.send();
    bench.wait(ms(40));
    let end = bench.send_many(4);
    bench.wait(ms(40));
    bench.ack(&[through..=through, end[0]..=end[3]]);
    assert_eq!(bench.log.lost, [first, last]);
    assert_eq!(bench.recovery.counts().persistent, 0);

    // The same with an acknowledgement in another space.
    let first = bench.send();
    bench.wait(ms(150));
    bench.send_with(Space::Handshake, |_| {});
    bench.wait(ms(40));
    bench.try_ack(Space::Handshake, &[0..=0], None).unwrap();
    bench.wait(ms(110));
    let last = bench.send();
    let end = bench.send_many(4);
    bench.wait(ms(40));
    bench.ack(&[end[0]..=end[3]]);
    assert_eq!(bench.log.lost[2..], [first, last]);
    assert_eq!(bench.recovery.counts().persistent, 0);
}

#[test]
fn a_lost_probe_for_a_larger_mtu_is_no_congestion() {
    let mut bench = Bench::new();
    bench.settle_rtt();
    let window = bench.recovery.congestion.window();
    let probe = bench.send_with(Space::Application, |packet| (packet.mtu_probe, packet.bytes) = (true, 1452));
    bench.send_many(3);
    bench.wait(ms(40));
    bench.ack(&[probe + 1..=probe + 3]);
    assert_eq!(bench.log.lost, [probe]);
    assert!(bench.recovery.congestion.window() >= window);
    // A packet with data is.
    let sent = bench.send_many(4);
    bench.wait(ms(40));
    bench.ack(&[sent[1]..=sent[3]]);
    assert!(bench.recovery.congestion.window() < window);
}

#[test]
fn numbers_near_their_ends_are_numbers() {
    for first in [(1 << 32) - 3, (1 << 62) - 400] {
        let mut bench = Bench::starting_at(first);
        for _ in 0..20 {
            let sent = bench.send_many(8);
            bench.wait(ms(40));
            bench.ack(&[sent[1]..=sent[7]]);
            assert_eq!(bench.log.lost.pop(), Some(sent[0]));
        }
        assert_eq!(bench.recovery.counts().acked, 140);
    }
}
