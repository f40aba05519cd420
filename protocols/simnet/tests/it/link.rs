//! A link does what its configuration says, no more, and the same again from the same seed.

use std::time::{Duration, Instant};

use simnet::{Fate, Link, LinkConfig, Loss, Reorder};

const MS: Duration = Duration::from_millis(1);

/// What arrived, and when: in microseconds after the start.
type Arrived = Vec<(u128, Vec<u8>)>;

fn link(config: LinkConfig) -> Link<Vec<u8>> {
    Link::new(7, config)
}

/// All that arrives.
fn drain(link: &mut Link<Vec<u8>>, start: Instant) -> Arrived {
    let mut arrived = Vec::new();
    while let Some(at) = link.deadline() {
        assert_eq!(link.poll(at - Duration::from_nanos(1)), None, "nothing is early");
        arrived.push(((at - start).as_micros(), link.poll(at).unwrap()));
    }
    arrived
}

fn numbers(arrived: &[(u128, Vec<u8>)]) -> Vec<u32> {
    arrived.iter().map(|(_, packet)| u32::from_le_bytes(packet[..4].try_into().unwrap())).collect()
}

/// Sends `count` numbered packets, one per millisecond.
fn train(config: LinkConfig, count: u32) -> (Link<Vec<u8>>, Arrived) {
    let (mut link, start) = (link(config), Instant::now());
    for number in 0..count {
        link.send(start + MS * number, number.to_le_bytes().to_vec());
    }
    let arrived = drain(&mut link, start);
    (link, arrived)
}

#[test]
fn a_perfect_link_only_delays() {
    let (link, arrived) = train(LinkConfig { delay: 40 * MS, ..LinkConfig::default() }, 3);
    assert_eq!(arrived.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [40_000, 41_000, 42_000]);
    assert_eq!(numbers(&arrived), [0, 1, 2]);
    assert_eq!((link.stats().sent, link.stats().delivered), (3, 3));
}

#[test]
fn the_bottleneck_spaces_packets_and_its_queue_drops_the_tail() {
    let config = LinkConfig { rate_bytes_per_s: Some(100_000), queue_bytes: 3_000, ..LinkConfig::default() };
    let (mut link, start) = (link(config), Instant::now());
    for number in 0..5_u8 {
        link.send(start, vec![number; 1_000]);
    }
    let arrived = drain(&mut link, start);
    let seen: Vec<_> = arrived.iter().map(|(at, packet)| (*at, packet[0])).collect();
    assert_eq!(seen, [(10_000, 0), (20_000, 1), (30_000, 2)]);
    assert_eq!(link.stats().queue_full, 2);
    link.send(start + 30 * MS, vec![9; 1_000]);
    assert_eq!(link.deadline(), Some(start + 40 * MS), "an empty queue takes packets again");
}

#[test]
fn every_nth_packet_is_lost() {
    let (link, arrived) = train(LinkConfig { loss: Loss::Nth(3), ..LinkConfig::default() }, 9);
    assert_eq!(numbers(&arrived), [0, 1, 3, 4, 6, 7]);
    assert_eq!(link.stats().lost, 3);
}

#[test]
fn independent_loss_is_as_frequent_as_asked_for() {
    let (link, _) = train(LinkConfig { loss: Loss::Iid(0.1), ..LinkConfig::default() }, 20_000);
    assert!((1_800..2_200).contains(&link.stats().lost), "{:?}", link.stats());
}

#[test]
fn bursts_are_as_long_and_as_frequent_as_asked_for() {
    let loss = Loss::GilbertElliott { to_bad: 0.01, to_good: 0.25, good: 0.0, bad: 1.0 };
    let (link, arrived) = train(LinkConfig { loss, ..LinkConfig::default() }, 50_000);
    let bursts = numbers(&arrived).windows(2).filter(|pair| pair[1] != pair[0] + 1).count() as f64;
    let mean = link.stats().lost as f64 / bursts;
    assert!((3.5..4.5).contains(&mean), "bursts of {mean}");
    let share = link.stats().lost as f64 / 50_000.0;
    assert!((0.03..0.05).contains(&share), "{share} lost");
}

