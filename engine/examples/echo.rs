//! A TCP echo server on the engine: what the engine itself costs, without any protocol.

use std::{net::SocketAddr, time::Duration};

use clap::Parser;
use engine::{
    Config, Datagrams, Io, Listener, ListenerConfig, Outcome, Reactor, ShardId, Socket, Stream, StreamEvent, Ticket,
};

#[derive(Parser)]
struct Arguments {
    /// Shards; 0: one per core.
    #[arg(long, default_value_t = 1)]
    shards: u16,
    /// The CPU of each shard.
    #[arg(long, value_delimiter = ',')]
    cpu: Option<Vec<usize>>,
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:9000")]
    addr: SocketAddr,
    /// Microseconds to spin before parking.
    #[arg(long, default_value_t = 0)]
    spin_us: u32,
    /// Accept without the peers' addresses, by multishot.
    #[arg(long)]
    no_peers: bool,
    /// Bytes per receive buffer.
    #[arg(long, default_value_t = 8192)]
    buffer_bytes: u32,
    /// Use no kernel feature newer than this, such as 5.19.
    #[arg(long)]
    kernel_max: Option<String>,
    /// Print counters every so many seconds.
    #[arg(long)]
    stats_secs: Option<u64>,
}

struct Echo;

impl Reactor for Echo {
    type Mail = ();

    fn on_datagrams(&mut self, _: &mut Io<()>, _: Socket, _: Datagrams<'_>) {}

    fn on_stream(&mut self, io: &mut Io<()>, stream: Stream, event: StreamEvent<'_>) {
        match event {
            StreamEvent::Data(bytes) => io.send_slice(stream, bytes),
            StreamEvent::Ended => io.shutdown(stream),
            _ => {}
        }
    }

    fn on_disk(&mut self, _: &mut Io<()>, _: Ticket, _: Outcome) {}
    fn on_mail(&mut self, io: &mut Io<()>, _: ShardId, (): ()) {
        io.exit();
    }
    fn on_turn_end(&mut self, _: &mut Io<()>) {}
}

fn main() -> Result<(), engine::EngineError> {
    let arguments = Arguments::parse();
    let kernel_max = arguments.kernel_max.as_deref().and_then(engine::Kernel::parse).map(|k| (k.0, k.1));
    let bound = engine::bind(Config {
        shards: arguments.shards,
        cpus: arguments.cpu,
        listeners: vec![ListenerConfig::new(arguments.addr)],
        spin_us: arguments.spin_us,
        receive_buffer_bytes: arguments.buffer_bytes,
        peer_addresses: !arguments.no_peers,
        kernel_max,
        ..Config::default()
    })?;
    println!("listening {} shards {} cpus {:?}", bound.listener_addr(Listener(0)), bound.shards(), bound.cpus());
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
