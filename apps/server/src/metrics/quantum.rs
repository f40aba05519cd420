//! What the Quantum endpoint of one shard has counted, as the shard shows it to the rest of the process.

use quantum::{Drop, Endpoint};

use super::{catalogue::Kind, label::Family};

/// The name behind `ringshard_quantum_`, the help, whether it only rises, and where the endpoint has it.
pub(super) type Figure = (&'static str, &'static str, Kind, fn(&Endpoint) -> u64);

/// Every figure. Those of packets count connections that have ended: a connection keeps its own until then.
pub(super) const FIGURES: [Figure; 20] = [
    ("connections", "Quantum connections, handshakes included.", Kind::Gauge, |e| e.len() as u64),
    ("half_open", "Quantum handshakes under way.", Kind::Gauge, |e| e.half_open() as u64),
    ("accepted_total", "Quantum connections that clients began.", Kind::Counter, |e| e.stats().accepted),
    ("connected_total", "Quantum connections whose handshake was done.", Kind::Counter, |e| e.stats().connected),
    ("closed_total", "Quantum connections that ended.", Kind::Counter, |e| e.stats().closed),
    ("retries_total", "Clients asked to show their address.", Kind::Counter, |e| e.stats().retries),
    ("resets_total", "Stateless resets sent.", Kind::Counter, |e| e.stats().resets),
    ("version_negotiations_total", "Version negotiations sent.", Kind::Counter, |e| e.stats().versions),
    ("foreign_total", "Datagrams for connections of other shards.", Kind::Counter, |e| e.stats().foreign),
    ("datagrams_received_total", "Datagrams received.", Kind::Counter, |e| e.stats().datagrams_received),
    ("datagrams_sent_total", "Datagrams sent.", Kind::Counter, |e| e.stats().datagrams_sent),
    ("trains_sent_total", "Trains that they were sent in.", Kind::Counter, |e| e.stats().trains_sent),
    ("bytes_received_total", "Bytes of datagrams received.", Kind::Counter, |e| e.stats().bytes_received),
    ("bytes_sent_total", "Bytes of datagrams sent.", Kind::Counter, |e| e.stats().bytes_sent),
    ("packets_lost_total", "Packets lost.", Kind::Counter, |e| e.stats().ended.packets_lost),
    ("resent_total", "Pieces of lost packets sent again.", Kind::Counter, |e| e.stats().ended.resent),
    ("repairs_sent_total", "Rows of parity sent.", Kind::Counter, |e| e.stats().ended.repairs_sent),
    ("recovered_total", "Packets recovered from parity.", Kind::Counter, |e| e.stats().ended.symbols_recovered),
    ("saved_total", "Packets that peers recovered.", Kind::Counter, |e| e.stats().ended.symbols_saved),
    ("moves_total", "Moves of clients to another address.", Kind::Counter, |e| e.stats().ended.moves),
];

const BYTES_RECEIVED: usize = 12;
const BYTES_SENT: usize = 13;

/// The figures of one shard.
#[derive(Debug, Default)]
pub struct QuantumStats {
    pub(super) figures: Family<{ FIGURES.len() }>,
    pub(super) drops: Family<{ Drop::COUNT }>,
}

impl QuantumStats {
    /// Shows what the endpoint has counted. Only its shard may call it.
    pub(crate) fn show(&self, endpoint: &Endpoint) {
        for (at, (_, _, _, pick)) in FIGURES.iter().enumerate() {
            self.figures.at(at).set(pick(endpoint));
        }
        for (at, count) in endpoint.stats().dropped.iter().enumerate() {
            self.drops.at(at).set(*count);
        }
    }

    /// A figure by its name behind `ringshard_quantum_`.
    #[must_use]
    pub fn figure(&self, name: &str) -> Option<u64> {
        let at = FIGURES.iter().position(|(known, ..)| *known == name)?;
        Some(self.figures.at(at).get())
    }

    /// Bytes of datagrams received and sent.
    #[must_use]
    pub fn bytes(&self) -> (u64, u64) {
        (self.figures.at(BYTES_RECEIVED).get(), self.figures.at(BYTES_SENT).get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_are_where_they_are_looked_for() {
        assert_eq!(FIGURES[BYTES_RECEIVED].0, "bytes_received_total");
        assert_eq!(FIGURES[BYTES_SENT].0, "bytes_sent_total");
        assert!(Drop::ALL.iter().enumerate().all(|(at, (reason, _))| *reason as usize == at));
    }
}
