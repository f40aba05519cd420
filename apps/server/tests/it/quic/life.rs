//! Connections over their life: addresses that change, tickets on every shard, a server that stops, certificates.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use quic::{CloseReason, StreamId, h3};
use session::{Client as Say, Server as Told};

use super::talker::{Http3, Line, User, tls};
use crate::{
    process::{PATIENCE, Server},
    quantum::talker::Quantum,
};

#[test]
fn a_client_that_gets_another_port_keeps_its_session() {
    let server = Server::start(&[]);
    let mut users: Vec<_> = (0..8)
        .map(|n| {
            let user = if n % 2 == 0 { User::raw(&server) } else { User::web(&server) };
            user.enter(&format!("user{n}"), &format!("chat/r{n}"))
        })
        .collect();
    for round in 0..4 {
        for user in &mut users {
            user.works();
            // quiche keeps the ways of before for a while, and has room for few.
            if round != 1 {
                user.line().rebind()
            } else {
                user.line().migrate()
            }
            user.works();
        }
    }
    assert!(users.iter_mut().all(|user| user.line().closed.is_none()));
    server.until("all moves are counted", |server| server.metric("ringshard_quic_moves_total", "") >= 8 * 4);
    assert_eq!(server.metric("ringshard_steer_forwarded_total", ""), 0, "the id steers, not the address");
}

#[test]
fn a_ticket_is_good_on_every_shard() {
    let server = Server::start(&[]);
    let mut tls = tls("ringshard/1");
    let mut first = Line::resume(&server, &mut tls, None);
    first.until("a ticket", |line| line.quic().session().is_some());
    let ticket = first.quic().session().expect("a ticket").to_vec();
    for _ in 0..20 {
        assert!(Line::resume(&server, &mut tls, Some(&ticket)).quic().is_resumed());
    }
    let shards: serde_json::Value = serde_json::from_str(&server.admin("/shards")).expect("JSON");
    let each: Vec<u64> = (0..2).filter_map(|shard| shards["shards"][shard]["quic"].as_u64()).collect();
    assert!(each.iter().all(|count| *count > 2), "{each:?}");
    assert_eq!(server.metric("ringshard_quic_resumed_total", ""), 20);
}

#[test]
fn whoever_must_show_his_address_gets_in_by_a_round_trip_more() {
    let server = Server::start(&[("RINGSHARD_QUIC_RETRY_ABOVE", "0")]);
    for n in 0..10 {
        User::web(&server).enter(&format!("user{n}"), "chat/retried").works();
    }
    // A first flight may be two datagrams, each of which is answered.
    assert!(server.metric("ringshard_quic_retries_total", "") >= 10);
    assert_eq!(server.metric("ringshard_steer_forwarded_total", ""), 0);
}

#[test]
fn a_server_that_stops_tells_its_clients_and_ends_their_lanes() {
    let mut server = Server::start(&[]);
    let mut raw = User::raw(&server).enter("ada", "chat/last");
    let mut web = User::web(&server).enter("bob", "chat/last");
    let mut http = Http3::connect(&server);
    raw.works();
    web.works();
    server.signal("TERM");
    for user in [&mut raw, &mut web] {
        user.hear("a goaway", |message| matches!(message, Told::Goaway { .. }).then_some(()));
        user.until("ended", |user| user.ended || user.line().closed.is_some());
    }
    http.until("closed", |http| http.line.closed.is_some());
    raw.until("closed", |user| user.line().closed.is_some());
    web.until("closed", |user| user.line().closed.is_some());
    assert!(server.ended(PATIENCE).success());
}

/// A server of one shard that waits for its clients when it stops.
fn patient() -> Server {
    let settings = [
        ("RINGSHARD_SERVER_SHARDS", "1"),
        ("RINGSHARD_SERVER_DRAIN_SECS", "3600"),
        ("RINGSHARD_LIMITS_HELLO_SECS", "300"),
    ];
    Server::start(&settings)
}

/// A client in the middle of a request, for which a server that stops waits.
fn holder(server: &Server) -> (Http3, StreamId) {
    let mut holder = Http3::connect(server);
    let request = Request::post("https://localhost/").body(()).expect("valid");
    let id = holder.web.http().request(&request, None, false).expect("sent");
    server.until("asked", |server| {
        holder.turn(Duration::from_millis(1));
        server.metric("ringshard_half_open", "") == 0
    });
    (holder, id)
}

#[test]
fn a_handshake_that_ends_while_the_server_stops_is_sent_away() {
    for alpn in ["ringshard/1", "h3"] {
        let mut server = patient();
        let (mut holder, id) = holder(&server);
        let mut late = Line::begin(&server, &mut tls(alpn), None);
        server.until("begun", |server| server.metric("ringshard_quic_half_open", "") == 1);
        server.signal("TERM");
        holder.take("a goaway", |event| matches!(event, h3::Event::GoAway).then_some(()));
        late.until("closed", |late| late.closed.is_some());
        assert!(matches!(late.closed, Some(CloseReason::Peer { application: true, .. })), "{:?}", late.closed);
        holder.web.http().send(id, Bytes::new(), true).expect("it is open");
        assert_eq!(holder.answer(id).0, 405);
        holder.until("closed", |holder| holder.line.closed.is_some());
        assert!(server.ended(PATIENCE).success(), "{}", server.log());
    }
}

