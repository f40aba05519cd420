//! More rooms than there are places for.

use chat::{Settings, rate::Rates};
use handler::Code;
use serde_json::json;

use crate::world::{SHARDS, World};

/// Guests may think up rooms without end: there is a place left for those who have an account.
#[test]
fn rooms_that_guests_think_up_leave_places_for_accounts() {
    println!("seed 1");
    let users = ["ada", "bob"];
    let settings = Settings { rates: Rates::OFF, ..Settings::default() };
    let mut world = World::of_places(1, true, &users, settings, 4);
    let guest = world.enter_as("eve", true);
    let body = || json!({"type": "text", "text": "mine"});
    let mut is_refused =
        |n: u32| world.publish(guest, &format!("chat/room-{n}"), body()) == Err(Code::ResourceExhausted);
    let refused = (0..60).filter(|n| is_refused(*n)).count();
    assert_eq!(refused, 60 - usize::from(SHARDS) * 2, "half of four places on each shard");
    for user in users {
        let client = world.enter(user);
        assert!(world.subscribe(client, &format!("chat/u/{user}"), None).is_ok(), "{user} has a place");
    }
}
