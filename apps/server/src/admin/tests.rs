//! The admin listener over real sockets: what it answers, and what it does with rude clients.

use std::{fs, sync::mpsc, time::SystemTime};

use tempfile::TempDir;

use super::*;
use crate::{
    account::Accounts,
    config,
    housekeeping::{Credentials, Job},
    login::LoginBook,
    metrics::ShardView,
};

/// How long something may take at most that is done once a second.
const PATIENCE: Duration = Duration::from_secs(30);

/// A listener on loopback, its address and its state.
fn start() -> (TempDir, SocketAddr, Arc<State>) {
    start_with(|_| ())
}

/// The same after something has happened to the logins.
fn start_with(happens: impl FnOnce(&mut LoginBook)) -> (TempDir, SocketAddr, Arc<State>) {
    let folder = tempfile::tempdir().expect("a folder");
    let loaded = config::Sources {
        environment: vec![("RINGSHARD_AUTH_SECRET".into(), "0123456789abcdef0123456789abcdef".into())],
        ..config::Sources::default()
    };
    let loaded = loaded.load().expect("valid");
    let auth = &loaded.config.auth;
    let accounts = Accounts::open(folder.path(), auth).expect("opened");
    let mut logins = LoginBook::open(folder.path(), auth, Arc::default(), 0, |_| true).expect("opened");
    happens(&mut logins);
    let (housekeeper, _) = Housekeeper::start(accounts, logins, auth, Arc::default(), Vec::new()).expect("started");
    let views = (0..2).map(|_| ShardView::default()).collect();
    let state = Arc::new(State {
        stats: Arc::new(Stats::new(views, 0, Instant::now())),
        readiness: Arc::default(),
        config: ArcSwap::from_pointee(config::print(&loaded)),
        logger: crate::log::silent(&loaded.config.log),
        housekeeper,
    });
    let listener = bind("127.0.0.1:0".parse().expect("an address")).expect("listening");
    let address = listener.local_addr().expect("bound");
    serve(listener, Arc::clone(&state)).expect("serving");
    (folder, address, state)
}

