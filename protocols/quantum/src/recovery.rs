//! What became of sent packets: acknowledged, lost, or to be probed for (RFC 9002). Decides what is sent again, and tells
//! the round-trip time and congestion control.

mod acked;
mod detect;
mod ecn;
mod loss;
mod pto;
mod sent;
mod skip;
mod symbol;
#[cfg(test)]
mod tests;

pub(crate) use sent::SentPacket;

use std::time::{Duration, Instant};

use rand::Rng;

use self::{
    ecn::Ecn,
    loss::{LostMemory, Run, Tolerance},
    pto::{PROBES, Pto},
    sent::SentQueue,
    skip::Skips,
    symbol::Symbols,
};
use crate::{
    congestion::Congestion,
    frame::Side,
    item::Item,
    mutant::Mutant,
    packet::{self, Space},
    rtt::Rtt,
};

/// To tell packets in the window from bytes, when the MTU does not matter much.
const PACKET_BYTES: u64 = 1200;

/// After so long without a packet, what a burst took is given back.
const SILENCE: Duration = Duration::from_secs(1);

/// Who is told what became of packets. Every packet is told once, as acknowledged or as lost; or never, when its space
/// is discarded.
pub(crate) trait Sink {
    /// A packet arrived.
    fn acked(&mut self, space: Space, packet: &SentPacket);
    /// A packet is lost: what of its items still matters is to be sent again.
    fn lost(&mut self, space: Space, packet: &SentPacket);
    /// Nothing came back for long: the packet's items are to be sent again, in case it is lost. It stays outstanding.
    fn probe(&mut self, space: Space, packet: &SentPacket);
    /// Items arrived after all, though their packet did not (FEC restored them), or after it was told lost. They need not
    /// be sent again.
    fn delivered(&mut self, space: Space, items: &[Item]);
}

/// What an ACK brought.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Acked {
    /// Whether it acknowledged anything for the first time.
    pub(crate) newly: bool,
    /// The largest number among that.
    pub(crate) largest_newly: Option<u64>,
    /// Whether it gave a sample of the round-trip time.
    pub(crate) rtt_sampled: bool,
}

/// What the timer was for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Timeout {
    /// It was not time yet.
    Early,
    /// Packets may have been declared lost.
    Lost,
    /// Ack-eliciting packets are due in this space, whatever the window says.
    Probe {
        /// Where.
        space: Space,
        /// How many.
        packets: u8,
    },
}

/// Packets and bytes so far. `sent = acked + lost + discarded + outstanding`, in both.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Counts {
    /// Sent.
    pub(crate) sent: u64,
    /// Acknowledged before they counted as lost.
    pub(crate) acked: u64,
    /// Declared lost.
    pub(crate) lost: u64,
    /// Of those, acknowledged later.
    pub(crate) spurious: u64,
    /// Given up with their space.
    pub(crate) discarded: u64,
    /// The same in bytes.
    pub(crate) bytes_sent: u64,
    /// The same in bytes.
    pub(crate) bytes_acked: u64,
    /// The same in bytes.
    pub(crate) bytes_lost: u64,
    /// The same in bytes.
    pub(crate) bytes_discarded: u64,
    /// Packets whose symbol FEC restored at the peer.
    pub(crate) recovered: u64,
    /// Times the probe timer fired.
    pub(crate) timeouts: u64,
    /// Times everything was lost for long.
    pub(crate) persistent: u64,
}

/// One packet number space.
#[derive(Debug, Default)]
struct Track {
    sent: SentQueue,
    lost: LostMemory,
    run: Run,
    largest_acked: Option<u64>,
    /// When the last sent of all acknowledged packets was sent.
    acked_sent_at: Option<Instant>,
    /// When the oldest packet will count as lost.
    loss_at: Option<Instant>,
    /// Whether an ACK came since losses were looked for.
    unsettled: bool,
}

