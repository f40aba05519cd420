//! The engine's stand-in: turns shipping shards on simulated streams and mailboxes, in virtual time, from one seed.

use std::{
    collections::VecDeque,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Buf, Bytes};
use engine::{Datagrams, Effect, Io, Reactor, ShardId, Socket, Steer, Stream, StreamClose, StreamEvent, Train};
use quantum::crypto::simulation::Clock;
use rand::{Rng, SeedableRng, rngs::StdRng};
use ringshard::{
    housekeeping::{Done, Identity, Job},
    mail::Mail,
    serve::PLAIN,
    setup::Setup,
    shard::Shard,
};
use simnet::{Arrival, Duplex, PipeConfig, Side};

use super::{
    clock::Stopped,
    plant::Plant,
    platter::Platter,
    trace::Trace,
    way::{Parcel, Way},
};

/// Milliseconds since 1970 at which every world begins.
pub(crate) const WALL_MS: u64 = 1_800_000_000_000;

/// Where the shards are for datagrams.
pub(crate) const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 255, 0, 1)), 8443);

/// The apps of a shard with what is on its disk.
pub(crate) fn recovered(setup: &Setup, id: ShardId, platter: &mut Platter) -> chat::Chat {
    let mut chat = ringshard::setup::new_chat(&setup.config, &setup.shared, setup.hash_seed);
    let at = (handler::ShardId(id.0), ORIGIN);
    chat.recover(at, Vec::new(), platter).expect("what was on disk is as it was");
    chat
}

/// What the segments of a world have in common.
const ORIGIN: u64 = 7;

/// Shards, the mail between them, and the connections of clients.
pub(crate) struct Kernel {
    pub(crate) now: Instant,
    pub(crate) start: Instant,
    pub(crate) trace: Trace,
    rng: StdRng,
    nodes: Vec<Node>,
    wires: Vec<Wire>,
    /// Wires that are not over, in the order they were made.
    alive: Vec<usize>,
    plant: Option<Plant>,
    effects: Vec<Effect<Mail>>,
    mail_delay_max: Duration,
    /// Streams that a shard has closed; it is told in the next lap.
    closing: Vec<usize>,
    ways: Vec<Way>,
    steer: Steer,
    /// How often the filter in front of the shards errs.
    misrouted: f64,
    clock: Arc<Clock>,
    stopped: Stopped,
}

struct Node {
    shard: Shard,
    io: Io<Mail>,
    platter: Option<Platter>,
    /// Mail on its way here, by sender; mail of one sender keeps its order.
    boxes: Vec<VecDeque<(Instant, Mail)>>,
    generations: Vec<u32>,
    free: Vec<u32>,
    accepting: bool,
    gone: bool,
    /// Bytes have arrived in this lap.
    awake: bool,
}

/// A connection of a client, from the client's number to the stream of a shard.
struct Wire {
    duplex: Duplex,
    shard: usize,
    stream: Stream,
    queue: VecDeque<Bytes>,
    shutdown: bool,
    paused: bool,
    /// The reactor got `Closed`.
    closed: bool,
    /// FIN or reset of the client was told.
    ended: bool,
    /// The client has let go of it.
    left: bool,
}

impl Wire {
    /// The shard stops reading, or goes on.
    fn pause(&mut self, paused: bool) {
        self.paused = paused;
        self.duplex.stall(Side::Server, paused);
    }
}

impl Kernel {
    pub(crate) fn new(
        seed: u64,
        shards: u16,
        setup: &Arc<Setup>,
        plant: Option<Plant>,
        mail_delay_max: Duration,
        (clock, platters): (Arc<Clock>, Vec<Platter>),
    ) -> Self {
        let stopped = Stopped::new();
        let start = Instant::now();
        let mut rng = StdRng::seed_from_u64(seed);
        let multiplier = setup.quantum.as_ref().expect("Quantum is served").multiplier;
        let mut kernel = Self {
            now: start,
            start,
            trace: Trace::default(),
            nodes: Vec::new(),
            wires: Vec::new(),
            alive: Vec::new(),
            plant,
            effects: Vec::new(),
            mail_delay_max,
            closing: Vec::new(),
            ways: Vec::new(),
            steer: Steer::keyed(shards, multiplier),
            misrouted: rng.random_range(0.0..0.1),
            clock,
            stopped,
            rng: StdRng::seed_from_u64(rng.random()),
        };
        let mut platters = platters.into_iter();
        for id in 0..shards {
            let id = ShardId(id);
            kernel.nodes.push(Node {
                shard: Shard::new(id, shards, start, Arc::clone(setup)),
                io: Io::new(id, shards, start, WALL_MS, rng.random()),
                platter: platters.next(),
                boxes: (0..=shards).map(|_| VecDeque::new()).collect(),
                generations: Vec::new(),
                free: Vec::new(),
                accepting: true,
                gone: false,
                awake: false,
            });
        }
        for index in 0..kernel.nodes.len() {
            kernel.turn(index, |shard, io| shard.on_start(io));
        }
        kernel
    }

