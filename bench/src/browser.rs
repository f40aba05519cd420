//! HTTP/3 and WebTransport: the connections of one shard of the generator, all on one socket, named like streams.
//!
//! What is written is cut into payloads of the run's size, each of which becomes a request, a datagram, or so many bytes
//! of a stream. Its answer is read as a payload again: what came back, or, for a page, what was asked with.

use std::{
    collections::{BTreeMap, VecDeque},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use engine::{Datagrams, Io, Socket, Stream, Train};
use http::{Request, Uri};
use quic::{
    Client, Endpoint, EndpointConfig, Event, Handle, Meta, Side, StreamId, Transport, Trust, Web,
    h3::{self, Code, Config, Limits, Piece, PreparedRequest},
};
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::{
    connection::{Scenario, Setup},
    options::Exchange,
    order::Order,
    tunnel::{Carrier, Happened},
};

/// The one socket of a shard.
const SOCKET: Socket = Socket(0);
/// Bytes of the longest train.
const TRAIN_BYTES: usize = 65_507;
/// Datagrams of the longest train.
const TRAIN_SEGMENTS: usize = 64;
/// How often idle connections say that they are there: below the shortest limit of the servers with room for a lost one.
const PING_EVERY: Duration = Duration::from_secs(15);
/// Our address as QUIC sees it: there is only one, so its name does not matter.
const LOCAL: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1);

/// The HTTP/3 connections of a shard.
pub struct Browser {
    endpoint: Endpoint,
    client: Client,
    web: Arc<Config>,
    asks: Asks,
    now: Instant,
    /// By the slot of their handle.
    pages: Vec<Option<Box<Page>>>,
    happened: VecDeque<(Stream, Happened)>,
    pings: VecDeque<(Instant, Handle)>,
    received_bytes: u64,
    train: Vec<u8>,
}

/// What payloads become.
struct Asks {
    exchange: Exchange,
    size: usize,
    request: Request<()>,
    /// The same, coded once: what asking costs is not what is measured.
    prepared: PreparedRequest,
    is_idle: bool,
}

/// One connection.
struct Page {
    handle: Handle,
    /// Which of the crowd it is.
    local: u32,
    web: Web,
    /// The WebTransport session, and its stream if payloads go there.
    session: Option<StreamId>,
    lane: Option<StreamId>,
    /// Requests without their whole answer: what will be told for it.
    asked: BTreeMap<StreamId, Vec<u8>>,
    /// Payloads that found no room.
    waiting: Vec<u8>,
    inbox: Vec<u8>,
    is_told: bool,
    /// Why it is of no use any more.
    over: Option<String>,
}

impl Browser {
    /// No connections yet. Certificates are not checked: a load is for a server of one's own.
    ///
    /// # Errors
    /// A path or name that cannot be asked for, or TLS is not to be had.
    pub fn new(setup: &Setup) -> Result<Self, Box<dyn std::error::Error>> {
        let options = &setup.options;
        let transport = Transport {
            // The server's limit is the smaller one.
            idle_timeout: Duration::from_secs(4 * 3600),
            data_max: 16 << 20,
            stream_data_max: 8 << 20,
            datagrams_max: 4_096,
            ..Transport::default()
        };
        let limits = Limits {
            stream_in_bytes_max: 1 << 20,
            connection_in_bytes_max: 16 << 20,
            datagrams_in_max: 4_096,
            datagrams_out_max: 4_096,
            ..Limits::default()
        };
        let mut rng = StdRng::from_os_rng();
        let config = EndpointConfig::single(rng.random(), transport.clone());
        let uri: Uri = format!("https://{}{}", options.target, options.path()).parse()?;
        let method = match options.exchange() {
            Exchange::Get => http::Method::GET,
            Exchange::Post => http::Method::POST,
            Exchange::Datagram | Exchange::Stream | Exchange::Frames => http::Method::CONNECT,
        };
        let request = Request::builder().method(method).uri(uri).body(())?;
        Ok(Self {
            endpoint: Endpoint::new(config, None, rng.random())?,
            client: Client::new(&Trust::DangerousAnybody, &[b"h3".to_vec()], &transport)?,
            web: Config { limits, grease: None, ..Config::default() }.into(),
            asks: Asks {
                exchange: options.exchange(),
                size: options.payload_bytes(),
                prepared: PreparedRequest::new(&request),
                request,
                is_idle: setup.scenario == Scenario::Idle,
            },
            now: Instant::now(),
            pages: Vec::new(),
            happened: VecDeque::new(),
            pings: VecDeque::new(),
            received_bytes: 0,
            train: vec![0; TRAIN_BYTES],
        })
    }

