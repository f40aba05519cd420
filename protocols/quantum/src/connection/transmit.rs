//! What goes out next: which datagrams, in which order, and how many in one train.

use std::time::Instant;

use super::{
    Connection, Ending, Handshake,
    build::{Lone, Plan},
    repair::Repairs,
};
use crate::{
    config::{DATAGRAM_MIN, TRAIN_BYTES_MAX, TRAIN_MAX},
    crypto::Level,
    endpoint::Transmit,
    frame::{Close, Frame, Side},
    packet::{self, Space},
};

/// What congestion control and pacing let go now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Gate {
    /// Everything.
    Open,
    /// Only what is not counted: acknowledgements.
    Shut,
}

impl Connection {
    /// The next train goes into `out`, which is empty.
    pub(crate) fn poll_transmit(&mut self, now: Instant, out: &mut Vec<u8>) -> Option<Transmit> {
        (self.paced_until, self.marks) = (None, false);
        match self.ending {
            Ending::Draining { .. } | Ending::Over => return None,
            Ending::Closing { .. } => return self.transmit_farewell(now, out),
            Ending::No => {}
        }
        #[cfg(feature = "simulation")]
        if let Some(transmit) = self.transmit_injected(now, out) {
            return Some(transmit);
        }
        if let Some(transmit) = self.transmit_probe(now, out) {
            return Some(transmit);
        }
        self.decide_protection(now);
        self.update_keys_if_due(now);
        let probing = Space::ALL.into_iter().any(|space| self.recovery.probes_due(space) > 0);
        let mtu = &self.paths.current().mtu;
        let size = self.whole_blocks(usize::from(if probing { mtu.probe_timeout_size() } else { mtu.current() }));
        self.marks = self.handshake == Handshake::Confirmed && self.recovery.marks_ecn();
        let mut count = 0;
        while count < TRAIN_MAX && out.len() + size <= TRAIN_BYTES_MAX {
            let sent = self.datagram(now, size, out);
            count += usize::from(sent > 0);
            if sent < size {
                break;
            }
        }
        self.note_limit(now, size);
        if count == 0 {
            return None;
        }
        Some(self.sent(now, if count == 1 { out.len() } else { size }, out.len()))
    }

    //= SPEC.md#15
    //# A full packet MAY stay up to 15 bytes below the MTU, so that what is sealed is whole blocks of the cipher.
    /// The size of a train's datagrams, of at most `size` bytes. A block that is begun costs both ends a call of the
    /// cipher and one of its hash of its own: 9 of 1,452 bytes are left out for that. Rows of parity are as long as a
    /// packet can be, so where there may be one all bytes are used.
    fn whole_blocks(&self, size: usize) -> usize {
        let may_repair = |repairs: &Repairs| repairs.protector.is_on() || repairs.protector.deadline().is_some();
        if self.handshake < Handshake::Confirmed || self.repairs.as_deref().is_some_and(may_repair) {
            return size;
        }
        let number_len = self.recovery.next_number_len(Space::Application);
        let sealed = size.saturating_sub(packet::SHORT_HEAD + number_len + packet::TAG_LEN);
        size - sealed % BLOCK_LEN
    }

    /// Tells congestion control when it was not what held the data back (draft-ietf-ccwg-bbr, section on application
    /// limits).
    fn note_limit(&mut self, now: Instant, size: usize) {
        let room = self.recovery.window_room() >= size as u64 && self.paced_until.is_none();
        if !room || self.lanes.has_data(now) {
            return;
        }
        self.recovery.congestion.set_app_limited(self.recovery.in_flight());
        if let Some(repairs) = &mut self.repairs {
            // Nothing waits: the group need not wait for more, either.
            repairs.protector.flush(now);
        }
    }

    /// One datagram on the current path, of at most `size` bytes; how many it has.
    fn datagram(&mut self, now: Instant, size: usize, out: &mut Vec<u8>) -> usize {
        let start = out.len();
        //= SPEC.md#7.1
        //# A server MUST NOT send more than three times the bytes that it received from an address, until the address
        //# is validated: by a Handshake packet that authenticates, by a token, or by a PATH_RESPONSE.
        let allowed = self.paths.current().room().saturating_sub(start as u64);
        let size = size.min(usize::try_from(allowed).unwrap_or(usize::MAX));
        if size < size_min(self.handshake) {
            // More must come from the client first (RFC 9000, section 8.1).
            self.recovery.set_blocked(true);
            return 0;
        }
        self.recovery.set_blocked(false);
        let gate = self.gate(now, size);
        let (mut has_initial, must_pad) = (false, self.must_pad_initial());
        for space in [Space::Initial, Space::Handshake] {
            if self.handshake == Handshake::Confirmed || !self.can_send(space) {
                continue;
            }
            // An Initial that stands alone is padded in itself; else the last packet of the datagram is.
            let handshake_follows = space == Space::Initial && self.wants_to_send(now, Space::Handshake);
            let last = !handshake_follows && !self.application_follows(now, gate);
            let pads = (has_initial || space == Space::Initial) && last && must_pad;
            // Early data may fill the window, and is not acknowledged before the handshake is done: that must not wait for
            // it. It is some KiB, and goes again only after a loss or a timeout.
            let plan = Plan { space, start, size, pad: pads, gate: Gate::Open };
            has_initial |= self.packet(now, plan, out) && space == Space::Initial;
        }
        if self.can_send_application() {
            let plan = Plan { space: Space::Application, start, size, pad: has_initial && must_pad, gate };
            self.packet(now, plan, out);
        }
        // Nothing followed an Initial that counted on it.
        if has_initial && must_pad && out.len() - start < DATAGRAM_MIN && size >= DATAGRAM_MIN {
            out.resize(start + DATAGRAM_MIN, 0);
        }
        out.len() - start
    }

