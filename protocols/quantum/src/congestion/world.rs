//! A simulated bottleneck for the tests of this module: many flows share a link with a byte queue that drops at its
//! tail. Virtual time, one seed. Packets are numbers; what a connection would do beside congestion control is done in
//! the simplest way that is right.

mod bbr_v1;

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    time::{Duration, Instant},
};

use smallvec::SmallVec;

use super::{Algorithm, Congestion, Stamp};
use crate::rtt::Rtt;
use bbr_v1::BbrV1;

pub(super) const MTU: u16 = 1_200;
pub(super) const MS: u64 = 1_000_000;
pub(super) const S: u64 = 1_000 * MS;

/// Which controller a flow has.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Kind {
    Bbr,
    Cubic,
    /// As Linux has it: what most of the peers in the wild do.
    BbrV1,
}

/// What a flow has to send.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum App {
    Bulk,
    /// So many packets at every multiple of a time.
    Every {
        packets: u32,
        ns: u64,
    },
    /// For a time, then nothing for a time.
    OnOff {
        on_ns: u64,
        off_ns: u64,
    },
}

/// The shared link.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    /// Bytes per second.
    pub(super) rate: u64,
    pub(super) queue_bytes: u64,
    /// Packets lost by chance, in thousandths: before the queue, and after it.
    pub(super) loss_before: u64,
    pub(super) loss_after: u64,
    /// Acknowledgements leave the receiver's side at multiples of this time only; 0: at once.
    pub(super) ack_every: u64,
    /// A policer: what exceeds the rate and this burst is dropped, nothing waits.
    pub(super) policer_burst: u64,
}

impl Link {
    pub(super) fn mbit(mbit: u64) -> Self {
        Self { rate: mbit * 125_000, queue_bytes: 0, loss_before: 0, loss_after: 0, ack_every: 0, policer_burst: 0 }
    }

    /// A queue in hundredths of the bandwidth-delay product for a round trip.
    pub(super) fn queue(self, rtt_ms: u64, hundredths: u64) -> Self {
        Self { queue_bytes: self.rate * rtt_ms * hundredths / 100_000, ..self }
    }
}

struct Sent {
    number: u64,
    at: u64,
    stamp: Stamp,
    open: bool,
}

/// What happened to a flow.
#[derive(Clone, Default)]
pub(super) struct Stats {
    pub(super) sent: u64,
    /// Packets.
    pub(super) delivered: u64,
    pub(super) lost_in_queue: u64,
    pub(super) lost_by_chance: u64,
}

pub(super) struct Flow {
    pub(super) peer: Peer,
    rtt: Rtt,
    app: App,
    half_rtt: u64,
    backlog: u64,
    sent: VecDeque<Sent>,
    next_number: u64,
    largest_acked: Option<u64>,
    in_flight: u64,
    wakes_at: u64,
    probe_at: u64,
    // The receiver's side.
    expected: u64,
    unacked: SmallVec<[u64; 4]>,
    ack_at: u64,
    pub(super) stats: Stats,
    /// Round trips, and when packets left: kept while `World::records`.
    pub(super) rtts_us: Vec<u32>,
    pub(super) sends: Vec<u64>,
}

/// A controller of any kind.
pub(super) enum Peer {
    Ours(Box<Congestion>),
    V1(Box<BbrV1>),
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrive { flow: usize, number: u64 },
    AckDelay { flow: usize },
    Ack { flow: usize, numbers: SmallVec<[u64; 4]>, delay: u64 },
    Wake { flow: usize },
    Probe { flow: usize },
    App { flow: usize },
}

pub(super) struct World {
    seed: u64,
    random: u64,
    base: Instant,
    pub(super) now: u64,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    order: u64,
    pub(super) link: Link,
    link_free_at: u64,
    policer: (u64, u64),
    pub(super) flows: Vec<Flow>,
    /// By how much timers are late, at most.
    pub(super) timer_late_ns: u64,
    pub(super) ack_delay_ns: u64,
    pub(super) records: bool,
}

impl World {
    pub(super) fn seeded(seed: u64, link: Link) -> Self {
        if std::env::var("QUIET").is_err() {
            println!("seed {seed}, {link:?}");
        }
        Self {
            seed,
            random: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1,
            base: Instant::now(),
            now: 0,
            events: BinaryHeap::new(),
            order: 0,
            link,
            link_free_at: 0,
            policer: (0, link.policer_burst),
            flows: Vec::new(),
            timer_late_ns: 0,
            ack_delay_ns: 5 * MS,
            records: false,
        }
    }

