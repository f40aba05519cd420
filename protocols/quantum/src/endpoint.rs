//! All connections of one socket: which datagram belongs to which, who may begin one, and whose turn it is to send.

mod accept;
mod table;
mod timer;

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    time::{Duration, Instant},
};

use rand::{RngCore, SeedableRng, rngs::StdRng};

use crate::{
    config::{EndpointConfig, TRAIN_BYTES_MAX},
    connection::{Connection, Role, Start},
    crypto::{ClientConfig, ConfigError, ServerConfig},
    event::{Event, Handle},
    guuid::Guuid,
    packet,
    stats::{Drop, EndpointStats},
};

use table::Table;
use timer::Timers;

/// How a datagram came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Meta {
    /// Who sent it.
    pub remote: SocketAddr,
    /// The two ECN bits of the IP header.
    pub ecn: u8,
}

/// What became of a datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It belonged to a connection, began one, or was answered.
    Taken,
    /// It belongs to this shard: hand it over.
    Foreign(u16),
    /// It was dropped and counted.
    Dropped(Drop),
}

/// A train to be sent: the bytes are in the caller's buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Transmit {
    /// To whom.
    pub to: SocketAddr,
    /// Bytes per datagram; the last one may be shorter.
    pub segment: usize,
    /// The two ECN bits of the IP header.
    pub ecn: u8,
}

/// Why no connection could be begun.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ConnectError {
    /// The limit of connections is met.
    #[error("too many connections")]
    ConnectionsMax,
    /// The name cannot be in a certificate.
    #[error("`server_name` is neither a DNS name nor an address")]
    ServerName,
    /// TLS refused the configuration.
    #[error("the TLS configuration cannot be used")]
    Tls,
    /// The endpoint drains.
    #[error("the endpoint takes no new connections")]
    Draining,
}

/// All connections of one socket.
#[derive(Debug)]
pub struct Endpoint {
    config: EndpointConfig,
    server: Option<ServerConfig>,
    table: Table,
    timers: Timers,
    rng: StdRng,
    /// Connections that may have something to send or to tell, in turn.
    dirty: VecDeque<Handle>,
    events: VecDeque<(Handle, Event)>,
    /// Answers without a connection: Retry, version negotiation, stateless reset.
    answers: VecDeque<(SocketAddr, Vec<u8>)>,
    half_open: usize,
    /// Address tokens of servers that were visited, for the next visit.
    tokens: BTreeMap<(SocketAddr, Box<str>), Vec<u8>>,
    draining: bool,
    stats: EndpointStats,
}

/// Answers without a connection that may wait to be sent; further ones are not made.
const ANSWERS_MAX: usize = 256;

/// How soon a connection is asked again that has something due and may not send it.
const RETRY_AFTER: Duration = Duration::from_millis(1);

/// Servers whose tokens are kept.
const TOKENS_MAX: usize = 64;

impl Endpoint {
    /// An endpoint without connections. With a server configuration it accepts; `seed` decides all its random numbers.
    ///
    /// # Panics
    /// If the transport of the configuration cannot work. Who takes one from somewhere else asks
    /// [`Transport::check`](crate::Transport::check) first.
    #[must_use]
    pub fn new(config: EndpointConfig, server: Option<ServerConfig>, seed: [u8; 32]) -> Self {
        if let Err(error) = config.transport.check() {
            panic!("`Transport` cannot work: {}", error.reason);
        }
        crate::fec::warm();
        let mut rng = StdRng::from_seed(seed);
        Self {
            table: Table::new([rng.next_u64(), rng.next_u64(), rng.next_u64(), rng.next_u64()]),
            timers: Timers::default(),
            rng,
            config,
            server,
            dirty: VecDeque::new(),
            events: VecDeque::new(),
            answers: VecDeque::new(),
            half_open: 0,
            tokens: BTreeMap::new(),
            draining: false,
            stats: EndpointStats::default(),
        }
    }

