//! Attackers without keys: they forge addresses, replay what they saw, and inject what they make up.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use quantum::{
    CloseReason, Delivery, Direction, Drop, Event, Guuid, Meta, Router, Transport, Verdict,
    error::Code,
    frame::kind,
    packet::{self, VERSION},
};
use rand::{Rng, RngCore, SeedableRng, rngs::StdRng};
use rustls::quic::{DirectionalKeys, Keys};
use simnet::{LinkConfig, Loss};

use crate::{
    traffic::{Fate, Flow, Traffic, Who},
    world::{Packet, Record, World},
};

fn link(ms: u64) -> LinkConfig {
    LinkConfig { delay: Duration::from_millis(ms), ..LinkConfig::default() }
}

fn somewhere(number: u32) -> SocketAddr {
    SocketAddr::new(std::net::Ipv4Addr::from(0x0A00_0000 + number).into(), 1_000)
}

/// First packets of this many connections.
fn first_packets(count: usize) -> Vec<Vec<u8>> {
    let mut world = World::new(99, link(1));
    let record = world.record();
    for _ in 0..count {
        world.connect();
        world.flush();
    }
    record.borrow().iter().map(|(_, packet)| packet.bytes.clone()).collect()
}

/// What both ends send each other, enough of everything.
fn talk(world: &mut World, traffic: &mut Traffic) {
    for who in Who::BOTH {
        for channel in 0..3 {
            let delivery = [Delivery::Independent, Delivery::Ordered, Delivery::Newest][channel as usize];
            for len in [100, 3_000] {
                traffic.send(world, who, Flow::Message { channel, delivery, len, priority: 2, deadline: None });
            }
        }
        traffic.send(world, who, Flow::Datagram { len: 200 });
        let direction = Direction::Bidirectional;
        traffic.send(world, who, Flow::Stream { direction, len: 20_000, priority: 4, fate: Fate::Whole });
    }
}

fn settle(world: &mut World, traffic: &mut Traffic) {
    let until = world.elapsed() + Duration::from_secs(20);
    while let Some(open) = traffic.open() {
        assert!(world.elapsed() < until, "{open}: {}", world.account());
        world.pass(Duration::from_millis(20), |world| traffic.turn(world));
    }
}

fn newest(record: &Record, who: Who) -> Packet {
    record.borrow().iter().rev().find(|(by, _)| *by == who).unwrap().1.clone()
}

#[test]
fn a_forged_address_gets_three_times_what_was_sent_in_its_name() {
    let mut world = World::new(1, link(1));
    let record = world.record();
    let (mut came, mut went) = (BTreeMap::<SocketAddr, usize>::new(), BTreeMap::<SocketAddr, usize>::new());
    for (at, bytes) in first_packets(30).into_iter().enumerate() {
        // Some come a second time, as a client's would.
        for _ in 0..=at % 3 {
            let from = somewhere(at as u32);
            *came.entry(from).or_default() += bytes.len();
            world.hand(Who::Server, from, &bytes);
            world.run_for(Duration::from_millis(7));
        }
    }
    world.run_for(Duration::from_secs(60));
    for (_, packet) in record.borrow().iter() {
        *went.entry(packet.to).or_default() += packet.bytes.len();
    }
    assert_eq!(went.len(), 30, "each was answered");
    for (to, bytes) in &went {
        assert!(*bytes <= 3 * came[to], "{bytes} bytes for {}", came[to]);
        assert!(*bytes > came[to], "the whole flight went out at once");
    }
    assert!(world.server.endpoint.is_empty(), "nothing is left of it");
}

