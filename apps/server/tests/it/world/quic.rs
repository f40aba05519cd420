//! QUIC in the world: a client's end on its own bad way, its lanes streams of the connection or of a session over HTTP/3.
//!
//! BoringSSL's random numbers follow from no seed: keys, the first id of a client and with it its shard differ from run to
//! run, and so does what happens. A world with QUIC has no hash to be held against; that it ends well has to do.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, LazyLock},
    time::Instant,
};

use bytes::{Buf, Bytes, BytesMut};
use quic::{
    Client, Connection, Direction, Endpoint, EndpointConfig, Event, Handle, Meta, Side, StreamError, StreamId,
    Transport, Trust, Web, config,
    h3::{self, Piece},
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use rcgen::{CertificateParams, KeyPair};
use ringshard::setup;
use tcp::frame::Deframer;

use super::{
    end::{End, Heard},
    kernel::{Kernel, SERVER},
};

/// A certificate and its key, in DER, for all worlds of a run.
static CERTIFICATE: LazyLock<(Vec<u8>, Vec<u8>)> = LazyLock::new(|| {
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(["world".to_owned()]).expect("a name");
    let certificate = params.self_signed(&key).expect("a certificate");
    (certificate.der().to_vec(), key.serialize_der())
});

/// What clients need to know of the shards.
pub(crate) struct Keys {
    certificate: Vec<u8>,
}

impl Keys {
    /// New keys for a world, whose datagrams are steered by this.
    pub(crate) fn new(multiplier: u32, rng: &mut impl Rng) -> (setup::Quic, Self) {
        let (certificate, key) = CERTIFICATE.clone();
        let server = setup::Quic::new(multiplier, (SERVER, 8080), (vec![certificate.clone()], key), rng);
        (server, Self { certificate })
    }
}

/// What carries the lanes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Carrier {
    /// The connection itself.
    Streams,
    /// A WebTransport session.
    Session,
}

/// The ordered lane on a connection of its own.
const FIRST: StreamId = StreamId(0);

/// Bytes of the largest frame that a server may send.
const FRAME_BYTES_MAX: usize = 16 << 20;

/// Bytes that may wait for room before what is said is dropped.
const WAITING_BYTES_MAX: usize = 1 << 20;

/// HTTP/3's code for an end without an error.
const H3_NO_ERROR: u64 = 0x100;

/// A client's end. It has one session at a time, and over HTTP/3 sometimes the next one on the same connection.
pub(crate) struct Line {
    way: usize,
    carrier: Carrier,
    endpoint: Endpoint,
    client: Client,
    transport: Transport,
    rng: StdRng,
    /// Its address as it knows it; what the shards see is the translator's.
    inside: SocketAddr,
    handle: Option<Handle>,
    web: Option<Web>,
    /// The server takes no further session on this connection.
    is_leaving: bool,
    /// What resumes the last connection.
    ticket: Option<Vec<u8>>,
    session: Option<StreamId>,
    /// The ordered lane, once it is open.
    lane: Option<StreamId>,
    /// What is to be written on it, and whether it ends behind that.
    waiting: BytesMut,
    ends: bool,
    /// The frames of each stream of the server that is not over.
    lanes: BTreeMap<StreamId, Deframer>,
    reads: bool,
    /// Streams that had something to read while nothing was read.
    unread: Vec<StreamId>,
    heard: Vec<Heard>,
    /// Holds one train on its way out.
    train: Vec<u8>,
}

impl Line {
    pub(crate) fn new(kernel: &mut Kernel, keys: &Keys, carrier: Carrier, seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        // Narrow windows, so that a reader that stops is felt soon.
        let stream = rng.random_range(4_000..100_000);
        let transport = Transport {
            stream_data_max: stream,
            stream_window_max: stream * rng.random_range(1..=4),
            data_max: stream * 2,
            data_window_max: stream * 8,
            udp_payload_max: if rng.random() { config::DATAGRAM_MIN } else { config::DATAGRAM_MAX },
            ..Transport::default()
        };
        let alpn: &[u8] = if carrier == Carrier::Session { b"h3" } else { b"ringshard/1" };
        let trust = Trust::Roots(vec![keys.certificate.clone()]);
        let mut client = Client::new(&trust, &[alpn.to_vec()], &transport).expect("a configuration");
        if rng.random() {
            // The default's key exchange takes a second datagram for the ClientHello, this one does not.
            client.set_groups("X25519").expect("known");
        }
        Self {
            way: kernel.pave(),
            carrier,
            endpoint: endpoint(&transport, &mut rng),
            client,
            transport,
            rng,
            inside: ([192, 168, 0, 2], 50_000).into(),
            handle: None,
            web: None,
            is_leaving: false,
            ticket: None,
            session: None,
            lane: None,
            waiting: BytesMut::new(),
            ends: false,
            lanes: BTreeMap::new(),
            reads: true,
            unread: Vec::new(),
            heard: Vec::new(),
            train: vec![0; config::TRAIN_BYTES_MAX],
        }
    }

