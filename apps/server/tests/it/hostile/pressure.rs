//! Clients that take long, come in crowds, or never read.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::{
    hostile::{
        talker::{Innocents, Talker, token, upgrade},
        wire::{self, Got, Wire},
    },
    process::{PATIENCE, Server},
};

/// Sends a byte now and then; how long it took until the server had enough of it.
fn dribble(mut wire: Wire, bytes: &[u8], pause: Duration) -> Duration {
    let start = Instant::now();
    for byte in bytes.iter().cycle() {
        wire.send(&[*byte]);
        if wire.read(pause) == Got::Closed {
            break;
        }
        assert!(start.elapsed() < PATIENCE, "still open after {:?}", start.elapsed());
    }
    start.elapsed()
}

#[test]
fn who_sends_a_byte_now_and_then_is_closed_in_time() {
    let server = Server::start(&[
        ("RINGSHARD_LIMITS_HELLO_SECS", "1"),
        ("RINGSHARD_LIMITS_HTTP_HEAD_SECS", "1"),
        ("RINGSHARD_LIMITS_IDLE_SECS", "5"),
        ("RINGSHARD_LIMITS_PING_SECS", "2"),
    ]);
    let mut innocents = Innocents::enter(&server);
    let mut handshake = bytes::BytesMut::new();
    wire::tls(&server, b"h2").take_output(&mut handshake);
    let head = upgrade("");
    let slow = Duration::from_millis(300);
    thread::scope(|scope| {
        let open = |wire: Wire, bytes: Vec<u8>| scope.spawn(move || dribble(wire, &bytes, slow));
        let mut headed = Wire::plain(&server);
        headed.send(tcp::PREFACE);
        let strangers = [
            open(Wire::plain(&server), tcp::PREFACE.to_vec()),
            open(Wire::plain(&server), head.as_bytes().to_vec()),
            open(Wire::to(server.secure), handshake.to_vec()),
            open(Wire::secure(&server, b"http/1.1"), head.as_bytes().to_vec()),
            open(Wire::secure(&server, b"ringshard/1"), vec![1, 1, 0, 0, 200, 0, 0, 0]),
            open(headed, vec![1, 1, 0, 0, 200, 0, 0, 0]),
            open(Talker::upgrade(Wire::plain(&server)).wire, vec![0x81, 0xfe, 4, 0]),
        ];
        let admin = open(Wire::to(server.admin), b"GET /healthz".to_vec());
        // Somebody who is known, with a frame that never ends: its bytes are no life.
        let eve =
            open(Talker::enter(Wire::plain(&server), "eve", "chat/loud").wire, vec![0x81, 0xfe, 0x20, 0, 0, 0, 0]);
        for (at, stranger) in strangers.into_iter().enumerate() {
            let took = stranger.join().expect("closed");
            assert!(took < Duration::from_secs(8), "stranger {at} was heard for {took:?}");
        }
        innocents.work();
        assert!(admin.join().expect("closed") < Duration::from_secs(15));
        assert!(eve.join().expect("closed") < Duration::from_secs(15));
    });
    assert!(server.dropped("hello_late") >= 2 && server.dropped("http") >= 1, "{}", server.admin("/metrics"));
}

#[test]
fn pings_below_the_messages_are_life() {
    let server = Server::start(&[("RINGSHARD_LIMITS_IDLE_SECS", "5"), ("RINGSHARD_LIMITS_PING_SECS", "2")]);
    let mut alive = Talker::enter(Wire::plain(&server), "ann", "chat/quiet");
    let mut silent = Talker::enter(Wire::plain(&server), "eve", "chat/quiet");
    thread::scope(|scope| {
        let end = scope.spawn(move || silent.wire.rest(PATIENCE));
        let start = Instant::now();
        // Neither of them answers the server's pings; one sends its own.
        while start.elapsed() < Duration::from_secs(7) {
            alive.wire.send(&[0x89, 0x80, 0, 0, 0, 0]);
            assert!(alive.wire.read(Duration::from_secs(1)) != Got::Closed);
        }
        assert!(end.join().expect("closed").windows(2).any(|code| code == 1008_u16.to_be_bytes()));
    });
    alive.works();
}

