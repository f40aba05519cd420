//! The figures of the Quantum endpoint.

use quantum::{Drop, Endpoint};

use super::{
    catalogue::Kind,
    endpoint::{Counted, EndpointStats, Figure},
};

/// What the Quantum endpoint of one shard has counted.
pub type QuantumStats = EndpointStats<Endpoint, { FIGURES.len() }, { Drop::COUNT }>;

impl Counted for Endpoint {
    const NAME: &'static str = "quantum";

    const FIGURES: &'static [Figure<Self>] = &FIGURES;

    fn dropped(&self) -> &[u64] {
        &self.stats().dropped
    }
}

/// Every figure.
const FIGURES: [Figure<Endpoint>; 20] = [
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
