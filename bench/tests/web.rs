//! HTTP/3 and WebTransport over real sockets: the load against our plain server, every kind of exchange.

use std::{net::SocketAddr, sync::Mutex};

use bench::{
    connection::Scenario,
    options::{Action, Command},
    report::Result,
    run,
    site::Site,
};
use clap::Parser;
use engine::{Config, Running, Socket, SocketConfig};

/// Our server with pages of so many bytes.
fn serve(page_bytes: usize) -> (SocketAddr, Running<()>) {
    let addr = "127.0.0.1:0".parse().expect("an address");
    let config = Config { shards: 1, sockets: vec![SocketConfig::new(addr)], ..Config::default() };
    let bound = engine::bind(config).expect("a ring and a socket");
    let addr = bound.socket_addr(Socket(0));
    let site = Mutex::new(Some(Site::new(addr, page_bytes).expect("a certificate")));
    let running = bound.start(move |_, _| site.lock().expect("unpoisoned").take().expect("one shard"));
    (addr, running.expect("a thread"))
}

fn load(scenario: &str, addr: SocketAddr, flags: &str) -> Result {
    let line = format!("load {scenario} --raw --target {addr} --secs 0.2 --warmup 0.1 --connections 3 {flags}");
    let (scenario, options) = match Command::parse_from(line.split_whitespace()).action {
        Action::Echo(options) => (Scenario::Echo, options),
        Action::Idle(options) => (Scenario::Idle, options),
        other => panic!("{other:?}"),
    };
    run::run(scenario, options).expect("a result").result()
}

#[test]
fn every_exchange_is_answered_and_none_is_lost() {
    let (addr, _running) = serve(3_000);
    for flags in [
        "--proto h3 --inflight 8",
        "--proto h3 --post --size 100 --inflight 8",
        "--proto h3 --post --size 50000",
        "--proto webtransport --stream --size 100 --inflight 8",
        "--proto webtransport --size 100 --inflight 4",
        "--proto webtransport --size 100 --rate 1000",
    ] {
        let result = load("echo", addr, flags);
        assert!(result.completed > 0 && result.faults.is_empty(), "{flags}: {}", result.summary());
        assert_eq!((result.account.lost, result.account.duplicates, result.corrupt), (0, 0, 0), "{flags}");
        if flags == "--proto h3 --inflight 8" {
            let (answers, bytes) = (result.completed_per_s, result.received_bytes_per_s);
            assert!((bytes / answers / 3_000.0 - 1.0).abs() < 0.1, "{}", result.summary());
        }
    }
}

#[test]
fn idle_connections_and_sessions_are_held() {
    let (addr, _running) = serve(0);
    for flags in ["--proto h3 --steps 2", "--proto webtransport --steps 2"] {
        let result = load("idle", addr, flags);
        assert!(result.connections_failed == 0 && result.faults.is_empty(), "{flags}: {}", result.summary());
    }
}