#[test]
fn a_crowd_of_half_open_connections_pushes_out_its_own_oldest() {
    const MAX: usize = 600;
    const EXCESS: usize = 1500;
    // Some systems give a process 1,024 descriptors only.
    let limits = fs::read_to_string("/proc/self/limits").expect("limits");
    let limit = limits.lines().find(|line| line.starts_with("Max open files")).expect("a line");
    let limit: usize = limit.split_whitespace().nth(3).and_then(|number| number.parse().ok()).unwrap_or(usize::MAX);
    let count = (2 * MAX + EXCESS).min(limit - 300);
    let max = MAX.min(count / 4);
    let server = Server::start(&[("RINGSHARD_LIMITS_HALF_OPEN_MAX", &max.to_string())]);
    let mut innocents = Innocents::enter(&server);
    let before = server.memory();
    let mut crowd: Vec<Wire> = (0..count).map(|_| Wire::plain(&server)).collect();
    server.until("all accepted", |server| server.metric("ringshard_engine_accepted_total", "") >= count as u64);
    server.until("all but the newest closed", |server| server.dropped("half_open_max") as usize >= count - 2 * max);
    assert!(server.metric("ringshard_half_open{", "") <= 2 * max as u64);
    assert!(server.memory() < before + (32 << 20), "{} KiB more", (server.memory() - before) >> 10);
    innocents.work();
    // Which shard each one is on is the kernel's choice; the first ones are beyond the limit of any.
    assert!(crowd[..count / 8].iter_mut().all(|wire| wire.read(PATIENCE) == Got::Closed));
    let mut newest = crowd.pop().expect("many");
    newest.send(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    assert!(newest.text().starts_with("HTTP/1.1 200 "));
    drop(crowd);
    server.until("none half open", |server| server.metric("ringshard_half_open{", "") == 0);
    innocents.work();
}

#[test]
fn connections_beyond_the_limit_are_closed_at_once() {
    let server = Server::start(&[("RINGSHARD_SERVER_CONNECTIONS_MAX", "20")]);
    let mut innocents = Innocents::enter(&server);
    let mut crowd: Vec<Wire> = (0..60).map(|_| Wire::plain(&server)).collect();
    server.until("all beyond 20 for each shard are closed", |server| server.dropped("connections_max") >= 22);
    assert!(server.metric("ringshard_connections{", "") <= 40);
    innocents.work();
    crowd.clear();
    server.until("there is room again", |server| server.metric("ringshard_connections{", "") == 2);
    let mut later = Talker::enter(Wire::plain(&server), "eve", "chat/loud");
    later.works();
    innocents.work();
}

#[test]
fn who_never_reads_lags_and_is_closed_while_others_get_everything() {
    let server = Server::start(&[
        ("RINGSHARD_LIMITS_MESSAGES_PER_SEC", "1000000"),
        ("RINGSHARD_LIMITS_MESSAGES_BURST", "1000000"),
        ("RINGSHARD_LIMITS_IDLE_SECS", "6"),
        // Nothing is old enough to go, however long the stalled ones take.
        ("RINGSHARD_JOURNAL_TOPIC_BYTES", "17179869184"),
        ("RINGSHARD_LIMITS_PING_SECS", "2"),
    ]);
    let mut innocents = Innocents::enter(&server);
    let mut speaker = Talker::enter(Wire::plain(&server), "ann", "chat/loud");
    let mut reader = Talker::enter(Wire::plain(&server), "bob", "chat/loud");
    let mut stalled = Talker::enter(Wire::plain(&server), "eve", "chat/loud");
    let mut stalled_secure = Talker::enter(Wire::secure(&server, b"http/1.1"), "mallory", "chat/loud");
    let before = server.memory();
    let text = "\u{1f40c}".repeat(4000);
    let (mut last, mut most) = (0, 0);
    let mut say = |count: u64| {
        for _ in 0..count {
            speaker.say(&json!({"kind": "pub", "id": 9, "topic": "chat/loud", "body": {"type": "text", "text": text}}));
        }
        for _ in 0..count {
            assert_eq!(speaker.answer(9)["kind"], "pub_ok");
            let heard = reader.hear("msg");
            last += 1;
            assert!(heard["offset"] == last && heard["body"]["text"] == *text, "{last} is missing");
        }
        last
    };
    // Until the kernel takes no more for them either.
    while server.metric("ringshard_lagging_total", "") < 2 {
        assert!(say(20) < 6000, "nobody stalls after 96 MB:\n{}", server.admin("/metrics"));
        most = most.max(server.memory());
        innocents.work();
    }
    while server.dropped("idle") < 2 {
        say(20);
        innocents.work();
        most = most.max(server.memory());
        // A chunk or two for those who stall; the figure may be of a moment at which twenty messages were on their way to the reader.
        assert!(server.metric("ringshard_queue_bytes{", "") < 1 << 20);
    }
    assert!(server.metric("ringshard_lagging_total", "") >= 2);
    assert!(most < before + (32 << 20), "{} KiB more", (most - before) >> 10);
    server.until("only four are open", |server| server.metric("ringshard_sessions{", "") == 4);
    // What the kernel had is still there; then it ends without a goodbye.
    while stalled.read(PATIENCE) {}
    while stalled_secure.read(PATIENCE) {}
    // Who comes back gets all that it missed: what memory holds no more comes from the disk.
    let mut eve = Talker::upgrade(Wire::plain(&server));
    let subs = json!([{"topic": "chat/loud", "after": 1}]);
    eve.say(&json!({"kind": "hello", "id": 1, "token": token("eve"), "device": "d", "subs": subs}));
    let welcome = eve.hear("welcome");
    for offset in 2..=welcome["subs"][0]["head"].as_u64().expect("a number") {
        assert_eq!(eve.hear("msg")["offset"], offset);
    }
    innocents.work();
}

#[test]
fn who_asks_and_never_reads_the_answers_is_closed() {
    let server = Server::start(&[
        ("RINGSHARD_LIMITS_MESSAGES_PER_SEC", "1000000"),
        ("RINGSHARD_LIMITS_MESSAGES_BURST", "1000000"),
        ("RINGSHARD_LIMITS_REQUESTS_INFLIGHT", "4096"),
    ]);
    let mut innocents = Innocents::enter(&server);
    let mut eve = Talker::enter(Wire::plain(&server), "eve", "chat/loud");
    let text = "\u{1f40c}".repeat(4000);
    for id in 2..50 {
        eve.say(&json!({"kind": "pub", "id": id, "topic": "chat/loud", "body": {"type": "text", "text": text}}));
        assert_eq!(eve.answer(id)["kind"], "pub_ok");
    }
    let before = server.memory();
    eve.wire.stream.set_write_timeout(Some(Duration::from_secs(1))).expect("set");
    let start = Instant::now();
    let mut most = 0;
    while server.dropped("queue_full") == 0 {
        for id in 100..120 {
            eve.say(
                &json!({"kind": "req", "id": id, "op": "chat.history", "body": {"topic": "chat/loud", "limit": 50}}),
            );
        }
        most = most.max(server.memory());
        assert!(start.elapsed() < PATIENCE, "{}", eve.said());
    }
    assert!(most < before + (48 << 20), "{} KiB more", (most - before) >> 10);
    innocents.work();
}
