//! What an acknowledgement says, and what it must not be believed.

use super::{acked::UNSENT, *};

#[test]
fn pitfall_3_a_round_trip_is_never_measured_from_what_was_sent_before() {
    let mut bench = Bench::new();
    bench.settle_rtt();
    let (smoothed, latest) = (bench.recovery.rtt.smoothed(), bench.recovery.rtt.latest());
    let old = bench.send();
    bench.wait(ms(100));
    // The probe carries the same data; its answer comes 40 ms later.
    let probe = bench.send();
    bench.wait(ms(40));
    assert!(bench.ack(&[probe..=probe]).rtt_sampled);
    assert_eq!(bench.recovery.rtt.latest(), ms(40), "not the 140 ms since the data was sent first");
    // The first packet was only late. It is not the largest: no sample.
    bench.wait(ms(200));
    assert!(!bench.ack(&[old..=probe]).rtt_sampled);
    // Of several packets the last counts.
    let first = bench.send();
    bench.wait(ms(20));
    let last = bench.send();
    bench.wait(ms(40));
    assert!(bench.ack(&[first..=last]).rtt_sampled);
    assert_eq!(bench.recovery.rtt.latest(), ms(40));
    // Neither is the same ACK again, nor one that fills a hole below a largest that was told before.
    let sent = bench.send_many(2);
    bench.wait(ms(40));
    assert!(bench.ack(&[sent[1]..=sent[1]]).rtt_sampled);
    bench.wait(ms(4));
    let filled = bench.ack(&[sent[0]..=sent[1]]);
    assert_eq!(filled, Acked { newly: true, largest_newly: Some(sent[0]), rtt_sampled: false });
    assert_eq!(bench.recovery.rtt.latest(), latest);
    assert_eq!(bench.recovery.rtt.smoothed(), smoothed);
}

#[test]
fn pitfall_2_packets_with_nothing_but_acks_take_no_window_and_no_time() {
    let mut bench = Bench::new();
    bench.settle_rtt();
    let latest = bench.recovery.rtt.latest();
    let room = bench.recovery.window_room();
    for _ in 0..1000 {
        bench.send_ack_only();
        bench.wait(ms(1));
    }
    assert_eq!((bench.recovery.in_flight(), bench.recovery.window_room()), (0, room));
    assert_eq!(bench.recovery.deadline(), None, "nothing is waited for");
    let last = bench.track().sent.next() - 1;
    assert!(!bench.ack(&[last..=last]).rtt_sampled);
    assert_eq!(bench.recovery.rtt.latest(), latest);
    assert_eq!(bench.recovery.window_room(), room, "and their loss is no congestion");
    assert_eq!(bench.recovery.outstanding(Space::Application), 2, "the two before the last may only be late");
}

#[test]
fn pitfall_38_an_acknowledgement_of_what_was_never_sent_ends_the_connection() {
    let mut bench = Bench::new();
    let sent = bench.send_many(10);
    assert_eq!(bench.try_ack(Space::Application, &[0..=10], None), Err(UNSENT));
    assert_eq!(bench.try_ack(Space::Initial, &[0..=0], None), Err(UNSENT));
    assert_eq!(bench.ack(&[0..=9]).largest_newly, Some(sent[9]));

    // Who acknowledges ahead of what he received runs into a number that was left out, before two windows have passed.
    let start = bench.track().sent.next();
    let caught = (0..1000).find(|_| {
        let next = bench.track().sent.next();
        bench.send_many(10);
        bench.wait(ms(40));
        let end = bench.track().sent.next() - 1;
        bench.try_ack(Space::Application, &[next..=end], None).is_err()
    });
    assert!(caught.is_some());
    let (window, took) = (bench.recovery.congestion.window() / PACKET_BYTES, bench.track().sent.next() - start);
    assert!(took <= 2 * window.max(64) + 20, "caught after {took} packets");
}

#[test]
fn a_number_left_out_costs_an_honest_peer_nothing() {
    let mut bench = Bench::new();
    let mut skipped = 0;
    for _ in 0..500 {
        let sent = bench.send_many(3);
        skipped += sent[2] - sent[0] - 2;
        bench.wait(ms(40));
        for number in sent {
            bench.ack(&[number..=number]);
        }
    }
    assert!(skipped > 5, "{skipped}");
    assert_eq!((bench.log.acked.len(), bench.log.lost.len()), (1500, 0));
}

#[test]
fn the_next_number_stays_until_a_packet_is_sent() {
    let mut bench = Bench::new();
    for _ in 0..1000 {
        let number = bench.recovery.next_number(Space::Application, &mut bench.rng);
        assert_eq!(number, bench.recovery.next_number(Space::Application, &mut bench.rng));
        assert_eq!(number, bench.send());
    }
}

