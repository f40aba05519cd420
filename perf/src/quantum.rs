//! The operations of Quantum: a client and a server in memory, so that one of them is sending, receiving and acknowledging.

use std::time::{Duration, Instant};

use bytes::Bytes;
use quantum::{
    ClientConfig, Delivery, Direction, Endpoint, EndpointConfig, Event, FecMode, Handle, Meta, ServerConfig, Transport,
    crypto::Trust,
};

/// Half a round trip.
const LAP: Duration = Duration::from_millis(2);

/// Bytes of a stream in a packet of 1,200: 37 are header, tag and what names the bytes.
const PACKET_BYTES: usize = 1200 - 37;

/// Bytes of a message.
const MESSAGE_BYTES: usize = 200;

/// Bytes that may be written and not acknowledged: some hundred packets in a round trip.
const AHEAD_BYTES: u64 = 512 << 10;

/// A stream of `count` packets of 1,200 bytes.
pub(crate) fn bulk(count: u64) {
    let (mut pair, handle) = Pair::connected(FecMode::Off);
    let connection = pair.client.connection(handle).expect("connected");
    let id = connection.open(Direction::Unidirectional).expect("a stream");
    let block = Bytes::from(vec![7; 64 * 1024]);
    let mut left = usize::try_from(count).expect("a count") * PACKET_BYTES;
    while left > 0 || pair.client.connection(handle).expect("connected").queued_bytes() > 0 {
        let connection = pair.client.connection(handle).expect("connected");
        while left > 0 {
            let taken = connection.write_bytes(id, block.slice(..block.len().min(left))).unwrap_or(0);
            left -= taken;
            if taken == 0 {
                break;
            }
        }
        pair.lap();
    }
}

/// `count` messages of 200 bytes, one after the other, with two rows of parity for eight.
pub(crate) fn message(count: u64) {
    let (mut pair, handle) = Pair::connected(FecMode::Fixed { k: 8, r: 2 });
    let message = Bytes::from(vec![7; MESSAGE_BYTES]);
    for _ in 0..count {
        let connection = pair.client.connection(handle).expect("connected");
        let sent = connection.send_message(pair.now, 1, Delivery::Independent, 1, None, message.clone());
        sent.expect("room for a message");
        pair.lap();
    }
}

/// `count` handshakes, at both ends.
pub(crate) fn handshake(count: u64) {
    let mut pair = Pair::new(FecMode::Off);
    for _ in 0..count {
        pair.connect();
    }
}

struct Pair {
    now: Instant,
    client: Endpoint,
    server: Endpoint,
    config: ClientConfig,
    buffer: Vec<u8>,
    connected: usize,
}

impl Pair {
    fn new(fec: FecMode) -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
        let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()).into();
        let server = ServerConfig::builder(vec![made.cert.der().clone()], key).and_then(|builder| builder.build());
        let server = server.expect("a configuration");
        let config = ClientConfig::builder(Trust::DangerousAnybody).build().expect("a configuration");
        let transport = || Transport {
            fec,
            udp_payload_max: quantum::config::DATAGRAM_MIN,
            send_bytes_max: AHEAD_BYTES,
            ..Transport::default()
        };
        Self {
            now: Instant::now(),
            client: Endpoint::new(EndpointConfig::single([1; 32], transport()), None, [1; 32]),
            server: Endpoint::new(EndpointConfig::single([2; 32], transport()), Some(server), [2; 32]),
            config,
            buffer: Vec::new(),
            connected: 0,
        }
    }

    fn connected(fec: FecMode) -> (Self, Handle) {
        let mut pair = Self::new(fec);
        let handle = pair.connect();
        // The last of the handshake is acknowledged, and spare ids are told.
        (0..10).for_each(|_| pair.lap());
        (pair, handle)
    }

    fn connect(&mut self) -> Handle {
        let address = "127.0.0.1:1".parse().expect("an address");
        let handle = self.client.connect(self.now, 0, address, "localhost", &self.config).expect("a connection");
        let wanted = self.connected + 1;
        while self.connected < wanted {
            self.lap();
        }
        handle
    }

    /// What either has to send reaches the other, which takes what it is told.
    fn lap(&mut self) {
        let Self { now, client, server, buffer, connected, .. } = self;
        *now += LAP;
        move_datagrams(*now, client, server, buffer);
        take(server);
        *now += LAP;
        move_datagrams(*now, server, client, buffer);
        *connected += take(client);
    }
}

fn move_datagrams(now: Instant, from: &mut Endpoint, to: &mut Endpoint, buffer: &mut Vec<u8>) {
    let meta = Meta { remote: "127.0.0.1:1".parse().expect("an address"), ecn: 0 };
    from.handle_timeout(now);
    while let Some(transmit) = from.poll_transmit(now, buffer) {
        for datagram in buffer.chunks_mut(transmit.segment) {
            to.handle(now + LAP / 2, 0, meta, datagram);
        }
    }
}

/// Takes everything that an endpoint has; how many connections were made.
fn take(end: &mut Endpoint) -> usize {
    let mut connected = 0;
    while let Some((handle, event)) = end.poll_event() {
        let Some(connection) = end.connection(handle) else { continue };
        match event {
            Event::Connected => connected += 1,
            Event::Opened(id) | Event::Readable(id) => {
                while let Ok(chunk) = connection.chunk(id)
                    && !chunk.is_empty()
                {
                    let len = chunk.len();
                    connection.consume(id, len);
                }
            }
            Event::Message => while connection.recv_message().is_some() {},
            _ => {}
        }
    }
    connected
}
