//! One send for several shards: the kernel delivers it as one train, to the shard of its first datagram.

use std::{net::SocketAddr, time::Instant};

use engine::{
    Config, Datagrams, Io, Outcome, Reactor, ShardId, Socket, SocketConfig, Stream, StreamEvent, Ticket, Train,
};
use quantum::{Endpoint, EndpointConfig, Transport};

use super::talker::{Quantum, config};
use crate::process::Server;

/// Connections that begin in one train.
const CLIENTS: u64 = 20;

/// Bytes of a client's first datagram.
const FIRST: usize = 1_200;

/// Sends one train, and is told to end.
struct Sender {
    to: SocketAddr,
    train: Vec<u8>,
}

impl Reactor for Sender {
    type Mail = ();

    fn on_start(&mut self, io: &mut Io<()>) {
        io.send_train(Socket(0), Train { to: self.to, segment: FIRST as u16, ecn: 0 }, &self.train);
    }

    fn on_datagrams(&mut self, _: &mut Io<()>, _: Socket, _: Datagrams<'_>) {}

    fn on_stream(&mut self, _: &mut Io<()>, _: Stream, _: StreamEvent<'_>) {}

    fn on_disk(&mut self, _: &mut Io<()>, _: Ticket, _: Outcome) {}

    fn on_mail(&mut self, io: &mut Io<()>, _: ShardId, (): ()) {
        io.exit();
    }

    fn on_turn_end(&mut self, _: &mut Io<()>) {}
}

/// The first datagrams of as many clients, one behind the other.
fn first_packets(server: &Server) -> Vec<u8> {
    let (now, config) = (Instant::now(), config(server));
    let mut endpoint = Endpoint::new(EndpointConfig::single([1; 32], Transport::default()), None, [1; 32]);
    for _ in 0..CLIENTS {
        endpoint.connect(now, 1_800_000_000_000, server.udp, "localhost", &config).expect("begun");
    }
    let (mut train, mut all) = (Vec::new(), Vec::new());
    while endpoint.poll_transmit(now, &mut train).is_some() {
        assert_eq!(train.len() % FIRST, 0, "all are as long");
        all.extend_from_slice(&train);
    }
    all
}

#[test]
fn a_train_for_several_shards_reaches_them_all() {
    let server = Server::start(&[]);
    let mut innocent = Quantum::enter(&server, "ada", "chat/train");
    let any = "127.0.0.1:0".parse().expect("an address");
    let settings = Config { shards: 1, pin: false, sockets: vec![SocketConfig::new(any)], ..Config::default() };
    let (to, train) = (server.udp, first_packets(&server));
    let bound = engine::bind(settings).expect("a free port");
    let running = bound.start(move |_, _| Sender { to, train: train.clone() }).expect("it starts");
    server.until("all taken", |server| server.metric("ringshard_quantum_accepted_total", "") == CLIENTS + 1);
    assert_eq!(running.stats()[0].trains_out.get(), 1, "it was one send");
    // Ids are random: with both shards named among so many, some were not for the one that got the train.
    let forwarded = server.metric("ringshard_steer_forwarded_total", "");
    assert!((1..CLIENTS).contains(&forwarded), "{forwarded} were passed on");
    let misrouted = server.metric("ringshard_quantum_datagrams_dropped_total", "reason=\"misrouted\"");
    assert_eq!(misrouted, 0, "one hop is enough");
    innocent.works();
    assert!(running.mail(ShardId(0), ()).is_ok());
    running.join().expect("it ends");
}
