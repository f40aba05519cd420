//! The connections of one shard of the generator: opened a few at a time, found by their stream, kept alive, lost.

use std::{
    collections::VecDeque,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use engine::{Io, Stream};

use crate::{
    connection::{Connection, Scenario, Setup},
    options::Proto,
    order::Order,
    tunnel::Carrier,
};

/// Connections of a shard that are being opened at once: below any listener's backlog.
const OPENING_MAX: u32 = 256;
/// How often idle sessions say that they are there: below the server's limit of 60 s with room for a lost turn.
const KEEP_ALIVE_NS: u64 = 20_000_000_000;
/// No connection has this number.
const NONE: u32 = u32::MAX;

/// All connections of a shard, numbered from 0; number `n` is number `n * shards + shard` of the whole run.
pub struct Crowd {
    setup: Arc<Setup>,
    shard: u32,
    shards: u32,
    connections: Vec<Connection>,
    by_stream: Vec<u32>,
    target: u32,
    opening: u32,
    ready: u32,
    failed: u32,
    settled: bool,
    keep_alive: VecDeque<(u64, u32)>,
}

impl Crowd {
    /// Nobody yet.
    #[must_use]
    pub fn new(setup: Arc<Setup>, shard: u32) -> Self {
        Self {
            shard,
            shards: u32::from(setup.options.shards()),
            setup,
            connections: Vec::new(),
            by_stream: Vec::new(),
            target: 0,
            opening: 0,
            ready: 0,
            failed: 0,
            settled: true,
            keep_alive: VecDeque::new(),
        }
    }

    /// How many of `total`, dealt out in turn, are this shard's.
    #[must_use]
    pub fn share(&self, total: u32) -> u32 {
        (total + self.shards - 1 - self.shard) / self.shards
    }

    /// Where the publisher of a fan-out is, if it is here.
    #[must_use]
    pub fn publisher(&self) -> Option<usize> {
        let id = self.setup.connections() - 1;
        (self.setup.scenario == Scenario::Fanout && id % self.shards == self.shard).then(|| (id / self.shards) as usize)
    }

    /// All connections so far, open or not.
    #[must_use]
    pub fn all(&self) -> &[Connection] {
        &self.connections
    }

    /// The numbers of all connections so far in the whole run.
    pub fn ids(&self) -> impl Iterator<Item = u32> {
        let (shard, shards) = (self.shard, self.shards);
        (0..self.connections.len() as u32).map(move |local| local * shards + shard)
    }

    /// One connection, if it may send requests, and its stream.
    pub fn ready_one(&mut self, local: usize) -> Option<(&mut Connection, Stream)> {
        let connection = self.connections.get_mut(local)?;
        let stream = connection.stream.filter(|_| connection.is_ready())?;
        Some((connection, stream))
    }

    /// How many may send requests.
    #[must_use]
    pub fn ready(&self) -> u32 {
        self.ready
    }

    /// Asks for this shard's part of `total` connections.
    pub fn order(&mut self, total: u32) {
        self.target = self.share(total);
        self.settled = false;
    }

    /// Opens as many as may be opening at once. Once all that were ordered are ready or have failed: how many failed.
    pub fn open_more(&mut self, io: &mut Io<Order>, mut tunnel: Option<&mut (dyn Carrier + 'static)>) -> Option<u32> {
        while self.opening < OPENING_MAX && (self.connections.len() as u32) < self.target {
            let local = self.connections.len() as u32;
            let id = local * self.shards + self.shard;
            self.connections.push(Connection::new(id, &self.setup));
            self.opening += 1;
            match &mut tunnel {
                Some(tunnel) => {
                    if tunnel.connect(io, &self.setup, local).is_err() {
                        self.lost(local);
                    }
                }
                None => {
                    let source = source(id, self.setup.options.amount.sources);
                    io.connect(local.into(), source, self.setup.options.target);
                }
            }
        }
        let settles = !self.settled && self.ready + self.failed >= self.target;
        self.settled |= settles;
        settles.then_some(self.failed)
    }

    /// A connection is up; what it says first goes to `out`.
    pub fn connected(&mut self, now_ns: u64, stream: Stream, token: u64, out: &mut Vec<u8>) {
        let (local, slot) = (token as u32, stream.index as usize);
        if self.by_stream.len() <= slot {
            self.by_stream.resize(slot + 1, NONE);
        }
        self.by_stream[slot] = local;
        let connection = &mut self.connections[local as usize];
        connection.stream = Some(stream);
        connection.open(&self.setup, out);
        if connection.is_ready() {
            self.became_ready(now_ns, local);
        }
    }

    /// Which connection a stream is, if it still is one.
    #[must_use]
    pub fn find(&self, stream: Stream) -> Option<u32> {
        let local = *self.by_stream.get(stream.index as usize)?;
        let connection = self.connections.get(local as usize)?;
        (connection.stream == Some(stream)).then_some(local)
    }

    /// Whether a connection was begun and is neither ready nor lost.
    #[must_use]
    pub fn is_opening(&self, local: u32) -> bool {
        self.connections.get(local as usize).is_some_and(|one| one.stream.is_none() && !one.is_ready())
    }

    /// The connection with this number.
    pub fn one(&mut self, local: u32) -> &mut Connection {
        &mut self.connections[local as usize]
    }

    /// A connection's handshake is over.
    pub fn became_ready(&mut self, now_ns: u64, local: u32) {
        self.opening -= 1;
        self.ready += 1;
        let alone = self.setup.options.raw || self.setup.options.proto == Proto::Quantum;
        // The server of a Quantum session asks by itself, and an acknowledgement is enough.
        if self.setup.scenario == Scenario::Idle && !alone {
            self.keep_alive.push_back((now_ns + KEEP_ALIVE_NS, local));
        }
    }

    /// A connection is gone, or never came.
    pub fn lost(&mut self, local: u32) {
        let connection = &mut self.connections[local as usize];
        if connection.is_ready() {
            self.ready -= 1;
        } else {
            self.opening -= 1;
        }
        self.failed += 1;
        connection.close();
    }

    /// The next connection that has to say that it is there, if one is due.
    pub fn next_keep_alive(&mut self, now_ns: u64) -> Option<usize> {
        let (due_ns, local) = *self.keep_alive.front()?;
        if due_ns > now_ns {
            return None;
        }
        self.keep_alive.pop_front();
        if self.connections[local as usize].is_ready() {
            self.keep_alive.push_back((due_ns + KEEP_ALIVE_NS, local));
        }
        Some(local as usize)
    }

    /// When the next connection is due to say that it is there.
    #[must_use]
    pub fn deadline_ns(&self) -> Option<u64> {
        self.keep_alive.front().map(|due| due.0)
    }
}

/// The source address of a connection: dealt out over 127.1.0.0/16, so that no single address runs out of ports.
pub(crate) fn source(id: u32, sources: u16) -> Option<IpAddr> {
    let number = id.checked_rem(u32::from(sources))?;
    let [_, _, high, low] = (number + 1).to_be_bytes();
    Some(IpAddr::V4(Ipv4Addr::new(127, 1, high, low)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_spread_and_never_the_network_itself() {
        assert_eq!(source(7, 0), None);
        let all: std::collections::BTreeSet<_> = (0..1_000).filter_map(|id| source(id, 300)).collect();
        assert_eq!(all.len(), 300);
        assert_eq!(all.first(), Some(&IpAddr::V4(Ipv4Addr::new(127, 1, 0, 1))));
    }
}
