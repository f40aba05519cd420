//! Two ends of a bad link, without crypto and connections: recovery and the record of received packets, each other's peer.

use std::collections::BTreeSet;

use simnet::{Link, LinkConfig, Loss, Reorder};

use super::*;
use crate::received::Received;

/// What an end wants to send, and what became of it.
#[derive(Default)]
struct Store {
    waiting: BTreeSet<u64>,
    done: BTreeSet<u64>,
    told: Option<u64>,
}

impl Store {
    fn again(&mut self, items: &[Item]) {
        for item in items {
            if let Item::Stream { offset, .. } = item
                && !self.done.contains(offset)
            {
                self.waiting.insert(*offset);
            }
        }
    }
}

impl Sink for Store {
    fn acked(&mut self, space: Space, packet: &SentPacket) {
        self.delivered(space, &packet.items);
    }

    fn lost(&mut self, _: Space, packet: &SentPacket) {
        self.again(&packet.items);
    }

    fn probe(&mut self, _: Space, packet: &SentPacket) {
        self.again(&packet.items);
    }

    fn delivered(&mut self, _: Space, items: &[Item]) {
        for item in items {
            match item {
                Item::Stream { offset, .. } => {
                    self.waiting.remove(offset);
                    self.done.insert(*offset);
                }
                Item::Ack { largest } => self.told = self.told.max(Some(*largest)),
                _ => {}
            }
        }
    }
}

struct End {
    recovery: Recovery,
    received: Received,
    store: Store,
    got: BTreeSet<u64>,
    rng: StdRng,
    wake: Option<Instant>,
}

impl End {
    fn new(now: Instant, side: Side, algorithm: Algorithm) -> Self {
        let congestion = Congestion::new(now, algorithm, MTU);
        let mut recovery = Recovery::new(now, side, RTT_INITIAL, ACK_DELAY_MAX, congestion);
        recovery.on_handshake_confirmed();
        Self {
            recovery,
            received: Received::new(Space::Application),
            store: Store::default(),
            got: BTreeSet::new(),
            rng: StdRng::seed_from_u64(3),
            wake: None,
        }
    }

    fn handle(&mut self, now: Instant, datagram: &[u8]) {
        let (number, mut frames) = datagram.split_first_chunk().unwrap();
        let number = u64::from_be_bytes(*number);
        if !self.received.is_new(number) {
            return;
        }
        let mut eliciting = false;
        while !frames.is_empty() {
            match Frame::parse(&mut frames).unwrap() {
                Frame::Ack(ack) => {
                    let delay = Duration::from_micros(ack.delay << 3);
                    self.recovery.on_ack(now, Space::Application, &ack, delay, &mut self.store).unwrap();
                    if let Some(told) = self.store.told.take() {
                        self.received.on_ack_acked(told);
                    }
                }
                Frame::Ping => eliciting = true,
                // Stands for data: any frame with a number in it does.
                Frame::MaxData(item) => {
                    eliciting = true;
                    self.got.insert(item);
                }
                Frame::Padding(_) => {}
                other => panic!("{other:?}"),
            }
        }
        self.received.insert(now, number, eliciting, 0);
        self.recovery.detect_losses(now, &mut self.store);
        self.recovery.check();
    }

    fn timers(&mut self, now: Instant) {
        while self.recovery.deadline().is_some_and(|at| at <= now) {
            self.recovery.on_timeout(now, &mut self.store);
        }
    }

    fn poll(&mut self, now: Instant, link: &mut Link<Vec<u8>>) {
        self.wake = None;
        let due = |end: &Self| end.recovery.probes_due(Space::Application) > 0;
        while due(self) || !self.store.waiting.is_empty() && self.recovery.window_room() >= u64::from(MTU) {
            if !due(self)
                && let Err(at) = self.recovery.congestion.budget(now)
            {
                self.wake = Some(at);
                break;
            }
            let item = self.store.waiting.pop_first();
            self.transmit(now, item, item.is_none(), link);
        }
        if self.store.waiting.is_empty() {
            self.recovery.congestion.set_app_limited(self.recovery.in_flight());
        }
        if self.received.ack_due(now) {
            let ping = self.received.wants_ping(now, self.recovery.rtt.smoothed());
            self.transmit(now, None, ping, link);
        }
    }

