//! `ringshard-echo`: the plain echo server on our engine that `ringshard-load compare` measures beside other runtimes.

use std::{net::SocketAddr, process::ExitCode};

use bench::{
    echo::Echo,
    options::{Contest, CpuList},
};
use clap::Parser;
use engine::{Config, EngineError, Listener, Socket};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A plain echo server on Ringshard's engine; it runs until it is ended.
#[derive(Parser)]
#[command(name = "ringshard-echo", version)]
struct Start {
    /// What to echo.
    #[arg(value_enum)]
    contest: Contest,
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:0")]
    addr: SocketAddr,
    /// The cores, one shard on each; by default one shard, not pinned.
    #[arg(long)]
    cpu: Option<CpuList>,
    /// Microseconds to look for work before a shard sleeps.
    #[arg(long, default_value_t = Config::default().spin_us)]
    spin_us: u32,
}

fn main() -> ExitCode {
    match serve(Start::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ringshard-echo: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(start: Start) -> Result<(), EngineError> {
    let contest = start.contest;
    let (listeners, sockets) = Echo::addresses(contest, start.addr);
    let bound = engine::bind(Config {
        shards: start.cpu.as_ref().map_or(1, |cpus| u16::try_from(cpus.0.len()).unwrap_or(u16::MAX)),
        pin: start.cpu.is_some(),
        cpus: start.cpu.map(|cpus| cpus.0),
        listeners,
        sockets,
        spin_us: start.spin_us,
        peer_addresses: false,
        ..Config::default()
    })?;
    let addr = match contest {
        Contest::UdpEcho => bound.socket_addr(Socket(0)),
        Contest::TcpEcho | Contest::WsEcho => bound.listener_addr(Listener(0)),
    };
    let running = bound.start(move |_shard, _stats| Echo::new(contest))?;
    println!("listening {addr}");
    running.join()
}
