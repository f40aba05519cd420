//! One direction of a bad network for datagrams.
//!
//! A packet passes, in this order: the MTU, the queue in front of the bottleneck, the bottleneck's rate, the loss, and
//! the way with its delay. Jitter alone never changes the order; reordering is asked for by [`Reorder`].

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::chance::{Chance, bytes_in, time_of};

/// How packets are lost on the way.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Loss {
    /// Not at all.
    None,
    /// Each with this probability, whatever happened to the others.
    Iid(f64),
    /// Every n-th, for tests that must know which.
    Nth(u64),
    /// In bursts: the way is good or bad, and changes its state before each packet.
    GilbertElliott {
        /// Probability that a good way becomes bad.
        to_bad: f64,
        /// Probability that a bad way becomes good.
        to_good: f64,
        /// Probability of loss while it is good.
        good: f64,
        /// Probability of loss while it is bad.
        bad: f64,
    },
}

/// How packets overtake each other: some are held back, and those behind them pass.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Reorder {
    /// Probability that a packet is held back.
    pub probability: f64,
    /// At most for how long.
    pub hold: Duration,
}

/// What is wrong with a link. The default: nothing.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct LinkConfig {
    /// The time that every packet takes.
    pub delay: Duration,
    /// At most so much more, by chance.
    pub jitter: Duration,
    /// The rate of the bottleneck; `None`: infinite.
    pub rate_bytes_per_s: Option<u64>,
    /// Bytes that may wait for the bottleneck; what does not fit is dropped.
    pub queue_bytes: usize,
    /// What is lost on the way.
    pub loss: Loss,
    /// What is held back on the way.
    pub reorder: Reorder,
    /// Probability that a packet arrives twice.
    pub duplicate: f64,
    /// Probability that one bit of a packet arrives flipped.
    pub corrupt: f64,
    /// Bytes of the largest packet that passes.
    pub mtu: usize,
    /// Nothing passes at all.
    pub down: bool,
}

impl Default for LinkConfig {
    fn default() -> Self {
        Self {
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            rate_bytes_per_s: None,
            queue_bytes: usize::MAX,
            loss: Loss::None,
            reorder: Reorder { probability: 0.0, hold: Duration::ZERO },
            duplicate: 0.0,
            corrupt: 0.0,
            mtu: usize::MAX,
            down: false,
        }
    }
}

/// What happened on a link so far, in packets.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct LinkStats {
    /// Given to the link.
    pub sent: u64,
    /// Handed out, duplicates included.
    pub delivered: u64,
    /// Lost on the way, or sent while the link was down.
    pub lost: u64,
    /// Dropped by the full queue.
    pub queue_full: u64,
    /// Dropped for their size.
    pub too_long: u64,
    /// Sent twice by the link.
    pub duplicated: u64,
    /// Held back.
    pub held: u64,
    /// Damaged.
    pub corrupted: u64,
}

/// What becomes of one packet, decided when it is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It leaves the bottleneck and arrives.
    Arrives {
        /// When it has left the bottleneck.
        leaves: Instant,
        /// When it can be polled; a duplicate arrives at another time.
        at: Instant,
    },
    /// It leaves the bottleneck and is lost on the way.
    Lost {
        /// When it has left the bottleneck.
        leaves: Instant,
        /// When it would have arrived, without jitter.
        would: Instant,
    },
    /// The queue is full.
    QueueFull,
    /// It is longer than the MTU.
    TooLong,
}

/// One direction of a network for packets of type `P`: bytes, or bytes with something that travels along.
#[derive(Clone, Debug)]
pub struct Link<P> {
    config: LinkConfig,
    chance: Chance,
    /// By time of arrival, and for the same time in the order of sending.
    way: BTreeMap<(Instant, u64), P>,
    number: u64,
    /// When the bottleneck has sent all that waits.
    idle_at: Option<Instant>,
    /// The arrival of the newest packet that keeps its place.
    newest: Option<Instant>,
    bad: bool,
    stats: LinkStats,
}

