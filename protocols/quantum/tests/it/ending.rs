//! Ends at any time: in the handshake, by GOAWAY, by a server that forgot, by one that speaks something else.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use quantum::{CloseReason, Direction, Endpoint, EndpointConfig, Event, Meta, Transport, Verdict};

use crate::{
    returning::{link, met, returning},
    traffic::Who,
    world::World,
};

#[test]
fn a_client_that_gives_up_in_the_handshake_is_heard() {
    let mut world = World::new(1, link(20));
    world.connect();
    // The server's answer is on its way.
    world.run_for(Duration::from_millis(30));
    assert_eq!(world.server.endpoint.half_open(), 1);
    let now = world.now;
    world.client().close(now, 3, b"never mind");
    world.run_for(Duration::from_millis(30));
    // It counts as long as it is held.
    assert_eq!((world.server.endpoint.half_open(), world.server.endpoint.len()), (1, 1));
    world.run_for(Duration::from_secs(3));
    assert_eq!((world.server.endpoint.half_open(), world.server.endpoint.len()), (0, 0));
    let closed = world.server.events.last();
    assert!(matches!(closed, Some(Event::Closed(CloseReason::Peer { application: false, .. }))), "{closed:?}");
}

#[test]
fn an_end_at_any_moment_of_the_handshake_is_heard() {
    for (early, ms) in (0..110).flat_map(|ms| [(false, ms), (true, ms)]) {
        for who in Who::BOTH {
            let mut world = met(returning(ms, link(20), early));
            world.connect();
            world.run_for(Duration::from_millis(ms));
            if world.end(who).handle.is_none() {
                continue;
            }
            let now = world.now;
            world.connection(who).close(now, 3, b"never mind");
            world.run_for(Duration::from_secs(3));
            for who in Who::BOTH {
                let end = world.end(who);
                assert!(end.endpoint.is_empty(), "{who:?} has a connection {ms} ms after the start: {:?}", end.events);
                let closed = end.events.iter().filter(|event| matches!(event, Event::Closed(_))).count();
                assert_eq!(closed, usize::from(end.handle.is_some()), "{who:?} after {ms} ms: {:?}", end.events);
            }
        }
    }
}

#[test]
fn who_is_told_to_go_opens_nothing() {
    let mut world = World::new(1, link(20)).connected();
    let now = world.now;
    world.server.endpoint.drain(now, 7, b"restart");
    world.run_for(Duration::from_millis(100));
    let told = |world: &World| world.client.events.iter().filter(|event| matches!(event, Event::GoAway { .. })).count();
    assert_eq!(told(&world), 1);
    assert_eq!(world.client().open(Direction::Bidirectional), None);
    assert!(world.server().open(Direction::Bidirectional).is_some());
    // Others are refused at once.
    world.client.events.clear();
    world.connect();
    world.run_for(Duration::from_millis(100));
    let closed = world.client.events.last();
    assert!(matches!(closed, Some(Event::Closed(CloseReason::Peer { application: false, .. }))), "{closed:?}");
}

#[test]
fn a_server_that_forgot_says_so() {
    let mut world = World::new(1, link(20)).connected();
    world.run_for(Duration::from_secs(1));
    let mut key = [7; 32];
    key[..8].copy_from_slice(&1u64.to_le_bytes());
    world.server.endpoint = Endpoint::new(EndpointConfig::single(key, Transport::default()), None, [3; 32]);
    world.client().ping();
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.server.endpoint.stats().resets, 1);
    assert_eq!(world.client.events.last(), Some(&Event::Closed(CloseReason::Reset)));
    world.run_for(Duration::from_secs(3));
    assert!(world.client.endpoint.is_empty());
}

#[test]
fn who_speaks_no_common_version_is_told() {
    let mut world = World::new(1, link(20));
    let sent = Arc::new(Mutex::new(Vec::new()));
    let copy = Arc::clone(&sent);
    world.drop_up = Some(Box::new(move |packet| {
        copy.lock().unwrap().push(packet.bytes.clone());
        true
    }));
    world.connect();
    world.turn();
    let mut initial = sent.lock().unwrap()[0].clone();
    initial[17..21].copy_from_slice(&[1, 2, 3, 4]);
    let (now, unix_ms) = (world.now, world.unix_ms());
    let meta = Meta { remote: world.client_address, ecn: 0 };
    assert_eq!(world.server.endpoint.handle(now, unix_ms, meta, &mut initial), Verdict::Taken);
    let mut answer = Vec::new();
    let transmit = world.server.endpoint.poll_transmit(now, &mut answer).unwrap();
    assert_eq!((transmit.to, &answer[17..21]), (world.client_address, &[0; 4][..]));
    // It lists what the client speaks: nothing to believe.
    let meta = Meta { remote: world.server_address, ecn: 0 };
    let listed = world.client.endpoint.handle(now, unix_ms, meta, &mut answer.clone());
    assert!(matches!(listed, Verdict::Dropped(_)));
    answer[37..41].copy_from_slice(&[5, 6, 7, 8]);
    assert_eq!(world.client.endpoint.handle(now, unix_ms, meta, &mut answer), Verdict::Taken);
    world.flush();
    assert_eq!(world.client.events.last(), Some(&Event::Closed(CloseReason::Version)));
    assert!(world.client.endpoint.is_empty());
}
