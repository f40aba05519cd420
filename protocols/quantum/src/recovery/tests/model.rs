//! Recovery against a map that knows what became of every packet.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Op {
    Send {
        kind: Kind,
        count: usize,
    },
    /// Runs of packets, counted back from the newest: (where it ends, how long it is).
    Ack(Vec<(usize, usize)>),
    Wait(u64),
    Fire,
    Recover {
        back: u64,
        len: u64,
    },
    NewPath,
    Discard(Space),
    SamePath,
    Rebound,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Data,
    AckOnly,
    Symbol,
    OtherPath,
    Mtu,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    Outstanding,
    Acked,
    Lost,
}

struct Known {
    fate: Fate,
    sent_at: Instant,
    in_flight: bool,
    symbol: Option<u64>,
    restored: bool,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let kind = prop_oneof![
        4 => Just(Kind::Data),
        2 => Just(Kind::Symbol),
        1 => Just(Kind::AckOnly),
        1 => Just(Kind::OtherPath),
        1 => Just(Kind::Mtu),
    ];
    let runs = prop::collection::vec((0..60usize, 1..12usize), 1..6);
    let op = prop_oneof![
        6 => (kind, 1..20usize).prop_map(|(kind, count)| Op::Send { kind, count }),
        6 => runs.prop_map(Op::Ack),
        3 => (1..200_000u64).prop_map(Op::Wait),
        2 => Just(Op::Fire),
        2 => (0..30u64, 1..8u64).prop_map(|(back, len)| Op::Recover { back, len }),
        1 => Just(Op::NewPath),
        1 => prop_oneof![Just(Space::Initial), Just(Space::Handshake)].prop_map(Op::Discard),
        1 => Just(Op::SamePath),
        1 => Just(Op::Rebound),
    ];
    prop::collection::vec(op, 1..120)
}

struct World {
    bench: Bench,
    known: BTreeMap<u64, Known>,
    path: u64,
    sid: u64,
}

impl World {
    fn starting_at(first: u64) -> Self {
        Self { bench: Bench::starting_at(first), known: BTreeMap::new(), path: 0, sid: 0 }
    }

    fn step(&mut self, op: Op) {
        match op {
            Op::Send { kind, count } => (0..count).for_each(|_| self.send(kind)),
            Op::Ack(runs) => self.ack(&runs),
            Op::Wait(us) => self.bench.wait(Duration::from_micros(us)),
            Op::Fire if self.bench.recovery.deadline().is_some() => {
                // At one time: losses, then perhaps a probe.
                self.bench.fire();
                if self.bench.recovery.deadline().is_some_and(|at| at <= self.bench.now) {
                    self.bench.fire();
                }
                assert!(self.bench.recovery.deadline().is_none_or(|at| at > self.bench.now), "a timer fires once");
            }
            Op::Fire => {}
            Op::Recover { back, len } => self.recover(back, len),
            Op::NewPath => {
                self.path += 1;
                self.bench.recovery.on_path_changed(self.bench.now, self.path);
                self.known.values_mut().for_each(|known| known.in_flight = false);
            }
            Op::Discard(space) => {
                self.bench.send_with(space, |packet| packet.path = 1000);
                self.bench.recovery.discard(self.bench.now, space);
            }
            Op::SamePath => {
                self.path += 1;
                self.bench.recovery.on_same_path(self.path);
            }
            Op::Rebound => {
                self.path += 1;
                self.bench.recovery.on_rebound(self.path, &mut self.bench.log);
                // All that is out went to the port before, in order.
                let lost = std::mem::take(&mut self.bench.log.lost);
                let out = self.known.iter().filter(|(_, known)| known.fate == Fate::Outstanding);
                assert_eq!(lost, out.map(|(number, _)| *number).collect::<Vec<_>>());
                lost.into_iter().for_each(|number| self.fate(number, Fate::Lost));
            }
        }
        self.compare();
    }

    fn send(&mut self, kind: Kind) {
        let (path, sid) = (self.path, self.sid);
        let symbol = (kind == Kind::Symbol).then_some(sid);
        self.sid += u64::from(symbol.is_some());
        let number = self.bench.send_with(Space::Application, |packet| {
            packet.path = path + u64::from(kind == Kind::OtherPath);
            packet.mtu_probe = kind == Kind::Mtu;
            packet.symbol = symbol;
            if kind == Kind::AckOnly {
                (packet.ack_eliciting, packet.in_flight) = (false, false);
            }
        });
        let known = Known {
            fate: Fate::Outstanding,
            sent_at: self.bench.now,
            in_flight: !matches!(kind, Kind::AckOnly | Kind::OtherPath),
            symbol,
            restored: false,
        };
        assert!(self.known.insert(number, known).is_none(), "a number is used once");
    }

