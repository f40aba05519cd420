//! Messages and datagrams: once each, in the order that was asked for, until their deadline.

use super::{pair::*, *};
use crate::frame::Frame;

const MS: Duration = Duration::from_millis(1);

/// Puts what a side has to send on the wire, one message per packet.
fn transmit_apart(pair: &mut Pair, side: usize) -> Vec<Packet> {
    pair.transmit(side);
    pair.wires[side].drain(..).collect()
}

fn send(pair: &mut Pair, delivery: Delivery, deadline: Option<Duration>, text: &str) -> Packet {
    let bytes = Bytes::copy_from_slice(text.as_bytes());
    pair.lanes[CLIENT].send_message(pair.now, 3, delivery, 2, deadline, bytes).unwrap();
    let mut packets = transmit_apart(pair, CLIENT);
    assert_eq!(packets.len(), 1);
    packets.remove(0)
}

fn texts(pair: &mut Pair) -> Vec<String> {
    pair.messages(SERVER).into_iter().map(|(_, _, bytes)| String::from_utf8(bytes).unwrap()).collect()
}

#[test]
fn independent_messages_do_not_wait_for_each_other() {
    let mut pair = Pair::new();
    let one = send(&mut pair, Delivery::Independent, None, "one");
    let two = send(&mut pair, Delivery::Independent, None, "two");
    pair.deliver(CLIENT, two, Fate::Twice);
    assert_eq!(texts(&mut pair), ["two"]);
    pair.deliver(CLIENT, one, Fate::ArrivesLate);
    assert_eq!(texts(&mut pair), ["one"]);
    pair.settle();
    assert_eq!(texts(&mut pair), [""; 0], "what was sent again is known");
}

#[test]
fn ordered_messages_wait_for_the_one_before() {
    let mut pair = Pair::new();
    let one = send(&mut pair, Delivery::Ordered, None, "one");
    let two = send(&mut pair, Delivery::Ordered, None, "two");
    pair.deliver(CLIENT, two, Fate::Arrives);
    assert_eq!(texts(&mut pair), [""; 0]);
    pair.deliver(CLIENT, one, Fate::Lost);
    pair.settle();
    assert_eq!(texts(&mut pair), ["one", "two"]);
    assert_eq!(pair.poll(SERVER), [LaneEvent::Message]);
}

#[test]
fn ordered_messages_pass_over_one_that_expired() {
    let mut pair = Pair::new();
    let one = send(&mut pair, Delivery::Ordered, Some(50 * MS), "one");
    let two = send(&mut pair, Delivery::Ordered, None, "two");
    pair.deliver(CLIENT, two, Fate::Arrives);
    pair.now += 60 * MS;
    pair.deliver(CLIENT, one, Fate::Lost);
    assert_eq!(pair.lanes[CLIENT].drops().messages_expired, 1);
    // The floor is lost too, once.
    pair.transmit(CLIENT);
    pair.lose_all(CLIENT);
    pair.settle();
    assert_eq!(texts(&mut pair), ["two"]);
}

#[test]
fn a_message_that_expires_unsent_is_never_sent() {
    let mut pair = Pair::new();
    for deadline in [Some(10 * MS), None] {
        let bytes = Bytes::from_static(b"text");
        pair.lanes[CLIENT].send_message(pair.now, 1, Delivery::Ordered, 2, deadline, bytes).unwrap();
    }
    assert_eq!(pair.lanes[CLIENT].deadline(), Some(pair.now + 10 * MS));
    pair.now += 10 * MS;
    pair.lanes[CLIENT].handle_timeout(pair.now);
    assert!(pair.lanes[CLIENT].has_control(), "the floor");
    assert_eq!(pair.lanes[CLIENT].queued_bytes(), 4);
    pair.settle();
    assert_eq!(pair.messages(SERVER), [(1, 1, b"text".to_vec())]);
}

#[test]
fn only_the_newest_is_sent_again() {
    let mut pair = Pair::new();
    let one = send(&mut pair, Delivery::Newest, None, "one");
    let two = send(&mut pair, Delivery::Newest, None, "two");
    pair.deliver(CLIENT, one, Fate::Lost);
    pair.deliver(CLIENT, two, Fate::Lost);
    pair.settle();
    assert_eq!(texts(&mut pair), ["two"]);
    assert_eq!(pair.lanes[CLIENT].drops().messages_superseded, 1);
}

