//! Connections over their life: addresses that change, steering, a server that stops, certificates that change.

use std::time::Duration;

use session::Server as Told;

use super::talker::Quantum;
use crate::process::{PATIENCE, Server};

#[test]
fn a_client_that_gets_another_port_keeps_its_session() {
    let server = Server::start(&[]);
    let mut users: Vec<_> =
        (0..8).map(|n| Quantum::enter(&server, &format!("user{n}"), &format!("chat/r{n}"))).collect();
    for _ in 0..3 {
        for user in &mut users {
            user.works();
            user.wire.rebind().expect("a socket");
            user.works();
        }
    }
    assert!(users.iter().all(|user| user.closed.is_none()));
    assert_eq!(server.metric("ringshard_connections{", "transport=\"quantum\""), 8);
    assert_eq!(server.metric("ringshard_steer_forwarded_total", ""), 0, "the id steers, not the address");
    drop(users);
}

#[test]
fn many_connections_reach_their_shards_without_a_detour() {
    let server = Server::start(&[]);
    let mut users: Vec<_> =
        (0..100).map(|n| Quantum::enter(&server, &format!("user{n}"), &format!("chat/r{n}"))).collect();
    users.iter_mut().for_each(Quantum::works);
    assert_eq!(server.metric("ringshard_quantum_connections", ""), 100);
    assert_eq!(server.metric("ringshard_steer_forwarded_total", ""), 0);
    let shards: serde_json::Value = serde_json::from_str(&server.admin("/shards")).expect("JSON");
    let each: Vec<u64> = (0..2).filter_map(|shard| shards["shards"][shard]["quantum"].as_u64()).collect();
    assert!(each.iter().sum::<u64>() == 100 && each.iter().all(|count| *count > 20), "{each:?}");
    for user in &mut users {
        user.wire.client().close(std::time::Instant::now());
        user.wire.send().expect("sent");
    }
    server.until("empty", |server| server.metric("ringshard_sessions{", "") == 0);
    server.until("forgotten", |server| server.metric("ringshard_quantum_connections", "") == 0);
}

/// Each connection moves twice and speaks before and after; `RINGSHARD_STEERED` says how many do (each takes a descriptor).
#[test]
fn whoever_moves_reaches_its_shard_without_a_detour() {
    let count = std::env::var("RINGSHARD_STEERED").map_or(500, |count| count.parse().expect("a number"));
    let server = Server::start(&[("RINGSHARD_SERVER_SHARDS", "2")]);
    let mut users: Vec<_> =
        (0..count).map(|n| Quantum::enter(&server, &format!("user{n}"), &format!("chat/r{n}"))).collect();
    for _ in 0..2 {
        for user in &mut users {
            user.wire.rebind().expect("a socket");
            user.works();
        }
    }
    assert!(users.iter().all(|user| user.closed.is_none()));
    assert_eq!(server.metric("ringshard_quantum_connections", ""), count);
    let (forwarded, moves) = (server.metric("ringshard_steer_forwarded_total", ""), 2 * count);
    println!("{count} connections, {moves} moves, {forwarded} datagrams forwarded");
    assert_eq!(forwarded, 0, "none came to the wrong shard");
}

#[test]
fn a_server_that_stops_tells_its_clients_and_ends_their_lanes() {
    let mut server = Server::start(&[]);
    let mut user = Quantum::enter(&server, "ada", "chat/last");
    user.works();
    server.signal("TERM");
    user.hear("a goaway", |message| matches!(message, Told::Goaway { .. }).then_some(()));
    user.until("ended", |user| user.ended || user.closed.is_some());
    user.until("closed", |user| user.closed.is_some());
    assert!(server.ended(PATIENCE).success());
}

#[test]
fn a_client_that_is_gone_is_noticed_and_one_that_is_only_silent_is_kept() {
    let settings = [
        ("RINGSHARD_QUANTUM_IDLE_SECS", "4"),
        ("RINGSHARD_LIMITS_PING_SECS", "1"),
        ("RINGSHARD_LIMITS_IDLE_SECS", "5"),
    ];
    let server = Server::start(&settings);
    let mut gone = Quantum::enter(&server, "gone", "chat/silent");
    let mut silent = Quantum::enter(&server, "silent", "chat/silent");
    gone.wire.client().vanish();
    for _ in 0..80 {
        silent.turn(Duration::from_millis(100));
    }
    assert_eq!(server.metric("ringshard_sessions{", ""), 1);
    silent.works();
}

#[test]
fn who_says_no_hello_is_closed_in_time() {
    let server = Server::start(&[("RINGSHARD_LIMITS_HELLO_SECS", "1")]);
    let mut stranger = Quantum::connect(&server);
    stranger.until("closed", |stranger| stranger.closed.is_some());
    server.until("forgotten", |server| server.metric("ringshard_quantum_connections", "") == 0);
}
