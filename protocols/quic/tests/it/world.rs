//! One client and the shards of a server in virtual time, with a bad network between them.

use std::{
    net::SocketAddr,
    sync::OnceLock,
    time::{Duration, Instant},
};

use quic::{
    Client, Connection, Endpoint, EndpointConfig, Event, Handle, Meta, Router, ServerConfig, StreamId, Transmit,
    Transport, Trust, Verdict,
    token::{ResetKey, TokenKey},
};
use simnet::{Link, LinkConfig};

use crate::clock;

/// When the simulated world begins, on its own wall clock.
pub(crate) const EPOCH_MS: u64 = 1_760_000_000_000;

pub(crate) const MULTIPLIER: u32 = 0xDEAD_BEEF;

/// A datagram on its way.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
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

/// How the kernel's filter steers a datagram of QUIC: the rule that the crate's ids are made for.
pub(crate) fn steer(datagram: &[u8], shards: u16) -> u16 {
    let router = Router::new(MULTIPLIER, shards, 0);
    let at = if datagram[0] & 0x80 == 0 { 1 } else { 6 };
    let has_word = datagram[0] & 0x80 == 0 || datagram.get(5).is_some_and(|len| *len >= 8);
    match datagram.get(at..at + 4) {
        Some(word) if has_word => router.shard_of(u32::from_be_bytes(word.try_into().unwrap())),
        _ => 0,
    }
}

pub(crate) fn server_config() -> ServerConfig {
    static MADE: OnceLock<(Vec<u8>, Vec<u8>)> = OnceLock::new();
    let (certificate, key) = MADE.get_or_init(|| {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let made = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
        (made.der().to_vec(), key.serialize_der())
    });
    ServerConfig {
        certificates: vec![certificate.clone()],
        key: key.clone(),
        alpn: vec![b"test/1".to_vec()],
        ticket_key: [42; 48],
        early_data: true,
    }
}

pub(crate) fn client_of(transport: &Transport) -> Client {
    Client::new(&Trust::Roots(server_config().certificates), &[b"test/1".to_vec()], transport).unwrap()
}

/// The view of a shard of a server.
pub(crate) fn shard_config(shard: u16, shards: u16, transport: &Transport) -> EndpointConfig {
    EndpointConfig {
        router: Router::new(MULTIPLIER, shards, shard),
        token: TokenKey::new([1; 32], None),
        reset: ResetKey::new(&[2; 32]),
        ..EndpointConfig::single([0; 32], transport.clone())
    }
}

/// The world.
pub(crate) struct World {
    pub(crate) now: Instant,
    began: Instant,
    pub(crate) client: Endpoint,
    pub(crate) shards: Vec<Endpoint>,
    pub(crate) up: Link<Packet>,
    pub(crate) down: Link<Packet>,
    /// The client's address as itself knows it, and as the server sees it: a NAT is between them.
    pub(crate) inside: SocketAddr,
    pub(crate) outside: SocketAddr,
    pub(crate) server_address: SocketAddr,
    pub(crate) config: Client,
    pub(crate) client_events: Vec<(Handle, Event)>,
    pub(crate) server_events: Vec<(usize, Handle, Event)>,
    pub(crate) verdicts: Vec<(usize, Verdict)>,
    /// All that the server sent and the client sent, in bytes and in datagrams.
    pub(crate) sent_up: Vec<Vec<u8>>,
    pub(crate) sent_down: Vec<Vec<u8>>,
    pub(crate) trains: Vec<Transmit>,
    buffer: Vec<u8>,
}

impl World {
    pub(crate) fn new(seed: u64, shards: u16, link: LinkConfig) -> Self {
        Self::with(seed, shards, link, &Transport::default(), |_| {})
    }

