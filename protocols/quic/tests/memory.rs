//! What an idle connection holds on the heap of Rust; BoringSSL's own memory is not in it.

#![allow(clippy::unwrap_used)]

use std::{alloc::System, time::Instant};

use quic::{Client, Endpoint, EndpointConfig, Event, Meta, ServerConfig, Transport, Trust};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const CONNECTIONS: usize = 100;

/// Both sides together.
const BOTH_MAX: usize = 64 * 1024;

/// Carries all that one side has to send; whether there was anything.
fn carry(from: &mut Endpoint, to: &mut Endpoint, meta: Meta) -> bool {
    let (mut buffer, mut any) = (vec![0; 65_535], false);
    while let Some(transmit) = from.poll_transmit(Instant::now(), &mut buffer, 64) {
        for bytes in buffer[..transmit.size].chunks_mut(transmit.segment) {
            to.handle(Instant::now(), 0, meta, bytes);
        }
        any = true;
    }
    any
}

/// Carries all that there is to carry.
fn settle(client: &mut Endpoint, server: &mut Endpoint, [near, far]: [Meta; 2]) {
    while carry(client, server, far) | carry(server, client, near) {}
}

// One test: the counters are those of the whole process.
#[test]
fn an_idle_connection_is_small() {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let config = ServerConfig {
        certificates: vec![made.cert.der().to_vec()],
        key: made.signing_key.serialize_der(),
        alpn: vec![b"test/1".to_vec()],
        ticket_key: [42; 48],
        early_data: false,
    };
    let endpoint = |server: Option<&ServerConfig>, seed| {
        Endpoint::new(EndpointConfig::single([1; 32], Transport::default()), server, [seed; 32]).unwrap()
    };
    let (mut client, mut server) = (endpoint(None, 1), endpoint(Some(&config), 2));
    let mut tls = Client::new(&Trust::DangerousAnybody, &config.alpn, &Transport::default()).unwrap();
    let (a, b) = ("127.0.0.1:1000".parse().unwrap(), "127.0.0.1:443".parse().unwrap());
    let metas = [Meta { local: a, remote: b }, Meta { local: b, remote: a }];
    let connect = |client: &mut Endpoint, server: &mut Endpoint, tls: &mut Client| {
        client.connect(Instant::now(), metas[0], "localhost", tls, None).unwrap();
        settle(client, server, metas);
        let connected = std::iter::from_fn(|| server.poll_event()).any(|(_, event)| event == Event::Connected);
        assert!(connected);
        while client.poll_event().is_some() {}
    };
    // The tables grow.
    (0..CONNECTIONS).for_each(|_| connect(&mut client, &mut server, &mut tls));
    let region = Region::new(ALLOCATOR);
    (0..CONNECTIONS).for_each(|_| connect(&mut client, &mut server, &mut tls));
    let change = region.change();
    let both = (change.bytes_allocated - change.bytes_deallocated) / CONNECTIONS;
    println!("{both} bytes for both sides");
    assert!(both <= BOTH_MAX, "{both} bytes");
}
