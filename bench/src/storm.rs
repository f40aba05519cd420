//! A server that stops and starts again with all its clients connected: when the last of them has resumed, and whether
//! anybody missed anything.

mod book;
mod client;
mod host;
mod plan;
mod report;
mod shard;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{self, Receiver},
    },
    thread,
    time::{Duration, Instant},
};

use engine::{Config, EngineError, ShardId};
use thiserror::Error;

pub use book::Account;
pub use plan::{Stop, Storm};
pub use report::{Outcome, Round};

use self::{
    book::Book,
    host::{Host, Running},
    plan::Setup,
    shard::{Order, Progress, Report, Shard},
};
use crate::{
    process::{Machine, Process, load_average},
    report::Spread,
};

/// How often the server's memory is looked at while its clients come back.
const LOOK: Duration = Duration::from_millis(20);
/// How long a shard of the generator may take to answer.
const ANSWER: Duration = Duration::from_secs(30);
/// How long the end may go on without any further delivery.
const SILENCE: Duration = Duration::from_secs(5);

/// Why there is no result.
#[derive(Debug, Error)]
pub enum StormError {
    /// Flags that exclude each other.
    #[error("{0}")]
    Conflict(&'static str),
    /// The generator's engine.
    #[error("{0}")]
    Engine(#[from] EngineError),
    /// The server, its folder, or `/proc`.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Not everybody is in before the first stop.
    #[error("{0} of {1} clients are in, and the rest does not come")]
    Opening(u64, u32),
    /// A shard did not report.
    #[error("a shard of the generator does not answer")]
    Silent,
}

/// Runs all rounds.
pub fn storm(plan: &Storm) -> Result<Outcome, StormError> {
    if let Some(conflict) = plan.conflict() {
        return Err(StormError::Conflict(conflict));
    }
    let host = Host::new(&plan.ours, plan.dir.as_deref(), plan.connections)?;
    let mut server = host.start(None)?;
    let generator = Generator::start(Setup::new(plan.clone(), server.addr))?;
    generator.open()?;
    generator.order(Order::Publish(generator.now_ns()));
    let mut rounds = Vec::new();
    for stop in &plan.stops {
        generator.sleep(Duration::from_nanos(plan.calm_ns()));
        let (round, next) = generator.round(&host, server, *stop)?;
        rounds.push(round);
        server = next;
    }
    generator.sleep(Duration::from_nanos(plan.calm_ns()));
    let (book, expected) = generator.finish()?;
    let (account, faults) = book.close();
    server.stop(Stop::Term)?;
    Ok(Outcome { plan: plan.clone(), rounds, account, expected, faults, load_average: load_average() })
}

struct Generator {
    setup: Arc<Setup>,
    running: Option<engine::Running<Order>>,
    reports: Receiver<Report>,
    progress: Arc<[Progress]>,
    base: Instant,
}

impl Generator {
    fn start(setup: Setup) -> Result<Self, StormError> {
        let plan = &setup.plan;
        let shards = plan.shards();
        let config = Config {
            shards,
            cpus: plan.cpu.as_ref().map(|cpus| cpus.0.iter().copied().cycle().take(shards.into()).collect()),
            pin: plan.cpu.is_some(),
            // A client that comes back may meet its old socket still closing.
            streams_max: 2 * plan.connections.div_ceil(shards.into()) + 1,
            peer_addresses: false,
            ..Config::default()
        };
        let progress: Arc<[Progress]> = (0..shards).map(|_| Progress::default()).collect();
        let (sender, reports) = mpsc::channel();
        let (setup, base) = (Arc::new(setup), Instant::now());
        let running = engine::bind(config)?.start({
            let (setup, progress) = (setup.clone(), progress.clone());
            move |shard, _stats| Shard::new(setup.clone(), shard, base, progress.clone(), sender.clone())
        })?;
        Ok(Self { setup, running: Some(running), reports, progress, base })
    }

    fn now_ns(&self) -> u64 {
        self.ns(Instant::now())
    }

    fn ns(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.base).as_nanos()).unwrap_or(u64::MAX)
    }

    fn order(&self, order: Order) {
        if let Some(running) = &self.running {
            for shard in 0..self.setup.plan.shards() {
                // The box holds many more orders than there are.
                let _ = running.mail(ShardId(shard), order);
            }
        }
    }

    fn sum(&self, counter: impl Fn(&Progress) -> &engine::Counter) -> u64 {
        self.progress.iter().map(|shard| counter(shard).get()).sum()
    }

    /// Waits until all clients of all shards are in, or `until`; says once per second how it goes. False: not all.
    fn all_resume(&self, until: Instant) -> bool {
        let mut pending = self.setup.plan.shards();
        while pending > 0 {
            match self.reports.recv_timeout(Duration::from_secs(1).min(until.saturating_duration_since(Instant::now())))
            {
                Ok(Report::Resumed) => pending -= 1,
                Ok(_) => {}
                Err(_) if Instant::now() >= until => return false,
                Err(_) => {
                    eprintln!("{} of {} clients are in", self.sum(|shard| &shard.resumed), self.setup.plan.connections)
                }
            }
        }
        true
    }

    fn open(&self) -> Result<(), StormError> {
        self.order(Order::Open);
        let patience = Duration::from_secs_f64(self.setup.plan.patience);
        if self.all_resume(Instant::now() + patience) {
            Ok(())
        } else {
            Err(StormError::Opening(self.sum(|shard| &shard.resumed), self.setup.plan.connections))
        }
    }

