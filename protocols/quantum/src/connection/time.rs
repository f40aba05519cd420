//! Time: when something is due, and what then.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::{Connection, Ending, Handshake};
use crate::{event::CloseReason, frame::Side, packet::Space, received::Policy, recovery::Timeout};

impl Connection {
    /// When [`Connection::handle_timeout`] must be called at the latest.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        if !matches!(self.ending, Ending::No) {
            return self.ending_deadline();
        }
        let received = Space::ALL.into_iter().filter(|space| self.can_acknowledge(*space));
        let received = received.filter_map(|space| self.received[space.index()].deadline()).min();
        let repairs = self.repairs.as_ref().and_then(|repairs| {
            [repairs.protector.deadline(), repairs.restorer.deadline()].into_iter().flatten().min()
        });
        [
            self.recovery.deadline(),
            received,
            repairs,
            self.lanes.deadline(),
            self.paths.deadline(),
            self.paced_until,
            self.idle_deadline(),
            self.keep_alive_deadline(),
            self.handshake_deadline(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Time has passed.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if !matches!(self.ending, Ending::No) {
            if is_due(self.ending_deadline()) {
                self.finish_ending();
            }
            return;
        }
        if is_due(self.handshake_deadline()) {
            return self.give_up(now, CloseReason::HandshakeTimeout);
        }
        if is_due(self.idle_deadline()) {
            return self.give_up(now, CloseReason::Idle);
        }
        if is_due(self.keep_alive_deadline()) {
            self.pending.ping = true;
            self.pinged = now;
        }
        if is_due(self.recovery.deadline()) {
            self.on_recovery_timeout(now);
        }
        if let Some(repairs) = &mut self.repairs {
            repairs.protector.handle_timeout(now);
            repairs.restorer.expire(now);
        }
        if is_due(self.lanes.deadline()) && self.lanes.handle_timeout(now) {
            // Lanes that rest mean a connection that rests.
            self.release();
        }
        if is_due(self.paths.deadline()) {
            self.on_path_timeout(now);
        }
    }

    /// Gives back memory that is empty, and is only kept for what comes next.
    fn release(&mut self) {
        self.recovery.release();
        if self.events.is_empty() {
            self.events = VecDeque::new();
        }
    }

    fn on_recovery_timeout(&mut self, now: Instant) {
        let (recovery, mut ledger) = super::ledger::ledger!(self, now);
        let Timeout::Probe { space, .. } = recovery.on_timeout(now, &mut ledger) else { return };
        self.crypto.on_probe(space);
        for other in Space::ALL.into_iter().filter(|other| *other != space) {
            self.probe_along(now, other);
        }
    }

    /// During the handshake the timer of one space asks in all of them, in one datagram: what is lost is mostly all of it,
    /// and a server may not send many (RFC 9002, section 6.2.4).
    fn probe_along(&mut self, now: Instant, space: Space) {
        let wants = match space {
            Space::Initial | Space::Handshake => self.recovery.is_waiting(space),
            // The server may be done with the keys of the handshake. A client that a NAT forgot in the meantime is then
            // heard under the next ones alone.
            Space::Application => self.side == Side::Client && self.handshake == Handshake::Complete,
        };
        if wants && self.handshake < Handshake::Confirmed && self.can_send(space) {
            let (recovery, mut ledger) = super::ledger::ledger!(self, now);
            recovery.probe_too(space, &mut ledger);
            self.crypto.on_probe(space);
        }
    }

    /// The probe timeout of the application's packets (RFC 9002, section 6.2).
    pub(super) fn pto(&self) -> Duration {
        self.recovery.probe_timeout()
    }

    pub(super) fn detect_losses(&mut self, now: Instant) {
        let (recovery, mut ledger) = super::ledger::ledger!(self, now);
        recovery.detect_losses(now, &mut ledger);
        self.set_packet_room();
    }

    /// How soon received packets are acknowledged depends on what is going on.
    pub(super) fn refresh_policy(&mut self, _now: Instant) {
        let policy = if self.repairs.is_some() { Policy::Prompt } else { Policy::Bulk };
        let rtt = self.recovery.rtt.smoothed();
        self.received[Space::Application.index()].set_policy(policy, rtt);
    }

    pub(super) fn update_keys_if_due(&mut self, now: Instant) {
        if self.handshake == Handshake::Confirmed && self.crypto.update_if_due(now) {
            self.counters.key_updates += 1;
        }
    }

    fn idle_deadline(&self) -> Option<Instant> {
        let ours = self.transport.idle_timeout;
        let theirs = self.peer.idle_timeout;
        let timeout = if self.has_peer && !theirs.is_zero() { ours.min(theirs) } else { ours };
        //= SPEC.md#16
        //# A connection from which nothing came that authenticates for the smaller idle_timeout that is not 0, though
        //# at least 3 PTO, is gone, without a packet.
        // Long enough for a few probes (RFC 9000, section 10.1).
        self.heard.checked_add(timeout.max(self.pto() * 3))
    }

    fn keep_alive_deadline(&self) -> Option<Instant> {
        let interval = self.transport.keep_alive?;
        let is_due = self.handshake == Handshake::Confirmed && !self.pending.ping;
        is_due.then(|| self.heard.max(self.pinged).checked_add(interval)).flatten()
    }

    fn handshake_deadline(&self) -> Option<Instant> {
        let is_open = self.handshake == Handshake::Open;
        is_open.then(|| self.began.checked_add(self.transport.handshake_timeout)).flatten()
    }
}
