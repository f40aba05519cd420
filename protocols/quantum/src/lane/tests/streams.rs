//! Streams: bytes, ends, credit, priorities.

use super::{pair::*, *};
use crate::frame::Frame;

fn pattern(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|at| (at as u8).wrapping_mul(31).wrapping_add(seed).wrapping_add((at >> 8) as u8)).collect()
}

#[test]
fn bytes_arrive_in_order_and_the_stream_leaves_nothing_behind() {
    let mut pair = Pair::new();
    let id = pair.open(CLIENT);
    let data = pattern(10_000, 1);
    assert_eq!(pair.lanes[CLIENT].write_bytes(id, data.clone().into()), Ok(10_000));
    pair.lanes[CLIENT].finish(id).unwrap();
    pair.settle();
    assert_eq!(pair.poll(SERVER), [LaneEvent::Opened(id), LaneEvent::Readable(id)]);
    assert_eq!(pair.read(SERVER, id), data);
    assert!(pair.lanes[SERVER].is_finished(id));
    assert_eq!(pair.poll(CLIENT), [LaneEvent::Finished(id)]);
    assert_eq!(pair.lanes[SERVER].write(id, b"answer"), Ok(6));
    pair.lanes[SERVER].finish(id).unwrap();
    pair.settle();
    assert_eq!(pair.read(CLIENT, id), b"answer");
    assert!(pair.lanes[CLIENT].is_finished(id));
    assert_eq!([pair.lanes[CLIENT].open_streams(), pair.lanes[SERVER].open_streams()], [0, 0]);
    // Two rounds: what was used in the first is kept until the second.
    for _ in 0..3 {
        pair.now += BUFFER_IDLE;
        for lanes in &mut pair.lanes {
            lanes.handle_timeout(pair.now);
            lanes.has_data(pair.now);
            while lanes.poll_event().is_some() {}
        }
    }
    assert_eq!(pair.lanes.each_ref().map(Lanes::received_bytes), [0, 0]);
    assert_eq!(pair.lanes.each_ref().map(Lanes::deadline), [None, None]);
}

#[test]
fn a_lost_stream_does_not_hold_up_another() {
    // Pitfall 8.
    let mut pair = Pair::new();
    let (one, two) = (pair.open(CLIENT), pair.open(CLIENT));
    pair.lanes[CLIENT].write(one, &pattern(500, 1)).unwrap();
    pair.transmit(CLIENT);
    let kept = pair.wires[CLIENT].pop_front().unwrap();
    pair.lanes[CLIENT].write(two, &pattern(500, 2)).unwrap();
    pair.settle();
    assert_eq!(pair.read(SERVER, one), b"");
    assert_eq!(pair.read(SERVER, two), pattern(500, 2));
    pair.deliver(CLIENT, kept, Fate::Lost);
    pair.settle();
    assert_eq!(pair.read(SERVER, one), pattern(500, 1));
}

#[test]
fn an_unread_stream_does_not_hold_up_another() {
    // Pitfall 8, by flow control: the window of one stream is a part of that of the connection.
    let mut pair = Pair::new();
    let (one, two) = (pair.open(CLIENT), pair.open(CLIENT));
    assert_eq!(pair.lanes[CLIENT].write(one, &pattern(100_000, 1)), Ok(16 * 1024));
    pair.settle();
    assert_eq!(pair.lanes[CLIENT].write(one, b"more"), Err(WriteError::Blocked));
    pair.lanes[CLIENT].write(two, b"two").unwrap();
    pair.settle();
    assert_eq!(pair.read(SERVER, two), b"two");
    assert_eq!(pair.poll(CLIENT), []);
    assert_eq!(pair.read(SERVER, one).len(), 16 * 1024);
    pair.settle();
    assert_eq!(pair.poll(CLIENT), [LaneEvent::Writable(one)]);
    assert_eq!(pair.lanes[CLIENT].write(one, b"more"), Ok(4));
}