#[test]
fn a_silent_peer_does_not_make_the_queue_grow() {
    // It sends, so that we acknowledge, and never acknowledges anything itself.
    let mut bench = Bench::new();
    for turn in 0..100_000u32 {
        bench.send_ack_only();
        if turn % 32 == 0 {
            bench.send_with(Space::Application, |packet| packet.bytes = 40);
        }
        bench.wait(Duration::from_micros(100));
        if bench.recovery.deadline().is_some_and(|at| at <= bench.now) {
            bench.recovery.on_timeout(bench.now, &mut bench.log);
        }
    }
    let slots = bench.track().sent.next() - bench.track().sent.first();
    assert!(slots < 10_000, "{slots}");
    bench.recovery.check();
}

#[test]
fn an_empty_space_holds_no_heap_and_a_busy_one_allocates_nothing_more() {
    let mut bench = Bench::new();
    assert_eq!(bench.track().sent.capacity(), 0);
    bench.settle_rtt();
    for number in bench.send_many(64) {
        bench.ack(&[number..=number]);
    }
    let capacity = bench.track().sent.capacity();
    for _ in 0..100 {
        let sent = bench.send_many(60);
        bench.wait(ms(40));
        for number in sent {
            bench.ack(&[number..=number]);
        }
    }
    assert_eq!(bench.track().sent.capacity(), capacity);
    // A second of silence later it is given back.
    bench.wait(ms(1000));
    bench.send();
    assert!(bench.track().sent.capacity() <= 16, "{}", bench.track().sent.capacity());
}

#[test]
fn marks_are_used_once_they_are_known_to_work() {
    // RFC 9000, section 13.4.2.
    let mut bench = Bench::new();
    let marked = |bench: &mut Bench| {
        let ect0 = bench.recovery.marks_ecn();
        bench.send_with(Space::Application, |packet| packet.ect0 = ect0)
    };
    for _ in 0..10 {
        assert!(bench.recovery.marks_ecn());
        marked(&mut bench);
    }
    assert!(!bench.recovery.marks_ecn(), "ten try it out");
    bench.wait(ms(40));
    let counts = |ect0, ce| Some(EcnCounts { ect0, ect1: 0, ce });
    bench.try_ack(Space::Application, &[0..=9], counts(10, 0)).unwrap();
    assert!(bench.recovery.is_ecn_capable() && bench.recovery.marks_ecn());
    let window = bench.recovery.congestion.window();
    let number = marked(&mut bench);
    bench.wait(ms(40));
    bench.try_ack(Space::Application, &[number..=number], counts(10, 1)).unwrap();
    assert!(bench.recovery.is_ecn_capable());
    assert!(bench.recovery.congestion.window() < window, "a mark is congestion");
}

#[test]
fn marks_that_do_not_come_back_are_given_up() {
    let counts = |ect0, ect1, ce| Some(EcnCounts { ect0, ect1, ce });
    // Not told, told too few, told as another mark, told more than were sent.
    for told in [None, counts(2, 0, 0), counts(0, 3, 0), counts(4, 0, 0), counts(3, 1, 0)] {
        let mut bench = Bench::new();
        for _ in 0..3 {
            bench.send_with(Space::Application, |packet| packet.ect0 = true);
        }
        bench.try_ack(Space::Application, &[0..=2], told).unwrap();
        assert!(!bench.recovery.marks_ecn() && !bench.recovery.is_ecn_capable(), "{told:?}");
        bench.recovery.on_path_changed(bench.now, 1);
        assert!(bench.recovery.marks_ecn(), "another path is tried anew");
    }
    // An older ACK that comes late proves nothing.
    let mut bench = Bench::new();
    for _ in 0..3 {
        bench.send_with(Space::Application, |packet| packet.ect0 = true);
    }
    bench.try_ack(Space::Application, &[2..=2], counts(1, 0, 0)).unwrap();
    bench.try_ack(Space::Application, &[1..=1], None).unwrap();
    assert!(bench.recovery.is_ecn_capable());
    // Marks may be what the path drops.
    let mut bench = Bench::new();
    bench.send_with(Space::Application, |packet| packet.ect0 = true);
    bench.fire();
    assert!(bench.recovery.marks_ecn());
    bench.fire();
    assert!(!bench.recovery.marks_ecn());
}

#[test]
fn an_idle_connection_is_small() {
    assert!(size_of::<Recovery>() <= 1700, "{}", size_of::<Recovery>());
    assert!(size_of::<SentPacket>() <= 240, "{}", size_of::<SentPacket>());
}