    fn transmit(&mut self, now: Instant, data: Option<u64>, ping: bool, link: &mut Link<Vec<u8>>) {
        let number = self.recovery.next_number(Space::Application, &mut self.rng);
        let mut out = number.to_be_bytes().to_vec();
        let mut packet = SentPacket::new(now, number, 0, 0);
        if let Some(largest) = self.received.encode(now, 600, 3, &mut out) {
            packet.items.push(Item::Ack { largest });
        }
        if let Some(number) = data {
            Frame::MaxData(number).encode(&mut out);
            packet.items.push(super::item(number));
            out.resize(usize::from(MTU), 0);
        }
        if ping {
            Frame::Ping.encode(&mut out);
        }
        packet.bytes = out.len() as u16;
        packet.ack_eliciting = ping || data.is_some();
        packet.in_flight = packet.ack_eliciting;
        if packet.ack_eliciting {
            self.received.on_eliciting_sent(now);
        }
        self.recovery.on_sent(now, Space::Application, packet);
        self.recovery.check();
        link.send(now, out);
    }

    fn deadline(&self) -> Option<Instant> {
        [self.wake, self.recovery.deadline(), self.received.deadline()].into_iter().flatten().min()
    }
}

struct World {
    now: Instant,
    ends: [End; 2],
    links: [Link<Vec<u8>>; 2],
}

impl World {
    fn new(seed: u64, algorithm: Algorithm, config: LinkConfig) -> Self {
        let now = Instant::now();
        Self {
            now,
            ends: [End::new(now, Side::Client, algorithm), End::new(now, Side::Server, algorithm)],
            links: [Link::new(seed, config), Link::new(seed + 1, config)],
        }
    }

    /// Runs until nothing will happen any more, at most for some virtual time. The longest list of ranges that an end had to
    /// tell, and the longest queue.
    fn run(&mut self, most: Duration) -> (usize, u64) {
        let (end, mut pieces, mut span) = (self.now + most, 0, 0);
        loop {
            for at in 0..2 {
                while let Some(datagram) = self.links[1 - at].poll(self.now) {
                    self.ends[at].handle(self.now, &datagram);
                }
                let recovery = &self.ends[at].recovery.tracks[2].sent;
                pieces = pieces.max(self.ends[at].received.pieces());
                span = span.max(recovery.next() - recovery.first());
                self.ends[at].timers(self.now);
                self.ends[at].poll(self.now, &mut self.links[at]);
            }
            let deadlines = self.ends.iter().map(End::deadline).chain(self.links.iter().map(Link::deadline));
            match deadlines.flatten().min() {
                Some(next) if next < end => self.now = self.now.max(next),
                _ => return (pieces, span),
            }
        }
    }
}

fn link(loss: f64) -> LinkConfig {
    let loss = if loss == 0.0 { Loss::None } else { Loss::Iid(loss) };
    LinkConfig { delay: ms(20), rate_bytes_per_s: Some(1_250_000), queue_bytes: 100_000, loss, ..LinkConfig::default() }
}

