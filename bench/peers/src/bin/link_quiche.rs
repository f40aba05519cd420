//! QUIC (quiche) on a link: a unidirectional stream per message, which is its way to send independent ones; bulk on a
//! stream of lower urgency. `--variant cubic` or `bbr2`.
//!
//! Packets leave at once, as in quiche's own examples. Held back until `SendInfo::at` by this loop, its bbr2 got half
//! of the goodput on a clean link (56 to 62 instead of 95 Mbit/s of 100) and a median of 38 instead of 20 ms at 5 %
//! loss.

use std::{
    collections::{BTreeMap, VecDeque},
    fs,
    net::{SocketAddr, UdpSocket},
    os::fd::AsFd,
};

use peers::{
    link::{
        self, BULK, MESSAGE, ORDERED, Records,
        clock::now_ns,
        plan::{MESSAGE_BYTES, Plan, Side, Workload},
        talk::{Account, Source, bulk},
    },
    usage,
};
use quiche::{Config, Connection, ConnectionId, RecvInfo};
use rustix::event::{PollFd, PollFlags};

/// Bytes that may be on the way: twice what 100 Mbit/s and 600 ms hold.
const WINDOW_BYTES: u64 = 16 << 20;
/// Streams that may be open at once: eight seconds of messages.
const STREAMS: u64 = 4_096;
/// The largest UDP payload that it tries: Ethernet's, as quinn does.
const PAYLOAD_BYTES: usize = 1_452;
const ID_BYTES: usize = 16;
/// Packets per turn and connection, so that what arrives is not left waiting.
const TURN_PACKETS: usize = 64;
/// Urgencies of messages and bulk: lower is sooner, 127 is the default.
const SOON: u8 = 100;
const LATER: u8 = 200;

type Fault = Box<dyn std::error::Error>;

struct Talk {
    quic: Connection,
    socket: usize,
    number: u32,
    is_open: bool,
    was_lost: bool,
    source: Option<Source>,
    /// Streams that are not written to their end yet.
    pending: VecDeque<Pending>,
    next_stream: u64,
    bulk: Option<(u64, u64)>,
    ordered: Option<u64>,
    readers: BTreeMap<u64, Reader>,
    /// Whether the last turn left packets unsent.
    has_more: bool,
}

struct Pending {
    stream: u64,
    bytes: Vec<u8>,
    written: usize,
    ends: bool,
}

#[derive(Default)]
struct Reader {
    kind: u8,
    message: Vec<u8>,
    records: Records,
}

struct Program {
    plan: Plan,
    account: Account,
    config: Config,
    sockets: Vec<UdpSocket>,
    talks: Vec<Talk>,
    buffer: Vec<u8>,
}

fn main() -> Result<(), Fault> {
    let plan = link::start();
    let account = Account::new(&plan);
    let config = config(&plan)?;
    let mut program =
        Program { plan, account, config, sockets: Vec::new(), talks: Vec::new(), buffer: vec![0; 64 * 1024] };
    match program.plan.side {
        Side::Server => program.serve()?,
        Side::Client => program.connect()?,
    }
    while now_ns() < program.plan.end_ns {
        program.receive()?;
        for at in 0..program.talks.len() {
            program.turn(at)?;
        }
        program.wait()?;
    }
    link::report(&program.plan, &program.account);
    Ok(())
}

fn config(plan: &Plan) -> Result<Config, Fault> {
    let mut config = Config::new(quiche::PROTOCOL_VERSION)?;
    match plan.variant.as_str() {
        "cubic" | "bbr2" => config.set_cc_algorithm_name(&plan.variant)?,
        other => usage(&format!("--variant is cubic or bbr2, not `{other}`")),
    }
    config.set_application_protos(&[b"link"])?;
    config.verify_peer(false);
    config.set_max_idle_timeout(30_000);
    config.set_max_recv_udp_payload_size(PAYLOAD_BYTES);
    config.set_max_send_udp_payload_size(PAYLOAD_BYTES);
    config.discover_pmtu(true);
    config.set_initial_max_data(WINDOW_BYTES);
    config.set_max_connection_window(WINDOW_BYTES);
    config.set_max_stream_window(WINDOW_BYTES);
    config.set_initial_max_stream_data_uni(WINDOW_BYTES);
    config.set_initial_max_streams_uni(STREAMS);
    config.set_active_connection_id_limit(4);
    Ok(config)
}

