//! Streams: echo, ends of every kind, backpressure, limits.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, TcpStream},
    sync::Arc,
    thread,
};

use bytes::Bytes;
use engine::{Config, StreamClose};

use crate::world::{DEADLINE, Habit, Happened, World, eventually, tcp_config};

fn client(world: &World) -> TcpStream {
    let client = TcpStream::connect(world.addr()).expect("the server listens");
    client.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    client.set_nodelay(true).expect("nodelay");
    client
}

fn accepted(world: &World) -> engine::Stream {
    world.until(|happened| match happened {
        Happened::Accepted(stream, _) => Some(stream),
        _ => None,
    })
}

fn echo_once(client: &mut TcpStream, bytes: &[u8]) {
    client.write_all(bytes).expect("the server reads");
    let mut back = vec![0; bytes.len()];
    client.read_exact(&mut back).expect("the server answers");
    assert!(back == bytes, "the echo is not what was sent");
}

fn every_kernel() -> impl Iterator<Item = Config> {
    [None, Some((5, 19)), Some((6, 0))].into_iter().flat_map(|kernel_max| {
        [true, false].map(|peer_addresses| Config { kernel_max, peer_addresses, ..tcp_config(2) })
    })
}

#[test]
fn many_connections_are_echoed_on_every_kernel() {
    for config in every_kernel() {
        let world = World::start(Habit::Echo, config);
        let mut clients: Vec<_> = (0..200).map(|_| client(&world)).collect();
        for round in 0..5u8 {
            for client in &mut clients {
                echo_once(client, &[round; 64]);
            }
        }
        eventually("all accepted", || world.sum(|s| s.accepted.get()) == 200);
        assert!((0..2).all(|shard| world.stats(shard).accepted.get() > 40), "the kernel spreads connections");
        drop(clients);
        eventually("all closed", || world.sum(|s| s.closed.get()) == 200);
        assert_eq!(world.sum(|s| s.streams_open.get()), 0);
        world.stop();
    }
}

