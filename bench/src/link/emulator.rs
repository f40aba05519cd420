//! The link between two TUN devices: one thread that takes packets from either side, lets the seeded [`Link`] decide
//! when and whether they arrive, and hands them over at that time. It measures its own lateness.

use std::{
    io,
    os::fd::AsFd,
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    thread::gettid,
    time::{ClockId, clock_gettime},
};
use simnet::{Fate, Link, LinkConfig, LinkStats};
use tun_rs::SyncDevice;

use super::{
    journal::{Journal, Way},
    nat::{Nat, Pass},
    space::{CLIENT, Ports},
};

/// Packets taken from one side before the other one has its turn: a burst must not hold up what is due.
const BATCH: usize = 32;
/// The emulator sleeps up to this long before a packet is due and looks at the clock for the rest. Longer than a
/// wake-up of a real-time thread usually takes here; longer costs the programs more than it gives.
const SPIN: Duration = Duration::from_micros(30);
/// The longest sleep, so that the end is noticed.
const NAP: Duration = Duration::from_millis(20);
/// Its real-time priority: above every program that is measured, below the kernel's own threads.
const PRIORITY: &str = "10";
/// Bytes of the largest packet of a device.
const PACKET_BYTES: usize = 2_048;

/// What a link does over its time.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Decides all that happens by chance.
    pub seed: u64,
    /// To the server.
    pub up: LinkConfig,
    /// To the client.
    pub down: LinkConfig,
    /// What the client's second address has to wait more, each way.
    pub far: Duration,
    /// Whether there is a NAT.
    pub nat: bool,
    /// What changes, in order of time.
    pub steps: Vec<(Instant, Step)>,
    /// What is counted.
    pub window: (Instant, Instant),
    /// Whether each packet is logged.
    pub log: bool,
}

/// A change of the link.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "a link has a handful of steps")]
pub enum Step {
    /// Other conditions in both directions: up, down.
    Change(LinkConfig, LinkConfig),
    /// The NAT forgets its ports.
    Rebind,
}

/// What was seen on the way in one direction, within the window unless said otherwise.
#[derive(Debug)]
pub struct Traffic {
    /// Packets that came to the link.
    pub packets: u64,
    /// Their bytes, with IP headers.
    pub bytes: u64,
    /// Of those, dropped by the full queue.
    pub queue_full: u64,
    /// Of those, lost on the way.
    pub lost: u64,
    /// How long those that passed waited in the queue.
    pub queued_ns: Histogram<u64>,
    /// All that happened from start to end.
    pub whole: LinkStats,
}

/// What is known after a run.
#[derive(Debug)]
pub struct Outcome {
    /// To the server.
    pub up: Traffic,
    /// To the client.
    pub down: Traffic,
    /// How late packets were handed over.
    pub late_ns: Histogram<u64>,
    /// Packets that arrived for ports that the NAT had forgotten.
    pub unmapped: u64,
    /// The longest packet that came.
    pub longest: usize,
    /// The thread's time on a core within the window.
    pub cpu: Duration,
    /// Whether it ran with real-time priority.
    pub is_real_time: bool,
    /// Each packet, if that was asked for.
    pub journal: Journal,
}

#[derive(Clone)]
struct Packet {
    bytes: Vec<u8>,
    is_far: bool,
}

impl AsRef<[u8]> for Packet {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl AsMut<[u8]> for Packet {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

/// One direction: the bottleneck, and behind it the longer way for those who have it.
struct Direction {
    way: Way,
    link: Link<Packet>,
    far: Link<Packet>,
    traffic: Traffic,
}

/// The link while it runs.
pub struct Emulator {
    ports: Ports,
    up: Direction,
    down: Direction,
    nat: Option<Nat>,
    setup: Setup,
    step: usize,
    outcome: Tally,
}

struct Tally {
    late_ns: Histogram<u64>,
    unmapped: u64,
    longest: usize,
    journal: Journal,
}

impl Emulator {
    /// A link that does not run yet.
    #[must_use]
    pub fn new(ports: Ports, setup: Setup) -> Self {
        let far = LinkConfig { delay: setup.far, ..LinkConfig::default() };
        let direction = |way, seed, config| Direction {
            way,
            link: Link::new(seed, config),
            far: Link::new(seed, far),
            traffic: Traffic::new(),
        };
        Self {
            ports,
            up: direction(Way::Up, setup.seed, setup.up),
            // Another stream of numbers than upwards, and than that of the next seed.
            down: direction(Way::Down, !setup.seed, setup.down),
            nat: setup.nat.then(Nat::default),
            step: 0,
            outcome: Tally { late_ns: histogram(), unmapped: 0, longest: 0, journal: Journal::new(setup.log) },
            setup,
        }
    }

    /// Carries packets until told to stop. Must have a thread of its own.
    pub fn run(mut self, stop: &AtomicBool) -> io::Result<Outcome> {
        let is_real_time = prefer();
        let (from, to) = self.setup.window;
        let (mut cpu_from, mut cpu_to) = (None, None);
        while !stop.load(Ordering::Relaxed) {
            let now = Instant::now();
            if now >= from && cpu_from.is_none() {
                cpu_from = Some(thread_time());
            }
            if now >= to && cpu_to.is_none() {
                cpu_to = Some(thread_time());
            }
            self.change(now);
            let more = self.take(Way::Up)? | self.take(Way::Down)?;
            self.hand_over()?;
            if !more {
                self.sleep()?;
            }
        }
        for direction in [&mut self.up, &mut self.down] {
            direction.traffic.whole = direction.link.stats();
        }
        let cpu = cpu_to.unwrap_or_else(thread_time).saturating_sub(cpu_from.unwrap_or_default());
        let Tally { late_ns, unmapped, longest, journal } = self.outcome;
        Ok(Outcome {
            up: self.up.traffic,
            down: self.down.traffic,
            late_ns,
            unmapped,
            longest,
            cpu,
            is_real_time,
            journal,
        })
    }

