//! Connections that last: what wakes them, what keeps them, and where they go.

use std::time::Duration;

use quantum::{Direction, Transport};
use simnet::LinkConfig;

use crate::{
    returning::{link, met, returning},
    world::World,
};

#[test]
fn nobody_wakes_for_nothing() {
    let wakes = |world: &mut World, time| {
        let mut wakes = 0;
        world.pass(time, |_| wakes += 1);
        wakes
    };
    let mut world = World::new(1, link(20)).connected();
    world.run_for(Duration::from_secs(2));
    assert!(wakes(&mut world, Duration::from_secs(50)) < 10);
    // Nobody answers a handshake, in one direction or the other, with early data or without.
    for (early, up) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut world = met(returning(1, link(20), early));
        world.connect();
        if let Some(id) = world.client().open(Direction::Unidirectional) {
            assert_eq!(world.client().write(id, &[0; 20_000]).unwrap(), 20_000);
        }
        world.run_for(Duration::from_millis(5));
        let link = if up { &mut world.up } else { &mut world.down };
        link.configure(LinkConfig { down: true, ..link.config() });
        let count = wakes(&mut world, Duration::from_secs(30));
        assert!(count < 100, "{count} times with early data: {early}, to the server: {up}");
    }
}

#[test]
fn times_without_an_end_are_none() {
    let transport = Transport {
        idle_timeout: Duration::MAX,
        handshake_timeout: Duration::MAX,
        keep_alive: Some(Duration::MAX),
        ..Transport::default()
    };
    let mut world = World::with(1, link(20), transport.clone(), transport).connected();
    world.run_for(Duration::from_secs(100_000));
    assert!(world.client().is_connected() && world.server().is_connected());
}

#[test]
fn both_sides_count_an_update_of_keys() {
    let mut world = World::new(1, link(20)).connected();
    world.run_for(Duration::from_secs(1));
    world.client().update_keys();
    world.client().ping();
    world.run_for(Duration::from_secs(1));
    assert_eq!((world.client().stats().key_updates, world.server().stats().key_updates), (1, 1));
}

#[test]
fn two_moves_in_a_row_whose_questions_are_lost_are_found_out() {
    for silence in [100, 1_000, 4_000, 9_000] {
        let transport = Transport { keep_alive: Some(Duration::from_millis(500)), ..Transport::default() };
        let mut world = World::with(1, link(20), transport, Transport::default()).connected();
        world.run_for(Duration::from_secs(1));
        world.down.configure(LinkConfig { down: true, ..link(20) });
        for port in [1, 2] {
            world.client_address = format!("192.0.2.{port}:4000{port}").parse().unwrap();
            world.client().ping();
            world.run_for(Duration::from_millis(50));
        }
        world.run_for(Duration::from_millis(silence));
        world.down.configure(link(20));
        let id = world.server().open(Direction::Unidirectional).unwrap();
        assert_eq!(world.server().write(id, &[1; 50_000]).unwrap(), 50_000);
        let mut got = 0;
        world.run_until(Duration::from_secs(15), |world| {
            let client = world.client();
            let len = client.chunk(id).map_or(0, <[u8]>::len);
            client.consume(id, len);
            got += len;
            got == 50_000
        });
        assert_eq!(world.server().remote(), world.client_address);
    }
}
