//! Streams and datagrams over good and bad links.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use quic::{Algorithm, CloseReason, Direction, Event, StreamError, StreamId, Transport};
use simnet::{LinkConfig, Loss, Reorder};

use crate::world::{World, drain, plain};

pub(crate) fn bad() -> LinkConfig {
    LinkConfig {
        delay: Duration::from_millis(15),
        jitter: Duration::from_millis(10),
        loss: Loss::Iid(0.05),
        reorder: Reorder { probability: 0.05, hold: Duration::from_millis(20) },
        duplicate: 0.02,
        corrupt: 0.01,
        ..LinkConfig::default()
    }
}

fn pattern(stream: u64, len: usize) -> Vec<u8> {
    (0..len).map(|at| (at as u64).wrapping_mul(31).wrapping_add(stream * 17) as u8).collect()
}

/// Sends streams of some sizes, and gives what arrived of each.
fn carry(world: &mut World, lens: &[usize]) -> BTreeMap<StreamId, Vec<u8>> {
    let (client, server) = world.connected();
    let mut rest = BTreeMap::new();
    for len in lens {
        let id = world.client_at(client).open(Direction::Bidirectional).unwrap();
        rest.insert(id, Bytes::from(pattern(id.0, *len)));
    }
    let mut arrived: BTreeMap<StreamId, (Vec<u8>, bool)> = BTreeMap::new();
    let count = lens.len();
    world.run_until(Duration::from_secs(60), |world| {
        rest.retain(|id, bytes| {
            match world.client_at(client).write_shared(*id, bytes.clone(), true).unwrap() {
                Some(left) => *bytes = left,
                None => return false,
            }
            true
        });
        world.flush();
        if world.shards[server.0].peek(server.1).is_none() {
            return false;
        }
        for index in 0..count as u64 {
            let id = StreamId(index << 2);
            let (bytes, ended) = arrived.entry(id).or_default();
            if !*ended {
                *ended = drain(world.server_at(server), id, bytes);
            }
        }
        world.flush();
        arrived.values().all(|(_, ended)| *ended) && rest.is_empty()
    });
    arrived.into_iter().map(|(id, (bytes, _))| (id, bytes)).collect()
}

#[test]
fn streams_arrive_whole_over_bad_links() {
    for algorithm in [Algorithm::Cubic, Algorithm::Bbr2] {
        for seed in 0..50 {
            let transport = Transport { algorithm, ..Transport::default() };
            let mut world = World::with(seed, 2, bad(), &transport, |_| {});
            for (id, bytes) in carry(&mut world, &[1, 3_000, 40_000, 0, 20_000]) {
                assert!(bytes == pattern(id.0, bytes.len()), "{algorithm:?}, seed {seed}, stream {id:?}");
                assert_eq!(bytes.len(), [1, 3_000, 40_000, 0, 20_000][id.index() as usize], "seed {seed}");
            }
        }
    }
}

/// quiche keeps an end that is asked for with no room to read, and calls its stream readable again.
#[test]
fn an_end_without_bytes_is_told_once() {
    let mut world = World::new(1, 1, plain());
    let (client, server) = world.connected();
    let id = world.client_at(client).open(Direction::Bidirectional).unwrap();
    let mut bytes = Vec::new();
    world.client_at(client).write(id, b"all", false).unwrap();
    world.run_for(Duration::from_millis(100));
    assert!(!drain(world.server_at(server), id, &mut bytes));
    world.server_events.clear();
    world.client_at(client).write(id, b"", true).unwrap();
    world.run_for(Duration::from_millis(100));
    assert_eq!(world.server_events, [(server.0, server.1, Event::Readable(id))]);
    assert!(drain(world.server_at(server), id, &mut bytes) && bytes == b"all");
}

/// Bytes that were read already come again, as their acknowledgement was lost, and now with the end.
#[test]
fn an_end_with_bytes_of_before_is_told() {
    let mut world = World::new(1, 1, plain());
    let (client, server) = world.connected();
    world.run_for(Duration::from_millis(500));
    let id = world.client_at(client).open(Direction::Bidirectional).unwrap();
    world.client_at(client).write(id, b"all", false).unwrap();
    world.flush();
    world.run_for(Duration::from_millis(20));
    let mut bytes = Vec::new();
    assert!(!drain(world.server_at(server), id, &mut bytes) && bytes == b"all");
    let later = world.now + Duration::from_secs(1);
    world.flush();
    while world.down.poll(later).is_some() {}
    world.client_at(client).write(id, b"", true).unwrap();
    world.flush();
    while world.up.poll(later).is_some() {}
    world.server_events.clear();
    world.run_for(Duration::from_millis(500));
    assert!(world.server_events.contains(&(server.0, server.1, Event::Readable(id))), "{:?}", world.server_events);
    assert!(drain(world.server_at(server), id, &mut bytes) && bytes == b"all");
}

