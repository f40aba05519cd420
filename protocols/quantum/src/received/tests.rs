//! When an ACK is due and what it says, as stories and against a set.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::frame::{Ack, Frame};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

struct Bench {
    now: Instant,
    received: Received,
}

impl Bench {
    fn new() -> Self {
        Self { now: Instant::now(), received: Received::new(Space::Application) }
    }

    /// Its first 32 packets, which are acknowledged at once, have come and were told.
    fn warm() -> Self {
        let mut bench = Self::new();
        bench.received.set_policy(Policy::Bulk, ms(80));
        for number in 0..32 {
            bench.take(number);
            assert!(bench.due(), "{number} is one of the first");
        }
        bench.told();
        bench
    }

    fn take(&mut self, number: u64) {
        assert!(self.received.is_new(number));
        self.received.insert(self.now, number, true, 0);
    }

    fn due(&self) -> bool {
        self.received.ack_due(self.now)
    }

    /// Sends an ACK: its ranges, newest first, its delay, and its marks.
    fn told(&mut self) -> (Vec<(u64, u64)>, u64, Option<EcnCounts>) {
        let mut out = Vec::new();
        let largest = self.received.encode(self.now, 1200, 3, &mut out).unwrap();
        let Ok(Frame::Ack(Ack { largest: told, delay, ranges, ecn })) = Frame::parse(&mut &out[..]) else {
            panic!("an ACK")
        };
        assert_eq!(largest, told);
        assert!(!self.received.has_news() && self.received.deadline().is_none());
        (ranges.iter().map(|range| range.into_inner()).collect(), delay, ecn)
    }
}

//= SPEC.md#8
//= type=test
//# Otherwise it SHOULD acknowledge every second packet, or after srtt/8, at least 1 ms and at most 10 ms
#[test]
fn every_second_packet_is_acknowledged_and_the_odd_one_after_an_eighth_of_a_round_trip() {
    let mut bench = Bench::warm();
    bench.take(32);
    assert!(!bench.due() && bench.received.has_news());
    bench.take(33);
    assert!(bench.due());
    assert_eq!(bench.told().0, [(0, 33)]);
    bench.take(34);
    assert_eq!(bench.received.deadline(), Some(bench.now + ms(10)));
    bench.now += ms(10);
    assert!(bench.due());
    assert_eq!(bench.told().1, 10_000 >> 3, "the delay in units of 8 us");
    // Who waits for messages and repairs gets 2 ms; a bulk transfer over a long way no more than 10 ms.
    for (policy, delay) in [(Policy::Prompt, ms(2)), (Policy::Bulk, ms(10))] {
        bench.received.set_policy(policy, ms(600));
        bench.take(bench.received.largest().unwrap() + 1);
        assert_eq!(bench.received.deadline(), Some(bench.now + delay));
        bench.told();
    }
}

#[test]
fn a_train_is_one_acknowledgement() {
    let mut bench = Bench::warm();
    for number in 32..96 {
        bench.take(number);
    }
    assert!(bench.due());
    assert_eq!(bench.told().0, [(0, 95)]);
    assert!(!bench.due());
}

//= SPEC.md#8
//= type=test
//# A receiver MUST acknowledge at once when a packet arrives out of order, leaves a gap
#[test]
fn a_gap_and_what_fills_it_are_told_at_once() {
    // RFC 9000, section 13.2.1.
    let mut bench = Bench::warm();
    bench.take(34);
    assert!(bench.due());
    assert_eq!(bench.told().0, [(34, 34), (0, 31)]);
    bench.take(35);
    assert!(!bench.due(), "the gap is known");
    bench.told();
    bench.take(33);
    assert!(bench.due());
    assert_eq!(bench.told().0, [(33, 35), (0, 31)]);
}

//= SPEC.md#8
//= type=test
//# A packet of nothing but frames that do not ask for an acknowledgement MUST NOT be answered by such a packet.
#[test]
fn pitfall_2_acknowledgements_are_not_acknowledged() {
    let mut bench = Bench::warm();
    for number in 32..1000 {
        assert!(bench.received.is_new(number));
        bench.received.insert(bench.now, number, false, 0);
    }
    assert_eq!(bench.received.deadline(), None);
    assert!(bench.received.has_news(), "but they ride along");
    assert_eq!(bench.told().0, [(0, 999)]);
}

