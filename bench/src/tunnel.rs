//! Sessions over Quantum: the connections of one shard of the generator, all on one socket, named like streams.

use std::collections::BTreeMap;

use engine::{Datagrams, Io, Socket, Stream, Train};
use quantum::{
    ClientConfig, Connection, Direction, Endpoint, EndpointConfig, Event, Handle, Meta, Router, Side, StreamId,
    Transport,
    crypto::{ConfigError, Trust},
    token::TokenKey,
};
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::{connection::Setup, order::Order};

/// The one socket of a shard.
const SOCKET: Socket = Socket(0);

/// The stream of everything that has an order: the first one that a client opens.
fn ordered() -> StreamId {
    StreamId::new(Side::Client, Direction::Bidirectional, 0)
}

/// What all shards of a generator multiply routing words by. Nobody aims at a generator, so it need not be secret.
pub const MULTIPLIER: u32 = 0x9E37_79B1;

/// Connections of a shard that share a socket, and are written and read like streams.
pub trait Carrier {
    /// Begins connection `local` of the crowd.
    ///
    /// # Errors
    /// Why it cannot even begin.
    fn connect(&mut self, io: &Io<Order>, setup: &Setup, local: u32) -> Result<(), String>;

    /// Takes what arrived.
    fn handle(&mut self, io: &Io<Order>, train: Datagrams<'_>);

    /// What happened, oldest first.
    fn poll(&mut self) -> Option<(Stream, Happened)>;

    /// Moves the next bytes of a connection to `into`; whether there were any.
    fn read(&mut self, stream: Stream, into: &mut Vec<u8>) -> bool;

    /// Whether the server has ended what is read here, and all of it was read.
    fn is_ended(&mut self, stream: Stream) -> bool;

    /// Sends bytes.
    fn write(&mut self, stream: Stream, bytes: &[u8]);

    /// Ends a connection.
    fn close(&mut self, io: &Io<Order>, stream: Stream);

    /// Does what is due, and sends what may be sent.
    fn transmit(&mut self, io: &mut Io<Order>);

    /// When it wants to be called again.
    fn deadline(&self) -> Option<std::time::Instant>;

    /// Bytes of answers since the last call, if they are not all payload.
    fn take_received_bytes(&mut self) -> u64 {
        0
    }
}

/// The Quantum connections of a shard.
pub struct Tunnel {
    endpoint: Endpoint,
    config: ClientConfig,
    /// Which connection of the crowd a slot is.
    locals: Vec<u32>,
    /// What found no room, by its connection.
    waiting: BTreeMap<Handle, Vec<u8>>,
    train: Vec<u8>,
}

/// What happened to a connection.
pub enum Happened {
    /// It is up.
    Connected(u32),
    /// Bytes can be read.
    Readable,
    /// The server has ended the ordered lane.
    Ended,
    /// A request was refused, for this reason.
    Refused(String),
    /// It is gone, for this reason.
    Closed(u32, String),
}

impl Tunnel {
    /// No connections yet. Certificates are not checked: a load is for a server of one's own.
    ///
    /// # Errors
    /// TLS is not to be had.
    pub fn new(setup: &Setup, shard: u16) -> Result<Self, ConfigError> {
        let mut rng = StdRng::from_os_rng();
        let transport = Transport {
            // The server's limit is the smaller one, and its pings keep idle sessions.
            idle_timeout: std::time::Duration::from_secs(4 * 3600),
            ..Transport::default()
        };
        let config = EndpointConfig {
            router: Router::new(MULTIPLIER, setup.options.shards(), shard),
            token: TokenKey::new(rng.random(), None),
            connections_max: usize::MAX,
            ..EndpointConfig::single(rng.random(), transport)
        };
        Ok(Self {
            endpoint: Endpoint::new(config, None, rng.random()),
            config: ClientConfig::builder(Trust::DangerousAnybody).build()?,
            locals: Vec::new(),
            waiting: BTreeMap::new(),
            train: Vec::new(),
        })
    }

