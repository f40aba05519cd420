//! What acknowledgements say, and what they must not be taken for.

use std::time::Duration;

use quantum::{Delivery, Direction, FecMode, Transport, packet::Space};
use simnet::{LinkConfig, Loss, Reorder};

use crate::{
    stream::{pattern, transfer},
    traffic::{Flow, Traffic, Who},
    world::World,
};

fn link(ms: u64) -> LinkConfig {
    LinkConfig { delay: Duration::from_millis(ms), ..LinkConfig::default() }
}

#[test]
fn a_pure_receiver_does_not_tell_everything_for_ever() {
    let config =
        LinkConfig { loss: Loss::Iid(0.05), rate_bytes_per_s: Some(2_500_000), queue_bytes: 100_000, ..link(20) };
    let mut world = World::new(1, config).connected();
    let id = world.client().open(Direction::Unidirectional).unwrap();
    let (data, mut ranges) = (vec![1; 1 << 16], Vec::new());
    world.pass(Duration::from_secs(5), |world| {
        while world.client().write(id, &data).is_ok_and(|taken| taken == data.len()) {}
        while let Ok(chunk) = world.server().chunk(id) {
            let len = chunk.len();
            if len == 0 {
                break;
            }
            world.server().consume(id, len);
        }
        world.flush();
        ranges.push(world.server().ranges(Space::Application));
    });
    ranges.sort_unstable();
    let (median, most) = (ranges[ranges.len() / 2], ranges[ranges.len() - 1]);
    println!("{median} ranges, at most {most}, {:?}", world.server().stats());
    // Losses of two round trips: the one in which they are told, and the one until it is known that they were.
    assert!(median <= 24, "{median} ranges in half of all acknowledgements");
    let stats = world.server().stats();
    assert!(stats.packets_sent * 10 <= stats.packets_received * 7, "every second packet is acknowledged, about");
    world.client().reset(id, 0).unwrap();
    world.run_for(Duration::from_secs(5));
    assert!(world.server().ranges(Space::Application) <= 2);
}

#[test]
fn a_packet_that_comes_very_late_says_nothing_about_the_round_trip() {
    let reorder = Reorder { probability: 0.05, hold: Duration::from_millis(120) };
    let transport = Transport { fec: FecMode::Off, ..Transport::default() };
    let mut world = World::with(2, LinkConfig { reorder, ..link(20) }, transport, Transport::default()).connected();
    // Every acknowledgement comes as soon as it can; packets are late.
    world.down.configure(link(20));
    let (mut traffic, mut longest) = (Traffic::default(), Duration::ZERO);
    for _ in 0..3_000 {
        let flow = Flow::Message { channel: 0, delivery: Delivery::Independent, len: 300, priority: 4, deadline: None };
        traffic.send(&mut world, Who::Client, flow);
        world.pass(Duration::from_millis(5), |world| {
            traffic.turn(world);
            longest = longest.max(world.client().stats().rtt);
            world.flush();
        });
    }
    let stats = world.client().stats();
    println!("{longest:?} {stats:?}");
    assert!(stats.packets_spurious >= 20, "{} packets came after they were given up", stats.packets_spurious);
    assert!(longest <= Duration::from_millis(45), "a round trip of {longest:?}");
    assert_eq!(stats.rtt_min, Duration::from_millis(40));
}

#[test]
fn lost_acknowledgements_cost_little() {
    let rate = 1_250_000;
    let config = LinkConfig { rate_bytes_per_s: Some(rate), queue_bytes: 50_000, ..link(20) };
    let mut times = Vec::new();
    for loss in [0.0, 0.05, 0.2] {
        let mut world = World::new(3, config).connected();
        world.down.configure(LinkConfig { loss: Loss::Iid(loss), ..link(20) });
        times.push(transfer(&mut world, &pattern(5_000_000), Duration::from_secs(60)));
        let stats = world.client().stats();
        assert!(stats.packets_lost * 50 <= stats.packets_sent, "nothing of it is called lost: {stats:?}");
    }
    println!("{times:?}");
    assert!(times[1].as_secs_f64() <= times[0].as_secs_f64() / 0.9);
    assert!(times[2].as_secs_f64() <= times[0].as_secs_f64() / 0.8);
}

#[test]
fn acknowledgements_are_not_acknowledged() {
    let mut world = World::new(4, link(10)).connected();
    world.run_for(Duration::from_secs(1));
    let before = world.client.sent + world.server.sent;
    world.client().ping();
    world.flush();
    world.run_for(Duration::from_secs(30));
    assert_eq!(world.client.sent + world.server.sent - before, 2, "one packet and its acknowledgement");
}
