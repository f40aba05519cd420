//! A message through a whole shard, from its publisher's bytes to its readers' bytes: no heap allocation in steady state.

use std::{
    alloc::System,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use bytes::BytesMut;
use engine::{Effect, Io, Reactor, ShardId, Stream, StreamEvent};
use ringshard::{config::Config, mail::Mail, serve::PLAIN, setup::Setup, shard::Shard};
use session::{Client, Codec, Credential, Hello, Subscription};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const WALL_MS: u64 = 1_800_000_000_000;

/// One shard with connections whose bytes are counted and thrown away.
struct Bench {
    shard: Shard,
    io: Io<Mail>,
    effects: Vec<Effect<Mail>>,
    sent: Vec<(Stream, usize)>,
    now: Instant,
    bytes_out: usize,
}

impl Bench {
    fn new() -> Self {
        let mut config = Config::default();
        config.limits.messages_per_sec = 1_000_000;
        config.limits.messages_burst = 1_000_000;
        (config.chat.rate_min, config.chat.rate_hour) = (0, 0);
        let now = Instant::now();
        let setup = Setup {
            config,
            keys: session::Keys::new(&[7; 32]),
            logins: Arc::default(),
            stats: vec![Arc::default()],
            figures: OnceLock::new(),
            hash_seed: 7,
            tls: None,
            quantum: None,
            quic: None,
            policy: http::HeaderValue::from_static("default-src 'self'"),
            certificates: None,
            journal: None,
            shared: Arc::default(),
            snapshot: Default::default(),
        };
        let shard = Shard::new(ShardId(0), 1, now, Arc::new(setup));
        let io = Io::new(ShardId(0), 1, now, WALL_MS, [3; 32]);
        Self { shard, io, effects: Vec::new(), sent: Vec::new(), now, bytes_out: 0 }
    }

    /// A turn, and the engine's answer to it: everything is sent at once.
    fn turn(&mut self, act: impl FnOnce(&mut Shard, &mut Io<Mail>)) {
        self.now += Duration::from_micros(50);
        let wall = WALL_MS;
        self.io.begin_turn(self.now, wall);
        act(&mut self.shard, &mut self.io);
        self.shard.on_turn_end(&mut self.io);
        self.drain();
        while let Some((stream, bytes)) = self.sent.pop() {
            self.shard.on_stream(&mut self.io, stream, StreamEvent::Sent { bytes });
            self.shard.on_turn_end(&mut self.io);
            self.drain();
        }
    }

    /// Lets time pass, so that timers go off.
    fn rest(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now += Duration::from_millis(50);
            self.turn(|_, _| {});
        }
    }

    fn drain(&mut self) {
        self.io.take_effects(&mut self.effects);
        for effect in self.effects.drain(..) {
            if let Effect::Send { stream, bytes } = effect {
                self.bytes_out += bytes.len();
                self.sent.push((stream, bytes.len()));
            }
        }
    }

    fn data(&mut self, stream: Stream, bytes: &mut [u8]) {
        self.turn(|shard, io| shard.on_stream(io, stream, StreamEvent::Data(bytes)));
    }

    fn open(&mut self, index: u32, first: &[u8]) -> Stream {
        let stream = Stream { index, generation: 0 };
        let peer = ([127, 0, 0, 1], 1).into();
        self.turn(|shard, io| shard.on_stream(io, stream, StreamEvent::Accepted { listener: PLAIN, peer }));
        self.data(stream, &mut first.to_vec());
        stream
    }
}

fn hello(codec: Codec, user: &str) -> BytesMut {
    let token = session::Keys::new(&[7; 32]).mint(WALL_MS / 1000, user, 3_600, &[], false);
    let mut hello = Hello::new(1, Credential::Token(token.into()), "device");
    hello.subs.push(Subscription { topic: "chat/lobby".into(), epoch: None, after: None });
    let mut out = BytesMut::new();
    session::encode_client(codec, &Client::Hello(hello), &mut out);
    out
}

fn publish(codec: Codec, seq: u64) -> BytesMut {
    let body = br#"{"type":"text","text":"hello, all of you"}"#;
    let mut out = BytesMut::new();
    let topic = "chat/lobby".into();
    session::encode_client(codec, &Client::Pub { id: 5, topic, seq: Some(seq), body }, &mut out);
    out
}

const UPGRADE: &str = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
     Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

const WARM: usize = 20_000;

/// Publishes through `write` many times and counts what is allocated while the later ones pass.
fn count(bench: &mut Bench, stream: Stream, mut write: impl FnMut(u64) -> Vec<u8>) -> (usize, usize) {
    // The history of 1,000 fills first: its records are then used again. Its index of counters, a hash table with as
    // many removals as insertions, grows a last time some thousand messages later.
    let mut messages: Vec<Vec<u8>> = (1..=WARM as u64 + 2_000).map(&mut write).collect();
    for bytes in &mut messages[..WARM] {
        bench.data(stream, bytes);
    }
    // Presence is told a while after the readers came; it is no message.
    bench.rest(Duration::from_secs(2));
    let before = bench.bytes_out;
    let region = Region::new(ALLOCATOR);
    for bytes in &mut messages[WARM..] {
        bench.data(stream, bytes);
    }
    let change = region.change();
    (change.allocations + change.reallocations, bench.bytes_out - before)
}

#[test]
fn a_relayed_message_allocates_nothing() {
    let mut bench = Bench::new();
    let first = [tcp::PREFACE, &hello(Codec::Binary, "publisher")].concat();
    let publisher = bench.open(0, &first);
    for reader in 1..=5 {
        let first = [tcp::PREFACE, &hello(Codec::Binary, &format!("reader{reader}"))].concat();
        bench.open(reader, &first);
    }
    let limits = websocket::Limits { message_max: 65_536, frame_max: 65_536 };
    let mut client = websocket::Connection::client(limits, [1; 32]);
    let mut socket = None;
    for reader in 6..=10 {
        let stream = bench.open(reader, UPGRADE.as_bytes());
        client.send_text(std::str::from_utf8(&hello(Codec::Json, &format!("reader{reader}"))).expect("JSON"));
        let mut out = BytesMut::new();
        client.take_output(&mut out);
        bench.data(stream, &mut out);
        socket = Some(stream);
    }
    let (allocations, bytes) = count(&mut bench, publisher, |seq| publish(Codec::Binary, seq).to_vec());
    assert!(bytes > 2_000 * 11 * 40, "only {bytes} bytes came out of 2,000 messages to 11 readers");
    assert_eq!(allocations, 0, "for 2,000 messages from a framed stream to 11 readers");
    let (allocations, bytes) = count(&mut bench, socket.expect("opened"), |seq| {
        client.send_text(std::str::from_utf8(&publish(Codec::Json, seq)).expect("JSON"));
        let mut out = BytesMut::new();
        client.take_output(&mut out);
        out.to_vec()
    });
    assert!(bytes > 2_000 * 11 * 40, "only {bytes} bytes came out of 2,000 messages to 11 readers");
    assert_eq!(allocations, 0, "for 2,000 messages from a WebSocket to 11 readers");
}