#[test]
fn lost_credit_is_told_again() {
    // Pitfall 9: no zero-window deadlock, for the connection, a stream, and the number of streams.
    let mut limits = limits();
    (limits.data_max, limits.stream_data_max, limits.streams_bidirectional_max) = (8_000, 6_000, 1);
    let mut pair = Pair::with(&limits, 1);
    let id = pair.open(CLIENT);
    let mut sent = 0;
    let mut got = Vec::new();
    let data = pattern(100_000, 3);
    for _ in 0..10_000 {
        sent += pair.lanes[CLIENT].write(id, &data[sent..]).unwrap_or(0);
        pair.transmit(CLIENT);
        while let Some(packet) = pair.wires[CLIENT].pop_front() {
            pair.deliver(CLIENT, packet, Fate::Arrives);
        }
        got.extend(pair.read(SERVER, id));
        pair.transmit(SERVER);
        // The first time that each credit is told it is lost.
        pair.lose_all(SERVER);
        pair.transmit(SERVER);
        while let Some(packet) = pair.wires[SERVER].pop_front() {
            pair.deliver(SERVER, packet, Fate::Arrives);
        }
    }
    assert!(got == data, "{} of {}", got.len(), data.len());
    assert_eq!(pair.lanes[CLIENT].open(Direction::Bidirectional), None);
    pair.lanes[CLIENT].finish(id).unwrap();
    pair.lanes[SERVER].finish(id).unwrap();
    pair.settle();
    assert!(pair.lanes[SERVER].is_finished(id) && pair.lanes[CLIENT].is_finished(id));
    assert!(pair.poll(CLIENT).contains(&LaneEvent::StreamsAvailable(Direction::Bidirectional)));
    assert!(pair.lanes[CLIENT].open(Direction::Bidirectional).is_some());
}

#[test]
fn a_blocked_sender_is_told_credit_that_it_missed() {
    let mut limits = limits();
    (limits.data_max, limits.stream_data_max) = (4_000, 4_000);
    let mut pair = Pair::with(&limits, 1);
    let id = pair.open(CLIENT);
    assert_eq!(pair.lanes[CLIENT].write(id, &pattern(9_000, 1)), Ok(4_000));
    pair.settle();
    pair.read(SERVER, id);
    pair.transmit(SERVER);
    pair.wires[SERVER].clear(); // Under way for ever: neither acknowledged nor lost.
    pair.lanes[SERVER].on_data_blocked(4_000);
    pair.lanes[SERVER].on_stream_data_blocked(id, 4_000).unwrap();
    pair.settle();
    assert_eq!(pair.poll(CLIENT), [LaneEvent::Writable(id)]);
    assert_eq!(pair.lanes[CLIENT].write(id, &pattern(9_000, 1)), Ok(4_000));
}

#[test]
fn data_behind_the_end_and_ends_that_change_are_violations() {
    // Pitfall 11, on the receiving side: data after FIN.
    let stream = |offset, fin, data| Stream { id: StreamId(0), offset, fin, has_len: true, data };
    let server = || Lanes::new(Side::Server, &limits());
    let code = |result: Checked<()>| result.unwrap_err().code;
    let final_size = Code::FinalSize as u64;

    let mut lanes = server();
    lanes.on_stream(&stream(0, true, b"abc")).unwrap();
    assert_eq!(code(lanes.on_stream(&stream(3, false, b"d"))), final_size);
    assert_eq!(code(lanes.on_stream(&stream(0, true, b"ab"))), final_size);
    assert_eq!(code(lanes.on_reset_stream(StreamId(0), 1, 4)), final_size);
    lanes.on_stream(&stream(1, true, b"bc")).unwrap();

    let mut lanes = server();
    lanes.on_stream(&stream(10, false, b"abc")).unwrap();
    assert_eq!(code(lanes.on_stream(&stream(0, true, b"abc"))), final_size);
    assert_eq!(code(lanes.on_reset_stream(StreamId(0), 1, 12)), final_size);
    lanes.on_reset_stream(StreamId(0), 1, 13).unwrap();
    assert_eq!(code(lanes.on_stream(&stream(13, false, b"d"))), final_size);
    lanes.on_stream(&stream(0, false, b"abc")).unwrap();
    assert_eq!(lanes.chunk(StreamId(0)), Err(ReadError::Reset(1)));
}

#[test]
fn data_behind_the_end_of_a_closed_stream_is_dropped() {
    // Pitfall 11: what a reordering network brings late is no violation.
    let mut pair = Pair::new();
    let id = pair.lanes[CLIENT].open(Direction::Unidirectional).unwrap();
    pair.lanes[CLIENT].write(id, b"abc").unwrap();
    pair.lanes[CLIENT].finish(id).unwrap();
    pair.transmit(CLIENT);
    let late = pair.wires[CLIENT][0].frames.clone();
    pair.settle();
    pair.read(SERVER, id);
    assert_eq!(pair.lanes[SERVER].open_streams(), 0);
    pair.poll(SERVER);
    assert!(pair.receive(CLIENT, &late));
    assert_eq!(pair.poll(SERVER), []);
    assert_eq!(pair.lanes[SERVER].open_streams(), 0);
}

