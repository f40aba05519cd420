//! A peer with good keys and bad intentions: any frames at any time of a connection.

use std::time::{Duration, Instant};

use bytes::Bytes;
use quantum::{CloseReason, Connection, Delivery, Direction, Side, StreamId, error::Code, packet::Space};

use super::pair::{End, Pair};

/// Packets of the peer, at most.
const PACKETS_MAX: usize = 300;

/// Bytes of a connection, at most: what it allows, and what it sends.
const MEMORY_MAX: usize = 1 << 20;

/// The first byte says who is hostile, and how far the handshake is. Then come packets: a byte of what happens with
/// them, their length, and their frames.
pub(crate) fn run(data: &[u8]) {
    let Some((stage, mut rest)) = data.split_first() else { return };
    let attacker = if stage & 0x80 == 0 { Side::Client } else { Side::Server };
    let mut pair = Pair::new(|_| {});
    for at in 0..stage % 8 {
        pair.pass(if at % 2 == 0 { Side::Client } else { Side::Server });
    }
    for _ in 0..PACKETS_MAX {
        let Some(([what, len], behind)) = rest.split_first_chunk() else { break };
        let (frames, behind) = behind.split_at((4 * usize::from(*len)).min(1_100).min(behind.len()));
        rest = behind;
        let space = [Space::Application, Space::Application, Space::Handshake, Space::Initial][usize::from(what % 4)];
        if let Some(attacker) = pair.end(attacker).connection() {
            attacker.inject(space, frames);
        }
        step(&mut pair, attacker, *what);
        look(pair.end(attacker.peer()));
    }
    let now = pair.now;
    if let Some(attacker) = pair.end(attacker).connection() {
        attacker.close(now, 0, b"");
    }
    pair.run(Duration::from_secs(30));
    look(pair.end(attacker.peer()));
    assert!(pair.client.endpoint.is_empty() && pair.server.endpoint.is_empty(), "both ends forget each other");
}

/// What the bits of a packet's first byte make happen around it.
fn step(pair: &mut Pair, attacker: Side, what: u8) {
    let now = pair.now;
    if what & 0x04 != 0 {
        pair.pass(attacker);
    }
    if let Some(victim) = pair.end(attacker.peer()).connection() {
        if what & 0x08 != 0 {
            read(victim);
        }
        if what & 0x10 != 0 {
            write(victim, now);
        }
    }
    if what & 0x20 != 0 {
        pair.pass(attacker.peer());
    }
    match what >> 6 {
        0 => {}
        1 => pair.run(Duration::from_millis(1)),
        2 => pair.run(Duration::from_millis(30)),
        _ => pair.run(Duration::from_millis(700)),
    }
}

/// The application takes what there is.
fn read(victim: &mut Connection) {
    while victim.recv_message().is_some() || victim.recv_datagram().is_some() {}
    for id in (0..16).map(StreamId) {
        while let Ok(len) = victim.chunk(id).map(<[u8]>::len)
            && len > 0
        {
            victim.consume(id, len);
        }
    }
}

/// And says something in every way there is.
fn write(victim: &mut Connection, now: Instant) {
    if let Some(id) = victim.open(Direction::Bidirectional) {
        let written = victim.write(id, &[1; 700]).is_ok() && victim.finish(id).is_ok();
        assert!(written || !victim.is_connected(), "a stream that was just opened takes bytes");
    }
    for id in [StreamId(0), StreamId(1)] {
        let _ = victim.write(id, &[2; 300]);
    }
    for (channel, delivery) in [Delivery::Independent, Delivery::Ordered, Delivery::Newest].into_iter().enumerate() {
        let deadline = Some(Duration::from_millis(100));
        let _ = victim.send_message(now, channel as u64, delivery, 1, deadline, Bytes::from_static(&[3; 90]));
    }
    let _ = victim.send_datagram(Bytes::from_static(&[4; 50]));
}

/// What must hold whatever the peer does.
fn look(victim: &End) {
    if let Some(connection) = victim.endpoint.peek(victim.handle) {
        connection.check();
        assert!(connection.memory() < MEMORY_MAX, "{} bytes are held", connection.memory());
    }
    for (_, reason) in &victim.closed {
        let CloseReason::Transport(error) = reason else { continue };
        let is_named = (Code::ConnectionRefused as u64..=Code::Message as u64).contains(&error.code);
        assert!(is_named || (0x100..0x200).contains(&error.code), "closed for {error:?}");
    }
}
