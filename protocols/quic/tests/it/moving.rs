//! Addresses and ids that change under a connection, and peers that lost it.

use std::time::Duration;

use quic::{CloseReason, Direction, Event, Handle, Transport};

use crate::world::{World, drain, plain, steer};

const SHARDS: u16 = 4;

fn send_and_check(world: &mut World, client: Handle, server: (usize, Handle), text: &[u8]) {
    let id = world.client_at(client).open(Direction::Unidirectional).unwrap();
    assert_eq!(world.client_at(client).write(id, text, true), Ok(text.len()));
    let mut bytes = Vec::new();
    world.run_until(Duration::from_secs(5), |world| drain(world.server_at(server), id, &mut bytes));
    assert_eq!(bytes, text);
}

#[test]
fn a_rebinding_of_the_nat_moves_the_connection_and_not_the_shard() {
    for seed in 0..20 {
        let mut world = World::new(seed, SHARDS, plain());
        let (client, server) = world.connected();
        world.run_for(Duration::from_millis(200));
        world.outside = "192.0.2.1:50000".parse().unwrap();
        send_and_check(&mut world, client, server, b"from another port");
        world.run_for(Duration::from_secs(1));
        let outside = world.outside;
        assert_eq!(world.server_at(server).remote(), outside, "seed {seed}");
        assert!(world.server_events.contains(&(server.0, server.1, Event::Moved)));
        send_and_check(&mut world, client, server, b"and again");
        assert!(world.sent_up.iter().all(|bytes| usize::from(steer(bytes, SHARDS)) == server.0));
    }
}

#[test]
fn a_client_moves_with_another_id_and_gets_new_ones() {
    let mut world = World::new(2, SHARDS, plain());
    let (client, server) = world.connected();
    world.run_for(Duration::from_millis(300));
    let before: Vec<_> = world.server_at(server).ids().collect();
    let used = world.client_at(client).peer_id().unwrap();
    let mut moves = 0;
    for port in 0..3 {
        let address = format!("10.0.0.1:{}", 2_000 + port).parse().unwrap();
        world.inside = address;
        world.outside = format!("192.0.2.2:{}", 2_000 + port).parse().unwrap();
        if world.client_at(client).migrate(address).is_ok() {
            moves += 1;
        }
        send_and_check(&mut world, client, server, b"moved");
        world.run_for(Duration::from_secs(3));
    }
    assert!(moves == 3, "{moves} moves");
    assert_ne!(world.client_at(client).peer_id().unwrap(), used, "another id on another path");
    let router = quic::Router::new(crate::world::MULTIPLIER, SHARDS, server.0 as u16);
    let after: Vec<_> = world.server_at(server).ids().collect();
    assert!(after.iter().all(|id| router.foreign(id).is_none()));
    assert!(after.iter().any(|id| !before.contains(id)), "ids were replaced");
    assert!(world.shards[server.0].stats().ids_retired > 0);
    // What was given back is forgotten; the client's first id stays.
    assert_eq!(world.shards[server.0].ids(), after.len() + 1);
    assert!(world.sent_up.iter().all(|bytes| usize::from(steer(bytes, SHARDS)) == server.0));
}

#[test]
fn a_nat_may_rebind_as_often_as_there_are_ids() {
    for seed in 0..10 {
        let mut world = World::new(seed, SHARDS, plain());
        let (client, server) = world.connected();
        world.run_for(Duration::from_millis(200));
        for port in 0..Transport::default().ids_max - 1 {
            world.outside = format!("192.0.2.1:{}", 50_000 + port).parse().unwrap();
            send_and_check(&mut world, client, server, b"from another port");
            // Long enough for the answer to the question whether it is there.
            world.run_for(Duration::from_millis(100 + seed * 40));
        }
        let outside = world.outside;
        assert_eq!(world.server_at(server).remote(), outside, "seed {seed}");
    }
}

#[test]
fn a_server_that_lost_its_state_says_so() {
    let mut world = World::new(4, SHARDS, plain());
    let (client, server) = world.connected();
    // Settled: the client uses the id that came with the handshake, whose token it can check.
    world.run_for(Duration::from_millis(300));
    world.shards = World::new(99, SHARDS, plain()).shards;
    world.client_at(client).ping();
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.shards[server.0].stats().resets, 1);
    assert!(world.client_told(client, &Event::Closed(CloseReason::Reset)), "{:?}", world.client_events);
    assert!(world.client.is_empty());
    let answer = world.sent_down.last().unwrap();
    assert!(answer.len() < world.sent_up.last().unwrap().len());
}

#[test]
fn what_was_on_the_way_when_the_address_changed_arrives() {
    for seed in 0..20 {
        let mut world = World::new(seed, SHARDS, plain());
        let (client, server) = world.connected();
        world.run_for(Duration::from_millis(300));
        let id = world.server_at(server).open(Direction::Unidirectional).unwrap();
        world.outside = "192.0.2.1:50000".parse().unwrap();
        // Each leaves in a packet of its own for where nobody is.
        let mut text = Vec::new();
        for number in 0..10u8 {
            assert_eq!(world.server_at(server).write(id, &[number; 50], false), Ok(50));
            text.extend_from_slice(&[number; 50]);
            world.run_for(Duration::from_millis(1));
        }
        world.client_at(client).ping();
        let mut bytes = Vec::new();
        world.run_until(Duration::from_secs(10), |world| {
            drain(world.client_at(client), id, &mut bytes);
            bytes.len() == text.len()
        });
        assert_eq!(bytes, text, "seed {seed}");
        send_and_check(&mut world, client, server, b"and again");
    }
}

#[test]
fn a_new_address_whose_proof_comes_too_late_is_proven_at_the_next_packet() {
    let mut world = World::new(5, SHARDS, simnet::LinkConfig { delay: Duration::from_millis(400), ..plain() });
    let (client, server) = world.connected();
    world.run_for(Duration::from_secs(5));
    world.outside = "192.0.2.1:50000".parse().unwrap();
    // Too short for a second question, and the answer to the first one takes longer than the server waits for it.
    world.client_at(client).ping();
    world.run_for(Duration::from_millis(1_000));
    send_and_check(&mut world, client, server, b"from another port");
    world.run_for(Duration::from_secs(5));
    let outside = world.outside;
    assert_eq!(world.server_at(server).remote(), outside);
    let id = world.server_at(server).open(Direction::Unidirectional).unwrap();
    assert_eq!(world.server_at(server).write(id, b"welcome", true), Ok(7));
    let mut bytes = Vec::new();
    world.run_until(Duration::from_secs(5), |world| drain(world.client_at(client), id, &mut bytes));
}