impl<P: Clone + AsRef<[u8]> + AsMut<[u8]>> Link<P> {
    /// An empty link; `seed` decides all that happens by chance.
    #[must_use]
    pub fn new(seed: u64, config: LinkConfig) -> Self {
        Self {
            config,
            chance: Chance::seeded(seed),
            way: BTreeMap::new(),
            number: 0,
            idle_at: None,
            newest: None,
            bad: false,
            stats: LinkStats::default(),
        }
    }

    /// Changes what is wrong with the link, from the next packet on.
    pub fn configure(&mut self, config: LinkConfig) {
        self.config = config;
    }

    /// What is wrong with the link.
    #[must_use]
    pub fn config(&self) -> LinkConfig {
        self.config
    }

    /// Sends a packet; what becomes of it is decided now.
    pub fn send(&mut self, now: Instant, mut packet: P) -> Fate {
        self.stats.sent += 1;
        let len = packet.as_ref().len();
        if len > self.config.mtu {
            self.stats.too_long += 1;
            return Fate::TooLong;
        }
        let Some(leaves) = self.bottleneck(now, len) else {
            self.stats.queue_full += 1;
            return Fate::QueueFull;
        };
        if self.config.down || self.is_lost() {
            self.stats.lost += 1;
            return Fate::Lost { leaves, would: leaves + self.config.delay };
        }
        if len > 0 && self.chance.happens(self.config.corrupt) {
            self.corrupt(packet.as_mut());
        }
        if self.chance.happens(self.config.duplicate) {
            self.stats.duplicated += 1;
            self.depart(leaves, packet.clone());
        }
        Fate::Arrives { leaves, at: self.depart(leaves, packet) }
    }

    /// The next packet that has arrived.
    pub fn poll(&mut self, now: Instant) -> Option<P> {
        let first = self.way.first_entry().filter(|first| first.key().0 <= now)?;
        self.stats.delivered += 1;
        Some(first.remove())
    }

    /// When the next packet arrives.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.way.first_key_value().map(|((at, _), _)| *at)
    }

    /// What happened so far.
    #[must_use]
    pub fn stats(&self) -> LinkStats {
        self.stats
    }

    /// When a packet has left the bottleneck, unless the queue in front of it is full.
    fn bottleneck(&mut self, now: Instant, len: usize) -> Option<Instant> {
        let starts = self.idle_at.map_or(now, |idle_at| idle_at.max(now));
        let waiting = bytes_in(starts - now, self.config.rate_bytes_per_s);
        if len > self.config.queue_bytes.saturating_sub(waiting) {
            return None;
        }
        let leaves = starts + time_of(len, self.config.rate_bytes_per_s);
        self.idle_at = Some(leaves);
        Some(leaves)
    }

    fn is_lost(&mut self) -> bool {
        match self.config.loss {
            Loss::None => false,
            Loss::Iid(probability) => self.chance.happens(probability),
            Loss::Nth(n) => self.stats.sent.is_multiple_of(n.max(1)),
            Loss::GilbertElliott { to_bad, to_good, good, bad } => {
                if self.chance.happens(if self.bad { to_good } else { to_bad }) {
                    self.bad = !self.bad;
                }
                self.chance.happens(if self.bad { bad } else { good })
            }
        }
    }

    fn corrupt(&mut self, bytes: &mut [u8]) {
        let bit = self.chance.count(bytes.len() * 8) - 1;
        bytes[bit / 8] ^= 1 << (bit % 8);
        self.stats.corrupted += 1;
    }

    /// Puts a packet on its way and says when it arrives.
    fn depart(&mut self, leaves: Instant, packet: P) -> Instant {
        let mut at = leaves + self.config.delay + self.chance.up_to(self.config.jitter);
        if self.chance.happens(self.config.reorder.probability) {
            self.stats.held += 1;
            at += self.chance.up_to(self.config.reorder.hold);
        } else {
            at = self.newest.map_or(at, |newest| newest.max(at));
            self.newest = Some(at);
        }
        self.number += 1;
        self.way.insert((at, self.number), packet);
        at
    }
}
