//! Acknowledgements: what an ACK says of packets, round-trip time and congestion, and what a SYMBOL_ACK says of data.

use std::{
    ops::Range,
    time::{Duration, Instant},
};

use smallvec::SmallVec;

use super::{Acked, Recovery, Sink, Track};
use crate::{
    error::{Checked, Code, TransportError},
    frame::{Ack, RANGES_MAX, Ranges, SymbolAck},
    item::Item,
    mutant::Mutant,
    packet::Space,
};

pub(super) const UNSENT: TransportError =
    TransportError::new(Code::ProtocolViolation, "acknowledges a packet that was never sent");
pub(super) const UNSENT_SYMBOL: TransportError =
    TransportError::new(Code::Fec, "recovered a symbol that was never sent");

/// The ranges of one ACK frame, newest first.
type AckRanges = SmallVec<[Range<u64>; RANGES_MAX]>;

/// What the packets of one ACK say together.
#[derive(Default)]
struct News {
    largest: Option<Largest>,
    /// How many of them were sent with ECT(0), on the current path.
    marked: u64,
}

struct Largest {
    number: u64,
    sent_at: Instant,
    /// Whether it may say something about the round-trip time.
    samples: bool,
}

impl Recovery {
    /// An ACK was received, `delay` after its largest packet by the peer's word, scaled and capped. Losses are not looked
    /// for until [`Self::detect_losses`]: what else is in the same datagram (SYMBOL_ACK) comes first.
    ///
    /// # Errors
    /// `ProtocolViolation` when it acknowledges what was never sent.
    pub(crate) fn on_ack(
        &mut self,
        now: Instant,
        space: Space,
        ack: &Ack<'_>,
        delay: Duration,
        sink: &mut impl Sink,
    ) -> Checked<Acked> {
        let ranges = self.check_ack(space, ack)?;
        let largest_before = self.tracks[space.index()].largest_acked;
        let news = self.take_acked(now, space, &ranges, sink);
        self.take_late(now, space, ack.largest, &ranges, sink);
        let Some(largest) = news.largest else { return Ok(Acked::default()) };
        self.tracks[space.index()].unsettled = true;
        self.tracks[space.index()].largest_acked = largest_before.max(Some(largest.number));
        self.pto.on_acked(now, space);
        // Only a packet that is acknowledged for the first time, as the largest, on this path: anything else would measure
        // something else (RFC 9002, section 5.1). Numbers are never used again, so it cannot be a retransmission.
        let rtt_sampled = largest.number == ack.largest && largest.samples;
        if rtt_sampled {
            let delay = if space == Space::Initial { Duration::ZERO } else { delay };
            self.rtt.update(now, now.saturating_duration_since(largest.sent_at), delay);
        }
        if Some(ack.largest) > largest_before {
            let newly_ce = self.ecn.on_ack(space, news.marked, ack.ecn);
            if newly_ce > 0 {
                self.congestion.on_ecn(now, newly_ce);
            }
        }
        Ok(Acked { newly: true, largest_newly: Some(largest.number), rtt_sampled })
    }

    /// SYMBOL_ACK was received: the data in these symbols arrived and is not sent again. For congestion control the packets
    /// stay what they are, outstanding or lost (RFC 9265).
    ///
    /// # Errors
    /// `Fec` when a symbol was never sent.
    pub(crate) fn on_symbols_recovered(&mut self, ack: &SymbolAck<'_>, sink: &mut impl Sink) -> Checked<()> {
        //= SPEC.md#11.4
        //# A SYMBOL_ACK of a symbol that was not sent is an FEC error.
        if ack.largest >= self.symbols.next() {
            return Err(UNSENT_SYMBOL);
        }
        if Mutant::SymbolAckIgnored.is_in() {
            return Ok(());
        }
        let ranges = half_open(&ack.ranges);
        let Self { tracks: [.., track], symbols, counts, .. } = self;
        let mut delivered = |items: &[Item]| {
            counts.recovered += 1;
            sink.delivered(Space::Application, items);
        };
        for range in &ranges {
            for number in symbols.packets(range.clone()) {
                let Some(packet) = track.sent.get_mut(number) else { continue };
                if !packet.protected_items().is_empty() {
                    delivered(packet.protected_items());
                    packet.items.truncate(usize::from(packet.protected));
                }
            }
        }
        track.lost.take_recovered(|sid| contains(&ranges, sid), delivered);
        Ok(())
    }

