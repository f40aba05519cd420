//! What the fate of a packet means for what was in it.

use crate::{
    connection::{pending::Pending, repair::Repairs},
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
        self.items(space, &packet.items, Fate::Acked);
        if let (Some(repairs), Space::Application) = (&mut self.repairs, space) {
            repairs.policy.on_acked(self.now, 1);
        }
        if !self.is_on_path(space, packet) {
            return;
        }
        let mtu = &mut self.paths.current_mut().mtu;
        if packet.mtu_probe {
            mtu.on_probe_acked(self.now, packet.number, packet.bytes);
        } else {
            mtu.on_acked(packet.number, packet.bytes, packet.sent_at);
        }
    }

    fn lost(&mut self, space: Space, packet: &SentPacket) {
        if let Some(qlog) = &mut self.qlog {
            qlog.packet_lost(self.now, space, packet.number, usize::from(packet.bytes));
        }
        self.items(space, &packet.items, Fate::Lost);
        if !self.is_on_path(space, packet) {
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
        self.items(space, &packet.items, Fate::Lost);
    }

    fn delivered(&mut self, space: Space, items: &[Item]) {
        self.items(space, items, Fate::Acked);
    }
}

/// What became of a packet, or is taken to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Acked,
    Lost,
}

impl Ledger<'_> {
    /// Whether a packet says something about the current path: what becomes of one on another path does not.
    fn is_on_path(&self, space: Space, packet: &SentPacket) -> bool {
        space == Space::Application && packet.path == self.paths.current().generation
    }

    fn items(&mut self, space: Space, items: &[Item], fate: Fate) {
        for item in items {
            self.item(space, item, fate);
        }
    }

    fn item(&mut self, space: Space, item: &Item, fate: Fate) {
        let acked = fate == Fate::Acked;
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
            | Item::MessageFloor { .. } => self.lane(item, fate),
            Item::Crypto { offset, len } if acked => self.crypto.on_acked(space, offset, len),
            Item::Crypto { offset, len } => self.crypto.on_lost(space, offset, len),
            Item::Ack { largest } if acked => self.received[space.index()].on_ack_acked(largest),
            // ACKs are told anew in every packet; a lost one says nothing.
            Item::Ack { .. } => {}
            Item::SymbolAck { largest } => self.symbol_ack(largest, fate),
            Item::NewId { .. } if acked => {}
            Item::NewId { sequence } => self.local_ids.on_lost(sequence),
            Item::RetireId { sequence } if acked => self.remote_ids.on_acked(sequence),
            Item::RetireId { sequence } => self.remote_ids.on_lost(sequence),
            Item::NewToken => self.pending.new_token.told(acked),
            Item::HandshakeDone => self.pending.handshake_done.told(acked),
            Item::GoAway => self.pending.goaway.told(acked),
            Item::FecWindow => self.pending.fec_window.told(acked),
            // Told by `acked` and `lost`, which know the packet.
            Item::MtuProbe { .. } => {}
        }
    }

    fn lane(&mut self, item: &Item, fate: Fate) {
        match fate {
            Fate::Acked => self.lanes.on_acked(item),
            Fate::Lost if self.retransmit => {
                self.counters.resent += 1;
                self.lanes.on_lost(self.now, item);
            }
            Fate::Lost => {}
        }
    }

    fn symbol_ack(&mut self, largest: u64, fate: Fate) {
        let Some(repairs) = &mut self.repairs else { return };
        match fate {
            Fate::Acked => repairs.restorer.on_symbol_ack_acked(largest),
            Fate::Lost => repairs.restorer.on_symbol_ack_lost(),
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
