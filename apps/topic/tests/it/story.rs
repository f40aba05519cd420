//! Random lives: many seeds, and what must hold in each.

use std::time::Duration;

use handler::Message;
use rand::Rng;
use topic::Limits;

use crate::{client::Ask, world::World};

const TOPICS: [&str; 4] = ["chat/lobby", "chat/b", "chat/c", "canvas/d"];

/// What the seeds together have seen, so that a world in which nothing happens is no proof.
#[derive(Default, Debug)]
struct Seen {
    pushes: u64,
    laggings: u64,
    gaps: u64,
    repeats: u64,
    pages: u64,
}

fn build(seed: u64) -> World {
    let records = [3, 20, 1_000][(seed % 3) as usize];
    let limits = Limits { history_records_max: records, ..Limits::default() };
    let mut world = World::new(seed, 1 + (seed % 4) as u16, limits);
    for user in ["ada", "bob", "cy", "dee"] {
        for device in ["laptop", "phone"] {
            world.add_device(user, device);
        }
    }
    world.moody = true;
    world
}

fn live(seed: u64, seen: &mut Seen) -> u64 {
    let mut world = build(seed);
    let eager = world.rng.random_range(1..8);
    for step in 0..600 {
        act(&mut world, seen);
        for _ in 0..world.rng.random_range(0..=eager) {
            world.deliver();
        }
        if step % 50 == 0 {
            world.check_bounds();
        }
    }
    finish(&mut world);
    seen.pushes += world.pushes;
    seen.laggings += world.laggings;
    seen.gaps += world.devices.iter().filter_map(|who| who.line.as_ref()).map(|line| line.gaps).sum::<u64>();
    seen.repeats += (0..world.shards()).map(|shard| world.topics(shard).stats().repeated).sum::<u64>();
    seen.pages += world.pages.len() as u64;
    close_all(&mut world);
    world.hash()
}

/// One thing happens.
fn act(world: &mut World, seen: &mut Seen) {
    let device = world.rng.random_range(0..world.devices.len());
    let topic = TOPICS[world.rng.random_range(0..TOPICS.len())];
    if world.devices[device].line.is_none() {
        let shard = world.rng.random_range(0..world.shards());
        let slow = world.rng.random();
        return world.connect(device, shard, slow);
    }
    match world.rng.random_range(0..100) {
        0..3 => {
            let line = world.devices[device].line.as_ref().expect("seen above");
            seen.gaps += line.gaps;
            world.disconnect(device);
        }
        3..22 => subscribe(world, device, topic),
        22..27 => world.ask(device, Ask::Unsub { topic: topic.to_owned() }),
        27..52 => publish(world, device, topic),
        52..60 => world.wave(device, topic),
        60..64 => {
            let (delivered, read) = (world.rng.random_range(0..50), world.rng.random_range(0..50));
            world.say(device, Message::Ack { topic, delivered, read });
        }
        64..67 => {
            let before = world.rng.random::<bool>().then(|| world.rng.random_range(0..100));
            let limit = world.rng.random_range(0..100);
            world.browse(device, topic, before, limit);
        }
        67..95 => {
            let count = world.rng.random_range(0..40);
            world.read(device, count);
        }
        _ => {
            let ms = world.rng.random_range(0..1_500);
            world.pass(Duration::from_millis(ms));
        }
    }
}

fn subscribe(world: &mut World, device: usize, topic: &str) {
    let who = &world.devices[device];
    let line = who.line.as_ref().expect("connected");
    if (line.subs.contains_key(topic) || line.asked_for(topic)) && !world.rng.random_ratio(1, 10) {
        return;
    }
    let mark = who.marks.get(topic).copied();
    let (epoch, after) = match (world.rng.random_range(0..10), mark) {
        (0, _) => (None, None),
        (1, _) => (None, Some(0)),
        (2, Some((epoch, _))) => (Some(epoch ^ 1), Some(7)),
        (3, Some((epoch, _))) => (Some(epoch), Some(u64::MAX)),
        (_, Some((epoch, last))) => (Some(epoch), Some(last)),
        (_, None) => (None, Some(0)),
    };
    let bogus = after == Some(u64::MAX);
    world.ask(device, Ask::Sub { topic: topic.to_owned(), epoch, after, bogus });
}

fn publish(world: &mut World, device: usize, topic: &str) {
    let dice = world.rng.random_range(0..10);
    let last = world.devices[device].seqs.entry(topic.to_owned()).or_default();
    let seq = match dice {
        0 => None,
        // Again, as after a lost answer.
        1..3 if *last > 0 => Some(*last - (*last - 1).min(dice - 1)),
        _ => {
            *last += 1;
            Some(*last)
        }
    };
    world.ask(device, Ask::Pub { topic: topic.to_owned(), seq });
}

/// The world comes to rest, and everybody has everything.
fn finish(world: &mut World) {
    world.settle();
    world.moody = false;
    for _ in 0..3 {
        world.pass(Duration::from_secs(5));
        world.settle();
    }
    world.check_rest();
    catch_up_on_waves(world);
}

/// Everybody waves while nobody reads: whoever lagged gets the newest of everybody else.
fn catch_up_on_waves(world: &mut World) {
    for device in 0..world.devices.len() {
        publish(world, device, TOPICS[0]);
    }
    world.moody = true;
    for _ in 0..3 {
        for device in 0..world.devices.len() {
            world.wave(device, TOPICS[0]);
        }
    }
    while world.deliver() {}
    world.moody = false;
    world.settle();
    let wavers: Vec<(u64, String, u64)> = world
        .devices
        .iter()
        .filter_map(|who| who.line.as_ref().map(|line| (line, who.eph)))
        .filter(|(line, _)| line.subs.contains_key(TOPICS[0]))
        .map(|(line, eph)| (line.number, format!("key-{}", line.number), eph))
        .collect();
    for line in world.devices.iter().filter_map(|who| who.line.as_ref()) {
        let Some(sub) = line.subs.get(TOPICS[0]) else { continue };
        for (_, key, value) in wavers.iter().filter(|(number, ..)| *number != line.number) {
            assert_eq!(sub.eph.get(key), Some(value), "{key} at {}", line.number);
        }
    }
}

/// Everybody leaves, and nothing is left but histories.
fn close_all(world: &mut World) {
    world.pages.clear();
    for device in 0..world.devices.len() {
        world.disconnect(device);
    }
    world.settle();
    for _ in 0..3 {
        world.pass(Duration::from_secs(60));
        world.settle();
    }
    assert_eq!(world.letters(), 0);
    for shard in 0..world.shards() {
        let size = world.topics(shard).size();
        let held = (size.peers, size.subs, size.pending, size.listening, size.listeners, size.chores);
        assert_eq!(held, (0, 0, 0, 0, 0, 0), "{size:?}");
        assert!(size.topics <= TOPICS.len() && size.names <= 6, "only histories hold names: {size:?}");
    }
}

#[test]
fn five_hundred_lives_keep_every_promise() {
    let mut seen = Seen::default();
    for seed in 0..500 {
        live(seed, &mut seen);
    }
    println!("{seen:?}");
    assert!(seen.pushes > 100_000 && seen.laggings > 1_000 && seen.gaps > 100, "{seen:?}");
    assert!(seen.repeats > 1_000 && seen.pages > 1_000, "{seen:?}");
}

#[test]
fn a_seed_lives_the_same_life_twice() {
    for seed in 0..8 {
        assert_eq!(live(seed, &mut Seen::default()), live(seed, &mut Seen::default()));
    }
    assert_ne!(live(1, &mut Seen::default()), live(5, &mut Seen::default()));
}
