//! What a connection costs in memory: nothing per message, little while idle, nothing after a big message.

#![allow(clippy::unwrap_used)]

use std::alloc::System;

use bytes::BytesMut;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use websocket::{Connection, Event, Limits, frame};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const LIMITS: Limits = Limits { message_max: 16 << 20, frame_max: 16 << 20 };

/// What an idle connection may hold, itself included.
const IDLE_MAX: usize = 2 * 1024;

/// Handles what the client sent as a server does that echoes, without a copy; gives the number of messages.
fn echo(server: &mut Connection, input: &mut [u8], out: &mut BytesMut) -> usize {
    let (mut rest, mut count) = (&mut *input, 0);
    while let Some(event) = server.next(&mut rest) {
        match event {
            Event::Text(text) => frame::encode(frame::Opcode::Text, text.as_bytes(), out),
            Event::Binary(bytes) => frame::encode(frame::Opcode::Binary, &bytes, out),
            Event::Pong | Event::Closed { .. } => panic!("the client only sends messages"),
        }
        count += 1;
    }
    server.take_output(out);
    count
}

/// What a client sends: `count` messages of `len` bytes.
fn wire(count: usize, len: usize) -> Vec<u8> {
    let (mut client, mut out) = (Connection::client(LIMITS, [7; 32]), BytesMut::new());
    for _ in 0..count {
        client.send_text(&"x".repeat(len));
    }
    client.take_output(&mut out);
    out.to_vec()
}

// One test: the counters are those of the whole process.
#[test]
fn memory_is_only_held_while_it_is_needed() {
    small_messages_allocate_nothing();
    a_busy_client_allocates_nothing();
    a_message_cut_in_two_is_one_allocation();
    an_idle_connection_is_small_even_after_a_big_message();
}

fn small_messages_allocate_nothing() {
    let (train, mut input, mut out) = (wire(16, 64), Vec::new(), BytesMut::with_capacity(64 * 1024));
    let mut server = Connection::server(LIMITS);
    input.extend_from_slice(&train);
    let region = Region::new(ALLOCATOR);
    for _ in 0..1_000 {
        input.copy_from_slice(&train);
        assert_eq!(echo(&mut server, &mut input, &mut out), 16);
        out.clear();
    }
    let change = region.change();
    assert_eq!((change.allocations, change.reallocations), (0, 0), "per 16,000 messages");
}

fn a_busy_client_allocates_nothing() {
    let (mut client, mut out) = (Connection::client(LIMITS, [7; 32]), BytesMut::with_capacity(64 * 1024));
    let mut train = || {
        (0..16).for_each(|_| client.send_text(&TEXT[..64]));
        client.take_output(&mut out);
        out.clear();
    };
    train();
    let region = Region::new(ALLOCATOR);
    (0..1_000).for_each(|_| train());
    let change = region.change();
    assert_eq!((change.allocations, change.reallocations), (0, 0), "per 16,000 messages");
}

const TEXT: &str = "0123456789012345678901234567890123456789012345678901234567890123456789";

fn a_message_cut_in_two_is_one_allocation() {
    let (train, mut out) = (wire(2, 64), BytesMut::with_capacity(64 * 1024));
    let mut server = Connection::server(LIMITS);
    let mut input = train.clone();
    let (first, second) = input.split_at_mut(100);
    let region = Region::new(ALLOCATOR);
    let count = echo(&mut server, first, &mut out) + echo(&mut server, second, &mut out);
    let change = region.change();
    assert_eq!((count, change.allocations, change.reallocations), (2, 1, 0));
}

fn an_idle_connection_is_small_even_after_a_big_message() {
    const COUNT: usize = 100;
    let (mut out, big, mut ping) = (BytesMut::with_capacity(2 << 20), wire(1, 1 << 20), vec![0x89, 0x80 | 125]);
    ping.extend([0; 4 + 125]);
    let mut connections = Vec::with_capacity(COUNT);
    let region = Region::new(ALLOCATOR);
    for _ in 0..COUNT {
        let mut server = Box::new(Connection::server(LIMITS));
        let mut received = big.clone();
        for piece in received.chunks_mut(16 * 1024) {
            out.clear();
            echo(&mut server, piece, &mut out);
        }
        assert_eq!(out.len(), (1 << 20) + 10);
        echo(&mut server, &mut ping.clone(), &mut out);
        server.send_text(TEXT);
        server.take_output(&mut out);
        connections.push(server);
    }
    let change = region.change();
    let held = (change.bytes_allocated - change.bytes_deallocated) / COUNT;
    println!("{held} bytes per idle connection, {} of them the box", size_of::<Connection>());
    assert!(held < IDLE_MAX, "{held} bytes per idle connection");
}