    pub(crate) fn with(
        seed: u64,
        shards: u16,
        link: LinkConfig,
        transport: &Transport,
        change: impl Fn(&mut EndpointConfig),
    ) -> Self {
        let now = clock::stop();
        let server = server_config();
        let mut key = [7; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        let endpoint = |shard: u16| {
            let mut config = shard_config(shard, shards, transport);
            change(&mut config);
            let mut seed = key;
            seed[31] = shard as u8;
            Endpoint::new(config, Some(&server), seed).unwrap()
        };
        let outside = "192.0.2.1:40000".parse().unwrap();
        Self {
            now,
            began: now,
            client: Endpoint::new(EndpointConfig::single([9; 32], transport.clone()), None, key).unwrap(),
            shards: (0..shards).map(endpoint).collect(),
            up: Link::new(seed, link),
            down: Link::new(!seed, link),
            inside: "10.0.0.1:1234".parse().unwrap(),
            outside,
            server_address: "198.51.100.1:8443".parse().unwrap(),
            config: client_of(transport),
            client_events: Vec::new(),
            server_events: Vec::new(),
            verdicts: Vec::new(),
            sent_up: Vec::new(),
            sent_down: Vec::new(),
            trains: Vec::new(),
            buffer: vec![0; 65_535],
        }
    }

    pub(crate) fn unix_ms(&self) -> u64 {
        EPOCH_MS + (self.now - self.began).as_millis() as u64
    }

    pub(crate) fn connect(&mut self, session: Option<&[u8]>) -> Handle {
        let meta = Meta { local: self.inside, remote: self.server_address };
        self.client.connect(self.now, meta, "localhost", &mut self.config, session).unwrap()
    }

    /// Connects, and gives the handles of both ends.
    pub(crate) fn connected(&mut self) -> (Handle, (usize, Handle)) {
        self.connected_with(None)
    }

    pub(crate) fn connected_with(&mut self, session: Option<&[u8]>) -> (Handle, (usize, Handle)) {
        let handle = self.connect(session);
        let before = self.server_events.len();
        self.run_until(Duration::from_secs(30), |world| {
            world.client_told(handle, &Event::Connected)
                && world.server_events[before..].iter().any(|(_, _, event)| *event == Event::Connected)
        });
        let connected = self.server_events[before..].iter().find(|(_, _, event)| *event == Event::Connected);
        let (shard, server, _) = connected.unwrap();
        (handle, (*shard, *server))
    }

    pub(crate) fn client_told(&self, handle: Handle, event: &Event) -> bool {
        self.client_events.iter().any(|(other, told)| *other == handle && told == event)
    }

    pub(crate) fn client_at(&mut self, handle: Handle) -> &mut Connection {
        self.client.connection(handle).expect("the client's connection is there")
    }

    pub(crate) fn server_at(&mut self, (shard, handle): (usize, Handle)) -> &mut Connection {
        self.shards[shard].connection(handle).expect("the server's connection is there")
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
                "not done after {:?}: {:?} {:?} {:?} {:?}",
                self.now - self.began,
                self.client_events,
                self.server_events,
                self.client.stats(),
                self.shards.iter().map(Endpoint::stats).collect::<Vec<_>>()
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
        self.go_to(until);
        self.turn();
    }

    fn step(&mut self, until: Instant) -> bool {
        let timers = self.shards.iter().chain([&self.client]).filter_map(Endpoint::deadline);
        match timers.chain(self.up.deadline()).chain(self.down.deadline()).min() {
            Some(at) if at <= until => {
                // Two at the same time are done in two turns; a timer that stays is a fault that the loop must not hide.
                self.go_to(at.max(self.now + Duration::from_nanos(1)));
                true
            }
            _ => false,
        }
    }

    fn go_to(&mut self, at: Instant) {
        clock::advance(at - self.now);
        self.now = at;
    }

    /// Delivers what has arrived, fires timers, and sends what there is to send.
    pub(crate) fn turn(&mut self) {
        let now = self.now;
        while let Some(packet) = self.up.poll(now) {
            self.hand_up(packet.from, packet.bytes);
        }
        while let Some(packet) = self.down.poll(now) {
            // What goes to an address that the client had before is lost.
            if packet.to == self.outside {
                self.hand_down(packet.bytes);
            }
        }
        for endpoint in self.shards.iter_mut().chain([&mut self.client]) {
            if endpoint.deadline().is_some_and(|at| at <= now) {
                endpoint.handle_timeout(now);
            }
        }
        self.flush();
    }

    /// A datagram reaches the client.
    pub(crate) fn hand_down(&mut self, mut bytes: Vec<u8>) {
        let meta = Meta { local: self.inside, remote: self.server_address };
        let unix_ms = self.unix_ms();
        self.client.handle(self.now, unix_ms, meta, &mut bytes);
    }

    /// A datagram reaches the server, and the shard that it is steered to.
    pub(crate) fn hand_up(&mut self, from: SocketAddr, mut bytes: Vec<u8>) -> Verdict {
        let shard = if bytes.is_empty() { 0 } else { steer(&bytes, self.shards.len() as u16) };
        let meta = Meta { local: self.server_address, remote: from };
        let unix_ms = self.unix_ms();
        let verdict = self.shards[usize::from(shard)].handle(self.now, unix_ms, meta, &mut bytes);
        assert!(!matches!(verdict, Verdict::Foreign(_)), "what is steered arrives where it belongs");
        self.verdicts.push((usize::from(shard), verdict));
        verdict
    }

    /// Sends what there is to send and takes events.
    pub(crate) fn flush(&mut self) {
        let now = self.now;
        let mut buffer = std::mem::take(&mut self.buffer);
        while let Some(transmit) = self.client.poll_transmit(now, &mut buffer, 64) {
            for bytes in buffer[..transmit.size].chunks(transmit.segment) {
                self.sent_up.push(bytes.to_vec());
                let packet = Packet { from: self.outside, to: transmit.to, bytes: bytes.to_vec() };
                self.up.send(now, packet);
            }
            self.trains.push(transmit);
        }
        for shard in 0..self.shards.len() {
            while let Some(transmit) = self.shards[shard].poll_transmit(now, &mut buffer, 64) {
                for bytes in buffer[..transmit.size].chunks(transmit.segment) {
                    self.sent_down.push(bytes.to_vec());
                    let packet = Packet { from: self.server_address, to: transmit.to, bytes: bytes.to_vec() };
                    self.down.send(now, packet);
                }
                self.trains.push(transmit);
            }
        }
        self.buffer = buffer;
        self.client_events.extend(std::iter::from_fn(|| self.client.poll_event()));
        for (shard, endpoint) in self.shards.iter_mut().enumerate() {
            let events = std::iter::from_fn(|| endpoint.poll_event());
            self.server_events.extend(events.map(|(handle, event)| (shard, handle, event)));
        }
    }
}

/// Reads all that has arrived on a stream; whether that was its end.
pub(crate) fn drain(connection: &mut Connection, id: StreamId, into: &mut Vec<u8>) -> bool {
    let mut chunk = [0; 4096];
    while let Ok((len, end)) = connection.read(id, &mut chunk) {
        into.extend_from_slice(&chunk[..len]);
        if end {
            return true;
        }
    }
    false
}

/// A link with a round trip of 40 ms.
pub(crate) fn plain() -> LinkConfig {
    LinkConfig { delay: Duration::from_millis(20), ..LinkConfig::default() }
}
