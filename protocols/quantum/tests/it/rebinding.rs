//! A NAT forgets the client's port while both sides talk: how long a message then takes.

use std::time::{Duration, Instant};

use bytes::Bytes;
use quantum::{Delivery, FecMode, Transport};

use crate::{returning::link, traffic::Who, world::World};

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

/// Moves the client to another port of its address every 5 seconds; how long the worst message took, of the client and of
/// the server.
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

//= SPEC.md#9
//= type=test
//# When only the port of the peer changed, a sender SHOULD count as lost at once what it sent to the port before
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
