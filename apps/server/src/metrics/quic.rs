//! What the QUIC endpoint of one shard has counted, as the shard shows it to the rest of the process.

use quic::{Drop, Endpoint};

use super::{catalogue::Kind, label::Family};

/// The name behind `ringshard_quic_`, the help, whether it only rises, and where the endpoint has it.
pub(super) type Figure = (&'static str, &'static str, Kind, fn(&Endpoint) -> u64);

/// Every figure. Those of packets count connections that have ended: a connection keeps its own until then.
pub(super) const FIGURES: [Figure; 21] = [
    ("connections", "QUIC connections, handshakes included.", Kind::Gauge, |e| e.len() as u64),
    ("half_open", "QUIC handshakes under way.", Kind::Gauge, |e| e.half_open() as u64),
    ("accepted_total", "QUIC connections that clients began.", Kind::Counter, |e| e.stats().accepted),
    ("connected_total", "QUIC connections whose handshake was done.", Kind::Counter, |e| e.stats().connected),
    ("resumed_total", "Of them, those with a ticket of an earlier one.", Kind::Counter, |e| e.stats().resumed),
    ("early_total", "QUIC connections with 0-RTT.", Kind::Counter, |e| e.stats().early),
    ("closed_total", "QUIC connections that ended.", Kind::Counter, |e| e.stats().closed),
    ("retries_total", "QUIC clients asked to show their address.", Kind::Counter, |e| e.stats().retries),
    ("resets_total", "Stateless resets sent over QUIC.", Kind::Counter, |e| e.stats().resets),
    ("version_negotiations_total", "QUIC version negotiations sent.", Kind::Counter, |e| e.stats().versions),
    ("foreign_total", "QUIC datagrams for connections of other shards.", Kind::Counter, |e| e.stats().foreign),
    ("datagrams_received_total", "QUIC datagrams received.", Kind::Counter, |e| e.stats().datagrams_received),
    ("datagrams_sent_total", "QUIC datagrams sent.", Kind::Counter, |e| e.stats().datagrams_sent),
    ("trains_sent_total", "Trains that QUIC datagrams were sent in.", Kind::Counter, |e| e.stats().trains_sent),
    ("bytes_received_total", "Bytes of QUIC datagrams received.", Kind::Counter, |e| e.stats().bytes_received),
    ("bytes_sent_total", "Bytes of QUIC datagrams sent.", Kind::Counter, |e| e.stats().bytes_sent),
    ("packets_lost_total", "QUIC packets lost.", Kind::Counter, |e| e.stats().ended.packets_lost),
    ("bytes_resent_total", "Bytes of QUIC streams sent again.", Kind::Counter, |e| e.stats().ended.stream_bytes_resent),
    ("moves_total", "Moves of QUIC clients to another address.", Kind::Counter, |e| e.stats().moves),
    ("ids_issued_total", "QUIC connection ids issued after handshakes.", Kind::Counter, |e| e.stats().ids_issued),
    ("ids_retired_total", "QUIC connection ids given back.", Kind::Counter, |e| e.stats().ids_retired),
];

const BYTES_RECEIVED: usize = 14;
const BYTES_SENT: usize = 15;

/// The figures of one shard.
#[derive(Debug, Default)]
pub struct QuicStats {
    pub(super) figures: Family<{ FIGURES.len() }>,
    pub(super) drops: Family<{ Drop::COUNT }>,
}

impl QuicStats {
    /// Shows what the endpoint has counted. Only its shard may call it.
    pub(crate) fn show(&self, endpoint: &Endpoint) {
        for (at, (_, _, _, pick)) in FIGURES.iter().enumerate() {
            self.figures.at(at).set(pick(endpoint));
        }
        for (at, count) in endpoint.stats().dropped.iter().enumerate() {
            self.drops.at(at).set(*count);
        }
    }

    /// A figure by its name behind `ringshard_quic_`.
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
    }
}