/// Sends bytes and reads all that comes back.
fn send(address: SocketAddr, bytes: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("connected");
    stream.write_all(bytes.as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("text");
    answer
}

fn ask(address: SocketAddr, request: &str) -> (u16, String) {
    let answer = send(address, &format!("{request} HTTP/1.1\r\nHost: x\r\n\r\n"));
    let status = answer[9..12].parse().expect("a status");
    (status, answer.split_once("\r\n\r\n").expect("a body").1.to_owned())
}

#[test]
fn it_is_not_ready_while_logins_cannot_be_written() {
    let (folder, address, state) = start_with(LoginBook::be_unsynced);
    state.readiness.set(Phase::Ready);
    assert_eq!(ask(address, "GET /readyz"), (200, "ready\n".into()));
    // Nor can the file be written anew: something is in its place.
    let path = folder.path().join("logins.jsonl");
    fs::remove_file(&path).and_then(|()| fs::create_dir(&path)).expect("replaced");
    let (sender, outcome) = mpsc::channel();
    let (name, password, from) = ("ada".to_owned(), "long enough".to_owned(), address.ip());
    let register = Job::Register(Credentials { name, password, address: from });
    state.housekeeper.submit(register, Box::new(move |outcome| drop(sender.send(outcome)))).expect("room");
    outcome.recv_timeout(PATIENCE).expect("answered").answer.expect_err("not on disk");
    let (status, why) = ask(address, "GET /readyz");
    assert_eq!((status, why.starts_with("logins.jsonl: "), why.lines().count()), (503, true, 1), "{why}");
    fs::remove_dir(&path).expect("removed");
    let deadline = Instant::now() + PATIENCE;
    while ask(address, "GET /readyz").0 != 200 {
        assert!(Instant::now() < deadline, "it is ready again by itself");
    }
}

#[test]
fn it_is_ready_only_between_start_and_drain() {
    let (_folder, address, state) = start();
    assert_eq!(ask(address, "GET /healthz"), (200, "ok\n".into()));
    assert_eq!(ask(address, "GET /readyz"), (503, "starting\n".into()));
    state.readiness.set(Phase::Ready);
    assert_eq!(ask(address, "GET /readyz"), (200, "ready\n".into()));
    state.readiness.set(Phase::Draining);
    assert_eq!(ask(address, "GET /readyz"), (503, "draining\n".into()));
}

#[test]
fn figures_shards_and_configuration_are_shown_without_secrets() {
    let (_folder, address, state) = start();
    state.stats.shards()[1].server.messages_in.add(3);
    let (status, metrics) = ask(address, "GET /metrics");
    assert!(status == 200 && metrics.contains("ringshard_messages_received_total{shard=\"1\"} 3"), "{metrics}");
    assert!(metrics.contains("\nringshard_accounts 0\n"));
    let (status, shards) = ask(address, "GET /shards");
    let shards: serde_json::Value = serde_json::from_str(&shards).expect("JSON");
    assert_eq!((status, &shards["shards"][1]["messages_in"]), (200, &3.into()));
    assert!(shards["at_ms"].as_u64() > SystemTime::UNIX_EPOCH.elapsed().ok().map(|since| since.as_secs()));
    let (status, config) = ask(address, "GET /config");
    assert!(status == 200 && config.contains("[limits]") && !config.contains("0123456789abcdef"), "{config}");
    assert!(ask(address, "GET /nowhere").1.contains("/metrics"));
}

#[test]
fn the_log_level_is_changed_by_post_and_not_by_web_pages() {
    let (_folder, address, state) = start();
    assert_eq!(ask(address, "GET /debug/log?level=trace"), (200, "{\"level\":\"info\"}\n".into()));
    assert_eq!(ask(address, "POST /debug/log?level=debug"), (200, "{\"level\":\"debug\"}\n".into()));
    assert_eq!(state.logger.level(), config::Level::Debug);
    assert_eq!(ask(address, "POST /debug/log?level=loud").0, 400);
    let foreign =
        send(address, "POST /debug/log?level=trace HTTP/1.1\r\nHost: x\r\nOrigin: http://evil.example\r\n\r\n");
    assert!(foreign.starts_with("HTTP/1.1 403 "), "{foreign}");
    assert_eq!(state.logger.level(), config::Level::Debug);
    assert_eq!(ask(address, "DELETE /debug/log").0, 405);
    assert_eq!(ask(address, "POST /metrics").0, 405);
}

#[test]
fn garbage_large_and_head_requests_are_answered_plainly() {
    let (_folder, address, _state) = start();
    assert!(send(address, "\x01\x02 nonsense\r\n\r\n").starts_with("HTTP/1.1 400 "));
    assert!(
        send(address, &format!("GET / HTTP/1.1\r\nx: {}", "y".repeat(HEAD_BYTES_MAX))).starts_with("HTTP/1.1 431 ")
    );
    let many = "a: b\r\n".repeat(HEADERS_MAX + 1);
    assert!(send(address, &format!("GET / HTTP/1.1\r\n{many}\r\n")).starts_with("HTTP/1.1 400 "));
    let head = send(address, "HEAD /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(head.contains("content-length: 3\r\n") && head.ends_with("\r\n\r\n"), "{head}");
}

#[test]
fn silent_clients_are_bounded_and_leave_in_time() {
    let (_folder, address, _state) = start();
    let connect = || TcpStream::connect(address).expect("connected");
    let mut silent: Vec<TcpStream> = (0..CONNECTIONS_MAX).map(|_| connect()).collect();
    let refused = || {
        let mut stream = connect();
        stream.set_read_timeout(Some(Duration::from_millis(200))).expect("set");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).is_ok() && answer.starts_with("HTTP/1.1 503 ")
    };
    // The places are taken as soon as the listener's thread got to them.
    assert!((0..20).any(|_| refused()), "more than {CONNECTIONS_MAX} connections");
    let (start, mut answer) = (Instant::now(), String::new());
    silent[0].read_to_string(&mut answer).expect("text");
    assert!(answer.starts_with("HTTP/1.1 408 ") && start.elapsed() < REQUEST_MAX * 2, "{answer}");
    drop(silent);
    let works = || send(address, "GET /healthz HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 200 ");
    assert!(
        (0..50).any(|_| works() || {
            thread::sleep(Duration::from_millis(100));
            false
        }),
        "places are given back"
    );
}

#[test]
fn an_address_in_use_is_named() {
    let (_folder, address, _state) = start();
    let text = bind(address).expect_err("in use").to_string();
    assert!(text.starts_with(&format!("listen.admin = {address}: Address already in use")), "{text}");
}
