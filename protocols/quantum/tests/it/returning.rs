//! The ways around a full handshake: Retry, address tokens, resumption and early data.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use quantum::{
    ClientConfig, CloseReason, Delivery, Direction, Endpoint, EndpointConfig, Event, ServerConfig, StreamId, Transport,
    crypto::{Trust, simulation},
    error::Code,
    packet,
};
use rustls::{
    client::ClientSessionMemoryCache,
    server::{ServerSessionMemoryCache, StoresServerSessions},
};
use simnet::{LinkConfig, Loss};

use crate::{
    traffic::Who,
    world::{EPOCH_MS, World, certificate},
};

const INITIAL: u8 = 0x80;
const ZERO_RTT: u8 = 0x90;

pub(crate) fn link(ms: u64) -> LinkConfig {
    LinkConfig { delay: Duration::from_millis(ms), ..LinkConfig::default() }
}

/// A world whose client comes back with tickets; the server takes early data with `early`, from this store.
pub(crate) fn returning(seed: u64, link: LinkConfig, early: bool) -> World {
    let mut world = World::new(seed, link);
    let (provider, clock) = (simulation::provider(!seed), simulation::Clock::new(EPOCH_MS));
    let client = ClientConfig::builder(Trust::DangerousAnybody)
        .provider(provider)
        .clock(clock)
        .sessions(Arc::new(ClientSessionMemoryCache::new(8)));
    world.config = if early { client.early_data() } else { client }.build().unwrap();
    remember(&mut world, early);
    world
}

/// Gives the server an empty store of sessions.
fn remember(world: &mut World, early: bool) {
    let (certificate, key) = certificate();
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(key.clone()).into();
    let server = ServerConfig::builder(vec![certificate.clone()], key)
        .unwrap()
        .provider(simulation::provider(99))
        .clock(simulation::Clock::new(EPOCH_MS));
    let server = if early {
        server.early_data(ServerSessionMemoryCache::new(8) as Arc<dyn StoresServerSessions>)
    } else {
        server.ticketer(rustls::crypto::ring::Ticketer::new().unwrap())
    };
    world.server.endpoint.set_server(server.build().unwrap());
}

/// The server asks for a Retry from so many open handshakes on.
fn retry_above(world: &mut World, most: usize) {
    let (certificate, key) = certificate();
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(key.clone()).into();
    let server = ServerConfig::builder(vec![certificate.clone()], key)
        .unwrap()
        .provider(simulation::provider(99))
        .clock(simulation::Clock::new(EPOCH_MS));
    let config = EndpointConfig { retry_above: most, ..EndpointConfig::single([5; 32], Transport::default()) };
    world.server.endpoint = Endpoint::new(config, Some(server.build().unwrap()), [9; 32]);
}

/// Ends the connection on both sides, and forgets what happened.
fn part(world: &mut World) {
    let now = world.now;
    world.client().close(now, 0, b"");
    world.run_for(Duration::from_secs(3));
    assert!(world.client.endpoint.is_empty() && world.server.endpoint.is_empty());
    for who in Who::BOTH {
        let end = world.end(who);
        end.events.clear();
        end.handle = None;
    }
}

/// Meets once, so that there are tickets and tokens; and parts.
pub(crate) fn met(mut world: World) -> World {
    world = world.connected();
    world.run_for(Duration::from_millis(500));
    part(&mut world);
    world
}

pub(crate) fn both_connected(world: &mut World) -> bool {
    Who::BOTH.into_iter().all(|who| world.end(who).events.contains(&Event::Connected))
}

/// What a datagram holds: the upper half of the first byte of each packet.
fn kinds(bytes: &[u8]) -> Vec<u8> {
    let (mut bytes, mut kinds) = (bytes.to_vec(), Vec::new());
    let mut rest = &mut bytes[..];
    while let Some(first) = rest.first().copied().filter(|first| *first != 0)
        && let Ok((_, behind)) = packet::parse(rest)
    {
        kinds.push(first & 0xF0);
        rest = behind;
    }
    kinds
}