    /// A datagram arrived. `unix_ms` is the wall clock, for the ids and tokens that are made.
    pub fn handle(&mut self, now: Instant, unix_ms: u64, meta: Meta, datagram: &mut [u8]) -> Verdict {
        self.stats.datagrams_received += 1;
        self.stats.bytes_received += datagram.len() as u64;
        let Some(to) = packet::destination(datagram) else {
            return self.dropped(if datagram.len() < packet::SHORT_HEAD { Drop::Short } else { Drop::Malformed });
        };
        if let Some(handle) = self.table.by_id(to) {
            return self.deliver(now, unix_ms, handle, meta, datagram);
        }
        //= SPEC.md#2
        //# A shard that receives a packet whose id leads to another shard MUST hand it over there and count it.
        if !self.config.router.is_mine(to) && !self.is_reset(datagram) {
            self.stats.foreign += 1;
            return Verdict::Foreign(self.config.router.shard_of(to.word()));
        }
        self.stranger(now, unix_ms, meta, to, datagram)
    }

    /// A connection's next train of datagrams goes into `out`, which is cleared first; `None`: nothing is due now.
    pub fn poll_transmit(&mut self, now: Instant, out: &mut Vec<u8>) -> Option<Transmit> {
        out.clear();
        if let Some((to, bytes)) = self.answers.pop_front() {
            out.extend_from_slice(&bytes);
            return Some(self.counted(Transmit { to, segment: bytes.len(), ecn: 0 }, out.len()));
        }
        while let Some(&handle) = self.dirty.front() {
            self.dirty.pop_front();
            let Some(connection) = self.table.get_mut(handle) else { continue };
            let transmit = connection.poll_transmit(now, out);
            if transmit.is_some() {
                self.dirty.push_back(handle);
            } else {
                connection.queued = false;
            }
            self.settle(now, handle);
            if let Some(transmit) = transmit {
                debug_assert!(out.len() <= TRAIN_BYTES_MAX, "a train fits in one send");
                return Some(self.counted(transmit, out.len()));
            }
        }
        None
    }

    /// What happened, oldest first.
    pub fn poll_event(&mut self) -> Option<(Handle, Event)> {
        self.events.pop_front()
    }

