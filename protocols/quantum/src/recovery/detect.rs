//! Losses: finding them, telling them, and noticing when everything is lost for long.

use std::time::Instant;

use super::{
    Counts, Recovery, Sink, Track,
    sent::{Decided, SentPacket},
};
use crate::packet::Space;

/// A window of so many probe timeouts lost as a whole is persistent congestion (RFC 9002, section 7.6.1).
const PERSISTENT_TIMEOUTS: u32 = 3;

impl Recovery {
    /// Declares packets lost after ACKs were received; once per datagram, when all frames in it were handled.
    pub(crate) fn detect_losses(&mut self, now: Instant, sink: &mut impl Sink) {
        for space in Space::ALL {
            if self.tracks[space.index()].unsettled {
                self.settle(now, space, sink);
            }
        }
        if std::mem::take(&mut self.unended) {
            self.congestion.on_ack_end(now, &self.rtt, self.order_acked, self.order, self.in_flight);
        }
        // Now and then: each time would make tests of bulk transfers quadratic.
        if cfg!(debug_assertions) && self.order.is_multiple_of(64) {
            self.check();
        }
    }

    /// Calls everything in a space lost without a word to congestion control: the peer answered with Retry, or refused
    /// 0-RTT (RFC 9002, section 6.4).
    pub(crate) fn lose_all(&mut self, space: Space, sink: &mut impl Sink) {
        self.give_up(space, sink, |_, _| {});
    }

    /// The same as [`Self::on_same_path`], where a NAT forgot the port before, and all that is out went there.
    pub(crate) fn on_rebound(&mut self, path: u64, sink: &mut impl Sink) {
        self.path = path;
        //= SPEC.md#9
        //# When only the port of the peer changed, and the new one has credit (Q-7.1-4), a sender SHOULD count as lost
        //# at once what it sent to the port before, and MUST NOT take that for congestion.
        self.give_up(Space::Application, sink, |track, mut packet| {
            // If it did arrive after all, it is not sent again, and nothing else is learned from it.
            packet.stamp = None;
            track.lost.push(packet);
        });
        self.tracks[Space::Application.index()].run.end();
        self.pto.rest();
    }

    fn give_up(&mut self, space: Space, sink: &mut impl Sink, keep: impl Fn(&mut Track, SentPacket)) {
        let Self { tracks, counts, in_flight, .. } = self;
        let track = &mut tracks[space.index()];
        while let Some(decided) = track.sent.pop_decided(|_| true) {
            let Decided::Lost(packet) = decided else { continue };
            count_lost(counts, in_flight, &packet);
            sink.lost(space, &packet);
            keep(track, packet);
        }
        track.loss_at = None;
        if space == Space::Application {
            self.symbols.forget_below(u64::MAX);
        }
    }

    /// Declares lost what is lost, and sets the time for the next look.
    fn settle(&mut self, now: Instant, space: Space, sink: &mut impl Sink) {
        self.tolerance.relax(now, &self.rtt);
        let late = self.tolerance.time(&self.rtt);
        let (packets, largest) = (self.tolerance.packets(), self.tracks[space.index()].largest_acked);
        let mut persistent = false;
        loop {
            let track = &mut self.tracks[space.index()];
            let overlong = track.sent.is_overlong();
            let decided = track.sent.pop_decided(|packet| {
                //= SPEC.md#9
                //# A packet is lost when a later one of its space is acknowledged, and either that one's number is
                //# `threshold` or more above its own, or `late` has passed since it was sent.
                let overtaken = largest.is_some_and(|largest| {
                    packet.number < largest
                        && (packet.number.saturating_add(packets) <= largest || packet.sent_at + late <= now)
                });
                overtaken || overlong
            });
            match decided {
                None => break,
                Some(Decided::Skipped) => {}
                Some(Decided::Acked) => track.run.end(),
                Some(Decided::Lost(packet)) => persistent |= self.lose(now, space, packet, sink),
            }
        }
        let timeout = self.probe_timeout();
        let track = &mut self.tracks[space.index()];
        track.unsettled = false;
        track.loss_at = track.sent.front().filter(|packet| Some(packet.number) < largest).map(|p| p.sent_at + late);
        track.lost.forget_old(now, timeout);
        if space == Space::Application {
            self.symbols.forget_below(track.sent.first());
        }
        if persistent {
            self.counts.persistent += 1;
            self.congestion.on_persistent_congestion(now);
            self.rtt.reset_min();
        }
    }

    /// One packet is lost; whether that makes the congestion persistent.
    fn lose(&mut self, now: Instant, space: Space, packet: SentPacket, sink: &mut impl Sink) -> bool {
        count_lost(&mut self.counts, &mut self.in_flight, &packet);
        sink.lost(space, &packet);
        let mut persistent = false;
        if let Some(stamp) = packet.stamp.as_ref().filter(|_| !packet.mtu_probe) {
            self.congestion.on_lost(now, packet.order, packet.bytes, packet.sent_at, stamp);
            self.unended = true;
            persistent = packet.ack_eliciting && self.is_persistent(space, packet.sent_at);
        }
        self.tracks[space.index()].lost.push(packet);
        persistent
    }

    /// Whether with this packet everything is lost that was sent for long, in any space, with a round trip known before
    /// (RFC 9002, section 7.6.2).
    fn is_persistent(&mut self, space: Space, sent_at: Instant) -> bool {
        if self.rtt.first_sample_at().is_none_or(|first| sent_at <= first) {
            return false;
        }
        let limit = (self.rtt.pto_base() + self.pto.ack_delay_max()) * PERSISTENT_TIMEOUTS;
        let since = self.tracks[space.index()].run.on_lost(sent_at);
        let elsewhere = self.tracks.iter().filter_map(|track| track.acked_sent_at);
        let interrupted = elsewhere.into_iter().any(|at| since < at && at < sent_at);
        let persistent = !interrupted && sent_at.saturating_duration_since(since) > limit;
        if persistent {
            self.tracks[space.index()].run.end();
        }
        persistent
    }
}

fn count_lost(counts: &mut Counts, in_flight: &mut u64, packet: &SentPacket) {
    counts.lost += 1;
    counts.bytes_lost += u64::from(packet.bytes);
    *in_flight -= packet.stamp.as_ref().map_or(0, |_| u64::from(packet.bytes));
}
