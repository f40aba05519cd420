//! A peer with good keys and bad intentions: it breaks every rule it can, and makes the other side hold or send as much as
//! it can.

use std::time::Duration;

use bytes::Bytes;
use quantum::{
    CloseReason, Direction, Event, Guuid, StreamId, Transport,
    error::Code,
    frame::{Datagram, Delivery, Frame, Message, Repair, Stream, kind},
    packet::Space,
    varint,
};
use rand::{Rng, RngCore, SeedableRng, rngs::StdRng};
use simnet::LinkConfig;

use crate::world::World;

/// A server that allows little, and a client that is the attacker.
fn world(seed: u64) -> World {
    let config = LinkConfig { delay: Duration::from_millis(5), ..LinkConfig::default() };
    let server = Transport {
        data_max: 64 * 1024,
        data_window_max: 64 * 1024,
        stream_data_max: 32 * 1024,
        stream_window_max: 32 * 1024,
        message_max: 16 * 1024,
        message_bytes_max: 64 * 1024,
        datagram_bytes_max: 16 * 1024,
        ..Transport::default()
    };
    let mut world = World::with(seed, config, Transport::default(), server).connected();
    world.run_for(Duration::from_millis(200));
    world.watched = true;
    world
}

fn encoded(frames: &[Frame<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    frames.iter().for_each(|frame| frame.encode(&mut bytes));
    bytes
}

/// One packet of the attacker.
fn send(world: &mut World, bytes: &[u8]) {
    inject(world, bytes);
    world.flush();
    world.run_for(Duration::from_millis(6));
}

fn inject(world: &mut World, bytes: &[u8]) {
    if !matches!(world.client.events.last(), Some(Event::Closed(_))) {
        world.client().inject(Space::Application, bytes);
    }
}

/// Why the server closed, if it did.
fn verdict(world: &World) -> Option<u64> {
    match world.server.events.last() {
        Some(Event::Closed(CloseReason::Transport(error))) => Some(error.code),
        Some(Event::Closed(reason)) => panic!("closed for {reason:?}"),
        _ => None,
    }
}

fn memory(world: &World) -> usize {
    let peeked = world.server.handle.and_then(|handle| world.server.endpoint.peek(handle));
    peeked.map_or(0, |connection| connection.memory())
}

fn stream(id: u64, offset: u64, data: &[u8], fin: bool) -> Frame<'_> {
    Frame::Stream(Stream { id: StreamId(id), offset, fin, has_len: true, data })
}

fn message(channel: u64, number: u64, offset: u64, total: u64, data: &[u8]) -> Frame<'_> {
    Frame::Message(Message { channel, number, delivery: Delivery::Independent, offset, total, data })
}

/// An ACK of the numbers from 0 to `largest`.
fn ack(largest: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    [kind::ACK, largest, 0, 0, largest].into_iter().for_each(|number| varint::write(number, &mut bytes));
    bytes
}