/// Counts what the client sends of a kind of long packet.
fn count_up(world: &mut World, kind: u8) -> Arc<Mutex<u32>> {
    let count = Arc::new(Mutex::new(0));
    let counter = Arc::clone(&count);
    world.drop_up = Some(Box::new(move |packet| {
        *counter.lock().unwrap() += kinds(&packet.bytes).into_iter().filter(|is| *is == kind).count() as u32;
        false
    }));
    count
}

#[test]
fn who_is_asked_for_a_retry_connects_and_is_known_the_next_time() {
    let mut world = World::new(1, link(20));
    retry_above(&mut world, 0);
    world = met(world);
    assert_eq!(world.server.endpoint.stats().retries, 1);
    let start = world.now;
    world = world.connected();
    assert_eq!(world.server.endpoint.stats().retries, 1, "the token of the first visit was not shown");
    assert_eq!(world.now - start, Duration::from_millis(60));
}

#[test]
fn a_retry_survives_loss() {
    for seed in 0..30 {
        let mut world = World::new(seed, LinkConfig { loss: Loss::Iid(0.3), ..link(20) });
        retry_above(&mut world, 0);
        world.connected();
    }
}

#[test]
fn a_ticket_without_early_data_resumes() {
    for seed in 0..10 {
        let mut world = met(returning(seed, link(20), false));
        world.configure(|link| link.loss = Loss::Iid(if seed == 0 { 0.0 } else { 0.2 }));
        world.connected();
    }
}

#[test]
fn early_data_arrives_before_the_handshake_is_done() {
    let mut world = met(returning(1, link(20), true));
    let count = count_up(&mut world, ZERO_RTT);
    let start = world.now;
    world.connect();
    let id = world.client().open(Direction::Bidirectional).expect("the limits of the earlier session");
    assert_eq!(world.client().write(id, b"early").unwrap(), 5);
    world.run_until(Duration::from_secs(1), |world| world.server.events.contains(&Event::Readable(id)));
    assert_eq!(world.now - start, Duration::from_millis(20));
    assert!(*count.lock().unwrap() > 0 && !world.server.events.contains(&Event::Connected));
    assert_eq!(world.server().chunk(id).unwrap(), b"early");
    world.run_until(Duration::from_secs(1), both_connected);
}

//= SPEC.md#7.4
//= type=test
//# Early data SHOULD begin in the datagram of the client's first packet, behind it, as far as it fits.
#[test]
fn early_data_goes_in_the_datagram_of_the_first_packet() {
    let mut world = met(returning(2, link(20), true));
    let record = world.record();
    world.connect();
    let id = world.client().open(Direction::Bidirectional).unwrap();
    assert_eq!(world.client().write(id, &[1; 200]).unwrap(), 200);
    world.flush();
    let datagrams: Vec<_> = record.borrow().iter().map(|(_, packet)| packet.bytes.clone()).collect();
    let [only] = &datagrams[..] else { panic!("{} datagrams", datagrams.len()) };
    assert_eq!((kinds(only), only.len()), (vec![INITIAL, ZERO_RTT], 1_200));
    world.run_until(Duration::from_secs(1), |world| world.server.events.contains(&Event::Readable(id)));
    assert_eq!(world.server().chunk(id).unwrap(), [1; 200]);
    // More than fits goes on in the next one, and again nothing stands alone.
    let mut world = met(returning(3, link(20), true));
    let record = world.record();
    world.connect();
    let id = world.client().open(Direction::Bidirectional).unwrap();
    assert_eq!(world.client().write(id, &[1; 1_500]).unwrap(), 1_500);
    world.flush();
    let first: Vec<_> = record.borrow().iter().map(|(_, packet)| kinds(&packet.bytes)).collect();
    assert_eq!(first, [vec![INITIAL, ZERO_RTT], vec![ZERO_RTT]]);
}