    pub(super) fn flow(&mut self, kind: Kind, rtt_ms: u64, app: App) -> usize {
        self.flow_us(kind, rtt_ms * 1_000, app)
    }

    /// Adds a flow; it starts within 100 ms.
    pub(super) fn flow_us(&mut self, kind: Kind, rtt_us: u64, app: App) -> usize {
        let starts_at = self.now + self.below(100 * MS);
        let now = self.base + Duration::from_nanos(starts_at);
        let peer = match kind {
            Kind::Bbr => Peer::Ours(Box::new(Congestion::new(now, Algorithm::Bbr, MTU))),
            Kind::Cubic => Peer::Ours(Box::new(Congestion::new(now, Algorithm::Cubic, MTU))),
            Kind::BbrV1 => Peer::V1(Box::new(BbrV1::new(starts_at))),
        };
        let flow = self.flows.len();
        self.flows.push(Flow {
            peer,
            rtt: Rtt::new(Duration::from_millis(333)),
            app,
            half_rtt: rtt_us * 500,
            backlog: 0,
            sent: VecDeque::new(),
            next_number: 0,
            largest_acked: None,
            in_flight: 0,
            wakes_at: 0,
            probe_at: 0,
            expected: 0,
            unacked: SmallVec::new(),
            ack_at: 0,
            stats: Stats::default(),
            rtts_us: Vec::new(),
            sends: Vec::new(),
        });
        self.push(starts_at, Event::App { flow });
        flow
    }

    pub(super) fn run_for(&mut self, ns: u64) {
        let until = self.now + ns;
        while let Some(Reverse((at, ..))) = self.events.peek() {
            if *at > until {
                break;
            }
            let Some(Reverse((at, _, event))) = self.events.pop() else { break };
            self.now = at;
            match event {
                Event::Arrive { flow, number } => self.arrive(flow, number),
                Event::AckDelay { flow } => {
                    if self.flows[flow].ack_at == at {
                        self.acknowledge(flow, self.ack_delay_ns);
                    }
                }
                Event::Ack { flow, numbers, delay } => self.on_ack(flow, &numbers, delay),
                Event::Wake { flow } => {
                    if self.flows[flow].wakes_at == at {
                        self.flows[flow].wakes_at = 0;
                        self.send(flow);
                    }
                }
                Event::Probe { flow } => self.probe(flow, at),
                Event::App { flow } => self.produce(flow),
            }
        }
        self.now = until;
    }

    /// Runs, and gives what each flow got delivered, in bits per second.
    pub(super) fn goodputs(&mut self, ns: u64) -> Vec<f64> {
        let before: Vec<u64> = self.flows.iter().map(|flow| flow.stats.delivered).collect();
        self.run_for(ns);
        let seconds = ns as f64 / S as f64;
        let bits = f64::from(MTU) * 8.0;
        self.flows.iter().zip(before).map(|(flow, was)| (flow.stats.delivered - was) as f64 * bits / seconds).collect()
    }

    pub(super) fn congestion(&self, flow: usize) -> &Congestion {
        match &self.flows[flow].peer {
            Peer::Ours(congestion) => congestion,
            Peer::V1(_) => panic!("a BBRv1 flow (seed {})", self.seed),
        }
    }

    /// From now on a flow has this to send, unless it has more than it can.
    pub(super) fn set_app(&mut self, flow: usize, app: App) {
        (self.flows[flow].app, self.flows[flow].backlog) = (app, 0);
        self.push(self.now, Event::App { flow });
    }