    /// Opens a connection to some shard, as the kernel's hash would; returns its number.
    pub(crate) fn connect(&mut self, config: PipeConfig) -> Option<usize> {
        let shard = self.rng.random_range(0..self.nodes.len());
        let node = &mut self.nodes[shard];
        if !node.accepting || node.gone {
            return None;
        }
        let index = node.free.pop().unwrap_or_else(|| {
            node.generations.push(0);
            u32::try_from(node.generations.len() - 1).expect("few streams")
        });
        let stream = Stream { index, generation: node.generations[index as usize] };
        let wire = self.wires.len();
        self.alive.push(wire);
        self.wires.push(Wire {
            duplex: Duplex::new(self.rng.random(), config),
            shard,
            stream,
            queue: VecDeque::new(),
            shutdown: false,
            paused: false,
            closed: false,
            ended: false,
            left: false,
        });
        let peer: SocketAddr = ([127, 0, 0, 1], 50_000).into();
        self.turn(shard, |shard, io| shard.on_stream(io, stream, StreamEvent::Accepted { listener: PLAIN, peer }));
        Some(wire)
    }

    pub(crate) fn unix_ms(&self) -> u64 {
        WALL_MS + u64::try_from((self.now - self.start).as_millis()).expect("a short world")
    }

    /// A way for the datagrams of a client; returns its number.
    pub(crate) fn pave(&mut self) -> usize {
        self.ways.push(Way::new(self.rng.random(), self.ways.len()));
        self.ways.len() - 1
    }

    pub(crate) fn way(&mut self, way: usize) -> &mut Way {
        &mut self.ways[way]
    }

    /// The client sends datagrams.
    pub(crate) fn send_datagrams(&mut self, way: usize, bytes: &[u8], segment: usize) {
        let peer = self.ways[way].address();
        for datagram in bytes.chunks(segment) {
            self.ways[way].up.send(self.now, Parcel { peer, bytes: datagram.to_vec() });
        }
    }

    /// What has arrived at the client; what was sent to an address that is not its own any more has not.
    pub(crate) fn receive_datagram(&mut self, way: usize) -> Option<Vec<u8>> {
        while let Some(parcel) = self.ways[way].down.poll(self.now) {
            if parcel.peer == self.ways[way].address() {
                self.trace.note(b'e', way as u64, &parcel.bytes);
                return Some(parcel.bytes);
            }
        }
        None
    }

    /// The client writes what there is room for.
    pub(crate) fn write(&mut self, wire: usize, bytes: &[u8]) -> usize {
        self.wires[wire].duplex.write(self.now, Side::Client, bytes)
    }

    /// What has arrived at the client.
    pub(crate) fn read(&mut self, wire: usize) -> Option<Arrival> {
        let arrival = self.wires[wire].duplex.poll(self.now, Side::Client)?;
        if let Arrival::Data(bytes) = &arrival {
            self.trace.note(b'c', wire as u64, bytes);
        }
        Some(arrival)
    }

    pub(crate) fn finish(&mut self, wire: usize) {
        self.wires[wire].duplex.finish(self.now, Side::Client);
    }

    pub(crate) fn reset(&mut self, wire: usize) {
        self.wires[wire].left = true;
        self.wires[wire].duplex.reset(self.now, Side::Client);
    }

    /// The client lets go of a connection that has ended.
    pub(crate) fn leave(&mut self, wire: usize) {
        self.wires[wire].left = true;
    }

    pub(crate) fn stall(&mut self, wire: usize, stalled: bool) {
        self.wires[wire].duplex.stall(Side::Client, stalled);
    }

    pub(crate) fn hold(&mut self, wire: usize, until: Instant) {
        self.wires[wire].duplex.hold(until);
    }

    /// Orders all shards to drain, as the control thread would.
    pub(crate) fn drain(&mut self, until: Instant) {
        let control = self.nodes.len();
        for index in 0..self.nodes.len() {
            let at = self.now + self.delay();
            self.nodes[index].boxes[control].push_back((at, Mail::Drain { until }));
        }
    }