#[test]
fn bulk_leaves_in_trains_and_finds_the_mtu() {
    for algorithm in [Algorithm::Cubic, Algorithm::Bbr2] {
        let transport = Transport { algorithm, ..Transport::default() };
        let mut world = World::with(1, 1, LinkConfig { mtu: 1_400, ..plain() }, &transport, |_| {});
        let arrived = carry(&mut world, &[3_000_000]);
        assert!(arrived[&StreamId(0)] == pattern(0, 3_000_000));
        if algorithm == Algorithm::Bbr2 {
            // Paced: a train holds what may leave within 50 us, which is little on this link.
            continue;
        }
        let full: Vec<_> = world.trains.iter().filter(|train| train.size > 10_000).collect();
        assert!(!full.is_empty() && full.iter().all(|train| train.segment >= 1_200), "{algorithm:?}");
        let largest = world.trains.iter().map(|train| train.size.div_ceil(train.segment)).max().unwrap();
        assert!(largest >= 8, "{algorithm:?}: {largest} datagrams");
        let mtu = world.trains.iter().filter(|train| train.size >= 3 * train.segment).map(|train| train.segment).max();
        assert!(mtu.is_some_and(|mtu| (1_300..=1_400).contains(&mtu)), "{algorithm:?}: {mtu:?}");
    }
}

#[test]
fn bbr_keeps_to_its_release_times() {
    let transport = Transport { algorithm: Algorithm::Bbr2, ..Transport::default() };
    let link = LinkConfig { rate_bytes_per_s: Some(1_000_000), queue_bytes: 60_000, ..plain() };
    let mut world = World::with(1, 1, link, &transport, |_| {});
    carry(&mut world, &[2_000_000]);
    let dropped = world.up.stats().queue_full;
    assert!(dropped < 600, "{dropped} datagrams did not fit into the queue");
}

#[test]
fn resets_stops_and_limits_are_told() {
    let transport = Transport { streams_unidirectional_max: 2, ..Transport::default() };
    let mut world = World::with(1, 1, plain(), &transport, |_| {});
    let (client, server) = world.connected();
    let first = world.client_at(client).open(Direction::Unidirectional).unwrap();
    let second = world.client_at(client).open(Direction::Unidirectional).unwrap();
    assert_eq!(world.client_at(client).open(Direction::Unidirectional), Err(StreamError::Limit));
    world.client_at(client).write(first, b"half", false).unwrap();
    world.client_at(client).write(second, b"whole", false).unwrap();
    world.run_for(Duration::from_millis(200));
    let mut bytes = Vec::new();
    assert!(!drain(world.server_at(server), first, &mut bytes));
    assert_eq!(bytes, b"half");
    world.client_at(client).reset(first, 11);
    world.server_at(server).stop(second, 12);
    world.run_for(Duration::from_millis(200));
    let told: Vec<_> = world.server_events.iter().map(|(_, _, event)| event.clone()).collect();
    assert!(told.contains(&Event::Opened(first)) && told.contains(&Event::Opened(second)));
    assert!(told.contains(&Event::Reset { id: first, code: 11 }), "{told:?}");
    // quiche answered the stop by itself, and forgot the stream.
    assert!(world.client_told(client, &Event::Stopped { id: second, code: 12 }), "{:?}", world.client_events);
    assert_eq!(world.client_at(client).write(second, b"more", false), Err(StreamError::Unknown));
    assert_eq!(
        world.client_at(client).write_shared(second, Bytes::from_static(b"more"), false),
        Err(StreamError::Unknown)
    );
    world.run_for(Duration::from_millis(500));
    assert!(
        world.client_told(client, &Event::StreamsAvailable(Direction::Unidirectional)),
        "{:?}",
        world.client_events
    );
    assert!(world.client_at(client).open(Direction::Unidirectional).is_ok());
}