impl Program {
    fn serve(&mut self) -> Result<(), Fault> {
        let made = rcgen::generate_simple_self_signed(vec!["link".to_owned()])?;
        let (certificate, key) = ("/tmp/ringshard-link-quiche.crt", "/tmp/ringshard-link-quiche.key");
        fs::write(certificate, made.cert.pem())?;
        fs::write(key, made.signing_key.serialize_pem())?;
        self.config.load_cert_chain_from_pem_file(certificate)?;
        self.config.load_priv_key_from_pem_file(key)?;
        let socket = link::udp(self.plan.addr)?;
        link::announce(socket.local_addr()?);
        self.sockets.push(socket);
        Ok(())
    }

    fn connect(&mut self) -> Result<(), Fault> {
        for number in 0..self.plan.connections {
            let socket = link::udp(self.plan.local(number))?;
            let (local, id) = (socket.local_addr()?, id());
            let quic = quiche::connect(Some("link"), &id, local, self.plan.addr, &mut self.config)?;
            self.talks.push(Talk::new(quic, self.sockets.len(), number, 2));
            self.sockets.push(socket);
        }
        Ok(())
    }

    fn wait(&self) -> std::io::Result<()> {
        let mut until_ns = self.plan.end_ns;
        let now = now_ns();
        for talk in &self.talks {
            let timer = talk.quic.timeout().map(|left| now + left.as_nanos() as u64);
            let held = talk.has_more.then_some(now);
            let source = talk.source.as_ref().and_then(Source::next_ns);
            until_ns = [timer, held, source].into_iter().flatten().fold(until_ns, u64::min);
        }
        let mut fds: Vec<_> =
            self.sockets.iter().map(|socket| PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::IN)).collect();
        link::wait(&mut fds, until_ns)
    }

    fn receive(&mut self) -> Result<(), Fault> {
        for socket in 0..self.sockets.len() {
            let to = self.sockets[socket].local_addr()?;
            let mut buffer = std::mem::take(&mut self.buffer);
            while let Ok((len, from)) = self.sockets[socket].recv_from(&mut buffer) {
                let packet = &mut buffer[..len];
                let Some(at) = self.find(socket, packet, to, from)? else { continue };
                // A packet that does not belong is dropped, as the protocol wants.
                let _ = self.talks[at].quic.recv(packet, RecvInfo { from, to });
            }
            self.buffer = buffer;
        }
        Ok(())
    }

    /// Whose packet it is; a server makes a connection for a new one.
    fn find(
        &mut self,
        socket: usize,
        packet: &mut [u8],
        to: SocketAddr,
        from: SocketAddr,
    ) -> Result<Option<usize>, Fault> {
        if self.plan.side == Side::Client {
            return Ok(Some(socket));
        }
        let Ok(header) = quiche::Header::from_slice(packet, ID_BYTES) else { return Ok(None) };
        let is_its = |talk: &Talk| {
            talk.quic.source_ids().any(|id| **id == *header.dcid) || talk.quic.destination_id() == header.dcid
        };
        if let Some(at) = self.talks.iter().position(is_its) {
            return Ok(Some(at));
        }
        // The first packets of a client carry an id of its own choice.
        if let Some(at) = self
            .talks
            .iter()
            .position(|talk| !talk.quic.is_established() && talk.quic.path_stats().any(|path| path.peer_addr == from))
        {
            return Ok(Some(at));
        }
        if header.ty != quiche::Type::Initial {
            return Ok(None);
        }
        let quic = quiche::accept(&id(), None, to, from, &mut self.config)?;
        self.talks.push(Talk::new(quic, socket, self.talks.len() as u32, 3));
        Ok(Some(self.talks.len() - 1))
    }

    fn turn(&mut self, at: usize) -> Result<(), Fault> {
        let (plan, talk) = (&self.plan, &mut self.talks[at]);
        talk.quic.on_timeout();
        if talk.quic.is_established() && !talk.is_open {
            talk.is_open = true;
            self.account.connected();
            talk.open(plan)?;
        }
        if talk.quic.is_closed() && !talk.was_lost && now_ns() < plan.to_ns {
            talk.was_lost = true;
            self.account.lost(format!("{:?} {:?}", talk.quic.local_error(), talk.quic.peer_error()));
        }
        if talk.is_open && !talk.quic.is_closed() {
            // A client that moves needs a spare id of ours.
            while talk.quic.scids_left() > 0 {
                talk.quic.new_scid(&id(), u128::from_le_bytes(bytes()), false)?;
            }
            talk.read(&mut self.account, &mut self.buffer)?;
            talk.write(plan)?;
        }
        let socket = &self.sockets[talk.socket];
        talk.transmit(socket, &mut self.buffer)
    }
}