    /// The machine goes down and comes up again: connections, memory and what was not on disk are gone.
    pub(crate) fn crash(&mut self, setup: &Arc<Setup>) {
        let (now, shards) = (self.now, u16::try_from(self.nodes.len()).expect("few"));
        self.closing.clear();
        for number in self.alive.clone() {
            let wire = &mut self.wires[number];
            if !std::mem::replace(&mut wire.closed, true) {
                wire.queue.clear();
                wire.duplex.reset(now, Side::Server);
                let node = &mut self.nodes[wire.shard];
                node.generations[wire.stream.index as usize] += 1;
                node.free.push(wire.stream.index);
            }
        }
        for index in 0..self.nodes.len() {
            let id = ShardId(u16::try_from(index).expect("few"));
            let node = &mut self.nodes[index];
            let platter = node.platter.as_mut().expect("it has a disk");
            platter.crash();
            let journals = setup.journal.as_ref().expect("it has a journal");
            journals.put(id, recovered(setup, id, platter));
            node.boxes.iter_mut().for_each(VecDeque::clear);
            node.shard = Shard::new(id, shards, now, Arc::clone(setup));
            node.io = Io::new(id, shards, now, WALL_MS, self.rng.random());
            self.trace.note(b'!', index as u64, &[]);
        }
        for index in 0..self.nodes.len() {
            self.turn(index, |shard, io| shard.on_start(io));
        }
    }

    /// A shard's disk has no room for a while.
    pub(crate) fn fill_a_disk(&mut self, lasts: Duration) {
        let index = self.rng.random_range(0..self.nodes.len());
        let until = self.now + lasts;
        if let Some(platter) = &mut self.nodes[index].platter {
            platter.fill(until);
        }
    }

    pub(crate) fn all_gone(&self) -> bool {
        self.nodes.iter().all(|node| node.gone)
    }

    /// Connections that shards hold.
    pub(crate) fn connections(&self) -> usize {
        self.nodes.iter().map(|node| node.shard.connections()).sum()
    }

    /// Bytes that wait in shards' queues for the network.
    pub(crate) fn queued(&self) -> usize {
        let queues = self.alive.iter().map(|number| self.wires[*number].queue.iter().map(Bytes::len).sum::<usize>());
        queues.max().unwrap_or(0)
    }

