//! `ringshard-link`: Quantum on a link, as `link-matrix` runs it: independent messages on a channel, one ordered
//! stream, or bulk on a stream of the lowest priority. `--variant` is a congestion controller, and `-nofec` switches
//! FEC off.

use std::{collections::VecDeque, error::Error, fs, io, process::ExitCode, time::Instant};

use bench::link::{
    clock::{Anchor, now_ns},
    driver::{Driver, Turn, unix_ms},
    plan::{MESSAGE_BYTES, Plan, Side, Workload},
    talk::{Account, Source, bulk},
};
use bytes::Bytes;
use quantum::{
    Algorithm, ClientConfig, Connection, Delivery, Direction, Endpoint, EndpointConfig, Event, FecMode, Handle,
    ServerConfig, StreamId, Transport, crypto::Trust,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustls::pki_types::PrivateKeyDer;
use sha2::{Digest, Sha256};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Where the server tells its client the SHA-256 of its certificate.
const CERTIFICATE: &str = "/tmp/ringshard-link-quantum.sha256";
/// What a stream of messages and one of bulk begin with.
const ORDERED: u8 = b'O';
const BULK: u8 = b'B';
/// Bytes that may be on the way: twice what 100 Mbit/s and 600 ms hold.
const WINDOW_BYTES: u64 = 16 << 20;
/// Bytes of bulk that may wait: more than any queue of a link and its delay hold.
const AHEAD_BYTES: u64 = 8 << 20;
/// Priorities of messages and bulk, of 0 to 7.
const SOON: u8 = 1;
const LATER: u8 = 7;

/// One connection as the workload sees it.
struct Talk {
    driver: usize,
    handle: Handle,
    number: u32,
    source: Option<Source>,
    waiting: VecDeque<Bytes>,
    ordered: Option<StreamId>,
    bulk: Option<(StreamId, u64)>,
    readers: Vec<Reader>,
}

/// A stream that is read.
struct Reader {
    id: StreamId,
    kind: u8,
    record: Vec<u8>,
}

struct Program {
    plan: Plan,
    account: Account,
    anchor: Anchor,
    drivers: Vec<Driver>,
    talks: Vec<Talk>,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ringshard-link: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let plan = Plan::read(std::env::args().skip(1))?;
    quantum::fec::warm();
    let account = Account::new(&plan);
    let mut program = Program { plan, account, anchor: Anchor::now(), drivers: Vec::new(), talks: Vec::new() };
    match program.plan.side {
        Side::Server => program.serve()?,
        Side::Client => program.connect()?,
    }
    while now_ns() < program.plan.end_ns {
        if program.turn()? == Turn::Idle {
            program.wait()?;
        }
    }
    println!("{}", program.account.report(&program.plan));
    program.tell();
    Ok(())
}

fn transport(plan: &Plan) -> Result<Transport, String> {
    let (algorithm, fec) = match plan.variant.split_once('-') {
        Some((algorithm, "nofec")) => (algorithm, FecMode::Off),
        None => (plan.variant.as_str(), FecMode::Adaptive),
        Some(_) => return Err(format!("--variant cannot be `{}`", plan.variant)),
    };
    let algorithm = match algorithm {
        "bbr" => Algorithm::Bbr,
        "cubic" => Algorithm::Cubic,
        other => return Err(format!("--variant begins with bbr or cubic, not `{other}`")),
    };
    Ok(Transport {
        algorithm,
        fec,
        keep_alive: Some(std::time::Duration::from_secs(2)),
        data_window_max: WINDOW_BYTES,
        stream_window_max: WINDOW_BYTES,
        send_bytes_max: AHEAD_BYTES,
        ..Transport::default()
    })
}

impl Program {
    fn serve(&mut self) -> Result<(), Box<dyn Error>> {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
        fs::write(CERTIFICATE, Sha256::digest(made.cert.der()))?;
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der())?;
        let server = ServerConfig::builder(vec![made.cert.der().clone()], key)?.build()?;
        let driver = Driver::bind(self.plan.addr, self.endpoint(Some(server))?)?;
        println!("listening {}", driver.local_addr()?);
        self.drivers.push(driver);
        Ok(())
    }

    fn connect(&mut self) -> Result<(), Box<dyn Error>> {
        let sha256 = fs::read(CERTIFICATE)?.try_into().map_err(|_| "the server's certificate hash is damaged")?;
        let config = ClientConfig::builder(Trust::Certificate(sha256)).build()?;
        for number in 0..self.plan.connections {
            let mut driver = Driver::bind(self.plan.local(number), self.endpoint(None)?)?;
            let handle = driver.endpoint.connect(Instant::now(), unix_ms(), self.plan.addr, "localhost", &config)?;
            self.talks.push(Talk::new(self.drivers.len(), handle, number));
            self.drivers.push(driver);
        }
        Ok(())
    }

    fn endpoint(&self, server: Option<ServerConfig>) -> Result<Endpoint, Box<dyn Error>> {
        let config = EndpointConfig::single([7; 32], transport(&self.plan)?);
        // Another seed for every run and socket: the ids of one must not be those of another.
        let seed = Sha256::digest([now_ns().to_le_bytes(), (self.drivers.len() as u64).to_le_bytes()].concat());
        Ok(Endpoint::new(config, server, seed.into()))
    }

    fn turn(&mut self) -> io::Result<Turn> {
        let mut turn = Turn::Idle;
        for at in 0..self.drivers.len() {
            if self.drivers[at].receive()? == Turn::Busy {
                turn = Turn::Busy;
            }
            while let Some((handle, event)) = self.drivers[at].endpoint.poll_event() {
                self.on_event(at, handle, event);
            }
        }
        for talk in &mut self.talks {
            talk.say(&self.plan, &mut self.drivers[talk.driver].endpoint);
        }
        for driver in &mut self.drivers {
            if driver.transmit()? == Turn::Busy {
                turn = Turn::Busy;
            }
        }
        Ok(turn)
    }

    fn on_event(&mut self, driver: usize, handle: Handle, event: Event) {
        let plan = &self.plan;
        let known = self.talks.iter().position(|talk| (talk.driver, talk.handle) == (driver, handle));
        let at = known.unwrap_or_else(|| {
            self.talks.push(Talk::new(driver, handle, self.talks.len() as u32));
            self.talks.len() - 1
        });
        let talk = &mut self.talks[at];
        if let Event::Closed(reason) = &event {
            talk.source = None;
            if now_ns() < plan.to_ns {
                self.account.lost(reason);
            }
            return;
        }
        let Some(connection) = self.drivers[driver].endpoint.connection(handle) else { return };
        match event {
            Event::Connected => {
                self.account.connected();
                talk.open(plan, connection);
            }
            Event::Message => {
                while let Some(message) = connection.recv_message() {
                    self.account.message(now_ns(), &message.bytes);
                }
            }
            Event::Readable(id) => talk.read(&mut self.account, connection, id),
            _ => {}
        }
    }

    /// Sleeps until something arrives or is due.
    fn wait(&self) -> io::Result<()> {
        let deadlines = self.drivers.iter().filter_map(|driver| driver.endpoint.deadline());
        let due = deadlines.map(|at| self.anchor.ns(at));
        let sources = self.talks.iter().filter_map(|talk| talk.source.as_ref()?.next_ns());
        let until_ns = due.chain(sources).fold(self.plan.end_ns, u64::min);
        let left = until_ns.saturating_sub(now_ns());
        let parts = (left / 1_000_000_000, left % 1_000_000_000);
        let timeout = Timespec { tv_sec: parts.0.cast_signed(), tv_nsec: parts.1.cast_signed() };
        let mut fds: Vec<PollFd<'_>> = self
            .drivers
            .iter()
            .map(|driver| {
                let out = if driver.is_blocked() { PollFlags::OUT } else { PollFlags::empty() };
                PollFd::from_borrowed_fd(driver.fd(), PollFlags::IN | out)
            })
            .collect();
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Says what the transport counted, for people.
    fn tell(&mut self) {
        let mut said = Vec::new();
        for talk in &self.talks {
            let endpoint = &mut self.drivers[talk.driver].endpoint;
            if let Some(connection) = endpoint.connection(talk.handle) {
                said.push(format!("{:?}", connection.stats()));
            }
            let stats = endpoint.stats();
            said.push(format!("{} datagrams in {} trains", stats.datagrams_sent, stats.trains_sent));
        }
        eprintln!("{}", said.join("; "));
    }
}

impl Talk {
    fn new(driver: usize, handle: Handle, number: u32) -> Self {
        let (source, waiting, ordered, bulk, readers) = (None, VecDeque::new(), None, None, Vec::new());
        Self { driver, handle, number, source, waiting, ordered, bulk, readers }
    }

    /// The handshake is over.
    fn open(&mut self, plan: &Plan, connection: &mut Connection) {
        self.source = Source::new(plan, self.number, now_ns());
        let mut stream = |kind, priority| {
            let id = connection.open(Direction::Unidirectional)?;
            connection.set_priority(id, priority).ok()?;
            // The first byte of a new stream always has room.
            connection.write(id, &[kind]).ok()?;
            Some(id)
        };
        if plan.workload == Workload::Ordered && self.source.is_some() {
            self.ordered = stream(ORDERED, SOON);
        }
        if plan.workload.has_bulk() && plan.side == Side::Server {
            self.bulk = stream(BULK, LATER).map(|id| (id, 0));
        }
    }

    /// Says what is due, and as much bulk as there is room for.
    fn say(&mut self, plan: &Plan, endpoint: &mut Endpoint) {
        while let Some(message) = self.source.as_mut().and_then(|source| source.take(now_ns())) {
            self.waiting.push_back(Bytes::copy_from_slice(&message));
        }
        let has_bulk = self.bulk.is_some() && now_ns() < plan.to_ns;
        if self.waiting.is_empty() && !has_bulk {
            return;
        }
        let Some(connection) = endpoint.connection(self.handle) else { return };
        while let Some(message) = self.waiting.front_mut() {
            match self.ordered {
                Some(stream) => {
                    let Ok(written) = connection.write(stream, message) else { break };
                    drop(message.split_to(written));
                    if !message.is_empty() {
                        break;
                    }
                }
                None => {
                    let bytes = message.clone();
                    let sent = connection.send_message(Instant::now(), 0, Delivery::Independent, SOON, None, bytes);
                    if sent.is_err() {
                        break;
                    }
                }
            }
            self.waiting.pop_front();
        }
        if let Some((stream, offset)) = self.bulk.as_mut().filter(|_| has_bulk) {
            while let Ok(written) = connection.write_bytes(*stream, Bytes::from_static(bulk(*offset))) {
                *offset += written as u64;
                if written == 0 {
                    break;
                }
            }
        }
    }

    fn read(&mut self, account: &mut Account, connection: &mut Connection, id: StreamId) {
        let at = self.readers.iter().position(|reader| reader.id == id).unwrap_or_else(|| {
            self.readers.push(Reader { id, kind: 0, record: Vec::new() });
            self.readers.len() - 1
        });
        let reader = &mut self.readers[at];
        while let Ok(chunk) = connection.chunk(id) {
            let len = chunk.len();
            if len == 0 {
                return;
            }
            reader.take(account, self.number, chunk);
            connection.consume(id, len);
        }
    }
}

impl Reader {
    fn take(&mut self, account: &mut Account, number: u32, mut bytes: &[u8]) {
        if self.kind == 0 {
            self.kind = bytes[0];
            bytes = &bytes[1..];
        }
        if self.kind == BULK {
            account.bulk(now_ns(), number, bytes);
            return;
        }
        self.record.extend_from_slice(bytes);
        let whole = self.record.len() / MESSAGE_BYTES * MESSAGE_BYTES;
        let now_ns = now_ns();
        self.record[..whole].chunks(MESSAGE_BYTES).for_each(|message| account.message(now_ns, message));
        self.record.drain(..whole);
    }
}
