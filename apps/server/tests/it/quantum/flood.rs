//! Datagrams of people who mean no good.

use std::{
    net::UdpSocket,
    time::{Duration, Instant},
};

use quantum::{Endpoint, EndpointConfig, Transport};

use super::talker::{Quantum, config};
use crate::{hostile::noise, process::Server};

fn dropped(server: &Server, reason: &str) -> u64 {
    server.metric("ringshard_quantum_datagrams_dropped_total", &format!("reason=\"{reason}\""))
}

fn quic(server: &Server, figure: &str) -> u64 {
    server.metric(&format!("ringshard_quic_{figure}"), "")
}

#[test]
fn garbage_is_counted_and_disturbs_nobody() {
    let server = Server::start(&[]);
    let mut innocent = Quantum::enter(&server, "ada", "chat/quiet");
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let send = |bytes: &[u8]| drop(socket.send_to(bytes, server.udp));
    for len in 1..=60 {
        let mut bytes = noise(len * 20);
        for first in [0x00, 0x80, 0x90, 0xB0, 0x3F, 0xBF] {
            bytes[0] = first;
            send(&bytes);
            // Short ones are spread by the kernel's hash, and must not all reach one shard.
            send(&bytes[..len.min(16)]);
        }
        bytes[0] = 0xC0;
        send(&bytes);
    }
    server.until("counted", |server| quic(server, "datagrams_received_total") == 60 && dropped(server, "short") == 360);
    innocent.works();
    assert_eq!((server.metric("ringshard_quantum_connections", ""), quic(&server, "connections")), (1, 0));
    // Nothing that was dropped was passed on for ever.
    assert_eq!(dropped(&server, "misrouted"), 0);
}

#[test]
fn a_flood_of_first_packets_meets_retry_and_a_limit() {
    let settings = [("RINGSHARD_QUANTUM_RETRY_ABOVE", "16"), ("RINGSHARD_QUANTUM_HALF_OPEN_MAX", "64")];
    let server = Server::start(&settings);
    let mut innocent = Quantum::enter(&server, "ada", "chat/quiet");
    let before = server.memory();
    let (config, now) = (config(&server), Instant::now());
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let mut train = Vec::new();
    for flood in 0..20u8 {
        // Whoever never answers, as one who has forged the address cannot.
        let mut endpoint = Endpoint::new(EndpointConfig::single([flood; 32], Transport::default()), None, [flood; 32]);
        for _ in 0..200 {
            endpoint.connect(now, 1_800_000_000_000, server.udp, "localhost", &config).expect("begun");
        }
        while let Some(transmit) = endpoint.poll_transmit(now, &mut train) {
            for datagram in train.chunks(transmit.segment) {
                let _ = socket.send_to(datagram, server.udp);
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    server.until("asked to retry", |server| server.metric("ringshard_quantum_retries_total", "") > 1_000);
    assert!(server.metric("ringshard_quantum_half_open", "") <= 2 * 64, "{}", server.admin("/metrics"));
    // Who does answer gets in, by a round trip more.
    let mut late = Quantum::enter(&server, "bob", "chat/quiet");
    late.works();
    innocent.works();
    assert!(server.memory() < before + (64 << 20), "{} MiB", (server.memory() - before) >> 20);
    // What was begun and never answered is given up.
    server.until("forgotten", |server| server.metric("ringshard_quantum_half_open", "") == 0);
}