    fn connection(&mut self, stream: Stream) -> Option<&mut Connection> {
        self.endpoint.connection(handle(stream))
    }
}

impl Carrier for Tunnel {
    fn connect(&mut self, io: &Io<Order>, setup: &Setup, local: u32) -> Result<(), String> {
        let target = setup.options.target;
        let handle = self.endpoint.connect(io.now(), io.wall_ms(), target, "localhost", &self.config);
        let handle = handle.map_err(|error| error.to_string())?;
        let slot = handle.index as usize;
        if self.locals.len() <= slot {
            self.locals.resize(slot + 1, u32::MAX);
        }
        self.locals[slot] = local;
        Ok(())
    }

    fn handle(&mut self, io: &Io<Order>, mut train: Datagrams<'_>) {
        let meta = Meta { remote: train.peer, ecn: train.ecn };
        for datagram in train.iter_mut() {
            // What is dropped is counted by the endpoint, and missed by whoever waits for it.
            let _ = self.endpoint.handle(io.now(), io.wall_ms(), meta, datagram);
        }
    }

    fn poll(&mut self) -> Option<(Stream, Happened)> {
        loop {
            let (handle, event) = self.endpoint.poll_event()?;
            let local = self.locals.get(handle.index as usize).copied().unwrap_or(u32::MAX);
            let happened = match event {
                Event::Connected => {
                    let _ = self.endpoint.connection(handle).and_then(|one| one.open(Direction::Bidirectional));
                    Happened::Connected(local)
                }
                Event::Readable(id) if id == ordered() => Happened::Readable,
                Event::Reset { id, .. } | Event::Stopped { id, .. } if id == ordered() => Happened::Ended,
                Event::Closed(reason) => {
                    self.waiting.remove(&handle);
                    Happened::Closed(local, reason.to_string())
                }
                Event::Writable(_) => {
                    if let Some(bytes) = self.waiting.remove(&handle) {
                        self.write(name(handle), &bytes);
                    }
                    continue;
                }
                Event::Readable(_)
                | Event::Reset { .. }
                | Event::Stopped { .. }
                | Event::Opened(_)
                | Event::Finished(_)
                | Event::StreamsAvailable(_)
                | Event::Message
                | Event::MessagesWritable
                | Event::Datagram
                | Event::GoAway { .. }
                | Event::Moved => continue,
            };
            return Some((name(handle), happened));
        }
    }

    fn read(&mut self, stream: Stream, into: &mut Vec<u8>) -> bool {
        let Some(connection) = self.connection(stream) else { return false };
        let Ok(chunk) = connection.chunk(ordered()) else { return false };
        let len = chunk.len();
        into.extend_from_slice(chunk);
        connection.consume(ordered(), len);
        len > 0
    }

    fn is_ended(&mut self, stream: Stream) -> bool {
        self.connection(stream).is_some_and(|connection| connection.is_finished(ordered()))
    }

    fn write(&mut self, stream: Stream, bytes: &[u8]) {
        if let Some(waiting) = self.waiting.get_mut(&handle(stream)) {
            return waiting.extend_from_slice(bytes);
        }
        let Some(connection) = self.connection(stream) else { return };
        let taken = connection.write(ordered(), bytes).unwrap_or(0);
        if taken < bytes.len() {
            self.waiting.insert(handle(stream), bytes[taken..].to_vec());
        }
    }

    fn close(&mut self, io: &Io<Order>, stream: Stream) {
        if let Some(connection) = self.connection(stream) {
            connection.close(io.now(), 0, b"");
        }
        // Its end was asked for, and is no news.
        if let Some(local) = self.locals.get_mut(stream.index as usize) {
            *local = u32::MAX;
        }
    }

    fn transmit(&mut self, io: &mut Io<Order>) {
        if self.endpoint.deadline().is_some_and(|at| at <= io.now()) {
            self.endpoint.handle_timeout(io.now());
        }
        while io.train_room() > 0 {
            let Some(transmit) = self.endpoint.poll_transmit(io.now(), &mut self.train) else { return };
            let segment = u16::try_from(transmit.segment).unwrap_or(u16::MAX);
            io.send_train(SOCKET, Train { to: transmit.to, segment, ecn: transmit.ecn }, &self.train);
        }
    }

    fn deadline(&self) -> Option<std::time::Instant> {
        self.endpoint.deadline()
    }
}

fn name(handle: Handle) -> Stream {
    Stream { index: handle.index, generation: handle.generation }
}

fn handle(stream: Stream) -> Handle {
    Handle { index: stream.index, generation: stream.generation }
}
