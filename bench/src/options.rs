//! The command line: what to load, with what, for how long.

use std::{net::SocketAddr, path::PathBuf, str::FromStr};

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::{
    link::matrix::{Matrix, One},
    schedule::SECOND_NS,
    stamp,
    storm::Storm,
};

/// Bytes that UDP can carry from one send.
const TRAIN_BYTES_MAX: usize = 65_507;

/// Connections of one shard, unless --threads says otherwise. A ring holds at most RLIMIT_NOFILE sockets, and a common
/// hard limit is 20,000.
const CONNECTIONS_PER_SHARD_MAX: u32 = 16_000;

/// Microseconds that a shard of the generator looks for work before it sleeps.
const SPIN_US: u32 = 20;

/// Load generators with open-loop schedules and exact accounting.
#[derive(Parser, Debug)]
#[command(name = "ringshard-load", version)]
pub struct Command {
    /// What to do.
    #[command(subcommand)]
    pub action: Action,
}

/// The scenarios.
#[derive(Subcommand, Debug)]
pub enum Action {
    /// Requests and their answers: ping or publish over a session, or bytes from a plain echo server.
    Echo(Options),
    /// One publisher, many subscribers in one room; every delivery is counted.
    Fanout(Options),
    /// Publications that are acknowledged once they are on disk, beside the disk itself and other servers.
    Durable(Durable),
    /// Clients that lose their server and resume: when the last is back, and whether anybody missed anything.
    Storm(Storm),
    /// Open connections and hold them: what one costs in memory.
    Idle(Options),
    /// Our echo server against others, interleaved: the ratio and its spread.
    Compare(Compare),
    /// One transport over one emulated link; by default the link's self-test. Needs root.
    Link(One),
    /// Quantum and its peers over many emulated links: CSV and a report. Needs root.
    LinkMatrix(Matrix),
}

/// The transport.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Proto {
    /// Bytes or the framed protocol over TCP.
    Tcp,
    /// WebSocket.
    Ws,
    /// Datagrams (only against plain echo servers).
    Udp,
    /// The framed protocol over Quantum; --target is the server's UDP address.
    Quantum,
    /// Requests over HTTP/3 (only plain ones); --target is the server's UDP address.
    H3,
    /// The framed protocol over WebTransport; against a plain echo datagrams, or a stream. --target is the server's UDP address.
    Webtransport,
}

/// What a payload of `echo` is over HTTP/3 and WebTransport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exchange {
    /// A GET, answered by a page.
    Get,
    /// The body of a POST, that comes back.
    Post,
    /// A datagram, that comes back if it is not lost.
    Datagram,
    /// So many bytes of a session's bidirectional stream.
    Stream,
    /// Frames of the session protocol, on the first stream of a session.
    Frames,
}

/// How session messages are written.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Codec {
    /// One JSON object per message.
    Json,
    /// Binary frames.
    Proto,
}

/// What a request of `echo` over a session is.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    /// `ping`, answered by `pong`.
    Ping,
    /// `pub` into a room of one's own, answered by its `msg`.
    Pub,
}

/// The amount of load.
#[derive(Args, Clone, Debug, serde::Serialize)]
pub struct Amount {
    /// Requests per second over all connections, from a fixed schedule; 0: closed loop.
    #[arg(long, default_value_t = 0)]
    pub rate: u64,
    /// Connections (subscribers for `fanout`; UDP sockets for `--proto udp`).
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    pub connections: u32,
    /// Closed loop: requests in flight per connection (messages in flight for `fanout`, trains for UDP).
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub inflight: u32,
    /// Bytes per payload; raised to what its stamp needs.
    #[arg(long, default_value_t = 64)]
    pub size: usize,
    /// Seconds that count.
    #[arg(long, default_value_t = 5.0)]
    pub secs: f64,
    /// Seconds before them.
    #[arg(long, default_value_t = 1.0)]
    pub warmup: f64,
    /// Datagrams per train, for UDP.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub train: u16,
    /// Source addresses out of 127.0.0.0/8 to spread connections over; 0: the kernel's choice.
    #[arg(long, default_value_t = 0)]
    pub sources: u16,
    /// Microseconds that a shard of the generator looks for work before it sleeps.
    #[arg(long, default_value_t = SPIN_US)]
    pub spin_us: u32,
}

