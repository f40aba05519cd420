//! What messages cost on the heap: nothing on the relay path.

#![allow(clippy::unwrap_used)]

use std::{alloc::System, time::Instant};

use bytes::BytesMut;
use session::{
    Client, Codec, Credential, Hello, Limits, Server, Session, Topic, decode_client, encode_client, encode_server,
};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const BODY: &[u8] = r#"{"type":"text","text":"a \"quoted\" text","more":[{"deep":[1,2,{"x":null}]}]}"#.as_bytes();
const ROUNDS: u32 = 1_000;

// One test: the counters are those of the whole process.
#[test]
fn the_relay_path_allocates_nothing() {
    let now = Instant::now();
    let limits = Limits { messages_burst: u32::MAX, requests_inflight: u32::MAX, ..Limits::default() };
    let mut session = Session::new(now, limits);
    session.on_client(now, 1, &Client::Hello(Hello::new(1, Credential::Token("t".into()), "d"))).unwrap();
    session.open(now);
    for codec in [Codec::Json, Codec::Binary] {
        let wires = [
            wire(codec, &Client::Pub { id: 4, topic: "chat/lobby".into(), seq: Some(7), body: BODY }),
            wire(codec, &Client::Eph { topic: "chat/lobby".into(), key: "cursor".into(), body: BODY }),
            wire(codec, &Client::Ack { topic: "chat/lobby".into(), delivered: 43, read: 40 }),
            wire(codec, &Client::Req { id: 5, op: "chat.history".into(), body: BODY }),
            wire(codec, &Client::Ping { id: 6 }),
        ];
        let mut out = BytesMut::with_capacity(4096);
        // The whole process is counted, and the thread that waits for this test allocates once, whenever it comes to run.
        // What the path itself allocates is there each time.
        let mut count = || {
            let region = Region::new(ALLOCATOR);
            for _ in 0..ROUNDS {
                for wire in &wires {
                    let client = decode_client(codec, wire).unwrap();
                    session.on_client(now, wire.len(), &client).unwrap();
                    relay(codec, &client, &mut out);
                }
            }
            region.change().allocations + region.change().reallocations
        };
        let least = (0..5).map(|_| count()).min();
        assert_eq!(least, Some(0), "{codec:?}");
    }
    assert!(session.deadline().is_some());
}

fn wire(codec: Codec, client: &Client<'_>) -> BytesMut {
    let mut out = BytesMut::new();
    encode_client(codec, client, &mut out);
    out
}

/// What the server tells the sender and everybody else.
fn relay(codec: Codec, client: &Client<'_>, out: &mut BytesMut) {
    let name = |topic: &Topic<'_>| match topic {
        Topic::Name(name) => name.len(),
        Topic::Alias(_) => 0,
    };
    let (topic, from, alias) = ("chat/lobby".into(), "alice".into(), 7);
    out.clear();
    match client {
        Client::Pub { id, topic: named, body, .. } => {
            assert_eq!(name(named), 10);
            let msg = Server::Msg { topic, alias, offset: 43, from, at_ms: 1_800_000_000_000, body };
            encode_server(codec, &msg, out);
            let ok = Server::PubOk { id: *id, topic: "chat/lobby".into(), offset: 43, level: session::Level::Durable };
            encode_server(codec, &ok, out);
        }
        Client::Eph { key, body, .. } => {
            encode_server(codec, &Server::Eph { topic, alias, from, key: (&**key).into(), body }, out);
        }
        Client::Req { id, body, .. } => encode_server(codec, &Server::Res { id: *id, body }, out),
        Client::Ping { id } => encode_server(codec, &Server::Pong { id: *id, at_ms: 1_800_000_000_000 }, out),
        Client::Hello(_) | Client::Sub { .. } | Client::Unsub { .. } | Client::Ack { .. } => {}
    }
}
