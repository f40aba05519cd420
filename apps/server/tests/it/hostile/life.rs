//! The server's own beginning and end: what keeps it from starting, and clients that are there when it stops.

use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::Command,
    sync::mpsc::channel,
    thread,
    time::{Duration, Instant},
};

use session::Server as Say;

use crate::{
    hostile::{
        talker::{Framed, Innocents, Talker, upgrade},
        wire::{Got, Wire},
    },
    process::{PATIENCE, Server, command},
};

/// Runs what must fail at once; its exit code and its words.
fn fails(mut command: Command) -> (Option<i32>, String) {
    let (sender, done) = channel();
    thread::spawn(move || sender.send(command.output()));
    let output = done.recv_timeout(PATIENCE).expect("it ends").expect("it runs");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "", "nothing is announced");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn what_keeps_it_from_starting_is_named() {
    let server = Server::start(&[]);
    let mut innocents = Innocents::enter(&server);
    let folder = tempfile::tempdir().expect("a folder");
    let data = |name: &str| folder.path().join(name);
    let mut cases = Vec::new();
    let mut case = |command: Command, words: &[&str]| {
        cases.push((command, words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>()));
    };
    let plain = server.plain.to_string();
    case(command(data("a"), &plain), &[&plain, "in use"]);
    case(command(server.data(), "127.0.0.1:0"), &["data directory", "is used by another server (process "]);
    let stranger = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = stranger.local_addr().expect("an address").to_string();
    case(command(data("b"), &taken), &[&taken, "in use"]);
    let mut admin = command(data("c"), "127.0.0.1:0");
    admin.env("RINGSHARD_LISTEN_ADMIN", server.admin.to_string());
    case(admin, &[&server.admin.to_string(), "listen.admin"]);
    let mut secure = command(data("d"), "127.0.0.1:0");
    secure.env("RINGSHARD_LISTEN_SECURE", server.secure.to_string());
    case(secure, &[&server.secure.to_string(), "in use"]);
    case(command(data("e"), "192.0.2.1:80"), &["192.0.2.1:80"]);
    fs::write(data("file"), "no directory").expect("written");
    case(command(data("file"), "127.0.0.1:0"), &["not a directory"]);
    case(command(Path::new("/proc/ringshard").into(), "127.0.0.1:0"), &["/proc/ringshard", "cannot make"]);
    let mut unknown = command(data("f"), "127.0.0.1:0");
    unknown.env("RINGSHARD_LIMITS_FRAME_BYTE", "1");
    case(unknown, &["RINGSHARD_LIMITS_FRAME_BYTE", "did you mean", "FRAME_BYTES"]);
    fs::write(data("wrong.toml"), "[limit]\nframe_bytes = 1\n").expect("written");
    let mut file = command(data("g"), "127.0.0.1:0");
    file.arg("--config").arg(data("wrong.toml"));
    case(file, &["wrong.toml:1", "limit"]);
    let mut missing = command(data("h"), "127.0.0.1:0");
    missing.arg("--config").arg(data("missing.toml"));
    case(missing, &["missing.toml"]);
    let mut secret = command(data("i"), "127.0.0.1:0");
    secret.env("RINGSHARD_AUTH_SECRET", "short");
    case(secret, &["auth.secret", "32"]);
    for (command, words) in cases {
        let (code, text) = fails(command);
        assert_eq!(code, Some(1), "{text}");
        let last = text.lines().find(|line| line.starts_with("ringshard: ")).unwrap_or_default();
        assert!(words.iter().all(|word| last.contains(word)), "{words:?}: {text}");
    }
    innocents.work();
}

