//! A client and a server in virtual time, with a bad network between them, from one seed.

use std::{
    cell::RefCell,
    net::SocketAddr,
    rc::Rc,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use quantum::{
    ClientConfig, Connection, Endpoint, EndpointConfig, Event, Handle, Meta, ServerConfig, Transmit, Transport,
    Verdict,
    crypto::{Trust, simulation},
};
use simnet::{Link, LinkConfig};

use crate::traffic::Who;

/// When the simulated world begins, on its own wall clock.
pub(crate) const EPOCH_MS: u64 = 1_760_000_000_000;

/// Bytes that a connection may hold in any of these worlds: both windows twice over, and what little comes on top.
const MEMORY_MAX: usize = 40 << 20;

/// Turns at one and the same time, at most.
const STUCK_MAX: u32 = 3;

/// A datagram on its way: bytes, and who it says sent it.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) ecn: u8,
    pub(crate) bytes: Vec<u8>,
}

impl AsRef<[u8]> for Packet {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl AsMut<[u8]> for Packet {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

/// Everything that was sent, and by whom.
pub(crate) type Record = Rc<RefCell<Vec<(Who, Packet)>>>;

/// Says which packets do not even reach the link.
pub(crate) type Refusal = Box<dyn FnMut(&Packet) -> bool>;

/// One end: an endpoint, and what its application saw.
pub(crate) struct End {
    pub(crate) endpoint: Endpoint,
    pub(crate) handle: Option<Handle>,
    pub(crate) events: Vec<Event>,
    pub(crate) sent: u64,
}

impl End {
    /// Keeps the events of the connection that the world is about: the first whose handshake is done. A copy of the
    /// client's first packet, come late, may begin others.
    fn take(&mut self, handle: Handle, event: Event) {
        if event == Event::Connected && !self.events.contains(&event) {
            self.events.clear();
            self.handle = Some(handle);
        }
        if *self.handle.get_or_insert(handle) == handle {
            self.events.push(event);
        }
    }

    /// What is known about this end, for who wonders.
    fn account(&mut self) -> String {
        let newest = self.events.len().saturating_sub(8);
        let stats =
            self.handle.and_then(|handle| self.endpoint.connection(handle)).map(|connection| connection.stats());
        format!("{:?} {:?} {stats:?}", &self.events[newest..], self.endpoint.stats())
    }
}

/// The world.
pub(crate) struct World {
    pub(crate) now: Instant,
    began: Instant,
    pub(crate) client: End,
    pub(crate) server: End,
    pub(crate) up: Link<Packet>,
    pub(crate) down: Link<Packet>,
    /// The client's address as the server sees it; a NAT may change it.
    pub(crate) client_address: SocketAddr,
    pub(crate) server_address: SocketAddr,
    pub(crate) config: ClientConfig,
    /// Timers fire so much too late.
    pub(crate) late: Duration,
    hash: u64,
    stuck: u32,
    /// Whether the invariants of both connections are looked at after every turn.
    pub(crate) watched: bool,
    /// Whether every datagram is told on stdout (`QUANTUM_TRACE=1`).
    tells: bool,
    pub(crate) drop_down: Option<Refusal>,
    pub(crate) drop_up: Option<Refusal>,
    buffer: Vec<u8>,
}

/// A key of Ed25519 in PKCS #8 (RFC 8410): always the same, so that a seed gives the same world on every machine.
const KEY_HEAD: [u8; 16] = [0x30, 46, 2, 1, 0, 0x30, 5, 6, 3, 0x2B, 0x65, 0x70, 4, 34, 4, 32];

pub(crate) fn certificate() -> &'static (rustls::pki_types::CertificateDer<'static>, Vec<u8>) {
    static MADE: OnceLock<(rustls::pki_types::CertificateDer<'static>, Vec<u8>)> = OnceLock::new();
    MADE.get_or_init(|| {
        let key = [KEY_HEAD, [7; 16], [9; 16]].concat();
        let pair = rcgen::KeyPair::from_pkcs8_der_and_sign_algo(
            &rustls::pki_types::PrivatePkcs8KeyDer::from(key.clone()),
            &rcgen::PKCS_ED25519,
        );
        let made = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&pair.unwrap());
        (made.unwrap().der().clone(), key)
    })
}

impl World {
    pub(crate) fn new(seed: u64, link: LinkConfig) -> Self {
        Self::with(seed, link, Transport::default(), Transport::default())
    }

