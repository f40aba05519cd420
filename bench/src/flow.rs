//! Requests over UDP: one flow per socket, in trains, with the account of what came back.

use engine::{Datagrams, Train};

use crate::{connection::Setup, ledger::Ledger, stamp::Stamp, tally::Tally};

/// Without any answer for this long, what is outstanding counts as lost and the closed loop goes on.
pub const SILENCE_NS: u64 = 200_000_000;

/// One socket's requests.
#[derive(Debug)]
pub struct Flow {
    id: u32,
    sent: u64,
    // Requests that an answer is still waited for; a loss is forgiven here and stays in the ledger.
    waiting: u64,
    heard_ns: u64,
    ledger: Ledger,
}

impl Flow {
    /// Flow number `id`.
    #[must_use]
    pub fn new(id: u32) -> Self {
        Self { id, sent: 0, waiting: 0, heard_ns: 0, ledger: Ledger::default() }
    }

    /// Requests without an answer that are still waited for.
    #[must_use]
    pub fn outstanding(&self) -> u64 {
        self.waiting
    }

    /// Requests so far.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// What arrived.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Writes one train into `out` and says how it goes.
    pub fn request(
        &mut self,
        setup: &Setup,
        now_ns: u64,
        planned_ns: u64,
        tally: &mut Tally,
        out: &mut Vec<u8>,
    ) -> Train {
        let size = setup.options.payload_bytes();
        for _ in 0..setup.options.amount.train {
            let late_ns = tally.request(now_ns, planned_ns);
            Stamp { connection: self.id, number: self.sent, planned_ns, late_ns }.write(size, out);
            self.sent += 1;
            self.waiting += 1;
        }
        if self.heard_ns == 0 {
            self.heard_ns = now_ns;
        }
        Train { to: setup.options.target, segment: u16::try_from(size).unwrap_or(u16::MAX), ecn: 0 }
    }

    /// Datagrams came back.
    pub fn handle(&mut self, now_ns: u64, mut datagrams: Datagrams<'_>, tally: &mut Tally) {
        self.heard_ns = now_ns;
        for datagram in datagrams.iter_mut() {
            match Stamp::read(datagram) {
                Some(stamp) if stamp.connection == self.id && stamp.number < self.sent => {
                    if self.ledger.note(stamp.number) {
                        self.waiting = self.waiting.saturating_sub(1);
                        tally.answer(now_ns, stamp.planned_ns, stamp.late_ns);
                    }
                }
                Some(_) => tally.fault("an answer to somebody else's request"),
                None => tally.corrupt += 1,
            }
        }
    }

    /// Gives up what is outstanding after a silence; true if it did.
    pub fn forgive(&mut self, now_ns: u64) -> bool {
        let silent = self.waiting > 0 && now_ns.saturating_sub(self.heard_ns) > SILENCE_NS;
        if silent {
            self.waiting = 0;
            self.heard_ns = now_ns;
        }
        silent
    }
}