#[test]
fn half_open_handshakes_are_few_and_small_and_who_shows_its_address_gets_through() {
    let mut world = World::configured(2, link(5), Transport::default(), Transport::default(), |config| {
        (config.retry_above, config.half_open_max) = (20, 25);
    });
    world.run_for(Duration::ZERO);
    for (at, bytes) in first_packets(300).into_iter().enumerate() {
        assert_eq!(world.hand(Who::Server, somewhere(at as u32), &bytes), Verdict::Taken);
    }
    let stats = *world.server.endpoint.stats();
    assert_eq!((world.server.endpoint.half_open(), world.server.endpoint.len()), (20, 20));
    assert_eq!((stats.accepted, stats.retries), (20, 280));
    let handle = |index| quantum::Handle { index, generation: 0 };
    let memory: usize = (0..20).map(|index| world.server.endpoint.peek(handle(index)).unwrap().memory()).sum();
    assert!(memory < 20 * 20_000, "{memory} bytes");
    // A client that is really there is asked once, and then let in.
    let since = world.elapsed();
    world.server.handle = None;
    let mut world = world.connected();
    assert!(world.elapsed() - since <= Duration::from_millis(4 * 10), "one round trip more");
    assert_eq!(world.server.endpoint.stats().retries, 281);
    // The flood goes away by itself.
    world.run_for(Duration::from_secs(15));
    assert_eq!(world.server.endpoint.len(), 1);
}

//= SPEC.md#7
//= type=test
//# a late copy of that packet begins nothing.
#[test]
fn a_late_copy_of_the_first_packet_begins_nothing() {
    let mut world = World::new(4, link(20));
    let record = world.record();
    let mut world = world.connected();
    let first = record.borrow()[0].1.clone();
    for from in [first.from, somewhere(1)] {
        for _ in 0..10 {
            world.run_for(Duration::from_secs(1));
            assert_eq!(world.hand(Who::Server, from, &first.bytes), Verdict::Dropped(Drop::NoKeys));
        }
    }
    let end = &world.server.endpoint;
    assert_eq!((end.stats().accepted, end.half_open(), end.len()), (1, 0, 1));
    // When the connection is gone, it is a handshake like others, and passes.
    let now = world.now;
    world.client().close(now, 0, b"");
    world.run_for(Duration::from_secs(2));
    assert!(world.server.endpoint.is_empty());
    assert_eq!(world.hand(Who::Server, first.from, &first.bytes), Verdict::Taken);
    assert_eq!(world.server.endpoint.half_open(), 1);
    world.run_for(Duration::from_secs(11));
    assert!(world.server.endpoint.is_empty());
}

#[test]
fn a_handshake_that_broke_a_rule_counts_until_it_is_forgotten() {
    // Initial keys are no secret: anybody can begin a handshake and end it in the same packet.
    for frames in [&[kind::CLOSE as u8, 0, 0, 0][..], &[0x3F]] {
        let mut world = World::configured(4, link(5), Transport::default(), Transport::default(), |config| {
            (config.retry_above, config.half_open_max) = (20, 25);
        });
        for at in 0..300 {
            world.hand(Who::Server, somewhere(at), &initial(at, frames));
            world.run_for(Duration::from_micros(100));
        }
        assert!(world.server.endpoint.len() <= 20, "{} handshakes are held", world.server.endpoint.len());
        assert_eq!(world.server.endpoint.stats().retries, 280);
        world.run_for(Duration::from_secs(15));
        assert!(world.server.endpoint.is_empty() && world.server.endpoint.half_open() == 0);
    }
}

/// A first packet with any frames that opens, as anybody can make it.
fn initial(number: u32, frames: &[u8]) -> Vec<u8> {
    sealed(Guuid::new(u64::from(number), [1; 10]), Guuid::new(u64::from(number), [2; 10]), frames)
}

/// The keys of a client's first packets, which everybody can derive.
fn initial_keys(to: Guuid) -> DirectionalKeys {
    let suite = rustls::crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256;
    let suite = suite.tls13().and_then(|suite| suite.quic_suite()).unwrap();
    let version = rustls::quic::Version::V1;
    Keys::initial(version, suite.suite, suite.quic, to.as_bytes(), rustls::Side::Client).local
}

