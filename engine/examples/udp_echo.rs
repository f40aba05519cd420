//! A UDP echo server on the engine: trains in by GRO, trains out by GSO.

use std::{net::SocketAddr, time::Duration};

use clap::Parser;
use engine::{
    Config, Datagrams, Io, Outcome, Reactor, ShardId, Socket, SocketConfig, Stream, StreamEvent, Ticket, Train,
};

#[derive(Parser)]
struct Arguments {
    /// Shards; 0: one per core.
    #[arg(long, default_value_t = 1)]
    shards: u16,
    /// The CPU of each shard.
    #[arg(long, value_delimiter = ',')]
    cpu: Option<Vec<usize>>,
    /// Where to receive.
    #[arg(long, default_value = "127.0.0.1:9000")]
    addr: SocketAddr,
    /// Microseconds to spin before parking.
    #[arg(long, default_value_t = 0)]
    spin_us: u32,
    /// Print counters every so many seconds.
    #[arg(long)]
    stats_secs: Option<u64>,
}

struct Echo;

impl Reactor for Echo {
    type Mail = ();

    fn on_datagrams(&mut self, io: &mut Io<()>, socket: Socket, train: Datagrams<'_>) {
        let back = Train { to: train.peer, segment: train.segment as u16, ecn: train.ecn };
        io.send_train(socket, back, train.bytes);
    }

    fn on_stream(&mut self, _: &mut Io<()>, _: Stream, _: StreamEvent<'_>) {}
    fn on_disk(&mut self, _: &mut Io<()>, _: Ticket, _: Outcome) {}
    fn on_mail(&mut self, io: &mut Io<()>, _: ShardId, (): ()) {
        io.exit();
    }
    fn on_turn_end(&mut self, _: &mut Io<()>) {}
}

fn main() -> Result<(), engine::EngineError> {
    let arguments = Arguments::parse();
    let bound = engine::bind(Config {
        shards: arguments.shards,
        cpus: arguments.cpu,
        sockets: vec![SocketConfig::new(arguments.addr)],
        spin_us: arguments.spin_us,
        ..Config::default()
    })?;
    println!("listening {} shards {} cpus {:?}", bound.socket_addr(Socket(0)), bound.shards(), bound.cpus());
    let running = bound.start(|_, _| Echo)?;
    while !running.is_finished() {
        std::thread::sleep(Duration::from_secs(arguments.stats_secs.unwrap_or(3600)));
        for (shard, stats) in running.stats().iter().enumerate() {
            let text: Vec<String> =
                stats.each().filter(|(_, n)| *n > 0).map(|(name, n)| format!("{name}={n}")).collect();
            println!("shard {shard}: {}", text.join(" "));
        }
    }
    running.join()
}
