//! What a session over Quantum holds while it is idle, counted by the allocator: in the endpoint alone, and with the
//! session on it in a shard.

use std::{
    alloc::System,
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use bytes::BytesMut;
use engine::{Datagrams, Effect, Io, Reactor, ShardId, Socket};
use quantum::{ClientConfig, Endpoint, EndpointConfig, Meta, ServerConfig, Transport, crypto::Trust};
use rand::{SeedableRng, rngs::StdRng};
use ringshard::{
    client::{Client, Heard},
    config::Config,
    mail::Mail,
    setup::{self, Setup},
    shard::Shard,
};
use session::{Client as Say, Codec, Credential, Hello};
use stats_alloc::{INSTRUMENTED_SYSTEM, Stats, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const WALL_MS: u64 = 1_800_000_000_000;

/// Sessions of the measurement.
const CROWD: usize = 400;

/// The core's aim, and what a session may add to it.
const CORE_BYTES_MAX: i64 = 8 * 1024;
const SESSION_BYTES_MAX: i64 = 2 * 1024;

/// Bytes that are held, beyond some beginning.
fn held(stats: Stats) -> i64 {
    stats.bytes_allocated as i64 - stats.bytes_deallocated as i64
}

/// The server's end: what it takes, and what it sends.
trait End {
    fn take(&mut self, now: Instant, peer: SocketAddr, datagram: &mut [u8]);
    fn turn(&mut self, now: Instant, out: &mut Vec<(SocketAddr, Vec<u8>)>);
}

struct Bare(Endpoint);

impl End for Bare {
    fn take(&mut self, now: Instant, remote: SocketAddr, datagram: &mut [u8]) {
        let _ = self.0.handle(now, WALL_MS, Meta { remote, ecn: 0 }, datagram);
    }

    fn turn(&mut self, now: Instant, out: &mut Vec<(SocketAddr, Vec<u8>)>) {
        self.0.handle_timeout(now);
        while self.0.poll_event().is_some() {}
        let mut train = Vec::new();
        while let Some(transmit) = self.0.poll_transmit(now, &mut train) {
            out.extend(train.chunks(transmit.segment).map(|datagram| (transmit.to, datagram.to_vec())));
        }
        while self.0.poll_event().is_some() {}
    }
}

struct Whole {
    shard: Shard,
    io: Io<Mail>,
    effects: Vec<Effect<Mail>>,
}

impl End for Whole {
    fn take(&mut self, now: Instant, peer: SocketAddr, bytes: &mut [u8]) {
        self.io.begin_turn(now, WALL_MS);
        let segment = bytes.len();
        self.shard.on_datagrams(&mut self.io, Socket(0), Datagrams { peer, segment, ecn: 0, bytes });
    }

    fn turn(&mut self, now: Instant, out: &mut Vec<(SocketAddr, Vec<u8>)>) {
        self.io.begin_turn(now, WALL_MS);
        self.shard.on_turn_end(&mut self.io);
        self.io.take_effects(&mut self.effects);
        for effect in self.effects.drain(..) {
            if let Effect::Train { train, bytes, .. } = effect {
                let datagrams = bytes.chunks(usize::from(train.segment));
                out.extend(datagrams.map(|datagram| (train.to, datagram.to_vec())));
            }
        }
    }
}

/// Lets a crowd connect, and one after the other say hello; what the server's end holds for each of them at the end.
fn idle_bytes(end: &mut impl End, client: &ClientConfig, talks: bool) -> i64 {
    let mut now = Instant::now();
    let token = session::Keys::new(&[7; 32]).mint(WALL_MS / 1000, "user", 3_600, &[], false);
    let transport = || Transport { idle_timeout: Duration::from_secs(3_600), ..Transport::default() };
    let mut clients: Vec<_> = (0..CROWD)
        .map(|n| {
            // Of their own each: a first packet that is like another's is taken for a copy of it.
            let seed = std::array::from_fn(|at| [n as u8, (n >> 8) as u8].get(at).copied().unwrap_or(9));
            Client::new(client.clone(), transport(), seed)
        })
        .collect();
    let address = |n: usize| SocketAddr::from(([10, 0, (n >> 8) as u8, n as u8], 4_000));
    let server = SocketAddr::from(([10, 9, 9, 9], 8443));
    let (mut bytes, mut out) = (0, Vec::new());
    for lap in 0..4_000 {
        now += Duration::from_millis(2);
        if let Some(client) = clients.get_mut(lap) {
            client.connect(now, WALL_MS, server, "localhost").expect("begun");
        }
        for (n, client) in clients.iter_mut().enumerate() {
            client.handle_timeout(now);
            while let Some(heard) = client.poll() {
                if heard == Heard::Up && talks {
                    let hello = Hello::new(1, Credential::Token(token.clone().into()), "device");
                    let mut frame = BytesMut::new();
                    session::encode_client(Codec::Binary, &Say::Hello(hello), &mut frame);
                    client.say(&frame);
                }
                assert!(!matches!(heard, Heard::Closed(_)), "{heard:?}");
            }
            let mut train = Vec::new();
            while let Some(transmit) = client.poll_transmit(now, &mut train) {
                for datagram in train.chunks_mut(transmit.segment) {
                    let before = held(ALLOCATOR.stats());
                    end.take(now, address(n), datagram);
                    bytes += held(ALLOCATOR.stats()) - before;
                }
            }
        }
        out.clear();
        out.reserve(1_000);
        let before = held(ALLOCATOR.stats());
        end.turn(now, &mut out);
        let on_its_way: usize = out.iter().map(|(_, datagram)| datagram.capacity()).sum();
        bytes += held(ALLOCATOR.stats()) - before - on_its_way as i64;
        for (to, mut datagram) in out.drain(..) {
            let n = (0..CROWD).find(|n| address(*n) == to).expect("one of the crowd");
            clients[n].handle(now, WALL_MS, Meta { remote: server, ecn: 0 }, &mut datagram);
        }
    }
    assert!(clients.iter().all(Client::is_up));
    bytes / CROWD as i64
}

#[test]
fn an_idle_session_is_small() {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let tls = ServerConfig::builder(vec![made.cert.der().clone()], key.into()).expect("the key fits");
    let tls = tls.ticketer(tcp::tls::ticketer().expect("a ticketer")).build().expect("a configuration");
    let client = ClientConfig::builder(Trust::DangerousAnybody).build().expect("a configuration");

    let transport = Transport { idle_timeout: Duration::from_secs(3_600), ..Transport::default() };
    let config = EndpointConfig { retry_above: usize::MAX, ..EndpointConfig::single([5; 32], transport) };
    let mut bare = Bare(Endpoint::new(config, Some(tls.clone()), [1; 32]));
    let core = idle_bytes(&mut bare, &client, false);

    let mut config = Config::default();
    config.quantum.idle_secs = Duration::from_secs(3_600);
    let setup = Setup {
        config,
        keys: session::Keys::new(&[7; 32]),
        logins: Arc::default(),
        stats: vec![Arc::default()],
        figures: OnceLock::new(),
        hash_seed: 7,
        tls: None,
        quantum: Some(setup::Quantum::new(1, tls, &mut StdRng::seed_from_u64(3))),
        quic: None,
        policy: http::HeaderValue::from_static("default-src 'self'"),
        certificates: None,
        journal: None,
        shared: Arc::default(),
        snapshot: Default::default(),
    };
    let now = Instant::now();
    let shard = Shard::new(ShardId(0), 1, now, Arc::new(setup));
    let mut whole = Whole { shard, io: Io::new(ShardId(0), 1, now, WALL_MS, [3; 32]), effects: Vec::new() };
    whole.shard.on_start(&mut whole.io);
    let session = idle_bytes(&mut whole, &client, true);
    assert_eq!(whole.shard.connections(), CROWD);
    println!("{core} bytes in the core, {session} with a session on it");
    assert!(core <= CORE_BYTES_MAX, "{core}");
    assert!(session - core <= SESSION_BYTES_MAX, "{session} - {core}");
}
