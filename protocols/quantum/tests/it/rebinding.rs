//! A NAT forgets the client's port while both sides talk: how long a message then takes.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    time::{Duration, Instant},
};

use bytes::Bytes;
use quantum::{Delivery, FecMode, Guuid, Transport, Verdict, packet};
use simnet::LinkConfig;

use crate::{
    returning::link,
    traffic::Who,
    world::{Record, World},
};

/// One way.
const DELAY: Duration = Duration::from_millis(20);

/// Between two messages of a side.
const INTERVAL: Duration = Duration::from_millis(2);

/// What both sides send, and how long the worst message of each took.
struct Talk {
    epoch: Instant,
    /// Bytes of a message of the client, and of the server.
    lens: [usize; 2],
    sent: u64,
    received: [u64; 2],
    worst: [Duration; 2],
}

impl Talk {
    fn new(world: &World, lens: [usize; 2]) -> Self {
        Self { epoch: world.now, lens, sent: 0, received: [0; 2], worst: [Duration::ZERO; 2] }
    }

    /// A message of each side, and what arrives until the next one.
    fn turn(&mut self, world: &mut World) {
        let now = world.now;
        let stamp = (now - self.epoch).as_nanos() as u64;
        for who in Who::BOTH {
            let mut bytes = vec![0; self.lens[who as usize]];
            bytes[..8].copy_from_slice(&stamp.to_be_bytes());
            let sent = world.connection(who).send_message(now, 0, Delivery::Independent, 2, None, Bytes::from(bytes));
            assert!(sent.is_ok(), "{sent:?} after {:?}", now - self.epoch);
        }
        self.sent += 1;
        world.pass(INTERVAL, |world| self.take(world));
    }

    fn take(&mut self, world: &mut World) {
        for who in Who::BOTH {
            while let Some(message) = world.connection(who).recv_message() {
                let stamp = u64::from_be_bytes(message.bytes[..8].try_into().unwrap());
                let took = world.now - self.epoch - Duration::from_nanos(stamp);
                let by = who.other() as usize;
                self.received[by] += 1;
                self.worst[by] = self.worst[by].max(took);
            }
        }
    }
}

/// Moves the client to another port of its address every 5 seconds; how long the worst message took, of the client and
/// of the server.
fn rebound(seed: u64, lens: [usize; 2], fec: FecMode) -> [Duration; 2] {
    let transport = Transport { fec, ..Transport::default() };
    let mut world = World::with(seed, link(20), transport.clone(), transport).connected();
    world.watched = true;
    world.run_for(Duration::from_secs(1));
    let mut talk = Talk::new(&world, lens);
    for round in 0..3 {
        // Somewhere between two messages.
        world.run_for(Duration::from_micros(157 * (seed % 13)));
        for _ in 0..5_000 / 2 {
            talk.turn(&mut world);
        }
        if round < 2 {
            world.client_address.set_port(40_001 + round);
        }
    }
    world.pass(Duration::from_secs(1), |world| talk.take(world));
    assert_eq!(talk.received, [talk.sent; 2], "each arrives, and once");
    assert_eq!(world.server().stats().moves, 2);
    talk.worst
}

/// Which of the client's addresses the server's packets name by which id, in the order of their first packets.
fn names(record: &Record) -> Vec<(Guuid, SocketAddr)> {
    let mut names = Vec::new();
    for (_, packet) in record.borrow().iter().filter(|(who, _)| *who == Who::Server) {
        let name = (packet::destination(&packet.bytes).unwrap(), packet.to);
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

//= SPEC.md#15
//= type=test
//# No id SHOULD be seen at two addresses
#[test]
fn no_id_of_the_client_is_seen_at_two_addresses() {
    let mut world = World::new(5, link(20)).connected();
    world.run_for(Duration::from_secs(1));
    let (record, home) = (world.record(), world.client_address);
    // Nobody answers at either, and then it is at home again.
    world.down.configure(LinkConfig { down: true, ..link(20) });
    for address in ["192.0.2.1:40001", "192.0.2.7:40002", "192.0.2.1:40000"] {
        world.client_address = address.parse().unwrap();
        world.client().ping();
        world.run_for(Duration::from_millis(50));
    }
    assert_eq!(world.server().remote(), home);
    world.down.configure(link(20));
    world.run_for(Duration::from_secs(5));
    let moved = names(&record);
    assert_eq!(moved.len(), 3, "one for each: {moved:?}");
    // On purpose, and only the question arrives at first.
    world.client_address = "192.0.2.9:40003".parse().unwrap();
    let now = world.now;
    world.client().on_local_moved(now);
    let mut buffer = Vec::new();
    let question = world.client.endpoint.poll_transmit(now, &mut buffer).unwrap();
    assert_eq!(question.segment, buffer.len());
    let from = world.client_address;
    assert_eq!(world.hand(Who::Server, from, &buffer), Verdict::Taken);
    assert_ne!(world.server().remote(), from, "the answer went out before the move");
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.server().remote(), from);
    let names = names(&record);
    assert!(names.iter().filter(|(_, to)| *to == from).count() == 1 && names.len() == 4, "{names:?}");
    let ids: BTreeSet<_> = names.iter().map(|(id, _)| id.as_bytes().to_vec()).collect();
    assert_eq!(ids.len(), 4, "{names:?}");
}

//= SPEC.md#9
//= type=test
//# When only the port of the peer changed, and the new one has credit (Q-7.1-4), a sender SHOULD count as lost at once
//# what it sent to the port before
#[test]
fn no_message_waits_for_much_more_than_a_round_trip_when_a_nat_forgets_the_port() {
    for (seed, lens) in [(1, [100, 100]), (2, [100, 1_000]), (3, [16, 1_000]), (4, [1_000, 16])] {
        for fec in [FecMode::Off, FecMode::Adaptive] {
            let worst = rebound(seed, lens, fec);
            println!("seed {seed}, {fec:?}, {lens:?} bytes: {worst:?}");
            let most = DELAY + 2 * DELAY + Duration::from_millis(20);
            assert!(worst[0] <= most && worst[1] <= most, "{worst:?} is more than {most:?}");
        }
    }
}
