//! One stream from a client to a server through quinn-proto in memory: what its core costs, beside `quantum`'s `exchange`.

use std::{
    collections::HashMap,
    env,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use quinn_proto::{
    ClientConfig, Connection, ConnectionHandle, DatagramEvent, Dir, Endpoint, EndpointConfig, Event, ServerConfig,
    StreamEvent, TransportConfig, VarInt,
    crypto::rustls::{QuicClientConfig, QuicServerConfig},
};

const LAP: Duration = Duration::from_micros(500);

struct End {
    endpoint: Endpoint,
    connections: HashMap<ConnectionHandle, Connection>,
}

fn main() {
    let total: usize = env::args().nth(1).map_or(20_000_000, |text| text.parse().expect("a number of bytes"));
    let (mut client, mut server, config) = ends();
    let mut now = Instant::now();
    let address = "127.0.0.1:1".parse().expect("an address");
    let (handle, connection) = client.endpoint.connect(now, config, address, "localhost").expect("connects");
    client.connections.insert(handle, connection);
    for _ in 0..20 {
        lap(&mut now, &mut client, &mut server);
    }
    let connection = client.connections.get_mut(&handle).expect("connected");
    let id = connection.streams().open(Dir::Uni).expect("a stream");
    let block = Bytes::from(vec![7; 64 * 1024]);
    let (mut written, mut read) = (0, 0);
    let from = Instant::now();
    while read < total {
        let connection = client.connections.get_mut(&handle).expect("connected");
        while written < total {
            let len = block.len().min(total - written);
            match connection.send_stream(id).write_chunks(&mut [block.slice(..len)]) {
                Ok(done) if done.bytes > 0 => written += done.bytes,
                _ => break,
            }
        }
        lap(&mut now, &mut client, &mut server);
        for connection in server.connections.values_mut() {
            while let Some(event) = connection.poll() {
                if let Event::Stream(StreamEvent::Opened { .. }) = event {
                    connection.streams().accept(Dir::Uni);
                }
            }
            let mut stream = connection.recv_stream(id);
            if let Ok(mut chunks) = stream.read(true) {
                while let Ok(Some(chunk)) = chunks.next(usize::MAX) {
                    read += chunk.bytes.len();
                }
                let _ = chunks.finalize();
            };
        }
        let connection = client.connections.get_mut(&handle).expect("connected");
        while connection.poll().is_some() {}
    }
    let stats = client.connections[&handle].stats();
    println!("{total} bytes in {:?}: {:?} {:?}", from.elapsed(), stats.udp_tx, stats.path);
}

fn ends() -> (End, End, ClientConfig) {
    let mut provider = rustls::crypto::ring::default_provider();
    provider.cipher_suites.retain(|suite| suite.suite() == rustls::CipherSuite::TLS13_AES_128_GCM_SHA256);
    let provider = Arc::new(provider);
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()).into();
    let tls = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("a key that fits");
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).expect("a root");
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut transport = TransportConfig::default();
    transport.mtu_discovery_config(None).initial_mtu(1200);
    transport.stream_receive_window(VarInt::from_u32(8 << 20)).receive_window(VarInt::from_u32(16 << 20));
    let transport = Arc::new(transport);
    let mut server = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).expect("for QUIC")));
    server.transport_config(transport.clone());
    let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(client).expect("for QUIC")));
    config.transport_config(transport);
    let end = |server| End {
        endpoint: Endpoint::new(Arc::new(EndpointConfig::default()), server, false, None),
        connections: HashMap::new(),
    };
    (end(None), end(Some(Arc::new(server))), config)
}

fn lap(now: &mut Instant, client: &mut End, server: &mut End) {
    *now += LAP;
    client.timeouts(*now);
    server.timeouts(*now);
    client.send(*now, server);
    server.send(*now, client);
}

impl End {
    fn timeouts(&mut self, now: Instant) {
        for connection in self.connections.values_mut() {
            if connection.poll_timeout().is_some_and(|at| at <= now) {
                connection.handle_timeout(now);
            }
        }
    }

    fn send(&mut self, now: Instant, to: &mut End) {
        let handles: Vec<_> = self.connections.keys().copied().collect();
        for handle in handles {
            let mut buffer = Vec::new();
            let connection = self.connections.get_mut(&handle).expect("it is there");
            while let Some(event) = connection.poll_endpoint_events() {
                if let Some(event) = self.endpoint.handle_event(handle, event) {
                    connection.handle_event(event);
                }
            }
            loop {
                buffer.clear();
                let Some(transmit) = connection.poll_transmit(now, 64, &mut buffer) else { break };
                let segment = transmit.segment_size.unwrap_or(transmit.size);
                for datagram in buffer[..transmit.size].chunks(segment) {
                    to.receive(now, BytesMut::from(datagram));
                }
            }
        }
    }

    fn receive(&mut self, now: Instant, datagram: BytesMut) {
        let address = "127.0.0.1:1".parse().expect("an address");
        let mut answer = Vec::new();
        match self.endpoint.handle(now, address, None, None, datagram, &mut answer) {
            Some(DatagramEvent::NewConnection(incoming)) => {
                if let Ok((handle, connection)) = self.endpoint.accept(incoming, now, &mut answer, None) {
                    self.connections.insert(handle, connection);
                }
            }
            Some(DatagramEvent::ConnectionEvent(handle, event)) => {
                if let Some(connection) = self.connections.get_mut(&handle) {
                    connection.handle_event(event);
                }
            }
            Some(DatagramEvent::Response(_)) | None => {}
        }
    }
}
