//! What the fuzz targets run, and the test that replays their corpora: a hostile peer and a dutiful owner.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::Response;

use crate::{Connection, Event, INPUT_MAX, Limits, RequestId};

/// Output per turn: small, so that back-pressure happens.
const TAKE_MAX: usize = 4 * 1024;

/// What a connection did with its input.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Outcome {
    /// One line per event.
    pub events: Vec<String>,
    /// Everything that was sent.
    pub output: Vec<u8>,
    /// Bytes that followed an upgrade.
    pub upgraded: Vec<u8>,
    /// Whether the connection ended.
    pub closed: bool,
}

/// HTTP/1.1 entry: `data` whole, then in pieces whose sizes are taken from `data` itself. Both must come to the same.
pub fn http1(now: Instant, data: &[u8]) {
    differential(now, data, false);
    moody_owner(now, Connection::http1, data);
}

/// The same, where every upgrade is accepted.
pub fn upgrade(now: Instant, data: &[u8]) {
    differential(now, data, true);
}

/// HTTP/2 entry, preface included.
pub fn http2(now: Instant, data: &[u8]) {
    let outcome = run(now, Connection::http2(now, Limits::default()), data, &[data.len().max(1)], true);
    assert!(outcome.upgraded.is_empty(), "HTTP/2 has no upgrade");
    moody_owner(now, Connection::http2, data);
}

/// Feeds `data` in pieces of the given sizes, over and over; answers every request at once.
#[must_use]
pub fn run(now: Instant, mut connection: Connection, data: &[u8], sizes: &[usize], accept: bool) -> Outcome {
    let mut outcome = Outcome::default();
    let mut rest = data;
    let mut sizes = sizes.iter().copied().cycle();
    while !rest.is_empty() {
        let (piece, next) = rest.split_at(sizes.next().unwrap_or(1).clamp(1, rest.len()));
        rest = next;
        if !outcome.upgraded.is_empty() || outcome.events.last().is_some_and(|event| event == "upgraded") {
            outcome.upgraded.extend_from_slice(piece);
            continue;
        }
        connection.handle(now, piece);
        turn(&mut connection, now, accept, &mut outcome);
    }
    assert!(outcome.output.len() <= 64 * (data.len() + INPUT_MAX), "output must stay in proportion to input");
    if let Some(deadline) = connection.deadline() {
        connection.handle_timeout(deadline.max(now + Duration::from_secs(1)));
        while connection.poll().is_some() {}
    }
    outcome
}

/// `data` arrives in pieces, and its bytes from the end say what the owner does between them: answer, or not; take
/// some output, or none; let time pass, drain, hang up.
fn moody_owner(mut now: Instant, new: fn(Instant, Limits) -> Connection, data: &[u8]) {
    let mut connection = new(now, Limits { body_max: 1000, bodies_max: 2000, ..Limits::default() });
    let (mut held, mut out) = (Vec::new(), BytesMut::new());
    let mut rest = data;
    for mood in data.iter().rev().copied() {
        let amount = usize::from(mood / 8);
        match mood % 8 {
            0..=2 => {
                let (piece, next) = rest.split_at(rest.len().min(8 * amount));
                connection.handle(now, piece);
                rest = next;
            }
            3 if !held.is_empty() => connection.respond(now, held.remove(0), Response::new(vec![mood; 9000].into())),
            4 if !held.is_empty() => drop(connection.accept_websocket(now, held.remove(0), None)),
            5 => drop(connection.take_output(now, &mut out, 40 * amount)),
            6 => now += Duration::from_secs(amount as u64),
            7 if amount < 4 => connection.drain(now),
            7 if amount < 8 => connection.handle_end(now),
            _ => {}
        }
        connection.handle_timeout(now);
        out.clear();
        while let Some(event) = connection.poll() {
            if let Event::Request { id, .. } | Event::Upgrade { id, .. } = event {
                held.push(id);
            }
        }
        assert!(!connection.wants_close() || !connection.take_output(now, &mut out, 1), "closed with output");
    }
}

fn turn(connection: &mut Connection, now: Instant, accept: bool, outcome: &mut Outcome) {
    let mut out = BytesMut::new();
    loop {
        while let Some(event) = connection.poll() {
            answer(connection, now, event, accept, outcome);
        }
        if !connection.take_output(now, &mut out, TAKE_MAX) {
            break;
        }
        outcome.output.extend_from_slice(&out.split());
    }
    outcome.closed = connection.wants_close();
}

fn answer(connection: &mut Connection, now: Instant, event: Event, accept: bool, outcome: &mut Outcome) {
    match event {
        Event::Request { id, request } => {
            outcome.events.push(format!("{id:?} {request:?}"));
            connection.respond(now, id, Response::new(request.into_body()));
        }
        Event::Upgrade { id, request } => {
            outcome.events.push(format!("{id:?} {request:?}"));
            if let Some(rest) = accept.then(|| connection.accept_websocket(now, id, Some("chat"))).flatten() {
                outcome.events.push("upgraded".to_owned());
                outcome.upgraded.extend_from_slice(&rest);
            } else {
                connection.respond(now, id, Response::new(Bytes::new()));
            }
        }
        Event::Refused(rule) => outcome.events.push(rule.as_str().to_owned()),
    }
    // An id that was never given, and one that was answered, change nothing.
    connection.respond(now, RequestId(u64::MAX), Response::new(Bytes::new()));
}

fn differential(now: Instant, data: &[u8], accept: bool) {
    let sizes: Vec<usize> = data.iter().rev().take(16).map(|byte| usize::from(byte % 32)).collect();
    let sizes = if sizes.is_empty() { vec![1] } else { sizes };
    for sniffing in [false, true] {
        let connection = || {
            let new = if sniffing { Connection::sniffing } else { Connection::http1 };
            new(now, Limits::default())
        };
        let whole = run(now, connection(), data, &[data.len()], accept);
        let pieces = run(now, connection(), data, &sizes, accept);
        // The windows of HTTP/2 are announced as bytes arrive, so only HTTP/1.1 must answer alike to the byte.
        if !data.starts_with(b"PRI ") {
            assert_eq!(whole, pieces, "the pieces in which bytes arrive must not matter");
        }
    }
}
