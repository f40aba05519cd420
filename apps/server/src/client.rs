//! A client of the session protocol over Quantum, without a clock or a socket: datagrams in and out, frames out and in.
//!
//! The example, the tests and the world simulator drive it. Whoever owns the socket calls [`Client::handle`] with what
//! arrives, [`Client::poll`] until there is nothing more, then [`Client::poll_transmit`] likewise, and comes back at
//! [`Client::deadline`]. [`Wire`] does so with a socket of the standard library.

mod wire;

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    sync::Arc,
    time::Instant,
};

use bytes::{Buf, Bytes, BytesMut};
use quantum::{
    ClientConfig, CloseReason, ConnectError, Connection, Direction, Endpoint, EndpointConfig, Event, Handle, Meta,
    Stats, StreamId, Transmit, Transport,
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use tcp::frame::Deframer;

pub use wire::Wire;

/// The ordered lane.
const ORDERED: StreamId = StreamId(crate::lane::FIRST.0);

/// What a client hears.
#[derive(PartialEq, Eq, Debug)]
pub enum Heard {
    /// The handshake is done.
    Up,
    /// A frame of the session protocol, of whatever lane.
    Frame(Vec<u8>),
    /// The server has said its last word on the ordered lane.
    Ended,
    /// The connection is over.
    Closed(CloseReason),
}

/// Bytes of the largest frame that a server may send.
const FRAME_BYTES_MAX: usize = 16 << 20;

/// Bytes that may wait for the handshake, or for room, before [`Client::say`] refuses more.
const WAITING_BYTES_MAX: usize = 1 << 20;

/// One client on one socket. It may connect again and again, one connection at a time.
#[derive(Debug)]
pub struct Client {
    endpoint: Endpoint,
    config: ClientConfig,
    transport: Arc<Transport>,
    rng: StdRng,
    current: Option<Handle>,
    is_up: bool,
    waiting: BytesMut,
    /// To be told, oldest first.
    heard: VecDeque<Heard>,
    /// The frames of each of the server's streams that is not over.
    lanes: BTreeMap<StreamId, Deframer>,
    /// Streams that had something to read while nothing was read.
    unread: Vec<StreamId>,
    reads: bool,
}

impl Client {
    /// A client that is not connected. `seed` makes its ids and keys of its own, so it must be nobody else's.
    #[must_use]
    pub fn new(config: ClientConfig, transport: Transport, seed: [u8; 32]) -> Self {
        let (mut rng, transport) = (StdRng::from_seed(seed), Arc::new(transport));
        Self {
            endpoint: endpoint(&transport, &mut rng),
            config,
            transport,
            rng,
            current: None,
            is_up: false,
            waiting: BytesMut::new(),
            heard: VecDeque::new(),
            lanes: BTreeMap::new(),
            unread: Vec::new(),
            reads: true,
        }
    }

    /// Begins a connection. An earlier one is left to itself: it should be closed.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub fn connect(
        &mut self,
        now: Instant,
        unix_ms: u64,
        remote: SocketAddr,
        server_name: &str,
    ) -> Result<(), ConnectError> {
        self.current = Some(self.endpoint.connect(now, unix_ms, remote, server_name, &self.config)?);
        self.is_up = false;
        self.waiting.clear();
        self.heard.clear();
        self.lanes.clear();
        self.unread.clear();
        self.reads = true;
        Ok(())
    }

    /// Takes a datagram.
    pub fn handle(&mut self, now: Instant, unix_ms: u64, meta: Meta, datagram: &mut [u8]) {
        // What does not belong to a connection of ours is counted by the endpoint.
        let _ = self.endpoint.handle(now, unix_ms, meta, datagram);
    }

    /// What there is to hear.
    pub fn poll(&mut self) -> Option<Heard> {
        while self.heard.is_empty() {
            let (handle, event) = self.endpoint.poll_event()?;
            if Some(handle) == self.current {
                self.event(handle, event);
            }
        }
        self.heard.pop_front()
    }

    /// The next train to be sent, in `out`.
    pub fn poll_transmit(&mut self, now: Instant, out: &mut Vec<u8>) -> Option<Transmit> {
        self.endpoint.poll_transmit(now, out)
    }

    /// When [`Client::handle_timeout`] is to be called.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.endpoint.deadline()
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.endpoint.handle_timeout(now);
    }

    /// Whether the handshake is done and the connection not over.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.is_up
    }

    /// Sends a frame on the ordered lane; before the handshake is done it waits. False, and nothing is sent, if too much
    /// waits already.
    pub fn say(&mut self, frame: &[u8]) -> bool {
        if self.waiting.len() + frame.len() > WAITING_BYTES_MAX {
            return false;
        }
        self.waiting.extend_from_slice(frame);
        self.flush();
        true
    }

    /// Sends an ephemeral frame: in a datagram, or on the ordered lane if it is too long for one.
    pub fn wave(&mut self, frame: &[u8]) {
        let sent =
            self.is_up && self.connection().is_some_and(|one| one.send_datagram(Bytes::copy_from_slice(frame)).is_ok());
        if !sent {
            self.say(frame);
        }
    }

    /// Reads no more, so that the server's window fills, or reads again.
    pub fn stall(&mut self, stall: bool) {
        self.reads = !stall;
        if self.reads {
            for id in std::mem::take(&mut self.unread) {
                self.read(id);
            }
        }
    }

    /// Says that this was all, behind what was said.
    pub fn finish(&mut self) {
        if let Some(connection) = self.connection() {
            let _ = connection.finish(ORDERED);
        }
    }

    /// Ends the connection at once.
    pub fn close(&mut self, now: Instant) {
        if let Some(connection) = self.connection() {
            connection.close(now, 0, b"goodbye");
        }
        self.is_up = false;
    }

    /// Forgets the connection without a word, as a client does that loses its power.
    pub fn vanish(&mut self) {
        self.endpoint = endpoint(&self.transport, &mut self.rng);
        self.current = None;
        self.is_up = false;
    }

    /// What the connection has counted.
    pub fn stats(&mut self) -> Option<Stats> {
        self.connection().map(|connection| connection.stats())
    }

    fn connection(&mut self) -> Option<&mut Connection> {
        self.endpoint.connection(self.current?)
    }

    fn event(&mut self, handle: Handle, event: Event) {
        match event {
            Event::Connected => {
                self.is_up = true;
                if let Some(connection) = self.endpoint.connection(handle) {
                    // The first stream of this kind is the ordered lane.
                    let first = connection.open(Direction::Bidirectional);
                    debug_assert!(first.is_none_or(|id| id == ORDERED));
                }
                self.heard.push_back(Heard::Up);
                self.flush();
            }
            Event::Readable(id) if self.reads => self.read(id),
            Event::Readable(id) => self.unread.push(id),
            Event::Writable(_) | Event::StreamsAvailable(_) => self.flush(),
            Event::Datagram => self.read_datagrams(),
            Event::Reset { id: ORDERED, .. } | Event::Stopped { id: ORDERED, .. } => self.heard.push_back(Heard::Ended),
            Event::Reset { id, .. } => drop(self.lanes.remove(&id)),
            Event::Closed(reason) => {
                self.current = None;
                self.is_up = false;
                self.heard.push_back(Heard::Closed(reason));
            }
            Event::Opened(_)
            | Event::Finished(_)
            | Event::Stopped { .. }
            | Event::Message
            | Event::MessagesWritable
            | Event::GoAway { .. }
            | Event::Moved => {}
        }
    }

    fn read(&mut self, id: StreamId) {
        let Some(connection) = self.current.and_then(|handle| self.endpoint.connection(handle)) else { return };
        let deframer = self.lanes.entry(id).or_insert_with(|| Deframer::new(FRAME_BYTES_MAX));
        loop {
            let Ok(mut chunk) = connection.chunk(id) else { return };
            let len = chunk.len();
            while let Ok(Some(frame)) = deframer.next(&mut chunk) {
                self.heard.push_back(Heard::Frame(frame.to_vec()));
            }
            connection.consume(id, len);
            if len == 0 {
                break;
            }
        }
        if connection.is_finished(id) {
            self.lanes.remove(&id);
            if id == ORDERED {
                self.heard.push_back(Heard::Ended);
            }
        }
    }

    fn read_datagrams(&mut self) {
        let Some(connection) = self.current.and_then(|handle| self.endpoint.connection(handle)) else { return };
        while let Some(frame) = connection.recv_datagram() {
            self.heard.push_back(Heard::Frame(frame.to_vec()));
        }
    }

    fn flush(&mut self) {
        if !self.is_up || self.waiting.is_empty() {
            return;
        }
        let Some(connection) = self.current.and_then(|handle| self.endpoint.connection(handle)) else { return };
        if let Ok(taken) = connection.write(ORDERED, &self.waiting) {
            self.waiting.advance(taken);
        }
    }
}

fn endpoint(transport: &Arc<Transport>, rng: &mut StdRng) -> Endpoint {
    let config = EndpointConfig::single(rng.random(), Transport::clone(transport));
    Endpoint::new(config, None, rng.random())
}
