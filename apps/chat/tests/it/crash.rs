//! The power goes at any moment: what was answered is still so, and letters between homes arrive all the same.

use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};

use crate::world::World;

fn users(world: &mut World, client: usize, op: &'static str) -> Vec<String> {
    let list = world.ask(client, op, json!({})).expect("a list");
    list["users"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|line| line["user"].as_str().expect("a name").to_owned())
        .collect()
}

fn while_busy(world: &mut World) {
    let _ = world.step();
}

#[test]
fn letters_between_homes_survive_any_crash() {
    for seed in 0..200 {
        println!("seed {seed}");
        let mut rng = StdRng::seed_from_u64(seed);
        let mut world = World::new(seed, true, &["ada", "bob", "eve"]);
        world.befriend("ada", "bob");
        world.befriend("ada", "eve");
        let (ada, bob) = (world.enter("ada"), world.enter("bob"));
        world.start_ask(bob, "contact.request", json!({"user": "eve"}));
        world.start_ask(ada, "chat.create", json!({"name": "us", "users": ["bob", "eve"]}));
        for _ in 0..rng.random_range(1..4) {
            (0..rng.random_range(0..80)).for_each(|_| while_busy(&mut world));
            world.crash();
        }
        world.later(5_000);
        let [ada, bob, eve] = ["ada", "bob", "eve"].map(|user| world.enter(user));
        let (sent, came) = (users(&mut world, bob, "contact.sent"), users(&mut world, eve, "contact.requests"));
        assert_eq!((sent.len(), sent == ["eve"]), (came.len(), came == ["bob"]), "both homes say the same");
        let topics = [ada, bob, eve].map(|client| {
            let list: Value = world.ask(client, "inbox.list", json!({})).expect("a list");
            list["conversations"]
                .as_array()
                .expect("a list")
                .iter()
                .map(|line| line["topic"].clone())
                .collect::<Vec<_>>()
        });
        assert!(
            topics.iter().all(|list| *list == topics[0]),
            "a group is in the lists of all members or there is none"
        );
        if let [topic] = &topics[0][..] {
            let members = world.ask(eve, "chat.members", json!({"topic": topic})).expect("a member");
            assert_eq!(members["count"], json!(3));
        }
    }
}

#[test]
fn what_was_answered_is_so_after_a_crash() {
    for seed in 0..50 {
        println!("seed {seed}");
        let mut world = World::new(seed, true, &["ada", "bob"]);
        world.befriend("ada", "bob");
        let (ada, bob) = (world.enter("ada"), world.enter("bob"));
        let made = world.ask(ada, "chat.create", json!({"name": "us", "users": ["bob"]})).expect("made");
        let topic = made["topic"].as_str().expect("a topic").to_owned();
        assert!(world.publish(ada, &topic, json!({"type": "text", "text": "hi"})).is_ok());
        world.ask(bob, "inbox.read", json!({"topic": topic, "read": 1})).expect("read");
        world.later(1_000);
        world.crash();
        world.later(1_000);
        let bob = world.enter("bob");
        let line = world.ask(bob, "inbox.list", json!({})).expect("a list")["conversations"][0].clone();
        assert_eq!(
            (&line["topic"], &line["head"], &line["unread"]),
            (&json!(topic), &json!(2), &json!(1)),
            "seed {seed}"
        );
        assert_eq!(line["last"]["text"], json!("hi"));
    }
}

#[test]
fn letters_keep_their_order_when_a_disk_forgets_to_forget_them() {
    for seed in 0..300 {
        println!("seed {seed}");
        let mut rng = StdRng::seed_from_u64(seed);
        let mut world = World::new(seed, true, &["ada", "bob"]);
        let bob = world.enter("bob");
        for _ in 0..4 {
            for op in ["contact.request", "contact.remove"] {
                world.start_ask(bob, op, json!({"user": "ada"}));
                (0..rng.random_range(0..60)).for_each(|_| while_busy(&mut world));
                let shard = rng.random_range(0..3);
                world.fill_disk(shard, true);
                (0..rng.random_range(0..40)).for_each(|_| while_busy(&mut world));
                world.fill_disk(shard, false);
                world.later(rng.random_range(0..3) * 2_500);
            }
        }
        world.crash();
        world.later(5_000);
        let [ada, bob] = ["ada", "bob"].map(|user| world.enter(user));
        let (sent, came) = (users(&mut world, bob, "contact.sent"), users(&mut world, ada, "contact.requests"));
        assert_eq!((sent == ["ada"], sent.len()), (came == ["bob"], came.len()), "both homes say the same");
    }
}
