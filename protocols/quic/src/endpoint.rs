//! All connections of one socket: which datagram belongs to which, who may begin one, and whose turn it is to send.

mod accept;
mod table;
mod timer;

use std::{
    collections::VecDeque,
    net::SocketAddr,
    time::{Duration, Instant},
};

use rand::{RngCore, SeedableRng, rngs::StdRng};

use crate::{
    config::{ConfigError, DATAGRAM_MAX, EndpointConfig},
    connection::Connection,
    event::{Event, Handle},
    id::Id,
    packet::{self, Head},
    stats::{Drop, EndpointStats},
    stream::Side,
    tls::{Client, ServerConfig},
};

use accept::Allowance;
use table::Table;
use timer::Timers;

/// How a datagram came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Meta {
    /// To which address of ours.
    pub local: SocketAddr,
    /// Who sent it.
    pub remote: SocketAddr,
}

/// What became of a datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It began a connection.
    New(Handle),
    /// It belonged to a connection.
    Connection(Handle),
    /// It is answered without a connection: a Retry, a version negotiation or a stateless reset.
    Reply,
    /// It belongs to this shard: hand it over.
    Foreign(u16),
    /// It was dropped and counted.
    Dropped(Drop),
}

/// A train to be sent: the bytes are in the caller's buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Transmit {
    /// From which address of ours.
    pub from: SocketAddr,
    /// To whom.
    pub to: SocketAddr,
    /// Bytes of the whole train.
    pub size: usize,
    /// Bytes per datagram; the last one may be shorter.
    pub segment: usize,
    /// When pacing would let it leave; `None`: now. Who cannot wait may send it now: the next one waits.
    pub release_at: Option<Instant>,
}

/// Why no connection could be begun.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ConnectError {
    /// The limit of connections is met.
    #[error("too many connections")]
    ConnectionsMax,
    /// TLS refused the name or the session.
    #[error("the name or the session cannot be used")]
    Tls,
    /// The endpoint drains.
    #[error("the endpoint takes no new connections")]
    Draining,
}

/// Makes a writer for the qlog of a connection, given its id.
#[cfg(feature = "qlog")]
pub type Qlog = Box<dyn FnMut(&str) -> Option<Box<dyn std::io::Write + Send + Sync>> + Send>;

/// All connections of one socket.
pub struct Endpoint {
    config: EndpointConfig,
    server: Option<quiche::Config>,
    table: Table,
    timers: Timers,
    rng: StdRng,
    /// Connections that may have something to send or to tell, in turn.
    dirty: VecDeque<Handle>,
    /// The connection that the latest datagram was for. What it has to tell is taken over once for all that came in a
    /// row, as trains do.
    unsettled: Option<(Instant, Handle)>,
    events: VecDeque<(Handle, Event)>,
    /// Answers without a connection, and probes that fit into no train.
    answers: VecDeque<(Meta, Vec<u8>)>,
    resets: Allowance,
    half_open: usize,
    draining: bool,
    #[cfg(feature = "qlog")]
    qlog: Option<Qlog>,
    stats: EndpointStats,
}

/// Answers without a connection that may wait to be sent; further ones are not made.
const ANSWERS_MAX: usize = 256;

/// How soon a connection is asked again that has something due and may not send it.
const RETRY_AFTER: Duration = Duration::from_millis(1);

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Endpoint").field("len", &self.len()).field("stats", &self.stats).finish_non_exhaustive()
    }
}