    fn ack(&mut self, runs: &[(usize, usize)]) {
        let numbers: Vec<u64> = self.known.keys().rev().copied().collect();
        let mut acked = RangeSet::new();
        for (end, len) in runs {
            for number in numbers.iter().skip(*end).take(*len) {
                acked.insert_one(*number);
            }
        }
        if acked.is_empty() {
            return;
        }
        let expected: Vec<u64> = self
            .known
            .iter()
            .filter(|(number, known)| known.fate == Fate::Outstanding && acked.contains(**number))
            .map(|(number, _)| *number)
            .collect();
        let runs: Vec<_> = acked.iter().map(|range| range.start..=range.end - 1).collect();
        let answer = self.bench.ack(&runs);
        assert_eq!(self.bench.log.acked, expected, "each in ascending order, once");
        assert_eq!(answer.newly, !expected.is_empty());
        for item in std::mem::take(&mut self.bench.log.delivered) {
            let Item::Stream { offset, .. } = item else { panic!("{item:?}") };
            assert_eq!(self.known[&offset].fate, Fate::Lost, "only what was called lost is late");
            assert!(acked.contains(offset));
        }
        for number in expected {
            self.fate(number, Fate::Acked);
        }
        self.bench.log.acked.clear();
        self.take_lost();
        if answer.newly {
            self.nothing_lost_is_left();
        }
    }

    /// The losses that were told are right.
    fn take_lost(&mut self) {
        let largest = self.bench.recovery.largest_acked(Space::Application);
        let tolerance = &self.bench.recovery.tolerance;
        let (packets, late) = (tolerance.packets(), tolerance.time(&self.bench.recovery.rtt));
        for number in std::mem::take(&mut self.bench.log.lost) {
            let largest = largest.expect("nothing is lost before something is acknowledged");
            let overtaken = number.saturating_add(packets) <= largest;
            assert!(number < largest && (overtaken || self.known[&number].sent_at + late <= self.bench.now));
            self.fate(number, Fate::Lost);
        }
    }

    fn nothing_lost_is_left(&self) {
        let Some(largest) = self.bench.recovery.largest_acked(Space::Application) else { return };
        let tolerance = &self.bench.recovery.tolerance;
        for (number, known) in self.known.range(..largest) {
            let lost = number.saturating_add(tolerance.packets()) <= largest
                || known.sent_at + tolerance.time(&self.bench.recovery.rtt) <= self.bench.now;
            assert!(known.fate != Fate::Outstanding || !lost, "{number} should be lost");
        }
    }

    fn fate(&mut self, number: u64, fate: Fate) {
        let known = self.known.get_mut(&number).expect("a packet that was sent");
        assert_eq!(known.fate, Fate::Outstanding, "{number} is told once");
        known.fate = fate;
    }

    fn recover(&mut self, back: u64, len: u64) {
        let Some(last) = self.sid.checked_sub(1 + back) else { return };
        let sids = last.saturating_sub(len - 1)..=last;
        self.bench.recovered(std::slice::from_ref(&sids)).unwrap();
        for item in std::mem::take(&mut self.bench.log.delivered) {
            let Item::Stream { offset, .. } = item else { panic!("{item:?}") };
            let known = self.known.get_mut(&offset).expect("a packet that was sent");
            assert!(known.symbol.is_some_and(|sid| sids.contains(&sid)));
            assert!(known.fate != Fate::Acked && !known.restored, "each is restored once");
            known.restored = true;
        }
        for (number, known) in &self.known {
            let asked = known.fate == Fate::Outstanding && known.symbol.is_some_and(|sid| sids.contains(&sid));
            assert!(!asked || known.restored, "{number} was not restored");
        }
    }

    fn compare(&mut self) {
        self.take_lost();
        self.bench.recovery.check();
        let count = |fate| self.known.values().filter(|known| known.fate == fate).count();
        let counts = self.bench.recovery.counts();
        assert_eq!(counts.acked, count(Fate::Acked) as u64);
        assert_eq!(counts.lost, count(Fate::Lost) as u64);
        assert_eq!(self.bench.recovery.outstanding(Space::Application), count(Fate::Outstanding));
        let in_flight = self.known.values().filter(|known| known.fate == Fate::Outstanding && known.in_flight).count();
        assert_eq!(self.bench.recovery.in_flight(), in_flight as u64 * u64::from(MTU));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn every_packet_has_one_fate(ops in ops(), first in prop_oneof![
        Just(0), Just((1u64 << 32) - 50), Just((1 << 62) - 10_000), Just((1 << 16) - 50)
    ]) {
        let mut world = World::starting_at(first);
        ops.into_iter().for_each(|op| world.step(op));
    }
}
