//! Recovery told as stories: a bench with a clock, and a sink that writes down what it is told.

mod ack;
mod fec;
mod loss;
mod model;
mod pair;
mod path;
mod pto;

use std::{
    ops::RangeInclusive,
    time::{Duration, Instant},
};

use rand::{SeedableRng, rngs::StdRng};

use super::*;
use crate::{
    congestion::Algorithm,
    error::Checked,
    frame::{EcnCounts, Frame, StreamId, encode_ack},
    range::RangeSet,
};

const MTU: u16 = 1200;
const RTT_INITIAL: Duration = Duration::from_millis(333);
const ACK_DELAY_MAX: Duration = Duration::from_millis(25);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// What a test packet carries: its own number, as a place in a stream.
fn item(number: u64) -> Item {
    Item::Stream { id: StreamId(0), offset: number, len: 1, fin: false }
}

#[derive(Default, Debug)]
struct Log {
    acked: Vec<u64>,
    lost: Vec<u64>,
    probed: Vec<u64>,
    delivered: Vec<Item>,
    lost_items: Vec<Item>,
}

impl Sink for Log {
    fn acked(&mut self, _: Space, packet: &SentPacket) {
        self.acked.push(packet.number);
    }

    fn lost(&mut self, _: Space, packet: &SentPacket) {
        self.lost.push(packet.number);
        self.lost_items.extend(packet.items.iter().copied());
    }

    fn probe(&mut self, _: Space, packet: &SentPacket) {
        self.probed.push(packet.number);
    }

    fn delivered(&mut self, _: Space, items: &[Item]) {
        self.delivered.extend(items.iter().copied());
    }
}

struct Bench {
    now: Instant,
    recovery: Recovery,
    log: Log,
    rng: StdRng,
    skipped: Vec<u64>,
}

impl Bench {
    /// A server whose handshake is done.
    fn new() -> Self {
        let mut bench = Self::handshaking(Side::Server);
        bench.recovery.on_handshake_confirmed();
        bench
    }

    fn handshaking(side: Side) -> Self {
        let now = Instant::now();
        let congestion = Congestion::new(now, Algorithm::Cubic, MTU);
        let recovery = Recovery::new(now, side, RTT_INITIAL, ACK_DELAY_MAX, congestion);
        Self { now, recovery, log: Log::default(), rng: StdRng::seed_from_u64(7), skipped: Vec::new() }
    }

    /// As if so many packets had been sent before.
    fn starting_at(first: u64) -> Self {
        let mut bench = Self::new();
        bench.recovery.tracks[2].sent = SentQueue::starting_at(first);
        bench
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
    }

    fn track(&self) -> &Track {
        &self.recovery.tracks[2]
    }

    /// Sends a packet with data.
    fn send(&mut self) -> u64 {
        self.send_with(Space::Application, |_| {})
    }

    fn send_many(&mut self, count: usize) -> Vec<u64> {
        (0..count).map(|_| self.send()).collect()
    }

    fn send_ack_only(&mut self) -> u64 {
        self.send_with(Space::Application, |packet| {
            (packet.ack_eliciting, packet.in_flight, packet.bytes) = (false, false, 50);
            packet.items.clear();
        })
    }

    fn send_with(&mut self, space: Space, change: impl FnOnce(&mut SentPacket)) -> u64 {
        let next = self.recovery.tracks[space.index()].sent.next();
        let number = self.recovery.next_number(space, &mut self.rng);
        self.skipped.extend(next..number);
        let mut packet = SentPacket::new(self.now, number, MTU, 0);
        packet.items.push(item(number));
        change(&mut packet);
        self.recovery.on_sent(self.now, space, packet);
        self.recovery.check();
        number
    }

    /// An ACK for those of these numbers that were sent arrives.
    fn ack(&mut self, numbers: &[RangeInclusive<u64>]) -> Acked {
        let mut set = RangeSet::new();
        set.extend(numbers.iter().cloned());
        for skipped in &self.skipped {
            set.remove(*skipped..*skipped + 1);
        }
        let numbers: Vec<_> = set.iter().map(|range| range.start..=range.end - 1).collect();
        self.try_ack(Space::Application, &numbers, None).unwrap()
    }

    fn try_ack(&mut self, space: Space, numbers: &[RangeInclusive<u64>], ecn: Option<EcnCounts>) -> Checked<Acked> {
        let mut bytes = Vec::new();
        let mut set = RangeSet::new();
        set.extend(numbers.iter().cloned());
        encode_ack(&set, 0, ecn, 1000, &mut bytes);
        let Ok(Frame::Ack(ack)) = Frame::parse(&mut &bytes[..]) else { panic!("an ACK") };
        let acked = self.recovery.on_ack(self.now, space, &ack, Duration::ZERO, &mut self.log)?;
        self.recovery.detect_losses(self.now, &mut self.log);
        self.recovery.check();
        Ok(acked)
    }

    /// Lets the timer fire at its time.
    fn fire(&mut self) -> Timeout {
        self.now = self.now.max(self.recovery.deadline().expect("a timer"));
        let timeout = self.recovery.on_timeout(self.now, &mut self.log);
        self.recovery.check();
        timeout
    }

    /// Makes the round trip known to be 40 ms, without deviation left.
    fn settle_rtt(&mut self) {
        for _ in 0..60 {
            let number = self.send();
            self.wait(ms(40));
            self.ack(&[number..=number]);
        }
        self.log = Log::default();
    }
}