    fn check_ack(&self, space: Space, ack: &Ack<'_>) -> Checked<AckRanges> {
        let ranges = half_open(&ack.ranges);
        //= SPEC.md#3.4
        //# An acknowledgement of a number that was not sent is a PROTOCOL_VIOLATION: its sender acknowledges what it
        //# has not received.
        let unsent = ack.largest >= self.tracks[space.index()].sent.next();
        if unsent || space == Space::Application && ranges.iter().any(|range| self.skips.in_range(range)) {
            return Err(UNSENT);
        }
        Ok(ranges)
    }

    fn take_acked(&mut self, now: Instant, space: Space, ranges: &AckRanges, sink: &mut impl Sink) -> News {
        let Self { tracks, congestion, counts, in_flight, order_acked, path, unended, .. } = self;
        let Track { sent, acked_sent_at, .. } = &mut tracks[space.index()];
        let mut news = News::default();
        let (first, mut clock) = (sent.first(), congestion.clock());
        for range in ranges.iter().rev().filter(|range| range.end > first) {
            sent.ack(range.clone(), |packet| {
                counts.acked += 1;
                counts.bytes_acked += u64::from(packet.bytes);
                if let Some(stamp) = &packet.stamp {
                    *in_flight -= u64::from(packet.bytes);
                    *unended = true;
                    congestion.on_acked(now, packet.order, packet.bytes, clock.set(packet.sent_at), stamp);
                }
                *order_acked = packet.order.max(*order_acked);
                *acked_sent_at = (*acked_sent_at).max(Some(packet.sent_at));
                news.marked += u64::from(packet.ect0 && packet.path == *path);
                news.largest = Some(Largest {
                    number: packet.number,
                    sent_at: packet.sent_at,
                    samples: packet.ack_eliciting && packet.stamp.is_some(),
                });
                sink.acked(space, packet);
            });
        }
        news
    }

    /// Packets that were called lost and arrived all the same: the path reorders, or is slower than thought.
    fn take_late(&mut self, now: Instant, space: Space, largest: u64, ranges: &AckRanges, sink: &mut impl Sink) {
        let Self { tracks, congestion, counts, tolerance, rtt, .. } = self;
        let Track { lost, run, .. } = &mut tracks[space.index()];
        for range in ranges {
            // Ranges come newest first: once one is older than everything remembered, so are the rest.
            if lost.first().is_none_or(|first| range.end <= first) {
                break;
            }
            while let Some(packet) = lost.take(range) {
                counts.spurious += 1;
                if Mutant::RttOfRetransmits.is_in() {
                    rtt.update(now, now.saturating_duration_since(packet.sent_at), Duration::ZERO);
                }
                if packet.counted {
                    let taken = now.saturating_duration_since(packet.sent_at);
                    tolerance.on_spurious(now, largest - packet.number, taken, rtt);
                    congestion.on_spurious_loss(now, packet.order);
                    run.end();
                }
                sink.delivered(space, &packet.items);
            }
        }
    }
}

fn half_open(ranges: &Ranges<'_>) -> AckRanges {
    ranges.iter().map(|range| *range.start()..*range.end() + 1).collect()
}

/// Whether one of the ranges, newest first, has the number.
fn contains(ranges: &[Range<u64>], number: u64) -> bool {
    let at = ranges.partition_point(|range| range.start > number);
    ranges.get(at).is_some_and(|range| number < range.end)
}