    fn happened(&mut self, handle: Handle, event: &Event) {
        let Some(page) = find(&mut self.pages, handle) else { return };
        if let Event::Closed(reason) = event {
            let (local, why) = (page.local, reason.to_string());
            self.pages[handle.index as usize] = None;
            return self.happened.push_back((name(handle), Happened::Closed(local, why)));
        }
        let Some(quic) = self.endpoint.connection(handle) else { return };
        page.web.handle(self.now, quic, event);
        if matches!(event, Event::Connected) {
            if self.asks.is_idle {
                self.pings.push_back((self.now + PING_EVERY, handle));
            }
            if !self.asks.exchange.has_session() {
                self.happened.push_back((name(handle), Happened::Connected(page.local)));
            }
        }
        while let Some(event) = page.web.http().poll_event() {
            self.received_bytes += page.take(event, &self.asks, &mut self.happened);
        }
        page.put(&self.asks);
        page.web.flush(self.now, quic);
        if let Some(why) = page.over.take() {
            quic.close(Code::NO_ERROR.0, b"");
            self.happened.push_back((name(handle), Happened::Closed(page.local, why)));
            self.pages[handle.index as usize] = None;
        }
    }

    fn ping(&mut self) {
        while let Some((_, handle)) = self.pings.front().copied().filter(|(at, _)| *at <= self.now) {
            self.pings.pop_front();
            if let Some(quic) = self.endpoint.connection(handle) {
                quic.ping();
                self.pings.push_back((self.now + PING_EVERY, handle));
            }
        }
    }
}

impl Carrier for Browser {
    fn connect(&mut self, io: &Io<Order>, setup: &Setup, local: u32) -> Result<(), String> {
        self.now = io.now();
        let meta = Meta { local: LOCAL, remote: setup.options.target };
        let handle = self.endpoint.connect(io.now(), meta, "localhost", &mut self.client, None);
        let handle = handle.map_err(|error| error.to_string())?;
        let slot = handle.index as usize;
        if self.pages.len() <= slot {
            self.pages.resize_with(slot + 1, || None);
        }
        self.pages[slot] = Some(Box::new(Page {
            handle,
            local,
            web: Web::new(io.now(), Side::Client, self.web.clone()),
            session: None,
            lane: None,
            asked: BTreeMap::new(),
            waiting: Vec::new(),
            inbox: Vec::new(),
            is_told: false,
            over: None,
        }));
        Ok(())
    }

    fn handle(&mut self, io: &Io<Order>, mut train: Datagrams<'_>) {
        self.now = io.now();
        let meta = Meta { local: LOCAL, remote: train.peer };
        for datagram in train.iter_mut() {
            // What is dropped is counted by the endpoint, and missed by whoever waits for it.
            let _ = self.endpoint.handle(self.now, io.wall_ms(), meta, datagram);
        }
    }

    fn poll(&mut self) -> Option<(Stream, Happened)> {
        loop {
            if let Some(happened) = self.happened.pop_front() {
                return Some(happened);
            }
            let (handle, event) = self.endpoint.poll_event()?;
            self.happened(handle, &event);
        }
    }