#[test]
fn marks_of_congestion_are_told_at_once() {
    let mut bench = Bench::warm();
    bench.received.insert(bench.now, 32, true, ECT0);
    assert!(!bench.due());
    assert_eq!(bench.told().2, Some(EcnCounts { ect0: 1, ect1: 0, ce: 0 }));
    bench.received.insert(bench.now, 33, true, CE);
    assert!(bench.due());
    bench.received.insert(bench.now, 34, true, ECT1);
    assert_eq!(bench.told().2, Some(EcnCounts { ect0: 1, ect1: 1, ce: 1 }));
}

#[test]
fn the_peer_says_how_often() {
    let mut bench = Bench::warm();
    bench.received.on_ack_frequency(1, 9, 50_000, 3);
    for number in 32..41 {
        bench.take(number);
        assert!(!bench.due());
    }
    assert_eq!(bench.received.deadline(), Some(bench.now + ms(50)));
    bench.take(41);
    assert!(bench.due());
    bench.told();
    // Three packets behind a gap, as the sender's own threshold.
    for number in [43, 44] {
        bench.take(number);
        assert!(!bench.due(), "{number}");
    }
    bench.take(45);
    assert!(bench.due());
    bench.told();
    bench.take(42);
    assert!(!bench.due(), "it was told as missing; that it came can wait");
    // An older one is void; 0 is: never for a gap; 0 packets: each at once.
    bench.received.on_ack_frequency(1, 0, 0, 1);
    bench.received.on_ack_frequency(2, 1000, 50_000, 0);
    bench.take(99);
    assert!(!bench.due());
    bench.received.on_immediate_ack(bench.now);
    assert!(bench.due());
    bench.told();
    bench.received.on_ack_frequency(3, 0, 50_000, 1);
    bench.take(100);
    assert!(bench.due());
}

#[test]
fn a_handshake_waits_for_nothing() {
    for space in [Space::Initial, Space::Handshake] {
        let mut received = Received::new(space);
        let now = Instant::now();
        for number in 0..100 {
            received.insert(now, number, true, 0);
            assert!(received.ack_due(now));
            assert_eq!(received.encode(now, 100, 3, &mut Vec::new()), Some(number));
        }
    }
}

#[test]
fn duplicates_are_known() {
    let mut bench = Bench::warm();
    assert!(!bench.received.is_new(7) && !bench.received.is_new(31));
    assert!(bench.received.is_new(32));
    // Also behind the ACK of the ACK.
    bench.received.on_ack_acked(31);
    assert!(!bench.received.is_new(7));
}

#[test]
fn pitfall_10_ranges_stop_growing_when_their_acks_are_acknowledged() {
    let mut bench = Bench::warm();
    let mut pings = 0;
    for number in (40..4000).step_by(2) {
        bench.take(number);
        assert!(bench.due());
        bench.now += ms(1);
        let ping = bench.received.wants_ping(bench.now, ms(40));
        let (ranges, ..) = bench.told();
        assert!(ranges.len() <= RANGES_MAX);
        if ping {
            pings += 1;
            bench.received.on_eliciting_sent(bench.now);
            bench.received.on_ack_acked(ranges[0].1);
            assert_eq!(bench.received.pieces(), 0);
            assert_eq!(bench.received.deadline(), None, "nothing left to tell");
        }
    }
    assert!((40..=2000 / 20).contains(&pings), "about once per round trip: {pings}");
    assert!(bench.received.seen.len() <= RANGES_MAX, "{}", bench.received.seen.len());
    assert!(!bench.received.is_new(41), "a hole of old is closed");
}

#[test]
fn a_peer_that_leaves_holes_everywhere_gets_no_memory() {
    let mut bench = Bench::warm();
    for number in (40..100_000).step_by(2) {
        bench.take(number);
    }
    assert_eq!((bench.received.seen.len(), bench.received.pieces()), (SEEN_MAX, RANGES_MAX));
    assert!(bench.received.is_new(99_999) && !bench.received.is_new(41));
    bench.told();
}

