//! HTTP/3 on quiche's own `h3`, in the loop of its example server: receive all, handle requests, send all.
//!
//! With `--single` it is that loop: a datagram per system call, and every connection is visited in every turn. Without,
//! it has what the example leaves out: datagrams come and go in trains, and only connections with something to do are
//! visited.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    io::{ErrorKind, IoSliceMut},
    net::{SocketAddr, UdpSocket},
    os::fd::AsRawFd,
    time::Instant,
};

use peers::{
    Start,
    poll::Poll,
    web::{self, Fault},
};
use quiche::{
    Config, Connection, ConnectionId, RecvInfo,
    h3::{self, Event, Header, NameValue},
};
use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSockRef, UdpSocketState};

const ID_BYTES: usize = 16;
/// Bytes of the longest train that GRO makes, and that a send takes.
const TRAIN_BYTES: usize = 64 * 1024;
const SEND_BYTES_MAX: usize = 65_507;

struct Client {
    quic: Connection,
    http: Option<h3::Connection>,
    answers: BTreeMap<u64, Answer>,
    due: Option<Instant>,
    /// The ids that lead here.
    ids: [ConnectionId<'static>; 2],
}

/// A response that is not written to its end.
struct Answer {
    has_head: bool,
    body: Body,
}

enum Body {
    /// So much of the page is written.
    Page(usize),
    /// What is read of the request and not written, and whether the request has ended.
    Echo(Vec<u8>, bool),
}

struct Server {
    socket: UdpSocket,
    /// Trains; `None`: a datagram per call.
    state: Option<UdpSocketState>,
    local: SocketAddr,
    config: Config,
    http: h3::Config,
    page: Vec<u8>,
    clients: HashMap<usize, Client>,
    by_id: HashMap<ConnectionId<'static>, usize>,
    next: usize,
    timers: BTreeSet<(Instant, usize)>,
    /// Who may have something to send.
    ready: BTreeSet<usize>,
    out: Vec<u8>,
}

fn main() -> Result<(), Fault> {
    let start = Start::from_args();
    let mut config = config()?;
    // The library reads them from files only.
    let made = web::certificate()?;
    let file = |kind| std::env::temp_dir().join(format!("h3-quiche-{}.{kind}", std::process::id()));
    let (certificate, key) = (file("crt"), file("key"));
    fs::write(&certificate, made.cert.pem())?;
    fs::write(&key, made.signing_key.serialize_pem())?;
    config.load_cert_chain_from_pem_file(&certificate.to_string_lossy())?;
    config.load_priv_key_from_pem_file(&key.to_string_lossy())?;
    fs::remove_file(certificate)?;
    fs::remove_file(key)?;
    let socket = start.bind()?;
    socket.set_nonblocking(true)?;
    let state = (!start.single).then(|| UdpSocketState::new(UdpSockRef::from(&socket))).transpose()?;
    let mut poll = Poll::new()?;
    poll.add(socket.as_raw_fd())?;
    let mut server = Server {
        local: socket.local_addr()?,
        socket,
        state,
        config,
        http: h3::Config::new()?,
        page: vec![b'.'; start.page_bytes],
        clients: HashMap::new(),
        by_id: HashMap::new(),
        next: 0,
        timers: BTreeSet::new(),
        ready: BTreeSet::new(),
        out: vec![0; TRAIN_BYTES],
    };
    let mut buffers = vec![0; BATCH_SIZE * TRAIN_BYTES];
    loop {
        poll.wait(server.wait_ms())?;
        server.receive(&mut buffers)?;
        server.time_out();
        server.serve()?;
    }
}

fn config() -> Result<Config, Fault> {
    let mut config = Config::new(quiche::PROTOCOL_VERSION)?;
    config.set_application_protos(h3::APPLICATION_PROTOCOL)?;
    config.set_max_idle_timeout(web::IDLE.as_millis() as u64);
    config.set_max_recv_udp_payload_size(web::PAYLOAD_BYTES);
    config.set_max_send_udp_payload_size(web::PAYLOAD_BYTES);
    config.discover_pmtu(true);
    config.set_initial_max_data(2 * u64::from(web::WINDOW_BYTES));
    config.set_initial_max_stream_data_bidi_remote(web::WINDOW_BYTES.into());
    config.set_initial_max_stream_data_uni(web::WINDOW_BYTES.into());
    config.set_max_connection_window(2 * u64::from(web::WINDOW_BYTES));
    config.set_max_stream_window(web::WINDOW_BYTES.into());
    config.set_initial_max_streams_bidi(web::STREAMS.into());
    config.set_initial_max_streams_uni(web::STREAMS.into());
    Ok(config)
}

impl Server {
    fn wait_ms(&self) -> i32 {
        let Some((at, _)) = self.timers.first() else { return -1 };
        // Rounded up: too early is only a turn for nothing.
        at.saturating_duration_since(Instant::now()).as_micros().div_ceil(1_000).try_into().unwrap_or(i32::MAX)
    }

