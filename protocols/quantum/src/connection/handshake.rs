//! The handshake: TLS is driven, keys come and go, and what the peer told is checked against what was seen.

use std::time::Instant;

use super::{Connection, Handshake, IdChange, application::peer_limits};
use crate::{
    crypto::{EarlyData, Level},
    error::{Checked, Code, TransportError},
    event::Event,
    frame::Side,
    packet::Space,
    parameters::Parameters,
};

const MISMATCH: fn(&'static str) -> TransportError = |reason| TransportError::new(Code::TransportParameter, reason);

impl Connection {
    /// Lets TLS take and give what it can.
    pub(super) fn drive_handshake(&mut self, now: Instant) {
        if self.handshake == Handshake::Confirmed {
            return;
        }
        if let Err(error) = self.try_handshake(now) {
            self.fail(now, error);
        }
    }

    fn try_handshake(&mut self, now: Instant) -> Checked<()> {
        if !self.has_peer {
            self.take_parameters()?;
        }
        if self.crypto.can_seal(Level::Handshake) {
            self.recovery.on_handshake_keys();
        }
        if self.handshake == Handshake::Open && self.crypto.is_complete() {
            self.handshake = Handshake::Complete;
            self.settle_early_data(now);
            self.events.push_back(Event::Connected);
            if self.side == Side::Client {
                self.recovery.on_handshake_complete();
            } else {
                self.paths.on_validated();
                self.owe_handshake_done();
                self.confirm(now);
            }
        }
        Ok(())
    }

    /// The peer is known to have completed the handshake (RFC 9001, section 4.1.2).
    pub(super) fn confirm(&mut self, now: Instant) {
        self.handshake = Handshake::Confirmed;
        self.crypto.confirm();
        self.discard(now, Space::Initial);
        self.discard(now, Space::Handshake);
        self.recovery.on_handshake_confirmed();
        self.issue_ids();
        if self.side == Side::Client {
            self.token = Vec::new();
        }
    }

    /// A space's keys are dropped, and with them all that was sent under them.
    pub(super) fn discard(&mut self, now: Instant, space: Space) {
        if !std::mem::replace(&mut self.discarded[space.index()], true) {
            self.crypto.discard(space);
            self.recovery.discard(now, space);
            self.received[space.index()] = crate::received::Received::new(space);
        }
    }

    /// The limits of the earlier session hold for early data (RFC 9000, section 7.4.1).
    pub(super) fn take_remembered(&mut self) {
        let remembered = self.crypto.peer_parameters().filter(|_| self.crypto.early_data() == EarlyData::Offered);
        if let Some(Ok(peer)) = remembered.map(|encoded| Parameters::parse(self.side.peer(), encoded)) {
            let taken = self.lanes.set_peer(&peer_limits(&peer));
            debug_assert!(taken.is_ok(), "there were none before");
        }
    }

    fn take_parameters(&mut self) -> Checked<()> {
        // A client that resumes finds those of the earlier session here, until TLS has read the server's.
        if self.side == Side::Client && !self.crypto.is_complete() {
            return Ok(());
        }
        let Some(encoded) = self.crypto.peer_parameters() else { return Ok(()) };
        let peer = Parameters::parse(self.side.peer(), encoded)?;
        self.check_names(&peer)?;
        self.has_peer = true;
        //= SPEC.md#6
        //# A server that takes it MUST NOT tell smaller ones: PROTOCOL_VIOLATION. One that refuses it MAY: its limits
        //# hold instead.
        match self.crypto.early_data() {
            EarlyData::Rejected => self.lanes.replace_peer(&peer_limits(&peer))?,
            EarlyData::None | EarlyData::Offered | EarlyData::Accepted => self.lanes.set_peer(&peer_limits(&peer))?,
        }
        self.local_ids.set_limit(peer.ids_max);
        self.paths.limit_mtu(peer.udp_payload_max);
        self.recovery.set_ack_delay_max(peer.ack_delay_max);
        if let Some(token) = peer.reset_token {
            self.remote_ids.set_first_token(token);
        }
        self.watch_token();
        *self.peer = peer;
        self.set_packet_room();
        Ok(())
    }

    /// Whoever changed ids on the way did not change these (RFC 9000, section 7.3).
    fn check_names(&self, peer: &Parameters) -> Checked<()> {
        if peer.initial_from != Some(self.peer_first) {
            return Err(MISMATCH("initial_from is not the id in the peer's packets"));
        }
        if peer.version != crate::packet::VERSION {
            return Err(TransportError::new(Code::TransportParameter, "another version was chosen"));
        }
        if self.side == Side::Server {
            return Ok(());
        }
        if peer.original_to != Some(self.original_to) {
            return Err(MISMATCH("original_to is not the id of the first packet"));
        }
        if peer.retry_from != self.retry_from {
            return Err(MISMATCH("retry_from is not the id of the Retry"));
        }
        Ok(())
    }

    /// Early data that the server did not take goes once more (RFC 9001, section 4.6.2).
    fn settle_early_data(&mut self, now: Instant) {
        if self.crypto.early_data() == EarlyData::Rejected {
            let (recovery, mut ledger) = super::ledger::ledger!(self, now);
            recovery.lose_all(Space::Application, &mut ledger);
        }
    }

    pub(super) fn issue_ids(&mut self) {
        let unix_ms = self.unix_ms;
        while self.local_ids.wanted() > 0 {
            let id = self.local_ids.issue(unix_ms, &self.router, &mut self.rng);
            self.id_changes.push_back(IdChange::Listen(id));
        }
    }
}
