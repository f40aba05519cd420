//! A key never sees a number twice, whatever happens to a connection.

use std::{collections::BTreeSet, time::Duration};

use quantum::{Algorithm, Delivery, Direction, FecMode, Transport, packet::Space};
use rand::{Rng, SeedableRng, rngs::StdRng};
use simnet::LinkConfig;

use crate::{
    traffic::{Fate, Flow, Traffic, Who},
    world::World,
};

/// What both sides send in a while: a train, messages with parity, a datagram.
fn say(world: &mut World, traffic: &mut Traffic) {
    for who in Who::BOTH {
        let stream = Flow::Stream { direction: Direction::Unidirectional, len: 30_000, priority: 5, fate: Fate::Whole };
        traffic.send(world, who, stream);
        for _ in 0..6 {
            let delivery = Delivery::Independent;
            traffic.send(world, who, Flow::Message { channel: 0, delivery, len: 300, priority: 1, deadline: None });
        }
        traffic.send(world, who, Flow::Datagram { len: 100 });
    }
}

/// Nothing is lost or doubled on the way, so that a number that comes twice was sent twice.
fn told(seed: u64, algorithm: Algorithm) {
    println!("seed {seed}");
    let rng = &mut StdRng::seed_from_u64(seed);
    let config = LinkConfig { delay: Duration::from_millis(15), ..LinkConfig::default() };
    let transport = Transport { algorithm, fec: FecMode::Fixed { k: 4, r: 2 }, ..Transport::default() };
    let mut world = World::with(seed, config, transport.clone(), transport).connected();
    world.run_for(Duration::from_secs(1));
    let (record, mut traffic) = (world.record(), Traffic::default());
    for round in 0..40 {
        say(&mut world, &mut traffic);
        match rng.random_range(0..4) {
            0 => world.connection(Who::BOTH[round % 2]).update_keys(),
            1 => drop(world.connection(Who::BOTH[round % 2]).change_id()),
            // Between two datagrams of a train, and with packets on their way.
            2 => world.client_address.set_port(40_001 + round as u16),
            _ => {}
        }
        world.pass(Duration::from_millis(rng.random_range(1..300)), |world| traffic.turn(world));
    }
    world.pass(Duration::from_secs(5), |world| traffic.turn(world));
    assert_eq!(traffic.open(), None, "{}", world.account());
    for who in Who::BOTH {
        let stats = world.connection(who).stats();
        assert!(stats.key_updates >= 3, "{} updates of keys", stats.key_updates);
        assert_eq!(stats.packets_duplicate, 0, "{who:?} got a number twice");
        let sent = record.borrow().iter().filter(|(by, _)| *by == who).count() as u64;
        assert!(world.connection(who).numbers(Space::Application).0 > sent, "each datagram has a number of its own");
    }
    assert!(world.server().stats().moves >= 3);
    // The same bytes twice would be the same number, too.
    let datagrams: BTreeSet<Vec<u8>> = record.borrow().iter().map(|(_, packet)| packet.bytes.clone()).collect();
    assert_eq!(datagrams.len(), record.borrow().len());
}

#[test]
fn no_number_comes_twice_through_key_updates_moves_and_trains() {
    for seed in 0..20 {
        told(seed, if seed % 2 == 0 { Algorithm::Bbr } else { Algorithm::Cubic });
    }
}