impl Talk {
    fn new(quic: Connection, socket: usize, number: u32, next_stream: u64) -> Self {
        Self {
            quic,
            socket,
            number,
            is_open: false,
            was_lost: false,
            source: None,
            pending: VecDeque::new(),
            next_stream,
            bulk: None,
            ordered: None,
            readers: BTreeMap::new(),
            has_more: false,
        }
    }

    /// The handshake is over.
    fn open(&mut self, plan: &Plan) -> Result<(), Fault> {
        self.source = Source::new(plan, self.number, now_ns());
        if plan.workload == Workload::Ordered && self.source.is_some() {
            let stream = self.stream();
            self.ordered = Some(stream);
            self.pending.push_back(Pending { stream, bytes: vec![ORDERED], written: 0, ends: false });
        }
        if plan.workload.has_bulk() && plan.side == Side::Server {
            let stream = self.stream();
            self.quic.stream_priority(stream, LATER, true)?;
            self.pending.push_back(Pending { stream, bytes: vec![BULK], written: 0, ends: false });
            self.bulk = Some((stream, 0));
        }
        Ok(())
    }

    fn stream(&mut self) -> u64 {
        let stream = self.next_stream;
        self.next_stream += 4;
        stream
    }

    fn write(&mut self, plan: &Plan) -> Result<(), Fault> {
        while let Some(message) = self.source.as_mut().and_then(|source| source.take(now_ns())) {
            if let Some(stream) = self.ordered {
                self.pending.push_back(Pending { stream, bytes: message.to_vec(), written: 0, ends: false });
            } else {
                let stream = self.stream();
                let mut bytes = vec![MESSAGE];
                bytes.extend_from_slice(&message);
                self.pending.push_back(Pending { stream, bytes, written: 0, ends: true });
            }
        }
        while let Some(first) = self.pending.front_mut() {
            if first.ends && first.written == 0 {
                // A stream that does not exist yet is made by this, unless the peer allows no more.
                let _ = self.quic.stream_priority(first.stream, SOON, true);
            }
            match self.quic.stream_send(first.stream, &first.bytes[first.written..], first.ends) {
                Ok(written) => first.written += written,
                Err(quiche::Error::Done | quiche::Error::StreamLimit) => break,
                Err(error) => return Err(error.into()),
            }
            if first.written < first.bytes.len() {
                break;
            }
            self.pending.pop_front();
        }
        if let (Some((stream, offset)), true, true) = (&mut self.bulk, self.pending.is_empty(), now_ns() < plan.to_ns) {
            while let Ok(written) = self.quic.stream_send(*stream, bulk(*offset), false) {
                *offset += written as u64;
                if written == 0 {
                    break;
                }
            }
        }
        Ok(())
    }

    fn read(&mut self, account: &mut Account, buffer: &mut [u8]) -> Result<(), Fault> {
        for stream in self.quic.readable() {
            loop {
                let (len, is_over) = match self.quic.stream_recv(stream, buffer) {
                    Ok(read) => read,
                    Err(quiche::Error::Done) => break,
                    Err(error) => return Err(error.into()),
                };
                let reader = self.readers.entry(stream).or_default();
                let mut bytes = &buffer[..len];
                if reader.kind == 0 && !bytes.is_empty() {
                    reader.kind = bytes[0];
                    bytes = &bytes[1..];
                }
                match reader.kind {
                    BULK => account.bulk(now_ns(), self.number, bytes),
                    ORDERED => reader.records.take(account, bytes),
                    _ => reader.message.extend_from_slice(bytes),
                }
                if reader.message.len() >= MESSAGE_BYTES {
                    account.message(now_ns(), &std::mem::take(&mut reader.message));
                }
                if is_over {
                    self.readers.remove(&stream);
                    break;
                }
            }
        }
        Ok(())
    }

    fn transmit(&mut self, socket: &UdpSocket, buffer: &mut [u8]) -> Result<(), Fault> {
        for _ in 0..TURN_PACKETS {
            match self.quic.send(buffer) {
                Ok((len, info)) => {
                    // A full socket loses the packet, as a full queue would.
                    let _ = socket.send_to(&buffer[..len], info.to);
                }
                Err(quiche::Error::Done) => {
                    self.has_more = false;
                    return Ok(());
                }
                Err(error) => return Err(error.into()),
            }
        }
        self.has_more = true;
        Ok(())
    }
}

fn id() -> ConnectionId<'static> {
    ConnectionId::from_vec(bytes::<ID_BYTES>().to_vec())
}

/// Random bytes.
fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    fs::File::open("/dev/urandom")
        .and_then(|mut file| std::io::Read::read_exact(&mut file, &mut bytes))
        .unwrap_or_else(|error| usage(&format!("/dev/urandom: {error}")));
    bytes
}
