//! What endpoints and connections count.

use std::time::Duration;

/// Why a datagram was dropped.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Drop {
    /// Too short for a packet.
    Short,
    /// Not a packet of QUIC version 1.
    Malformed,
    /// A client's first id is too short to be random.
    IdTooShort,
    /// An Initial in a datagram below 1,200 bytes.
    InitialTooSmall,
    /// A version that is not spoken here, and that is not answered.
    Version,
    /// No connection of that id, and nothing to answer.
    UnknownConnection,
    /// A client's first packet whose authentication failed, or that holds what it must not.
    Undecryptable,
    /// Its connection could not use it: authentication failed, it was received before, or its keys are gone.
    Unusable,
    /// Its connection was closed for what was in it.
    Violation,
    /// Too many handshakes are open.
    HalfOpenMax,
    /// Too many connections are open.
    ConnectionsMax,
    /// The endpoint takes no new connections.
    Refused,
    /// A token of ours, but too old, or of another address or id.
    Token,
    /// Too many answers wait, or too many resets were sent.
    AnswersMax,
}

impl Drop {
    /// How many reasons there are.
    pub const COUNT: usize = 14;

    /// All reasons with their names, in the order of their numbers.
    pub const ALL: [(Drop, &'static str); Self::COUNT] = [
        (Drop::Short, "short"),
        (Drop::Malformed, "malformed"),
        (Drop::IdTooShort, "id_too_short"),
        (Drop::InitialTooSmall, "initial_too_small"),
        (Drop::Version, "version"),
        (Drop::UnknownConnection, "unknown_connection"),
        (Drop::Undecryptable, "undecryptable"),
        (Drop::Unusable, "unusable"),
        (Drop::Violation, "violation"),
        (Drop::HalfOpenMax, "half_open_max"),
        (Drop::ConnectionsMax, "connections_max"),
        (Drop::Refused, "refused"),
        (Drop::Token, "token"),
        (Drop::AnswersMax, "answers_max"),
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
    /// Connections whose handshake was done with a ticket of an earlier one.
    pub resumed: u64,
    /// Connections with 0-RTT.
    pub early: u64,
    /// Connections that ended.
    pub closed: u64,
    /// Retry packets made.
    pub retries: u64,
    /// Stateless resets made.
    pub resets: u64,
    /// Version negotiation packets made.
    pub versions: u64,
    /// Addresses that peers moved to.
    pub moves: u64,
    /// Ids issued after the handshake.
    pub ids_issued: u64,
    /// Ids that peers gave back.
    pub ids_retired: u64,
    /// Datagrams dropped, by reason ([`Drop`] as an index).
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
    /// Payload of the largest datagram that the path carries.
    pub mtu: usize,
    /// Packets sent.
    pub packets_sent: u64,
    /// Packets received.
    pub packets_received: u64,
    /// Packets declared lost.
    pub packets_lost: u64,
    /// Packets declared lost that arrived after all.
    pub packets_spurious: u64,
    /// Bytes of datagrams sent.
    pub bytes_sent: u64,
    /// Bytes of datagrams received.
    pub bytes_received: u64,
    /// Bytes of streams that were sent again.
    pub stream_bytes_resent: u64,
    /// Times that the rule of three bytes for one held a server back.
    pub amplification_limited: u64,
}

impl Stats {
    /// Adds the counters of a connection that ended; gauges stay.
    pub fn add(&mut self, other: &Stats) {
        self.packets_sent += other.packets_sent;
        self.packets_received += other.packets_received;
        self.packets_lost += other.packets_lost;
        self.packets_spurious += other.packets_spurious;
        self.bytes_sent += other.bytes_sent;
        self.bytes_received += other.bytes_received;
        self.stream_bytes_resent += other.stream_bytes_resent;
        self.amplification_limited += other.amplification_limited;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_in_the_order_of_their_numbers() {
        assert!(Drop::ALL.iter().enumerate().all(|(at, (reason, _))| *reason as usize == at));
    }
}
