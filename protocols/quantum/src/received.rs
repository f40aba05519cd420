//! Which packets of one space were received, and when to acknowledge them (RFC 9000, section 13.2, and
//! draft-ietf-quic-ack-frequency).

#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use crate::{
    frame::{EcnCounts, RANGES_MAX, encode_ack},
    mutant::Mutant,
    packet::Space,
    range::RangeSet,
    varint,
};

/// The two ECN bits of an IP header (RFC 3168, section 5).
const ECT1: u8 = 0b01;
const ECT0: u8 = 0b10;
const CE: u8 = 0b11;

/// A new connection is told of every packet at once, so that its sender's first windows grow as fast as they may.
const FIRST_PACKETS: u32 = 32;

/// Packets that may go without an acknowledgement: every second one gets it (RFC 9000, section 13.2.2).
const THRESHOLD: u64 = 1;

/// No acknowledgement waits longer for the next packet, whatever the round trip: less than the 25 ms of QUIC's default `max_ack_delay`.
pub(crate) const DELAY_MAX: Duration = Duration::from_millis(10);

/// The same for who needs low latency: repairs and retransmissions are only as early as the acknowledgement is.
pub(crate) const DELAY_PROMPT_MAX: Duration = Duration::from_millis(2);

/// Below this a timer costs more than the delay is worth.
const DELAY_MIN: Duration = Duration::from_millis(1);

/// What a peer may ask for in ACK_FREQUENCY at most.
const DELAY_ASKED_MAX: Duration = Duration::from_secs(1);

/// Packets with nothing but acknowledgements, after which one of them asks for an acknowledgement itself: a pure receiver
/// would otherwise never learn which of its ranges were told, nor which of its packets arrived.
const ACK_ONLY_MAX: u32 = 32;

/// Holes make an ACK long: from so many ranges on it is worth an earlier question, once per round trip.
const PIECES_WORTH_ASKING: usize = 8;

/// Ranges that are kept against duplicates, at most: the holes of a round trip at a gigabit per second and 5 % of loss. What
/// arrives further back than that counts as a duplicate; it was sent again long ago.
pub(crate) const SEEN_MAX: usize = 256;

/// After so long without a packet, what a burst took is given back.
const SILENCE: Duration = Duration::from_secs(1);

/// In an ACK with one range: kind, largest, delay, count, first range.
const ENCODED_MIN: usize = 1 + 8 + 8 + 1 + 8;

/// How long an acknowledgement may wait for company.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Policy {
    /// An eighth of the round trip, at most 10 ms.
    Bulk,
    /// The same, at most 2 ms: while FEC is on or somebody waits for messages.
    Prompt,
}

/// What the peer asked for by ACK_FREQUENCY.
#[derive(Clone, Copy, Debug)]
struct Asked {
    sequence: u64,
    threshold: u64,
    delay: Duration,
    reordering: u64,
}

/// The received packets of one space.
#[derive(Debug)]
pub(crate) struct Received {
    /// Against duplicates: everything below the floor counts as received, and above it what is in the set.
    seen: RangeSet,
    floor: u64,
    /// What the next ACK tells: what was received and not yet told by an ACK that the peer acknowledged.
    untold: RangeSet,
    largest: Option<u64>,
    largest_at: Option<Instant>,
    /// The largest number in the last ACK.
    reported: Option<u64>,
    /// The smallest number below that one that came since.
    late: Option<u64>,
    ecn: EcnCounts,
    /// Ack-eliciting packets: since the last ACK, and ever (up to those that are acknowledged at once).
    unacked: u64,
    first: u32,
    /// Anything at all since the last ACK.
    fresh: bool,
    due: Option<Instant>,
    delay: Duration,
    asked: Option<Asked>,
    ack_only: u32,
    asked_at: Option<Instant>,
}

impl Received {
    /// Nothing received yet. Before the handshake is done, nothing waits (RFC 9000, section 13.2.1).
    pub(crate) fn new(space: Space) -> Self {
        Self {
            seen: RangeSet::new(),
            floor: 0,
            untold: RangeSet::new(),
            largest: None,
            largest_at: None,
            reported: None,
            late: None,
            ecn: EcnCounts::default(),
            unacked: 0,
            first: 0,
            fresh: false,
            due: None,
            delay: if space == Space::Application { DELAY_MAX } else { Duration::ZERO },
            asked: None,
            ack_only: 0,
            asked_at: None,
        }
    }

    /// The peer's first number is this one.
    #[cfg(feature = "simulation")]
    pub(crate) fn start_at(&mut self, number: u64) {
        self.floor = number;
    }