/// One scenario against one server.
#[derive(Args, Clone, Debug, serde::Serialize)]
pub struct Options {
    /// The amount of load.
    #[command(flatten)]
    #[serde(flatten)]
    pub amount: Amount,
    /// The transport.
    #[arg(long, value_enum, default_value = "tcp")]
    pub proto: Proto,
    /// The server.
    #[arg(long)]
    pub target: SocketAddr,
    /// Where a guest's token is asked for, over plain HTTP; by default at the target.
    #[arg(long)]
    pub http: Option<SocketAddr>,
    /// The target is a plain echo server, not Ringshard's sessions: bytes over TCP or UDP, frames over WebSocket, pages
    /// over HTTP/3, datagrams over WebTransport.
    #[arg(long)]
    pub raw: bool,
    /// The path of the WebSocket, page or WebTransport session; by default `/ws` or `/wt`, with `--raw` `/`.
    #[arg(long)]
    pub path: Option<String>,
    /// HTTP/3: the payload is posted and comes back, instead of getting a page.
    #[arg(long)]
    pub post: bool,
    /// WebTransport: payloads on a bidirectional stream of each session, instead of datagrams.
    #[arg(long)]
    pub stream: bool,
    /// The codec of sessions; TCP always uses binary frames.
    #[arg(long, value_enum, default_value = "json")]
    pub codec: Codec,
    /// What `echo` asks for over a session.
    #[arg(long, value_enum, default_value = "ping")]
    pub operation: Operation,
    /// The room; `echo --operation pub` appends the connection's number.
    #[arg(long, default_value = "load")]
    pub room: String,
    /// The token of all sessions; by default a guest's, asked for at the target.
    #[arg(long)]
    #[serde(skip)]
    pub token: Option<String>,
    /// Shards of the generator; by default one per core of --cpu, and one per 16,000 connections.
    #[arg(long, default_value_t = 0)]
    pub threads: u16,
    /// Cores of the generator: `1`, `0-3`, `0,2`.
    #[arg(long)]
    pub cpu: Option<CpuList>,
    /// The server's process: its time on a core, context switches and memory are reported.
    #[arg(long)]
    pub server_pid: Option<u32>,
    /// `idle`: how often memory is measured on the way to all connections.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(2..=100))]
    pub steps: u32,
    /// `fanout` with a rate: so many of the subscribers do not read while the window is open, and catch up behind it.
    #[arg(long, default_value_t = 0)]
    pub stalled: u32,
    /// One topic for all publishers of `durable`.
    #[arg(skip)]
    pub shared: bool,
    /// Where to write the result as JSON; `-`: stdout.
    #[arg(long)]
    pub json: Option<PathBuf>,
}

/// Rounds of publications that are acknowledged from disk.
#[derive(Args, Clone, Debug, serde::Serialize)]
pub struct Durable {
    /// Connections that publish.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub publishers: u32,
    /// Publications of each that wait for their acknowledgement.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4_096))]
    pub window: u32,
    /// Publications per second over all connections, from a fixed schedule, instead of a window.
    #[arg(long, default_value_t = 0)]
    pub rate: u64,
    /// Bytes of a message's text; raised to what its stamp needs.
    #[arg(long, default_value_t = 128)]
    pub size: usize,
    /// Seconds that count, of each server in each round.
    #[arg(long, default_value_t = 5.0)]
    pub secs: f64,
    /// Seconds before them.
    #[arg(long, default_value_t = 1.0)]
    pub warmup: f64,
    /// All publish to one topic, instead of each to its own.
    #[arg(long)]
    pub shared: bool,
    /// The transport to our server: tcp or ws.
    #[arg(long, value_enum, default_value = "tcp")]
    pub proto: Proto,
    /// The codec of sessions; TCP always uses binary frames.
    #[arg(long, value_enum, default_value = "json")]
    pub codec: Codec,
    /// Our server's command, without `--data`: each round has a folder of its own.
    #[arg(long)]
    pub ours: String,
    /// A server to measure beside ours; it is started and stopped here.
    #[arg(long = "peer", value_enum)]
    pub peers: Vec<Store>,
    /// Rounds; each measures every server once, every second one in reverse order.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: u32,
    /// Where the servers' data goes, and what the disk is probed in; by default the directory of temporary files.
    #[arg(long)]
    pub dir: Option<PathBuf>,
    /// Writes of the disk's probe, before and after each server.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(10..=100_000))]
    pub syncs: u32,
    /// The core of the servers.
    #[arg(long, default_value_t = 0)]
    pub server_cpu: usize,
    /// The core of the load.
    #[arg(long, default_value_t = 1)]
    pub load_cpu: usize,
    /// Where to write the result as JSON; `-`: stdout.
    #[arg(long)]
    pub json: Option<PathBuf>,
}