#[test]
fn an_older_one_that_comes_late_is_dropped() {
    let mut pair = Pair::new();
    let one = send(&mut pair, Delivery::Newest, None, "one");
    let two = send(&mut pair, Delivery::Newest, None, "two");
    pair.deliver(CLIENT, two, Fate::Arrives);
    pair.deliver(CLIENT, one, Fate::Arrives);
    assert_eq!(texts(&mut pair), ["two"]);
}

#[test]
fn a_slow_application_gets_the_newest_only() {
    let mut pair = Pair::new();
    for text in ["one", "two", "three"] {
        let packet = send(&mut pair, Delivery::Newest, None, text);
        pair.deliver(CLIENT, packet, Fate::Arrives);
    }
    assert_eq!(texts(&mut pair), ["three"]);
    let packet = send(&mut pair, Delivery::Newest, None, "four");
    pair.deliver(CLIENT, packet, Fate::Arrives);
    assert_eq!(texts(&mut pair), ["four"]);
}

#[test]
fn a_newest_that_was_never_sent_gives_its_number_to_the_next() {
    let mut pair = Pair::new();
    assert_eq!(pair.send(CLIENT, 1, Delivery::Newest, b"one"), 0);
    assert_eq!(pair.send(CLIENT, 1, Delivery::Newest, b"two"), 0);
    pair.settle();
    assert_eq!(pair.messages(SERVER), [(1, 0, b"two".to_vec())]);
}

#[test]
fn a_number_below_a_floor_that_was_told_is_not_used_again() {
    let mut pair = Pair::new();
    let lost = send(&mut pair, Delivery::Newest, Some(10 * MS), "sent and expired");
    let bytes = Bytes::from_static(b"expired");
    pair.lanes[CLIENT].send_message(pair.now, 3, Delivery::Newest, 2, Some(10 * MS), bytes).unwrap();
    pair.now += 10 * MS;
    pair.deliver(CLIENT, lost, Fate::Lost);
    pair.transmit(CLIENT);
    let floor = pair.wires[CLIENT].pop_front().unwrap();
    assert!(pair.receive(CLIENT, &floor.frames));
    assert_eq!(pair.send(CLIENT, 3, Delivery::Newest, b"new"), 2);
    pair.settle();
    assert_eq!(texts(&mut pair), ["new"]);
}

#[test]
fn long_messages_come_in_pieces() {
    let mut pair = Pair::new();
    let long: Vec<u8> = (0..50_000u32).map(|at| (at / 7) as u8).collect();
    pair.send(CLIENT, 1, Delivery::Independent, &long);
    pair.send(CLIENT, 1, Delivery::Independent, b"");
    pair.transmit(CLIENT);
    let mut packets: Vec<_> = pair.wires[CLIENT].drain(..).rev().collect();
    let lost = packets.remove(20);
    packets.into_iter().for_each(|packet| pair.deliver(CLIENT, packet, Fate::Twice));
    assert_eq!(pair.messages(SERVER), [(1, 1, Vec::new())]);
    pair.deliver(CLIENT, lost, Fate::Lost);
    pair.settle();
    assert_eq!(pair.messages(SERVER), [(1, 0, long)]);
    assert_eq!(pair.lanes[SERVER].received_bytes(), 0);
}

#[test]
fn a_message_that_fits_one_packet_is_not_spread_over_two() {
    let mut pair = Pair::new();
    pair.lanes[CLIENT].set_packet_room(ROOM);
    let id = pair.open(CLIENT);
    pair.lanes[CLIENT].write(id, &[7; 3_000]).unwrap();
    pair.send(CLIENT, 1, Delivery::Independent, &[1; 800]);
    pair.send(CLIENT, 1, Delivery::Independent, &[2; 800]);
    pair.transmit(CLIENT);
    for packet in pair.wires[CLIENT].iter().take(2) {
        let frames = parse(&packet.frames);
        assert!(
            matches!(frames[..], [Frame::Message(Message { total: 800, data, .. }), Frame::Stream(_)]
            if data.len() == 800),
            "{frames:?}"
        );
    }
}