//= SPEC.md#8
//= type=test
//# An end that only receives SHOULD ask for an acknowledgement now and then, to be allowed to forget ranges: with every
//# 32nd ACK
#[test]
fn a_receiver_without_holes_asks_every_32nd_time() {
    let mut bench = Bench::warm();
    let mut pings = 0;
    for number in 32..1032 {
        bench.take(number);
        bench.now += ms(50);
        let ping = bench.received.wants_ping(bench.now, ms(40));
        bench.told();
        if ping {
            pings += 1;
            bench.received.on_eliciting_sent(bench.now);
        }
    }
    assert_eq!(pings, 1000 / 33);
}

#[test]
fn a_number_that_comes_after_its_neighbours_were_settled_is_still_told() {
    let mut bench = Bench::warm();
    for number in [33, 34] {
        bench.take(number);
    }
    bench.told();
    bench.take(32);
    // Just now the ACK that told 33 and 34 is acknowledged: 32 was not in it.
    bench.received.on_ack_acked(34);
    assert!(bench.due());
    assert_eq!(bench.told().0, [(32, 34)]);
}

#[test]
fn an_ack_takes_no_more_room_than_there_is() {
    let mut bench = Bench::new();
    for number in 0..60u64 {
        bench.received.insert(bench.now, (1 << 61) + number * 1_000_000, true, ECT0);
    }
    let mut told = 0;
    for room in 0..700 {
        let mut out = Vec::new();
        let largest = bench.received.encode(bench.now, room, 3, &mut out);
        assert!(out.len() <= room, "{} in {room}", out.len());
        assert_eq!(largest.is_none(), out.is_empty());
        told += usize::from(largest.is_some());
    }
    assert!(told > 660, "{told}");
}

#[test]
fn an_empty_space_holds_no_heap() {
    let received = Received::new(Space::Application);
    assert_eq!((received.seen, received.untold), (RangeSet::new(), RangeSet::new()));
    assert!(size_of::<Received>() <= 320, "{}", size_of::<Received>());
}

#[derive(Clone, Debug)]
enum Op {
    /// A number so far from the newest: ahead, or (negative) behind.
    Take(i64, bool),
    Tell,
    /// An earlier ACK, counted back, is acknowledged.
    Settle(usize),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        8 => (prop_oneof![3 => Just(1i64), 2 => 1..6i64, 2 => -20..0i64], any::<bool>()).prop_map(|(at, e)| Op::Take(at, e)),
        3 => Just(Op::Tell),
        1 => (0..4usize).prop_map(Op::Settle),
    ];
    prop::collection::vec(op, 1..400)
}

proptest! {
    #[test]
    fn what_was_received_is_told_and_nothing_else(ops in ops(), first in prop_oneof![
        Just(0u64), Just((1 << 32) - 100), Just((1 << 62) - 10_000)
    ]) {
        let mut bench = Bench::new();
        let (mut all, mut untold, mut acks) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
        let mut newest = first;
        for op in ops {
            match op {
                Op::Take(at, eliciting) => {
                    let number = newest.saturating_add_signed(at).max(first);
                    let floor = bench.received.floor;
                    prop_assert_eq!(bench.received.is_new(number), number >= floor && !all.contains(&number));
                    if number >= floor && all.insert(number) {
                        bench.received.insert(bench.now, number, eliciting, 0);
                        untold.insert(number);
                        newest = newest.max(number);
                    }
                }
                Op::Tell if bench.received.has_news() => {
                    let (ranges, ..) = bench.told();
                    let told: BTreeSet<u64> = ranges.iter().flat_map(|(start, end)| *start..=*end).collect();
                    prop_assert!(told.is_subset(&all), "only what was received");
                    let oldest = ranges.last().unwrap().0;
                    let whole = ranges.len() < RANGES_MAX;
                    prop_assert!(untold.iter().all(|n| told.contains(n) || !whole && *n < oldest), "all that is news");
                    untold.clear();
                    acks.push(ranges[0].1);
                }
                Op::Settle(back) if back < acks.len() => bench.received.on_ack_acked(acks[acks.len() - 1 - back]),
                Op::Tell | Op::Settle(_) => {}
            }
            prop_assert!(bench.received.seen.len() <= SEEN_MAX && bench.received.pieces() <= RANGES_MAX);
            prop_assert!(untold.is_empty() || bench.received.has_news());
        }
    }
}