fn sealed(to: Guuid, from: Guuid, frames: &[u8]) -> Vec<u8> {
    let (keys, mut bytes) = (initial_keys(to), Vec::new());
    let draft = packet::encode_long(packet::LongKind::Initial, to, from, &[], 0, None, &mut bytes);
    bytes.extend_from_slice(frames);
    draft.pad(1_200, &mut bytes);
    draft.seal(&*keys.header, &*keys.packet, &mut bytes);
    bytes
}

#[test]
fn a_token_opens_nothing_elsewhere_or_later() {
    let mut world = World::configured(3, link(5), Transport::default(), Transport::default(), |config| {
        config.retry_above = 0;
    });
    let record = world.record();
    world = world.connected();
    let with_token = record.borrow().iter().filter(|(who, _)| *who == Who::Client).nth(1).unwrap().1.bytes.clone();
    assert!(world.server.endpoint.stats().retries == 1 && with_token.len() >= 1_200);
    let retries = |world: &World| world.server.endpoint.stats().retries;
    let accepted = |world: &World| world.server.endpoint.stats().accepted;
    // Elsewhere it is as good as none.
    let mut other = World::configured(3, link(5), Transport::default(), Transport::default(), |config| {
        config.retry_above = 0;
    });
    other.hand(Who::Server, somewhere(1), &with_token);
    assert_eq!((retries(&other), accepted(&other)), (1, 0));
    // Here it opens a connection, but not for ever.
    let here = other.client_address;
    other.hand(Who::Server, here, &with_token);
    assert_eq!((retries(&other), accepted(&other)), (1, 1));
    other.run_for(Duration::from_secs(40));
    assert!(other.server.endpoint.is_empty());
    other.hand(Who::Server, here, &with_token);
    assert_eq!((retries(&other), accepted(&other)), (2, 1));
}

#[test]
fn a_replay_of_any_datagram_changes_nothing() {
    for seed in 0..5 {
        let config = LinkConfig { loss: Loss::Iid(0.05), ..link(10) };
        let mut world = World::new(seed, config);
        let record = world.record();
        let (mut world, mut traffic) = (world.connected(), Traffic::default());
        talk(&mut world, &mut traffic);
        settle(&mut world, &mut traffic);
        let before = (world.client().stats(), world.server().stats());
        let mut packets: Vec<(Who, Packet)> = record.borrow().clone();
        let mut rng = StdRng::seed_from_u64(seed);
        for round in 0..3 {
            packets.sort_by_cached_key(|_| rng.next_u64());
            for (who, packet) in &packets {
                world.hand(who.other(), packet.from, &packet.bytes);
                if round == 1 {
                    world.pass(Duration::from_millis(1), |world| traffic.turn(world));
                }
            }
            world.pass(Duration::from_secs(1), |world| traffic.turn(world));
        }
        let after = (world.client().stats(), world.server().stats());
        assert_eq!(before.0.moves + before.1.moves, after.0.moves + after.1.moves, "nobody moved");
        assert!(after.0.packets_duplicate + after.1.packets_duplicate > 100, "they were seen to be copies");
        // And it goes on as if nothing had been.
        talk(&mut world, &mut traffic);
        settle(&mut world, &mut traffic);
        world.server().check();
    }
}

#[test]
fn whoever_sends_a_copy_from_elsewhere_first_wins_nothing() {
    for (seed, port_only) in [(1, false), (2, true), (3, false), (4, true)] {
        let mut world = World::new(seed, link(20)).connected();
        let mut traffic = Traffic::default();
        talk(&mut world, &mut traffic);
        settle(&mut world, &mut traffic);
        // Another port of the client's host has credit, once.
        let credit = if port_only { world.server().stats().window } else { 0 };
        let thief = if port_only { (world.client_address.ip(), 1).into() } else { somewhere(7) };
        let record = world.record();
        let (mut stolen, mut given) = (0, 0);
        for round in 0..20 {
            traffic.send(&mut world, Who::Client, flow_of(300));
            traffic.send(&mut world, Who::Server, flow_of(900));
            if round % 5 == 0 {
                // Every fifth of the client's packets is quicker by way of the thief.
                let copy = newest(&record, Who::Client);
                stolen += copy.bytes.len();
                assert_eq!(world.hand(Who::Server, thief, &copy.bytes), Verdict::Taken);
            }
            world.pass(Duration::from_millis(100), |world| traffic.turn(world));
        }
        settle(&mut world, &mut traffic);
        world.run_for(Duration::from_secs(5));
        for (_, packet) in record.borrow().iter().filter(|(who, packet)| *who == Who::Server && packet.to == thief) {
            given += packet.bytes.len();
        }
        assert!(given <= 3 * stolen + credit as usize, "{given} bytes for {stolen}, and {credit}");
        assert_eq!(world.server().remote(), world.client_address, "the server is back with its client");
        assert!(world.server().stats().moves >= 2, "it did look there");
    }
}

