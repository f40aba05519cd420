//! Rates of users: what all their sessions on all shards do together.

use chat::{
    Settings,
    rate::{RateTable, Rates},
};
use handler::Code;
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};

use crate::world::{SHARDS, World};

fn world(seed: u64) -> World {
    println!("seed {seed}");
    World::with(seed, false, &["ada", "bob"], Settings { rates: Rates::default(), ..Settings::default() })
}

/// A session on each shard.
fn everywhere(world: &mut World, user: &str, guest: bool) -> Vec<usize> {
    let mut clients: Vec<usize> = Vec::new();
    while clients.len() < usize::from(SHARDS) {
        let client = world.enter_as(user, guest);
        match clients.iter().all(|other| world.shard_of(*other) != world.shard_of(client)) {
            true => clients.push(client),
            false => world.leave(client),
        }
    }
    clients
}

/// In how many milliseconds there is room again, if there was none.
fn say(world: &mut World, client: usize) -> Result<(), u32> {
    match world.publish_seq(client, "chat/lobby", None, text()) {
        Ok(_) => Ok(()),
        Err((Code::ResourceExhausted, Some(retry_ms))) => Err(retry_ms),
        Err(other) => panic!("{other:?}"),
    }
}

/// A second passes, in steps in which what is gathered is told.
fn pass_second(world: &mut World) {
    (0..20).for_each(|_| world.later(50));
}

fn text() -> Value {
    json!({"type": "text", "text": "x"})
}

#[test]
fn sessions_on_all_shards_take_from_the_same_buckets() {
    for (seed, guest) in [(1, false), (2, true)] {
        let mut world = world(seed);
        let clients = everywhere(&mut world, "ada", guest);
        let mut taken = 0;
        for tenth in 0..12_000 {
            for client in &clients {
                while say(&mut world, *client).is_ok() {
                    taken += 1;
                }
            }
            // On each shard at once, and one more on each before the others hear of it.
            assert!(tenth > 0 || taken == 10 * clients.len(), "{taken}");
            assert!(tenth > 20 || taken <= 11 * clients.len(), "{taken} after {tenth} tenths");
            world.later(50);
            world.later(50);
        }
        // 1,000 at once and as many in an hour. What was too much at the beginning is missing later.
        assert!((1_333..1_340).contains(&taken), "{taken} in 20 minutes");
        let bob = world.enter("bob");
        assert_eq!(say(&mut world, bob), Ok(()), "others are not held up");
    }
}

/// Who comes to another shard has what it took.
#[test]
fn who_moves_to_another_shard_finds_the_same_buckets() {
    for seed in 0..20 {
        let mut world = world(seed);
        let clients = everywhere(&mut world, "ada", false);
        for second in 0..9 {
            (0..10).for_each(|_| assert_eq!(say(&mut world, clients[0]), Ok(()), "{second}"));
            pass_second(&mut world);
        }
        // Of its 100 a minute 25 are left, and the other shards know nothing yet.
        let mut taken = 0;
        for (client, seconds) in [(clients[1], 0..5), (clients[2], 5..10)] {
            for _ in seconds {
                while say(&mut world, client).is_ok() {
                    taken += 1;
                }
                pass_second(&mut world);
            }
        }
        // And 16 come back in that time.
        assert!((25 + 14..=25 + 16 + 10).contains(&taken), "{taken}, seed {seed}");
    }
}

/// Who has one session is held to what is configured and to nothing less, wherever it is at home.
#[test]
fn one_session_is_held_to_what_is_configured() {
    for seed in 0..20 {
        let mut world = world(seed);
        let mut rng = StdRng::seed_from_u64(seed);
        let ada = world.enter("ada");
        let mut alone = RateTable::new(world.now(), Rates::default(), 10, 7);
        for n in 0..2_000 {
            let (now, outcome) = (world.now(), say(&mut world, ada));
            assert_eq!(outcome, alone.take(now, "ada"), "{n}, seed {seed}");
            world.later(rng.random_range(0..200));
        }
    }
}