    /// Forgets a session that is over, and what of it was not heard.
    fn reset(&mut self) {
        (self.session, self.lane, self.ends, self.reads) = (None, None, false, true);
        self.waiting.clear();
        self.lanes.clear();
        self.unread.clear();
        self.heard.clear();
    }

    fn connection(&mut self) -> Option<&mut Connection> {
        self.endpoint.connection(self.handle?)
    }

    /// Lets go of the connection, which is closed or not there.
    fn part(&mut self) {
        (self.handle, self.web, self.is_leaving) = (None, None, false);
    }

    /// Works off what has happened; whether there was anything.
    fn listen(&mut self, now: Instant) -> bool {
        let mut any = false;
        while let Some((handle, event)) = self.endpoint.poll_event() {
            any = true;
            if Some(handle) != self.handle {
                continue;
            }
            if let Event::Closed(_) = event {
                self.part();
                self.heard.push(Heard::Over);
            } else if let (Some(web), Some(connection)) = (&mut self.web, self.endpoint.connection(handle)) {
                web.handle(now, connection, &event);
            } else {
                self.event(event);
            }
        }
        while let Some(event) = self.web.as_mut().and_then(|web| web.http().poll_event()) {
            any = true;
            self.http_event(event);
        }
        self.carry_out(now);
        any
    }

    /// What was done with HTTP/3 reaches the connection.
    fn carry_out(&mut self, now: Instant) {
        if let (Some(web), Some(handle)) = (&mut self.web, self.handle)
            && let Some(connection) = self.endpoint.connection(handle)
        {
            web.flush(now, connection);
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            // With a ticket the first words go along with the first packet.
            Event::Early | Event::Connected if self.lane.is_none() => {
                let opened = self.connection().and_then(|connection| connection.open(Direction::Bidirectional).ok());
                assert_eq!(opened, Some(FIRST));
                self.lane = opened;
                self.heard.push(Heard::Up);
            }
            Event::Readable(id) => self.readable(id),
            Event::Writable(_) => self.flush(),
            Event::Datagram => {
                while let Some(frame) = self.connection().and_then(Connection::recv_datagram) {
                    self.heard.push(Heard::Frame(frame.to_vec()));
                }
            }
            Event::Reset { id: FIRST, .. } | Event::Stopped { id: FIRST, .. } => self.heard.push(Heard::Over),
            Event::Reset { id, .. } => drop(self.lanes.remove(&id)),
            Event::Early
            | Event::Connected
            | Event::Opened(_)
            | Event::Stopped { .. }
            | Event::StreamsAvailable(_)
            | Event::Moved
            | Event::Closed(_) => {}
        }
    }

    fn http_event(&mut self, event: h3::Event) {
        match event {
            h3::Event::Settings(_) => drop(self.ask()),
            h3::Event::SessionOpen { id, .. } if Some(id) == self.session => {
                let opened = self.web.as_mut().map(|web| web.http().open_bidi(id).expect("a stream"));
                self.lane = opened;
                self.heard.push(Heard::Up);
            }
            h3::Event::Response { id, response } if Some(id) == self.session => {
                assert_eq!(response.status(), http::StatusCode::SERVICE_UNAVAILABLE);
                self.heard.push(Heard::Over);
            }
            h3::Event::Cancelled { id, .. } | h3::Event::Refused { id, .. } | h3::Event::SessionClosed { id, .. }
                if Some(id) == self.session =>
            {
                self.session = None;
                self.heard.push(Heard::Over);
            }
            h3::Event::StreamReset { id, .. } | h3::Event::StreamStopped { id, .. } if Some(id) == self.lane => {
                self.heard.push(Heard::Over);
            }
            h3::Event::StreamReset { id, .. } => drop(self.lanes.remove(&id)),
            h3::Event::Readable(id) => self.readable(id),
            h3::Event::Writable(_) => self.flush(),
            h3::Event::Datagram { id, payload } if Some(id) == self.session => {
                self.heard.push(Heard::Frame(payload.to_vec()));
            }
            h3::Event::GoAway => self.is_leaving = true,
            h3::Event::Closed { code, why } => {
                assert_eq!(code.0, H3_NO_ERROR, "the server broke a rule: {why}");
                self.is_leaving = true;
            }
            _ => {}
        }
    }

