//! `ringshard-echo`: the plain echo server on our engine that `ringshard-load compare` measures beside other runtimes.

use std::{error::Error, net::SocketAddr, process::ExitCode, sync::Mutex};

use bench::{
    echo::Echo,
    options::{Contest, CpuList},
    site::Site,
};
use clap::Parser;
use engine::{Config, Listener, Socket};

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
    /// Bytes of a page, over HTTP/3.
    #[arg(long, default_value_t = 64)]
    bytes: usize,
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

fn serve(start: Start) -> Result<(), Box<dyn Error + Send + Sync>> {
    let contest = start.contest;
    if contest.is_web() && start.cpu.as_ref().is_some_and(|cpus| cpus.0.len() > 1) {
        return Err("over HTTP/3 there is one shard here".into());
    }
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
    let addr = if contest.is_udp() { bound.socket_addr(Socket(0)) } else { bound.listener_addr(Listener(0)) };
    let running = if contest.is_web() {
        // There is one shard, and so one site.
        let site = Mutex::new(Some(Site::new(addr, start.bytes)?));
        bound.start(move |_shard, _stats| site.lock().ok().and_then(|mut site| site.take()).expect("one shard"))?
    } else {
        bound.start(move |_shard, _stats| Echo::new(contest))?
    };
    println!("listening {addr}");
    Ok(running.join()?)
}
