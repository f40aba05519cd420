//! What mail between two shards costs: round trips spinning and parked, and one way in batches.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use clap::Parser;
use engine::{Config, Datagrams, Io, Outcome, Reactor, ShardId, ShardStats, Socket, Stream, StreamEvent, Ticket};
use hdrhistogram::Histogram;

#[derive(Parser)]
struct Arguments {
    /// The CPUs of the two shards.
    #[arg(long, value_delimiter = ',', default_value = "0,1")]
    cpu: Vec<usize>,
    /// Round trips to measure.
    #[arg(long, default_value_t = 100_000)]
    trips: u64,
    /// Messages to send one way.
    #[arg(long, default_value_t = 50_000_000)]
    messages: u64,
    /// Mail that fits in a box.
    #[arg(long, default_value_t = 1024)]
    slots: usize,
    /// Print the shards' counters after every run.
    #[arg(long)]
    counters: bool,
}

/// Mail as large as a small frame's handle: a stream, an offset, a shared body.
struct Mail {
    kind: Kind,
    _body: [u64; 3],
}

#[derive(Clone, Copy)]
enum Kind {
    Ping,
    Pong,
    Bulk,
    Start(u64, u64),
    Result { p50_ns: u64, p99_ns: u64, per_second: u64 },
    Exit,
}

fn mail(kind: Kind) -> Mail {
    Mail { kind, _body: [0; 3] }
}

struct Player {
    trips: u64,
    sent_at: Instant,
    times: Histogram<u64>,
    bulk: u64,
    bulk_total: u64,
    received: u64,
    started: Instant,
    burst: u64,
    stats: Arc<ShardStats>,
}

impl Player {
    fn ping(&mut self, io: &mut Io<Mail>) {
        self.sent_at = Instant::now();
        io.mail(ShardId(1), mail(Kind::Ping));
    }

    fn pong(&mut self, io: &mut Io<Mail>) {
        let nanos = self.sent_at.elapsed().as_nanos() as u64;
        self.times.saturating_record(nanos);
        self.trips -= 1;
        if self.trips > 0 {
            return self.ping(io);
        }
        let (p50_ns, p99_ns) = (self.times.value_at_quantile(0.5), self.times.value_at_quantile(0.99));
        self.times.reset();
        io.mail(ShardId::CONTROL, mail(Kind::Result { p50_ns, p99_ns, per_second: 0 }));
    }

    fn bulk(&mut self, io: &mut Io<Mail>) {
        if self.received == 0 {
            self.started = Instant::now();
        }
        self.received += 1;
        if self.received == self.bulk_total {
            let per_second = (self.received as f64 / self.started.elapsed().as_secs_f64()) as u64;
            self.received = 0;
            io.mail(ShardId::CONTROL, mail(Kind::Result { p50_ns: 0, p99_ns: 0, per_second }));
        }
    }
}

impl Reactor for Player {
    type Mail = Mail;

    fn on_datagrams(&mut self, _: &mut Io<Mail>, _: Socket, _: Datagrams<'_>) {}
    fn on_stream(&mut self, _: &mut Io<Mail>, _: Stream, _: StreamEvent<'_>) {}
    fn on_disk(&mut self, _: &mut Io<Mail>, _: Ticket, _: Outcome) {}

    fn on_mail(&mut self, io: &mut Io<Mail>, from: ShardId, mail: Mail) {
        match mail.kind {
            Kind::Ping => io.mail(from, self::mail(Kind::Pong)),
            Kind::Pong => self.pong(io),
            Kind::Bulk => self.bulk(io),
            Kind::Start(trips, bulk) => {
                (self.trips, self.bulk, self.bulk_total) = (trips, bulk, bulk);
                if trips > 0 && io.shard() == ShardId(0) {
                    self.ping(io);
                }
            }
            Kind::Result { .. } => {}
            Kind::Exit => io.exit(),
        }
    }

    fn on_turn_end(&mut self, io: &mut Io<Mail>) {
        if io.shard() == ShardId(0) && self.bulk > 0 {
            // A sender that is faster than the receiver waits until its box has room, as an app does with its credits.
            let room = self.stats.mail_queued.get() == 0;
            let burst = if room { self.burst.min(self.bulk) } else { 0 };
            (0..burst).for_each(|_| io.mail(ShardId(1), mail(Kind::Bulk)));
            self.bulk -= burst;
        }
        io.wake_at((io.shard() == ShardId(0) && self.bulk > 0).then(|| io.now()));
    }
}

fn run(arguments: &Arguments, spin_us: u32, trips: u64, bulk: u64) -> Result<Kind, engine::EngineError> {
    let burst = arguments.slots as u64 / 4;
    let config = Config {
        shards: 2,
        cpus: Some(arguments.cpu.clone()),
        spin_us,
        mailbox_slots: arguments.slots,
        ..Config::default()
    };
    let running = engine::bind(config)?.start(move |_, stats| Player {
        trips: 0,
        sent_at: Instant::now(),
        times: Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("a minute in nanoseconds"),
        bulk: 0,
        bulk_total: 0,
        received: 0,
        started: Instant::now(),
        burst,
        stats,
    })?;
    let _ = running.mail(ShardId(1), mail(Kind::Start(0, bulk)));
    std::thread::sleep(Duration::from_millis(50));
    let _ = running.mail(ShardId(0), mail(Kind::Start(trips, bulk)));
    let result = running.control().recv_timeout(Duration::from_secs(120)).map(|(_, mail)| mail.kind);
    if arguments.counters {
        for (shard, stats) in running.stats().iter().enumerate() {
            let text: Vec<String> =
                stats.each().filter(|(_, n)| *n > 0).map(|(name, n)| format!("{name}={n}")).collect();
            println!("  shard {shard}: {}", text.join(" "));
        }
    }
    (0..2).for_each(|shard| drop(running.mail(ShardId(shard), mail(Kind::Exit))));
    running.join()?;
    Ok(result.unwrap_or(Kind::Exit))
}

fn main() -> Result<(), engine::EngineError> {
    let arguments = Arguments::parse();
    for (name, spin_us) in [("spinning", 1000), ("parked", 0)] {
        if let Kind::Result { p50_ns, p99_ns, .. } = run(&arguments, spin_us, arguments.trips, 0)? {
            println!("round trip {name}: p50 {p50_ns} ns, p99 {p99_ns} ns");
        }
    }
    if let Kind::Result { per_second, .. } = run(&arguments, 20, 0, arguments.messages)? {
        println!("one way in batches: {:.1} M messages/s", per_second as f64 / 1e6);
    }
    Ok(())
}