#[test]
fn a_server_that_stops_ends_echoes() {
    let mut server = patient();
    let mut client = Http3::connect(&server);
    let session = client.session("/wt/echo", None).expect("a session");
    server.signal("TERM");
    let (id, code) = client.take("a close", |event| match event {
        h3::Event::SessionClosed { id, code, .. } => Some((*id, *code)),
        _ => None,
    });
    assert_eq!((id, code), (session, 4));
    client.until("closed", |client| client.line.closed.is_some());
    assert!(server.ended(PATIENCE).success());
}

#[test]
fn a_client_that_is_gone_is_noticed_and_one_that_is_only_silent_is_kept() {
    let settings =
        [("RINGSHARD_QUIC_IDLE_SECS", "4"), ("RINGSHARD_LIMITS_PING_SECS", "1"), ("RINGSHARD_LIMITS_IDLE_SECS", "5")];
    let server = Server::start(&settings);
    let gone = User::web(&server).enter("gone", "chat/silent");
    let mut silent = User::web(&server).enter("silent", "chat/silent");
    drop(gone);
    for _ in 0..80 {
        silent.turn(Duration::from_millis(100));
    }
    assert_eq!(server.metric("ringshard_sessions{", ""), 1);
    assert_eq!(server.metric("ringshard_connections{", "transport=\"webtransport\""), 1);
    silent.works();
}

#[test]
fn clients_of_a_server_that_was_killed_are_told_by_the_next_one() {
    let mut server = Server::start(&[]);
    let mut raw = User::raw(&server).enter("ada", "chat/killed");
    let mut web = User::web(&server).enter("bob", "chat/killed");
    let mut quantum = Quantum::enter(&server, "eve", "chat/killed");
    raw.works();
    web.works();
    quantum.works();
    let secure = server.secure.to_string();
    server.signal("KILL");
    server.ended(PATIENCE);
    let _next = server.next(&[("RINGSHARD_LISTEN_SECURE", &secure)]);
    for user in [&mut raw, &mut web] {
        let line = user.line();
        line.quic().ping();
        line.until("told", |line| line.closed.is_some());
        assert_eq!(line.closed, Some(CloseReason::Reset));
    }
    quantum.say(&Say::Ping { id: 1 });
    quantum.until("told", |quantum| quantum.closed.is_some());
    assert!(matches!(quantum.closed, Some(quantum::CloseReason::Reset)), "{:?}", quantum.closed);
}

#[test]
fn who_says_nothing_is_closed_in_time() {
    let server = Server::start(&[("RINGSHARD_LIMITS_HELLO_SECS", "1")]);
    let mut raw = User::raw(&server);
    let mut web = User::web(&server);
    let mut http = Http3::connect(&server);
    raw.until("closed", |user| user.line().closed.is_some());
    web.until("its session is closed", |user| user.ended);
    http.until("closed", |http| http.line.closed.is_some());
    server.until("forgotten", |server| server.metric("ringshard_connections{", "transport=\"webtransport\"") == 0);
}

#[test]
fn a_reader_that_stalls_is_closed_and_holds_no_memory() {
    let settings = [
        ("RINGSHARD_LIMITS_MESSAGES_PER_SEC", "100000"),
        ("RINGSHARD_LIMITS_MESSAGES_BURST", "100000"),
        ("RINGSHARD_LIMITS_IDLE_SECS", "5"),
        ("RINGSHARD_LIMITS_PING_SECS", "2"),
        ("RINGSHARD_QUIC_IDLE_SECS", "60"),
    ];
    let server = Server::start(&settings);
    let mut writer = User::raw(&server).enter("writer", "chat/flood");
    // It never takes another datagram.
    let stalled = User::web(&server).enter("stalled", "chat/flood");
    let before = server.memory();
    for n in 0..2_000 {
        writer.publish(&format!("{n} {}", "x".repeat(2_000)));
        writer.next_line();
    }
    server.until("closed", |server| {
        writer.turn(Duration::from_millis(50));
        server.metric("ringshard_connections{", "transport=\"webtransport\"") == 0
    });
    assert!(server.memory() < before + (32 << 20), "{} MiB", (server.memory() - before) >> 20);
    writer.works();
    drop(stalled);
}

#[test]
fn the_next_connection_is_shown_the_new_certificate() {
    let server = Server::start(&[]);
    let mut old = User::raw(&server).enter("ada", "chat/certified");
    let before = old.line().quic().peer_certificate().map(<[u8]>::to_vec);
    std::fs::remove_file(server.data().join("certificate.pem")).expect("it is there");
    server.signal("HUP");
    server.until("reloaded", |server| server.metric("ringshard_reloads_total", "") == 1);
    let mut new = User::raw(&server).enter("bob", "chat/certified");
    assert_ne!(new.line().quic().peer_certificate().map(<[u8]>::to_vec), before);
    new.works();
    old.works();
}