    pub(crate) fn with(seed: u64, link: LinkConfig, client: Transport, server: Transport) -> Self {
        Self::configured(seed, link, client, server, |_| {})
    }

    /// A world whose endpoints have other limits.
    pub(crate) fn configured(
        seed: u64,
        link: LinkConfig,
        client: Transport,
        server: Transport,
        change: impl Fn(&mut EndpointConfig),
    ) -> Self {
        let provider = simulation::provider(seed);
        let clock = simulation::Clock::new(EPOCH_MS);
        let (certificate, key) = certificate();
        let key = rustls::pki_types::PrivatePkcs8KeyDer::from(key.clone()).into();
        let server_config = ServerConfig::builder(vec![certificate.clone()], key)
            .unwrap()
            .provider(Arc::clone(&provider))
            .clock(Arc::clone(&clock) as _)
            .build()
            .unwrap();
        let config = ClientConfig::builder(Trust::DangerousAnybody).provider(provider).clock(clock).build().unwrap();
        let now = Instant::now();
        let mut key = [7; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        let end = |transport, server, name: u8| {
            let mut seed = key;
            seed[31] = name;
            let mut config = EndpointConfig::single(key, transport);
            change(&mut config);
            End { endpoint: Endpoint::new(config, server, seed), handle: None, events: Vec::new(), sent: 0 }
        };
        Self {
            now,
            began: now,
            client: end(client, None, 1),
            server: end(server, Some(server_config), 2),
            up: Link::new(seed, link),
            down: Link::new(!seed, link),
            client_address: "192.0.2.1:40000".parse().unwrap(),
            server_address: "198.51.100.1:8443".parse().unwrap(),
            config,
            late: Duration::ZERO,
            hash: 0xcbf2_9ce4_8422_2325,
            stuck: 0,
            watched: false,
            tells: std::env::var_os("QUANTUM_TRACE").is_some(),
            drop_down: None,
            drop_up: None,
            buffer: Vec::new(),
        }
    }

    pub(crate) fn unix_ms(&self) -> u64 {
        EPOCH_MS + (self.now - self.began).as_millis() as u64
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.now - self.began
    }

    pub(crate) fn connect(&mut self) {
        let (now, unix_ms) = (self.now, self.unix_ms());
        let handle = self.client.endpoint.connect(now, unix_ms, self.server_address, "localhost", &self.config);
        self.client.handle = Some(handle.unwrap());
    }

    /// Connects, and runs until both sides are connected.
    pub(crate) fn connected(mut self) -> Self {
        self.connect();
        self.run_until(Duration::from_secs(30), |world| {
            world.client.events.contains(&Event::Connected) && world.server.events.contains(&Event::Connected)
        });
        self
    }

    pub(crate) fn end(&mut self, who: Who) -> &mut End {
        match who {
            Who::Client => &mut self.client,
            Who::Server => &mut self.server,
        }
    }

    pub(crate) fn connection(&mut self, who: Who) -> &mut Connection {
        match who {
            Who::Client => self.client(),
            Who::Server => self.server(),
        }
    }

    pub(crate) fn client(&mut self) -> &mut Connection {
        let handle = self.client.handle.expect("connect first");
        self.client
            .endpoint
            .connection(handle)
            .unwrap_or_else(|| panic!("the client's connection is over: {:?}", self.client.events.last()))
    }

    pub(crate) fn server(&mut self) -> &mut Connection {
        let handle = self.server.handle.expect("nobody connected yet");
        self.server
            .endpoint
            .connection(handle)
            .unwrap_or_else(|| panic!("the server's connection is over: {:?}", self.server.events.last()))
    }

    /// Changes what is wrong with the way, in both directions.
    pub(crate) fn configure(&mut self, change: impl Fn(&mut LinkConfig)) {
        for link in [&mut self.up, &mut self.down] {
            let mut config = link.config();
            change(&mut config);
            link.configure(config);
        }
    }

    /// What is known about both ends, for who wonders.
    pub(crate) fn account(&mut self) -> String {
        format!("{:?}: {}, {}", self.elapsed(), self.client.account(), self.server.account())
    }

    /// What happened, as a number: the same seed gives the same.
    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    /// Keeps a copy of everything that is sent from now on.
    pub(crate) fn record(&mut self) -> Record {
        let record = Record::default();
        for (who, drop) in [(Who::Client, &mut self.drop_up), (Who::Server, &mut self.drop_down)] {
            let copy = Rc::clone(&record);
            *drop = Some(Box::new(move |packet| {
                copy.borrow_mut().push((who, packet.clone()));
                false
            }));
        }
        record
    }

    /// A datagram reaches an end, from whomever it says.
    pub(crate) fn hand(&mut self, to: Who, from: SocketAddr, bytes: &[u8]) -> Verdict {
        let (now, unix_ms) = (self.now, self.unix_ms());
        let verdict = self.end(to).endpoint.handle(now, unix_ms, Meta { remote: from, ecn: 0 }, &mut bytes.to_vec());
        self.flush();
        verdict
    }

    /// Runs until `done`, and fails when that takes longer than `most`.
    pub(crate) fn run_until(&mut self, most: Duration, mut done: impl FnMut(&mut Self) -> bool) {
        let until = self.now + most;
        loop {
            self.turn();
            if done(self) {
                return;
            }
            assert!(
                self.step(until),
                "not done after {:?}: {}, {}",
                self.elapsed(),
                self.client.account(),
                self.server.account()
            );
        }
    }

    /// Runs for a time.
    pub(crate) fn run_for(&mut self, time: Duration) {
        let until = self.now + time;
        self.turn();
        while self.step(until) {
            self.turn();
        }
        self.now = until;
        self.turn();
    }

    /// Runs for a time, and lets `each` act after every turn.
    pub(crate) fn pass(&mut self, time: Duration, mut each: impl FnMut(&mut Self)) {
        let until = self.now + time;
        self.turn();
        each(self);
        while self.step(until) {
            self.turn();
            each(self);
        }
        self.now = until;
        self.turn();
        each(self);
    }

    /// Goes on to the next thing that happens; whether there is one before `until`.
    fn step(&mut self, until: Instant) -> bool {
        let timers = [self.client.endpoint.deadline(), self.server.endpoint.deadline()];
        let timers = timers.into_iter().flatten().map(|at| at + self.late);
        let next = timers.chain(self.up.deadline()).chain(self.down.deadline()).min();
        match next {
            Some(at) if at <= until => {
                // Whatever is due now was done in the last turn; who wants the same again makes no progress.
                self.stuck = if at <= self.now { self.stuck + 1 } else { 0 };
                assert!(self.stuck < STUCK_MAX, "time stands still at {:?}", self.elapsed());
                self.now = at.max(self.now);
                true
            }
            _ => false,
        }
    }

    /// Delivers what has arrived, fires timers, and sends what there is to send.
    pub(crate) fn turn(&mut self) {
        let (now, unix_ms) = (self.now, self.unix_ms());
        while let Some(mut packet) = self.up.poll(now) {
            let meta = Meta { remote: packet.from, ecn: packet.ecn };
            let verdict = self.server.endpoint.handle(now, unix_ms, meta, &mut packet.bytes);
            self.note(1, packet.bytes.len() as u64, &verdict);
        }
        while let Some(mut packet) = self.down.poll(now) {
            // What goes to an address that the client had before is lost.
            if packet.to == self.client_address {
                let meta = Meta { remote: self.server_address, ecn: packet.ecn };
                let verdict = self.client.endpoint.handle(now, unix_ms, meta, &mut packet.bytes);
                self.note(2, packet.bytes.len() as u64, &verdict);
            }
        }
        for end in [&mut self.client, &mut self.server] {
            if end.endpoint.deadline().is_some_and(|at| at + self.late <= now) {
                end.endpoint.handle_timeout(now);
            }
        }
        self.flush();
    }

    /// Sends what there is to send and takes events.
    pub(crate) fn flush(&mut self) {
        let mut buffer = std::mem::take(&mut self.buffer);
        for who in Who::BOTH {
            while let Some(transmit) = self.poll_transmit(who, &mut buffer) {
                for bytes in buffer.chunks(transmit.segment) {
                    self.send(who, transmit, bytes);
                }
            }
        }
        self.buffer = buffer;
        if self.watched {
            self.watch();
        }
        for end in [&mut self.client, &mut self.server] {
            while let Some((handle, event)) = end.endpoint.poll_event() {
                end.take(handle, event);
            }
        }
    }

    /// The next train of an end. The window holds it back, but for probes and what asks an address: two datagrams at most.
    fn poll_transmit(&mut self, who: Who, buffer: &mut Vec<u8>) -> Option<Transmit> {
        let (now, watched) = (self.now, self.watched);
        let end = self.end(who);
        let in_flight = |end: &End| {
            let connection = end.handle.filter(|_| watched).and_then(|handle| end.endpoint.peek(handle));
            connection
                .map(|connection| connection.stats())
                .map_or((0, u64::MAX), |stats| (stats.in_flight, stats.window))
        };
        let (before, _) = in_flight(end);
        let transmit = end.endpoint.poll_transmit(now, buffer);
        let (after, window) = in_flight(end);
        let most = window.max(before).saturating_add(2 * 1_452);
        assert!(after <= before || after <= most, "{after} bytes in a window of {window}");
        transmit
    }

    fn send(&mut self, who: Who, transmit: Transmit, bytes: &[u8]) {
        let from = if who == Who::Client { self.client_address } else { self.server_address };
        let packet = Packet { from, to: transmit.to, ecn: transmit.ecn, bytes: bytes.to_vec() };
        self.end(who).sent += 1;
        self.tell(if who == Who::Client { "up" } else { "down" }, &packet);
        self.fold(3 + who as u64, bytes.len() as u64);
        let (link, drop) = match who {
            Who::Client => (&mut self.up, &mut self.drop_up),
            Who::Server => (&mut self.down, &mut self.drop_down),
        };
        if !drop.as_mut().is_some_and(|drop| drop(&packet)) {
            link.send(self.now, packet);
        }
    }

    /// What must hold between any two steps.
    fn watch(&self) {
        for end in [&self.client, &self.server] {
            if let Some(connection) = end.handle.and_then(|handle| end.endpoint.peek(handle)) {
                connection.check();
                assert!(connection.memory() < MEMORY_MAX, "{} bytes are held", connection.memory());
            }
        }
    }

    fn note(&mut self, what: u64, len: u64, verdict: &Verdict) {
        if self.tells {
            let arrow = ["->", "<-"][what as usize - 1];
            println!("{:>12?} {arrow} {len:>4} {verdict:?}", self.elapsed());
        }
        let code = match verdict {
            Verdict::Taken => 0,
            Verdict::Foreign(_) => 1,
            Verdict::Dropped(reason) => 2 + *reason as u64,
        };
        self.fold(what, len);
        self.fold(what, code);
    }

    fn tell(&self, way: &str, packet: &Packet) {
        if self.tells {
            let kind = match packet.bytes[0] & 0xF0 {
                0x80 => "Initial",
                0x90 => "0-RTT",
                0xA0 => "Handshake",
                0xB0 => "Retry",
                _ => "",
            };
            let (len, from, to) = (packet.bytes.len(), packet.from.port(), packet.to.port());
            println!("{:>12?} {way} {len:>4} {kind} {from} to {to}", self.elapsed());
        }
    }

    fn fold(&mut self, what: u64, number: u64) {
        let at = (self.now - self.began).as_nanos() as u64;
        for word in [what, at, number] {
            self.hash = (self.hash ^ word).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}
