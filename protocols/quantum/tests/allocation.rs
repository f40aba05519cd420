//! Packets in steady state allocate nothing, at neither end: bulk, messages with parity and losses, datagrams.
//!
//! What does allocate, for messages and not for packets: one that is longer than a packet (where it is put together), and
//! one of an ordered channel that overtook a lost one (it waits, and must not hold a buffer that others share).

#![allow(clippy::unwrap_used)]

use std::{
    alloc::System,
    mem,
    time::{Duration, Instant},
};

use bytes::Bytes;
use quantum::{
    ClientConfig, Delivery, Direction, Endpoint, EndpointConfig, Event, FecMode, Handle, Meta, ServerConfig, StreamId,
    Transport, crypto::Trust,
};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const CLIENT: usize = 0;
const SERVER: usize = 1;

/// One way takes so long.
const LAP: Duration = Duration::from_millis(2);

/// Packets that are sent before the counting begins: queues, rings and pools have their size then, and numbers of messages
/// have four bytes.
const WARM_UP: u64 = 50_000;

/// Packets that are counted.
const PACKETS: u64 = 10_000;

// One test: the counters are those of the whole process.
#[test]
fn packets_in_steady_state_allocate_nothing() {
    let bulk = Transport { fec: FecMode::Off, send_bytes_max: 512 << 10, ..Transport::default() };
    count("bulk", World::new(bulk.clone(), None), |world| world.bulk());
    count("bulk with losses", World::new(bulk, Some(1_000)), |world| world.bulk());
    let fixed = Transport { fec: FecMode::Fixed { k: 8, r: 2 }, ..Transport::default() };
    count("messages", World::new(fixed.clone(), None), |world| world.message(Delivery::Independent));
    count("messages in order", World::new(fixed.clone(), None), |world| world.message(Delivery::Ordered));
    for delivery in [Delivery::Independent, Delivery::Newest] {
        count("messages with losses", World::new(fixed.clone(), Some(20)), |world| world.message(delivery));
    }
    count("datagrams", World::new(fixed.clone(), None), |world| world.datagram());
    count("datagrams with losses", World::new(fixed, Some(20)), |world| world.datagram());
}

/// Runs laps for so many packets before counting, and for as many as are counted.
fn count(what: &str, mut world: World, say: impl Fn(&mut World)) {
    let mut run = |packets| {
        let before = world.sent;
        while world.sent < before + packets {
            say(&mut world);
            world.lap();
        }
    };
    run(WARM_UP);
    let region = Region::new(ALLOCATOR);
    run(PACKETS);
    let change = region.change();
    let (allocations, reallocations) = (change.allocations, change.reallocations);
    println!("{what}: {allocations} allocations and {reallocations} reallocations; {world:?}");
    assert!(world.received > 0, "{what}: nothing arrived");
    assert_eq!((allocations, reallocations), (0, 0), "{what}");
}

/// Datagrams on their way in one direction.
#[derive(Default)]
struct Wire {
    bytes: Vec<u8>,
    lens: Vec<usize>,
}

/// A client, a server and the link between them.
struct World {
    now: Instant,
    ends: [Endpoint; 2],
    wires: [Wire; 2],
    /// Each so many-th datagram is lost.
    loses: Option<u64>,
    sent: u64,
    received: u64,
    handles: [Option<Handle>; 2],
    stream: Option<StreamId>,
    payload: Bytes,
    buffer: Vec<u8>,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} datagrams sent, {} bytes received", self.sent, self.received)
    }
}