    /// Asks for a session; whether that was possible. Until the settings are there it is not: then it is asked for later.
    fn ask(&mut self) -> bool {
        let request = http::Request::connect("https://world/wt").body(()).expect("a request");
        let Some(web) = self.web.as_mut().filter(|_| self.session.is_none()) else { return false };
        self.session = web.http().request(&request, Some("webtransport"), false).ok();
        self.session.is_some()
    }

    fn readable(&mut self, id: StreamId) {
        if self.reads { self.read(id) } else { self.unread.push(id) }
    }

    fn read(&mut self, id: StreamId) {
        let deframer = self.lanes.entry(id).or_insert_with(|| Deframer::new(FRAME_BYTES_MAX));
        let over = loop {
            let outcome = match (&mut self.web, self.handle) {
                (Some(web), _) => match web.http().read(id) {
                    Some(Piece::Data(bytes)) => Ok((bytes, false)),
                    Some(Piece::Trailers(_)) => continue,
                    Some(Piece::End) => Ok((Bytes::new(), true)),
                    None => Err(StreamError::Blocked),
                },
                (None, handle) => match handle.and_then(|handle| self.endpoint.connection(handle)) {
                    Some(connection) => connection.read_shared(id, 4_096),
                    None => Err(StreamError::Unknown),
                },
            };
            match outcome {
                Ok((bytes, end)) => {
                    let mut rest = &bytes[..];
                    while let Some(frame) = deframer.next(&mut rest).expect("the server sends whole frames") {
                        self.heard.push(Heard::Frame(frame.to_vec()));
                    }
                    if end {
                        break true;
                    }
                }
                Err(StreamError::Blocked) => break false,
                Err(_) => break true,
            }
        };
        if over {
            self.lanes.remove(&id);
            if Some(id) == self.lane {
                self.heard.push(Heard::Over);
            }
        }
    }

    /// Writes what there is room for.
    fn flush(&mut self) {
        let Some(lane) = self.lane.filter(|_| !self.waiting.is_empty()) else { return };
        if let Some(web) = &mut self.web {
            if web.http().send(lane, self.waiting.clone().freeze(), self.ends).is_ok() {
                self.waiting.clear();
            }
            return;
        }
        let (waiting, ends) = (std::mem::take(&mut self.waiting), self.ends);
        let taken = self.connection().and_then(|connection| connection.write(lane, &waiting, ends).ok());
        self.waiting = waiting;
        self.waiting.advance(taken.unwrap_or(0));
    }

    fn push(&mut self, now: Instant, frame: &[u8]) {
        if !self.ends && self.waiting.len() + frame.len() <= WAITING_BYTES_MAX {
            self.waiting.extend_from_slice(frame);
            self.flush();
            self.carry_out(now);
        }
    }
}

impl End for Line {
    fn way(&self) -> usize {
        self.way
    }

    fn deadline(&mut self) -> Option<Instant> {
        let web = self.web.as_mut().and_then(Web::deadline);
        web.into_iter().chain(self.endpoint.deadline()).min()
    }

    fn connect(&mut self, kernel: &mut Kernel) {
        self.reset();
        // What it had may have ended in the meantime, or be about to.
        if self.handle.is_none() || self.is_leaving || !self.ask() {
            self.close(kernel);
            self.part();
            let (now, meta) = (kernel.now, Meta { local: self.inside, remote: SERVER });
            let ticket = self.ticket.take().filter(|_| self.rng.random_bool(0.7));
            let handle = self.endpoint.connect(now, meta, "world", &mut self.client, ticket.as_deref());
            self.handle = Some(handle.expect("it may connect"));
            let is_session = self.carrier == Carrier::Session;
            self.web = is_session.then(|| Web::new(now, Side::Client, Arc::new(h3::Config::default())));
        }
        self.carry_out(kernel.now);
        self.send(kernel);
    }