    /// Where the next number is to be expected: what a truncated one is expanded by.
    pub(crate) fn expected(&self) -> u64 {
        self.largest.map_or(self.floor, |largest| largest + 1)
    }

    /// Whether an authentic packet was not received before. Ask before it has any effect.
    pub(crate) fn is_new(&self, number: u64) -> bool {
        number >= self.floor && !self.seen.contains(number) || Mutant::NoReplayCheck.is_in()
    }

    /// Takes note of a new packet. `ecn` are the two bits of its IP header.
    pub(crate) fn insert(&mut self, now: Instant, number: u64, ack_eliciting: bool, ecn: u8) {
        // Packets of one train have one time, and a difference of times is not cheap.
        if self.largest_at.is_some_and(|at| at != now && now.saturating_duration_since(at) >= SILENCE) {
            self.seen.shrink();
            self.untold.shrink();
        }
        let late = self.largest.is_some_and(|largest| number < largest);
        if Some(number) < self.reported {
            self.late = Some(self.late.map_or(number, |late| late.min(number)));
        }
        // What falls out of it was told many times.
        insert_bounded(&mut self.untold, number, RANGES_MAX);
        if let Some(dropped) = insert_bounded(&mut self.seen, number, SEEN_MAX) {
            self.floor = dropped;
        }
        if !late {
            (self.largest, self.largest_at) = (Some(number), Some(now));
        }
        self.count_ecn(ecn);
        self.fresh = true;
        if !ack_eliciting {
            return;
        }
        self.unacked += 1;
        self.first = (self.first + 1).min(FIRST_PACKETS + 1);
        if self.is_urgent(late, ecn) {
            self.due = Some(now);
        } else {
            let at = now + self.delay();
            self.due = Some(self.due.map_or(at, |due| due.min(at)));
        }
    }

    /// Takes note of a new packet that is not acknowledged, for something in it found no room: a copy of it must have no
    /// effect either. What matters of it comes again under another number.
    pub(crate) fn insert_refused(&mut self, number: u64) {
        if let Some(dropped) = insert_bounded(&mut self.seen, number, SEEN_MAX) {
            self.floor = dropped;
        }
    }

    /// IMMEDIATE_ACK was received.
    pub(crate) fn on_immediate_ack(&mut self, now: Instant) {
        self.due = Some(now);
    }

    /// ACK_FREQUENCY was received; an older one than the last is void.
    pub(crate) fn on_ack_frequency(&mut self, sequence: u64, threshold: u64, delay_max_us: u64, reordering: u64) {
        if self.asked.is_none_or(|asked| sequence > asked.sequence) {
            let delay = Duration::from_micros(delay_max_us).min(DELAY_ASKED_MAX);
            self.asked = Some(Asked { sequence, threshold, delay, reordering });
        }
    }

    /// Says how long acknowledgements may wait, unless the peer asked for something else.
    pub(crate) fn set_policy(&mut self, policy: Policy, srtt: Duration) {
        let most = match policy {
            Policy::Bulk => DELAY_MAX,
            Policy::Prompt => DELAY_PROMPT_MAX,
        };
        //= SPEC.md#8
        //# Otherwise it SHOULD acknowledge every second packet, or after srtt/8, at least 1 ms and at most 10 ms, or at
        //# most 2 ms where forward error correction is on.
        self.delay = (srtt / 8).clamp(DELAY_MIN, most);
    }

    /// Whether an ACK must go out now. Ask once per turn, not per packet: a train is acknowledged as one.
    pub(crate) fn ack_due(&self, now: Instant) -> bool {
        self.deadline().is_some_and(|due| due <= now)
    }