    /// When [`Endpoint::handle_timeout`] must be called at the latest.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(handle) = self.timers.pop(now) {
            let Some(connection) = self.table.get_mut(handle) else { continue };
            if connection.armed.is_some_and(|at| at <= now) {
                connection.armed = None;
            }
            if connection.deadline().is_some_and(|at| at <= now) {
                connection.handle_timeout(now);
            }
            self.touch(handle);
            self.settle(now, handle);
        }
    }

    /// Begins a connection to a server.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub fn connect(
        &mut self,
        now: Instant,
        unix_ms: u64,
        remote: SocketAddr,
        server_name: &str,
        client: &ClientConfig,
    ) -> Result<Handle, ConnectError> {
        if self.draining {
            return Err(ConnectError::Draining);
        }
        if self.table.len() >= self.config.connections_max {
            return Err(ConnectError::ConnectionsMax);
        }
        let first = Guuid::new(unix_ms, random(&mut self.rng));
        let role = Role::Client { config: client, server_name, first };
        let mut start = self.start(now, unix_ms, remote);
        start.token = self.tokens.remove(&(remote, server_name.into())).unwrap_or_default();
        let connection = Connection::new(start, role).map_err(|error| match error {
            ConfigError::ServerName => ConnectError::ServerName,
            ConfigError::Tls(_) | ConfigError::Alpn | ConfigError::Hello => ConnectError::Tls,
        })?;
        let handle = self.table.insert(Box::new(connection));
        self.touch(handle);
        self.settle(now, handle);
        Ok(handle)
    }

    /// A connection, to be asked or changed: it is looked at again by [`Endpoint::poll_transmit`].
    pub fn connection(&mut self, handle: Handle) -> Option<&mut Connection> {
        self.touch(handle);
        self.table.get_mut(handle)
    }

    /// A connection, to be looked at only.
    #[must_use]
    pub fn peek(&self, handle: Handle) -> Option<&Connection> {
        self.table.get(handle)
    }

    /// Tells all peers that no new work is taken, and refuses new connections.
    pub fn drain(&mut self, _now: Instant, code: u64, reason: &[u8]) {
        self.draining = true;
        for handle in self.table.handles() {
            if let Some(connection) = self.connection(handle) {
                connection.goaway(code, reason);
            }
        }
    }

    /// Another certificate for connections from now on.
    pub fn set_server(&mut self, server: ServerConfig) {
        self.server = Some(server);
    }

    /// How many connections there are, half-open ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many handshakes of clients are open.
    #[must_use]
    pub fn half_open(&self) -> usize {
        self.half_open
    }

    /// What was counted.
    #[must_use]
    pub fn stats(&self) -> &EndpointStats {
        &self.stats
    }

    fn start(&mut self, now: Instant, unix_ms: u64, remote: SocketAddr) -> Start {
        Start {
            now,
            unix_ms,
            remote,
            router: self.config.router,
            reset_key: self.config.reset_key,
            transport: self.config.transport.clone(),
            seed: random(&mut self.rng),
            token: Vec::new(),
        }
    }

    fn deliver(&mut self, now: Instant, unix_ms: u64, handle: Handle, meta: Meta, datagram: &mut [u8]) -> Verdict {
        let Some(connection) = self.table.get_mut(handle) else { return self.dropped(Drop::UnknownConnection) };
        let dropped = connection.handle(now, unix_ms, meta, datagram);
        if !std::mem::replace(&mut connection.queued, true) {
            self.dirty.push_back(handle);
        }
        self.settle(now, handle);
        dropped.map_or(Verdict::Taken, |reason| self.dropped(reason))
    }

    // A reset from a peer that lost its state: it knows none of our ids.
    fn is_reset(&self, datagram: &[u8]) -> bool {
        packet::reset_token(datagram).is_some_and(|token| self.table.by_token(&token).is_some())
    }

    fn touch(&mut self, handle: Handle) {
        if let Some(connection) = self.table.get_mut(handle)
            && !connection.queued
        {
            connection.queued = true;
            self.dirty.push_back(handle);
        }
    }

    // Takes over what a connection wants the endpoint to know: its events, ids, the next deadline, its end.
    fn settle(&mut self, now: Instant, handle: Handle) {
        let Some(connection) = self.table.get_mut(handle) else { return };
        while let Some(event) = connection.poll_event() {
            match &event {
                Event::Connected => self.stats.connected += 1,
                Event::Closed(_) => self.stats.closed += 1,
                _ => {}
            }
            self.events.push_back((handle, event));
        }
        if connection.counts_as_half_open != connection.is_half_open() {
            connection.counts_as_half_open = !connection.counts_as_half_open;
            self.half_open = if connection.counts_as_half_open { self.half_open + 1 } else { self.half_open - 1 };
        }
        if let Some(token) = connection.take_address_token() {
            let name = connection.server_name().unwrap_or_default().into();
            self.tokens.insert((connection.remote(), name), token.into_vec());
            if self.tokens.len() > TOKENS_MAX {
                self.tokens.pop_first();
            }
        }
        // One in the queue is asked what it wants to send first; that may be what is due.
        if connection.queued && !connection.has_news() {
            return;
        }
        self.table.follow(handle);
        let Some(connection) = self.table.get_mut(handle) else { return };
        if connection.is_over() {
            self.stats.ended.add(&connection.stats());
            self.half_open -= usize::from(connection.counts_as_half_open);
            self.table.remove(handle);
            self.timers.disarm(handle);
            return;
        }
        if connection.queued {
            return;
        }
        if let Some(at) = connection.deadline() {
            // What is due and cannot be sent is looked at again soon, not at once.
            let at = if at <= now { now + RETRY_AFTER } else { at };
            if connection.armed.is_none_or(|armed| at < armed) {
                connection.armed = Some(at);
                self.timers.arm(at, handle);
            }
        }
    }

    fn counted(&mut self, transmit: Transmit, len: usize) -> Transmit {
        self.stats.trains_sent += 1;
        self.stats.datagrams_sent += len.div_ceil(transmit.segment.max(1)) as u64;
        self.stats.bytes_sent += len as u64;
        transmit
    }

    fn dropped(&mut self, reason: Drop) -> Verdict {
        self.stats.dropped[reason as usize] += 1;
        Verdict::Dropped(reason)
    }
}

fn random<const N: usize>(rng: &mut StdRng) -> [u8; N] {
    let mut bytes = [0; N];
    rng.fill_bytes(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Transport;

    #[test]
    #[should_panic(expected = "`Transport` cannot work: udp_payload_max: from 1,200 to 1,452")]
    fn what_cannot_work_is_not_begun_with() {
        let transport = Transport { udp_payload_max: 9_000, ..Transport::default() };
        let _ = Endpoint::new(EndpointConfig::single([0; 32], transport), None, [0; 32]);
    }
}