/// The frames of the attacker's packets, and why the server closes.
type Violation = (&'static str, Vec<Vec<u8>>, Code);

#[rustfmt::skip]
fn violations() -> Vec<Violation> {
    let one = |what, frames: &[Frame<'_>], code| (what, vec![encoded(frames)], code);
    let two = |what, first: Frame<'_>, second: Frame<'_>, code| (what, vec![encoded(&[first]), encoded(&[second])], code);
    let (id, token) = (Guuid::from_bytes([9; 16]), [9; 16]);
    let new_id = |sequence, retire_prior_to, id, reset_token| Frame::NewId { sequence, retire_prior_to, id, reset_token };
    let many = vec![7; 1_000];
    let ordered = Frame::Message(Message { channel: 1, number: 1, delivery: Delivery::Ordered, offset: 0, total: 1, data: &[1] });
    let repair = |base, k| Frame::Repair(Repair { base, k, row: 0, class: 1, data: &[0; 40] });
    let symbol_ack = { let mut bytes = Vec::new(); [kind::SYMBOL_ACK, 5, 0, 5].into_iter().for_each(|number| varint::write(number, &mut bytes)); bytes };
    let server_only = Frame::HandshakeDone;
    let streams_direction = Direction::Bidirectional;
    vec![
        ("an unknown frame", vec![vec![0x3F]], Code::FrameEncoding),
        ("half a frame", vec![vec![kind::STREAM as u8 | 6, 0]], Code::FrameEncoding),
        ("an ACK of what was never sent", vec![ack(1 << 40)], Code::ProtocolViolation),
        ("an ACK of a few packets ahead", vec![ack(60)], Code::ProtocolViolation),
        ("a SYMBOL_ACK of what was never sent", vec![symbol_ack], Code::Fec),
        one("data beyond a stream's limit", &[stream(0, 32 * 1024, &[1], false)], Code::FlowControl),
        one("data beyond the limit of all streams", &[stream(0, 31 * 1024, &many, false), stream(4, 31 * 1024, &[1], false), stream(8, 2 * 1024, &[1], false)], Code::FlowControl),
        one("a stream too many", &[stream(400, 0, &[1], false)], Code::StreamLimit),
        one("a stream too many in one direction", &[stream(402, 0, &[1], false)], Code::StreamLimit),
        one("data on a stream of the server's that never was", &[stream(1, 0, &[1], false)], Code::StreamState),
        one("data on a stream that the server alone sends on", &[stream(3, 0, &[1], false)], Code::StreamState),
        one("credit for a stream that the client alone sends on", &[Frame::MaxStreamData { id: StreamId(2), limit: 1 << 20 }], Code::StreamState),
        one("a stop of a stream that the client alone sends on", &[Frame::StopSending { id: StreamId(2), code: 1 }], Code::StreamState),
        two("data behind the end", stream(0, 0, &[1], true), stream(0, 1, &[1], false), Code::FinalSize),
        two("a second end", stream(0, 0, &[1; 9], false), stream(0, 0, &[1; 3], true), Code::FinalSize),
        two("a reset before what came", stream(0, 0, &[1; 9], false), Frame::ResetStream { id: StreamId(0), code: 1, final_size: 3 }, Code::FinalSize),
        one("a reset beyond the limit", &[Frame::ResetStream { id: StreamId(0), code: 1, final_size: 1 << 30 }], Code::FlowControl),
        one("an impossible number of streams", &[Frame::MaxStreams { direction: streams_direction, limit: (1 << 60) + 1 }], Code::FrameEncoding),
        one("a token for the server", &[Frame::NewToken(&[1])], Code::ProtocolViolation),
        one("the server's own frame", &[server_only], Code::ProtocolViolation),
        two("one id twice", new_id(7, 7, id, token), new_id(8, 7, id, token), Code::ProtocolViolation),
        one("ids without end", &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12].map(|at| new_id(at + 6, 0, Guuid::from_bytes([at as u8; 16]), [at as u8; 16])), Code::IdLimit),
        one("an id that retires later ones", &[new_id(7, 9, id, token)], Code::FrameEncoding),
        one("an id that was never given", &[Frame::RetireId(99)], Code::ProtocolViolation),
        one("a message too long", &[message(1, 0, 0, 16 * 1024 + 1, &[1])], Code::Message),
        one("a message number far ahead", &[message(1, 1 << 20, 0, 1, &[1])], Code::Message),
        two("a channel with two deliveries", message(1, 0, 0, 1, &[1]), ordered, Code::Message),
        two("fragments of different messages", message(1, 0, 0, 9, &[1]), message(1, 0, 1, 8, &[1]), Code::Message),
        one("an acknowledgement in a symbol", &[Frame::Symbol { sid: 0, data: &encoded(&[Frame::Ping]) }], Code::ProtocolViolation),
        one("a symbol in a symbol", &[Frame::Symbol { sid: 0, data: &[kind::SYMBOL as u8, 0, 1, 0] }], Code::ProtocolViolation),
        one("parity of symbols far ahead", &[repair(1 << 40, 2)], Code::Fec),
        two("a symbol twice", Frame::Symbol { sid: 3, data: &[kind::DATA_BLOCKED as u8, 1] }, Frame::Symbol { sid: 3, data: &[kind::DATA_BLOCKED as u8, 1] }, Code::Fec),
    ]
}

#[test]
fn every_broken_rule_has_its_code() {
    let mut wrong = Vec::new();
    for (at, (what, packets, code)) in violations().into_iter().enumerate() {
        let mut world = world(at as u64);
        packets.iter().for_each(|packet| send(&mut world, packet));
        if verdict(&world) != Some(code as u64) {
            wrong.push(format!("{what}: {:?} instead of {code:?}", world.server.events.last()));
        }
        // Both ends go, whatever it was.
        world.run_for(Duration::from_secs(5));
        assert!(world.server.endpoint.is_empty() && world.client.endpoint.is_empty(), "{what}");
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn frames_that_say_nothing_new_change_nothing() {
    let mut world = world(100);
    let frames = [
        Frame::PathResponse([1; 8]),
        Frame::MaxData(0),
        Frame::MaxStreams { direction: Direction::Bidirectional, limit: 0 },
        Frame::DataBlocked(varint::MAX),
        Frame::StreamsBlocked { direction: Direction::Unidirectional, limit: 1 << 60 },
        Frame::FecWindow { symbols: varint::MAX, bytes: varint::MAX },
        Frame::AckFrequency { sequence: varint::MAX, threshold: varint::MAX, delay_max_us: varint::MAX, reordering: 0 },
        Frame::MessageFloor { channel: 5, floor: 3 },
        Frame::ImmediateAck,
    ];
    for _ in 0..50 {
        send(&mut world, &encoded(&frames));
    }
    assert_eq!(verdict(&world), None);
    assert!(world.server().is_connected() && memory(&world) < 100_000);
}

/// Packets of the attacker, and the most that the server may hold afterwards.
fn exhaust(seed: u64, most: usize, mut packet: impl FnMut(u64, &mut StdRng) -> Vec<u8>) -> (World, u64) {
    let (mut world, mut rng) = (world(seed), StdRng::seed_from_u64(seed));
    let (mut at, base) = (0, memory(&world));
    while at < 3_000 && verdict(&world).is_none() {
        inject(&mut world, &packet(at, &mut rng));
        at += 1;
        if at % 50 == 0 {
            world.flush();
            world.run_for(Duration::from_millis(2));
            let held = memory(&world).saturating_sub(base);
            assert!(held <= most, "{held} bytes after {at} packets");
        }
    }
    world.run_for(Duration::from_millis(20));
    (world, at)
}

#[test]
fn streams_hold_what_the_windows_allow() {
    // A byte behind a hole, on every stream there may be: each takes a small ring.
    let (world, _) = exhaust(200, 200 * 2_500, |at, _| {
        let id = at % 100 * 4;
        encoded(&[stream(id, 600, &[1], false), stream(id + 2, 50, &[1], false)])
    });
    assert_eq!(verdict(&world), None);
    // Opened and given up at once, for ever: each gives way to the next.
    let (world, at) = exhaust(201, 100_000, |at, _| {
        encoded(&[stream(at * 4, 0, &[1], false), Frame::ResetStream { id: StreamId(at * 4), code: 1, final_size: 1 }])
    });
    assert!(verdict(&world).is_none_or(|code| code == Code::StreamLimit as u64), "{at}");
}

#[test]
fn a_stream_comes_in_few_pieces_or_not_at_all() {
    let (world, at) = exhaust(202, 300_000, |at, _| {
        let frames: Vec<Frame<'_>> = (0..50).map(|piece| stream(0, 1 + (at * 50 + piece) * 2, &[1], false)).collect();
        encoded(&frames)
    });
    assert_eq!(verdict(&world), Some(Code::ProtocolViolation as u64), "after {at} packets");
    let (world, at) = exhaust(203, 300_000, |at, _| {
        let frames: Vec<Frame<'_>> =
            (0..50).map(|piece| message(0, 0, 1 + (at * 50 + piece) * 2, 16 * 1024, &[1])).collect();
        encoded(&frames)
    });
    assert_eq!(verdict(&world), Some(Code::Message as u64), "after {at} packets");
}

#[test]
fn messages_hold_what_was_agreed() {
    // Begun and never ended.
    let (world, _) = exhaust(204, 400_000, |at, _| encoded(&[message(at % 3, at / 3, 0, 16 * 1024, &[1; 100])]));
    assert_eq!(verdict(&world), Some(Code::Message as u64));
    // Every channel there is.
    let (world, _) = exhaust(205, 400_000, |at, _| encoded(&[message(at, 0, 0, 200, &[1; 100])]));
    assert_eq!(verdict(&world), Some(Code::Message as u64));
    // Holes: each waits for one that never comes.
    let (world, _) = exhaust(206, 400_000, |at, _| {
        let (number, delivery) = (at * 2 + 1, Delivery::Ordered);
        encoded(&[Frame::Message(Message { channel: 0, number, delivery, offset: 0, total: 1, data: &[1] })])
    });
    assert_eq!(verdict(&world), Some(Code::Message as u64));
    // Whole ones that nobody takes: they are not acknowledged, and not held.
    let (world, _) = exhaust(207, 400_000, |at, _| encoded(&[message(0, at, 0, 1_000, &[1; 1_000])]));
    assert_eq!(verdict(&world), None);
}

#[test]
fn datagrams_that_nobody_takes_give_way() {
    let (mut world, _) = exhaust(208, 100_000, |at, _| {
        let data = (at as u32).to_be_bytes();
        encoded(&[Frame::Datagram(Datagram { has_len: true, data: &data }); 20])
    });
    assert_eq!(verdict(&world), None);
    let mut last = None;
    while let Some(datagram) = world.server().recv_datagram() {
        assert!(last <= Some(datagram.clone()));
        last = Some(datagram);
    }
    assert_eq!(last, Some(Bytes::copy_from_slice(&2_999u32.to_be_bytes())), "the newest are kept");
}

#[test]
fn groups_of_parity_have_a_window() {
    let (world, _) = exhaust(209, 1 << 20, |at, rng| {
        let mut data = vec![0; 2 * rng.random_range(20..500)];
        rng.fill_bytes(&mut data);
        let (k, class) = (rng.random_range(1..=40), rng.random_range(1..=4));
        let row =
            Repair { base: at / 4 * 3 + rng.random_range(0..100), k, row: rng.random_range(0..2), class, data: &data };
        encoded(&[Frame::Repair(row)])
    });
    assert!(verdict(&world).is_none_or(|code| code == Code::Fec as u64), "{:?}", verdict(&world));
    // Symbols that are never lost, and parity that lies about them.
    let (world, _) = exhaust(210, 1 << 20, |at, rng| {
        if at % 3 < 2 {
            let bytes = vec![kind::PADDING as u8; rng.random_range(1..900)];
            return encoded(&[Frame::Symbol { sid: (at + at / 3) as u16, data: &bytes }]);
        }
        let mut data = vec![0; 906];
        rng.fill_bytes(&mut data);
        encoded(&[Frame::Repair(Repair { base: (at - 2) / 3 * 4, k: 4, row: 0, class: 0, data: &data })])
    });
    assert!(verdict(&world).is_none_or(|code| code == Code::Fec as u64), "{:?}", verdict(&world));
}

#[test]
fn no_frame_makes_the_server_send_more_than_it_got() {
    let floods: [(&str, Vec<u8>); 8] = [
        ("ping", encoded(&[Frame::Ping; 100])),
        ("immediate ack", encoded(&[Frame::ImmediateAck; 100])),
        ("path challenge", encoded(&(0..80).map(|at| Frame::PathChallenge([at; 8])).collect::<Vec<_>>())),
        ("blocked", encoded(&[Frame::DataBlocked(1); 100])),
        ("streams blocked", encoded(&[Frame::StreamsBlocked { direction: Direction::Bidirectional, limit: 1 }; 100])),
        ("goaway", encoded(&[Frame::GoAway { last_stream: 0, code: 1, reason: &[] }; 100])),
        ("stop", encoded(&(0..100).map(|at| Frame::StopSending { id: StreamId(at * 4), code: 1 }).collect::<Vec<_>>())),
        ("padding", vec![0; 1_000]),
    ];
    for (at, (what, bytes)) in floods.into_iter().enumerate() {
        let mut world = world(300 + at as u64);
        while world.client().open(Direction::Bidirectional).is_some() {}
        let (before, sent) = (*world.server.endpoint.stats(), world.server.sent);
        for _ in 0..300 {
            inject(&mut world, &bytes);
        }
        world.flush();
        world.run_for(Duration::from_secs(1));
        let after = *world.server.endpoint.stats();
        let (came, went) = (after.bytes_received - before.bytes_received, after.bytes_sent - before.bytes_sent);
        // A path challenge is answered by a full datagram, as the one that asks might have been.
        assert!(went <= came + 3_000, "{what}: {went} bytes for {came}");
        assert!(world.server.sent - sent <= 320, "{what}: {} datagrams", world.server.sent - sent);
        assert!(world.server.events.len() < 300, "{what}: {} events", world.server.events.len());
        assert!(memory(&world) < 200_000, "{what}: {} bytes are held", memory(&world));
        assert_eq!(verdict(&world), None, "{what}");
    }
}

#[test]
fn acknowledging_ahead_gains_nothing() {
    // The attacker acknowledges all that the server may have sent by now, whether it came or not.
    for seed in 0..5 {
        let config = LinkConfig {
            delay: Duration::from_millis(20),
            rate_bytes_per_s: Some(250_000),
            queue_bytes: 50_000,
            ..LinkConfig::default()
        };
        let mut world = World::new(seed, config).connected();
        let id = world.server().open(Direction::Unidirectional).unwrap();
        let bytes = Bytes::from(vec![1; 1 << 20]);
        let mut sent = 0;
        let until = world.elapsed() + Duration::from_secs(20);
        while verdict(&world).is_none() {
            assert!(world.elapsed() < until, "the server believes everything");
            sent += world.server().write_bytes(id, bytes.slice(sent..)).unwrap_or(0);
            let (next, _) = world.server().numbers(Space::Application);
            world.client().inject(Space::Application, &ack(next - 1));
            world.flush();
            world.run_for(Duration::from_millis(5));
        }
        assert_eq!(verdict(&world), Some(Code::ProtocolViolation as u64));
        assert!(world.server.sent < 1_000, "{} datagrams", world.server.sent);
    }
}

#[test]
fn handshake_bytes_have_a_buffer() {
    for (offset, code) in [(1 << 20, Code::CryptoBuffer), (varint::MAX - 5, Code::FrameEncoding)] {
        let mut world = World::new(400, LinkConfig::default());
        world.connect();
        world.client().inject(Space::Initial, &encoded(&[Frame::Crypto { offset, data: &[1; 10] }]));
        world.run_for(Duration::from_millis(100));
        assert_eq!(verdict(&world), Some(code as u64));
    }
    // Tickets and such come from the server alone.
    let mut world = world(401);
    send(&mut world, &encoded(&[Frame::Crypto { offset: 0, data: &[4, 0, 0, 1, 0] }]));
    assert!(verdict(&world).is_some_and(|code| code >= 0x100), "{:?}", verdict(&world));
}

#[test]
fn a_server_can_be_malicious_too() {
    let config = LinkConfig { delay: Duration::from_millis(5), ..LinkConfig::default() };
    let cases: [(&str, Vec<u8>, Code); 4] = [
        ("an empty token", vec![kind::NEW_TOKEN as u8, 0], Code::FrameEncoding),
        ("a stream of the client's", encoded(&[stream(0, 0, &[1], false)]), Code::StreamState),
        ("an ACK ahead", ack(1 << 30), Code::ProtocolViolation),
        ("data beyond the limit", encoded(&[stream(1, 1 << 40, &[1], false)]), Code::FlowControl),
    ];
    for (what, bytes, code) in cases {
        let mut world = World::new(500, config).connected();
        world.run_for(Duration::from_millis(100));
        world.server().inject(Space::Application, &bytes);
        world.flush();
        world.run_for(Duration::from_millis(10));
        let Some(Event::Closed(CloseReason::Transport(error))) = world.client.events.last() else {
            panic!("{what}: {:?}", world.client.events.last())
        };
        assert_eq!(error.code, code as u64, "{what}");
    }
    // Tokens without end: the newest counts, and one is kept.
    let mut world = World::new(501, config).connected();
    for at in 0..200 {
        world.server().inject(Space::Application, &encoded(&[Frame::NewToken(&[at as u8; 900])]));
    }
    world.flush();
    world.run_for(Duration::from_secs(1));
    assert!(world.client().is_connected() && world.client().memory() < 100_000);
}

#[test]
fn any_frames_at_all_end_in_order() {
    // Valid frames with any numbers, in any order: the server closes or goes on, holds little, and says why.
    for seed in 0..300 {
        println!("seed {seed}");
        let (mut world, mut rng) = (world(seed), StdRng::seed_from_u64(seed));
        for _ in 0..rng.random_range(1..60) {
            let mut bytes = Vec::new();
            for _ in 0..rng.random_range(1..8) {
                anything(&mut rng, &mut bytes);
            }
            bytes.truncate(1_100);
            send(&mut world, &bytes);
            assert!(memory(&world) < 1 << 20);
        }
        let now = world.now;
        if world.client.events.last().is_none_or(|event| !matches!(event, Event::Closed(_))) {
            world.client().close(now, 0, b"");
        }
        world.run_for(Duration::from_secs(70));
        assert!(world.server.endpoint.is_empty() && world.client.endpoint.is_empty());
    }
}

/// Appends a frame of any kind with numbers that may mean something.
fn anything(rng: &mut StdRng, out: &mut Vec<u8>) {
    let number = |rng: &mut StdRng| match rng.random_range(0..6) {
        0..3 => rng.random_range(0..12),
        3 => rng.random_range(0..2_000),
        4 => rng.random_range(0..1 << 20),
        _ => rng.random_range(0..=varint::MAX),
    };
    let data = vec![3; rng.random_range(0..60)];
    let (id, direction) = (StreamId(number(rng)), Direction::Bidirectional);
    let delivery = [Delivery::Independent, Delivery::Ordered, Delivery::Newest][rng.random_range(0..3)];
    let inner = encoded(&[Frame::Datagram(Datagram { has_len: true, data: &data })]);
    let (low, high) = (number(rng), number(rng));
    let frame = match rng.random_range(0..24) {
        0..3 => stream(id.0, low, &data, rng.random()),
        3 => Frame::ResetStream { id, code: low, final_size: high },
        4 => Frame::StopSending { id, code: low },
        5 => Frame::MaxData(low),
        6 => Frame::MaxStreamData { id, limit: low },
        7 => Frame::MaxStreams { direction, limit: low.min(1 << 60) },
        8 => Frame::StreamDataBlocked { id, limit: low },
        9 => Frame::NewId {
            sequence: low.max(high),
            retire_prior_to: low.min(high),
            id: Guuid::from_bytes([low as u8; 16]),
            reset_token: [low as u8; 16],
        },
        10 => Frame::RetireId(low),
        11 => Frame::PathChallenge([low as u8; 8]),
        12 => Frame::PathResponse([low as u8; 8]),
        13 => Frame::AckFrequency { sequence: low, threshold: high, delay_max_us: low, reordering: high },
        14 => Frame::GoAway { last_stream: low, code: high, reason: &data },
        15 => Frame::FecWindow { symbols: low, bytes: high },
        16 => Frame::MessageFloor { channel: low, floor: high },
        17 | 18 => {
            let total = (data.len() as u64 + low % 100).max(1);
            let data = if data.is_empty() { &[1][..] } else { &data };
            let (channel, number, offset) = (low % 80, high, total.saturating_sub(data.len() as u64).min(low));
            Frame::Message(Message { channel, number, delivery, offset, total, data })
        }
        19 => Frame::Symbol { sid: low as u16, data: &inner },
        20 | 21 => {
            let data = &[5; 64][..2 * rng.random_range(1..32)];
            Frame::Repair(Repair { base: low, k: rng.random_range(1..20), row: rng.random_range(0..4), class: 2, data })
        }
        22 => return out.extend(ack(low)),
        _ => Frame::Datagram(Datagram { has_len: true, data: &data }),
    };
    frame.encode(out);
}
