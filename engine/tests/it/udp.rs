//! Datagrams: trains in and out, ECN, steering.

use std::{
    net::{SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use engine::{Config, Listener, ListenerConfig, ShardId, Socket, SocketConfig, Steer, Train};

use crate::world::{DEADLINE, Habit, Happened, World, eventually};

fn config(shards: u16, steer: Option<Steer>, addr: &str) -> Config {
    let addr = addr.parse().expect("an address");
    Config { shards, sockets: vec![SocketConfig { steer, ..SocketConfig::new(addr) }], ..Config::default() }
}

fn client(addr: &str) -> UdpSocket {
    let client = UdpSocket::bind(addr).expect("a port");
    client.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    client
}

fn datagrams(world: &World) -> (SocketAddr, usize, u8, Vec<u8>) {
    world.until(|happened| match happened {
        Happened::Datagrams { peer, segment, ecn, bytes } => Some((peer, segment, ecn, bytes)),
        _ => None,
    })
}

#[test]
fn single_datagrams_are_echoed_on_every_kernel_and_family() {
    for kernel_max in [None, Some((5, 19))] {
        for addr in ["127.0.0.1:0", "[::1]:0"] {
            let world = World::start(Habit::Echo, Config { kernel_max, ..config(2, None, addr) });
            let client = client(addr);
            for n in 0..200u8 {
                let sent = vec![n; 1 + usize::from(n) * 7];
                client.send_to(&sent, world.udp.expect("a socket")).expect("sent");
                let mut back = [0; 2048];
                let (len, from) = client.recv_from(&mut back).expect("an echo");
                assert_eq!((&back[..len], Some(from)), (&sent[..], world.udp));
            }
            world.stop();
        }
    }
}

#[test]
fn what_has_piled_up_is_taken_in_one_turn_and_not_without_end() {
    let world = World::start(Habit::Count, config(1, None, "127.0.0.1:0"));
    let client = client("127.0.0.1:0");
    for (datagrams, most) in [(200, 200), (700, 600)] {
        let (go, sent) = std::sync::mpsc::channel();
        // The shard is busy until all are there.
        world.order(0, move |_| sent.recv_timeout(DEADLINE).expect("the test sends"));
        for _ in 0..datagrams {
            client.send_to(b"one", world.udp.expect("a socket")).expect("sent");
        }
        go.send(()).expect("the shard waits");
        let (mut turns, mut heard) = (Vec::new(), 0);
        while heard < datagrams {
            let turn = world.until(|happened| match happened {
                Happened::Turn(heard) => Some(heard),
                _ => None,
            });
            heard += turn;
            turns.push(turn);
        }
        let longest = turns.iter().copied().max().expect("there was one");
        assert!((150..=most).contains(&longest), "{datagrams} datagrams in turns of {turns:?}");
    }
    world.stop();
}

#[test]
fn a_train_goes_out_in_one_send_and_comes_in_as_one() {
    let receiver = World::start(Habit::Report, config(1, None, "127.0.0.1:0"));
    let sender = World::start(Habit::Report, config(1, None, "127.0.0.1:0"));
    let to = receiver.udp.expect("a socket");
    let sent: Vec<u8> = (0..60_500u32).map(|n| (n / 1200) as u8).collect();
    let copy = sent.clone();
    sender.order(0, move |io| io.send_train(Socket(0), Train { to, segment: 1200, ecn: 2 }, &copy));
    let (mut received, mut trains) = (Vec::new(), 0);
    while received.len() < sent.len() {
        let (peer, segment, ecn, bytes) = datagrams(&receiver);
        assert_eq!((Some(peer), ecn), (sender.udp, 2));
        assert!(segment == 1200 || bytes.len() == segment);
        received.extend(bytes);
        trains += 1;
    }
    assert!(received == sent);
    assert!(trains <= 3, "{trains} trains for 51 datagrams");
    assert_eq!(sender.stats(0).trains_out.get(), 1);
    eventually("counted", || sender.stats(0).datagrams_out.get() == 51);
    assert_eq!(receiver.stats(0).datagrams_in.get(), 51);
    sender.stop();
    receiver.stop();
}

#[test]
fn a_train_beyond_the_kernels_limits_is_split() {
    let receiver = World::start(Habit::Report, config(1, None, "127.0.0.1:0"));
    let world = World::start(Habit::Quiet, config(1, None, "127.0.0.1:0"));
    let to = receiver.udp.expect("a socket");
    // 150 datagrams of 1,000 bytes: more than 64 segments, and more than 65,507 bytes.
    world.order(0, move |io| io.send_train(Socket(0), Train { to, segment: 1000, ecn: 0 }, &vec![9; 149_500]));
    let (mut bytes, mut last) = (0, 0);
    while bytes < 149_500 {
        let (_, segment, _, received) = datagrams(&receiver);
        bytes += received.len();
        last = received.len() % segment;
    }
    assert_eq!((bytes, last), (149_500, 500));
    assert_eq!(receiver.stats(0).datagrams_in.get(), 150);
    assert!(world.stats(0).trains_out.get() <= 3);
    world.stop();
    receiver.stop();
}

#[test]
fn a_datagram_that_cannot_be_sent_is_a_counted_drop() {
    let world = World::start(Habit::Quiet, config(1, None, "127.0.0.1:0"));
    let nowhere = "[::1]:9".parse().expect("an address");
    world.order(0, move |io| io.send_train(Socket(0), Train { to: nowhere, segment: 5, ecn: 0 }, b"hello"));
    eventually("counted", || world.stats(0).datagrams_dropped.get() == 1);
    world.stop();
}

#[test]
fn synthetic_connection_ids_reach_the_shard_that_they_name() {
    let steer = Steer::new(3);
    let world = World::start(Habit::Quiet, config(3, Some(steer), "127.0.0.1:0"));
    let to = world.udp.expect("a socket");
    let mut expected = [0u64; 3];
    for n in 0..300u32 {
        let shard = ShardId((n % 3) as u16);
        let mut datagram = [0u8; 40];
        datagram[13..17].copy_from_slice(&steer.word_for(shard, n.wrapping_mul(0x9E37_79B9)).to_be_bytes());
        assert_eq!(steer.shard_of_datagram(&datagram), Some(shard));
        // A client whose address changes with every datagram still reaches its shard.
        client("127.0.0.1:0").send_to(&datagram, to).expect("sent");
        expected[shard.index()] += 1;
    }
    eventually("all datagrams", || world.sum(|s| s.datagrams_in.get()) == 300);
    let got: Vec<u64> = (0..3).map(|shard| world.stats(shard).datagrams_in.get()).collect();
    assert_eq!(got, expected);
    world.stop();
}

#[test]
fn short_datagrams_are_spread_by_the_hash_and_not_piled_on_shard_0() {
    let world = World::start(Habit::Quiet, config(2, Some(Steer::new(2)), "127.0.0.1:0"));
    // A long header of QUIC to an id of 7 bytes: no client may begin so.
    let id_of_7 = [0xC0, 0, 0, 0, 1, 7, 1, 2, 3, 4, 5, 6, 7, 0, 0, 0, 0, 0, 0, 0];
    for n in 0..200u8 {
        let datagram = [&b"short"[..], &[0x40; 16], &id_of_7[..16], &id_of_7][usize::from(n % 4)];
        client("127.0.0.1:0").send_to(datagram, world.udp.expect("a socket")).expect("sent");
    }
    eventually("all datagrams", || world.sum(|s| s.datagrams_in.get()) == 200);
    assert!((0..2).all(|shard| world.stats(shard).datagrams_in.get() > 40));
    world.stop();
}

#[test]
fn quics_headers_reach_the_shard_that_their_id_names() {
    let steer = Steer::keyed(2, 0xDEAD_BEEF);
    let world = World::start(Habit::Quiet, config(2, Some(steer), "127.0.0.1:0"));
    let to = world.udp.expect("a socket");
    let mut expected = [0u64; 2];
    for n in 0..300u32 {
        // One of three goes to shard 0, which a hash would not do.
        let shard = ShardId(u16::from(n % 3 != 0));
        let word = steer.word_for(shard, n.wrapping_mul(0x9E37_79B9)).to_be_bytes();
        let short = [&[0x40 | n as u8 & 0x3F][..], &word, &[n as u8; 35]].concat();
        // A client's first id, the shortest and the longest, and one of ours.
        let long = |id_len: u8| [&[0xC0 | n as u8 & 0x3F, 0, 0, 0, 1, id_len][..], &word, &[n as u8; 30]].concat();
        for datagram in [short, long(8), long(16), long(20)] {
            assert_eq!(steer.shard_of_datagram(&datagram), Some(shard));
            // A first flight of several datagrams, or a client that moves: the address does not matter.
            client("127.0.0.1:0").send_to(&datagram, to).expect("sent");
            expected[shard.index()] += 1;
        }
    }
    eventually("all datagrams", || world.sum(|s| s.datagrams_in.get()) == 1200);
    let got: Vec<u64> = (0..2).map(|shard| world.stats(shard).datagrams_in.get()).collect();
    assert_eq!(got, expected);
    world.stop();
}

#[test]
fn a_secret_multiplier_steers_in_the_kernel_as_in_the_program() {
    let steer = Steer::keyed(3, 0xC2B2_AE35);
    let bound = engine::bind(config(3, Some(steer), "127.0.0.1:0")).expect("a free port");
    assert!(bound.is_steered(Socket(0)), "this kernel takes filters");
    drop(bound);
    let world = World::start(Habit::Quiet, config(3, Some(steer), "127.0.0.1:0"));
    let mut expected = [0u64; 3];
    for n in 0..300u32 {
        let mut datagram = [0u8; 40];
        datagram[13..17].copy_from_slice(&n.wrapping_mul(0x9E37_79B9).to_be_bytes());
        let shard = steer.shard_of_datagram(&datagram).expect("long enough");
        client("127.0.0.1:0").send_to(&datagram, world.udp.expect("a socket")).expect("sent");
        expected[shard.index()] += 1;
    }
    eventually("all datagrams", || world.sum(|s| s.datagrams_in.get()) == 300);
    let got: Vec<u64> = (0..3).map(|shard| world.stats(shard).datagrams_in.get()).collect();
    assert_eq!(got, expected);
    assert!(!format!("{steer:?}").contains(&0xC2B2_AE35u32.to_string()), "the multiplier is secret");
    world.stop();
}

#[test]
fn a_pair_shares_one_free_port() {
    let any = "127.0.0.1:0".parse().expect("an address");
    let pair = Config {
        shards: 2,
        listeners: vec![ListenerConfig::new(any), ListenerConfig::new(any)],
        sockets: vec![SocketConfig { beside: Some(Listener(1)), ..SocketConfig::new(any) }],
        ..Config::default()
    };
    // Some of the ports that the kernel gives a listener are taken on the UDP side: some pairs need several attempts.
    let taken: Vec<_> = (0..4_000).filter_map(|_| UdpSocket::bind(any).ok()).collect();
    for _ in 0..10 {
        let bound = engine::bind(pair.clone()).expect("some port is free for both");
        assert_eq!(bound.listener_addr(Listener(1)), bound.socket_addr(Socket(0)));
        assert_ne!(bound.listener_addr(Listener(0)), bound.socket_addr(Socket(0)));
    }
    drop(taken);
    // Now and then another test has the TCP side of that port; then it is that one's turn to be named.
    let named = (0..20).any(|_| {
        let busy = UdpSocket::bind(any).expect("a port");
        let port = busy.local_addr().expect("bound");
        let socket = SocketConfig { beside: Some(Listener(0)), ..SocketConfig::new(port) };
        let fixed = Config { listeners: vec![ListenerConfig::new(port)], sockets: vec![socket], ..pair.clone() };
        let error = engine::bind(fixed).err().expect("its UDP side is taken").to_string();
        assert!(error.contains("in use"), "{error}");
        error.contains("udp")
    });
    assert!(named, "the side that is taken is named");
    let nowhere =
        Config { sockets: vec![SocketConfig { beside: Some(Listener(2)), ..SocketConfig::new(any) }], ..pair };
    assert!(engine::bind(nowhere).is_err());
}

#[test]
fn a_probe_that_is_too_long_for_the_way_is_counted_and_harms_nothing() {
    let receiver = World::start(Habit::Report, config(1, None, "127.0.0.1:0"));
    let sender = World::start(Habit::Quiet, config(1, None, "127.0.0.1:0"));
    let to = receiver.udp.expect("a socket");
    // More than an IPv4 packet holds: what a probe beyond the MTU is on a real way.
    sender.order(0, move |io| io.send_train(Socket(0), Train { to, segment: 65_530, ecn: 0 }, &[7; 65_530]));
    eventually("counted", || sender.stats(0).datagrams_too_long.get() == 1);
    sender.order(0, move |io| io.send_train(Socket(0), Train { to, segment: 1200, ecn: 0 }, &[8; 24_000]));
    let mut received = 0;
    while received < 24_000 {
        received += datagrams(&receiver).3.len();
    }
    assert_eq!((sender.stats(0).datagrams_dropped.get(), sender.stats(0).trains_out.get()), (0, 2), "trains go on");
    sender.stop();
    receiver.stop();
}

#[test]
fn the_room_for_trains_is_told_and_comes_back() {
    let world = World::start(Habit::Quiet, config(1, None, "127.0.0.1:0"));
    let sink = client("127.0.0.1:0");
    let to = sink.local_addr().expect("bound");
    let (rooms, told) = std::sync::mpsc::channel();
    for _ in 0..20 {
        let rooms = rooms.clone();
        world.order(0, move |io| {
            let first = io.train_room();
            while io.train_room() > 0 {
                io.send_train(Socket(0), Train { to, segment: 1200, ecn: 0 }, &[1; 60_000]);
            }
            rooms.send(first).expect("the test listens");
        });
        let room = told.recv_timeout(DEADLINE).expect("the order was carried out");
        // Trains that left in earlier turns give their room back.
        assert!((1..=128).contains(&room), "{room}");
        eventually("all out", || world.stats(0).datagrams_out.get().is_multiple_of(50));
    }
    assert_eq!(world.stats(0).datagrams_dropped.get(), 0);
    world.stop();
}

#[test]
fn a_deadline_is_not_rounded_to_milliseconds() {
    let world = World::start(Habit::Quiet, config(1, None, "127.0.0.1:0"));
    let (laps, told) = std::sync::mpsc::channel();
    let mut late = Vec::new();
    for n in 0..100u64 {
        let laps = laps.clone();
        let wait = Duration::from_micros(200 + 13 * (n % 20));
        world.order(0, move |io| {
            let due = io.now() + wait;
            io.wake_at(Some(due));
            // Where the turn takes long, the sleep is the shorter for it.
            std::thread::sleep(Duration::from_micros(100));
            laps.send(due).expect("the test listens");
        });
        let due = told.recv_timeout(DEADLINE).expect("the order was carried out");
        let turns = world.stats(0).turns.get();
        eventually("the deadline's turn", || world.stats(0).turns.get() > turns);
        late.push(Instant::now().saturating_duration_since(due));
        world.order(0, |io| io.wake_at(None));
    }
    // The machine may be busy with something else, but not always; whoever rounds up is late by half a millisecond.
    let least = late.iter().min().expect("a hundred");
    assert!(*least <= Duration::from_micros(250), "late by {least:?} at least: {late:?}");
    world.stop();
}
