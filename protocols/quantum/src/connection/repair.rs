//! Forward error correction of one connection: made when the first symbol is sent or received, and not before.

use std::time::Instant;

use super::{Connection, build::DATAGRAM_OVERHEAD};
use crate::{
    config::FecMode,
    error::Checked,
    fec::{Known, Policy, Protector, Restorer, Window},
    frame::{Repair, SymbolAck},
};

/// Both directions of it.
pub(crate) struct Repairs {
    pub(crate) policy: Policy,
    pub(crate) protector: Protector,
    pub(crate) restorer: Restorer,
    /// Losses so far that were none, as the policy knows.
    spurious: u64,
}

impl Repairs {
    /// Whether a row of parity is due, or recovered symbols are to be told.
    pub(super) fn has_frames(&self, now: Instant) -> bool {
        self.protector.repair_due(now).is_some() || self.restorer.symbol_ack().is_some_and(|set| !set.is_empty())
    }
}

impl Connection {
    /// The connection's error correction, made now if need be.
    pub(super) fn repairs(&mut self) -> &mut Repairs {
        let (transport, peer) = (&self.transport, &self.peer);
        self.repairs.get_or_insert_with(|| {
            let window = Window { symbols: transport.symbols_max, bytes: transport.symbol_bytes_max };
            let repairs = Box::new(Repairs {
                policy: Policy::new(transport.fec),
                protector: Protector::new(Window { symbols: peer.symbols_max, bytes: peer.symbol_bytes_max }),
                restorer: Restorer::new(window),
                spurious: 0,
            });
            #[cfg(feature = "simulation")]
            let repairs = super::trial::start_symbols_at(repairs, transport.first_number);
            repairs
        })
    }

    /// Whether the peer can use parity, and we may have reason to send it.
    pub(super) fn may_protect(&self) -> bool {
        self.transport.fec != FecMode::Off && self.has_peer && self.peer.symbols_max > 0
    }

    pub(super) fn on_symbol(&mut self, now: Instant, sid: u16, data: &[u8]) -> Checked<Known> {
        self.repairs().restorer.on_symbol(now, sid, data)
    }

    pub(super) fn on_repair(&mut self, now: Instant, repair: &Repair<'_>) -> Checked<()> {
        self.counters.repairs_received += 1;
        let rtt = self.recovery.rtt.smoothed();
        let restorer = &mut self.repairs().restorer;
        restorer.set_rtt(rtt);
        restorer.on_repair(now, repair)
    }

    /// What the peer recovered is no longer to be sent again. Losses are acted on behind it, at the end of the datagram.
    pub(super) fn on_symbol_ack(&mut self, now: Instant, ack: &SymbolAck<'_>) -> Checked<()> {
        let before = self.recovery.counts().recovered;
        let (recovery, mut ledger) = super::ledger::ledger!(self, now);
        recovery.on_symbols_recovered(ack, &mut ledger)?;
        let saved = self.recovery.counts().recovered - before;
        self.counters.symbols_saved += saved;
        if let Some(repairs) = &mut self.repairs {
            repairs.policy.on_recovered(saved);
        }
        Ok(())
    }

    /// Frames of symbols that parity brought back.
    pub(super) fn take_recovered(&mut self) -> Checked<()> {
        while let Some(repairs) = &mut self.repairs
            && let Some((_, symbol)) = repairs.restorer.poll_recovered()
        {
            self.counters.symbols_recovered += 1;
            let result = self.inner_frames(&symbol, None);
            if let Some(repairs) = &mut self.repairs {
                repairs.restorer.recycle(symbol);
            }
            result?;
        }
        Ok(())
    }

    /// Tells the policy how things are, and the protector what it decides. Without a loss there is nothing to decide.
    pub(super) fn decide_protection(&mut self, now: Instant) {
        let nothing_lost = self.repairs.is_none() && self.recovery.counts().lost == 0;
        if !self.may_protect() || (nothing_lost && self.transport.fec == FecMode::Adaptive) {
            return;
        }
        let spurious = self.recovery.counts().spurious;
        let (rtt, bulk) = (self.recovery.rtt.smoothed(), self.lanes.send_is_bulk());
        let payload = self.mtu() - DATAGRAM_OVERHEAD;
        let repairs = self.repairs();
        for _ in repairs.spurious..spurious {
            repairs.policy.on_spurious_loss();
        }
        repairs.spurious = spurious;
        let ratio = repairs.policy.decide(now, rtt, bulk);
        repairs.protector.set_payload_max(payload);
        repairs.protector.configure(now, ratio);
    }
}
