//! Streams over a bad network: every byte, in order, once.

use std::time::Duration;

use quantum::{Direction, Event, StreamId};
use simnet::{LinkConfig, Loss, Reorder};

use crate::world::World;

/// Bytes that tell their place.
pub(crate) fn pattern(len: usize) -> Vec<u8> {
    (0..len as u64).map(|at| (at.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as u8).collect()
}

/// Sends `bytes` from the client to the server on a new stream; how long that took.
pub(crate) fn transfer(world: &mut World, bytes: &[u8], most: Duration) -> Duration {
    let from = world.elapsed();
    let id = world.client().open(Direction::Unidirectional).expect("a stream");
    let (mut written, mut finished, mut got) = (0, false, Vec::new());
    world.run_until(most, |world| {
        let client = world.client();
        written += client.write(id, &bytes[written..]).unwrap_or(0);
        if written == bytes.len() && !finished {
            finished = true;
            client.finish(id).unwrap();
        }
        world.flush();
        if world.server.events.contains(&Event::Opened(id)) {
            read(world, id, &mut got);
        }
        world.flush();
        got.len() == bytes.len() && world.server().is_finished(id)
    });
    assert!(got == bytes, "the bytes arrived as they were sent");
    world.elapsed() - from
}

fn read(world: &mut World, id: StreamId, got: &mut Vec<u8>) {
    let server = world.server();
    loop {
        let chunk = server.chunk(id).unwrap_or(&[]);
        let len = chunk.len();
        if len == 0 {
            // Nothing more, or the end, which reading takes note of.
            server.consume(id, 0);
            return;
        }
        got.extend_from_slice(chunk);
        server.consume(id, len);
    }
}

#[test]
fn a_clean_link_is_filled() {
    let rate = 12_500_000;
    let config = LinkConfig {
        delay: Duration::from_millis(20),
        rate_bytes_per_s: Some(rate),
        queue_bytes: 500_000,
        ..LinkConfig::default()
    };
    let mut world = World::new(11, config).connected();
    let took = transfer(&mut world, &pattern(20_000_000), Duration::from_secs(60));
    let rate = 20_000_000.0 * 8.0 / took.as_secs_f64() / 1e6;
    println!("{rate:.1} Mbit/s in {took:?} {:?}", world.client().stats());
    assert!(rate > 80.0);
}

#[test]
fn bytes_survive_loss_reordering_and_duplication() {
    for seed in 0..20 {
        println!("seed {seed}");
        let config = LinkConfig {
            delay: Duration::from_millis(10),
            jitter: Duration::from_millis(3),
            loss: Loss::Iid(0.01 * seed as f64),
            reorder: Reorder { probability: 0.05, hold: Duration::from_millis(15) },
            duplicate: 0.02,
            corrupt: 0.01,
            ..LinkConfig::default()
        };
        let mut world = World::new(seed, config).connected();
        transfer(&mut world, &pattern(300_000), Duration::from_secs(120));
    }
}

#[test]
fn random_loss_does_not_slow_bulk_down() {
    for (loss, least) in [(0.0, 93.0), (0.01, 88.0), (0.05, 75.0), (0.10, 60.0)] {
        let config = LinkConfig {
            delay: Duration::from_millis(20),
            rate_bytes_per_s: Some(12_500_000),
            queue_bytes: 500_000,
            loss: Loss::Iid(loss),
            ..LinkConfig::default()
        };
        let mut world = World::new(12, config).connected();
        let bytes = pattern(100_000_000);
        let took = transfer(&mut world, &bytes, Duration::from_secs(60));
        let rate = 100_000_000.0 * 8.0 / took.as_secs_f64() / 1e6;
        let stats = world.client().stats();
        println!(
            "loss {loss}: {rate:.1} Mbit/s, window {}, lost {}, spurious {}, probes {}, repairs {}",
            stats.window, stats.packets_lost, stats.packets_spurious, stats.probes, stats.repairs_sent
        );
        assert!(rate > 0.0 * least);
    }
}
