//! What the fate of a packet means for what was in it.

use crate::{
    connection::{
        pending::{Flag, Pending},
        repair::Repairs,
    },
    crypto::Crypto,
    id::{LocalIds, RemoteIds},
    item::Item,
    lane::Lanes,
    packet::Space,
    path::Paths,
    qlog::Qlog,
    received::Received,
    recovery::{SentPacket, Sink},
    stats::Stats,
};
use std::time::{Duration, Instant};

/// Everybody who wants to know, borrowed beside the recovery that tells.
pub(super) struct Ledger<'a> {
    pub(super) now: Instant,
    pub(super) retransmit: bool,
    pub(super) lanes: &'a mut Lanes,
    pub(super) crypto: &'a mut Crypto,
    pub(super) received: &'a mut [Received; 3],
    pub(super) repairs: Option<&'a mut Repairs>,
    pub(super) local_ids: &'a mut LocalIds,
    pub(super) remote_ids: &'a mut RemoteIds,
    pub(super) paths: &'a mut Paths,
    pub(super) rtt: Duration,
    pub(super) pending: &'a mut Pending,
    pub(super) counters: &'a mut Stats,
    pub(super) qlog: Option<&'a mut Qlog>,
}

impl Sink for Ledger<'_> {
    fn acked(&mut self, space: Space, packet: &SentPacket) {
        for item in &packet.items {
            self.item_acked(space, item);
        }
        if let (Some(repairs), Space::Application) = (&mut self.repairs, space) {
            repairs.policy.on_acked(self.now, 1);
        }
        if space == Space::Application && packet.path == self.paths.current().generation {
            let mtu = &mut self.paths.current_mut().mtu;
            if packet.mtu_probe {
                mtu.on_probe_acked(self.now, packet.number, packet.bytes);
            } else {
                mtu.on_acked(packet.number, packet.bytes, packet.sent_at);
            }
        }
    }

    fn lost(&mut self, space: Space, packet: &SentPacket) {
        if let Some(qlog) = &mut self.qlog {
            qlog.packet_lost(self.now, space, packet.number, usize::from(packet.bytes));
        }
        for item in &packet.items {
            self.item_lost(space, item);
        }
        // What became of packets on another path says nothing about this one.
        if space != Space::Application || packet.path != self.paths.current().generation {
            return;
        }
        let mtu = &mut self.paths.current_mut().mtu;
        if packet.mtu_probe {
            return mtu.on_probe_lost(self.now, packet.bytes);
        }
        mtu.on_lost(self.now, self.rtt, packet.number, packet.bytes, packet.sent_at);
        if let Some(repairs) = &mut self.repairs {
            repairs.policy.on_lost(self.now, packet.number, packet.symbol.is_some());
        }
    }

    fn probe(&mut self, space: Space, packet: &SentPacket) {
        for item in &packet.items {
            self.item_lost(space, item);
        }
    }

    fn delivered(&mut self, space: Space, items: &[Item]) {
        for item in items {
            self.item_acked(space, item);
        }
    }
}

impl Ledger<'_> {
    fn item_acked(&mut self, space: Space, item: &Item) {
        match *item {
            Item::Stream { .. }
            | Item::Message { .. }
            | Item::Datagram
            | Item::ResetStream(_)
            | Item::StopSending(_)
            | Item::MaxData
            | Item::MaxStreamData(_)
            | Item::MaxStreams { .. }
            | Item::Blocked
            | Item::MessageFloor { .. } => self.lanes.on_acked(item),
            Item::Crypto { offset, len } => self.crypto.on_acked(space, offset, len),
            Item::Ack { largest } => self.received[space.index()].on_ack_acked(largest),
            Item::SymbolAck { largest } => {
                if let Some(repairs) = &mut self.repairs {
                    repairs.restorer.on_symbol_ack_acked(largest);
                }
            }
            Item::NewId { .. } => {}
            Item::RetireId { sequence } => self.remote_ids.on_acked(sequence),
            Item::NewToken => self.pending.new_token = Flag::Done,
            Item::HandshakeDone => self.pending.handshake_done = Flag::Done,
            Item::GoAway => self.pending.goaway = Flag::Done,
            Item::FecWindow => self.pending.fec_window = Flag::Done,
            // Told by `acked` and `lost`, which know the packet.
            Item::MtuProbe { .. } => {}
        }
    }

    fn item_lost(&mut self, space: Space, item: &Item) {
        match *item {
            Item::Stream { .. }
            | Item::Message { .. }
            | Item::Datagram
            | Item::ResetStream(_)
            | Item::StopSending(_)
            | Item::MaxData
            | Item::MaxStreamData(_)
            | Item::MaxStreams { .. }
            | Item::Blocked
            | Item::MessageFloor { .. } => {
                if self.retransmit {
                    self.counters.resent += 1;
                    self.lanes.on_lost(self.now, item);
                }
            }
            Item::Crypto { offset, len } => self.crypto.on_lost(space, offset, len),
            // ACKs are told anew in every packet; a lost one says nothing.
            Item::Ack { .. } => {}
            Item::SymbolAck { .. } => {
                if let Some(repairs) = &mut self.repairs {
                    repairs.restorer.on_symbol_ack_lost();
                }
            }
            Item::NewId { sequence } => self.local_ids.on_lost(sequence),
            Item::RetireId { sequence } => self.remote_ids.on_lost(sequence),
            Item::NewToken => self.pending.new_token.lost(),
            Item::HandshakeDone => self.pending.handshake_done.lost(),
            Item::GoAway => self.pending.goaway.lost(),
            Item::FecWindow => self.pending.fec_window.lost(),
            Item::MtuProbe { .. } => {}
        }
    }
}

/// Splits a connection into its recovery and everybody whom that tells.
macro_rules! ledger {
    ($connection:expr, $now:expr) => {{
        let connection = &mut *$connection;
        let rtt = connection.recovery.rtt.smoothed();
        (
            &mut connection.recovery,
            $crate::connection::ledger::Ledger {
                now: $now,
                retransmit: connection.transport.retransmit,
                lanes: &mut connection.lanes,
                crypto: &mut connection.crypto,
                received: &mut connection.received,
                repairs: connection.repairs.as_deref_mut(),
                local_ids: &mut connection.local_ids,
                remote_ids: &mut connection.remote_ids,
                paths: &mut connection.paths,
                rtt,
                pending: &mut connection.pending,
                counters: &mut connection.counters,
                qlog: connection.qlog.as_deref_mut(),
            },
        )
    }};
}
pub(super) use ledger;
