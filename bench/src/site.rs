//! The plain HTTP/3 and WebTransport servers of a comparison: our engine and protocol core with nothing in between.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use engine::{Datagrams, Io, Outcome, Reactor, ShardId, Socket, Stream, StreamEvent, Ticket, Train};
use http::{HeaderMap, Method, Response};
use quic::{
    Endpoint, EndpointConfig, Event, Handle, Meta, ServerConfig, Side, StreamId, Transport, Web,
    h3::{self, Config, Limits, Piece, SendError},
};
use rand::{Rng, SeedableRng, rngs::StdRng};

/// The one socket.
const SOCKET: Socket = Socket(0);
/// Bytes of the longest train.
const TRAIN_BYTES: usize = 65_507;
/// Datagrams of the longest train.
const TRAIN_SEGMENTS: usize = 64;
/// Requests or streams that a client may have open at once, and datagrams that may wait: as the peers have it.
const STREAMS: u16 = 1_024;
/// Bytes that may be on the way on a stream, and half of what may be on a connection: as the peers have it.
const WINDOW_BYTES: u64 = 8 << 20;
/// Silence that ends a connection. Long, so that idle ones can be counted.
const IDLE: Duration = Duration::from_secs(600);

/// Answers every GET with a page, and sends back whatever else arrives.
pub struct Site {
    endpoint: Endpoint,
    local: SocketAddr,
    config: Arc<Config>,
    page: Bytes,
    /// By the slot of their handle.
    visits: Vec<Option<Visit>>,
    train: Vec<u8>,
}

/// One connection.
struct Visit {
    handle: Handle,
    web: Web,
    /// What came on streams that took no more.
    held: BTreeMap<StreamId, Bytes>,
}

impl Site {
    /// The server of one shard, with pages of so many bytes and a certificate of its own.
    ///
    /// # Errors
    /// No certificate, or TLS is not to be had.
    pub fn new(local: SocketAddr, page_bytes: usize) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
        let mut rng = StdRng::from_os_rng();
        let server = ServerConfig {
            certificates: vec![made.cert.der().to_vec()],
            key: made.signing_key.serialize_der(),
            alpn: vec![b"h3".to_vec()],
            ticket_key: [0; 48],
            early_data: false,
        };
        let transport = Transport {
            idle_timeout: IDLE,
            data_window_max: 2 * WINDOW_BYTES,
            stream_window_max: WINDOW_BYTES,
            streams_bidirectional_max: STREAMS.into(),
            streams_unidirectional_max: STREAMS.into(),
            datagrams_max: STREAMS.into(),
            ..Transport::default()
        };
        let limits = Limits {
            streams_max: STREAMS,
            requests_max: STREAMS,
            datagrams_in_max: STREAMS,
            datagrams_out_max: STREAMS,
            ..Limits::default()
        };
        Ok(Self {
            endpoint: Endpoint::new(EndpointConfig::single(rng.random(), transport), Some(&server), rng.random())?,
            local,
            config: Arc::new(Config { limits, grease: None, ..Config::default() }),
            page: vec![b'.'; page_bytes].into(),
            visits: Vec::new(),
            train: vec![0; TRAIN_BYTES],
        })
    }

    fn happened(&mut self, now: Instant, handle: Handle, event: &Event) {
        let slot = handle.index as usize;
        if self.visits.len() <= slot {
            self.visits.resize_with(slot + 1, || None);
        }
        if matches!(event, Event::Closed(_)) {
            self.visits[slot] = None;
            return;
        }
        let Some(quic) = self.endpoint.connection(handle) else { return };
        let visit = match &mut self.visits[slot] {
            Some(visit) if visit.handle == handle => visit,
            other => {
                let web = Web::new(now, Side::Server, self.config.clone());
                other.insert(Visit { handle, web, held: BTreeMap::new() })
            }
        };
        visit.web.handle(now, quic, event);
        while let Some(event) = visit.web.http().poll_event() {
            visit.answer(event, &self.page);
        }
        visit.web.flush(now, quic);
    }
}

impl Visit {
    fn answer(&mut self, event: h3::Event, page: &Bytes) {
        let http = self.web.http();
        // What cannot be answered is gone, and the client knows.
        let _ = match event {
            h3::Event::Request { id, request, .. } if request.method() == Method::POST => {
                http.respond(id, &Response::new(()), false)
            }
            h3::Event::Request { id, .. } => {
                while http.read(id).is_some() {}
                http.answer(id, Response::new(page.clone()))
            }
            h3::Event::SessionRequest { id, .. } => http.accept_session(id, HeaderMap::new()),
            h3::Event::Datagram { id, payload } => http.send_datagram(id, &payload),
            h3::Event::Readable(id) | h3::Event::Writable(id) => self.echo(id),
            _ => Ok(()),
        };
    }

    /// Sends back what a stream has brought, as far as there is room.
    fn echo(&mut self, id: StreamId) -> Result<(), SendError> {
        let http = self.web.http();
        while let Some(piece) = self.held.remove(&id).map(Piece::Data).or_else(|| http.read(id)) {
            match piece {
                Piece::Data(bytes) => match http.send(id, bytes.clone(), false) {
                    Err(SendError::Full) => {
                        self.held.insert(id, bytes);
                        return Ok(());
                    }
                    outcome => outcome?,
                },
                Piece::Trailers(_) => {}
                // It leaves with the last bytes, if they came together.
                Piece::End => http.send(id, Bytes::new(), true)?,
            }
        }
        Ok(())
    }
}

impl Reactor for Site {
    type Mail = ();

    fn on_datagrams(&mut self, io: &mut Io<()>, _socket: Socket, mut train: Datagrams<'_>) {
        let meta = Meta { local: self.local, remote: train.peer };
        for datagram in train.iter_mut() {
            // What is dropped is counted by the endpoint.
            let _ = self.endpoint.handle(io.now(), io.wall_ms(), meta, datagram);
        }
    }

    fn on_stream(&mut self, _io: &mut Io<()>, _stream: Stream, _event: StreamEvent<'_>) {}

    fn on_disk(&mut self, _io: &mut Io<()>, _ticket: Ticket, _outcome: Outcome) {}

    fn on_mail(&mut self, _io: &mut Io<()>, _from: ShardId, _mail: ()) {}

    fn on_turn_end(&mut self, io: &mut Io<()>) {
        if self.endpoint.deadline().is_some_and(|at| at <= io.now()) {
            self.endpoint.handle_timeout(io.now());
        }
        loop {
            while let Some((handle, event)) = self.endpoint.poll_event() {
                self.happened(io.now(), handle, &event);
            }
            if io.train_room() == 0 {
                break;
            }
            let Some(sent) = self.endpoint.poll_transmit(io.now(), &mut self.train, TRAIN_SEGMENTS) else { break };
            let segment = u16::try_from(sent.segment).unwrap_or(u16::MAX);
            io.send_train(SOCKET, Train { to: sent.to, segment, ecn: 0 }, &self.train[..sent.size]);
        }
        io.wake_at(self.endpoint.deadline());
    }
}
