//! Datagrams: trains in and out, ECN, steering.

use std::net::{SocketAddr, UdpSocket};

use engine::{Config, ShardId, Socket, SocketConfig, Steer, Train};

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
    for n in 0..200u8 {
        let quic = [0x40 | n; 30];
        let datagram = if n % 2 == 0 { &b"short"[..] } else { &quic[..] };
        client("127.0.0.1:0").send_to(datagram, world.udp.expect("a socket")).expect("sent");
    }
    eventually("all datagrams", || world.sum(|s| s.datagrams_in.get()) == 200);
    assert!((0..2).all(|shard| world.stats(shard).datagrams_in.get() > 40));
    world.stop();
}