fn flow_of(len: usize) -> Flow {
    Flow::Message { channel: 0, delivery: Delivery::Independent, len, priority: 4, deadline: None }
}

#[test]
fn every_bit_of_a_datagram_is_protected() {
    let mut world = World::with(5, link(10), Transport::default(), {
        // So that rows of parity are among the datagrams.
        Transport { fec: quantum::FecMode::Fixed { k: 2, r: 2 }, ..Transport::default() }
    })
    .connected();
    let (record, mut traffic) = (world.record(), Traffic::default());
    world.configure(|link| link.down = true);
    (0..6).for_each(|_| traffic.send(&mut world, Who::Server, flow_of(700)));
    world.pass(Duration::from_millis(30), |world| traffic.turn(world));
    let sent: Vec<Packet> =
        record.borrow().iter().filter(|(who, _)| *who == Who::Server).map(|(_, p)| p.clone()).collect();
    assert!(world.server().stats().repairs_sent >= 2);
    let (events, server) = (world.client.events.len(), world.server_address);
    for packet in &sent {
        for bit in 0..packet.bytes.len() * 8 {
            // The first byte tells other packets apart, and the id other connections.
            let mut forged = packet.bytes.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            let verdict = world.hand(Who::Client, server, &forged);
            assert!(verdict != Verdict::Taken || bit < 8 * 17, "bit {bit}: {verdict:?}");
        }
    }
    assert_eq!(world.client.events.len(), events);
    assert_eq!(world.client().stats().repairs_received, 0);
    // The originals still count.
    world.configure(|link| link.down = false);
    for packet in &sent {
        assert_eq!(world.hand(Who::Client, server, &packet.bytes), Verdict::Taken);
    }
    settle(&mut world, &mut traffic);
}

#[test]
fn who_cannot_see_the_packets_cannot_end_a_connection() {
    let mut world = World::new(6, link(10)).connected();
    let record = world.record();
    let mut traffic = Traffic::default();
    talk(&mut world, &mut traffic);
    settle(&mut world, &mut traffic);
    let mut rng = StdRng::seed_from_u64(6);
    for to in Who::BOTH {
        let model = newest(&record, to.other());
        let destination = packet::destination(&model.bytes).unwrap();
        for _ in 0..500 {
            let mut forged = vec![0; rng.random_range(0..1_400)];
            rng.fill_bytes(&mut forged);
            world.hand(to, model.from, &forged);
            // Even with the right id, in a packet of any kind.
            if forged.len() >= 17 {
                forged[1..17].copy_from_slice(destination.as_bytes());
                world.hand(to, model.from, &forged);
            }
            if forged.len() >= 37 {
                forged[0] = 0x80 | forged[0] & 0x3F;
                forged[17..21].copy_from_slice(&VERSION.to_be_bytes());
                world.hand(to, model.from, &forged);
            }
        }
    }
    talk(&mut world, &mut traffic);
    settle(&mut world, &mut traffic);
}

/// A client's first packet and where the client is.
fn opened(seed: u64) -> (World, Packet) {
    let mut world = World::new(seed, link(10));
    let record = world.record();
    world.connect();
    world.flush();
    let first = record.borrow()[0].1.clone();
    (world, first)
}

