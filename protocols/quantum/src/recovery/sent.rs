//! The packets of one space that were sent and are neither acknowledged nor lost, by their numbers.

use std::{
    collections::VecDeque,
    ops::Range,
    time::{Duration, Instant},
};

use crate::{
    congestion::Stamp,
    item::{Item, Items},
};

/// Numbers that may wait in front of few ack-eliciting packets. Packets without them are not limited by congestion
/// control, and a peer that never acknowledges must not make a queue of them grow. An acknowledgement per 10 us, unanswered
/// for 40 ms, still fits.
const SPAN_MAX: usize = 4096;

/// Slots that an idle queue may keep.
const SPARE: usize = 16;

/// One packet on its way.
#[derive(Debug)]
pub(crate) struct SentPacket {
    /// Its number.
    pub(crate) number: u64,
    /// How many packets of all spaces were sent before it. Set by `Recovery::on_sent`.
    pub(crate) order: u64,
    /// When.
    pub(crate) sent_at: Instant,
    /// Bytes of UDP payload it took.
    pub(crate) bytes: u16,
    /// Whether it has frames other than ACK, SYMBOL_ACK, PADDING and CLOSE.
    pub(crate) ack_eliciting: bool,
    /// Whether it counts as in flight: ack-eliciting, or padded (RFC 9002, section 2).
    pub(crate) in_flight: bool,
    /// Whether it probes for a larger MTU: then its loss is no congestion.
    pub(crate) mtu_probe: bool,
    /// Whether it was sent with ECT(0).
    pub(crate) ect0: bool,
    /// Whether its items were asked for again by a probe.
    pub(crate) probed: bool,
    /// Generation of the path it went by.
    pub(crate) path: u64,
    /// The FEC symbol in it.
    pub(crate) symbol: Option<u64>,
    /// Items from this one on are in the symbol; those before it are in the packet alone.
    pub(crate) protected: u8,
    /// What congestion control wants to know when it comes back. None: it does not move congestion control, because it is
    /// not in flight, or its path is not the current one. Set by `Recovery::on_sent`.
    pub(crate) stamp: Option<Stamp>,
    /// What it carried.
    pub(crate) items: Items,
}

impl SentPacket {
    /// A packet that elicits an acknowledgement and carries nothing yet.
    pub(crate) fn new(now: Instant, number: u64, bytes: u16, path: u64) -> Self {
        Self {
            number,
            order: 0,
            sent_at: now,
            bytes,
            ack_eliciting: true,
            in_flight: true,
            mtu_probe: false,
            ect0: false,
            probed: false,
            path,
            symbol: None,
            protected: 0,
            stamp: None,
            items: Items::new(),
        }
    }

    /// The items that the symbol repeats.
    pub(crate) fn protected_items(&self) -> &[Item] {
        match self.symbol {
            Some(_) => self.items.get(usize::from(self.protected)..).unwrap_or(&[]),
            None => &[],
        }
    }
}

#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "almost all of them are outstanding; a box would be an allocation each")]
enum Slot {
    /// Never sent: a trap for who acknowledges what it did not receive.
    Skipped,
    Acked,
    Outstanding(SentPacket),
}

/// What stood at the front of the queue and is decided.
#[allow(clippy::large_enum_variant, reason = "it is handed on at once; a box would be an allocation per lost packet")]
pub(crate) enum Decided {
    Skipped,
    Acked,
    Lost(SentPacket),
}

/// Sent packets, oldest first, in a ring without gaps: a number is found by subtraction. The front is always outstanding,
/// or was just acknowledged.
#[derive(Debug, Default)]
pub(crate) struct SentQueue {
    slots: VecDeque<Slot>,
    first: u64,
    outstanding: usize,
    eliciting: usize,
    /// When the last ack-eliciting packet was sent.
    eliciting_at: Option<Instant>,
    sent_at: Option<Instant>,
}

impl SentQueue {
    /// An empty queue of which `first` is the next number.
    pub(crate) fn starting_at(first: u64) -> Self {
        Self { first, ..Self::default() }
    }

    /// The smallest number that was not used yet.
    pub(crate) fn next(&self) -> u64 {
        self.first + self.slots.len() as u64
    }

    /// The smallest number that is still of interest.
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    /// Packets outstanding.
    #[cfg(any(test, feature = "simulation"))]
    pub(crate) fn outstanding(&self) -> usize {
        self.outstanding
    }

    /// When the last ack-eliciting packet was sent, if any is outstanding.
    pub(crate) fn eliciting_since(&self) -> Option<Instant> {
        self.eliciting_at.filter(|_| self.eliciting > 0)
    }