#[test]
fn a_lost_end_is_sent_again() {
    // Pitfall 11: half-open for ever.
    let mut pair = Pair::new();
    let id = pair.open(CLIENT);
    pair.lanes[CLIENT].write(id, b"abc").unwrap();
    pair.settle();
    pair.lanes[CLIENT].finish(id).unwrap();
    pair.transmit(CLIENT);
    pair.lose_all(CLIENT);
    pair.settle();
    assert_eq!(pair.read(SERVER, id), b"abc");
    assert!(pair.lanes[SERVER].is_finished(id));
    assert_eq!(pair.lanes[CLIENT].finish(id), Err(WriteError::Closed));
    assert_eq!(pair.lanes[CLIENT].write(id, b"d"), Err(WriteError::Closed));
}

#[test]
fn a_lost_reset_is_sent_again_and_its_credit_comes_back() {
    let mut pair = Pair::new();
    let id = pair.open(CLIENT);
    for _ in 0..100 {
        let id = pair.lanes[CLIENT].open(Direction::Unidirectional).unwrap();
        assert_eq!(pair.lanes[CLIENT].write(id, &pattern(10_000, 1)), Ok(10_000));
        pair.transmit_one(CLIENT, ROOM);
        pair.settle();
        pair.lanes[CLIENT].reset(id, 7).unwrap();
        pair.transmit(CLIENT);
        pair.lose_all(CLIENT);
        pair.settle();
        assert!(pair.poll(SERVER).contains(&LaneEvent::Reset { id, code: 7 }));
        pair.settle();
        pair.poll(CLIENT);
    }
    pair.lanes[CLIENT].write(id, b"still").unwrap();
    pair.settle();
    assert_eq!(pair.read(SERVER, id), b"still");
}

#[test]
fn a_reset_is_known_before_its_end_can_be_taken_for_one() {
    let mut pair = Pair::new();
    let id = pair.open(CLIENT);
    pair.lanes[CLIENT].write(id, b"abc").unwrap();
    pair.settle();
    pair.lanes[CLIENT].reset(id, 9).unwrap();
    pair.settle();
    assert_eq!(pair.lanes[SERVER].chunk(id), Err(ReadError::Reset(9)));
    assert!(!pair.lanes[SERVER].is_finished(id));
    let events = [LaneEvent::Opened(id), LaneEvent::Readable(id), LaneEvent::Reset { id, code: 9 }];
    assert_eq!(pair.poll(SERVER), events);
}

#[test]
fn stopping_makes_the_peer_reset() {
    let mut pair = Pair::new();
    let id = pair.open(CLIENT);
    pair.lanes[CLIENT].write(id, &pattern(5_000, 1)).unwrap();
    pair.settle();
    pair.lanes[SERVER].stop(id, 5).unwrap();
    assert_eq!(pair.lanes[SERVER].stop(id, 5), Err(ReadError::Closed));
    pair.transmit(SERVER);
    pair.lose_all(SERVER);
    pair.settle();
    assert_eq!(pair.poll(CLIENT), [LaneEvent::Stopped { id, code: 5 }]);
    // The answer was received, so that nothing is left of the half.
    assert_eq!(pair.lanes[CLIENT].write(id, b"x"), Err(WriteError::Closed));
    pair.lanes[SERVER].finish(id).unwrap();
    pair.settle();
    assert_eq!(pair.lanes[SERVER].open_streams(), 0);
}