    /// When an ACK will be due.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.due.filter(|_| !self.untold.is_empty())
    }

    /// Whether an ACK would tell anything new: then it rides along in a packet that goes out anyway.
    pub(crate) fn has_news(&self) -> bool {
        self.fresh
    }

    /// Appends an ACK frame of at most `room` bytes, its delay in units of 2^`exponent` microseconds; the largest number
    /// in it, or nothing when there is nothing to tell or no room.
    pub(crate) fn encode(&mut self, now: Instant, room: usize, exponent: u8, out: &mut Vec<u8>) -> Option<u64> {
        let ecn = (self.ecn != EcnCounts::default()).then_some(self.ecn);
        let ecn_len = ecn.map_or(0, |ecn| [ecn.ect0, ecn.ect1, ecn.ce].map(varint::len).iter().sum());
        let largest = self.untold.max()?;
        if room < ENCODED_MIN + ecn_len {
            return None;
        }
        // The delay is that of the largest number told, and of use for no other (RFC 9000, section 13.2.5).
        let arrived = self.largest_at.filter(|_| self.largest == Some(largest)).unwrap_or(now);
        let delay_us = now.saturating_duration_since(arrived).as_micros().min(u128::from(u32::MAX)) as u64;
        encode_ack(&self.untold, delay_us >> exponent.min(20), ecn, room - ecn_len - 1, out);
        self.reported = self.reported.max(Some(largest));
        (self.unacked, self.fresh, self.due, self.late) = (0, false, None, None);
        self.ack_only = self.ack_only.saturating_add(1);
        Some(largest)
    }

    /// An ACK that told numbers up to `largest` was acknowledged: they need not be told again. What is missing among them
    /// is a round trip late by now, was sent again, and counts as a duplicate should it still come.
    pub(crate) fn on_ack_acked(&mut self, largest: u64) {
        if Mutant::NoAckOfAcks.is_in() {
            return;
        }
        //= SPEC.md#8
        //# Ranges up to the largest of an ACK that was acknowledged are dropped, and what is missing below counts as
        //# received.
        let told = largest + 1;
        self.untold.remove_below(self.late.map_or(told, |late| late.min(told)));
        if told > self.floor {
            self.floor = told;
            self.seen.remove_below(told);
        }
    }

    /// Whether a packet that has nothing but an ACK is to carry a PING too, so that the ACK is acknowledged. Two peers
    /// cannot keep each other awake by this: it takes many packets that want an acknowledgement, or many holes.
    pub(crate) fn wants_ping(&self, now: Instant, srtt: Duration) -> bool {
        let rested = self.asked_at.is_none_or(|at| now.saturating_duration_since(at) >= srtt);
        rested && (self.ack_only >= ACK_ONLY_MAX || self.ack_only > 0 && self.untold.len() >= PIECES_WORTH_ASKING)
    }

    /// An ack-eliciting packet was sent: its acknowledgement covers all ACKs so far.
    pub(crate) fn on_eliciting_sent(&mut self, now: Instant) {
        (self.ack_only, self.asked_at) = (0, Some(now));
    }

    /// The largest number so far, to expand the next one.
    pub(crate) fn largest(&self) -> Option<u64> {
        self.largest
    }

    /// How many ranges the next ACK has to tell.
    #[cfg(any(test, feature = "simulation"))]
    pub(crate) fn pieces(&self) -> usize {
        self.untold.len()
    }

    fn count_ecn(&mut self, ecn: u8) {
        match ecn {
            ECT1 => self.ecn.ect1 += 1,
            ECT0 => self.ecn.ect0 += 1,
            CE => self.ecn.ce += 1,
            _ => {}
        }
    }

    fn delay(&self) -> Duration {
        self.asked.map_or(self.delay, |asked| asked.delay)
    }

    //= SPEC.md#8
    //# A receiver MUST acknowledge at once when a packet arrives out of order, leaves a gap, has the mark CE, or holds
    //# IMMEDIATE_ACK; and SHOULD for the first 32 packets of a connection.
    fn is_urgent(&self, late: bool, ecn: u8) -> bool {
        let (threshold, reordering) = self.asked.map_or((THRESHOLD, 1), |asked| (asked.threshold, asked.reordering));
        self.first <= FIRST_PACKETS
            || self.unacked > threshold
            || ecn == CE
            || self.delay().is_zero()
            || self.is_reordered(late, reordering)
    }

    /// draft-ietf-quic-ack-frequency, section 6.2: a packet is missing that the peer does not know of yet, and so far
    /// behind the largest that the peer would call it lost. With a threshold of 1 this is RFC 9000's rule.
    fn is_reordered(&self, late: bool, reordering: u64) -> bool {
        if reordering == 0 {
            return false;
        }
        let from = self.reported.map_or(0, |reported| (reported + 2).saturating_sub(reordering));
        let gap = self
            .first_missing(from)
            .is_some_and(|missing| self.largest.is_some_and(|largest| largest - missing >= reordering));
        gap || late && reordering == 1
    }

    /// The smallest number from `from` on, below the largest, that was not received.
    fn first_missing(&self, from: u64) -> Option<u64> {
        let from = from.max(self.floor);
        if self.seen.iter().next_back()?.start <= from {
            return None;
        }
        Some(self.seen.iter().rev().find(|range| range.start <= from).map_or(from, |range| range.end.max(from)))
    }
}

/// Adds a number, and drops the oldest range when there are too many: where that ended.
fn insert_bounded(set: &mut RangeSet, number: u64, most: usize) -> Option<u64> {
    set.insert_one(number);
    if set.len() <= most {
        return None;
    }
    set.pop_first().map(|range| range.end)
}