#[test]
fn jitter_keeps_the_order_and_reordering_does_not() {
    let jitter = LinkConfig { delay: 10 * MS, jitter: 20 * MS, ..LinkConfig::default() };
    let (_, arrived) = train(jitter, 1_000);
    assert_eq!(numbers(&arrived), (0..1_000).collect::<Vec<_>>());
    assert!(arrived.iter().any(|(at, packet)| *at > 20_000 + 1_000 * u128::from(packet[0])), "somebody was late");
    let reorder = Reorder { probability: 0.05, hold: 10 * MS };
    let (link, arrived) = train(LinkConfig { reorder, ..LinkConfig::default() }, 1_000);
    let overtaken = numbers(&arrived).windows(2).filter(|pair| pair[1] < pair[0]).count();
    assert!((20..80).contains(&overtaken), "{overtaken} came late");
    assert_eq!(link.stats().delivered, 1_000);
}

#[test]
fn duplicates_arrive_twice_and_damage_is_one_bit() {
    let (link, arrived) = train(LinkConfig { duplicate: 0.2, ..LinkConfig::default() }, 1_000);
    assert_eq!(arrived.len() as u64, 1_000 + link.stats().duplicated);
    assert!((150..250).contains(&link.stats().duplicated));
    let (link, arrived) = train(LinkConfig { corrupt: 0.2, ..LinkConfig::default() }, 1_000);
    let flipped: u32 = numbers(&arrived).iter().zip(0..).map(|(got, sent)| (got ^ sent).count_ones()).sum();
    assert_eq!(u64::from(flipped), link.stats().corrupted);
    assert!((150..250).contains(&flipped));
}

#[test]
fn what_is_too_long_or_meets_a_link_that_is_down_is_counted() {
    let (mut link, now) = (link(LinkConfig { mtu: 1_200, ..LinkConfig::default() }), Instant::now());
    link.send(now, vec![0; 1_201]);
    link.configure(LinkConfig { down: true, ..link.config() });
    link.send(now, vec![0; 1_200]);
    link.configure(LinkConfig { down: false, ..link.config() });
    link.send(now, vec![]);
    assert_eq!(link.poll(now), Some(vec![]));
    assert_eq!((link.stats().too_long, link.stats().lost, link.stats().delivered), (1, 1, 1));
}

#[test]
fn the_same_seed_gives_the_same_world_and_another_one_does_not() {
    let config = LinkConfig {
        delay: 5 * MS,
        jitter: 3 * MS,
        loss: Loss::Iid(0.1),
        reorder: Reorder { probability: 0.1, hold: 9 * MS },
        duplicate: 0.1,
        corrupt: 0.1,
        ..LinkConfig::default()
    };
    let start = Instant::now();
    let run = |seed| {
        let mut link = Link::new(seed, config);
        for number in 0..500_u32 {
            link.send(start + MS * number, number.to_le_bytes().to_vec());
        }
        drain(&mut link, start)
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

#[test]
fn the_fate_of_a_packet_is_told_when_it_is_sent() {
    let config = LinkConfig {
        delay: 20 * MS,
        rate_bytes_per_s: Some(1_000_000),
        queue_bytes: 2_000,
        mtu: 1_500,
        ..LinkConfig::default()
    };
    let (mut link, now) = (link(config), Instant::now());
    assert_eq!(link.send(now, vec![0; 1_000]), Fate::Arrives { leaves: now + MS, at: now + 21 * MS });
    link.configure(LinkConfig { loss: Loss::Nth(1), ..config });
    assert_eq!(link.send(now, vec![0; 1_000]), Fate::Lost { leaves: now + 2 * MS, would: now + 22 * MS });
    assert_eq!(link.send(now, vec![0; 1_000]), Fate::QueueFull);
    assert_eq!(link.send(now, vec![0; 1_501]), Fate::TooLong);
    assert_eq!(link.deadline(), Some(now + 21 * MS));
}
