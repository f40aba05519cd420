//! What mail between two shards costs: round trips spinning and parked, and one way in batches.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use clap::Parser;
use engine::{
    Config, Datagrams, EngineError, Io, Outcome, Reactor, ShardId, ShardStats, Socket, Stream, StreamEvent, Ticket,
};
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

/// Eight bytes, or as large as a topic's delivery: a stream, an offset, a shared body.
#[derive(Clone, Copy)]
struct Mail<const WORDS: usize> {
    number: u32,
    kind: Kind,
    _body: [u64; WORDS],
}

#[derive(Clone, Copy)]
enum Kind {
    Ping,
    Pong,
    Bulk,
    Exit,
    Trips,
    Total,
    P50,
    PerSecond,
}

fn mail<const WORDS: usize>(kind: Kind, number: u64) -> Mail<WORDS> {
    Mail { number: u32::try_from(number).unwrap_or(u32::MAX), kind, _body: [0; WORDS] }
}

struct Player<const WORDS: usize> {
    trips: u64,
    sent_at: Instant,
    times: Histogram<u64>,
    left: u64,
    total: u64,
    received: u64,
    started: Instant,
    burst: u64,
    stats: Arc<ShardStats>,
}

impl<const WORDS: usize> Player<WORDS> {
    fn ping(&mut self, io: &mut Io<Mail<WORDS>>) {
        self.sent_at = Instant::now();
        io.mail(ShardId(1), mail(Kind::Ping, 0));
    }

    fn pong(&mut self, io: &mut Io<Mail<WORDS>>) {
        self.times.saturating_record(self.sent_at.elapsed().as_nanos() as u64);
        self.trips -= 1;
        if self.trips > 0 {
            return self.ping(io);
        }
        io.mail(ShardId::CONTROL, mail(Kind::P50, self.times.value_at_quantile(0.5)));
    }

    fn bulk(&mut self, io: &mut Io<Mail<WORDS>>) {
        if self.received == 0 {
            self.started = Instant::now();
        }
        self.received += 1;
        if self.received == self.total {
            let per_second = self.received as f64 / self.started.elapsed().as_secs_f64();
            io.mail(ShardId::CONTROL, mail(Kind::PerSecond, per_second as u64));
        }
    }
}

impl<const WORDS: usize> Reactor for Player<WORDS> {
    type Mail = Mail<WORDS>;

    fn on_datagrams(&mut self, _: &mut Io<Mail<WORDS>>, _: Socket, _: Datagrams<'_>) {}
    fn on_stream(&mut self, _: &mut Io<Mail<WORDS>>, _: Stream, _: StreamEvent<'_>) {}
    fn on_disk(&mut self, _: &mut Io<Mail<WORDS>>, _: Ticket, _: Outcome) {}

    fn on_mail(&mut self, io: &mut Io<Mail<WORDS>>, from: ShardId, mail: Mail<WORDS>) {
        match mail.kind {
            Kind::Ping => io.mail(from, self::mail(Kind::Pong, 0)),
            Kind::Pong => self.pong(io),
            Kind::Bulk => self.bulk(io),
            Kind::Exit => io.exit(),
            Kind::Trips => {
                self.trips = u64::from(mail.number);
                self.ping(io);
            }
            Kind::Total => {
                self.total = u64::from(mail.number);
                self.left = if io.shard() == ShardId(0) { self.total } else { 0 };
            }
            Kind::P50 | Kind::PerSecond => {}
        }
    }

    fn on_turn_end(&mut self, io: &mut Io<Mail<WORDS>>) {
        // A sender that is faster than the receiver waits until its box has room, as an app does with its credits.
        if self.left > 0 && self.stats.mail_queued.get() == 0 {
            let burst = self.burst.min(self.left);
            (0..burst).for_each(|_| io.mail(ShardId(1), mail(Kind::Bulk, 0)));
            self.left -= burst;
        }
        io.wake_at((self.left > 0).then(|| io.now()));
    }
}

fn run<const WORDS: usize>(arguments: &Arguments, spin_us: u32, trips: u64, total: u64) -> Result<u64, EngineError> {
    let burst = arguments.slots as u64 / 4;
    let config = Config {
        shards: 2,
        cpus: Some(arguments.cpu.clone()),
        spin_us,
        mailbox_slots: arguments.slots,
        ..Config::default()
    };
    let running = engine::bind(config)?.start(move |_, stats| Player::<WORDS> {
        trips: 0,
        sent_at: Instant::now(),
        times: Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("a minute in nanoseconds"),
        left: 0,
        total: 0,
        received: 0,
        started: Instant::now(),
        burst,
        stats,
    })?;
    if total > 0 {
        let _ = running.mail(ShardId(1), mail(Kind::Total, total));
        std::thread::sleep(Duration::from_millis(50));
    }
    let first = if total > 0 { mail(Kind::Total, total) } else { mail(Kind::Trips, trips) };
    let _ = running.mail(ShardId(0), first);
    let result = running.control().recv_timeout(Duration::from_secs(120)).map(|(_, mail)| u64::from(mail.number));
    if arguments.counters {
        for (shard, stats) in running.stats().iter().enumerate() {
            let text: Vec<String> =
                stats.each().filter(|(_, n)| *n > 0).map(|(name, n)| format!("{name}={n}")).collect();
            println!("  shard {shard}: {}", text.join(" "));
        }
    }
    for shard in 0..2 {
        let _ = running.mail(ShardId(shard), mail(Kind::Exit, 0));
    }
    running.join()?;
    Ok(result.unwrap_or(0))
}

fn main() -> Result<(), EngineError> {
    let arguments = Arguments::parse();
    for (name, spin_us) in [("spinning", 1000), ("parked", 0)] {
        println!("round trip {name}: p50 {} ns", run::<0>(&arguments, spin_us, arguments.trips, 0)?);
    }
    let small = run::<0>(&arguments, 20, 0, arguments.messages)?;
    let large = run::<6>(&arguments, 20, 0, arguments.messages)?;
    println!("one way in batches: {:.1} M messages/s of 8 bytes", small as f64 / 1e6);
    println!("one way in batches: {:.1} M messages/s of 56 bytes", large as f64 / 1e6);
    Ok(())
}
