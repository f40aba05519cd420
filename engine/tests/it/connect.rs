//! Connections that a shard opens itself.

use std::{
    io::ErrorKind,
    net::{IpAddr, Ipv4Addr, TcpListener},
};

use engine::Config;

use crate::world::{Habit, Happened, Mail, World, eventually, tcp_config};

fn clients(shards: u16, kernel_max: Option<(u16, u16)>) -> World {
    World::start(Habit::Report, Config { shards, kernel_max, ..Config::default() })
}

#[test]
fn a_connection_comes_up_from_the_address_that_was_asked_for() {
    for kernel_max in [None, Some((5, 19))] {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let remote = listener.local_addr().expect("an address");
        let world = clients(1, kernel_max);
        let local = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 77));
        world.order(0, move |io| io.connect(5, Some(local), remote));
        let (stream, token) = world.until(|happened| match happened {
            Happened::Connected(stream, token) => Some((stream, token)),
            _ => None,
        });
        assert_eq!(token, 5);
        let (mut socket, peer) = listener.accept().expect("a connection");
        assert_eq!(peer.ip(), local);
        std::io::Write::write_all(&mut socket, b"hello").expect("sent");
        assert_eq!(world.next(), Happened::Data(stream, b"hello".to_vec()));
        world.stop();
    }
}

#[test]
fn a_refused_connection_is_one_event_and_leaves_nothing() {
    let world = clients(1, None);
    let nobody = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    world.order(0, move |io| io.connect(7, None, nobody));
    assert_eq!(world.next(), Happened::Started);
    assert_eq!(world.next(), Happened::ConnectFailed(7, ErrorKind::ConnectionRefused));
    eventually("nothing is open", || world.stats(0).streams_open.get() == 0);
    let elsewhere = IpAddr::V4(Ipv4Addr::new(8, 8, 8, 8));
    world.order(0, move |io| io.connect(8, Some(elsewhere), nobody));
    assert_eq!(world.next(), Happened::ConnectFailed(8, ErrorKind::AddrNotAvailable));
    assert_eq!(world.stats(0).connect_errors.get(), 2);
    world.stop();
}

#[test]
fn a_thousand_connections_at_once_all_come_up() {
    let server = World::start(Habit::Echo, tcp_config(2));
    let remote = server.addr();
    let world = clients(1, None);
    world.order(0, move |io| {
        for token in 0..1000 {
            let local = Ipv4Addr::new(127, 0, 0, 2 + (token % 4) as u8);
            io.connect(token, Some(local.into()), remote);
        }
    });
    let mut up = std::collections::BTreeSet::new();
    while up.len() < 1000 {
        let (stream, token) = world.until(|happened| match happened {
            Happened::Connected(stream, token) => Some((stream, token)),
            Happened::ConnectFailed(token, error) => panic!("{token}: {error}"),
            _ => None,
        });
        assert!(up.insert(token));
        world.order(0, move |io| io.send_slice(stream, b"ping"));
    }
    eventually("all echoes", || world.stats(0).bytes_in.get() == 4000);
    world.stop();
    eventually("the server noticed", || server.sum(|s| s.streams_open.get()) == 0);
    server.stop();
}

#[test]
fn connects_beyond_the_limit_fail_at_once() {
    let world = World::start(Habit::Report, Config { shards: 1, streams_max: 1, ..Config::default() });
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let remote = listener.local_addr().expect("an address");
    world.order(0, move |io| (0..3).for_each(|token| io.connect(token, None, remote)));
    let mut failed = 0;
    while failed < 2 {
        if let Happened::ConnectFailed(_, ErrorKind::QuotaExceeded) = world.next() {
            failed += 1;
        }
    }
    assert!(world.running().mail(engine::ShardId(9), Mail::Number(1)).is_err(), "there is no shard 9");
    world.stop();
}

#[test]
fn connects_that_wait_behind_failing_ones_get_their_turn() {
    let server = World::start(Habit::Echo, tcp_config(1));
    let remote = server.addr();
    let world = clients(1, None);
    // The first fill all places, the last wait behind more failing ones than there are places.
    const FIRST: u64 = 256;
    const FAILING: u64 = 600;
    const LAST: u64 = 10;
    world.order(0, move |io| {
        let elsewhere = IpAddr::V4(Ipv4Addr::new(8, 8, 8, 8));
        (0..FIRST).for_each(|token| io.connect(token, None, remote));
        (0..FAILING).for_each(|n| io.connect(FIRST + n, Some(elsewhere), remote));
        (0..LAST).for_each(|n| io.connect(FIRST + FAILING + n, None, remote));
    });
    let (mut up, mut failed) = (0, 0);
    while up < FIRST + LAST || failed < FAILING {
        match world.next() {
            Happened::Connected(..) => up += 1,
            Happened::ConnectFailed(_, ErrorKind::AddrNotAvailable) => failed += 1,
            Happened::Started => {}
            other => panic!("{other:?}"),
        }
    }
    world.stop();
    server.stop();
}
