//! When a packet counts as lost, and what is remembered of those that did (RFC 9002, sections 6.1 and 7.6; RFC 8985).

use std::{
    collections::VecDeque,
    ops::Range,
    time::{Duration, Instant},
};

use crate::{
    item::{Item, Items},
    recovery::sent::SentPacket,
    rtt::{GRANULARITY, Rtt},
};

/// A packet is lost when one was acknowledged that was sent so many later (RFC 9002, section 6.1.1).
const PACKETS_MIN: u64 = 3;

/// The same on a path that reorders. Where it reorders further, numbers say nothing, and time alone decides (RFC 8985,
/// section 6.2, step 4).
const PACKETS_MAX: u64 = 20;

/// A packet is lost when one sent later was acknowledged and it is late by so many eighths of a round trip (RFC 9002,
/// section 6.1.2), up to a whole one on a path that reorders (RFC 8985, section 7.2).
const EIGHTHS_MIN: u32 = 1;
const EIGHTHS_MAX: u32 = 8;

/// Round trips without a packet that was called lost too early, after which half of the tolerance is taken back.
const ROUNDS_TOLERANT: u32 = 32;

/// Lost packets of a space that are remembered, to notice that they arrived after all.
const REMEMBERED_MAX: usize = 128;

/// And for so many probe timeouts after they were sent.
const REMEMBERED_TIMEOUTS: u32 = 3;

/// How much reordering a path is believed to do.
#[derive(Debug)]
pub(crate) struct Tolerance {
    packets: u64,
    eighths: u32,
    /// When the tolerance was last changed by a round-trip's worth of evidence.
    widened_at: Option<Instant>,
    spurious_at: Option<Instant>,
}

impl Default for Tolerance {
    fn default() -> Self {
        Self { packets: PACKETS_MIN, eighths: EIGHTHS_MIN, widened_at: None, spurious_at: None }
    }
}

impl Tolerance {
    /// How late a packet may be.
    pub(crate) fn time(&self, rtt: &Rtt) -> Duration {
        (rtt.smoothed().max(rtt.latest()) / 8 * (8 + self.eighths)).max(GRANULARITY)
    }

    /// How far behind the largest acknowledged number it may be.
    pub(crate) fn packets(&self) -> u64 {
        self.packets
    }

    /// A packet that counted as lost was acknowledged, `behind` numbers behind the largest and `taken` after it was sent.
    pub(crate) fn on_spurious(&mut self, now: Instant, behind: u64, taken: Duration, rtt: &Rtt) {
        self.spurious_at = Some(now);
        let packets = if behind < PACKETS_MAX { behind + 1 } else { u64::MAX };
        self.packets = self.packets.max(packets);
        // Step by step, as RFC 8985 does: a single packet that was held up somewhere is no reordering.
        let rested = self.widened_at.is_none_or(|at| now.saturating_duration_since(at) >= rtt.smoothed());
        if rested && taken >= self.time(rtt) && self.eighths < EIGHTHS_MAX {
            self.eighths += 1;
            self.widened_at = Some(now);
        }
    }

    /// Takes tolerance back when it was not needed for long.
    pub(crate) fn relax(&mut self, now: Instant, rtt: &Rtt) {
        let Some(at) = self.spurious_at else { return };
        if now.saturating_duration_since(at) < rtt.smoothed() * ROUNDS_TOLERANT {
            return;
        }
        self.packets = PACKETS_MIN + (self.packets.min(PACKETS_MAX) - PACKETS_MIN) / 2;
        self.eighths = EIGHTHS_MIN + (self.eighths - EIGHTHS_MIN) / 2;
        let tolerant = self.packets > PACKETS_MIN || self.eighths > EIGHTHS_MIN;
        self.spurious_at = tolerant.then_some(now);
    }
}

/// A run of lost packets, none in between acknowledged (RFC 9002, section 7.6.2).
#[derive(Debug, Default)]
pub(crate) struct Run {
    since: Option<Instant>,
}

impl Run {
    /// A packet was lost that counts for it: since when the run goes on.
    pub(crate) fn on_lost(&mut self, sent_at: Instant) -> Instant {
        *self.since.get_or_insert(sent_at)
    }

    /// A packet arrived.
    pub(crate) fn end(&mut self) {
        self.since = None;
    }
}

/// What is kept of a lost packet.
#[derive(Debug)]
pub(crate) struct LostPacket {
    pub(crate) number: u64,
    pub(crate) order: u64,
    pub(crate) sent_at: Instant,
    /// Whether its loss moved congestion control.
    pub(crate) counted: bool,
    symbol: Option<u64>,
    protected: u8,
    pub(crate) items: Items,
}

/// The lost packets of a space that may arrive after all, by ascending numbers.
#[derive(Debug, Default)]
pub(crate) struct LostMemory {
    packets: VecDeque<LostPacket>,
}

impl LostMemory {
    /// Remembers a packet and forgets the oldest when there are too many.
    pub(crate) fn push(&mut self, packet: SentPacket) {
        if self.packets.len() == REMEMBERED_MAX {
            self.packets.pop_front();
        }
        self.packets.push_back(LostPacket {
            number: packet.number,
            order: packet.order,
            sent_at: packet.sent_at,
            counted: packet.stamp.is_some() && !packet.mtu_probe,
            symbol: packet.symbol,
            protected: packet.protected,
            items: packet.items,
        });
    }

    /// Forgets what was sent too long ago.
    pub(crate) fn forget_old(&mut self, now: Instant, timeout: Duration) {
        let age = timeout * REMEMBERED_TIMEOUTS;
        while self.packets.front().is_some_and(|packet| now.saturating_duration_since(packet.sent_at) > age) {
            self.packets.pop_front();
        }
    }

    /// The smallest number remembered.
    pub(crate) fn first(&self) -> Option<u64> {
        self.packets.front().map(|packet| packet.number)
    }

    /// Takes one of the remembered packets in a range of numbers out.
    pub(crate) fn take(&mut self, range: &Range<u64>) -> Option<LostPacket> {
        let at = self.packets.partition_point(|packet| packet.number < range.start);
        self.packets.get(at).filter(|packet| packet.number < range.end)?;
        self.packets.remove(at)
    }

    /// Takes the items that were in symbols of which `is_recovered` says so.
    pub(crate) fn take_recovered(&mut self, is_recovered: impl Fn(u64) -> bool, mut delivered: impl FnMut(&[Item])) {
        for packet in &mut self.packets {
            let protected = usize::from(packet.protected);
            if packet.symbol.is_some_and(&is_recovered) && packet.items.len() > protected {
                delivered(&packet.items[protected..]);
                packet.items.truncate(protected);
            }
        }
    }

    /// From now on, none of them moves congestion control.
    pub(crate) fn discount(&mut self) {
        self.packets.iter_mut().for_each(|packet| packet.counted = false);
    }

    /// Forgets all, and gives the memory back.
    pub(crate) fn clear(&mut self) {
        self.packets = VecDeque::new();
    }
}