/// The recovery of one connection.
#[derive(Debug)]
pub(crate) struct Recovery {
    /// Round-trip time of the current path.
    pub(crate) rtt: Rtt,
    /// Congestion control of the current path.
    pub(crate) congestion: Congestion,
    tracks: [Track; 3],
    pto: Pto,
    ecn: Ecn,
    tolerance: Tolerance,
    symbols: Symbols,
    skips: Skips,
    counts: Counts,
    rtt_initial: Duration,
    path: u64,
    in_flight: u64,
    /// Packets sent in all spaces: what congestion control knows packets by.
    order: u64,
    order_acked: u64,
    /// Whether congestion control was told of packets and not yet that this was all.
    unended: bool,
}

impl Recovery {
    /// Nothing sent yet. `ack_delay_max` is the peer's promise, or what stands in until it is known.
    pub(crate) fn new(
        now: Instant,
        side: Side,
        rtt_initial: Duration,
        ack_delay_max: Duration,
        congestion: Congestion,
    ) -> Self {
        Self {
            rtt: Rtt::new(rtt_initial),
            congestion,
            tracks: Default::default(),
            pto: Pto::new(now, side, ack_delay_max),
            ecn: Ecn::default(),
            tolerance: Tolerance::default(),
            symbols: Symbols::default(),
            skips: Skips::default(),
            counts: Counts::default(),
            rtt_initial,
            path: 0,
            in_flight: 0,
            order: 0,
            order_acked: 0,
            unended: false,
        }
    }

    /// The number of the next packet; the same until one is sent. Now and then a number is left out.
    pub(crate) fn next_number(&mut self, space: Space, rng: &mut impl Rng) -> u64 {
        let sent = &mut self.tracks[space.index()].sent;
        let window = self.congestion.window() / PACKET_BYTES;
        if space == Space::Application && self.skips.skips(sent.next(), window, rng) {
            sent.skip();
        }
        sent.next()
    }

    /// Bytes of the next packet's number on the wire.
    pub(crate) fn next_number_len(&self, space: Space) -> usize {
        let track = &self.tracks[space.index()];
        packet::number_len(track.sent.next(), track.largest_acked)
    }

    /// A packet was sent, with the number that [`Self::next_number`] said.
    pub(crate) fn on_sent(&mut self, now: Instant, space: Space, mut packet: SentPacket) {
        packet.order = self.order;
        self.order += 1;
        self.counts.sent += 1;
        self.counts.bytes_sent += u64::from(packet.bytes);
        if packet.in_flight && packet.path == self.path {
            packet.stamp = Some(self.congestion.on_sent(now, packet.bytes, self.in_flight));
            self.in_flight += u64::from(packet.bytes);
        }
        if packet.ack_eliciting {
            self.pto.on_sent(now, space);
        }
        if packet.ect0 {
            self.ecn.on_sent(space);
        }
        if let Some(sid) = packet.symbol {
            self.symbols.push(sid, packet.number);
        }
        let track = &mut self.tracks[space.index()];
        if track.sent.shrink_after(SILENCE, now) {
            track.lost.clear();
            self.symbols.shrink();
        }
        track.sent.push(packet);
        if track.sent.is_overlong() {
            track.loss_at = Some(now);
        }
    }

    /// Gives back what is held for the next packet: none is expected soon.
    pub(crate) fn release(&mut self) {
        self.tracks.iter_mut().for_each(|track| track.sent.release());
    }