#[test]
fn the_sender_stays_within_the_peers_limits() {
    let mut limits = limits();
    (limits.message_bytes_max, limits.message_max) = (10_000, 5_000);
    let mut pair = Pair::with(&limits, 1);
    let now = pair.now;
    let send = |pair: &mut Pair, channel, len| {
        pair.lanes[CLIENT].send_message(now, channel, Delivery::Ordered, 2, None, vec![1; len].into())
    };
    assert_eq!(send(&mut pair, 1, 5_001), Err(MessageError::TooLong));
    assert_eq!(send(&mut pair, 1, 5_000), Ok(0));
    assert_eq!(send(&mut pair, 1, 5_000), Ok(1));
    assert_eq!(send(&mut pair, 2, 1), Err(MessageError::Blocked));
    assert_eq!(pair.poll(CLIENT), []);
    pair.settle();
    assert_eq!(pair.poll(CLIENT), [LaneEvent::MessagesWritable]);
    assert_eq!(send(&mut pair, 2, 1), Ok(0));
    let other = pair.lanes[CLIENT].send_message(now, 2, Delivery::Newest, 2, None, Bytes::new());
    assert_eq!(other, Err(MessageError::Delivery));
    for channel in 3..65 {
        send(&mut pair, channel, 1).unwrap();
    }
    assert_eq!(send(&mut pair, 65, 1), Err(MessageError::Channels));
}

#[test]
fn numbers_wait_for_the_first_that_is_unresolved() {
    let mut pair = Pair::new();
    pair.send(CLIENT, 1, Delivery::Independent, b"kept");
    let mut first = transmit_apart(&mut pair, CLIENT);
    for number in 1..1024 {
        assert_eq!(pair.send(CLIENT, 1, Delivery::Independent, b"x"), number);
        pair.settle();
    }
    let full = pair.lanes[CLIENT].send_message(pair.now, 1, Delivery::Independent, 2, None, Bytes::new());
    assert_eq!(full, Err(MessageError::Blocked));
    pair.send(CLIENT, 2, Delivery::Independent, b"another channel");
    pair.deliver(CLIENT, first.remove(0), Fate::Arrives);
    assert!(pair.poll(CLIENT).contains(&LaneEvent::MessagesWritable));
    assert_eq!(pair.send(CLIENT, 1, Delivery::Independent, b"x"), 1024);
    pair.settle();
    assert_eq!(pair.messages(SERVER).len(), 1026);
}

#[test]
fn a_packet_is_refused_before_it_is_acknowledged() {
    // Pitfall 4: an application that does not take its messages slows the sender, and loses nothing.
    let mut limits = limits();
    limits.message_bytes_max = 4_000;
    let mut pair = Pair::with(&limits, 1);
    for number in 0..20 {
        while pair.lanes[CLIENT]
            .send_message(pair.now, 1, Delivery::Ordered, 2, None, vec![number; 900].into())
            .is_err()
        {
            pair.transmit(CLIENT);
            let packets: Vec<_> = pair.wires[CLIENT].drain(..).collect();
            packets.into_iter().for_each(|packet| pair.deliver(CLIENT, packet, Fate::Arrives));
            assert!(pair.lanes[SERVER].received_bytes() <= 8_000);
            // Slowly: one at a time.
            if let Some(message) = pair.lanes[SERVER].recv_message() {
                pair.events[SERVER].push(LaneEvent::Message);
                assert_eq!(message.bytes[0] as usize + 1, pair.events[SERVER].len());
            }
        }
    }
    let mut taken = pair.events[SERVER].len();
    for _ in 0..100 {
        pair.transmit(CLIENT);
        let packets: Vec<_> = pair.wires[CLIENT].drain(..).collect();
        packets.into_iter().for_each(|packet| pair.deliver(CLIENT, packet, Fate::Arrives));
        taken += pair.messages(SERVER).len();
    }
    assert_eq!(taken, 20);
}

#[test]
fn an_ordered_message_costs_until_it_can_be_delivered() {
    // Pitfall 4: else what waits behind a hole would fill the receiver, and the one that fills the hole be refused.
    let mut limits = limits();
    limits.message_bytes_max = 4_000;
    let mut pair = Pair::with(&limits, 1);
    let mut packets = Vec::new();
    for number in 0..4 {
        pair.send(CLIENT, 1, Delivery::Ordered, &[number; 900]);
        packets.extend(transmit_apart(&mut pair, CLIENT));
    }
    let first = packets.remove(0);
    packets.into_iter().for_each(|packet| pair.deliver(CLIENT, packet, Fate::Arrives));
    let more = pair.lanes[CLIENT].send_message(pair.now, 1, Delivery::Ordered, 2, None, vec![4; 900].into());
    assert_eq!(more, Err(MessageError::Blocked));
    pair.deliver(CLIENT, first, Fate::Arrives);
    assert_eq!(pair.messages(SERVER).len(), 4);
    assert_eq!(pair.poll(CLIENT), [LaneEvent::MessagesWritable]);
    assert_eq!(pair.send(CLIENT, 1, Delivery::Ordered, &[4; 900]), 4);
}

