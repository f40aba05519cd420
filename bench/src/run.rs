//! One run from outside the shards: start them, open, go, watch the server's process, collect.

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    sync::{
        Arc,
        mpsc::{self, Receiver, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use engine::{Config, EngineError, Running, ShardId, SocketConfig, Steer};
use thiserror::Error;

use crate::{
    connection::{Scenario, Setup},
    load::{CATCH_UP_NS, Load},
    options::{Options, Proto},
    order::{Order, Progress, Report},
    process::{Machine, Process, Usage},
    report::{Measured, MemoryStep},
    speech::Speech,
    tally::Tally,
    tunnel,
};

/// How long opening may go on without a further connection before the run is given up.
const OPENING_SILENCE: Duration = Duration::from_secs(30);
/// How long the end of a run is waited for beyond its plan.
const END_SILENCE: Duration = Duration::from_secs(30);
/// From the order to go to the first request: every shard has the order by then.
const RUN_UP: Duration = Duration::from_millis(50);
/// How long memory may settle before it is measured.
const SETTLE: Duration = Duration::from_millis(700);
/// How long the server may take to hand out a token.
const TOKEN_PATIENCE: Duration = Duration::from_secs(10);

/// Why there is no result.
#[derive(Debug, Error)]
pub enum RunError {
    /// Flags that exclude each other.
    #[error("{0}")]
    Conflict(&'static str),
    /// The generator's engine.
    #[error("{0}")]
    Engine(#[from] EngineError),
    /// The server's process, or the machine, cannot be watched.
    #[error("reading /proc: {0}")]
    Process(#[from] std::io::Error),
    /// No guest token.
    #[error("no guest token from {target}: {reason}; give one with --token")]
    Token {
        /// Who was asked.
        target: SocketAddr,
        /// What went wrong.
        reason: String,
    },
    /// Nothing happens any more.
    #[error("{0} of {1} connections are ready, and no more come")]
    Opening(u64, u32),
    /// A shard did not report its end.
    #[error("a shard of the generator does not answer")]
    Silent,
}

/// Runs a scenario to its end.
pub fn run(scenario: Scenario, options: Options) -> Result<Measured, RunError> {
    if let Some(conflict) = options.conflict() {
        return Err(RunError::Conflict(conflict));
    }
    if scenario == Scenario::Fanout && options.raw {
        return Err(RunError::Conflict("fanout is for sessions: leave out --raw"));
    }
    let token = match &options.token {
        Some(token) => token.clone(),
        None if options.raw || scenario.is_foreign() => String::new(),
        None => guest_token(options.http.unwrap_or(options.target))?,
    };
    let speech = Speech::new(options.codec(), token);
    let mut generator = Generator::start(Setup { scenario, options, speech })?;
    let outcome = match scenario {
        Scenario::Idle => generator.idle(),
        Scenario::Echo | Scenario::Fanout | Scenario::Durable | Scenario::Redis | Scenario::Nats => generator.measure(),
    };
    generator.stop()?;
    outcome
}

struct Generator {
    setup: Arc<Setup>,
    running: Option<Running<Order>>,
    reports: Receiver<Report>,
    progress: Arc<[Progress]>,
    base: Instant,
    process: Option<Process>,
}

impl Generator {
    fn start(setup: Setup) -> Result<Self, RunError> {
        let shards = setup.options.shards();
        let process = setup.options.server_pid.map(Process::new);
        let progress: Arc<[Progress]> = (0..shards).map(|_| Progress::default()).collect();
        let (sender, reports) = mpsc::channel();
        let (setup, base) = (Arc::new(setup), Instant::now());
        let bound = engine::bind(config(&setup))?;
        let running = bound.start({
            let (setup, progress) = (setup.clone(), progress.clone());
            move |shard, _stats| Load::new(setup.clone(), shard, base, progress.clone(), sender.clone())
        })?;
        Ok(Self { setup, running: Some(running), reports, progress, base, process })
    }

    fn measure(&mut self) -> Result<Measured, RunError> {
        let opened = self.open(self.setup.connections())?;
        let amount = &self.setup.options.amount;
        let start = Instant::now() + RUN_UP;
        let open = start + Duration::from_nanos(amount.warmup_ns());
        let close = open + Duration::from_nanos(amount.window_ns());
        self.order(Order::Go(u64::try_from((start - self.base).as_nanos()).unwrap_or(u64::MAX)));
        self.sleep_until(open);
        let (before, machine) = (self.usage()?, Machine::now()?);
        let mut memory = Vec::from_iter(self.memory()?);
        self.sleep_until(close);
        let stolen = Machine::now()?.stolen_since(machine);
        let usage = self.usage()?.zip(before).map(|(after, before)| after.since(before));
        memory.extend(self.memory()?);
        let catch_up = Duration::from_nanos(if self.setup.options.stalled > 0 { CATCH_UP_NS } else { 0 });
        let mut tally = Tally::new();
        for _ in 0..self.setup.options.shards() {
            match self.reports.recv_timeout(END_SILENCE + catch_up) {
                Ok(Report::Done(part)) => tally.add(&part),
                Ok(Report::Ready { .. }) => {}
                Err(_) => return Err(RunError::Silent),
            }
        }
        let close_ns = u64::try_from((close - self.base).as_nanos()).unwrap_or(u64::MAX);
        Ok(Measured { setup: self.setup.clone(), tally, usage, stolen, failed: opened.failed, memory, close_ns })
    }

    fn idle(&mut self) -> Result<Measured, RunError> {
        let total = self.setup.connections();
        let steps = self.setup.options.steps.min(total);
        let mut memory = Vec::new();
        let mut failed = 0;
        for step in 0..=steps {
            let target = u32::try_from(u64::from(total) * u64::from(step) / u64::from(steps)).unwrap_or(total);
            if target > 0 {
                failed = self.open(target)?.failed;
            }
            thread::sleep(SETTLE);
            if let Some(process) = &self.process {
                let resident_bytes = process.resident_bytes()?;
                memory.push(MemoryStep { connections: self.ready(), resident_bytes });
                eprintln!("{} connections: {} KiB", self.ready(), resident_bytes / 1024);
            }
        }
        let hold = Instant::now() + Duration::from_nanos(self.setup.options.amount.window_ns());
        let before = self.usage()?;
        self.sleep_until(hold);
        let usage = self.usage()?.zip(before).map(|(after, before)| after.since(before));
        let dropped = u64::from(total - failed.min(total)).saturating_sub(self.ready());
        let mut tally = Tally::new();
        if dropped > 0 {
            tally.faults.insert("idle connections were closed".to_owned(), dropped);
        }
        Ok(Measured { setup: self.setup.clone(), tally, usage, stolen: 0.0, failed, memory, close_ns: 0 })
    }

    /// Opens connections up to `total` and waits until all shards have theirs.
    fn open(&self, total: u32) -> Result<Opened, RunError> {
        self.order(Order::Open(total));
        let (mut failed, mut pending) = (0, self.setup.options.shards());
        let (mut ready, mut changed_at) = (self.ready(), Instant::now());
        while pending > 0 {
            match self.reports.recv_timeout(Duration::from_secs(1)) {
                Ok(Report::Ready { failed: part }) => (failed, pending) = (failed + part, pending - 1),
                Ok(Report::Done(_)) | Err(RecvTimeoutError::Disconnected) => return Err(RunError::Silent),
                Err(RecvTimeoutError::Timeout) => eprintln!("{} of {total} connections", self.ready()),
            }
            if self.ready() != ready {
                (ready, changed_at) = (self.ready(), Instant::now());
            } else if changed_at.elapsed() > OPENING_SILENCE {
                return Err(RunError::Opening(ready, total));
            }
        }
        Ok(Opened { failed })
    }

    /// Sleeps, and says once per second how it goes.
    fn sleep_until(&self, end: Instant) {
        let mut next = Instant::now() + Duration::from_secs(1);
        let mut seen = self.completed();
        while next < end {
            thread::sleep(next.saturating_duration_since(Instant::now()));
            let completed = self.completed();
            eprintln!("{} connections, {}/s", self.ready(), completed - seen);
            seen = completed;
            next += Duration::from_secs(1);
        }
        thread::sleep(end.saturating_duration_since(Instant::now()));
    }

    fn order(&self, order: Order) {
        if let Some(running) = &self.running {
            for shard in 0..self.setup.options.shards() {
                // The box holds many more orders than there are.
                let _ = running.mail(ShardId(shard), order);
            }
        }
    }

    fn stop(&mut self) -> Result<(), RunError> {
        self.order(Order::Quit);
        self.running.take().map_or(Ok(()), |running| Ok(running.join()?))
    }

    fn ready(&self) -> u64 {
        self.progress.iter().map(|shard| shard.ready.get()).sum()
    }

    fn completed(&self) -> u64 {
        self.progress.iter().map(|shard| shard.completed.get()).sum()
    }

    /// The server's memory, where readers stall.
    fn memory(&self) -> Result<Option<MemoryStep>, RunError> {
        let Some(process) = self.process.as_ref().filter(|_| self.setup.options.stalled > 0) else { return Ok(None) };
        Ok(Some(MemoryStep { connections: self.ready(), resident_bytes: process.resident_bytes()? }))
    }

    fn usage(&self) -> Result<Option<Usage>, RunError> {
        Ok(self.process.as_ref().map(Process::usage).transpose()?)
    }
}

struct Opened {
    failed: u32,
}

fn config(setup: &Setup) -> Config {
    let options = &setup.options;
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let ip: IpAddr = if options.target.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let sockets = match options.proto {
        Proto::Tcp | Proto::Ws => Vec::new(),
        Proto::Udp => (0..options.amount.connections).map(|_| SocketConfig::new(any)).collect(),
        // One for all connections, on one shard.
        Proto::H3 | Proto::Webtransport => vec![SocketConfig::new(SocketAddr::new(ip, 0))],
        // One for all connections: their ids say which shard of ours they belong to.
        Proto::Quantum => {
            let steer = Some(Steer::keyed(options.shards(), tunnel::MULTIPLIER));
            vec![SocketConfig { steer, ..SocketConfig::new(SocketAddr::new(ip, 0)) }]
        }
    };
    Config {
        shards: options.shards(),
        cpus: options.cpus(),
        pin: options.cpu.is_some(),
        sockets,
        streams_max: setup.connections().div_ceil(options.shards().into()) + 1,
        spin_us: options.amount.spin_us,
        peer_addresses: false,
        ..Config::default()
    }
}

/// Asks for a guest's token as any client does: `POST /api/v1/guest`.
fn guest_token(target: SocketAddr) -> Result<String, RunError> {
    let ask = || -> Result<String, String> {
        let mut stream = TcpStream::connect_timeout(&target, TOKEN_PATIENCE).map_err(|error| error.to_string())?;
        stream.set_read_timeout(Some(TOKEN_PATIENCE)).map_err(|error| error.to_string())?;
        let body = r#"{"name":"load"}"#;
        let request = format!(
            "POST /api/v1/guest HTTP/1.1\r\nHost: {target}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).map_err(|error| error.to_string())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map_err(|error| error.to_string())?;
        parse_token(&answer)
    };
    ask().map_err(|reason| RunError::Token { target, reason })
}

fn parse_token(answer: &str) -> Result<String, String> {
    let status = answer.lines().next().unwrap_or_default();
    if !status.starts_with("HTTP/1.1 200") && !status.starts_with("HTTP/1.1 201") {
        return Err(format!("`{status}`"));
    }
    let (start, end) = (answer.find('{').unwrap_or(0), answer.rfind('}').map_or(0, |at| at + 1));
    let body: serde_json::Value =
        serde_json::from_str(answer.get(start..end).unwrap_or_default()).map_err(|error| error.to_string())?;
    body["token"].as_str().map(str::to_owned).ok_or_else(|| "an answer without a token".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_from_the_answer_or_the_reason_is_named() {
        let answer = "HTTP/1.1 200 OK\r\ncontent-length: 30\r\n\r\n{\"token\":\"abc\",\"user\":\"load\"}";
        assert_eq!(parse_token(answer), Ok("abc".to_owned()));
        assert_eq!(
            parse_token("HTTP/1.1 429 Too Many Requests\r\n\r\n"),
            Err("`HTTP/1.1 429 Too Many Requests`".into())
        );
        assert!(parse_token("HTTP/1.1 200 OK\r\n\r\n{}").is_err());
        assert!(parse_token("").is_err());
    }
}