    fn exchange(&mut self, kernel: &mut Kernel) -> Vec<Heard> {
        let (now, meta) = (kernel.now, Meta { local: self.inside, remote: SERVER });
        while let Some(mut datagram) = kernel.receive_datagram(self.way) {
            self.endpoint.handle(now, kernel.unix_ms(), meta, &mut datagram);
        }
        if self.endpoint.deadline().is_some_and(|at| at <= now) {
            self.endpoint.handle_timeout(now);
        }
        if let (Some(web), Some(handle)) = (&mut self.web, self.handle)
            && web.deadline().is_some_and(|at| at <= now)
            && let Some(connection) = self.endpoint.connection(handle)
        {
            web.handle_timeout(now, connection);
        }
        self.send(kernel);
        while self.listen(now) {
            self.send(kernel);
        }
        std::mem::take(&mut self.heard)
    }

    fn send(&mut self, kernel: &mut Kernel) {
        while let Some(transmit) = self.endpoint.poll_transmit(kernel.now, &mut self.train, config::TRAIN_MAX) {
            // An address that the client had before is not its own any more.
            if transmit.from == self.inside {
                kernel.send_datagrams(self.way, &self.train[..transmit.size], transmit.segment);
            }
        }
    }

    fn say(&mut self, kernel: &Kernel, frame: &[u8]) {
        self.push(kernel.now, frame);
    }

    fn wave(&mut self, kernel: &Kernel, frame: &[u8]) {
        let sent = match (&mut self.web, self.session, self.handle) {
            (Some(web), Some(session), _) => web.http().send_datagram(session, frame).is_ok(),
            (None, _, Some(handle)) => {
                let connection = self.endpoint.connection(handle);
                connection.is_some_and(|connection| connection.send_datagram(Bytes::copy_from_slice(frame)))
            }
            _ => false,
        };
        match sent {
            true => self.carry_out(kernel.now),
            false => self.push(kernel.now, frame),
        }
    }

    fn stall(&mut self, kernel: &Kernel, stalled: bool) {
        self.reads = !stalled;
        if self.reads {
            for id in std::mem::take(&mut self.unread) {
                self.read(id);
            }
            self.carry_out(kernel.now);
        }
    }

    /// The translator gives it another port, or the client moves by itself, and so does that.
    fn wander(&mut self, kernel: &mut Kernel) {
        kernel.way(self.way).rebind();
        let (by_itself, mut to) = (self.rng.random(), self.inside);
        to.set_port(to.port().wrapping_add(1));
        if by_itself && self.connection().is_some_and(|connection| connection.migrate(to).is_ok()) {
            self.inside = to;
            self.send(kernel);
        }
    }

    fn finish(&mut self, kernel: &Kernel, last: &[u8]) -> bool {
        self.ends = self.lane.is_some();
        self.waiting.extend_from_slice(last);
        self.flush();
        self.carry_out(kernel.now);
        self.ends
    }

    fn close(&mut self, kernel: &Kernel) {
        let stays = self.rng.random_bool(0.5) && !self.is_leaving && self.lane.is_some();
        let goodbye = if self.web.is_some() { H3_NO_ERROR } else { 0 };
        if let (Some(web), Some(session)) = (&mut self.web, self.session) {
            // It may be over already.
            let _ = web.http().close_session(session, 0, "goodbye");
        }
        self.carry_out(kernel.now);
        let ticket = self.connection().and_then(|connection| connection.session().map(<[u8]>::to_vec));
        self.ticket = ticket.or(self.ticket.take());
        if self.web.is_none() || !stays {
            if let Some(connection) = self.connection() {
                connection.close(goodbye, b"goodbye");
            }
            self.part();
        }
        self.reset();
    }

    fn vanish(&mut self) {
        self.endpoint = endpoint(&self.transport, &mut self.rng);
        self.part();
        self.reset();
    }
}

fn endpoint(transport: &Transport, rng: &mut StdRng) -> Endpoint {
    let config = EndpointConfig::single(rng.random(), transport.clone());
    Endpoint::new(config, None, rng.random()).expect("a configuration")
}
