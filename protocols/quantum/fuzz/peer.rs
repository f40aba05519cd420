//! A peer with good keys and bad intentions: any frames at any time of a connection.

use std::time::{Duration, Instant};

use bytes::Bytes;
use quantum::{CloseReason, Connection, Delivery, Direction, Side, StreamId, error::Code, packet::Space};

use super::pair::Pair;

/// Packets of the peer, at most.
const PACKETS_MAX: usize = 300;

/// Bytes of a server's connection, at most: what it allows, and what it sends.
const MEMORY_MAX: usize = 1 << 20;

/// The first byte says how far the handshake is. Then come packets: a byte of what happens with them, their length, and
/// their frames.
pub(crate) fn run(data: &[u8]) {
    let Some((stage, mut rest)) = data.split_first() else { return };
    let mut pair = Pair::new(|_| {});
    for _ in 0..stage % 4 {
        pair.pass(Side::Client);
        pair.pass(Side::Server);
    }
    for _ in 0..PACKETS_MAX {
        let Some(([what, len], behind)) = rest.split_first_chunk() else { break };
        let (frames, behind) = behind.split_at((4 * usize::from(*len)).min(1_100).min(behind.len()));
        rest = behind;
        let space = [Space::Application, Space::Application, Space::Handshake, Space::Initial][usize::from(what % 4)];
        if let Some(attacker) = pair.client.connection() {
            attacker.inject(space, frames);
        }
        step(&mut pair, *what);
        look(&pair);
    }
    let now = pair.now;
    if let Some(attacker) = pair.client.connection() {
        attacker.close(now, 0, b"");
    }
    pair.run(Duration::from_secs(30));
    look(&pair);
    assert!(pair.client.endpoint.is_empty() && pair.server.endpoint.is_empty(), "both ends forget each other");
    assert!(pair.server.closed.len() <= 1, "a connection ends once: {:?}", pair.server.closed);
}

/// What the bits of a packet's first byte make happen around it.
fn step(pair: &mut Pair, what: u8) {
    let now = pair.now;
    if what & 0x04 != 0 {
        pair.pass(Side::Client);
    }
    if let Some(server) = pair.server.connection() {
        if what & 0x08 != 0 {
            read(server);
        }
        if what & 0x10 != 0 {
            write(server, now);
        }
    }
    if what & 0x20 != 0 {
        pair.pass(Side::Server);
    }
    match what >> 6 {
        0 => {}
        1 => pair.run(Duration::from_millis(1)),
        2 => pair.run(Duration::from_millis(30)),
        _ => pair.run(Duration::from_millis(700)),
    }
}

/// The server's application takes what there is.
fn read(server: &mut Connection) {
    while server.recv_message().is_some() || server.recv_datagram().is_some() {}
    for id in (0..16).map(StreamId) {
        while let Ok(len) = server.chunk(id).map(<[u8]>::len)
            && len > 0
        {
            server.consume(id, len);
        }
    }
}

/// And says something in every way there is.
fn write(server: &mut Connection, now: Instant) {
    if let Some(id) = server.open(Direction::Bidirectional) {
        let written = server.write(id, &[1; 700]).is_ok() && server.finish(id).is_ok();
        assert!(written || !server.is_connected(), "a stream that was just opened takes bytes");
    }
    let _ = server.write(StreamId(0), &[2; 300]);
    for (channel, delivery) in [Delivery::Independent, Delivery::Ordered, Delivery::Newest].into_iter().enumerate() {
        let deadline = Some(Duration::from_millis(100));
        let _ = server.send_message(now, channel as u64, delivery, 1, deadline, Bytes::from_static(&[3; 90]));
    }
    let _ = server.send_datagram(Bytes::from_static(&[4; 50]));
}

/// What must hold whatever the peer does.
fn look(pair: &Pair) {
    if let Some(server) = pair.server.handle.and_then(|handle| pair.server.endpoint.peek(handle)) {
        server.check();
        assert!(server.memory() < MEMORY_MAX, "{} bytes are held", server.memory());
    }
    for reason in &pair.server.closed {
        let CloseReason::Transport(error) = reason else { continue };
        let is_named = (Code::ConnectionRefused as u64..=Code::Message as u64).contains(&error.code);
        assert!(is_named || (0x100..0x200).contains(&error.code), "closed for {error:?}");
    }
}
