//! Clients that come back: tickets and 0-RTT hold on every shard.

use std::time::Duration;

use quic::{Direction, Event, StreamId, Transport};

use crate::world::{World, drain, plain};

const SHARDS: u16 = 4;

fn session(world: &mut World) -> (Vec<u8>, usize) {
    let (client, server) = world.connected();
    world.run_for(Duration::from_millis(300));
    (world.client_at(client).session().expect("a ticket").to_vec(), server.0)
}

#[test]
fn a_ticket_resumes_on_every_shard_and_early_data_arrives_first() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..16 {
        let mut world = World::new(seed, SHARDS, plain());
        let (session, _) = session(&mut world);
        let client = world.connect(Some(&session));
        world.flush();
        assert!(world.client_told(client, &Event::Early), "seed {seed}");
        let id = world.client_at(client).open(Direction::Bidirectional).unwrap();
        assert_eq!(world.client_at(client).write(id, b"early", true), Ok(5));
        let before = world.server_events.len();
        world.run_until(Duration::from_secs(2), |world| {
            world.server_events[before..].iter().any(|(_, _, event)| matches!(event, Event::Readable(_)))
        });
        let news = &world.server_events[before..];
        let early = news.iter().position(|(_, _, event)| *event == Event::Early).expect("0-RTT is told");
        let readable = news.iter().position(|(_, _, event)| matches!(event, Event::Readable(_))).unwrap();
        assert!(early < readable, "seed {seed}");
        let (shard, server, _) = news[readable];
        let mut bytes = Vec::new();
        assert!(world.server_at((shard, server)).is_early());
        assert!(drain(world.server_at((shard, server)), id, &mut bytes));
        assert_eq!(bytes, b"early");
        world.run_for(Duration::from_secs(1));
        assert!(world.client_at(client).is_resumed() && world.server_at((shard, server)).is_resumed());
        seen.insert(shard);
    }
    assert!(seen.len() > 1, "different shards took the ticket");
}

#[test]
fn another_ticket_key_means_a_whole_handshake() {
    let mut world = World::new(3, 1, plain());
    let (session, _) = session(&mut world);
    let mut other = crate::world::server_config();
    other.ticket_key = [43; 48];
    world.shards[0].set_server(&other).unwrap();
    let client = world.connect(Some(&session));
    world.flush();
    let id = world.client_at(client).open(Direction::Bidirectional).unwrap();
    assert_eq!(world.client_at(client).write(id, b"early", true), Ok(5));
    world.run_for(Duration::from_secs(2));
    assert!(world.client_at(client).is_connected() && !world.client_at(client).is_resumed());
    let readable = Event::Readable(StreamId(0));
    let (_, server, _) = *world.server_events.iter().rfind(|(_, _, event)| *event == readable).as_ref().unwrap();
    let mut bytes = Vec::new();
    assert!(drain(world.server_at((0, *server)), id, &mut bytes));
    assert_eq!(bytes, b"early", "what was refused early is sent again");
}

#[test]
fn a_retry_and_early_data_go_together() {
    let mut world = World::with(5, SHARDS, plain(), &Transport::default(), |config| config.retry_above = 0);
    let (session, _) = session(&mut world);
    let (client, server) = world.connected_with(Some(&session));
    assert!(world.client_at(client).is_resumed() && world.server_at(server).is_resumed());
}