    /// When [`Self::on_timeout`] wants to be called.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.loss_deadline().or_else(|| self.probe_deadline().map(|(at, _)| at))
    }

    /// The time of [`Self::deadline`] came.
    pub(crate) fn on_timeout(&mut self, now: Instant, sink: &mut impl Sink) -> Timeout {
        if let Some(at) = self.loss_deadline() {
            if at > now {
                return Timeout::Early;
            }
            for track in &mut self.tracks {
                track.unsettled |= track.loss_at.is_some_and(|at| at <= now);
            }
            self.detect_losses(now, sink);
            return Timeout::Lost;
        }
        match self.probe_deadline() {
            Some((at, space)) if at <= now => self.probe(now, space, sink),
            _ => Timeout::Early,
        }
    }

    /// Another space's timer fired, and this one is to be asked along (RFC 9002, section 6.2.4).
    pub(crate) fn probe_too(&mut self, space: Space, sink: &mut impl Sink) {
        self.pto.ride_along(space);
        self.ask_again(space, 1, sink);
    }

    /// Gives a space up, its keys are gone. Its packets are neither acknowledged nor lost (RFC 9002, section 6.4).
    pub(crate) fn discard(&mut self, now: Instant, space: Space) {
        let track = &mut self.tracks[space.index()];
        for packet in track.sent.iter() {
            self.counts.discarded += 1;
            self.counts.bytes_discarded += u64::from(packet.bytes);
            self.in_flight -= packet.stamp.as_ref().map_or(0, |_| u64::from(packet.bytes));
        }
        let largest_acked = track.largest_acked;
        *track = Track { sent: SentQueue::starting_at(track.sent.next()), largest_acked, ..Track::default() };
        self.pto.on_discarded(now);
    }

    /// Packets go by another path from now on: nothing is known about it, and what is still out on the old one says nothing
    /// about it (RFC 9000, section 9.4).
    pub(crate) fn on_path_changed(&mut self, now: Instant, path: u64) {
        self.path = path;
        self.in_flight = 0;
        for track in &mut self.tracks {
            track.sent.iter_mut().for_each(|packet| packet.stamp = None);
            track.lost.discount();
            track.run.end();
        }
        self.rtt = Rtt::new(self.rtt_initial);
        self.congestion.reset(now);
        self.tolerance = Tolerance::default();
        self.ecn.on_path_changed();
        self.pto.rest();
    }

    /// Packets go by another port of the same host from now on: the path is the same (RFC 9000, section 9.4).
    pub(crate) fn on_same_path(&mut self, path: u64) {
        let before = std::mem::replace(&mut self.path, path);
        for track in &mut self.tracks {
            track.sent.iter_mut().filter(|packet| packet.path == before).for_each(|packet| packet.path = path);
        }
    }

    /// Bytes in flight on the current path.
    pub(crate) fn in_flight(&self) -> u64 {
        self.in_flight
    }

    /// Bytes that the window still has room for.
    pub(crate) fn window_room(&self) -> u64 {
        if Mutant::EndlessWindow.is_in() {
            return u64::MAX;
        }
        self.congestion.window().saturating_sub(self.in_flight)
    }

    /// Counts 1-RTT packets from here on.
    #[cfg(feature = "simulation")]
    pub(crate) fn start_at(&mut self, number: u64) {
        let [.., track] = &mut self.tracks;
        // Both sides know where it begins, as if all before had been acknowledged.
        (track.sent, track.largest_acked) = (SentQueue::starting_at(number), number.checked_sub(1));
    }

    /// All numbers from here on are unused.
    #[cfg(feature = "simulation")]
    pub(crate) fn sent_below(&self, space: Space) -> u64 {
        self.tracks[space.index()].sent.next()
    }

    /// The largest acknowledged number.
    pub(crate) fn largest_acked(&self, space: Space) -> Option<u64> {
        self.tracks[space.index()].largest_acked
    }

    /// Whether packets of a space wait for an acknowledgement.
    pub(crate) fn is_waiting(&self, space: Space) -> bool {
        self.tracks[space.index()].sent.eliciting_since().is_some()
    }

    /// Packets of a space on their way.
    #[cfg(any(test, feature = "simulation"))]
    pub(crate) fn outstanding(&self, space: Space) -> usize {
        self.tracks[space.index()].sent.outstanding()
    }

    /// Probes that are to be sent, whatever the window says.
    pub(crate) fn probes_due(&self, space: Space) -> u8 {
        self.pto.due(space)
    }

    /// The probe timeout without backoff: what other timers are multiples of.
    pub(crate) fn probe_timeout(&self) -> Duration {
        self.pto.base(&self.rtt, Space::Application)
    }

    /// Whether the next packet is to be marked with ECT(0).
    pub(crate) fn marks_ecn(&self) -> bool {
        self.ecn.marks()
    }

    /// Whether the path is known to carry ECN.
    #[cfg(test)]
    pub(crate) fn is_ecn_capable(&self) -> bool {
        self.ecn.is_capable()
    }

    /// Handshake packets can be sent.
    pub(crate) fn on_handshake_keys(&mut self) {
        self.pto.on_handshake_keys();
    }

    /// A client's handshake is complete: what it sent last may still be lost.
    pub(crate) fn on_handshake_complete(&mut self) {
        self.pto.on_complete();
    }

    /// The handshake is confirmed: 1-RTT packets have a probe timer from now on.
    pub(crate) fn on_handshake_confirmed(&mut self) {
        self.pto.on_confirmed();
    }

    /// Whether the limit against amplification keeps everything back: then no probe timer runs.
    pub(crate) fn set_blocked(&mut self, blocked: bool) {
        self.pto.set_blocked(blocked);
    }

    /// The peer promises to acknowledge within this time (its transport parameter, or what ACK_FREQUENCY asked it for).
    pub(crate) fn set_ack_delay_max(&mut self, delay: Duration) {
        self.pto.set_ack_delay_max(delay);
    }

    /// What happened so far.
    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    /// Panics when bookkeeping and packets disagree.
    pub(crate) fn check(&self) {
        let outstanding = || self.tracks.iter().flat_map(|track| track.sent.iter());
        self.tracks.iter().for_each(|track| track.sent.check());
        let stamped = outstanding().filter(|packet| packet.stamp.is_some());
        assert_eq!(self.in_flight, stamped.map(|packet| u64::from(packet.bytes)).sum::<u64>());
        let Counts { sent, acked, lost, discarded, .. } = self.counts;
        assert_eq!(sent, acked + lost + discarded + outstanding().count() as u64);
        let Counts { bytes_sent, bytes_acked, bytes_lost, bytes_discarded, .. } = self.counts;
        let bytes: u64 = outstanding().map(|packet| u64::from(packet.bytes)).sum();
        assert_eq!(bytes_sent, bytes_acked + bytes_lost + bytes_discarded + bytes);
    }
}