    fn receive(&mut self, buffers: &mut [u8]) -> Result<(), Fault> {
        if self.state.is_none() {
            return self.receive_single(buffers);
        }
        let mut metas = [RecvMeta::default(); BATCH_SIZE];
        let mut trains: Vec<_> = buffers.chunks_mut(TRAIN_BYTES).map(IoSliceMut::new).collect();
        let Some(state) = &self.state else { return Ok(()) };
        let count = match state.recv(UdpSockRef::from(&self.socket), &mut trains, &mut metas) {
            Ok(count) => count,
            // The socket is level-triggered; what a client's port refused is the client's loss.
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::ConnectionRefused) => 0,
            Err(error) => return Err(error.into()),
        };
        for (meta, train) in metas.iter().zip(&mut trains).take(count) {
            for datagram in train[..meta.len].chunks_mut(meta.stride.max(1)) {
                self.datagram(meta.addr, datagram)?;
            }
        }
        Ok(())
    }

    fn receive_single(&mut self, buffer: &mut [u8]) -> Result<(), Fault> {
        loop {
            match self.socket.recv_from(buffer) {
                Ok((len, from)) => self.datagram(from, &mut buffer[..len])?,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.ready.extend(self.clients.keys());
        Ok(())
    }

    fn datagram(&mut self, from: SocketAddr, datagram: &mut [u8]) -> Result<(), Fault> {
        let Ok(header) = quiche::Header::from_slice(datagram, ID_BYTES) else { return Ok(()) };
        let key = match self.by_id.get(&header.dcid) {
            Some(key) => *key,
            None if header.ty == quiche::Type::Initial && quiche::version_is_supported(header.version) => {
                self.accept(from, header.dcid.into_owned())?
            }
            None => return Ok(()),
        };
        if let Some(client) = self.clients.get_mut(&key) {
            // What does not belong is dropped, as the protocol wants.
            let _ = client.quic.recv(datagram, RecvInfo { from, to: self.local });
            self.ready.insert(key);
        }
        Ok(())
    }

    fn accept(&mut self, from: SocketAddr, first: ConnectionId<'static>) -> Result<usize, Fault> {
        let key = self.next;
        self.next += 1;
        // Unique, and that is all that a load on a loopback asks for.
        let mut id = [7; ID_BYTES];
        id[..8].copy_from_slice(&key.to_le_bytes());
        let id = ConnectionId::from_vec(id.to_vec());
        let quic = quiche::accept(&id, None, self.local, from, &mut self.config)?;
        let ids = [first, id];
        for id in &ids {
            self.by_id.insert(id.clone(), key);
        }
        self.clients.insert(key, Client { quic, http: None, answers: BTreeMap::new(), due: None, ids });
        Ok(key)
    }

    fn time_out(&mut self) {
        let now = Instant::now();
        while let Some((at, key)) = self.timers.first().copied().filter(|(at, _)| *at <= now) {
            self.timers.remove(&(at, key));
            if let Some(client) = self.clients.get_mut(&key) {
                client.due = None;
                client.quic.on_timeout();
                self.ready.insert(key);
            }
        }
    }

    /// Handles and answers what came, and sends what may be sent.
    fn serve(&mut self) -> Result<(), Fault> {
        for key in std::mem::take(&mut self.ready) {
            let Some(client) = self.clients.get_mut(&key) else { continue };
            if client.handle(&self.http, &self.page, &mut self.out).is_err() {
                // Closed by whoever found the fault.
                client.answers.clear();
            }
            client.transmit(&self.socket, self.state.as_ref(), &mut self.out)?;
            // What was sent may have made room.
            if client.write(&self.page, &mut self.out) {
                client.transmit(&self.socket, self.state.as_ref(), &mut self.out)?;
            }
            if let Some(at) = client.due.take() {
                self.timers.remove(&(at, key));
            }
            if client.quic.is_closed() {
                for id in &client.ids {
                    self.by_id.remove(id);
                }
                self.clients.remove(&key);
            } else if let Some(left) = client.quic.timeout() {
                let at = Instant::now() + left;
                client.due = Some(at);
                self.timers.insert((at, key));
            }
        }
        Ok(())
    }
}

impl Client {
    fn handle(&mut self, config: &h3::Config, page: &[u8], scratch: &mut [u8]) -> h3::Result<()> {
        if self.http.is_none() && self.quic.is_established() {
            self.http = Some(h3::Connection::with_transport(&mut self.quic, config)?);
        }
        let Some(http) = &mut self.http else { return Ok(()) };
        loop {
            match http.poll(&mut self.quic) {
                Ok((stream, Event::Headers { list, more_frames })) => {
                    let is_post = list.iter().any(|field| field.name() == b":method" && field.value() == b"POST");
                    let body = if is_post { Body::Echo(Vec::new(), !more_frames) } else { Body::Page(0) };
                    self.answers.insert(stream, Answer { has_head: false, body });
                }
                Ok((stream, Event::Finished)) => {
                    if let Some(Answer { body: Body::Echo(_, has_ended), .. }) = self.answers.get_mut(&stream) {
                        *has_ended = true;
                    }
                }
                Ok((stream, Event::Reset(_))) => drop(self.answers.remove(&stream)),
                Ok((_, Event::Data | Event::PriorityUpdate | Event::GoAway)) => {}
                Err(h3::Error::Done) => break,
                Err(error) => return Err(error),
            }
        }
        self.write(page, scratch);
        Ok(())
    }

    /// Writes what there is room for; whether that was anything.
    fn write(&mut self, page: &[u8], scratch: &mut [u8]) -> bool {
        let Some(http) = &mut self.http else { return false };
        let (quic, mut wrote) = (&mut self.quic, false);
        self.answers.retain(|stream, answer| {
            let outcome = answer.write(quic, http, *stream, page, scratch);
            wrote |= !matches!(outcome, Ok(Step::Blocked));
            matches!(outcome, Ok(Step::Blocked | Step::Wrote))
        });
        wrote
    }

    fn transmit(&mut self, socket: &UdpSocket, state: Option<&UdpSocketState>, out: &mut [u8]) -> Result<(), Fault> {
        let Some(state) = state else {
            while let Ok((len, info)) = self.quic.send(&mut out[..web::PAYLOAD_BYTES]) {
                // A full socket loses the datagram, as a full queue would.
                let _ = socket.send_to(&out[..len], info.to);
            }
            return Ok(());
        };
        loop {
            let (mut size, mut segment, mut to, mut odd) = (0, 0, None, None);
            let segments_max = state.max_gso_segments();
            let most = self.quic.send_quantum().min(SEND_BYTES_MAX);
            for count in 0..segments_max {
                // A train ends where the next datagram might not fit.
                if count > 0 && size + segment > most {
                    break;
                }
                match self.quic.send(&mut out[size..size + web::PAYLOAD_BYTES.min(SEND_BYTES_MAX - size)]) {
                    Ok((len, info)) => {
                        if count > 0 && len > segment {
                            // A probe of the MTU is longer than its train.
                            odd = Some((size, len));
                            break;
                        }
                        segment = segment.max(len);
                        to = Some(info.to);
                        size += len;
                        if len < segment {
                            break;
                        }
                    }
                    Err(quiche::Error::Done) => break,
                    // The connection is closed by the fault.
                    Err(_) => break,
                }
            }
            let Some(destination) = to else { return Ok(()) };
            let odd = odd.map(|(at, len)| (&out[at..at + len], None));
            for (contents, segment_size) in [(&out[..size], (size > segment).then_some(segment))].into_iter().chain(odd)
            {
                let transmit = Transmit { destination, ecn: None, contents, segment_size, src_ip: None };
                // A full socket loses the train, as a full queue would.
                let _ = state.try_send(UdpSockRef::from(socket), &transmit);
            }
        }
    }
}

enum Step {
    Wrote,
    Blocked,
    Ended,
}

impl Answer {
    fn write(
        &mut self,
        quic: &mut Connection,
        http: &mut h3::Connection,
        stream: u64,
        page: &[u8],
        scratch: &mut [u8],
    ) -> h3::Result<Step> {
        let mut step = Step::Blocked;
        if !self.has_head {
            let mut head = vec![Header::new(b":status", b"200")];
            if let Body::Page(_) = self.body {
                head.push(Header::new(b"content-length", page.len().to_string().as_bytes()));
            }
            match http.send_response(quic, stream, &head, false) {
                Ok(()) => (self.has_head, step) = (true, Step::Wrote),
                Err(h3::Error::StreamBlocked | h3::Error::Done) => return Ok(Step::Blocked),
                Err(error) => return Err(error),
            }
        }
        loop {
            let (rest, is_last) = match &mut self.body {
                Body::Page(written) => (&page[*written..], true),
                Body::Echo(bytes, has_ended) => {
                    if bytes.is_empty() {
                        let len = http.recv_body(quic, stream, scratch).unwrap_or(0);
                        bytes.extend_from_slice(&scratch[..len]);
                        if len == 0 && !*has_ended {
                            return Ok(step);
                        }
                    }
                    (&bytes[..], *has_ended && bytes.is_empty())
                }
            };
            let len = match http.send_body(quic, stream, rest, is_last) {
                Ok(len) => len,
                Err(h3::Error::Done | h3::Error::StreamBlocked) => return Ok(step),
                Err(error) => return Err(error),
            };
            step = Step::Wrote;
            if is_last && len == rest.len() {
                return Ok(Step::Ended);
            }
            match &mut self.body {
                Body::Page(written) => *written += len,
                Body::Echo(bytes, _) => drop(bytes.drain(..len)),
            }
        }
    }
}