/// Destination and source of a long packet.
fn names(bytes: &[u8]) -> (Guuid, Guuid) {
    let header = packet::parse(&mut bytes.to_vec()).unwrap().0.header;
    (header.to(), header.from().unwrap())
}

#[test]
fn forged_version_negotiation_is_ignored() {
    let (mut world, first) = opened(7);
    let (to, from) = names(&first.bytes);
    let server = world.server_address;
    let mut forge = |versions: &[u32], echo: Guuid| {
        let mut forged = Vec::new();
        packet::encode_version_negotiation(from, echo, versions, 9, &mut forged);
        world.hand(Who::Client, server, &forged)
    };
    // It must name the id that only who saw the first packet knows, and lack our version.
    assert_eq!(forge(&[0x0A0A_0A0A], Guuid::default()), Verdict::Dropped(Drop::Version));
    assert_eq!(forge(&[VERSION, 0x0A0A_0A0A], to), Verdict::Dropped(Drop::Version));
    let mut world = world_connected(world);
    // Later nothing of the kind is heard at all.
    let mut forged = Vec::new();
    packet::encode_version_negotiation(from, to, &[0x0A0A_0A0A], 9, &mut forged);
    assert_ne!(world.hand(Who::Client, server, &forged), Verdict::Taken);
    world.run_for(Duration::from_secs(1));
    assert!(world.client().is_connected());
}

fn world_connected(mut world: World) -> World {
    let connected = |world: &mut World| {
        world.client.events.contains(&Event::Connected) && world.server.events.contains(&Event::Connected)
    };
    world.run_until(Duration::from_secs(5), connected);
    world
}

#[test]
fn a_true_version_negotiation_ends_the_attempt() {
    let (mut world, first) = opened(8);
    let (to, from) = names(&first.bytes);
    let (server, mut told) = (world.server_address, Vec::new());
    packet::encode_version_negotiation(from, to, &[0x0A0A_0A0A], 9, &mut told);
    assert_eq!(world.hand(Who::Client, server, &told), Verdict::Taken);
    assert_eq!(world.client.events, [Event::Closed(CloseReason::Version)]);
}

#[test]
fn versions_that_somebody_changed_on_the_way_end_the_handshake() {
    // Initial packets hide nothing: somebody on the way takes the client's hello, and changes one version in it. It
    // stands there twice: as the one in use, which must be that of the packet, and among those that are spoken, where
    // no key fits any more.
    for (place, code) in [(0, Some(Code::TransportParameter as u64)), (1, None)] {
        let (mut world, mut first) = opened(20);
        let (to, from) = names(&first.bytes);
        let keys = initial_keys(to);
        let (packet, _) = packet::parse(&mut first.bytes).unwrap();
        let number_at = packet.header.number().unwrap().1;
        let bare = packet::unprotect(packet.bytes, number_at, &*keys.header, 0).unwrap();
        let payload = packet::open(packet.bytes, &bare, &*keys.packet).unwrap();
        let mut frames = packet.bytes[payload].to_vec();
        let is_version = |at: &usize| frames[*at..].starts_with(&VERSION.to_be_bytes());
        let places: Vec<usize> = (0..frames.len() - 4).filter(is_version).collect();
        assert_eq!(places.len(), 2);
        frames[places[place] + 3] ^= 2;
        // The client's own packet never arrives.
        world.up.configure(LinkConfig { down: true, ..link(10) });
        let client = world.client_address;
        assert_eq!(world.hand(Who::Server, client, &sealed(to, from, &frames)), Verdict::Taken);
        world.up.configure(link(10));
        world.run_for(Duration::from_secs(15));
        let events = [world.client.events.clone(), world.server.events.clone()].concat();
        assert!(!events.contains(&Event::Connected), "{events:?}");
        let is_the_end = |event: &Event| match event {
            Event::Closed(CloseReason::Transport(error)) => Some(error.code) == code,
            Event::Closed(CloseReason::HandshakeTimeout) => code.is_none(),
            _ => false,
        };
        assert!(events.iter().any(is_the_end), "{events:?} for the version in place {place}");
    }
}