    fn push(&mut self, at: u64, event: Event) {
        self.order += 1;
        self.events.push(Reverse((at, self.order, event)));
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16) % limit.max(1)
    }

    fn happens(&mut self, thousandths: u64) -> bool {
        thousandths > 0 && self.below(1_000_000) < thousandths * 1_000
    }

    fn produce(&mut self, flow: usize) {
        let (now, f) = (self.now, &mut self.flows[flow]);
        let next = match f.app {
            App::Bulk => {
                f.backlog = u64::MAX;
                None
            }
            App::Every { packets, ns } => {
                f.backlog += u64::from(packets);
                Some(now + ns)
            }
            App::OnOff { on_ns, off_ns } => {
                f.backlog = if f.backlog == 0 { u64::MAX } else { 0 };
                Some(now + if f.backlog > 0 { on_ns } else { off_ns })
            }
        };
        if let Some(at) = next {
            self.push(at, Event::App { flow });
        }
        self.send(flow);
    }

    fn send(&mut self, flow: usize) {
        let now = self.base + Duration::from_nanos(self.now);
        loop {
            let f = &mut self.flows[flow];
            if f.backlog == 0 {
                f.peer.set_app_limited(f.in_flight);
                return;
            }
            if f.in_flight + u64::from(MTU) > f.peer.window() {
                return;
            }
            match f.peer.budget(now, self.now) {
                Ok(bytes) => {
                    let room = (f.peer.window() - f.in_flight) as usize;
                    let packets = (bytes.min(room) / usize::from(MTU)) as u64;
                    for _ in 0..packets.min(f.backlog) {
                        self.transmit(flow);
                    }
                }
                Err(at) => {
                    let at = self.now.max(at) + self.below(self.timer_late_ns.max(1));
                    self.flows[flow].wakes_at = at;
                    self.push(at, Event::Wake { flow });
                    return;
                }
            }
        }
    }

    fn transmit(&mut self, flow: usize) {
        let (at, now) = (self.now, self.base + Duration::from_nanos(self.now));
        let f = &mut self.flows[flow];
        let number = f.next_number;
        f.next_number += 1;
        f.backlog -= u64::from(f.backlog != u64::MAX);
        let stamp = f.peer.on_sent(now, at, f.in_flight);
        f.in_flight += u64::from(MTU);
        f.sent.push_back(Sent { number, at, stamp, open: true });
        f.stats.sent += 1;
        let half_rtt = f.half_rtt;
        if self.records {
            f.sends.push(at);
        }
        let timeout = f.rtt.pto_base().as_nanos() as u64 + 25 * MS;
        let idle = f.probe_at == 0;
        f.probe_at = at + timeout;
        if idle {
            self.push(at + timeout, Event::Probe { flow });
        }
        if self.happens(self.link.loss_before) {
            self.flows[flow].stats.lost_by_chance += 1;
            return;
        }
        let Some(leaves_at) = self.enqueue() else {
            self.flows[flow].stats.lost_in_queue += 1;
            return;
        };
        if self.happens(self.link.loss_after) {
            self.flows[flow].stats.lost_by_chance += 1;
            return;
        }
        self.push(leaves_at + half_rtt, Event::Arrive { flow, number });
    }

    /// When a packet leaves the bottleneck, unless it is dropped.
    fn enqueue(&mut self) -> Option<u64> {
        let size = u64::from(MTU);
        if self.link.policer_burst > 0 {
            let (at, tokens) = self.policer;
            let tokens = (tokens + (self.now - at) * self.link.rate / S).min(self.link.policer_burst);
            self.policer = (self.now, tokens);
            if tokens < size {
                return None;
            }
            self.policer.1 -= size;
            return Some(self.now);
        }
        let queued = self.link_free_at.saturating_sub(self.now) * self.link.rate / S;
        if queued + size > self.link.queue_bytes.max(size) {
            return None;
        }
        self.link_free_at = self.link_free_at.max(self.now) + size * S / self.link.rate;
        Some(self.link_free_at)
    }

    fn arrive(&mut self, flow: usize, number: u64) {
        let (now, delay) = (self.now, self.ack_delay_ns);
        let f = &mut self.flows[flow];
        f.stats.delivered += 1;
        let gap = number != f.expected;
        f.expected = f.expected.max(number + 1);
        f.unacked.push(number);
        if gap || f.unacked.len() >= 2 || number < 32 {
            self.acknowledge(flow, 0);
        } else {
            f.ack_at = now + delay;
            self.push(now + delay, Event::AckDelay { flow });
        }
    }

    fn acknowledge(&mut self, flow: usize, delay: u64) {
        let f = &mut self.flows[flow];
        f.ack_at = 0;
        let (numbers, half_rtt) = (std::mem::take(&mut f.unacked), f.half_rtt);
        let leaves_at = match self.link.ack_every {
            0 => self.now,
            every => self.now.next_multiple_of(every),
        };
        self.push(leaves_at + half_rtt, Event::Ack { flow, numbers, delay });
    }

    fn on_ack(&mut self, flow: usize, numbers: &[u64], delay: u64) {
        let (at, now, base) = (self.now, self.base + Duration::from_nanos(self.now), self.base);
        let f = &mut self.flows[flow];
        for &number in numbers {
            let Some(first) = f.sent.front().map(|sent| sent.number) else { continue };
            if number < first {
                continue;
            }
            let sent = &mut f.sent[(number - first) as usize];
            if !sent.open {
                continue;
            }
            sent.open = false;
            f.in_flight -= u64::from(MTU);
            f.peer.on_acked(now, at, number, base + Duration::from_nanos(sent.at), sent);
            if f.largest_acked.is_none_or(|largest| largest < number) && numbers.last() == Some(&number) {
                f.largest_acked = Some(number);
                f.rtt.update(now, Duration::from_nanos(at - sent.at), Duration::from_nanos(delay));
                if self.records {
                    f.rtts_us.push(((at - sent.at) / 1_000) as u32);
                }
            }
        }
        f.detect_losses(at, now, base);
        f.peer.on_ack_end(now, at, &f.rtt, f.next_number, f.in_flight);
        self.send(flow);
    }

    /// Nothing was heard for too long: a packet is sent whatever the window.
    fn probe(&mut self, flow: usize, at: u64) {
        let f = &mut self.flows[flow];
        if f.in_flight == 0 {
            f.probe_at = 0;
        } else if at < f.probe_at {
            let at = f.probe_at;
            self.push(at, Event::Probe { flow });
        } else {
            f.probe_at = 0;
            self.transmit(flow);
        }
    }
}

