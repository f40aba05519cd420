//! Steady state allocates nothing: echo over TCP, trains over UDP and mail, counted by the allocator itself.

use std::{
    alloc::System,
    io::{Read, Write},
    net::{TcpStream, UdpSocket},
};

use engine::{
    Config, Datagrams, Io, Listener, ListenerConfig, Outcome, Reactor, ShardId, Socket, SocketConfig, Stream,
    StreamEvent, Ticket, Train,
};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Sends everything back by way of the other shard and back again: bytes, mail, datagrams.
struct Echo;

impl Reactor for Echo {
    type Mail = (bool, Option<Stream>, [u8; 64]);

    fn on_datagrams(&mut self, io: &mut Io<Self::Mail>, socket: Socket, train: Datagrams<'_>) {
        io.send_train(socket, Train { to: train.peer, segment: train.segment as u16, ecn: 0 }, train.bytes);
    }

    fn on_stream(&mut self, io: &mut Io<Self::Mail>, stream: Stream, event: StreamEvent<'_>) {
        if let StreamEvent::Data(bytes) = event {
            let mut body = [0; 64];
            body[..bytes.len()].copy_from_slice(bytes);
            io.mail(ShardId(1 - io.shard().0), (false, Some(stream), body));
        }
    }

    fn on_disk(&mut self, _: &mut Io<Self::Mail>, _: Ticket, _: Outcome) {}

    fn on_mail(&mut self, io: &mut Io<Self::Mail>, from: ShardId, (back, stream, body): Self::Mail) {
        match stream {
            Some(stream) if back => io.send_slice(stream, &body),
            Some(_) => io.mail(from, (true, stream, body)),
            None => io.exit(),
        }
    }

    fn on_turn_end(&mut self, _: &mut Io<Self::Mail>) {}
}

#[test]
fn relayed_messages_allocate_nothing() {
    let any = "127.0.0.1:0".parse().expect("an address");
    let bound = engine::bind(Config {
        shards: 2,
        pin: false,
        listeners: vec![ListenerConfig::new(any)],
        sockets: vec![SocketConfig::new(any)],
        ..Config::default()
    })
    .expect("free ports");
    let (tcp, udp) = (bound.listener_addr(Listener(0)), bound.socket_addr(Socket(0)));
    let running = bound.start(|_, _| Echo).expect("the shards start");
    let mut streams: Vec<_> = (0..8).map(|_| TcpStream::connect(tcp).expect("connected")).collect();
    let datagrams = UdpSocket::bind(any).expect("a port");
    datagrams.connect(udp).expect("connected");
    let mut round = |rounds: usize| {
        let mut back = [0; 64];
        for _ in 0..rounds {
            streams.iter_mut().for_each(|stream| stream.write_all(&[7; 64]).expect("sent"));
            streams.iter_mut().for_each(|stream| stream.read_exact(&mut back).expect("echoed"));
            datagrams.send(&[9; 64]).expect("sent");
            datagrams.recv(&mut back).expect("echoed");
        }
    };
    round(2_000);
    let region = Region::new(ALLOCATOR);
    round(2_000);
    let change = region.change();
    // 36,000 messages; the arena may still take up a chunk that it did not need before.
    assert!(change.allocations + change.reallocations <= 8, "{change:?}");
    (0..2).for_each(|shard| assert!(running.mail(ShardId(shard), (false, None, [0; 64])).is_ok()));
    running.join().expect("no shard died");
}