#[test]
fn higher_ids_open_the_lower_ones() {
    let mut lanes = Lanes::new(Side::Server, &limits());
    let id = |index| StreamId::new(Side::Client, Direction::Bidirectional, index);
    lanes.on_stream(&Stream { id: id(3), offset: 0, fin: false, has_len: true, data: b"x" }).unwrap();
    let events: Vec<_> = std::iter::from_fn(|| lanes.poll_event()).collect();
    let opened = (0..4).map(|index| LaneEvent::Opened(id(index)));
    assert_eq!(events, opened.chain([LaneEvent::Readable(id(3))]).collect::<Vec<_>>());
    assert_eq!(lanes.open_streams(), 1, "the others cost nothing until they are used");
    assert!(!lanes.is_finished(id(1)));
    assert_eq!(lanes.chunk(id(1)), Ok(&[][..]));
    lanes.set_peer(&told(&limits())).unwrap();
    assert_eq!(lanes.write(id(1), b"first"), Ok(5));
    assert_eq!(lanes.chunk(id(4)), Err(ReadError::Closed));
    assert_eq!(lanes.write(id(4), b"never opened"), Err(WriteError::Closed));
}

#[test]
fn urgent_streams_go_first_and_equals_take_turns() {
    let mut pair = Pair::new();
    let ids = [pair.open(CLIENT), pair.open(CLIENT), pair.open(CLIENT)];
    pair.lanes[CLIENT].set_priority(ids[2], 0).unwrap();
    for id in ids {
        pair.lanes[CLIENT].write(id, &pattern(3_000, 1)).unwrap();
    }
    pair.transmit(CLIENT);
    let order: Vec<StreamId> = pair.wires[CLIENT]
        .iter()
        .flat_map(|packet| packet.items.iter())
        .map(|item| if let Item::Stream { id, .. } = item { *id } else { panic!("{item:?}") })
        .collect();
    let [a, b, c] = ids;
    assert_eq!(order, [c, c, c, a, b, a, b, a, b, a][..order.len()], "round robin behind the urgent one");
}

#[test]
fn what_was_lost_goes_before_what_is_new() {
    let mut pair = Pair::new();
    let id = pair.open(CLIENT);
    let data = pattern(12_000, 5);
    pair.lanes[CLIENT].write(id, &data).unwrap();
    assert!(pair.transmit_one(CLIENT, ROOM) && pair.transmit_one(CLIENT, ROOM) && pair.transmit_one(CLIENT, ROOM));
    let first = pair.wires[CLIENT].pop_front().unwrap();
    let second = pair.wires[CLIENT].pop_front().unwrap();
    pair.deliver(CLIENT, second, Fate::Lost);
    pair.deliver(CLIENT, first, Fate::Lost);
    // Smaller packets now: the two are merged, and split anew.
    (0..4).for_each(|_| assert!(pair.transmit_one(CLIENT, 700)));
    let offsets: Vec<u64> = pair.wires[CLIENT]
        .iter()
        .skip(1)
        .flat_map(|packet| packet.items.iter())
        .map(|item| if let Item::Stream { offset, .. } = item { *offset } else { panic!("{item:?}") })
        .collect();
    assert_eq!(offsets.len(), 5, "{offsets:?}: the fourth packet has room for new bytes too");
    assert!(offsets[..4].is_sorted() && offsets[0] == 0 && offsets[4] > 3_000);
    pair.settle();
    assert_eq!(pair.read(SERVER, id), data);
}

#[test]
fn what_fec_recovered_is_not_sent_again() {
    let mut pair = Pair::new();
    let id = pair.open(CLIENT);
    pair.lanes[CLIENT].write(id, &pattern(1_000, 5)).unwrap();
    pair.transmit(CLIENT);
    let packet = pair.wires[CLIENT].pop_front().unwrap();
    packet.items.iter().for_each(|item| pair.lanes[CLIENT].on_lost(pair.now, item));
    packet.items.iter().for_each(|item| pair.lanes[CLIENT].on_acked(item));
    assert!(!pair.lanes[CLIENT].has_data(pair.now));
    packet.items.iter().for_each(|item| pair.lanes[CLIENT].on_lost(pair.now, item));
    assert!(!pair.lanes[CLIENT].has_data(pair.now));

    // The same behind a hole.
    pair.lanes[CLIENT].write(id, &pattern(1_000, 5)).unwrap();
    assert!(pair.transmit_one(CLIENT, 500));
    pair.transmit(CLIENT);
    let packet = pair.wires[CLIENT].pop_back().unwrap();
    packet.items.iter().for_each(|item| pair.lanes[CLIENT].on_acked(item));
    packet.items.iter().for_each(|item| pair.lanes[CLIENT].on_lost(pair.now, item));
    assert!(!pair.lanes[CLIENT].has_data(pair.now));
}