impl Endpoint {
    /// An endpoint without connections. With a server configuration it accepts; `seed` decides its own random numbers.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn new(config: EndpointConfig, server: Option<&ServerConfig>, seed: [u8; 32]) -> Result<Self, ConfigError> {
        config.check()?;
        let mut rng = StdRng::from_seed(seed);
        Ok(Self {
            server: server.map(|server| server.build(&config.transport)).transpose()?,
            table: Table::new([rng.next_u64(), rng.next_u64(), rng.next_u64(), rng.next_u64()]),
            timers: Timers::default(),
            rng,
            dirty: VecDeque::new(),
            unsettled: None,
            events: VecDeque::new(),
            answers: VecDeque::new(),
            resets: Allowance::new(config.resets_per_s),
            half_open: 0,
            draining: false,
            #[cfg(feature = "qlog")]
            qlog: None,
            stats: EndpointStats::default(),
            config,
        })
    }

    /// A datagram arrived. `unix_ms` is the wall clock, for the tokens that are made and read.
    pub fn handle(&mut self, now: Instant, unix_ms: u64, meta: Meta, datagram: &mut [u8]) -> Verdict {
        self.stats.datagrams_received += 1;
        self.stats.bytes_received += datagram.len() as u64;
        let to = match Head::parse(datagram) {
            Ok(Head::Short { to }) => Some(to),
            Ok(Head::Long { to, .. }) => Id::from_slice(to),
            // What is too short for a head may still be a reset.
            Err(_) => None,
        };
        let Some(to) = to else { return self.stranger(now, unix_ms, meta, datagram) };
        if let Some(handle) = self.table.by_id(&to) {
            return self.deliver(now, handle, meta, datagram);
        }
        match self.config.router.foreign(&to) {
            Some(shard) if !self.is_reset(datagram) => {
                self.stats.foreign += 1;
                Verdict::Foreign(shard)
            }
            _ => self.stranger(now, unix_ms, meta, datagram),
        }
    }

    /// A connection's next train goes into `out`, which has room for a datagram at least; `None`: nothing is due now.
    ///
    /// # Panics
    /// If `out` is too small.
    pub fn poll_transmit(&mut self, now: Instant, out: &mut [u8], segments_max: usize) -> Option<Transmit> {
        self.settle_latest();
        assert!(out.len() >= DATAGRAM_MAX, "there must be room for a datagram");
        if let Some((meta, bytes)) = self.answers.pop_front() {
            out[..bytes.len()].copy_from_slice(&bytes);
            let (size, segment) = (bytes.len(), bytes.len());
            let transmit = Transmit { from: meta.local, to: meta.remote, size, segment, release_at: None };
            return Some(self.counted(transmit));
        }
        while let Some(handle) = self.dirty.pop_front() {
            let Some(connection) = self.table.get_mut(handle) else { continue };
            let train = connection.poll_transmit(now, out, segments_max);
            connection.queued = train.is_some();
            if train.is_some() {
                self.dirty.push_back(handle);
            }
            self.settle(now, handle);
            let Some(train) = train else { continue };
            let meta = Meta { local: train.from, remote: train.to };
            if train.odd > 0 {
                self.answers.push_back((meta, out[train.size..train.size + train.odd].to_vec()));
            }
            let (size, segment, release_at) = (train.size, train.segment, train.release_at);
            return Some(self.counted(Transmit { from: train.from, to: train.to, size, segment, release_at }));
        }
        None
    }

    /// What happened, oldest first.
    pub fn poll_event(&mut self) -> Option<(Handle, Event)> {
        self.settle_latest();
        self.events.pop_front()
    }

    /// When [`Endpoint::handle_timeout`] must be called at the latest.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.settle_latest();
        while let Some(handle) = self.timers.pop(now) {
            let Some(connection) = self.table.get_mut(handle) else { continue };
            connection.armed = None;
            if connection.deadline().is_some_and(|at| at <= now) {
                connection.handle_timeout(now);
            }
            self.touch(handle);
            self.settle(now, handle);
        }
    }

    /// Begins a connection to a server. With a `session` of an earlier one, data may be written at [`Event::Early`].
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub fn connect(
        &mut self,
        now: Instant,
        meta: Meta,
        server_name: &str,
        client: &mut Client,
        session: Option<&[u8]>,
    ) -> Result<Handle, ConnectError> {
        if self.draining {
            return Err(ConnectError::Draining);
        }
        if self.table.len() >= self.config.connections_max {
            return Err(ConnectError::ConnectionsMax);
        }
        let id = self.fresh_id();
        let mut quiche = quiche::connect_with_buffer_factory(
            Some(server_name),
            &id.quiche(),
            meta.local,
            meta.remote,
            &mut client.config,
        )
        .map_err(|_| ConnectError::Tls)?;
        if let Some(session) = session {
            quiche.set_session(session).map_err(|_| ConnectError::Tls)?;
        }
        let until = now + self.config.transport.handshake_timeout;
        let way = (meta.local, meta.remote);
        let mut connection = Connection::new(quiche, Side::Client, None, way, until, client.streams_max);
        self.prepare(&mut connection);
        let handle = self.table.insert(Box::new(connection));
        self.table.listen(id, handle);
        self.touch(handle);
        self.settle(now, handle);
        Ok(handle)
    }

    /// A connection, to be asked or changed: it is looked at again by [`Endpoint::poll_transmit`].
    pub fn connection(&mut self, handle: Handle) -> Option<&mut Connection> {
        self.settle_latest();
        self.touch(handle);
        self.table.get_mut(handle)
    }

    /// A connection, to be looked at only.
    #[must_use]
    pub fn peek(&self, handle: Handle) -> Option<&Connection> {
        self.table.get(handle)
    }

    /// Refuses new connections from now on. Those that are open are left to their applications.
    pub fn drain(&mut self) {
        self.draining = true;
    }

    /// Another certificate, or other tickets, for connections from now on.
    ///
    /// # Errors
    /// See [`ConfigError`]; the old one stays then.
    pub fn set_server(&mut self, server: &ServerConfig) -> Result<(), ConfigError> {
        self.server = Some(server.build(&self.config.transport)?);
        Ok(())
    }

    /// Other keys for Retry tokens from now on.
    pub fn set_token_key(&mut self, key: crate::token::TokenKey) {
        self.config.token = key;
    }

    /// Writes qlogs of connections from now on.
    #[cfg(feature = "qlog")]
    pub fn set_qlog(&mut self, qlog: Qlog) {
        self.qlog = Some(qlog);
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

    /// How many ids lead to connections here.
    #[must_use]
    pub fn ids(&self) -> usize {
        self.table.ids()
    }

    /// What was counted.
    #[must_use]
    pub fn stats(&self) -> &EndpointStats {
        &self.stats
    }

    fn deliver(&mut self, now: Instant, handle: Handle, meta: Meta, datagram: &mut [u8]) -> Verdict {
        if self.unsettled.is_some_and(|(_, other)| other != handle) {
            self.settle_latest();
        }
        let Some(connection) = self.table.get_mut(handle) else { return self.dropped(Drop::UnknownConnection) };
        let outcome = connection.handle((meta.local, meta.remote), datagram);
        self.touch(handle);
        self.unsettled = Some((now, handle));
        if !self.table.get(handle).is_some_and(Connection::can_wait) {
            self.settle_latest();
        }
        match outcome {
            Ok(true) => Verdict::Connection(handle),
            Ok(false) => self.dropped(Drop::Unusable),
            Err(_) => self.dropped(Drop::Violation),
        }
    }

    /// A reset from a peer that lost its state: it knows none of our ids.
    fn is_reset(&self, datagram: &[u8]) -> bool {
        packet::reset_token(datagram).is_some_and(|token| self.table.by_token(&token).is_some())
    }

    /// An id of this shard.
    fn fresh_id(&mut self) -> Id {
        Id::routed(self.config.router.word(self.rng.next_u32()), random(&mut self.rng))
    }

    #[cfg_attr(not(feature = "qlog"), allow(clippy::unused_self))]
    fn prepare(&mut self, connection: &mut Connection) {
        #[cfg(feature = "qlog")]
        if let Some(make) = &mut self.qlog
            && let Some(writer) = make(connection.quiche().trace_id())
        {
            let title = connection.quiche().trace_id().to_owned();
            connection.quiche().set_qlog(writer, title, String::new());
        }
        let _ = connection;
    }

    fn touch(&mut self, handle: Handle) {
        if let Some(connection) = self.table.get_mut(handle)
            && !connection.queued
        {
            connection.queued = true;
            self.dirty.push_back(handle);
        }
    }

    fn settle_latest(&mut self) {
        if let Some((now, handle)) = self.unsettled.take() {
            self.settle(now, handle);
        }
    }

    /// Takes over what a connection wants the endpoint to know: its events, ids, the next deadline, its end.
    fn settle(&mut self, now: Instant, handle: Handle) {
        let Some(connection) = self.table.get_mut(handle) else { return };
        let (events, stats) = (&mut self.events, &mut self.stats);
        let mut has_connected = false;
        connection.observe(|event| {
            match &event {
                Event::Connected => has_connected = true,
                Event::Early => stats.early += 1,
                Event::Moved => stats.moves += 1,
                Event::Closed(_) => stats.closed += 1,
                _ => {}
            }
            events.push_back((handle, event));
        });
        if has_connected {
            stats.connected += 1;
            stats.resumed += u64::from(connection.is_resumed());
        }
        let is_half_open = connection.is_half_open();
        if std::mem::replace(&mut connection.counts_as_half_open, is_half_open) != is_half_open {
            self.half_open = if is_half_open { self.half_open + 1 } else { self.half_open - 1 };
        }
        self.follow(handle, has_connected);
        let Some(connection) = self.table.get_mut(handle) else { return };
        if connection.is_over() {
            self.stats.ended.add(&connection.stats());
            self.half_open -= usize::from(connection.counts_as_half_open);
            self.table.remove(handle);
            self.timers.disarm(handle);
            return;
        }
        // One in the queue is asked what it wants to send first; that may be what is due.
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

    /// Keeps the table and the connection's ids in step: forgets what the peer gave back and issues as many as it takes.
    fn follow(&mut self, handle: Handle, has_connected: bool) {
        let Some(connection) = self.table.get_mut(handle) else { return };
        if !connection.is_connected() {
            return;
        }
        if has_connected && connection.side() == Side::Client {
            let token = connection.quiche().peer_transport_params().and_then(|peer| peer.stateless_reset_token);
            connection.token = token.map(u128::to_be_bytes);
            if let Some(token) = connection.token {
                self.table.expect_reset(token, handle);
            }
        }
        while let Some(id) = self.table.get_mut(handle).and_then(|connection| connection.quiche().retired_scid_next()) {
            if let Some(id) = Id::from_slice(&id) {
                self.table.forget(&id, handle);
                self.stats.ids_retired += 1;
            }
        }
        while self.table.get(handle).is_some_and(Connection::lacks_ids) {
            let id = self.fresh_id();
            let token = u128::from_be_bytes(self.config.reset.token(&id));
            let Some(connection) = self.table.get_mut(handle) else { return };
            if connection.quiche().new_scid(&id.quiche(), token, false).is_err() {
                return;
            }
            self.table.listen(id, handle);
            self.stats.ids_issued += 1;
        }
    }

    fn counted(&mut self, transmit: Transmit) -> Transmit {
        self.stats.trains_sent += 1;
        self.stats.datagrams_sent += transmit.size.div_ceil(transmit.segment.max(1)) as u64;
        self.stats.bytes_sent += transmit.size as u64;
        transmit
    }

    fn dropped(&mut self, reason: Drop) -> Verdict {
        self.stats.dropped[reason as usize] += 1;
        Verdict::Dropped(reason)
    }
}

/// An endpoint is made by one thread and may serve on another.
const _: fn() = || {
    fn is_sent<T: Send>() {}
    is_sent::<Endpoint>();
};

fn random<const N: usize>(rng: &mut StdRng) -> [u8; N] {
    let mut bytes = [0; N];
    rng.fill_bytes(&mut bytes);
    bytes
}
