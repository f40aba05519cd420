//! Floods, forgeries and junk: what is not worth an answer gets none, and nothing of it stays.

use std::{net::SocketAddr, time::Duration};

use quic::{CloseReason, Event, Transport, Verdict, stats::Drop};
use simnet::{Link, LinkConfig};

use crate::world::{World, plain};

/// The first flight of a client that nobody answers.
fn first_flight(seed: u64) -> Vec<Vec<u8>> {
    let mut world = World::new(seed, 1, plain());
    world.connect(None);
    world.flush();
    world.sent_up
}

fn address(number: u32) -> SocketAddr {
    SocketAddr::from((number.to_be_bytes(), 443))
}

#[test]
fn a_flood_of_half_open_connections_is_bounded() {
    let mut world = World::with(1, 1, plain(), &Transport::default(), |config| {
        (config.half_open_max, config.retry_above) = (16, 16);
    });
    for number in 0..300 {
        let verdict = world.hand_up(address(number), first_flight(u64::from(number)).remove(0));
        let is_expected = if number < 16 {
            matches!(verdict, Verdict::New(_))
        } else {
            matches!(verdict, Verdict::Reply | Verdict::Dropped(Drop::AnswersMax))
        };
        assert!(is_expected, "{number}: {verdict:?}");
    }
    assert_eq!((world.shards[0].half_open(), world.shards[0].len(), world.shards[0].ids()), (16, 16, 32));
    assert_eq!(world.shards[0].stats().retries, 256, "answers wait in a bounded queue");
    world.run_for(Duration::from_secs(60));
    assert_eq!((world.shards[0].half_open(), world.shards[0].len(), world.shards[0].ids()), (0, 0, 0));
}

#[test]
fn connections_are_bounded() {
    let mut world = World::with(1, 1, plain(), &Transport::default(), |config| {
        (config.half_open_max, config.connections_max) = (2, 2);
    });
    for number in 0..4 {
        let verdict = world.hand_up(address(number), first_flight(u64::from(number)).remove(0));
        assert_eq!(verdict == Verdict::Dropped(Drop::ConnectionsMax), number >= 2);
    }
    world.shards[0].drain();
    let verdict = world.hand_up(address(9), first_flight(9).remove(0));
    assert_eq!(verdict, Verdict::Dropped(Drop::Refused));
}

#[test]
fn an_unproven_address_gets_at_most_three_bytes_for_one() {
    for seed in 0..10 {
        let mut world = World::new(seed, 1, plain());
        world.down = Link::new(seed, LinkConfig { down: true, ..plain() });
        world.connect(None);
        // The client's repeats count too, whatever becomes of them.
        for _ in 0..100 {
            world.run_for(Duration::from_millis(100));
            let (up, down): (usize, usize) =
                (world.sent_up.iter().map(Vec::len).sum(), world.sent_down.iter().map(Vec::len).sum());
            assert!(down <= 3 * up, "seed {seed}: {down} bytes for {up}");
        }
    }
}

/// A server that asks for proof, its Retry's client, and the client's second first packet with the token.
fn proven() -> (World, Vec<u8>) {
    let mut world = World::with(1, 1, plain(), &Transport::default(), |config| config.retry_above = 0);
    world.connect(None);
    world.run_for(Duration::from_millis(20));
    assert_eq!(world.shards[0].stats().retries, 2, "both packets of the ClientHello are answered");
    world.up = Link::new(1, LinkConfig { down: true, ..plain() });
    let before = world.sent_up.len();
    world.run_for(Duration::from_millis(30));
    let with_token = world.sent_up[before].clone();
    assert!(with_token[39] != 0, "a token is in it");
    (world, with_token)
}

#[test]
fn a_token_holds_at_its_address_for_its_time() {
    let (mut world, packet) = proven();
    for other in ["192.0.2.1:40001", "192.0.2.9:40000"] {
        assert_eq!(world.hand_up(other.parse().unwrap(), packet.clone()), Verdict::Dropped(Drop::Token));
    }
    let outside = world.outside;
    let mut another_id = packet.clone();
    another_id[9] ^= 1;
    assert_eq!(world.hand_up(outside, another_id), Verdict::Dropped(Drop::Token));
    // A forged one is none at all: its address is to be proven.
    let mut forged = packet.clone();
    forged[60] ^= 1;
    assert_eq!(world.hand_up(outside, forged), Verdict::Reply);
    assert!(world.shards[0].is_empty());
    let Verdict::New(handle) = world.hand_up(outside, packet.clone()) else { panic!("not accepted") };
    // A repeat goes to the same connection.
    assert_eq!(world.hand_up(outside, packet.clone()), Verdict::Dropped(Drop::Unusable));
    world.run_for(Duration::from_secs(20));
    assert!(world.shards[0].peek(handle).is_none(), "its client never came");
    assert_eq!(world.hand_up(outside, packet), Verdict::Dropped(Drop::Token));
}