/// A server that keeps what it is given.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Store {
    /// Redis with `appendonly yes` and `appendfsync always`: a push to a list.
    Redis,
    /// NATS JetStream with `sync_interval: always`, which came with 2.10.
    Nats,
}

/// What `compare` measures.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Contest {
    /// 64 bytes over TCP.
    TcpEcho,
    /// Trains over UDP.
    UdpEcho,
    /// WebSocket messages.
    WsEcho,
    /// Pages over HTTP/3.
    H3Get,
    /// Bodies over HTTP/3 that come back.
    H3Post,
    /// Datagrams of WebTransport sessions.
    WtDatagram,
    /// Streams of WebTransport sessions, one for each.
    WtStream,
}

impl Contest {
    /// Whether it is over HTTP/3.
    #[must_use]
    pub fn is_web(self) -> bool {
        match self {
            Self::TcpEcho | Self::UdpEcho | Self::WsEcho => false,
            Self::H3Get | Self::H3Post | Self::WtDatagram | Self::WtStream => true,
        }
    }

    /// Whether it is over UDP.
    #[must_use]
    pub fn is_udp(self) -> bool {
        self == Self::UdpEcho || self.is_web()
    }
}

/// Interleaved runs of several servers.
#[derive(Args, Debug)]
pub struct Compare {
    /// What is measured.
    #[arg(value_enum)]
    pub contest: Contest,
    /// The amount of load.
    #[command(flatten)]
    pub amount: Amount,
    /// Rounds; each runs every server once, every second one in reverse order.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub pairs: u32,
    /// Our server's command; it must print `listening ... ADDR`.
    #[arg(long)]
    pub ours: String,
    /// Another server, as NAME=COMMAND; may be given several times.
    #[arg(long = "peer", required = true)]
    pub peers: Vec<Peer>,
    /// The core of the servers.
    #[arg(long, default_value_t = 0)]
    pub server_cpu: usize,
    /// The core of the load.
    #[arg(long, default_value_t = 1)]
    pub load_cpu: usize,
    /// The path of the WebSocket, page or WebTransport session.
    #[arg(long, default_value = "/")]
    pub path: String,
    /// Where to write the result as JSON; `-`: stdout.
    #[arg(long)]
    pub json: Option<PathBuf>,
}

/// A server to be compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// What the table calls it.
    pub name: String,
    /// How to start it.
    pub command: String,
}

/// A set of cores.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct CpuList(pub Vec<usize>);

impl Options {
    /// Shards of the generator: as many as asked for, else one per core, and more if one ring cannot hold its part.
    #[must_use]
    pub fn shards(&self) -> u16 {
        if self.threads > 0 {
            return self.threads;
        }
        let cpus = self.cpu.as_ref().map_or(1, |cpus| cpus.0.len());
        // These share a socket.
        let is_shared = matches!(self.proto, Proto::Quantum | Proto::H3 | Proto::Webtransport);
        let sockets = if is_shared { 1 } else { self.amount.connections };
        let rings = sockets.div_ceil(CONNECTIONS_PER_SHARD_MAX) as usize;
        u16::try_from(cpus.max(rings)).unwrap_or(u16::MAX)
    }

    /// The core of each shard, if cores were named: dealt out in turn.
    #[must_use]
    pub fn cpus(&self) -> Option<Vec<usize>> {
        let cpus = &self.cpu.as_ref()?.0;
        Some(cpus.iter().copied().cycle().take(self.shards().into()).collect())
    }