#[test]
fn writers_wait_for_room_and_are_woken() {
    let mut limits = limits();
    (limits.send_bytes_max, limits.stream_data_max, limits.data_max) = (20_000, 1_000_000, 1_000_000);
    let mut pair = Pair::with(&limits, 1);
    let (one, two) = (pair.open(CLIENT), pair.open(CLIENT));
    assert_eq!(pair.lanes[CLIENT].write(one, &pattern(30_000, 1)), Ok(20_000));
    assert_eq!(pair.lanes[CLIENT].write(two, b"x"), Err(WriteError::Blocked));
    assert_eq!(pair.poll(CLIENT), []);
    pair.settle();
    assert_eq!(pair.poll(CLIENT), [LaneEvent::Writable(one), LaneEvent::Writable(two)]);
    assert_eq!(pair.lanes[CLIENT].write(two, b"x"), Ok(1));
    assert_eq!(pair.lanes[CLIENT].queued_bytes(), 1);
    pair.lanes[CLIENT].reset(two, 0).unwrap();
    assert_eq!(pair.lanes[CLIENT].queued_bytes(), 0);
}

#[test]
fn early_data_goes_on_under_the_handshakes_limits() {
    let mut limits = limits();
    let mut client = Lanes::new(Side::Client, &limits);
    assert_eq!(client.open(Direction::Bidirectional), None);
    (limits.data_max, limits.stream_data_max, limits.streams_bidirectional_max) = (1_000, 500, 1);
    client.set_peer(&told(&limits)).unwrap();
    let id = client.open(Direction::Bidirectional).unwrap();
    assert_eq!(client.write(id, &[1; 800]), Ok(500));
    limits.stream_data_max = 900;
    client.set_peer(&told(&limits)).unwrap();
    let events: Vec<_> = std::iter::from_fn(|| client.poll_event()).collect();
    assert!(events.contains(&LaneEvent::Writable(id)));
    assert_eq!(client.write(id, &[1; 300]), Ok(300));
    limits.data_max = 999;
    assert_eq!(client.set_peer(&told(&limits)).unwrap_err().code, Code::ProtocolViolation as u64);
}

#[test]
fn the_window_of_a_fast_reader_grows() {
    let mut pair = Pair::new();
    let id = pair.open(CLIENT);
    let mut largest = 0;
    for _ in 0..40 {
        let written = pair.lanes[CLIENT].write(id, &vec![0; 400_000]).unwrap_or(0);
        largest = largest.max(written);
        pair.settle();
        pair.read(SERVER, id);
        pair.now += pair.rtt / 2;
    }
    assert!(largest >= 30_000, "{largest}");
}

#[test]
fn a_connection_without_credit_says_so_and_keeps_the_rest_going() {
    let mut limits = limits();
    (limits.data_max, limits.stream_data_max) = (2_000, 2_000);
    let mut pair = Pair::with(&limits, 1);
    let ids = [pair.open(CLIENT), pair.open(CLIENT), pair.open(CLIENT)];
    for id in &ids[..2] {
        assert_eq!(pair.lanes[CLIENT].write(*id, &pattern(2_000, 1)), Ok(2_000));
    }
    pair.lanes[CLIENT].finish(ids[2]).unwrap();
    pair.transmit(CLIENT);
    let mut kinds = Vec::new();
    for packet in &pair.wires[CLIENT] {
        kinds.extend(parse(&packet.frames).into_iter().map(|frame| match frame {
            Frame::Stream(stream) => (stream.id.0, stream.data.len(), stream.fin),
            Frame::DataBlocked(limit) => (99, limit as usize, false),
            other => panic!("{other:?}"),
        }));
    }
    let sent: usize = kinds.iter().filter(|(id, ..)| *id != 99).map(|(_, len, _)| len).sum();
    assert_eq!(sent, 2_000);
    assert!(kinds.contains(&(ids[2].0, 0, true)), "an end needs no credit: {kinds:?}");
    assert!(kinds.contains(&(99, 2_000, false)), "{kinds:?}");
    assert!(!pair.lanes[CLIENT].has_data(pair.now));
    pair.settle();
    assert_eq!(pair.read(SERVER, ids[0]).len() + pair.read(SERVER, ids[1]).len(), 2_000);
    pair.settle();
    assert_eq!(pair.read(SERVER, ids[0]).len() + pair.read(SERVER, ids[1]).len(), 2_000);
}
