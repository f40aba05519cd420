//! One stream from a client to a server in memory, without sockets: what the core itself costs, for callgrind.
//!
//! ```text
//! valgrind --tool=callgrind --callgrind-out-file=/dev/null target/release/examples/exchange 20000000
//! ```

use std::{
    env,
    time::{Duration, Instant},
};

use bytes::Bytes;
use quantum::{
    ClientConfig, Direction, Endpoint, EndpointConfig, Event, FecMode, Handle, Meta, ServerConfig, StreamId, Transport,
    crypto::Trust,
};

/// Time that passes between two laps: a round trip is two of them.
const LAP: Duration = Duration::from_micros(500);

struct Pair {
    now: Instant,
    client: Endpoint,
    server: Endpoint,
    buffer: Vec<u8>,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let total: usize = env::args().nth(1).unwrap_or_else(|| "20000000".to_owned()).parse()?;
    let mut pair = pair()?;
    let (handle, id) = connect(&mut pair)?;
    let from = Instant::now();
    let stats = exchange(&mut pair, handle, id, total);
    println!("{total} bytes in {:?}: {stats:?}", from.elapsed());
    Ok(())
}

fn pair() -> Result<Pair, Box<dyn std::error::Error>> {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()).into();
    let server = ServerConfig::builder(vec![made.cert.der().clone()], key)?.build()?;
    let transport = || Transport {
        fec: FecMode::Off,
        udp_payload_max: 1200,
        data_max: 16 << 20,
        stream_data_max: 8 << 20,
        ..Transport::default()
    };
    Ok(Pair {
        now: Instant::now(),
        client: Endpoint::new(EndpointConfig::single([1; 32], transport()), None, [1; 32]),
        server: Endpoint::new(EndpointConfig::single([2; 32], transport()), Some(server), [2; 32]),
        buffer: Vec::new(),
    })
}

impl Pair {
    /// Everything that either has to send reaches the other.
    fn lap(&mut self) {
        let meta = Meta { remote: "127.0.0.1:1".parse().expect("an address"), ecn: 0 };
        self.now += LAP;
        for (from, to) in [(&mut self.client, &mut self.server)] {
            from.handle_timeout(self.now);
            to.handle_timeout(self.now);
            while let Some(transmit) = from.poll_transmit(self.now, &mut self.buffer) {
                for datagram in self.buffer.chunks_mut(transmit.segment) {
                    to.handle(self.now, 0, meta, datagram);
                }
            }
            while let Some(transmit) = to.poll_transmit(self.now, &mut self.buffer) {
                for datagram in self.buffer.chunks_mut(transmit.segment) {
                    from.handle(self.now, 0, meta, datagram);
                }
            }
        }
    }
}

fn connect(pair: &mut Pair) -> Result<(Handle, StreamId), Box<dyn std::error::Error>> {
    let config = ClientConfig::builder(Trust::DangerousAnybody).build()?;
    let handle = pair.client.connect(pair.now, 0, "127.0.0.1:1".parse()?, "localhost", &config)?;
    for _ in 0..20 {
        pair.lap();
    }
    let connection = pair.client.connection(handle).ok_or("not connected")?;
    let id = connection.open(Direction::Unidirectional).ok_or("no stream")?;
    Ok((handle, id))
}

fn exchange(pair: &mut Pair, handle: Handle, id: StreamId, total: usize) -> quantum::EndpointStats {
    let block = Bytes::from(vec![7; 64 * 1024]);
    let (mut written, mut read, mut server) = (0, 0, None);
    while read < total {
        if let Some(connection) = pair.client.connection(handle) {
            while written < total {
                let len = block.len().min(total - written);
                match connection.write_bytes(id, block.slice(..len)) {
                    Ok(taken) if taken > 0 => written += taken,
                    _ => break,
                }
            }
        }
        pair.lap();
        while let Some((handle, event)) = pair.server.poll_event() {
            if event == Event::Opened(id) {
                server = Some(handle);
            }
        }
        while let Some(_event) = pair.client.poll_event() {}
        let Some(connection) = server.and_then(|handle| pair.server.connection(handle)) else { continue };
        while let Ok(chunk) = connection.chunk(id)
            && !chunk.is_empty()
        {
            let len = chunk.len();
            read += len;
            connection.consume(id, len);
        }
    }
    *pair.client.stats()
}