#[test]
fn stops_are_told_of_every_stream_that_has_not_ended() {
    let transport = Transport { stream_data_max: 10_000, stream_window_max: 10_000, ..Transport::default() };
    let mut world = World::with(1, 1, plain(), &transport, |_| {});
    let (client, server) = world.connected();
    let ids: [StreamId; 4] = std::array::from_fn(|_| world.client_at(client).open(Direction::Bidirectional).unwrap());
    let [idle, blocked, ended, answered] = ids;
    world.client_at(client).write(idle, b"some", false).unwrap();
    assert_eq!(world.client_at(client).write(blocked, &[0; 20_000], false), Ok(10_000));
    world.client_at(client).write(ended, b"all", true).unwrap();
    world.client_at(client).write(answered, b"question", true).unwrap();
    world.run_for(Duration::from_millis(200));
    let mut bytes = Vec::new();
    assert!(drain(world.server_at(server), answered, &mut bytes));
    for id in [idle, blocked, ended] {
        world.server_at(server).stop(id, 5);
    }
    world.client_at(client).stop(answered, 6);
    world.run_for(Duration::from_millis(200));
    let is_stop = |event: &&Event| matches!(event, Event::Stopped { .. });
    let told: Vec<_> = world.client_events.iter().map(|(_, event)| event).filter(is_stop).cloned().collect();
    assert_eq!(told, [idle, blocked].map(|id| Event::Stopped { id, code: 5 }));
    let told: Vec<_> = world.server_events.iter().map(|(_, _, event)| event).filter(is_stop).cloned().collect();
    assert_eq!(told, [Event::Stopped { id: answered, code: 6 }], "the server has not written yet, and learns it");
    assert!(world.server_at(server).write(answered, b"answer", true).is_err());
}

#[test]
fn a_full_window_blocks_and_is_told_when_it_opens() {
    let transport = Transport { stream_data_max: 10_000, stream_window_max: 10_000, ..Transport::default() };
    let mut world = World::with(1, 1, plain(), &transport, |_| {});
    let (client, server) = world.connected();
    let id = world.client_at(client).open(Direction::Bidirectional).unwrap();
    let all = pattern(0, 30_000);
    let taken = world.client_at(client).write(id, &all, true).unwrap();
    assert_eq!(taken, 10_000);
    world.run_for(Duration::from_millis(300));
    assert!(!world.client_told(client, &Event::Writable(id)));
    let mut bytes = Vec::new();
    assert!(!drain(world.server_at(server), id, &mut bytes));
    world.run_for(Duration::from_millis(300));
    assert!(world.client_told(client, &Event::Writable(id)));
    assert!(world.client_at(client).write(id, &all[taken..], true).unwrap() > 0);
}

#[test]
fn datagrams_arrive_and_the_oldest_give_way() {
    let transport = Transport { datagrams_max: 8, ..Transport::default() };
    let mut world = World::with(1, 1, plain(), &transport, |_| {});
    let (client, server) = world.connected();
    let max = world.client_at(client).datagram_max().unwrap();
    assert!(!world.client_at(client).send_datagram(Bytes::from(vec![0; max + 1])));
    for number in 0..20u8 {
        assert!(world.client_at(client).send_datagram(Bytes::from(vec![number; 100])));
        world.flush();
    }
    world.run_for(Duration::from_millis(100));
    let told = world.server_events.iter().filter(|(_, _, event)| *event == Event::Datagram).count();
    assert_eq!(told, 1);
    let got: Vec<u8> = std::iter::from_fn(|| world.server_at(server).recv_datagram()).map(|bytes| bytes[0]).collect();
    assert_eq!(got.len(), 8);
    assert!(got.is_sorted() && got.last() == Some(&19), "{got:?}");
    world.client_at(client).send_datagram(Bytes::from_static(b"again"));
    world.run_for(Duration::from_millis(100));
    let told = world.server_events.iter().filter(|(_, _, event)| *event == Event::Datagram).count();
    assert_eq!(told, 2);
}

#[test]
fn silence_ends_a_connection_on_both_sides() {
    let mut world = World::new(1, 1, plain());
    let (client, server) = world.connected();
    world.run_for(Duration::from_secs(61));
    assert!(world.client_told(client, &Event::Closed(CloseReason::Idle)));
    assert!(world.server_events.contains(&(server.0, server.1, Event::Closed(CloseReason::Idle))));
    assert!(world.client.is_empty() && world.shards[0].is_empty());
    assert_eq!(world.shards[0].stats().dropped, [0; quic::Drop::COUNT]);
}

