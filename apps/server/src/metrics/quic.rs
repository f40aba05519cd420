//! The figures of the QUIC endpoint.

use quic::{Drop, Endpoint};

use super::{
    catalogue::Kind,
    endpoint::{Counted, EndpointStats, Figure},
};

/// What the QUIC endpoint of one shard has counted.
pub type QuicStats = EndpointStats<Endpoint, { FIGURES.len() }, { Drop::COUNT }>;

impl Counted for Endpoint {
    const NAME: &'static str = "quic";

    const FIGURES: &'static [Figure<Self>] = &FIGURES;

    fn dropped(&self) -> &[u64] {
        &self.stats().dropped
    }
}

/// Every figure.
const FIGURES: [Figure<Endpoint>; 21] = [
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