    /// Takes the steps that are due.
    fn change(&mut self, now: Instant) {
        while let Some((_, step)) = self.setup.steps.get(self.step).filter(|(at, _)| *at <= now) {
            match step {
                Step::Change(up, down) => {
                    self.up.link.configure(*up);
                    self.down.link.configure(*down);
                }
                Step::Rebind => self.nat.iter_mut().for_each(Nat::rebind),
            }
            self.step += 1;
        }
    }

    /// Takes what waits on one side; true if there may be more.
    fn take(&mut self, way: Way) -> io::Result<bool> {
        for _ in 0..BATCH {
            let mut bytes = vec![0; PACKET_BYTES];
            let from = if way == Way::Up { &self.ports.client } else { &self.ports.server };
            let len = match from.recv(&mut bytes) {
                Ok(len) => len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            };
            bytes.truncate(len);
            self.enter(Instant::now(), way, bytes);
        }
        Ok(true)
    }

    fn enter(&mut self, now: Instant, way: Way, mut bytes: Vec<u8>) {
        // Only IPv4 is routed here; what else the kernel sends by itself is nobody's traffic.
        if bytes.first().is_none_or(|first| first >> 4 != 4) {
            return;
        }
        let (len, client_at) = (bytes.len(), if way == Way::Up { 12 } else { 16 });
        self.outcome.longest = self.outcome.longest.max(len);
        // The NAT is at the client's end: what is on its way to a port that is closed then is lost too.
        if let (Some(nat), Way::Up) = (&mut self.nat, way) {
            nat.outward(&mut bytes);
        }
        let counts = (self.setup.window.0..self.setup.window.1).contains(&now);
        let direction = if way == Way::Up { &mut self.up } else { &mut self.down };
        if counts {
            direction.traffic.packets += 1;
            direction.traffic.bytes += len as u64;
        }
        let is_far = bytes.get(client_at..client_at + 4) == Some(&CLIENT[1].octets());
        let fate = direction.link.send(now, Packet { bytes, is_far });
        if counts {
            direction.traffic.note(now, fate);
        }
        self.outcome.journal.add(now, way, len, Some(fate));
    }

    /// Hands over what is due.
    fn hand_over(&mut self) -> io::Result<()> {
        for direction in [&mut self.up, &mut self.down] {
            let to = if direction.way == Way::Up { &self.ports.server } else { &self.ports.client };
            while let Some(due) = direction.link.deadline() {
                let now = Instant::now();
                let Some(mut packet) = direction.link.poll(now) else { break };
                if packet.is_far && !self.setup.far.is_zero() {
                    direction.far.send(due, packet);
                    continue;
                }
                self.outcome.late_ns.saturating_record(nanos(now - due));
                if let (Some(nat), Way::Down) = (&self.nat, direction.way)
                    && nat.inward(&mut packet.bytes) == Pass::No
                {
                    self.outcome.unmapped += 1;
                    self.outcome.journal.add(now, direction.way, packet.bytes.len(), None);
                    continue;
                }
                deliver(to, &packet.bytes)?;
            }
            while let Some(due) = direction.far.deadline() {
                let now = Instant::now();
                let Some(packet) = direction.far.poll(now) else { break };
                self.outcome.late_ns.saturating_record(nanos(now - due));
                deliver(to, &packet.bytes)?;
            }
        }
        Ok(())
    }

    /// Sleeps until something comes or is nearly due.
    fn sleep(&mut self) -> io::Result<()> {
        let links = [&self.up.link, &self.up.far, &self.down.link, &self.down.far];
        let due = links.into_iter().filter_map(Link::deadline).min();
        let step = self.setup.steps.get(self.step).map(|(at, _)| *at);
        let left = due.into_iter().chain(step).min().map(|at| at.saturating_duration_since(Instant::now()));
        let Some(nap) = left.unwrap_or(NAP).min(NAP).checked_sub(SPIN) else { return Ok(()) };
        let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(nap.subsec_nanos()) };
        let mut ends =
            [&self.ports.server, &self.ports.client].map(|port| PollFd::from_borrowed_fd(port.as_fd(), PollFlags::IN));
        match poll(&mut ends, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl Traffic {
    fn new() -> Self {
        Self { packets: 0, bytes: 0, queue_full: 0, lost: 0, queued_ns: histogram(), whole: LinkStats::default() }
    }

    fn note(&mut self, now: Instant, fate: Fate) {
        match fate {
            Fate::Arrives { leaves, .. } => self.queued_ns.saturating_record(nanos(leaves - now)),
            Fate::Lost { .. } => self.lost += 1,
            Fate::QueueFull => self.queue_full += 1,
            Fate::TooLong => {}
        }
    }
}

fn deliver(to: &SyncDevice, bytes: &[u8]) -> io::Result<()> {
    match to.send(bytes) {
        // EIO: the device is down already, which only happens at the end. ENOMEM: as a real device drops then.
        Ok(_) => Ok(()),
        Err(error) if matches!(error.raw_os_error(), Some(5 | 12)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Asks for real-time priority for this thread, so that no program on the same core delays it.
fn prefer() -> bool {
    let thread = gettid().as_raw_nonzero().to_string();
    let mut command = Command::new("chrt");
    command.args(["-f", "-p", PRIORITY, &thread]).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).unwrap_or_else(|_| unreachable!())
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}