#[test]
fn an_unknown_version_is_told_what_is_spoken_here_in_fewer_bytes() {
    let (mut world, first) = opened(9);
    let record = world.record();
    let mut strange = first.bytes.clone();
    strange[17..21].copy_from_slice(&0x1234_5678u32.to_be_bytes());
    assert_eq!(world.hand(Who::Server, somewhere(1), &strange), Verdict::Taken);
    assert_eq!(world.hand(Who::Server, somewhere(1), &strange[..1_000]), Verdict::Dropped(Drop::InitialTooSmall));
    let mut answer = record.borrow()[0].1.bytes.clone();
    assert!(record.borrow().len() == 1 && answer.len() < 100);
    let packet = packet::parse(&mut answer).unwrap().0;
    assert!(packet.versions().any(|version| version == VERSION));
    // Versions are never negotiated about a negotiation.
    strange[17..21].copy_from_slice(&0u32.to_be_bytes());
    assert_ne!(world.hand(Who::Server, somewhere(1), &strange), Verdict::Taken);
    assert!(world.server.endpoint.is_empty());
}

#[test]
fn forged_retries_are_ignored() {
    let (mut world, first) = opened(10);
    let (to, from) = names(&first.bytes);
    let (server, fresh) = (world.server_address, Guuid::new(1, [7; 10]));
    let retry = |original: Guuid| {
        let mut forged = Vec::new();
        packet::encode_retry(from, fresh, b"token", original, &mut forged);
        forged
    };
    // Whoever did not see the first packet cannot make the tag.
    assert_eq!(world.hand(Who::Client, server, &retry(fresh)), Verdict::Dropped(Drop::Undecryptable));
    let mut damaged = retry(to);
    damaged[38] ^= 1;
    assert_eq!(world.hand(Who::Client, server, &damaged), Verdict::Dropped(Drop::Undecryptable));
    let mut world = world_connected(world);
    assert_ne!(world.hand(Who::Client, server, &retry(to)), Verdict::Taken, "too late");
    world.run_for(Duration::from_secs(1));
    assert!(world.client().is_connected());
}

#[test]
fn a_retry_that_the_server_did_not_send_is_found_out() {
    // Somebody on the way answers instead of the server: the transport parameters tell (RFC 9000, section 7.3).
    let (mut world, first) = opened(11);
    let (to, from) = names(&first.bytes);
    let (server, mut forged) = (world.server_address, Vec::new());
    packet::encode_retry(from, Guuid::new(1, [7; 10]), b"token", to, &mut forged);
    assert_eq!(world.hand(Who::Client, server, &forged), Verdict::Taken);
    world.run_for(Duration::from_secs(40));
    let end = world.client.events.last();
    assert!(matches!(end, Some(Event::Closed(CloseReason::Transport(_) | CloseReason::HandshakeTimeout))), "{end:?}");
    assert!(!world.client.events.contains(&Event::Connected));
}

#[test]
fn a_server_without_memory_resets_and_nobody_else_can() {
    let mut world = World::new(12, link(10)).connected();
    world.run_for(Duration::from_secs(1));
    let record = world.record();
    world.client().ping();
    world.run_for(Duration::from_millis(500));
    let ping = record.borrow().iter().find(|(who, _)| *who == Who::Client).unwrap().1.clone();
    // A reset needs the token that only this server and client know.
    let server = world.server_address;
    let mut rng = StdRng::seed_from_u64(12);
    for _ in 0..100 {
        let mut forged = Vec::new();
        let (mut token, mut random) = ([0; 16], [0; 32]);
        rng.fill_bytes(&mut token);
        rng.fill_bytes(&mut random);
        assert!(packet::encode_reset(&token, random, 100, &mut forged));
        world.hand(Who::Client, server, &forged);
        let to = packet::destination(&newest(&record, Who::Server).bytes);
        forged[1..17].copy_from_slice(to.unwrap().as_bytes());
        assert_ne!(world.hand(Who::Client, server, &forged), Verdict::Taken);
    }
    assert!(world.client().is_connected());
    world.run_for(Duration::from_millis(500));
    // The server starts again and knows the key, but not the connection.
    world.server.endpoint = World::new(12, link(10)).server.endpoint;
    world.server.handle = None;
    world.client().ping();
    world.run_for(Duration::from_millis(500));
    assert_eq!(world.client.events.last(), Some(&Event::Closed(CloseReason::Reset)));
    let (sent, got) = (ping.bytes.len(), newest(&record, Who::Server).bytes.len());
    assert!(got < sent, "a reset of {got} bytes for {sent}");
    assert_eq!(world.server.endpoint.stats().resets, 1);
    world.run_for(Duration::from_secs(5));
    assert!(world.client.endpoint.is_empty());
}

