//! Who leaves, and who comes in by a decision that is not on disk: what is left of them.

use handler::Code;
use serde_json::{Value, json};

use crate::world::World;

const USERS: [&str; 3] = ["ada", "bob", "eve"];

fn create(world: &mut World, client: usize, users: &[&str]) -> String {
    let made = world.ask(client, "chat.create", json!({"name": "us", "users": users, "open": true})).expect("made");
    made["topic"].as_str().expect("a topic").to_owned()
}

/// A disk that takes nothing takes back who has joined, and with it what they were let into meanwhile.
#[test]
fn who_joined_when_the_disk_took_nothing_hears_nothing() {
    for seed in 0..30 {
        println!("seed {seed}");
        let mut world = World::new(seed, true, &USERS);
        let [ada, eve] = ["ada", "eve"].map(|user| world.enter(user));
        let topic = create(&mut world, ada, &["bob"]);
        world.later(1_000);
        world.fill_disks(true);
        let name: &'static str = String::leak(topic.clone());
        world.start_ask(eve, "chat.join", json!({"topic": topic}));
        world.say(eve, |id| handler::Message::Sub { id, topic: name, epoch: None, after: Some(0) });
        world.run();
        world.told(eve);
        world.fill_disks(false);
        world.later(3_000);
        assert_eq!(world.ask(eve, "chat.marks", json!({"topic": topic})), Err(Code::PermissionDenied), "not a member");
        assert!(world.publish(ada, &topic, json!({"type": "text", "text": "only for us"})).is_ok());
        assert_eq!(world.heard(eve), [], "nobody but members hears it");
    }
}

/// Whoever leaves leaves no marks behind, in memory or on disk.
#[test]
fn who_leaves_leaves_no_marks() {
    for durable in [true, false] {
        let mut world = World::new(1, durable, &USERS);
        let [ada, bob, eve] = ["ada", "bob", "eve"].map(|user| world.enter(user));
        let topic = create(&mut world, ada, &[]);
        for client in [bob, eve] {
            world.ask(client, "chat.join", json!({"topic": topic})).expect("it is open");
        }
        for client in [bob, eve] {
            world.ask(client, "inbox.read", json!({"topic": topic, "read": 1})).expect("read");
        }
        world.later(1_000);
        let marks = |world: &mut World, client: usize| {
            let page = world.ask(client, "chat.marks", json!({"topic": topic})).expect("a member");
            let names = page["marks"].as_array().expect("a list").iter();
            names.map(|line| line["user"].clone()).collect::<Vec<Value>>()
        };
        assert_eq!(marks(&mut world, ada), [json!("bob"), json!("eve")]);
        world.ask(bob, "chat.leave", json!({"topic": topic})).expect("left");
        world.ask(ada, "chat.remove", json!({"topic": topic, "user": "eve"})).expect("removed");
        world.later(1_000);
        assert_eq!(marks(&mut world, ada), Vec::<Value>::new());
        if durable {
            world.crash();
            world.later(1_000);
            let ada = world.enter("ada");
            assert_eq!(marks(&mut world, ada), Vec::<Value>::new());
        }
    }
}