#[test]
fn the_key_of_tokens_may_change_once_while_they_hold() {
    let (mut world, packet) = proven();
    let outside = world.outside;
    world.shards[0].set_token_key(quic::token::TokenKey::new([3; 32], Some([1; 32])));
    assert!(matches!(world.hand_up(outside, packet.clone()), Verdict::New(_)));
    let (mut world, packet) = proven();
    world.shards[0].set_token_key(quic::token::TokenKey::new([3; 32], Some([4; 32])));
    assert_eq!(world.hand_up(outside, packet), Verdict::Reply);
}

#[test]
fn junk_is_counted_by_its_reason_and_leaves_nothing_behind() {
    let mut world = World::new(1, 1, plain());
    let hello = first_flight(5).remove(0);
    let from = address(1);
    let damaged = |at: usize| {
        let mut bytes = hello.clone();
        bytes[at] ^= 0x01;
        bytes
    };
    let cases = [
        (Vec::new(), Drop::Short),
        (vec![0x40; 16], Drop::Short),
        (vec![0x00; 40], Drop::Malformed),
        (hello[..30].to_vec(), Drop::Short),
        (hello[..1_199].to_vec(), Drop::InitialTooSmall),
        (damaged(1_000), Drop::Undecryptable),
        (damaged(7), Drop::Undecryptable),
        ([&[0xE0][..], &hello[1..]].concat(), Drop::UnknownConnection),
        ([&[0x80][..], &hello[1..]].concat(), Drop::Malformed),
        ([&hello[..1], &[0; 4][..], &hello[5..]].concat(), Drop::Version),
        ([&hello[..5], &[4, 1, 2, 3, 4, 0, 0][..], &[0; 1_200]].concat(), Drop::IdTooShort),
        (vec![0x40; 21], Drop::UnknownConnection),
    ];
    for (bytes, reason) in cases {
        let counted = world.shards[0].stats().dropped[reason as usize];
        assert_eq!(world.hand_up(from, bytes.clone()), Verdict::Dropped(reason), "{:?}", &bytes[..bytes.len().min(24)]);
        assert_eq!(world.shards[0].stats().dropped[reason as usize], counted + 1);
    }
    assert_eq!((world.shards[0].len(), world.shards[0].ids()), (0, 0));
    world.flush();
    assert!(world.server_events.is_empty() && world.sent_down.is_empty());
}

#[test]
fn resets_are_rationed() {
    let mut world = World::with(1, 1, plain(), &Transport::default(), |config| config.resets_per_s = 10);
    let stray = vec![0x55; 60];
    let replies = (0..50).filter(|_| world.hand_up(address(1), stray.clone()) == Verdict::Reply).count();
    assert_eq!(replies, 10);
    world.run_for(Duration::from_millis(500));
    let replies = (0..50).filter(|_| world.hand_up(address(1), stray.clone()) == Verdict::Reply).count();
    assert_eq!(replies, 5);
}

#[test]
fn junk_for_a_connection_does_not_hurt_it() {
    let mut world = World::new(7, 1, plain());
    let (client, server) = world.connected();
    world.run_for(Duration::from_millis(200));
    let id = world.client_at(client).peer_id().unwrap();
    let outside = world.outside;
    for number in 0..200u8 {
        let mut bytes = vec![number | 0x40 & 0x7F];
        bytes[0] = bytes[0] & 0x7F | 0x40;
        bytes.extend_from_slice(id.as_slice());
        bytes.extend(std::iter::repeat_n(number, 5 + usize::from(number)));
        assert_eq!(world.hand_up(outside, bytes), Verdict::Dropped(Drop::Unusable));
    }
    world.client_at(client).close(7, b"done");
    world.run_for(Duration::from_secs(2));
    let reason = CloseReason::Peer { application: true, code: 7, reason: (*b"done").into() };
    assert!(world.server_events.contains(&(server.0, server.1, Event::Closed(reason))));
    assert!(world.client_told(client, &Event::Closed(CloseReason::Local { code: 7 })));
    assert!(world.client.is_empty() && world.shards[0].is_empty());
    assert_eq!((world.client.ids(), world.shards[0].ids()), (0, 0));
}