    fn read(&mut self, stream: Stream, into: &mut Vec<u8>) -> bool {
        let Some(page) = find(&mut self.pages, handle(stream)) else { return false };
        page.is_told = false;
        let had = !page.inbox.is_empty();
        into.append(&mut page.inbox);
        had
    }

    fn is_ended(&mut self, _stream: Stream) -> bool {
        // An end is always told by itself.
        false
    }

    fn write(&mut self, stream: Stream, bytes: &[u8]) {
        let handle = handle(stream);
        let Some(page) = find(&mut self.pages, handle) else { return };
        page.waiting.extend_from_slice(bytes);
        page.put(&self.asks);
        if let Some(quic) = self.endpoint.connection(handle) {
            page.web.flush(self.now, quic);
        }
    }

    fn close(&mut self, _io: &Io<Order>, stream: Stream) {
        let handle = handle(stream);
        if let Some(quic) = self.endpoint.connection(handle) {
            quic.close(Code::NO_ERROR.0, b"");
        }
        // Its end was asked for, and is no news.
        if find(&mut self.pages, handle).is_some() {
            self.pages[handle.index as usize] = None;
        }
    }

    fn transmit(&mut self, io: &mut Io<Order>) {
        self.now = io.now();
        if self.endpoint.deadline().is_some_and(|at| at <= self.now) {
            self.endpoint.handle_timeout(self.now);
        }
        self.ping();
        while io.train_room() > 0 {
            let Some(sent) = self.endpoint.poll_transmit(self.now, &mut self.train, TRAIN_SEGMENTS) else { return };
            let segment = u16::try_from(sent.segment).unwrap_or(u16::MAX);
            io.send_train(SOCKET, Train { to: sent.to, segment, ecn: 0 }, &self.train[..sent.size]);
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let ping = self.pings.front().map(|(at, _)| *at);
        self.endpoint.deadline().into_iter().chain(ping).min()
    }

    fn take_received_bytes(&mut self) -> u64 {
        std::mem::take(&mut self.received_bytes)
    }
}

impl Page {
    /// Takes what HTTP/3 tells; how many bytes of bodies and datagrams that brought.
    fn take(&mut self, event: h3::Event, asks: &Asks, happened: &mut VecDeque<(Stream, Happened)>) -> u64 {
        let stream = name(self.handle);
        let mut bytes = 0;
        match event {
            h3::Event::Settings(_) if asks.exchange.has_session() => {
                match self.web.http().request(&asks.request, Some("webtransport"), false) {
                    Ok(id) => self.session = Some(id),
                    Err(error) => self.over = Some(format!("no session: {error}")),
                }
            }
            h3::Event::SessionOpen { id, .. } => {
                if matches!(asks.exchange, Exchange::Stream | Exchange::Frames) {
                    match self.web.http().open_bidi(id) {
                        Ok(lane) => self.lane = Some(lane),
                        Err(error) => self.over = Some(format!("no stream: {error}")),
                    }
                }
                happened.push_back((stream, Happened::Connected(self.local)));
            }
            h3::Event::Response { id, response } => match response.status() {
                status if status.is_success() || status.is_informational() => {}
                status if self.session == Some(id) => self.over = Some(format!("no session: status {status}")),
                status => happened.push_back((stream, self.refused(id, format!("status {status}")))),
            },
            h3::Event::Cancelled { id, code } => {
                happened.push_back((stream, self.refused(id, format!("a request was cancelled: {code:?}"))));
            }
            h3::Event::Refused { id, why, .. } => happened.push_back((stream, self.refused(id, why.to_owned()))),
            h3::Event::Readable(id) => bytes = self.read(id, asks),
            h3::Event::Datagram { payload, .. } => {
                bytes = payload.len() as u64;
                // One of another size is nobody's answer.
                if payload.len() == asks.size {
                    self.inbox.extend_from_slice(&payload);
                }
            }
            h3::Event::SessionClosed { code, .. } => self.over = Some(format!("the session was closed with code {code}")),
            h3::Event::Closed { why, .. } => self.over = Some(why.to_owned()),
            h3::Event::GoAway | h3::Event::SessionDraining(_) => self.over = Some("the server is going away".to_owned()),
            h3::Event::Writable(_)
            | h3::Event::Settings(_)
            | h3::Event::Stream { .. }
            | h3::Event::StreamReset { .. }
            | h3::Event::StreamStopped { .. }
            // Of a server.
            | h3::Event::Request { .. }
            | h3::Event::SessionRequest { .. } => {}
        }
        if !self.inbox.is_empty() && !std::mem::replace(&mut self.is_told, true) {
            happened.push_back((stream, Happened::Readable));
        }
        bytes
    }