impl World {
    fn new(transport: Transport, loses: Option<u64>) -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()).into();
        let server = ServerConfig::builder(vec![made.cert.der().clone()], key).unwrap().build().unwrap();
        let client = ClientConfig::builder(Trust::DangerousAnybody).build().unwrap();
        let mut world = Self {
            now: Instant::now(),
            ends: [
                Endpoint::new(EndpointConfig::single([1; 32], transport.clone()), None, [1; 32]),
                Endpoint::new(EndpointConfig::single([2; 32], transport), Some(server), [2; 32]),
            ],
            wires: [Wire::default(), Wire::default()],
            loses: None,
            sent: 0,
            received: 0,
            handles: [None; 2],
            stream: None,
            payload: Bytes::from(vec![7; 64 * 1024]),
            buffer: Vec::new(),
        };
        let address = "127.0.0.1:1".parse().unwrap();
        let handle = world.ends[CLIENT].connect(world.now, 0, address, "localhost", &client).unwrap();
        world.handles[CLIENT] = Some(handle);
        (0..50).for_each(|_| world.lap());
        world.loses = loses;
        world
    }

    /// As much of a stream as there is room for.
    fn bulk(&mut self) {
        let Some(connection) = self.handles[CLIENT].and_then(|handle| self.ends[CLIENT].connection(handle)) else {
            return;
        };
        let id = *self.stream.get_or_insert_with(|| connection.open(Direction::Unidirectional).unwrap());
        while connection.write_bytes(id, self.payload.clone()).is_ok_and(|taken| taken > 0) {}
    }

    /// A message of 200 bytes.
    fn message(&mut self, delivery: Delivery) {
        let (now, bytes) = (self.now, self.payload.slice(..200));
        if let Some(connection) = self.handles[CLIENT].and_then(|handle| self.ends[CLIENT].connection(handle)) {
            connection.send_message(now, 1, delivery, 1, None, bytes).unwrap();
        }
    }

    /// Datagrams of 200 bytes.
    fn datagram(&mut self) {
        let bytes = self.payload.slice(..200);
        if let Some(connection) = self.handles[CLIENT].and_then(|handle| self.ends[CLIENT].connection(handle)) {
            connection.send_datagram(bytes).unwrap();
        }
    }

    /// What was sent in the last lap arrives, and both say what they have to say.
    fn lap(&mut self) {
        self.now += LAP;
        for side in [CLIENT, SERVER] {
            self.arrive(side);
            self.ends[side].handle_timeout(self.now);
            self.take(side);
        }
        for side in [CLIENT, SERVER] {
            self.depart(side);
        }
    }

    fn arrive(&mut self, side: usize) {
        let meta = Meta { remote: "127.0.0.1:1".parse().unwrap(), ecn: 0 };
        let mut wire = mem::take(&mut self.wires[1 - side]);
        let mut rest = &mut wire.bytes[..];
        for len in wire.lens.drain(..) {
            let (datagram, behind) = rest.split_at_mut(len);
            self.ends[side].handle(self.now, 0, meta, datagram);
            rest = behind;
        }
        wire.bytes.clear();
        self.wires[1 - side] = wire;
    }

    fn depart(&mut self, side: usize) {
        while let Some(transmit) = self.ends[side].poll_transmit(self.now, &mut self.buffer) {
            for datagram in self.buffer.chunks(transmit.segment) {
                self.sent += 1;
                if self.loses.is_none_or(|each| !self.sent.is_multiple_of(each)) {
                    self.wires[side].bytes.extend_from_slice(datagram);
                    self.wires[side].lens.push(datagram.len());
                }
            }
        }
    }

    fn take(&mut self, side: usize) {
        while let Some((handle, event)) = self.ends[side].poll_event() {
            self.handles[side] = Some(handle);
            let connection = self.ends[side].connection(handle).unwrap();
            match event {
                Event::Opened(id) | Event::Readable(id) => {
                    while let Ok(chunk) = connection.chunk(id)
                        && !chunk.is_empty()
                    {
                        let len = chunk.len();
                        self.received += len as u64;
                        connection.consume(id, len);
                    }
                }
                Event::Message => {
                    while let Some(message) = connection.recv_message() {
                        self.received += message.bytes.len() as u64;
                    }
                }
                Event::Datagram => {
                    while let Some(bytes) = connection.recv_datagram() {
                        self.received += bytes.len() as u64;
                    }
                }
                _ => {}
            }
        }
    }
}