#[test]
fn a_megabyte_each_way_arrives_whole() {
    for config in every_kernel() {
        let world = World::start(Habit::Echo, config);
        let mut client = client(&world);
        let sent: Vec<u8> = (0..1 << 20).map(|n: u32| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let mut writer = client.try_clone().expect("a second handle");
        let copy = sent.clone();
        let thread = thread::spawn(move || {
            writer.write_all(&copy).expect("the server reads");
            writer.shutdown(Shutdown::Write).expect("FIN");
        });
        let mut back = Vec::new();
        client.read_to_end(&mut back).expect("the echo and its end");
        thread.join().expect("all written");
        assert!(back == sent, "{} bytes came back", back.len());
        world.stop();
    }
}

#[test]
fn the_peers_address_is_told() {
    let world = World::tcp(Habit::Report, 1);
    let client = client(&world);
    let peer = world.until(|happened| match happened {
        Happened::Accepted(_, peer) => Some(peer),
        _ => None,
    });
    assert_eq!(peer, client.local_addr().expect("an address"));
    world.stop();
}

#[test]
fn after_half_a_close_the_other_half_still_works() {
    let world = World::tcp(Habit::Report, 1);
    let mut client = client(&world);
    let stream = accepted(&world);
    client.write_all(b"last words").expect("sent");
    client.shutdown(Shutdown::Write).expect("FIN");
    assert_eq!(world.next(), Happened::Data(stream, b"last words".to_vec()));
    assert_eq!(world.next(), Happened::Ended(stream));
    world.order(0, move |io| {
        io.send(stream, Bytes::from_static(b"still "));
        io.send(stream, Bytes::from_static(b"here"));
        io.shutdown(stream);
    });
    let mut answer = String::new();
    client.read_to_string(&mut answer).expect("the answer and FIN");
    assert_eq!(answer, "still here");
    assert_eq!(world.next(), Happened::Sent(stream, 10));
    assert_eq!(world.next(), Happened::Closed(stream, StreamClose::Local));
    world.stop();
}

#[test]
fn a_reset_is_told_as_such() {
    let world = World::tcp(Habit::Report, 1);
    let client = client(&world);
    let stream = accepted(&world);
    socket2::SockRef::from(&client).set_linger(Some(std::time::Duration::ZERO)).expect("linger");
    drop(client);
    assert_eq!(world.next(), Happened::Closed(stream, StreamClose::Reset));
    world.stop();
}

#[test]
fn a_paused_stream_fills_the_peers_window_and_resumes_without_loss() {
    let world = World::tcp(Habit::Report, 1);
    let mut client = client(&world);
    let stream = accepted(&world);
    world.order(0, move |io| io.pause(stream));
    client.set_nonblocking(true).expect("nonblocking");
    let (mut sent, chunk) = (0usize, [7u8; 64 * 1024]);
    let mut stalled = 0;
    while stalled < 50_000 {
        match client.write(&chunk) {
            Ok(count) => (sent, stalled) = (sent + count, 0),
            Err(error) if error.kind() == ErrorKind::WouldBlock => stalled += 1,
            Err(error) => panic!("{error}"),
        }
    }
    let early = world.stats(0).bytes_in.get();
    assert!((early as usize) < sent, "{early} of {sent} bytes were taken in spite of the pause");
    client.shutdown(Shutdown::Write).expect("FIN");
    world.order(0, move |io| io.resume(stream));
    let mut received = 0;
    world.until(|happened| match happened {
        Happened::Data(_, bytes) => {
            received += bytes.len();
            None
        }
        Happened::Ended(_) => Some(()),
        _ => None,
    });
    assert_eq!(received, sent);
    world.stop();
}

#[test]
fn a_stream_closed_with_data_in_flight_ends_once_and_its_handle_is_stale() {
    let world = World::tcp(Habit::Report, 1);
    let mut client = client(&world);
    let stream = accepted(&world);
    // More than the socket takes: the send is under way when the stream is closed.
    world.order(0, move |io| io.send(stream, Bytes::from(vec![1; 64 << 20])));
    world.until(|happened| matches!(happened, Happened::Sent(..)).then_some(()));
    world.order(0, move |io| io.close(stream));
    world.until(|happened| matches!(happened, Happened::Closed(_, StreamClose::Local)).then_some(()));
    let mut rest = Vec::new();
    let _ = client.read_to_end(&mut rest);
    assert!(rest.len() < 64 << 20, "what was queued is dropped");
    // The slot is used again; the old handle must not reach the new stream.
    let mut second = self::client(&world);
    let reused = accepted(&world);
    assert_eq!(reused.index, stream.index);
    assert_ne!(reused.generation, stream.generation);
    world.order(0, move |io| {
        io.send_slice(stream, b"stale");
        io.close(stream);
        io.send_slice(reused, b"fresh");
    });
    let mut answer = [0; 5];
    second.read_exact(&mut answer).expect("an answer");
    assert_eq!(&answer, b"fresh");
    assert_eq!(world.stats(0).stale_effects.get(), 2);
    world.stop();
}

/// Bytes that can be asked whether anybody holds them.
struct Held(Vec<u8>, #[allow(dead_code, reason = "it is counted")] Arc<()>);

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

#[test]
fn what_a_stream_was_sending_when_it_died_is_given_back() {
    for config in every_kernel() {
        let world = World::start(Habit::Report, Config { shards: 1, ..config });
        let held = Arc::new(());
        for round in 0..12 {
            let client = client(&world);
            let stream = accepted(&world);
            // More than the socket takes, and more behind it: one send is with the kernel, the others wait.
            let queued: [Bytes; 3] = [(); 3].map(|()| Bytes::from_owner(Held(vec![1; 8 << 20], Arc::clone(&held))));
            world.order(0, move |io| queued.into_iter().for_each(|bytes| io.send(stream, bytes)));
            world.until(|happened| matches!(happened, Happened::Sent(..)).then_some(()));
            assert!(Arc::strong_count(&held) > 1, "all of it is on its way already");
            if round % 2 == 0 {
                world.order(0, move |io| io.close(stream));
            } else {
                // With bytes that it did not read, this is a reset.
                drop(client);
            }
            world.until(|happened| matches!(happened, Happened::Closed(which, _) if which == stream).then_some(()));
        }
        eventually("nothing is held", || Arc::strong_count(&held) == 1);
        assert_eq!(world.stats(0).streams_open.get(), 0);
        world.stop();
    }
}

#[test]
fn every_queued_byte_is_reported_as_sent_once() {
    let world = World::tcp(Habit::Report, 1);
    let mut client = client(&world);
    let stream = accepted(&world);
    const TOTAL: usize = 100 * 1000 + 3_000_000;
    world.order(0, move |io| {
        for n in 0..100u8 {
            io.send(stream, Bytes::from(vec![n; 1000]));
        }
        io.send(stream, Bytes::from(vec![255; 3_000_000]));
        io.shutdown(stream);
    });
    let mut received = Vec::new();
    client.read_to_end(&mut received).expect("all bytes");
    assert_eq!(received.len(), TOTAL);
    assert!(received[..100_000].chunks(1000).enumerate().all(|(n, chunk)| chunk.iter().all(|&b| b == n as u8)));
    let mut sent = 0;
    while sent < TOTAL {
        sent += world.until(|happened| match happened {
            Happened::Sent(_, bytes) => Some(bytes),
            _ => None,
        });
    }
    assert_eq!(sent, TOTAL);
    world.stop();
}

#[test]
fn who_does_not_read_is_told_of_once_and_has_everything_when_it_reads() {
    let world = World::tcp(Habit::Report, 1);
    let mut client = client(&world);
    let stream = accepted(&world);
    const PIECE: usize = 200_000;
    let (mut queued, mut sent) = (0, 0);
    // Until the buffers of both kernels' ends are full.
    'fill: loop {
        assert!(queued < 1 << 30, "no socket holds a gigabyte");
        world.order(0, move |io| {
            io.send(stream, Bytes::from(vec![7; PIECE]));
            // What cannot get on is told of in the next turn, whatever brings it.
            io.wake_at(Some(io.now()));
        });
        queued += PIECE;
        while sent < queued {
            match world.next() {
                Happened::Sent(_, bytes) => sent += bytes,
                Happened::Behind(behind) => {
                    assert_eq!(behind, stream);
                    break 'fill;
                }
                other => panic!("{other:?}"),
            }
        }
    }
    world.order(0, move |io| io.send(stream, Bytes::from(vec![7; PIECE])));
    queued += PIECE;
    eventually("counted", || world.stats(0).behind.get() == 1);
    client.read_exact(&mut vec![0; queued]).expect("all bytes");
    assert!(matches!(world.next(), Happened::Sent(..)), "it was told once");
    world.stop();
}

#[test]
fn connections_beyond_the_limit_are_closed_and_counted() {
    let world = World::start(Habit::Echo, Config { streams_max: 10, ..tcp_config(1) });
    let mut clients: Vec<_> = (0..10).map(|_| client(&world)).collect();
    clients.iter_mut().for_each(|client| echo_once(client, b"in"));
    for _ in 0..300 {
        let mut refused = client(&world);
        assert!(matches!(refused.read(&mut [0; 1]), Ok(0) | Err(_)), "closed without a word");
    }
    eventually("counted", || world.stats(0).refused.get() == 300);
    clients.iter_mut().for_each(|client| echo_once(client, b"still in"));
    clients.pop();
    eventually("room again", || world.stats(0).streams_open.get() == 9);
    echo_once(&mut client(&world), b"let in");
    world.stop();
}

#[test]
fn a_second_server_on_the_port_is_refused() {
    let world = World::tcp(Habit::Echo, 2);
    let mut config = tcp_config(1);
    config.listeners[0].addr = world.addr();
    let error = engine::bind(config).err().expect("the port is taken").to_string();
    assert!(error.contains("in use") && error.contains(&world.addr().to_string()), "{error}");
    world.stop();
}

#[test]
fn after_stop_accepting_clients_are_refused_and_streams_go_on() {
    let world = World::tcp(Habit::Echo, 2);
    let mut early = client(&world);
    echo_once(&mut early, b"early");
    (0..2).for_each(|shard| world.order(shard, |io| io.stop_accepting()));
    eventually("refused", || TcpStream::connect(world.addr()).is_err());
    echo_once(&mut early, b"still here");
    world.stop();
}
