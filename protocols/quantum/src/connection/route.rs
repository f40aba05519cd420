//! Where the peer is: probes of addresses and sizes, and moving to another address (RFC 9000, section 9).

use std::{net::SocketAddr, time::Instant};

use super::{
    Connection, Ending, Handshake, IdChange,
    build::{self, Lone},
    frames::Content,
};
use crate::{
    config::DATAGRAM_MIN,
    endpoint::Transmit,
    event::{CloseReason, Event},
    frame::{Frame, Side},
    packet::Space,
    path::{Arrival, Change, Moved, PathTimeout},
};

impl Connection {
    /// A 1-RTT packet was read: maybe the peer is elsewhere now.
    pub(super) fn locate(&mut self, now: Instant, remote: SocketAddr, bytes: usize, newest: bool, content: &Content) {
        let window = self.recovery.congestion.window();
        let arrival = Arrival { remote, bytes, is_probing: content.probing, is_largest: newest, window };
        if let Some(moved) = self.paths.on_packet(now, self.pto(), arrival) {
            self.on_moved(now, moved);
        }
    }

    fn on_moved(&mut self, now: Instant, moved: Moved) {
        if moved.back {
            self.remote_ids.revert();
        } else {
            // Under the old name an observer of both places would know that it is the same connection.
            self.remote_ids.switch(self.paths.current().remote, moved.keeps);
        }
        self.watch_token();
        let path = self.paths.current().generation;
        let (recovery, mut ledger) = super::ledger::ledger!(self, now);
        match moved.change {
            Change::Host => recovery.on_path_changed(now, path),
            Change::Port => recovery.on_same_path(path),
            Change::Rebound => recovery.on_rebound(path, &mut ledger),
        }
        self.counters.moves += 1;
        self.set_packet_room();
        self.events.push_back(Event::Moved);
    }

    /// This side's address has changed: the peer is asked from there. For clients that know it; a NAT moves them unasked.
    pub fn on_local_moved(&mut self, now: Instant) {
        if self.side == Side::Client && self.handshake == Handshake::Confirmed {
            self.paths.on_local_moved(now, self.pto());
            self.remote_ids.switch(self.paths.current().remote, true);
            self.remote_ids.settle();
            self.watch_token();
            self.recovery.on_path_changed(now, self.paths.current().generation);
            self.set_packet_room();
            self.pending.ping = true;
        }
    }

    pub(super) fn on_path_challenge(&mut self, remote: SocketAddr, bytes: usize, data: [u8; 8]) {
        if self.paths.on_challenge(remote, bytes, data) && self.side == Side::Client {
            self.pending.ping = true;
        }
    }

    pub(super) fn on_path_response(&mut self, now: Instant, data: [u8; 8]) {
        self.paths.on_response(now, self.pto(), data);
        if !self.paths.has_former() {
            self.remote_ids.settle();
        }
    }

    pub(super) fn on_path_timeout(&mut self, now: Instant) {
        match self.paths.handle_timeout(now) {
            PathTimeout::None => {}
            PathTimeout::Moved(moved) => self.on_moved(now, moved),
            PathTimeout::Lost => return self.give_up(now, CloseReason::Idle),
        }
        if !self.paths.has_former() {
            self.remote_ids.settle();
        }
    }

    /// A datagram that only asks or answers: whether an address is the peer's, or whether a size passes.
    pub(super) fn transmit_probe(&mut self, now: Instant, out: &mut Vec<u8>) -> Option<Transmit> {
        if self.handshake == Handshake::Open {
            return None;
        }
        self.transmit_path_frame(now, out).or_else(|| self.transmit_mtu_probe(now, out))
    }

    fn transmit_path_frame(&mut self, now: Instant, out: &mut Vec<u8>) -> Option<Transmit> {
        let probe = self.paths.poll(now, &mut self.rng)?;
        let frame = if probe.is_response { Frame::PathResponse(probe.data) } else { Frame::PathChallenge(probe.data) };
        //= SPEC.md#15
        //# No id SHOULD be seen at two addresses: a response to where the client only asks from has the id that would
        //# be used there.
        let to = match probe.is_former {
            true => self.remote_ids.former(),
            false if probe.to == self.remote() => self.remote_ids.current(),
            false => self.remote_ids.elsewhere(probe.to),
        };
        // What happens to it elsewhere says nothing about the current path.
        let path = (probe.to != self.remote()).then_some(u64::MAX);
        let lone = Lone { space: Space::Application, to, path };
        self.lone_packet(now, lone, DATAGRAM_MIN, &[frame], probe.pad, out);
        self.booked(probe.to, out)
    }

    fn transmit_mtu_probe(&mut self, now: Instant, out: &mut Vec<u8>) -> Option<Transmit> {
        let path = self.paths.current();
        // A size is worth knowing while something is sent.
        if self.handshake < Handshake::Confirmed || !path.is_validated() || !self.lanes.has_data(now) {
            return None;
        }
        let size = self.paths.current().mtu.probe_due(now)?;
        if self.recovery.window_room() < u64::from(size) {
            return None;
        }
        self.paths.current_mut().mtu.on_probe_sent(now, size);
        self.mtu_probe(now, usize::from(size), out);
        self.booked(self.remote(), out)
    }

    fn booked(&mut self, to: SocketAddr, out: &[u8]) -> Option<Transmit> {
        if out.is_empty() || !matches!(self.ending, Ending::No) {
            return None;
        }
        self.paths.on_sent(to, out.len());
        self.counters.bytes_sent += out.len() as u64;
        Some(Transmit { to, segment: out.len(), ecn: 0 })
    }

    /// The kernel would not send a datagram of this size: the path does not carry it.
    pub fn on_too_long(&mut self, now: Instant, size: usize) {
        self.paths.current_mut().mtu.on_probe_lost(now, u16::try_from(size).unwrap_or(u16::MAX));
    }

    /// What an otherwise empty packet holds changes with the path.
    pub(super) fn set_packet_room(&mut self) {
        let mtu = self.mtu();
        if mtu != self.known_mtu {
            self.known_mtu = mtu;
            self.recovery.congestion.on_mtu(mtu as u16);
            self.lanes.set_packet_room(mtu - build::DATAGRAM_OVERHEAD - build::SYMBOL_SHORTER);
        }
    }

    /// Bytes of the largest datagram that the path is known to carry.
    pub(super) fn mtu(&self) -> usize {
        usize::from(self.paths.current().mtu.current())
    }

    /// The endpoint watches the reset token of the id in use.
    pub(super) fn watch_token(&mut self) {
        let token = self.remote_ids.current_token();
        if token != self.watched {
            let before = std::mem::replace(&mut self.watched, token);
            self.id_changes.extend(before.map(IdChange::ForgetToken));
            self.id_changes.extend(token.map(IdChange::Token));
        }
    }
}
