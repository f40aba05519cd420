//! Peers that keep no rule: an error or a bounded cost, nothing else.

use super::{pair::handle, *};
use crate::frame::Frame;

fn server() -> Lanes {
    Lanes::new(Side::Server, &limits())
}

fn id(index: u64) -> StreamId {
    StreamId::new(Side::Client, Direction::Unidirectional, index)
}

fn stream(index: u64, offset: u64, data: &[u8]) -> Stream<'_> {
    Stream { id: id(index), offset, fin: false, has_len: true, data }
}

fn code<T: std::fmt::Debug>(result: Checked<T>) -> u64 {
    result.unwrap_err().code
}

#[test]
fn data_beyond_the_limits_is_a_violation() {
    let mut lanes = server();
    lanes.on_stream(&stream(0, 16 * 1024 - 1, b"x")).unwrap();
    assert_eq!(code(lanes.on_stream(&stream(0, 16 * 1024, b"x"))), Code::FlowControl as u64);
    assert_eq!(code(lanes.on_stream(&stream(0, crate::varint::MAX, b"x"))), Code::FlowControl as u64);
    assert_eq!(code(lanes.on_reset_stream(id(0), 0, 16 * 1024 + 1)), Code::FlowControl as u64);
    for index in 1..4 {
        lanes.on_stream(&stream(index, 16 * 1024 - 1, b"x")).unwrap();
    }
    // All four together are the connection's.
    assert_eq!(code(lanes.on_stream(&stream(4, 0, b"x"))), Code::FlowControl as u64);
    assert_eq!(code(lanes.on_reset_stream(id(5), 0, 1)), Code::FlowControl as u64);
}

#[test]
fn streams_that_cannot_be_are_violations() {
    let mut lanes = server();
    lanes.on_stream(&stream(15, 0, b"x")).unwrap();
    assert_eq!(code(lanes.on_stream(&stream(16, 0, b"x"))), Code::StreamLimit as u64);
    let state = Code::StreamState as u64;
    let ours = StreamId::new(Side::Server, Direction::Unidirectional, 0);
    let both = StreamId::new(Side::Server, Direction::Bidirectional, 0);
    assert_eq!(code(lanes.on_stream(&Stream { id: ours, ..stream(0, 0, b"x") })), state);
    assert_eq!(code(lanes.on_stream(&Stream { id: both, ..stream(0, 0, b"x") })), state);
    assert_eq!(code(lanes.on_reset_stream(ours, 0, 0)), state);
    assert_eq!(code(lanes.on_stop_sending(ours, 0)), state, "not opened yet");
    assert_eq!(code(lanes.on_stop_sending(id(0), 0)), state, "we do not send there");
    assert_eq!(code(lanes.on_max_stream_data(id(0), 1)), state);
    assert_eq!(code(lanes.on_max_stream_data(both, 1)), state);
    assert_eq!(code(lanes.on_stream_data_blocked(ours, 1)), state);
}

#[test]
fn many_small_holes_are_a_violation_and_cost_little() {
    let mut lanes = server();
    let mut result = Ok(());
    let mut pieces = 0;
    while result.is_ok() {
        result = lanes.on_stream(&stream(0, 2 * pieces + 1, b"x"));
        pieces += 1;
        assert!(lanes.received_bytes() <= 32 * 1024);
    }
    assert_eq!(code(result), Code::ProtocolViolation as u64);
    assert!(pieces <= 300, "{pieces}");
}

#[test]
fn the_first_bytes_to_arrive_win() {
    let mut lanes = server();
    lanes.on_stream(&stream(0, 2, b"bb")).unwrap();
    lanes.on_stream(&stream(0, 6, b"dd")).unwrap();
    lanes.on_stream(&stream(0, 1, b"xxxxxx")).unwrap();
    lanes.on_stream(&stream(0, 0, b"yyyyyyyyyy")).unwrap();
    assert_eq!(lanes.chunk(id(0)), Ok(&b"yxbbxxddyy"[..]));
    lanes.consume(id(0), 5);
    lanes.on_stream(&stream(0, 0, b"zzzzzzzzzzz")).unwrap();
    assert_eq!(lanes.chunk(id(0)), Ok(&b"xddyyz"[..]));
}

#[test]
fn what_a_peer_can_make_us_hold_is_bounded() {
    let mut lanes = server();
    let limits = limits();
    // As little as possible in as much memory as possible: a byte at the end of each window.
    for index in 0..16 {
        let _ = lanes.on_stream(&stream(index, limits.stream_data_max - 1, b"x"));
    }
    for channel in 0..100 {
        for number in 0..2_000 {
            let frame = Message {
                channel,
                number,
                delivery: Delivery::Ordered,
                offset: 1,
                total: limits.message_max,
                data: b"x",
            };
            if lanes.may_admit(&frame) && lanes.on_message(&frame).is_err() {
                break;
            }
        }
    }
    for _ in 0..1_000 {
        lanes.on_datagram(&Datagram { has_len: true, data: b"" }).unwrap();
    }
    let most = limits.data_max * 2 + limits.message_bytes_max * 2 + limits.datagram_receive_bytes_max + 16 * 1024;
    assert!(lanes.received_bytes() <= most, "{}", lanes.received_bytes());
    let events = std::iter::from_fn(|| lanes.poll_event()).count();
    assert!(events <= 16 + 2, "{events}");
}