    /// Bytes per payload: at least the stamp that it carries.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        // What gets a page is not sent: the size is the server's to choose.
        if self.proto == Proto::H3 && !self.post {
            return stamp::STAMP_BYTES;
        }
        self.amount.size.max(if self.raw { stamp::STAMP_BYTES } else { stamp::STAMP_TEXT_BYTES })
    }

    /// Where the WebSocket is.
    #[must_use]
    pub fn path(&self) -> &str {
        self.path.as_deref().unwrap_or(match self.proto {
            _ if self.raw => "/",
            Proto::Webtransport => "/wt",
            _ => "/ws",
        })
    }

    /// How session messages are written on this transport.
    #[must_use]
    pub fn codec(&self) -> Codec {
        if self.proto == Proto::Ws { self.codec } else { Codec::Proto }
    }

    /// What a payload is over HTTP/3 and WebTransport.
    #[must_use]
    pub fn exchange(&self) -> Exchange {
        match self.proto {
            Proto::Webtransport if !self.raw => Exchange::Frames,
            Proto::Webtransport if self.stream => Exchange::Stream,
            Proto::Webtransport => Exchange::Datagram,
            _ if self.post => Exchange::Post,
            _ => Exchange::Get,
        }
    }

    /// Whether answers may be missing without anybody being to blame.
    #[must_use]
    pub fn may_lose(&self) -> bool {
        self.proto == Proto::Udp || self.exchange() == Exchange::Datagram
    }

    /// Whether answers may overtake each other.
    #[must_use]
    pub fn may_reorder(&self) -> bool {
        self.may_lose() || self.proto == Proto::H3
    }

    /// Requests that leave together: a train over UDP.
    #[must_use]
    pub fn requests_per_send(&self) -> u64 {
        if self.proto == Proto::Udp { self.amount.train.into() } else { 1 }
    }

    /// What cannot be done together, or `None`.
    #[must_use]
    pub fn conflict(&self) -> Option<&'static str> {
        if self.stalled > 0 && self.amount.rate == 0 {
            return Some("--stalled needs --rate: a closed loop would wait for who does not read");
        }
        if self.stalled > self.amount.connections {
            return Some("--stalled are some of the --connections");
        }
        match self.proto {
            Proto::Quantum if self.raw => Some("--proto quantum is for sessions: leave out --raw"),
            Proto::H3 if !self.raw => Some("--proto h3 needs --raw: sessions do not run over requests"),
            Proto::H3 | Proto::Webtransport if self.shards() > 1 => {
                Some("--proto h3 and webtransport run on one shard: answers to a shared address may reach another one")
            }
            Proto::Quantum | Proto::Webtransport if self.stalled > 0 => Some("--stalled is for TCP and WebSocket"),
            Proto::Udp if !self.raw => Some("--proto udp needs --raw: sessions do not run over plain datagrams"),
            Proto::Udp if self.shards() > 1 => {
                Some("--proto udp runs on one shard: answers to a shared address may reach another shard")
            }
            Proto::Udp if self.payload_bytes() * usize::from(self.amount.train) > TRAIN_BYTES_MAX => {
                Some("a train has at most 65,507 bytes: --size times --train")
            }
            Proto::Udp if self.amount.rate > 0 && self.amount.rate < self.requests_per_send() => {
                Some("--rate counts datagrams, and a train of --train must fit in a second")
            }
            Proto::Udp if self.amount.connections > 64 => Some("--proto udp has at most 64 sockets (--connections)"),
            _ => None,
        }
    }
}

impl Durable {
    /// The command line of one run against one server.
    #[must_use]
    pub fn options(&self, target: SocketAddr, server_pid: u32) -> Options {
        Options {
            amount: Amount {
                rate: self.rate,
                connections: self.publishers,
                inflight: self.window,
                size: self.size,
                secs: self.secs,
                warmup: self.warmup,
                train: 1,
                sources: 0,
                spin_us: SPIN_US,
            },
            proto: self.proto,
            target,
            http: None,
            raw: false,
            path: None,
            post: false,
            stream: false,
            codec: self.codec,
            operation: Operation::Pub,
            room: "load".to_owned(),
            token: None,
            threads: 1,
            cpu: Some(CpuList(vec![self.load_cpu])),
            server_pid: Some(server_pid),
            steps: 2,
            stalled: 0,
            shared: self.shared,
            json: None,
        }
    }
}

