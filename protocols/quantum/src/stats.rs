//! What endpoints and connections count.

use std::time::Duration;

/// Why a datagram, or a packet in it, was dropped.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Drop {
    /// Too short for a packet.
    Short,
    /// Not a packet of Quantum.
    Malformed,
    /// No connection of that id.
    UnknownConnection,
    /// The authentication failed.
    Undecryptable,
    /// A packet number that was received before.
    Duplicate,
    /// Keys for it are not there, or not any more.
    NoKeys,
    /// An Initial in a datagram below 1,200 bytes.
    InitialTooSmall,
    /// A version that is not spoken here.
    Version,
    /// Too many handshakes are open.
    HalfOpenMax,
    /// Too many connections are open.
    ConnectionsMax,
    /// The endpoint takes no new connections.
    Refused,
    /// A token that is not ours, or too old.
    Token,
    /// From an address that a connection cannot move to.
    Path,
}

impl Drop {
    /// How many reasons there are.
    pub const COUNT: usize = 13;

    /// All reasons with their names, in the order of their numbers.
    pub const ALL: [(Drop, &'static str); Self::COUNT] = [
        (Drop::Short, "short"),
        (Drop::Malformed, "malformed"),
        (Drop::UnknownConnection, "unknown_connection"),
        (Drop::Undecryptable, "undecryptable"),
        (Drop::Duplicate, "duplicate"),
        (Drop::NoKeys, "no_keys"),
        (Drop::InitialTooSmall, "initial_too_small"),
        (Drop::Version, "version"),
        (Drop::HalfOpenMax, "half_open_max"),
        (Drop::ConnectionsMax, "connections_max"),
        (Drop::Refused, "refused"),
        (Drop::Token, "token"),
        (Drop::Path, "path"),
    ];
}

/// What an endpoint counted.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct EndpointStats {
    /// Datagrams received.
    pub datagrams_received: u64,
    /// Bytes received.
    pub bytes_received: u64,
    /// Datagrams sent.
    pub datagrams_sent: u64,
    /// Trains they were sent in.
    pub trains_sent: u64,
    /// Bytes sent.
    pub bytes_sent: u64,
    /// Datagrams of other shards' connections.
    pub foreign: u64,
    /// Connections that clients began.
    pub accepted: u64,
    /// Connections whose handshake was done.
    pub connected: u64,
    /// Connections that ended.
    pub closed: u64,
    /// Retry packets sent.
    pub retries: u64,
    /// Stateless resets sent.
    pub resets: u64,
    /// Version negotiation packets sent.
    pub versions: u64,
    /// Datagrams and packets dropped, by reason ([`Drop`] as an index).
    pub dropped: [u64; Drop::COUNT],
    /// What all connections that ended counted.
    pub ended: Stats,
}

/// What a connection counted.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Stats {
    /// Smoothed round trip.
    pub rtt: Duration,
    /// The smallest round trip.
    pub rtt_min: Duration,
    /// Bytes of the congestion window.
    pub window: u64,
    /// Bytes in flight.
    pub in_flight: u64,
    /// Bytes per second that pacing lets go.
    pub pacing_rate: u64,
    /// Payload of the largest datagram that the path carries.
    pub mtu: u16,
    /// Packets sent.
    pub packets_sent: u64,
    /// Packets received.
    pub packets_received: u64,
    /// Packets declared lost.
    pub packets_lost: u64,
    /// Packets declared lost that arrived after all.
    pub packets_spurious: u64,
    /// Packets received twice.
    pub packets_duplicate: u64,
    /// Bytes of datagrams sent.
    pub bytes_sent: u64,
    /// Bytes of datagrams received.
    pub bytes_received: u64,
    /// Items of lost packets that were sent again.
    pub resent: u64,
    /// Probe packets after a timeout.
    pub probes: u64,
    /// Symbols protected.
    pub symbols_sent: u64,
    /// Rows of parity sent.
    pub repairs_sent: u64,
    /// Bytes of parity sent.
    pub repair_bytes_sent: u64,
    /// Rows of parity received.
    pub repairs_received: u64,
    /// Of those, rows that contradicted what was received: their symbols were not restored.
    pub repairs_mismatched: u64,
    /// Symbols recovered here.
    pub symbols_recovered: u64,
    /// Symbols that the peer recovered: their data was not sent again.
    pub symbols_saved: u64,
    /// Addresses that the connection moved to.
    pub moves: u64,
    /// Key updates.
    pub key_updates: u64,
    /// Datagrams of either direction that made room for newer ones.
    pub datagrams_dropped: u64,
    /// Messages that were given up because their time was over, or a newer one replaced them.
    pub messages_dropped: u64,
}

impl Stats {
    /// Adds the counters of a connection that ended; gauges stay.
    pub fn add(&mut self, other: &Stats) {
        self.packets_sent += other.packets_sent;
        self.packets_received += other.packets_received;
        self.packets_lost += other.packets_lost;
        self.packets_spurious += other.packets_spurious;
        self.packets_duplicate += other.packets_duplicate;
        self.bytes_sent += other.bytes_sent;
        self.bytes_received += other.bytes_received;
        self.resent += other.resent;
        self.probes += other.probes;
        self.symbols_sent += other.symbols_sent;
        self.repairs_sent += other.repairs_sent;
        self.repair_bytes_sent += other.repair_bytes_sent;
        self.repairs_received += other.repairs_received;
        self.repairs_mismatched += other.repairs_mismatched;
        self.symbols_recovered += other.symbols_recovered;
        self.symbols_saved += other.symbols_saved;
        self.moves += other.moves;
        self.key_updates += other.key_updates;
        self.datagrams_dropped += other.datagrams_dropped;
        self.messages_dropped += other.messages_dropped;
    }
}