#[test]
fn sigterm_tells_everybody_and_ends_in_time() {
    let mut server = Server::start(&[("RINGSHARD_SERVER_DRAIN_SECS", "10")]);
    let mut socket = Talker::enter(Wire::plain(&server), "ann", "chat/quiet");
    let mut secure = Talker::enter(Wire::secure(&server, b"http/1.1"), "bob", "chat/quiet");
    let mut framed = Framed::enter(Wire::plain(&server), "eve", "chat/quiet");
    let mut framed_secure = Framed::enter(Wire::secure(&server, b"ringshard/1"), "mallory", "chat/quiet");
    let mut kept = Wire::plain(&server);
    kept.send(b"GET /nowhere HTTP/1.1\r\nhost: a\r\n\r\n");
    assert!(matches!(kept.read(PATIENCE), Got::Bytes(_)));
    let mut second = Wire::secure(&server, b"h2");
    second.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00");
    let mut silent = Wire::plain(&server);
    let mut shaking = Wire::to(server.secure);
    let mut greeted = Talker::upgrade(Wire::plain(&server));
    // One that never reads and never closes must not hold up the end.
    let stalled = Talker::enter(Wire::plain(&server), "trent", "chat/quiet");
    socket.works();

    let start = Instant::now();
    server.signal("TERM");
    for talker in [&mut socket, &mut secure] {
        let goaway = talker.hear("goaway");
        assert!(goaway["reason"] == "draining" && goaway["retry_ms"].is_number(), "{goaway}");
        assert_eq!(talker.code(), 1001);
    }
    for framed in [&mut framed, &mut framed_secure] {
        framed.hear("a goaway", |message| matches!(message, Say::Goaway { .. }));
        framed.wire.rest(PATIENCE);
    }
    assert_eq!(greeted.code(), 1001);
    for wire in [&mut kept, &mut silent] {
        assert_eq!(wire.rest(PATIENCE), b"");
    }
    shaking.rest(PATIENCE);
    let goaway = second.rest(PATIENCE);
    assert!(goaway.windows(2).any(|frame| frame == [7, 0]), "no GOAWAY in {goaway:?}");
    assert_eq!(server.ended(Duration::from_secs(12)).code(), Some(0), "{}", server.log());
    assert!(start.elapsed() < Duration::from_secs(12), "{:?}", start.elapsed());
    assert!(std::net::TcpStream::connect(server.plain).is_err());
    drop(stalled);
}

#[test]
fn a_second_sigterm_stops_at_once() {
    let mut server = Server::start(&[("RINGSHARD_SERVER_DRAIN_SECS", "600")]);
    // An answer that nobody takes keeps the drain waiting.
    let mut wires: Vec<Wire> = (0..4).map(|_| Wire::plain(&server)).collect();
    for wire in &mut wires {
        wire.send("GET /assets/session.js HTTP/1.1\r\nhost: a\r\n\r\n".repeat(2000).as_bytes());
    }
    server.until("all answers wait", |server| server.metric("ringshard_queue_bytes{", "") > 4 * (32 << 10));
    let start = Instant::now();
    server.signal("TERM");
    server.until("draining", |server| server.admin("/readyz") == "draining\n");
    server.signal("TERM");
    assert_eq!(server.ended(Duration::from_secs(5)).code(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_drain_that_nobody_helps_ends_at_its_time() {
    let mut server = Server::start(&[("RINGSHARD_SERVER_DRAIN_SECS", "2")]);
    let mut wires: Vec<Wire> = (0..4).map(|_| Wire::plain(&server)).collect();
    for wire in &mut wires {
        wire.send("GET /assets/session.js HTTP/1.1\r\nhost: a\r\n\r\n".repeat(2000).as_bytes());
    }
    let mut late = Wire::plain(&server);
    late.send(&upgrade("").as_bytes()[..50]);
    server.until("all answers wait", |server| server.metric("ringshard_queue_bytes{", "") > 4 * (32 << 10));
    let start = Instant::now();
    server.signal("TERM");
    assert_eq!(server.ended(Duration::from_secs(8)).code(), Some(0), "{}", server.log());
    assert!(start.elapsed() >= Duration::from_secs(2), "{:?}", start.elapsed());
}