    /// Sleeps, and says once per second how it goes.
    fn sleep(&self, time: Duration) {
        let end = Instant::now() + time;
        let mut seen = self.sum(|shard| &shard.delivered);
        while Instant::now() < end {
            thread::sleep(Duration::from_secs(1).min(end - Instant::now()));
            let delivered = self.sum(|shard| &shard.delivered);
            eprintln!("{} clients, {} deliveries", self.sum(|shard| &shard.resumed), delivered - seen);
            seen = delivered;
        }
    }

    /// Stops the server, starts it again, and waits for everybody.
    fn round(&self, host: &Host, server: Running, stop: Stop) -> Result<(Round, Running), StormError> {
        let (addr, process) = (server.addr, Process::new(server.pid()));
        let resident_before_bytes = process.resident_bytes()?;
        let machine = Machine::now()?;
        self.order(Order::Storm(self.now_ns()));
        let (sent, gone) = server.stop(stop)?;
        let server = host.start(Some(addr))?;
        let watch = Watch::start(Process::new(server.pid()));
        let patience = Duration::from_secs_f64(self.setup.plan.patience);
        let all = self.all_resume(sent + patience);
        let cpu_s = Process::new(server.pid()).usage()?.cpu_ns as f64 / 1e9;
        let resident_max_bytes = watch.stop();
        let stolen = Machine::now()?.stolen_since(machine);
        let mut part = self.collect_round()?;
        if !all {
            eprintln!("{} clients do not come back", part.missing);
        }
        part.back_ns.sort_unstable();
        let since = |ns: u64, at: Instant| (ns as f64 - self.ns(at) as f64) / 1e9;
        let back = |share: f64| {
            let at = (part.back_ns.len() as f64 * share).ceil() as usize;
            part.back_ns.get(at.max(1) - 1).copied().unwrap_or(u64::MAX)
        };
        let clients = f64::from(self.setup.plan.connections);
        let round = Round {
            stop,
            gone_s: (gone - sent).as_secs_f64(),
            listening_s: (server.listening - server.started).as_secs_f64(),
            ready_s: (server.ready - server.started).as_secs_f64(),
            half_back_s: since(back(0.5), sent),
            most_back_s: since(back(0.99), sent),
            last_back_s: since(back(1.0), sent),
            last_back_after_ready_s: since(back(1.0), server.ready),
            first_acknowledged_s: part.first_acknowledged_ns.map(|ns| since(ns, sent)),
            missing: part.missing,
            tries_mean: part.tries as f64 / clients,
            tries_max: part.tries_max,
            failures: part.failures,
            acknowledged_us: Spread::of(&part.acknowledged),
            delivered_us: Spread::of(&part.delivered),
            cpu_s,
            resident_before_bytes,
            resident_max_bytes,
            stolen,
        };
        eprintln!("{stop:?}: the last client was back after {:.2} s", round.last_back_s);
        Ok((round, server))
    }

    fn collect_round(&self) -> Result<shard::Round, StormError> {
        self.order(Order::Calm);
        let (mut sum, mut pending) = (shard::Round::new(), self.setup.plan.shards());
        while pending > 0 {
            if let Report::Round(part) = self.reports.recv_timeout(ANSWER).map_err(|_| StormError::Silent)? {
                sum.add(*part);
                pending -= 1;
            }
        }
        Ok(sum)
    }

    /// Publishes no more, waits until everything was answered and delivered or nothing comes any more, and collects.
    fn finish(mut self) -> Result<(Book, u64), StormError> {
        self.order(Order::Hush);
        let (mut seen, mut changed) = (0, Instant::now());
        while changed.elapsed() < if self.sum(|shard| &shard.waiting) > 0 { SILENCE } else { SILENCE / 4 } {
            thread::sleep(LOOK);
            let done = self.sum(|shard| &shard.delivered) + self.sum(|shard| &shard.acknowledged);
            if done != seen {
                (seen, changed) = (done, Instant::now());
            }
        }
        self.order(Order::Finish);
        let (mut book, mut pending) = (Book::new(self.setup.topics()), self.setup.plan.shards());
        while pending > 0 {
            if let Report::Done(part) = self.reports.recv_timeout(ANSWER).map_err(|_| StormError::Silent)? {
                book.add(*part);
                pending -= 1;
            }
        }
        let expected = book.expected(|topic| self.setup.readers(topic));
        self.order(Order::Quit);
        self.running.take().map_or(Ok(()), engine::Running::join)?;
        Ok((book, expected))
    }
}

/// Looks at a process's memory until it is told to stop.
struct Watch {
    over: Arc<AtomicBool>,
    most: Arc<AtomicU64>,
    thread: thread::JoinHandle<()>,
}

impl Watch {
    fn start(process: Process) -> Self {
        let (over, most) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let thread = thread::spawn({
            let (over, most) = (over.clone(), most.clone());
            move || {
                while !over.load(Ordering::Relaxed) {
                    // It may end while it is looked at.
                    most.fetch_max(process.resident_bytes().unwrap_or(0), Ordering::Relaxed);
                    thread::sleep(LOOK);
                }
            }
        });
        Self { over, most, thread }
    }

    fn stop(self) -> u64 {
        self.over.store(true, Ordering::Relaxed);
        // It only reads a file.
        let _ = self.thread.join();
        self.most.load(Ordering::Relaxed)
    }
}