    // Both sides pad what carries an ack-eliciting Initial, clients every Initial (RFC 9000, section 14.1).
    fn must_pad_initial(&self) -> bool {
        let initial = Space::Initial;
        self.side == Side::Client || self.crypto.is_pending(initial) || self.recovery.probes_due(initial) > 0
    }

    fn can_send_application(&self) -> bool {
        match self.level(Space::Application) {
            //= SPEC.md#7.1
            //# A server MUST NOT send packets with a short header before its handshake is complete, unless the address
            //# is validated.
            // A server sends nothing but its handshake to who has not shown an address.
            Level::OneRtt => {
                self.side == Side::Client || self.handshake > Handshake::Open || self.paths.current().is_validated()
            }
            level => self.crypto.can_seal(level),
        }
    }

    /// Whether a space's packets can be sent, with keys that the peer has and that may carry an ACK.
    pub(super) fn can_acknowledge(&self, space: Space) -> bool {
        match space {
            Space::Initial | Space::Handshake => self.can_send(space),
            Space::Application => self.level(space) == Level::OneRtt && self.can_send_application(),
        }
    }

    /// Whether a packet of the application's space has something to say: early data of a client that comes back goes
    /// with its first Initial.
    fn application_follows(&mut self, now: Instant, gate: Gate) -> bool {
        let space = Space::Application;
        self.can_send_application()
            && (gate == Gate::Open && self.has_frames(now, space) || self.received[space.index()].ack_due(now))
    }

    /// Whether a handshake space has something to say.
    fn wants_to_send(&self, now: Instant, space: Space) -> bool {
        self.can_send(space)
            && (self.crypto.is_pending(space)
                || self.received[space.index()].ack_due(now)
                || self.recovery.probes_due(space) > 0)
    }

    fn gate(&mut self, now: Instant, size: usize) -> Gate {
        if Space::ALL.into_iter().any(|space| self.recovery.probes_due(space) > 0) {
            return Gate::Open;
        }
        //= SPEC.md#10
        //# An end MUST NOT have more bytes in flight than its window, probes excepted.
        if self.recovery.window_room() < size as u64 {
            return Gate::Shut;
        }
        match self.recovery.congestion.budget(now) {
            Ok(bytes) if bytes > 0 => Gate::Open,
            Ok(_) => Gate::Shut,
            Err(at) => {
                self.paced_until = Some(at);
                Gate::Shut
            }
        }
    }

    /// Books a train on the current path.
    fn sent(&mut self, now: Instant, segment: usize, len: usize) -> Transmit {
        self.paths.on_sent(self.remote(), len);
        self.counters.bytes_sent += len as u64;
        if !self.sent_since_heard {
            self.sent_since_heard = true;
            self.heard = now;
        }
        Transmit { to: self.remote(), segment, ecn: if self.marks { ECT0 } else { 0 } }
    }

    fn transmit_farewell(&mut self, now: Instant, out: &mut Vec<u8>) -> Option<Transmit> {
        let Ending::Closing { frame, due, .. } = &mut self.ending else { return None };
        let size = DATAGRAM_MIN.min(usize::try_from(self.paths.current().room()).unwrap_or(usize::MAX));
        if size < size_min(Handshake::Confirmed) || !std::mem::take(due) {
            return None;
        }
        let farewell = frame.clone();
        // Before the peer has confirmed it, nobody knows which keys it has (RFC 9000, section 10.2.3).
        let spaces = Space::ALL.into_iter().filter(|space| self.can_send(*space));
        let spaces: smallvec::SmallVec<[Space; 3]> = match self.handshake {
            Handshake::Confirmed => spaces.filter(|space| *space == Space::Application).collect(),
            Handshake::Open | Handshake::Complete => spaces.collect(),
        };
        let has_initial = self.side == Side::Client && spaces.first() == Some(&Space::Initial);
        for space in spaces.iter().copied() {
            let hidden = farewell.application && space != Space::Application;
            let close = if hidden {
                //= SPEC.md#16
                //# In Initial and Handshake packets an application's CLOSE MUST be sent as a transport's with
                //# APPLICATION_ERROR and without a reason.
                // What the application says is not for eyes before the handshake is done.
                Close { application: false, code: crate::error::Code::Application as u64, reason: &[] }
            } else {
                Close { application: farewell.application, code: farewell.code, reason: &farewell.reason }
            };
            let room = size.saturating_sub(out.len());
            let to = self.remote_ids.current();
            // A server takes no smaller datagram with an Initial (RFC 9000, section 14.1).
            let pads = has_initial && Some(&space) == spaces.last();
            self.lone_packet(now, Lone { space, to, path: None }, room, &[Frame::Close(close)], pads, out);
        }
        (!out.is_empty()).then(|| self.sent(now, out.len(), out.len()))
    }
}

/// Bytes that the ciphers work on at a time.
const BLOCK_LEN: usize = 16;

/// The ECN codepoint of packets that would rather be marked than dropped (RFC 9000, section 13.4).
const ECT0: u8 = 0b10;

/// Bytes below which no datagram is begun.
fn size_min(handshake: Handshake) -> usize {
    if handshake == Handshake::Open { 200 } else { 64 }
}