/// Who numbers streams by itself, as HTTP/3 does, is told of resets as well; also if the beginning was lost before.
#[test]
fn a_reset_behind_the_end_is_told_of_a_stream_that_was_only_written() {
    for lost in [0, 1] {
        let mut world = World::new(1, 1, plain());
        let (client, server) = world.connected();
        world.run_for(Duration::from_millis(500));
        let id = StreamId(0);
        world.client_at(client).write(id, b"question", true).unwrap();
        world.run_for(Duration::from_millis(200));
        assert!(drain(world.server_at(server), id, &mut Vec::new()));
        world.server_at(server).write(id, &[7; 2_000], true).unwrap();
        world.flush();
        world.server_at(server).reset(id, 3);
        world.flush();
        let later = world.now + Duration::from_secs(1);
        let packets: Vec<_> = std::iter::from_fn(|| world.down.poll(later)).collect();
        assert_eq!(packets.len(), 3);
        for packet in packets.into_iter().skip(lost) {
            world.hand_down(packet.bytes);
        }
        world.flush();
        let reset = Event::Reset { id, code: quic::CODE_FORGOTTEN };
        assert!(world.client_told(client, &reset), "{lost} lost: {:?}", world.client_events);
    }
}

/// What is read of a connection that is over makes no news.
#[test]
fn nothing_is_told_behind_the_close() {
    let mut world = World::new(1, 1, plain());
    let (client, server) = world.connected();
    let id = world.client_at(client).open(Direction::Bidirectional).unwrap();
    world.client_at(client).write(id, &[7; 5_000], false).unwrap();
    world.run_for(Duration::from_millis(100));
    world.client_at(client).close(3, b"");
    world.run_for(Duration::from_millis(30));
    let is_close = |event: Option<&(usize, _, Event)>| matches!(event, Some((_, _, Event::Closed(_))));
    assert!(is_close(world.server_events.last()));
    assert_eq!(world.server_at(server).read(id, &mut [0; 10]), Ok((10, false)));
    world.run_for(Duration::from_millis(500));
    assert!(is_close(world.server_events.last()), "{:?}", world.server_events);
}

#[test]
fn as_many_ends_are_kept_as_streams_may_be_open() {
    let transport = Transport { streams_unidirectional_max: 3_000, ..Transport::default() };
    let mut world = World::with(1, 1, plain(), &transport, |_| {});
    let (client, server) = world.connected();
    for _ in 0..3_000 {
        let id = world.client_at(client).open(Direction::Unidirectional).unwrap();
        world.client_at(client).write(id, b"", true).unwrap();
    }
    world.run_for(Duration::from_secs(3));
    let ends: Vec<_> = (0..3_000).map(|index| StreamId(index << 2 | 2)).collect();
    assert!(ends.iter().all(|id| world.server_at(server).read(*id, &mut [0; 10]) == Ok((0, true))));
}

/// A peer may pass over as many streams as it may have open: each is told when it comes, and costs nothing before.
#[test]
fn streams_are_told_once_in_whatever_order_they_come() {
    let many = 1 << 24;
    let transport = Transport { streams_unidirectional_max: many, ..Transport::default() };
    let mut world = World::with(1, 1, plain(), &transport, |_| {});
    let (client, _) = world.connected();
    let indices = [1, 5, 0, 3, many - 1, 4, 2, 7, 6, 9, many - 2, 8, 10];
    for index in indices.into_iter().chain([5, many - 1]) {
        world.client_at(client).write(StreamId(index << 2 | 2), b"x", false).unwrap();
        world.run_for(Duration::from_millis(100));
    }
    let opened = world.server_events.iter().filter_map(|(_, _, event)| match event {
        Event::Opened(id) => Some(id.index()),
        _ => None,
    });
    assert_eq!(opened.collect::<Vec<_>>(), indices);
}

/// The beginning of a stream is lost, so that there is nothing to read of it, and a reset is behind its end.
#[test]
fn a_reset_is_told_of_a_stream_of_which_nothing_could_be_read() {
    let mut world = World::new(1, 1, plain());
    let (client, server) = world.connected();
    world.run_for(Duration::from_millis(500));
    let id = world.client_at(client).open(Direction::Bidirectional).unwrap();
    world.client_at(client).write(id, &[7; 2_000], true).unwrap();
    world.flush();
    world.client_at(client).reset(id, 3);
    world.flush();
    let later = world.now + Duration::from_secs(1);
    let packets: Vec<_> = std::iter::from_fn(|| world.up.poll(later)).collect();
    assert_eq!(packets.len(), 3);
    for packet in packets.into_iter().skip(1) {
        world.hand_up(packet.from, packet.bytes);
    }
    world.flush();
    let told: Vec<_> = world.server_events.iter().map(|(_, _, event)| event.clone()).skip(1).collect();
    assert_eq!(told, [Event::Opened(id), Event::Reset { id, code: quic::CODE_FORGOTTEN }]);
    world.run_for(Duration::from_secs(1));
    world.server_at(server).reset(id, 4);
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.server_at(server).capacity(id), Err(StreamError::Unknown));
}