/// Early data of all fates; it arrives once, whether it is taken or not.
fn early(seed: u64, loss: f64, forgets: bool, retry: bool) {
    println!("seed {seed}");
    let mut world = met(returning(seed, link(20), true));
    if forgets {
        remember(&mut world, true);
    }
    if retry {
        retry_above(&mut world, 0);
    }
    world.configure(|link| link.loss = Loss::Iid(loss));
    world.connect();
    let data = vec![7; 20_000];
    let id = world.client().open(Direction::Unidirectional).expect("the limits of the earlier session");
    assert_eq!(world.client().write(id, &data).unwrap(), data.len());
    world.client().finish(id).unwrap();
    world.run_until(Duration::from_secs(30), both_connected);
    let mut got = 0;
    world.run_until(Duration::from_secs(30), |world| {
        let server = world.server();
        while let Ok(chunk) = server.chunk(id) {
            let len = chunk.len();
            got += len;
            server.consume(id, len);
            if len == 0 {
                break;
            }
        }
        got == data.len()
    });
}

#[test]
fn early_data_arrives_whatever_is_lost() {
    (0..60).for_each(|seed| early(seed, 0.2, false, false));
}

#[test]
fn early_data_that_is_refused_arrives_later() {
    (0..20).for_each(|seed| early(seed, if seed == 0 { 0.0 } else { 0.2 }, true, false));
}

/// The server came back with these limits and without a memory; the client sends 20,000 bytes and a message early.
fn shrunk(seed: u64, loss: f64, transport: Transport) -> (World, StreamId) {
    println!("seed {seed}");
    let mut world = met(returning(seed, link(20), true));
    world.server.endpoint = Endpoint::new(EndpointConfig::single([5; 32], transport), None, [9; 32]);
    remember(&mut world, true);
    world.configure(|link| link.loss = Loss::Iid(loss));
    world.connect();
    let id = world.client().open(Direction::Unidirectional).expect("the limits of the earlier session");
    assert_eq!(world.client().write(id, &[7; 20_000]).unwrap(), 20_000);
    let (now, message) = (world.now, Bytes::from_static(&[1; 500]));
    world.client().send_message(now, 0, Delivery::Independent, 2, None, message).unwrap();
    world.client().send_datagram(Bytes::from_static(&[2; 300])).unwrap();
    (world, id)
}

//= SPEC.md#6
//= type=test
//# One that refuses it MAY: its limits hold instead.
#[test]
fn a_server_that_refuses_early_data_may_have_smaller_limits() {
    for seed in 0..10 {
        let transport = Transport {
            data_max: 30_000,
            stream_data_max: 25_000,
            streams_unidirectional_max: 1,
            message_max: 1_000,
            message_bytes_max: 2_000,
            datagram_bytes_max: 200,
            ..Transport::default()
        };
        let (mut world, id) = shrunk(seed, if seed == 0 { 0.0 } else { 0.2 }, transport);
        world.run_until(Duration::from_secs(30), both_connected);
        let first = world.client().write(id, &[7; 20_000]).unwrap();
        assert_eq!(first, 5_000, "as far as the new limit goes");
        assert!(world.client().open(Direction::Unidirectional).is_none(), "and no more streams than it says");
        let (mut got, mut messages) = (0, 0);
        world.run_until(Duration::from_secs(30), |world| {
            let server = world.server();
            while let Some(chunk) = server.chunk(id).ok().map(<[u8]>::len).filter(|len| *len > 0) {
                got += chunk;
                server.consume(id, chunk);
            }
            messages += usize::from(server.recv_message().is_some());
            (got, messages) == (25_000, 1)
        });
    }
}

#[test]
fn more_early_data_than_the_refusing_server_allows_ends_the_connection() {
    let small = [
        Transport { stream_data_max: 19_999, ..Transport::default() },
        Transport { streams_unidirectional_max: 0, ..Transport::default() },
        Transport { message_max: 499, ..Transport::default() },
        Transport { message_bytes_max: 0, ..Transport::default() },
    ];
    for transport in small {
        let (mut world, _) = shrunk(1, 0.0, transport);
        world.run_for(Duration::from_secs(1));
        let Some(Event::Closed(CloseReason::Transport(error))) = world.client.events.last() else {
            panic!("{:?}", world.client.events.last())
        };
        assert_eq!(error.code, Code::Internal as u64);
    }
}

#[test]
fn early_data_goes_once_more_after_a_retry() {
    (0..20).for_each(|seed| early(seed, if seed == 0 { 0.0 } else { 0.2 }, false, true));
}