impl Flow {
    fn detect_losses(&mut self, at: u64, now: Instant, base: Instant) {
        let Some(largest) = self.largest_acked else { return };
        let late = self.rtt.smoothed().max(self.rtt.latest()) * 9 / 8;
        let late_at = at.saturating_sub(late.as_nanos() as u64);
        for sent in &mut self.sent {
            if sent.number >= largest || !(sent.number + 3 <= largest || sent.at <= late_at) {
                break;
            }
            if sent.open {
                sent.open = false;
                self.in_flight -= u64::from(MTU);
                self.peer.on_lost(now, sent.number, base + Duration::from_nanos(sent.at), &sent.stamp);
            }
        }
        while self.sent.front().is_some_and(|sent| !sent.open) {
            self.sent.pop_front();
        }
    }
}

impl Peer {
    fn window(&self) -> u64 {
        match self {
            Self::Ours(ours) => ours.window(),
            Self::V1(v1) => v1.window(),
        }
    }

    fn budget(&mut self, now: Instant, at: u64) -> Result<usize, u64> {
        match self {
            Self::Ours(ours) => ours.budget(now).map_err(|until| at + (until - now).as_nanos() as u64),
            Self::V1(v1) => v1.budget(at),
        }
    }

    fn set_app_limited(&mut self, in_flight: u64) {
        match self {
            Self::Ours(ours) => ours.set_app_limited(in_flight),
            Self::V1(v1) => v1.set_app_limited(in_flight),
        }
    }

    fn on_sent(&mut self, now: Instant, at: u64, in_flight: u64) -> Stamp {
        match self {
            Self::Ours(ours) => ours.on_sent(now, MTU, in_flight),
            Self::V1(v1) => v1.on_sent(at, in_flight),
        }
    }

    fn on_acked(&mut self, now: Instant, at: u64, number: u64, sent_at: Instant, sent: &Sent) {
        match self {
            Self::Ours(ours) => ours.on_acked(now, number, MTU, ours.clock().set(sent_at), &sent.stamp),
            Self::V1(v1) => v1.on_acked(at, number, sent.at, &sent.stamp),
        }
    }

    fn on_lost(&mut self, now: Instant, number: u64, sent_at: Instant, stamp: &Stamp) {
        match self {
            Self::Ours(ours) => ours.on_lost(now, number, MTU, sent_at, stamp),
            Self::V1(v1) => v1.on_lost(),
        }
    }

    fn on_ack_end(&mut self, now: Instant, at: u64, rtt: &Rtt, next_number: u64, in_flight: u64) {
        match self {
            Self::Ours(ours) => ours.on_ack_end(now, rtt, next_number.saturating_sub(1), next_number, in_flight),
            Self::V1(v1) => v1.on_ack_end(at, rtt, in_flight),
        }
    }
}
