//! From the first datagram to the last: handshakes, and how connections end.

use std::time::Duration;

use quantum::{CloseReason, Event};
use simnet::{LinkConfig, Loss};

use crate::world::World;

fn link(ms: u64) -> LinkConfig {
    LinkConfig { delay: Duration::from_millis(ms), ..LinkConfig::default() }
}

#[test]
fn a_handshake_takes_one_round_trip() {
    let mut world = World::new(1, link(20));
    world.connect();
    world.run_until(Duration::from_secs(1), |world| world.client.events.contains(&Event::Connected));
    assert_eq!(world.elapsed(), Duration::from_millis(40));
    world.run_until(Duration::from_secs(1), |world| world.server.events.contains(&Event::Connected));
    assert_eq!(world.elapsed(), Duration::from_millis(60));
}

#[test]
fn a_close_reaches_the_peer_with_its_code_and_reason() {
    let mut world = World::new(2, link(5)).connected();
    let now = world.now;
    world.client().close(now, 42, b"done");
    world.run_for(Duration::from_secs(5));
    let closed = world.server.events.last().cloned();
    let Some(Event::Closed(CloseReason::Peer { application: true, code: 42, reason })) = closed else {
        panic!("{closed:?}")
    };
    assert_eq!(&*reason, b"done");
    assert!(world.client.endpoint.is_empty() && world.server.endpoint.is_empty());
}

#[test]
fn handshakes_survive_heavy_loss() {
    for seed in 0..40 {
        println!("seed {seed}");
        World::new(seed, LinkConfig { loss: Loss::Iid(0.3), ..link(20) }).connected();
    }
}

#[test]
fn silence_ends_a_connection() {
    let mut world = World::new(3, link(5)).connected();
    world.up.configure(LinkConfig { down: true, ..link(5) });
    world.down.configure(LinkConfig { down: true, ..link(5) });
    world.run_for(Duration::from_secs(70));
    assert_eq!(world.client.events.last(), Some(&Event::Closed(CloseReason::Idle)));
    assert_eq!(world.server.events.last(), Some(&Event::Closed(CloseReason::Idle)));
    assert!(world.client.endpoint.is_empty() && world.server.endpoint.is_empty());
}
