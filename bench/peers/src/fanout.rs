//! One publisher, many subscribers, on one epoll loop: how brokers with a text protocol are measured beside our rooms.
//!
//! The publisher keeps a fixed number of messages in flight (all their deliveries outstanding) or follows a fixed rate.
//! Every delivery carries its number and its intended time, so a lost, repeated or late one is seen.

use std::{
    collections::VecDeque,
    fs,
    io::{self, ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    os::fd::AsRawFd,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;

use crate::{pin, poll::Poll, usage, value};

/// Hex digits of the number and of the time, at the front of each payload.
const STAMP_BYTES: usize = 32;
/// How long deliveries may still arrive after the last publication.
const GRACE: Duration = Duration::from_secs(5);
/// Messages that may be due at once in open loop before the run is void.
const BEHIND_MAX: u64 = 1_000;

/// What a line-and-length protocol says next.
pub enum Item<'a> {
    /// A message for this subscriber.
    Delivery(&'a [u8]),
    /// The subscription (or the publisher's login) is in force.
    Ready,
    /// Answer with these bytes.
    Answer(&'static [u8]),
    /// Nothing of interest.
    Other,
}

/// A broker's protocol, as far as a fan-out needs it.
pub trait Protocol {
    /// What a subscriber sends first.
    fn subscribe(&self) -> Vec<u8>;
    /// What the publisher sends first; it must be answered by `Ready`.
    fn greet(&self) -> Vec<u8>;
    /// One publication.
    fn publish(&self, payload: &[u8], out: &mut Vec<u8>);
    /// Takes one item off the front: its length in bytes and what it is; `None` while it is not whole.
    fn parse<'a>(&self, bytes: &'a [u8]) -> io::Result<Option<(usize, Item<'a>)>>;
}

struct Plan {
    target: SocketAddr,
    subscribers: usize,
    inflight: u64,
    rate: u64,
    size: usize,
    secs: f64,
    warmup: f64,
    server_pid: Option<u32>,
}

impl Plan {
    fn from_args() -> Self {
        let target = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut plan = Self {
            target,
            subscribers: 1_000,
            inflight: 4,
            rate: 0,
            size: 64,
            secs: 5.0,
            warmup: 1.0,
            server_pid: None,
        };
        let mut args = std::env::args().skip(1);
        while let Some(flag) = args.next() {
            let text = args.next();
            match flag.as_str() {
                "--target" => plan.target = value(&flag, text),
                "--connections" => plan.subscribers = value(&flag, text),
                "--inflight" => plan.inflight = value(&flag, text),
                "--rate" => plan.rate = value(&flag, text),
                "--size" => plan.size = value(&flag, text),
                "--secs" => plan.secs = value(&flag, text),
                "--warmup" => plan.warmup = value(&flag, text),
                "--server-pid" => plan.server_pid = Some(value(&flag, text)),
                "--cpu" => pin(value(&flag, text)).unwrap_or_else(|error| usage(&error.to_string())),
                _ => usage(
                    "flags: --target ADDR --connections N --inflight K --rate R --size BYTES --secs S --warmup S \
                     --server-pid PID --cpu N",
                ),
            }
        }
        plan.size = plan.size.max(STAMP_BYTES);
        plan
    }
}

struct Peer {
    stream: TcpStream,
    rest: Vec<u8>,
    ready: bool,
    next: u64,
}

struct Fanout<P> {
    protocol: P,
    plan: Plan,
    poll: Poll,
    peers: Vec<Peer>,
    by_fd: Vec<usize>,
    buffer: Vec<u8>,
    output: VecDeque<u8>,
    start: Instant,
    published: u64,
    delivered: u64,
    duplicates: u64,
    gaps: u64,
    latency: Histogram<u64>,
    window: Option<Instant>,
}

/// Runs the plan of the command line and prints one JSON object on stdout.
pub fn run(protocol: impl Protocol) -> io::Result<()> {
    let plan = Plan::from_args();
    let mut fanout = Fanout {
        protocol,
        poll: Poll::new()?,
        peers: Vec::new(),
        by_fd: Vec::new(),
        buffer: vec![0; 256 * 1024],
        output: VecDeque::new(),
        start: Instant::now(),
        published: 0,
        delivered: 0,
        duplicates: 0,
        gaps: 0,
        latency: Histogram::new_with_bounds(1, 60_000_000_000, 3).map_err(io::Error::other)?,
        window: None,
        plan,
    };
    fanout.connect()?;
    fanout.measure()
}

impl<P: Protocol> Fanout<P> {
    /// Subscribers are peers 0..n, the publisher is the last one.
    fn connect(&mut self) -> io::Result<()> {
        for index in 0..=self.plan.subscribers {
            let mut stream = TcpStream::connect(self.plan.target)?;
            stream.set_nodelay(true)?;
            let publisher = index == self.plan.subscribers;
            stream.write_all(&if publisher { self.protocol.greet() } else { self.protocol.subscribe() })?;
            stream.set_nonblocking(true)?;
            let fd = stream.as_raw_fd();
            self.by_fd.resize(self.by_fd.len().max(fd as usize + 1), usize::MAX);
            self.by_fd[fd as usize] = index;
            self.poll.add(fd)?;
            self.peers.push(Peer { stream, rest: Vec::new(), ready: false, next: 0 });
        }
        let deadline = Instant::now() + Duration::from_secs(30);
        while !self.peers.iter().all(|peer| peer.ready) {
            self.turn(100)?;
            if Instant::now() > deadline {
                return Err(io::Error::new(ErrorKind::TimedOut, "not every subscription was confirmed"));
            }
        }
        Ok(())
    }

    fn measure(&mut self) -> io::Result<()> {
        self.start = Instant::now();
        let open = self.start + Duration::from_secs_f64(self.plan.warmup);
        let close = open + Duration::from_secs_f64(self.plan.secs);
        self.publish_until(open)?;
        self.window = Some(open);
        let (delivered, published, cpu, began) = (self.delivered, self.published, self.cpu()?, Instant::now());
        self.publish_until(close)?;
        let (delivered, published) = (self.delivered - delivered, self.published - published);
        let (cpu, secs) = (self.cpu()? - cpu, began.elapsed().as_secs_f64());
        let deadline = Instant::now() + GRACE;
        while self.outstanding() > 0 && Instant::now() < deadline {
            self.turn(10)?;
        }
        self.report(delivered, published, cpu, secs);
        Ok(())
    }

    fn report(&self, delivered: u64, published: u64, cpu_ns: u64, secs: f64) {
        let lost: u64 = self.peers[..self.plan.subscribers].iter().map(|peer| self.published - peer.next).sum();
        let lost = lost + self.gaps;
        let behind = self.plan.rate > 0 && (published as f64) < 0.999 * self.plan.rate as f64 * secs;
        let per_core = delivered as f64 / (cpu_ns.max(1) as f64 / 1e9) * f64::from(u8::from(cpu_ns > 0));
        println!(
            "{{\"subscribers\":{},\"secs\":{secs:.3},\"published\":{published},\"delivered\":{delivered},\
             \"deliveries_per_s\":{:.0},\"server_cpu_s\":{:.4},\"deliveries_per_server_cpu_s\":{per_core:.0},\
             \"lost\":{lost},\"duplicates\":{},\"p50_us\":{:.1},\"p99_us\":{:.1},\"max_us\":{:.1},\"void\":{}}}",
            self.plan.subscribers,
            delivered as f64 / secs,
            cpu_ns as f64 / 1e9,
            self.duplicates,
            self.latency.value_at_quantile(0.5) as f64 / 1e3,
            self.latency.value_at_quantile(0.99) as f64 / 1e3,
            self.latency.max() as f64 / 1e3,
            behind || lost > 0 || self.duplicates > 0,
        );
    }

    fn outstanding(&self) -> u64 {
        self.published * self.plan.subscribers as u64 - self.delivered
    }

    fn publish_until(&mut self, end: Instant) -> io::Result<()> {
        while Instant::now() < end {
            let due = self.due();
            for _ in 0..due {
                self.publish();
            }
            self.flush()?;
            self.turn(i32::from(self.plan.rate == 0) * 10)?;
        }
        Ok(())
    }

    fn due(&self) -> u64 {
        if self.plan.rate == 0 {
            let inflight = self.outstanding().div_ceil(self.plan.subscribers.max(1) as u64);
            return self.plan.inflight.saturating_sub(inflight);
        }
        let planned = (self.start.elapsed().as_secs_f64() * self.plan.rate as f64) as u64;
        planned.saturating_sub(self.published).min(BEHIND_MAX)
    }

    fn publish(&mut self) {
        let elapsed = self.start.elapsed().as_nanos() as u64;
        let planned = (self.published * 1_000_000_000).checked_div(self.plan.rate).unwrap_or(elapsed);
        let mut payload = format!("{:016x}{planned:016x}", self.published).into_bytes();
        payload.resize(self.plan.size, b'.');
        let mut bytes = Vec::new();
        self.protocol.publish(&payload, &mut bytes);
        self.output.extend(bytes);
        self.published += 1;
    }

    fn flush(&mut self) -> io::Result<()> {
        while !self.output.is_empty() {
            let publisher = &mut self.peers[self.plan.subscribers];
            match publisher.stream.write(self.output.as_slices().0) {
                Ok(len) => drop(self.output.drain(..len)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn turn(&mut self, timeout_ms: i32) -> io::Result<()> {
        let ready = self.poll.wait(timeout_ms)?;
        for at in 0..ready {
            let index = self.by_fd[self.poll.ready(at)];
            self.read(index)?;
        }
        Ok(())
    }

    fn read(&mut self, index: usize) -> io::Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let len = match self.peers[index].stream.read(&mut buffer) {
            Ok(0) => return Err(io::Error::new(ErrorKind::UnexpectedEof, format!("broker closed connection {index}"))),
            Ok(len) => len,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error),
        };
        let mut rest = std::mem::take(&mut self.peers[index].rest);
        if rest.is_empty() {
            let used = self.take(index, &buffer[..len])?;
            rest.extend_from_slice(&buffer[used..len]);
        } else {
            rest.extend_from_slice(&buffer[..len]);
            let used = self.take(index, &rest)?;
            rest.drain(..used);
        }
        self.peers[index].rest = rest;
        self.buffer = buffer;
        Ok(())
    }

    fn take(&mut self, index: usize, bytes: &[u8]) -> io::Result<usize> {
        let mut used = 0;
        let now = self.start.elapsed().as_nanos() as u64;
        while let Some((len, item)) = self.protocol.parse(&bytes[used..])? {
            used += len;
            match item {
                Item::Delivery(payload) => Self::count(
                    &mut self.peers[index],
                    payload,
                    now,
                    self.window.map(|open| open.duration_since(self.start).as_nanos() as u64),
                    (&mut self.delivered, &mut self.duplicates, &mut self.gaps),
                    &mut self.latency,
                )?,
                Item::Ready => self.peers[index].ready = true,
                Item::Answer(answer) => self.peers[index].stream.write_all(answer)?,
                Item::Other => {}
            }
        }
        Ok(used)
    }

    fn count(
        peer: &mut Peer,
        payload: &[u8],
        now: u64,
        window: Option<u64>,
        (delivered, duplicates, gaps): (&mut u64, &mut u64, &mut u64),
        latency: &mut Histogram<u64>,
    ) -> io::Result<()> {
        let (number, planned) = stamp(payload).ok_or(ErrorKind::InvalidData)?;
        if number < peer.next {
            *duplicates += 1;
            return Ok(());
        }
        *gaps += number - peer.next;
        peer.next = number + 1;
        *delivered += 1;
        if window.is_some_and(|open| planned >= open) {
            latency.saturating_record(now.saturating_sub(planned));
        }
        Ok(())
    }

    fn cpu(&self) -> io::Result<u64> {
        self.plan.server_pid.map_or(Ok(0), cpu_ns)
    }
}

fn stamp(payload: &[u8]) -> Option<(u64, u64)> {
    let text = std::str::from_utf8(payload.get(..STAMP_BYTES)?).ok()?;
    Some((u64::from_str_radix(&text[..16], 16).ok()?, u64::from_str_radix(&text[16..], 16).ok()?))
}

/// Nanoseconds that all threads of a process have been on a core.
fn cpu_ns(pid: u32) -> io::Result<u64> {
    let mut sum = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = fs::read_to_string(task?.path().join("schedstat"))?;
        sum += text.split_whitespace().next().and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
    }
    Ok(sum)
}

/// The first line and the position after its `\r\n`.
pub fn line(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let end = bytes.windows(2).position(|pair| pair == b"\r\n")?;
    Some((&bytes[..end], end + 2))
}

/// A decimal number.
pub fn number(text: &[u8]) -> io::Result<usize> {
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or_else(|| ErrorKind::InvalidData.into())
}