impl Amount {
    /// The warm-up in nanoseconds.
    #[must_use]
    pub fn warmup_ns(&self) -> u64 {
        (self.warmup.max(0.0) * SECOND_NS as f64) as u64
    }

    /// What counts, in nanoseconds.
    #[must_use]
    pub fn window_ns(&self) -> u64 {
        (self.secs.max(0.001) * SECOND_NS as f64) as u64
    }
}

impl FromStr for CpuList {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.trim().parse().map_err(|_| format!("`{text}` is not a core"));
        let mut cpus = Vec::new();
        for part in text.split(',') {
            match part.split_once('-') {
                Some((first, last)) => cpus.extend(number(first)?..=number(last)?),
                None => cpus.push(number(part)?),
            }
        }
        if cpus.is_empty() { Err(format!("`{text}` names no core")) } else { Ok(Self(cpus)) }
    }
}

impl FromStr for Peer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((name, command)) if !name.is_empty() && !command.trim().is_empty() => {
                Ok(Self { name: name.to_owned(), command: command.to_owned() })
            }
            _ => Err("write NAME=COMMAND".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Command::command().debug_assert();
    }

    fn options(flags: &str) -> Options {
        let line = format!("load echo --target 127.0.0.1:1 {flags}");
        match Command::parse_from(line.split_whitespace()).action {
            Action::Echo(options) => options,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_a_payload_is_follows_from_the_transport() {
        for (flags, exchange, bytes) in [
            ("--proto h3 --size 500", Exchange::Get, stamp::STAMP_BYTES),
            ("--proto h3 --size 500 --post", Exchange::Post, 500),
            ("--proto webtransport", Exchange::Datagram, 64),
            ("--proto webtransport --stream", Exchange::Stream, 64),
        ] {
            let options = options(&format!("--raw {flags}"));
            assert_eq!((options.exchange(), options.payload_bytes()), (exchange, bytes), "{flags}");
            assert_eq!(options.may_lose(), exchange == Exchange::Datagram);
            assert_eq!((options.shards(), options.conflict()), (1, None));
        }
        let sessions = options("--proto webtransport");
        assert_eq!((sessions.exchange(), sessions.path(), sessions.conflict()), (Exchange::Frames, "/wt", None));
        assert!(!sessions.may_lose() && sessions.codec() == Codec::Proto);
        assert!(options("--proto h3").conflict().is_some(), "no sessions");
        assert!(options("--raw --proto webtransport --threads 2").conflict().is_some(), "one socket");
    }

    #[test]
    fn who_stalls_needs_a_schedule_and_others() {
        assert!(options("--stalled 5").conflict().is_some());
        assert!(options("--stalled 51 --rate 10").conflict().is_some());
        assert_eq!(options("--stalled 5 --rate 10").conflict(), None);
    }

    #[test]
    fn a_run_of_durable_is_a_closed_loop_on_one_core() {
        let line = "load durable --ours x --peer redis --peer nats --window 4 --shared --load-cpu 3";
        let Action::Durable(plan) = Command::parse_from(line.split_whitespace()).action else { panic!("not durable") };
        assert_eq!(plan.peers, [Store::Redis, Store::Nats]);
        let options = plan.options(SocketAddr::from(([127, 0, 0, 1], 9)), 7);
        assert_eq!((options.amount.connections, options.amount.inflight, options.amount.rate), (256, 4, 0));
        assert_eq!((options.shards(), options.cpus(), options.conflict()), (1, Some(vec![3]), None));
        assert!(options.shared && options.payload_bytes() == 128);
    }

    #[test]
    fn cores_and_peers_are_read() {
        assert_eq!("0-2,5".parse(), Ok(CpuList(vec![0, 1, 2, 5])));
        assert!("".parse::<CpuList>().is_err() && "a".parse::<CpuList>().is_err() && "2-1".parse::<CpuList>().is_err());
        let peer = Peer { name: "tokio".into(), command: "./tcp_tokio --x=1".into() };
        assert_eq!("tokio=./tcp_tokio --x=1".parse(), Ok(peer));
        assert!("tokio".parse::<Peer>().is_err());
    }
}
