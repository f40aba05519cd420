//! A client that wanders between addresses, takes ids back while they are in use, and leaves the server without a way.

use std::{net::SocketAddr, time::Duration};

use quic::{CloseReason, Event, Handle, Transport};

use crate::{
    clock,
    world::{World, plain},
};

/// Room for one frame of a new id and nothing else.
const ONE_FRAME: usize = 96;

/// A client that is quiche's alone, so that it may do what ours never does, and a server one step away.
struct Wanderer {
    world: World,
    client: quiche::Connection,
    server: Option<Handle>,
    buffer: Vec<u8>,
    ids: u8,
}

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], port))
}

impl Wanderer {
    fn new() -> Self {
        let transport = Transport { ids_max: 4, udp_payload_max: 1_200, ..Transport::default() };
        let world = World::with(1, 1, plain(), &transport, |_| {});
        let mut config = quiche::Config::new(quiche::PROTOCOL_VERSION).unwrap();
        config.set_application_protos(&[b"test/1"]).unwrap();
        config.verify_peer(false);
        config.set_active_connection_id_limit(4);
        config.set_initial_max_data(10_000);
        let id = quiche::ConnectionId::from_ref(&[0; 16]);
        let client = quiche::connect(Some("localhost"), &id, address(1), world.server_address, &mut config).unwrap();
        let mut this = Self { world, client, server: None, buffer: vec![0; 2_000], ids: 0 };
        this.settle();
        assert!(this.client.is_established());
        let connected = this.world.shards[0].poll_event();
        this.server = connected.filter(|(_, event)| *event == Event::Connected).map(|(handle, _)| handle);
        this
    }

    fn remote(&self) -> Option<SocketAddr> {
        Some(self.world.shards[0].peek(self.server?)?.remote())
    }

    fn issue(&mut self, retire: bool) {
        self.ids += 1;
        let id = [self.ids; 16];
        self.client.new_scid(&quiche::ConnectionId::from_ref(&id), self.ids.into(), retire).unwrap();
    }

    /// The client's next packet, of at most so many bytes.
    fn packet(&mut self, len: usize) -> Option<(SocketAddr, Vec<u8>)> {
        let (len, info) = self.client.send(&mut self.buffer[..len]).ok()?;
        Some((info.from, self.buffer[..len].to_vec()))
    }

    /// The server's next datagram, and where it goes.
    fn answer(&mut self) -> Option<(SocketAddr, Vec<u8>)> {
        let sent = self.world.shards[0].poll_transmit(self.world.now, &mut self.buffer, 1)?;
        Some((sent.to, self.buffer[..sent.size].to_vec()))
    }

    fn hear(&mut self, (to, mut bytes): (SocketAddr, Vec<u8>)) {
        let _ = self.client.recv(&mut bytes, quiche::RecvInfo { from: self.world.server_address, to });
    }

    fn pass(&mut self, time: Duration) {
        clock::advance(time);
        self.world.now += time;
        let now = self.world.now;
        if self.client.timeout_instant().is_some_and(|at| at <= now) {
            self.client.on_timeout();
        }
        if self.world.shards[0].deadline().is_some_and(|at| at <= now) {
            self.world.shards[0].handle_timeout(now);
        }
    }

    /// Lets both talk until neither has anything to say.
    fn settle(&mut self) {
        for _ in 0..40 {
            while let Some((from, bytes)) = self.packet(1_200) {
                self.world.hand_up(from, bytes);
            }
            while let Some(answer) = self.answer() {
                self.hear(answer);
            }
            self.pass(Duration::from_millis(20));
        }
    }

    /// The client has three addresses, and takes the ids of all three back at once, of which the server can replace two: not
    /// the one in use, where it waits for an answer. The first of the packets that do so, each with one new id.
    fn confuse(&mut self) -> Vec<(SocketAddr, Vec<u8>)> {
        for _ in 0..3 {
            self.issue(false);
        }
        self.settle();
        for port in [2, 3] {
            self.client.migrate_source(address(port)).unwrap();
            self.client.send_ack_eliciting().unwrap();
            self.settle();
            assert_eq!(self.remote(), Some(address(port)));
        }
        while self.world.shards[0].poll_event().is_some() {}
        // Lost on the way that is taken from it.
        self.world.shards[0].connection(self.server.unwrap()).unwrap().ping();
        assert!(self.answer().is_some());
        for _ in 0..3 {
            self.issue(true);
        }
        let frames: Vec<_> = std::iter::from_fn(|| self.packet(ONE_FRAME)).collect();
        assert!(frames.len() >= 3, "{} packets", frames.len());
        frames
    }
}

#[test]
fn a_server_whose_way_is_taken_from_it_and_given_back_gives_up() {
    let mut this = Wanderer::new();
    let mut frames = this.confuse().into_iter();
    let (from, first) = frames.next().unwrap();
    this.world.hand_up(from, first);
    let mut told = None;
    for _ in 0..200 {
        while let Some(answer) = this.answer() {
            told = Some(answer);
        }
        if this.remote() != Some(from) {
            break;
        }
        this.pass(Duration::from_millis(20));
    }
    assert_ne!(this.remote(), Some(from), "it has no id to go on with");
    if let Some(told) = told {
        this.hear(told);
    }
    // A train: the id comes, and an acknowledgement.
    let (from, second) = frames.next().unwrap();
    this.world.hand_up(from, second);
    while let Some((from, bytes)) = this.packet(1_200) {
        this.world.hand_up(from, bytes);
    }
    while this.answer().is_some() {}
    let events: Vec<_> = std::iter::from_fn(|| this.world.shards[0].poll_event()).collect();
    assert!(events.iter().any(|(_, event)| *event == Event::Closed(CloseReason::Reset)), "{events:?}");
    assert!(this.world.shards[0].is_empty());
}