#[test]
fn two_ends_without_memory_soon_fall_silent() {
    let mut one = World::new(13, link(1));
    let mut other = World::new(14, link(1));
    let (sent, back) = (one.record(), other.record());
    let mut bytes = vec![0x10; 1_200];
    bytes[1..17].copy_from_slice(Guuid::new(1, [3; 10]).as_bytes());
    let (here, there) = (somewhere(1), somewhere(2));
    let mut rounds = 0;
    loop {
        one.hand(Who::Server, there, &bytes);
        let Some((_, answer)) = sent.borrow_mut().pop() else { break };
        other.hand(Who::Server, here, &answer.bytes);
        let Some((_, answer)) = back.borrow_mut().pop() else { break };
        bytes = answer.bytes;
        rounds += 1;
        assert!(rounds < 30, "each answer is shorter than what it answers");
    }
}

#[test]
fn a_datagram_for_another_shard_is_handed_over_as_it_came() {
    // The kernel merges datagrams of one sender into one train, and steers by the first of them.
    let (multiplier, shards) = (0x9E37_79B1, 4);
    let mut world = World::configured(16, link(1), Transport::default(), Transport::default(), |config| {
        config.router = Router::new(multiplier, shards, 2);
    });
    let router = Router::new(multiplier, shards, 2);
    let (mut came, from) = ([0; 4], somewhere(1));
    for mut bytes in first_packets(64) {
        let (before, shard) = (bytes.clone(), router.shard_of(packet::destination(&bytes).unwrap().word()));
        let (now, unix_ms) = (world.now, world.unix_ms());
        let verdict = world.server.endpoint.handle(now, unix_ms, Meta { remote: from, ecn: 0 }, &mut bytes);
        assert_eq!(verdict, if shard == 2 { Verdict::Taken } else { Verdict::Foreign(shard) });
        assert!(shard == 2 || bytes == before, "the other shard gets what was sent");
        came[usize::from(shard)] += 1;
    }
    assert!(came.iter().all(|count| *count > 4), "{came:?}");
    let stats = *world.server.endpoint.stats();
    assert_eq!((stats.foreign, stats.accepted), (64 - came[2], came[2]));
}

#[test]
fn junk_is_counted_and_costs_nothing() {
    let mut world = World::new(15, link(1));
    for len in 0..17 {
        assert!(matches!(world.hand(Who::Server, somewhere(1), &vec![0; len]), Verdict::Dropped(Drop::Short)), "{len}");
    }
    // QUIC has bit 6, Quantum never.
    let mut quic = vec![0xC0; 1_200];
    quic[1..5].copy_from_slice(&1u32.to_be_bytes());
    assert_ne!(world.hand(Who::Server, somewhere(1), &quic), Verdict::Taken);
    // An Initial in a small datagram, and one that is damaged.
    let first = first_packets(1).remove(0);
    assert_eq!(world.hand(Who::Server, somewhere(1), &first[..1_199]), Verdict::Dropped(Drop::Malformed));
    let mut damaged = first.clone();
    damaged[600] ^= 4;
    assert_eq!(world.hand(Who::Server, somewhere(1), &damaged), Verdict::Dropped(Drop::Undecryptable));
    assert!(world.server.endpoint.is_empty() && world.server.sent == 0);
}