    /// When the next thing happens by itself.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let blind = self.plant == Some(Plant::LostWake);
        let nodes = self.nodes.iter().filter(|node| !node.gone).flat_map(|node| {
            let mail = node.boxes.iter().filter_map(|mail| mail.front().map(|(at, _)| *at)).filter(|_| !blind);
            let disk = node.platter.as_ref().and_then(Platter::deadline);
            mail.chain(node.io.deadline().into_iter().chain(disk).filter(|_| !blind))
        });
        let wires = self.alive.iter().filter_map(|number| self.wires[*number].duplex.deadline());
        nodes.chain(wires).chain(self.ways.iter().filter_map(Way::deadline)).min()
    }

    /// Everything that is due at `now`, until nothing more is.
    pub(crate) fn run(&mut self, now: Instant) {
        self.now = now;
        self.stopped.set(now - self.start);
        self.clock.set(self.unix_ms());
        self.ways.iter_mut().for_each(|way| way.mend(now));
        let wires = &self.wires;
        self.alive.retain(|number| !(wires[*number].closed && wires[*number].left));
        for _ in 0..LAPS_MAX {
            let before = self.trace.count;
            self.deliver_mail();
            self.close_deferred();
            self.deliver_bytes();
            self.deliver_datagrams();
            self.deliver_disk();
            self.wake();
            if self.trace.count == before {
                self.nodes.iter_mut().for_each(|node| node.awake = false);
                return;
            }
        }
        panic!("the world turns without time passing");
    }

    fn deliver_mail(&mut self) {
        for index in 0..self.nodes.len() {
            for sender in 0..self.nodes[index].boxes.len() {
                let asleep = self.plant == Some(Plant::LostWake) && !self.nodes[index].awake;
                while !asleep && self.nodes[index].boxes[sender].front().is_some_and(|(at, _)| *at <= self.now) {
                    let Some((_, mail)) = self.nodes[index].boxes[sender].pop_front() else { break };
                    let from = if sender == self.nodes.len() { ShardId::CONTROL } else { ShardId(sender as u16) };
                    self.trace.note(b'm', sender as u64, &(index as u64).to_le_bytes());
                    self.turn(index, |shard, io| shard.on_mail(io, from, mail));
                }
            }
        }
    }

    fn deliver_bytes(&mut self) {
        for number in self.alive.clone() {
            self.send(number);
            while let Some(arrival) = self.arrival(number) {
                let Wire { shard, stream, .. } = self.wires[number];
                match arrival {
                    Arrival::Data(mut bytes) => {
                        self.trace.note(b's', number as u64, &bytes);
                        self.nodes[shard].awake = true;
                        self.turn(shard, |shard, io| shard.on_stream(io, stream, StreamEvent::Data(&mut bytes)));
                    }
                    Arrival::Finished => {
                        self.wires[number].ended = true;
                        self.trace.note(b'f', number as u64, &[]);
                        self.turn(shard, |shard, io| shard.on_stream(io, stream, StreamEvent::Ended));
                        self.send(number);
                    }
                    Arrival::Reset => self.close(number, StreamClose::Reset),
                }
            }
        }
    }

    fn deliver_datagrams(&mut self) {
        for way in 0..self.ways.len() {
            while let Some(Parcel { peer, mut bytes }) = self.ways[way].up.poll(self.now) {
                let stray = self.rng.random_bool(self.misrouted);
                let steered = self.steer.shard_of_datagram(&bytes).filter(|_| !stray);
                let shard = steered.map_or_else(|| self.rng.random_range(0..self.nodes.len()), ShardId::index);
                self.trace.note(b'd', way as u64, &bytes);
                self.nodes[shard].awake = true;
                let segment = bytes.len().max(1);
                self.turn(shard, |shard, io| {
                    shard.on_datagrams(io, Socket(0), Datagrams { peer, segment, ecn: 0, bytes: &mut bytes });
                });
            }
        }
    }

    fn deliver_disk(&mut self) {
        for index in 0..self.nodes.len() {
            while let Some((ticket, outcome)) = self.nodes[index].platter.as_mut().and_then(|disk| disk.poll(self.now))
            {
                self.trace.note(b'k', index as u64, &ticket.0.to_le_bytes());
                self.turn(index, |shard, io| shard.on_disk(io, ticket, outcome));
            }
        }
    }

    /// Puts a shard's datagrams on their ways.
    fn depart(&mut self, train: Train, bytes: &Bytes) {
        let Some(way) = self.ways.iter_mut().find(|way| way.address() == train.to) else { return };
        for datagram in bytes.chunks(usize::from(train.segment)) {
            way.down.send(self.now, Parcel { peer: train.to, bytes: datagram.to_vec() });
        }
    }

    fn arrival(&mut self, number: usize) -> Option<Arrival> {
        let wire = &mut self.wires[number];
        if wire.closed || wire.paused || wire.ended { None } else { wire.duplex.poll(self.now, Side::Server) }
    }

    /// Moves what is queued into the network, and tells the shard.
    fn send(&mut self, number: usize) {
        let wire = &mut self.wires[number];
        if wire.closed {
            return;
        }
        let mut sent = 0;
        while let Some(front) = wire.queue.front_mut() {
            let taken = wire.duplex.write(self.now, Side::Server, front);
            sent += taken;
            front.advance(taken);
            if !front.is_empty() {
                break;
            }
            wire.queue.pop_front();
        }
        let (shard, stream, done) = (wire.shard, wire.stream, wire.queue.is_empty() && wire.shutdown);
        if done {
            wire.duplex.finish(self.now, Side::Server);
        }
        let over = done && wire.ended;
        if sent > 0 {
            self.trace.note(b'q', number as u64, &(sent as u64).to_le_bytes());
            self.turn(shard, |shard, io| shard.on_stream(io, stream, StreamEvent::Sent { bytes: sent }));
        }
        if over {
            self.close(number, StreamClose::Local);
        }
    }

    /// The last event of a stream; its slot is free for the next one.
    fn close(&mut self, number: usize, why: StreamClose) {
        let wire = &mut self.wires[number];
        if std::mem::replace(&mut wire.closed, true) {
            return;
        }
        wire.queue.clear();
        let (shard, stream) = (wire.shard, wire.stream);
        self.trace.note(b'x', number as u64, &[]);
        let node = &mut self.nodes[shard];
        node.generations[stream.index as usize] += 1;
        self.turn(shard, |shard, io| shard.on_stream(io, stream, StreamEvent::Closed(why)));
        self.nodes[shard].free.push(stream.index);
    }

    fn wake(&mut self) {
        for index in 0..self.nodes.len() {
            let due = self.nodes[index].io.deadline().is_some_and(|at| at <= self.now);
            if due && self.plant != Some(Plant::LostWake) && !self.nodes[index].gone {
                self.trace.note(b'w', index as u64, &[]);
                self.turn(index, |_, _| {});
            }
        }
    }

    /// One turn of a shard, and what it asked for.
    fn turn(&mut self, index: usize, act: impl FnOnce(&mut Shard, &mut Io<Mail>)) {
        let wall_ms = self.unix_ms();
        let node = &mut self.nodes[index];
        if node.gone {
            return;
        }
        node.io.begin_turn(self.now, wall_ms);
        act(&mut node.shard, &mut node.io);
        node.shard.on_turn_end(&mut node.io);
        let mut effects = std::mem::take(&mut self.effects);
        node.io.take_effects(&mut effects);
        for effect in effects.drain(..) {
            self.carry_out(index, effect);
        }
        self.effects = effects;
    }

    fn carry_out(&mut self, index: usize, effect: Effect<Mail>) {
        match effect {
            Effect::Send { stream, bytes } => self.with(index, stream, |wire| wire.queue.push_back(bytes)),
            Effect::Shutdown { stream } => self.with(index, stream, |wire| wire.shutdown = true),
            Effect::Pause { stream } => self.with(index, stream, |wire| wire.pause(true)),
            Effect::Resume { stream } => self.with(index, stream, |wire| wire.pause(false)),
            Effect::Close { stream } => {
                if let Some(number) = self.number(index, stream) {
                    self.wires[number].duplex.reset(self.now, Side::Server);
                    self.defer_close(number);
                }
            }
            Effect::Mail { to: ShardId::CONTROL, mail } => self.control(index, mail),
            Effect::Mail { to, mail } => self.post(index, to, mail),
            Effect::StopAccepting => self.nodes[index].accepting = false,
            Effect::Exit => self.exit(index),
            Effect::Train { train, bytes, .. } => self.depart(train, &bytes),
            Effect::Disk { ticket, operation } => {
                let now = self.now;
                self.nodes[index].platter.as_mut().expect("it has a disk").start(now, ticket, operation);
            }
            Effect::Connect { .. } => panic!("the server does not do this yet"),
        }
    }

    /// The shard's thread ends; what is still open is reset by the operating system.
    fn exit(&mut self, index: usize) {
        self.nodes[index].gone = true;
        for wire in self.wires.iter_mut().filter(|wire| wire.shard == index && !wire.closed) {
            wire.closed = true;
            wire.duplex.reset(self.now, Side::Server);
        }
    }

    fn with(&mut self, index: usize, stream: Stream, act: impl FnOnce(&mut Wire)) {
        if let Some(number) = self.number(index, stream) {
            act(&mut self.wires[number]);
        }
    }

    fn number(&self, index: usize, stream: Stream) -> Option<usize> {
        let is_it = |wire: &Wire| wire.shard == index && wire.stream == stream && !wire.closed;
        self.alive.iter().rev().copied().find(|number| is_it(&self.wires[*number]))
    }

    /// Puts mail on its way; it may be late, but never before what the same shard sent earlier.
    fn post(&mut self, from: usize, to: ShardId, mail: Mail) {
        let copies = self.plant.as_mut().map_or(1, |plant| plant.tamper(&mail));
        let earliest = self.nodes[to.index()].boxes[from].back().map_or(self.now, |(at, _)| *at);
        let at = (self.now + self.delay()).max(earliest);
        match copies {
            0 => {}
            1 => self.nodes[to.index()].boxes[from].push_back((at, mail)),
            _ => {
                if let Some(twin) = super::plant::twin(&mail) {
                    self.nodes[to.index()].boxes[from].push_back((at, twin));
                }
                self.nodes[to.index()].boxes[from].push_back((at, mail));
            }
        }
    }

    fn delay(&mut self) -> Duration {
        let max = u64::try_from(self.mail_delay_max.as_micros()).expect("short");
        Duration::from_micros(self.rng.random_range(0..=max))
    }

    /// The control thread: it knows no accounts, and every guest is welcome.
    fn control(&mut self, from: usize, mail: Mail) {
        let Mail::Asked(asked) = mail else { return };
        let (Job::Guest { name, .. }, control) = (asked.job, self.nodes.len()) else { return };
        let answer = Box::new(Ok(Done::Welcome(Identity { user: name, guest: true, login: None })));
        let at = self.now + self.delay();
        let mail = Mail::Answered { line: asked.line, request: asked.request, answer };
        self.nodes[from].boxes[control].push_back((at, mail));
    }

    fn defer_close(&mut self, number: usize) {
        self.closing.push(number);
    }

    fn close_deferred(&mut self) {
        for number in std::mem::take(&mut self.closing) {
            self.close(number, StreamClose::Local);
        }
    }
}

// Laps at one instant: more than this many and something feeds itself.
const LAPS_MAX: usize = 10_000;
