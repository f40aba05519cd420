//! One account that makes groups without end.

use chat::{Settings, directory::GROUPS_MAX, rate::Rates};
use handler::Code;
use serde_json::{Value, json};

use crate::world::World;

const USERS: [&str; 2] = ["ada", "bob"];

fn create(world: &mut World, client: usize) -> Result<String, Code> {
    let made = world.ask(client, "chat.create", json!({"name": "us", "users": []}))?;
    Ok(made["topic"].as_str().expect("a topic").to_owned())
}

/// Groups that were made, left and forgotten leave no facts behind.
#[test]
fn a_group_whose_last_member_has_left_leaves_nothing_behind() {
    for durable in [true, false] {
        let mut world = World::new(1, durable, &USERS);
        let ada = world.enter("ada");
        // But for what topics keep themselves.
        let facts = |world: &World| world.facts_named("") - world.facts_named("~") - world.facts_named("mark/");
        let before = facts(&world);
        for _ in 0..30 {
            let topic = create(&mut world, ada).expect("made");
            assert!(facts(&world) > before);
            world.ask(ada, "chat.leave", json!({"topic": topic})).expect("left");
            assert_eq!(world.ask(ada, "chat.info", json!({"topic": topic})), Err(Code::NotFound));
            world.ask(ada, "inbox.forget", json!({"topic": topic})).expect("forgotten");
        }
        assert_eq!(facts(&world), before);
        if durable {
            world.crash();
            world.run();
            assert_eq!(facts(&world), before);
        }
    }
}

/// Who is answered that a group was made has one: where topics have no place, nothing was made.
#[test]
fn a_group_without_a_place_is_refused() {
    for seed in 0..10 {
        println!("seed {seed}");
        let settings = Settings { rates: Rates::OFF, ..Settings::default() };
        let mut world = World::of_places(seed, true, &USERS, settings, 8);
        let ada = world.enter("ada");
        let (mut made, mut refused) = (Vec::new(), 0);
        for _ in 0..60 {
            match create(&mut world, ada) {
                Ok(topic) => made.push(topic),
                Err(code) => {
                    assert_eq!(code, Code::ResourceExhausted);
                    refused += 1;
                }
            }
        }
        assert!(!made.is_empty() && refused > 0, "{} and {refused}", made.len());
        assert_eq!(world.facts_named("g/"), 2 * made.len(), "a group and its owner each");
        for topic in made {
            let page = world.ask(ada, "chat.history", json!({"topic": topic})).expect("a member");
            assert_eq!(page["messages"][0]["body"]["event"], Value::from("created"), "{page}");
        }
    }
}

/// Who is in so many groups makes no further one, and again one when it has left one.
#[test]
fn an_account_makes_so_many_groups() {
    let mut world = World::new(1, false, &USERS);
    let [ada, bob] = USERS.map(|user| world.enter(user));
    let topics: Vec<String> = (0..GROUPS_MAX).map(|_| create(&mut world, ada).expect("made")).collect();
    assert_eq!(create(&mut world, ada), Err(Code::ResourceExhausted));
    assert!(create(&mut world, bob).is_ok());
    world.ask(ada, "chat.leave", json!({"topic": topics[7]})).expect("left");
    assert!(create(&mut world, ada).is_ok());
    assert_eq!(create(&mut world, ada), Err(Code::ResourceExhausted));
}
