//! What one shard counts about connections, sessions and messages.

use engine::Counter;
use handler::Code;

use super::{
    journal::JournalStats,
    label::{DatagramDrop, Drop, Family, Status, Transport, code_index},
    quantum::QuantumStats,
    quic::QuicStats,
};

/// What one shard counts about connections, sessions and messages. Only its shard writes; aligned so that no two shards
/// write one cache line.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct ServerStats {
    pub(super) opened: Family<9>,
    pub(super) open: Family<9>,
    pub(super) drops: Family<18>,
    pub(super) errors: Family<12>,
    pub(super) requests: Family<5>,
    pub(super) datagram_drops: Family<3>,
    /// What the Quantum endpoint has counted.
    pub quantum: QuantumStats,
    /// What the QUIC endpoint has counted.
    pub quic: QuicStats,
    /// What the journal has counted.
    pub journal: JournalStats,
    /// Datagrams passed on to the shard that has their connection.
    pub steer_forwarded: Counter,
    /// TLS handshakes that were completed.
    pub tls_handshakes: Counter,
    /// Connections without a hello or a request yet (gauge).
    pub half_open: Counter,
    /// Sessions that are open (gauge).
    pub sessions_open: Counter,
    /// Sessions that said hello.
    pub sessions: Counter,
    /// Of them, those that took up an earlier one.
    pub sessions_resumed: Counter,
    /// Messages from clients.
    pub messages_in: Counter,
    /// Messages to clients.
    pub messages_out: Counter,
    /// Bytes of messages from clients.
    pub message_bytes_in: Counter,
    /// Bytes of messages to clients.
    pub message_bytes_out: Counter,
    /// Times that a client's queue crossed its soft limit.
    pub lagging: Counter,
    /// Topics that are at home here (gauge).
    pub topics: Counter,
    /// Bytes queued for clients (gauge).
    pub queue_bytes: Counter,
}

impl ServerStats {
    /// A connection speaks `transport` from now on.
    pub fn open(&self, transport: Transport) {
        self.opened.at(transport as usize).add(1);
        let open = self.open.at(transport as usize);
        open.set(open.get() + 1);
    }

    /// A connection that spoke `transport` is gone, or speaks another one from now on.
    pub fn close(&self, transport: Transport) {
        let open = self.open.at(transport as usize);
        open.set(open.get().saturating_sub(1));
    }

    /// A message of `bytes` bytes went to a client.
    pub fn sent(&self, bytes: usize) {
        self.messages_out.add(1);
        self.message_bytes_out.add(bytes as u64);
    }

    /// Connections that are open.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.open.sum()
    }

    /// Of them, those that speak `transport`.
    #[must_use]
    pub fn speaking(&self, transport: Transport) -> u64 {
        self.open.at(transport as usize).get()
    }

    /// Something was ended or thrown away by us.
    pub fn drop_for(&self, reason: Drop) {
        self.drops.at(reason as usize).add(1);
    }

    /// What was dropped for a reason.
    #[must_use]
    pub fn dropped(&self, reason: Drop) -> u64 {
        self.drops.at(reason as usize).get()
    }

    /// Datagrams were dropped.
    pub fn drop_datagrams(&self, reason: DatagramDrop, count: u64) {
        self.datagram_drops.at(reason as usize).add(count);
    }

    /// An error was answered to a client.
    pub fn error(&self, code: Code) {
        self.errors.at(code_index(code)).add(1);
    }

    /// An HTTP request was answered.
    pub fn request(&self, status: u16) {
        self.requests.at(Status::of(status) as usize).add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::CODES;

    #[test]
    fn labels_and_families_have_the_same_size_and_order() {
        assert_eq!((Transport::ALL.len(), Drop::ALL.len(), Status::ALL.len(), DatagramDrop::ALL.len()), (9, 18, 5, 3));
        for (index, code) in CODES.iter().enumerate() {
            assert_eq!(code_index(*code), index);
        }
        assert!(Drop::ALL.iter().enumerate().all(|(index, reason)| *reason as usize == index));
        let stats = ServerStats::default();
        Drop::ALL.iter().for_each(|reason| stats.drop_for(*reason));
        assert!(Drop::ALL.iter().all(|reason| stats.dropped(*reason) == 1));
        [100, 204, 301, 404, 503, 999].iter().for_each(|status| stats.request(*status));
        assert_eq!([0, 1, 2, 3, 4].map(|at| stats.requests.at(at).get()), [1, 1, 1, 1, 2]);
    }

    #[test]
    fn a_connection_that_changes_its_protocol_is_still_one() {
        let stats = ServerStats::default();
        stats.open(Transport::New);
        stats.close(Transport::New);
        stats.open(Transport::Http1);
        assert_eq!(stats.connections(), 1);
        stats.close(Transport::Http1);
        stats.close(Transport::Http1);
        assert_eq!(stats.connections(), 0);
    }
}