    /// A request will not be answered; it is missing in the account.
    fn refused(&mut self, id: StreamId, why: String) -> Happened {
        self.asked.remove(&id);
        Happened::Refused(why)
    }

    /// Reads a stream; a request that is answered to its end has its payload back.
    fn read(&mut self, id: StreamId, asks: &Asks) -> u64 {
        let mut bytes = 0;
        while let Some(piece) = self.web.http().read(id) {
            match piece {
                Piece::Data(data) => {
                    bytes += data.len() as u64;
                    match asks.exchange {
                        Exchange::Stream | Exchange::Frames => self.inbox.extend_from_slice(&data),
                        Exchange::Post => {
                            if let Some(payload) = self.asked.get_mut(&id) {
                                payload.extend_from_slice(&data);
                            }
                        }
                        Exchange::Get | Exchange::Datagram => {}
                    }
                }
                Piece::Trailers(_) => {}
                Piece::End => {
                    if let Some(payload) = self.asked.remove(&id) {
                        self.inbox.extend_from_slice(&payload);
                    }
                }
            }
        }
        bytes
    }

    /// Sends the payloads that there is room for.
    fn put(&mut self, asks: &Asks) {
        if asks.exchange == Exchange::Frames {
            return self.put_frames();
        }
        let mut sent = 0;
        for payload in self.waiting.chunks_exact(asks.size) {
            let http = self.web.http();
            let outcome = match asks.exchange {
                Exchange::Get => http.request_prepared(&asks.prepared, true).map(|id| {
                    self.asked.insert(id, payload.to_vec());
                }),
                Exchange::Post => http.request_prepared(&asks.prepared, false).and_then(|id| {
                    self.asked.insert(id, Vec::with_capacity(payload.len()));
                    http.send(id, Bytes::copy_from_slice(payload), true)
                }),
                Exchange::Datagram => {
                    self.session.map_or(Err(h3::SendError::Gone), |id| http.send_datagram(id, payload))
                }
                Exchange::Stream | Exchange::Frames => self
                    .lane
                    .map_or(Err(h3::SendError::Gone), |id| http.send(id, Bytes::copy_from_slice(payload), false)),
            };
            if outcome.is_err() {
                // What cannot be sent at all stays, and is missed in the account.
                break;
            }
            sent += asks.size;
        }
        self.waiting.drain(..sent);
    }

    /// Sends the frames that wait, all of them or none.
    fn put_frames(&mut self) {
        let Some(lane) = self.lane.filter(|_| !self.waiting.is_empty()) else { return };
        if self.web.http().send(lane, Bytes::copy_from_slice(&self.waiting), false).is_ok() {
            self.waiting.clear();
        }
    }
}

fn find(pages: &mut [Option<Box<Page>>], handle: Handle) -> Option<&mut Page> {
    pages.get_mut(handle.index as usize)?.as_deref_mut().filter(|page| page.handle == handle)
}

fn name(handle: Handle) -> Stream {
    Stream { index: handle.index, generation: handle.generation }
}

fn handle(stream: Stream) -> Handle {
    Handle { index: stream.index, generation: stream.generation }
}

impl Exchange {
    /// Whether it happens within a WebTransport session.
    fn has_session(self) -> bool {
        matches!(self, Self::Datagram | Self::Stream | Self::Frames)
    }
}
