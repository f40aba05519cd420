//! What simulations do to a connection and ask of it (feature `simulation`): invariants between any two steps, its memory,
//! and a peer with good keys and bad intentions.

use std::time::Instant;

use super::{Connection, build::Written, repair::Repairs};
use crate::{
    config::DATAGRAM_MIN,
    endpoint::Transmit,
    frame::{Frame, RANGES_MAX},
    packet::Space,
    recovery::SentPacket,
};

/// Datagrams that wait for keys, at most (`receive::EARLY_MAX`).
const EARLY_MAX: usize = 8;

#[doc(hidden)]
impl Connection {
    /// Panics when the books of the connection contradict each other, or a limit is exceeded.
    pub fn check(&self) {
        self.recovery.check();
        self.lanes.check();
        self.paths.check();
        assert!(self.early.len() <= EARLY_MAX);
        assert!(self.received.iter().all(|received| received.pieces() <= RANGES_MAX));
        assert!(self.local_ids.iter().count() <= 8, "ids are issued without limit");
    }

    /// Bytes on the heap that a peer can make this side hold, about.
    pub fn memory(&self) -> usize {
        let early: usize = self.early.iter().map(|(_, bytes)| bytes.capacity()).sum();
        let repairs = self.repairs.as_ref().map_or(0, |repairs| repairs.protector.heap() + repairs.restorer.heap());
        let packets: usize = Space::ALL.into_iter().map(|space| self.recovery.outstanding(space)).sum();
        let pieces: usize = self.received.iter().map(|received| received.pieces()).sum();
        size_of::<Self>()
            + self.lanes.received_bytes() as usize
            + early
            + repairs
            + packets * size_of::<SentPacket>()
            + pieces * 2 * size_of::<std::ops::Range<u64>>()
            + self.events.len() * size_of::<crate::event::Event>()
            + self.id_changes.len() * size_of::<super::IdChange>()
    }

    /// Sends these bytes as the frames of a packet of their own, whatever they are.
    pub fn inject(&mut self, space: Space, frames: &[u8]) {
        self.injected.push_back((space, frames.to_vec()));
    }

    /// The number of the next packet, and the largest that the peer acknowledged.
    pub fn numbers(&self, space: Space) -> (u64, Option<u64>) {
        (self.recovery.sent_below(space), self.recovery.largest_acked(space))
    }

    /// How many ranges of numbers the next ACK tells.
    pub fn ranges(&self, space: Space) -> usize {
        self.received[space.index()].pieces()
    }

    /// The peer's id in use.
    pub fn peer_id(&self) -> crate::Guuid {
        self.remote_ids.current()
    }

    /// Numbers do not begin at 0 when [`crate::Transport::first_number`] says so.
    pub(super) fn start_numbers(&mut self) {
        let first = self.transport.first_number;
        if first > 0 {
            self.recovery.start_at(first);
            self.received[Space::Application.index()].start_at(first);
        }
    }

    pub(super) fn transmit_injected(&mut self, now: Instant, out: &mut Vec<u8>) -> Option<Transmit> {
        let (space, frames) = self.injected.pop_front()?;
        if !self.can_send(space) {
            return None;
        }
        let draft = self.draft(space, out);
        // A header's protection needs a sample: padding in front changes nothing.
        let short = 4usize.saturating_sub(frames.len());
        Frame::Padding(short).encode(out);
        out.extend_from_slice(&frames);
        if space == Space::Initial {
            draft.pad(DATAGRAM_MIN, out);
        }
        let mut written = Written::default();
        written.eliciting = true;
        self.seal(now, space, &draft, written, false, out);
        Some(Transmit { to: self.remote(), segment: out.len(), ecn: 0 })
    }
}

/// Symbols are counted from where packets are, as far as both sides can know without a word about it.
pub(super) fn start_symbols_at(mut repairs: Box<Repairs>, first: u64) -> Box<Repairs> {
    repairs.protector.start_at(first);
    repairs.restorer.start_at(first);
    repairs
}