#[test]
fn what_was_given_up_costs_until_the_peer_knows() {
    let mut limits = limits();
    (limits.message_bytes_max, limits.message_max) = (10_000, 10_000);
    let mut pair = Pair::with(&limits, 1);
    let bytes = Bytes::from(vec![1; 8_000]);
    pair.lanes[CLIENT].send_message(pair.now, 1, Delivery::Independent, 2, Some(10 * MS), bytes).unwrap();
    let mut packets = transmit_apart(&mut pair, CLIENT);
    pair.now += 20 * MS;
    let last = packets.pop().unwrap();
    packets.into_iter().for_each(|packet| pair.deliver(CLIENT, packet, Fate::Arrives));
    pair.deliver(CLIENT, last, Fate::Lost);
    assert_eq!(pair.lanes[CLIENT].drops().messages_expired, 1);
    let again = |pair: &mut Pair| {
        pair.lanes[CLIENT].send_message(pair.now, 1, Delivery::Independent, 2, None, vec![2; 8_000].into())
    };
    assert_eq!(again(&mut pair), Err(MessageError::Blocked));
    pair.settle();
    assert_eq!(again(&mut pair), Ok(1));
    pair.settle();
    assert_eq!(pair.messages(SERVER), [(1, 1, vec![2; 8_000])]);
}

#[test]
fn urgent_messages_pass_others_of_their_channel() {
    let mut pair = Pair::new();
    for (text, priority) in [("low", 6), ("high", 0), ("middle", 3)] {
        let bytes = Bytes::from_static(text.as_bytes());
        pair.lanes[CLIENT].send_message(pair.now, 1, Delivery::Independent, priority, None, bytes).unwrap();
    }
    let id = pair.open(CLIENT);
    pair.lanes[CLIENT].write(id, b"stream").unwrap();
    pair.lanes[CLIENT].send_datagram(Bytes::from_static(b"datagram")).unwrap();
    pair.transmit(CLIENT);
    let frames = parse(&pair.wires[CLIENT][0].frames).into_iter().map(|frame| match frame {
        Frame::Message(Message { data, .. }) | Frame::Stream(Stream { data, .. }) => data,
        Frame::Datagram(Datagram { data, .. }) => data,
        other => panic!("{other:?}"),
    });
    let order: Vec<&[u8]> = frames.collect();
    assert_eq!(order, [&b"high"[..], b"datagram", b"middle", b"stream", b"low"]);
}

#[test]
fn the_oldest_datagrams_make_room() {
    let mut pair = Pair::new();
    for number in 0..30u8 {
        pair.lanes[CLIENT].send_datagram(vec![number; 1_000].into()).unwrap();
    }
    let kept = 16 * 1024 / 1_064;
    assert_eq!(pair.lanes[CLIENT].drops().datagrams_sent, 30 - kept);
    pair.settle();
    assert_eq!(pair.poll(SERVER), [LaneEvent::Datagram]);
    let got: Vec<u8> = std::iter::from_fn(|| pair.lanes[SERVER].recv_datagram()).map(|bytes| bytes[0]).collect();
    assert_eq!(got, (30 - kept as u8..30).collect::<Vec<_>>());
    for number in 0..30u8 {
        pair.lanes[CLIENT].send_datagram(vec![number; 1_000].into()).unwrap();
        pair.settle();
    }
    assert_eq!(pair.lanes[SERVER].drops().datagrams_received, 30 - kept);
    assert!(pair.lanes[SERVER].received_bytes() <= 16 * 1024);
    assert_eq!(pair.lanes[CLIENT].send_datagram(vec![0; 1_199].into()), Err(DatagramError::TooLong));
    assert_eq!(pair.lanes[CLIENT].send_datagram(vec![0; 1_150].into()), Err(DatagramError::Path));
    pair.lanes[CLIENT].set_packet_room(1_180);
    assert_eq!(pair.lanes[CLIENT].send_datagram(vec![0; 1_150].into()), Ok(()));
    pair.lanes[CLIENT].set_packet_room(1_100);
    pair.lanes[CLIENT].send_datagram(vec![1; 10].into()).unwrap();
    pair.settle();
    let got: Vec<_> = std::iter::from_fn(|| pair.lanes[SERVER].recv_datagram()).collect();
    assert_eq!(got.last().map(|bytes| bytes.len()), Some(10), "what outgrew the path is dropped");
}