#[test]
fn everything_arrives_over_links_of_every_kind_and_then_it_is_quiet() {
    let reorder = Reorder { probability: 0.1, hold: ms(10) };
    let bad = LinkConfig { reorder, duplicate: 0.05, ..link(0.05) };
    let burst = Loss::GilbertElliott { to_bad: 0.02, to_good: 0.3, good: 0.0, bad: 0.9 };
    let burst = LinkConfig { loss: burst, ..link(0.0) };
    for algorithm in [Algorithm::Cubic, Algorithm::Bbr] {
        for (seed, config) in [link(0.0), link(0.05), link(0.3), bad, burst].into_iter().enumerate() {
            let mut world = World::new(seed as u64, algorithm, config);
            world.ends[0].store.waiting = (0..2000).collect();
            world.ends[1].store.waiting = (0..20).collect();
            world.run(Duration::from_secs(600));
            let [near, far] = &world.ends;
            assert_eq!((far.got.len(), near.got.len()), (2000, 20), "{algorithm:?} {config:?}");
            assert_eq!((near.store.done.len(), far.store.done.len()), (2000, 20), "{algorithm:?} {config:?}");
            for end in &world.ends {
                assert_eq!(end.deadline(), None, "nobody is kept awake");
                assert_eq!(end.recovery.in_flight(), 0);
            }
            assert!(near.recovery.rtt.min() >= ms(40), "no sample is too short: {:?}", near.recovery.rtt.min());
        }
    }
}

#[test]
fn what_counts_as_lost_was_lost() {
    for (seed, config) in [link(0.0), link(0.02), link(0.15)].into_iter().enumerate() {
        let mut world = World::new(seed as u64, Algorithm::Bbr, config);
        world.ends[0].store.waiting = (0..5000).collect();
        world.run(Duration::from_secs(600));
        let (counts, stats) = (world.ends[0].recovery.counts(), world.links[0].stats());
        // Of the last packets without data nobody ever hears.
        let (lost, unknown) = (stats.lost + stats.queue_full, world.ends[0].recovery.outstanding(Space::Application));
        assert!(counts.lost <= lost && lost <= counts.lost + unknown as u64, "{counts:?}, {lost} really");
        assert_eq!(counts.spurious, 0);
    }
}

#[test]
fn little_is_sent_twice_that_was_not_lost() {
    let reorder = Reorder { probability: 0.05, hold: ms(10) };
    let mut world = World::new(5, Algorithm::Bbr, LinkConfig { reorder, ..link(0.0) });
    world.ends[0].store.waiting = (0..5000).collect();
    world.run(Duration::from_secs(600));
    let counts = world.ends[0].recovery.counts();
    let lost = world.links[0].stats().queue_full;
    assert!(counts.lost <= lost + 250, "{counts:?} and {lost} were really dropped");
}

#[test]
fn pitfall_10_a_pure_receiver_learns_which_of_its_acks_arrived() {
    let mut world = World::new(9, Algorithm::Bbr, link(0.1));
    world.ends[0].store.waiting = (0..20_000).collect();
    let (pieces, span) = world.run(Duration::from_secs(600));
    let [near, far] = &world.ends;
    assert_eq!(far.got.len(), 20_000);
    assert!(pieces <= 40, "an ACK had to tell up to {pieces} ranges");
    assert!(span <= 1500, "the queue was up to {span} long");
    let (back, out) = (far.recovery.counts().sent, near.recovery.counts().sent);
    assert!(back * 10 < out * 7, "{back} packets came back for {out}");
    assert!(far.received.pieces() <= 9, "{} are left to tell", far.received.pieces());
}

#[test]
fn pitfall_2_two_idle_ends_do_not_keep_each_other_awake() {
    for (loss, most) in [(0.0, 410), (0.2, 1000)] {
        let mut world = World::new(2, Algorithm::Bbr, link(loss));
        // One packet now and then, each way: every one is acknowledged, and no acknowledgement is.
        for round in 0..200 {
            world.ends[round % 2].store.waiting.insert(round as u64);
            world.run(Duration::from_secs(60));
            assert!(world.ends.iter().all(|end| end.deadline().is_none()), "round {round}");
            world.now += Duration::from_secs(5);
        }
        let [near, far] = world.ends.map(|end| end.recovery.counts().sent);
        assert!(near + far < most, "{near} and {far} packets for 200 with data");
    }
}