impl Recovery {
    /// The probe timer fired: asks for the items of the oldest packets again that were not asked for yet.
    fn probe(&mut self, now: Instant, space: Space, sink: &mut impl Sink) -> Timeout {
        let track = &mut self.tracks[space.index()];
        let packets = if track.sent.eliciting_since().is_some() { PROBES } else { 1 };
        self.pto.on_fired(now, space, packets);
        self.ecn.on_timeout(self.pto.count());
        self.counts.timeouts += 1;
        self.ask_again(space, packets, sink);
        Timeout::Probe { space, packets }
    }

    /// Sends the items of the oldest packets once more.
    fn ask_again(&mut self, space: Space, packets: u8, sink: &mut impl Sink) {
        let sent = &mut self.tracks[space.index()].sent;
        let unprobed = sent.iter_mut().filter(|packet| !packet.probed && !packet.items.is_empty());
        for packet in unprobed.take(packets.into()) {
            packet.probed = true;
            sink.probe(space, packet);
        }
    }

    fn loss_deadline(&self) -> Option<Instant> {
        self.tracks.iter().filter_map(|track| track.loss_at).min()
    }

    fn probe_deadline(&self) -> Option<(Instant, Space)> {
        self.pto.deadline(&self.rtt, self.tracks.each_ref().map(|track| track.sent.eliciting_since()))
    }
}