    /// Leaves out the next number.
    pub(crate) fn skip(&mut self) {
        self.slots.push_back(Slot::Skipped);
    }

    /// Adds a packet.
    ///
    /// # Panics
    /// If it does not have the next number: a number is a nonce.
    pub(crate) fn push(&mut self, packet: SentPacket) {
        assert_eq!(packet.number, self.next(), "packet numbers are used once, in order");
        self.outstanding += 1;
        self.sent_at = Some(packet.sent_at);
        if packet.ack_eliciting {
            self.eliciting += 1;
            self.eliciting_at = Some(packet.sent_at);
        }
        if self.slots.capacity() == 0 {
            // A connection that rests sends one packet now and then; by itself a deque makes room for four.
            self.slots.reserve_exact(1);
        }
        self.slots.push_back(Slot::Outstanding(packet));
    }

    /// Takes the outstanding packets in a range of numbers out, in ascending order, without moving them: each is several
    /// cache lines.
    pub(crate) fn ack(&mut self, range: Range<u64>, mut acked: impl FnMut(&SentPacket)) {
        let (start, end) = (range.start.max(self.first), range.end.min(self.next()));
        for number in start..end {
            let slot = &mut self.slots[(number - self.first) as usize];
            if let Slot::Outstanding(packet) = slot {
                self.outstanding -= 1;
                self.eliciting -= usize::from(packet.ack_eliciting);
                acked(packet);
                *slot = Slot::Acked;
            }
        }
    }

    /// The oldest packet, if the front is not something that was decided.
    pub(crate) fn front(&self) -> Option<&SentPacket> {
        match self.slots.front() {
            Some(Slot::Outstanding(packet)) => Some(packet),
            _ => None,
        }
    }

    /// Takes the front out if it is decided, or if it is an outstanding packet of which `is_lost` says so.
    pub(crate) fn pop_decided(&mut self, is_lost: impl FnOnce(&SentPacket) -> bool) -> Option<Decided> {
        if let Slot::Outstanding(packet) = self.slots.front()?
            && !is_lost(packet)
        {
            return None;
        }
        self.first += 1;
        Some(match self.slots.pop_front()? {
            Slot::Skipped => Decided::Skipped,
            Slot::Acked => Decided::Acked,
            Slot::Outstanding(packet) => {
                self.outstanding -= 1;
                self.eliciting -= usize::from(packet.ack_eliciting);
                Decided::Lost(packet)
            }
        })
    }

    /// An outstanding packet.
    pub(crate) fn get_mut(&mut self, number: u64) -> Option<&mut SentPacket> {
        match self.slots.get_mut(usize::try_from(number.checked_sub(self.first)?).ok()?)? {
            Slot::Outstanding(packet) => Some(packet),
            _ => None,
        }
    }

    /// Outstanding packets, oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &SentPacket> {
        self.slots.iter().filter_map(|slot| match slot {
            Slot::Outstanding(packet) => Some(packet),
            _ => None,
        })
    }

    /// Outstanding packets, oldest first.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut SentPacket> {
        self.slots.iter_mut().filter_map(|slot| match slot {
            Slot::Outstanding(packet) => Some(packet),
            _ => None,
        })
    }

    /// Whether the front must be given up because too much waits behind too little that an acknowledgement is due for.
    pub(crate) fn is_overlong(&self) -> bool {
        self.slots.len() > SPAN_MAX.saturating_add(self.eliciting.saturating_mul(4))
    }

    /// Gives memory back, when none was needed for long and much is held: whether it did.
    pub(crate) fn shrink_after(&mut self, silence: Duration, now: Instant) -> bool {
        // Packets of one train have one time, and a difference of times is not cheap.
        let rested = self.sent_at.is_some_and(|at| at != now && now.saturating_duration_since(at) >= silence);
        let spare = self.slots.capacity() > SPARE && self.slots.len() < self.slots.capacity() / 4;
        if rested && spare {
            self.slots.shrink_to(SPARE / 4);
        }
        rested
    }

    /// Gives the memory back that nothing is in. What is in it may stay for long: nobody acknowledges an acknowledgement.
    pub(crate) fn release(&mut self) {
        self.slots.shrink_to_fit();
    }

    /// Packets that fit without another allocation.
    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.slots.capacity()
    }

    /// Panics when the counters do not say what the slots say.
    pub(crate) fn check(&self) {
        assert_eq!(self.outstanding, self.iter().count());
        assert_eq!(self.eliciting, self.iter().filter(|packet| packet.ack_eliciting).count());
        for (at, slot) in self.slots.iter().enumerate() {
            if let Slot::Outstanding(packet) = slot {
                assert_eq!(packet.number, self.first + at as u64);
            }
        }
    }
}