#[test]
fn contradicting_messages_are_violations() {
    let frame = |channel, number, offset, total, data| Message {
        channel,
        number,
        delivery: Delivery::Independent,
        offset,
        total,
        data,
    };
    let malformed = Code::Message as u64;
    let mut lanes = server();
    lanes.on_message(&frame(1, 0, 0, 100, b"abc")).unwrap();
    assert_eq!(code(lanes.on_message(&frame(1, 0, 3, 101, b"d"))), malformed, "another total");
    assert_eq!(code(lanes.on_message(&frame(1, 0, 0, 3, b"abc"))), malformed, "whole, and of another total");
    let newest = Message { delivery: Delivery::Newest, ..frame(1, 1, 0, 1, b"a") };
    assert_eq!(code(lanes.on_message(&newest)), malformed);
    assert_eq!(code(lanes.on_message(&frame(1, 2, 0, 64 * 1024 + 1, b"a"))), malformed, "too long");
    assert_eq!(code(lanes.on_message(&frame(1, 1024, 0, 1, b"a"))), malformed, "too far ahead");
    lanes.on_message(&frame(1, 1023, 0, 1, b"a")).unwrap();
    for channel in 2..65 {
        lanes.on_message(&frame(channel, 0, 0, 1, b"a")).unwrap();
    }
    assert_eq!(code(lanes.on_message(&frame(65, 0, 0, 1, b"a"))), malformed, "too many channels");
    assert_eq!(code(lanes.on_message_floor(65, 1)), malformed);
    // Parts of messages up to the limit, which the small ones reach by what they cost.
    let mut result = Ok(());
    let mut number = 2;
    while result.is_ok() && number < 5_000 {
        result = lanes.on_message(&frame(2 + number / 1_000, 1 + number % 1_000, 1, 2, b"a"));
        number += 1;
    }
    assert_eq!(code(result), malformed);
    assert!(number <= 256 * 1024 / 128 + 2, "{number}");
}

#[test]
fn fragments_that_overlap_keep_what_came_first() {
    let frame = |offset, data| Message { channel: 1, number: 0, delivery: Delivery::Ordered, offset, total: 6, data };
    let mut lanes = server();
    lanes.on_message(&frame(2, b"bb")).unwrap();
    lanes.on_message(&frame(1, b"xxxx")).unwrap();
    lanes.on_message(&frame(0, b"yyyyyy")).unwrap();
    assert_eq!(lanes.recv_message().unwrap().bytes, &b"yxbbxy"[..]);
}

#[test]
fn a_floor_anywhere_is_harmless() {
    let mut lanes = server();
    let frame = |number| Message { channel: 1, number, delivery: Delivery::Ordered, offset: 0, total: 1, data: b"x" };
    lanes.on_message(&frame(7)).unwrap();
    lanes.on_message(&frame(9)).unwrap();
    lanes.on_message_floor(1, 8).unwrap();
    lanes.on_message_floor(1, 3).unwrap();
    assert_eq!(lanes.recv_message().map(|message| message.number), Some(7));
    assert_eq!(lanes.recv_message(), None);
    lanes.on_message_floor(1, crate::varint::MAX).unwrap();
    assert_eq!(lanes.recv_message().map(|message| message.number), Some(9));
    lanes.on_message(&frame(crate::varint::MAX)).unwrap();
    assert_eq!(lanes.recv_message().map(|message| message.number), Some(crate::varint::MAX));
}

#[test]
fn stop_and_reset_of_everything_at_every_time_is_harmless() {
    let mut lanes = server();
    lanes.set_peer(&told(&limits())).unwrap();
    let both = StreamId::new(Side::Client, Direction::Bidirectional, 0);
    for round in 0..3u64 {
        for frame in [
            Frame::StopSending { id: both, code: round },
            Frame::ResetStream { id: both, code: round, final_size: 5 },
            Frame::MaxStreamData { id: both, limit: crate::varint::MAX },
            Frame::StreamDataBlocked { id: both, limit: 0 },
        ] {
            handle(&mut lanes, &frame).unwrap();
        }
        let _ = lanes.write(both, b"x");
        let _ = lanes.stop(both, 1);
    }
    let (mut out, mut items) = (Vec::new(), Items::new());
    let now = Instant::now();
    while lanes.write_control(now, Duration::ZERO, 1_000, &mut out, &mut items) {}
    items.iter().for_each(|item| lanes.on_acked(item));
    while lanes.poll_event().is_some() {}
    assert_eq!(lanes.open_streams(), 0);
    lanes.on_acked(&Item::ResetStream(both));
    lanes.on_lost(now, &Item::ResetStream(both));
}
