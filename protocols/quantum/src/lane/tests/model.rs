//! Random applications over a random pipe, against a model: every byte of every stream, every message once.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use rand::Rng;

use super::{pair::*, *};

/// What one side sent and what the other got.
#[derive(Default)]
struct Ledger {
    streams: BTreeMap<StreamId, StreamLedger>,
    messages: BTreeMap<(u64, u64), Vec<u8>>,
    got: BTreeSet<(u64, u64)>,
    last: BTreeMap<u64, u64>,
    given_up: u64,
}

#[derive(Default)]
struct StreamLedger {
    written: Vec<u8>,
    read: usize,
    finished: bool,
    reset: bool,
    end_seen: bool,
}

fn delivery(channel: u64) -> Delivery {
    [Delivery::Independent, Delivery::Ordered, Delivery::Newest][(channel % 3) as usize]
}

struct World {
    pair: Pair,
    ledgers: [Ledger; 2],
    loss: f64,
}

impl World {
    fn new(seed: u64, loss: f64, limits: &Limits) -> Self {
        Self { pair: Pair::with(limits, seed), ledgers: Default::default(), loss }
    }

    fn act(&mut self, side: usize) {
        let roll = self.pair.rng.random_range(0..100);
        match roll {
            0..5 => self.open(side),
            5..30 => self.write(side),
            30..32 => self.finish(side),
            32..33 => self.reset(side),
            33..50 => self.send_message(side),
            50..55 => {
                let len = self.pair.rng.random_range(0..1_000);
                self.pair.lanes[side].send_datagram(vec![3; len].into()).unwrap();
            }
            55..75 => {
                let room = self.pair.rng.random_range(30..ROOM);
                self.pair.transmit_one(side, if roll < 60 { room } else { ROOM });
            }
            75..95 => self.pair.deliver_any(side, self.loss),
            95..99 => self.read(side, 20_000),
            _ => self.pair.now += Duration::from_millis(self.pair.rng.random_range(0..60)),
        }
    }

    fn open(&mut self, side: usize) {
        let directions = [Direction::Bidirectional, Direction::Unidirectional];
        let direction = directions[self.pair.rng.random_range(0..2)];
        if let Some(id) = self.pair.lanes[side].open(direction) {
            self.ledgers[side].streams.insert(id, StreamLedger::default());
            if direction == Direction::Bidirectional {
                self.ledgers[1 - side].streams.insert(id, StreamLedger::default());
            }
        }
    }

    /// A stream that this side still writes to.
    fn pick(&mut self, side: usize) -> Option<StreamId> {
        let open = self.ledgers[side].streams.iter().filter(|(_, stream)| !stream.finished && !stream.reset);
        let ids: Vec<StreamId> = open.map(|(id, _)| *id).collect();
        (!ids.is_empty()).then(|| ids[self.pair.rng.random_range(0..ids.len())])
    }

    fn write(&mut self, side: usize) {
        let Some(id) = self.pick(side) else { return };
        let len = self.pair.rng.random_range(0..4_000) >> self.pair.rng.random_range(0..8);
        let mut data = vec![0; len];
        self.pair.rng.fill(&mut data[..]);
        let is_copied = self.pair.rng.random();
        let lanes = &mut self.pair.lanes[side];
        let result = if is_copied { lanes.write(id, &data) } else { lanes.write_bytes(id, data.clone().into()) };
        let Some(stream) = self.ledgers[side].streams.get_mut(&id) else { return };
        match result {
            Ok(taken) => stream.written.extend_from_slice(&data[..taken]),
            // A peer's stream that is not known here yet, or no room.
            Err(WriteError::Blocked | WriteError::Closed) => {}
            Err(error) => panic!("{error}"),
        }
    }

    fn finish(&mut self, side: usize) {
        let Some(id) = self.pick(side) else { return };
        if self.pair.lanes[side].finish(id).is_ok()
            && let Some(stream) = self.ledgers[side].streams.get_mut(&id)
        {
            stream.finished = true;
        }
    }

    fn reset(&mut self, side: usize) {
        let Some(id) = self.pick(side) else { return };
        if self.pair.lanes[side].reset(id, 1).is_ok()
            && let Some(stream) = self.ledgers[side].streams.get_mut(&id)
        {
            stream.reset = true;
        }
    }

    fn send_message(&mut self, side: usize) {
        let rng = &mut self.pair.rng;
        let (channel, priority) = (rng.random_range(0..6), rng.random_range(0..8));
        let mut bytes = vec![0; rng.random_range(0..20_000) >> rng.random_range(0..12)];
        rng.fill(&mut bytes[..]);
        let deadline = rng.random_bool(0.3).then(|| Duration::from_millis(rng.random_range(0..200)));
        let (now, copy) = (self.pair.now, Bytes::from(bytes.clone()));
        let lanes = &mut self.pair.lanes[side];
        match lanes.send_message(now, channel, delivery(channel), priority, deadline, copy) {
            Ok(number) => {
                self.ledgers[side].messages.insert((channel, number), bytes);
            }
            Err(MessageError::Blocked) => {}
            Err(error) => panic!("{error}"),
        }
    }

    /// Reads at most so many bytes of each stream, and all messages, that the other side sent.
    fn read(&mut self, side: usize, most: usize) {
        while let Some(_event) = self.pair.lanes[side].poll_event() {}
        let (lanes, ledger) = (&mut self.pair.lanes[side], &mut self.ledgers[1 - side]);
        for (id, stream) in &mut ledger.streams {
            let mut left = most;
            while let Ok(chunk) = lanes.chunk(*id)
                && !chunk.is_empty()
                && left > 0
            {
                let len = chunk.len().min(left);
                let expected = &stream.written[stream.read..];
                assert!(expected.len() >= len && chunk[..len] == expected[..len], "other bytes on {id:?}");
                lanes.consume(*id, len);
                stream.read += len;
                left -= len;
            }
            if lanes.is_finished(*id) && !stream.reset {
                assert_eq!(stream.read, stream.written.len(), "ended early: {id:?}");
                assert!(stream.finished);
                stream.end_seen = true;
            }
        }
        while let Some(Received { channel, number, bytes }) = lanes.recv_message() {
            assert_eq!(ledger.messages.get(&(channel, number)), Some(&bytes.to_vec()), "{channel}/{number}");
            assert!(ledger.got.insert((channel, number)), "{channel}/{number} came twice");
            let last = ledger.last.insert(channel, number);
            let is_ascending = last.is_none_or(|last| last < number);
            assert!(is_ascending || delivery(channel) == Delivery::Independent, "{channel}/{number} after {last:?}");
        }
        while lanes.recv_datagram().is_some() {}
    }

    /// A better network, and the application reads: everything has to come to rest and to arrive.
    fn finish_all(&mut self) {
        self.loss = 0.2;
        for round in 0..3_000 {
            for side in [CLIENT, SERVER] {
                self.pair.transmit(side);
                while !self.pair.wires[side].is_empty() {
                    self.pair.deliver_any(side, if round > 100 { 0.0 } else { self.loss });
                }
                self.read(1 - side, usize::MAX);
            }
            self.pair.now += Duration::from_millis(10);
            let is_idle = |lanes: &mut Lanes| !lanes.has_data(self.pair.now) && !lanes.has_control();
            if self.pair.lanes.iter_mut().all(is_idle) {
                break;
            }
        }
        for side in [CLIENT, SERVER] {
            let drops = self.pair.lanes[side].drops();
            let ledger = &mut self.ledgers[side];
            ledger.given_up = drops.messages_expired + drops.messages_superseded;
            for (id, stream) in ledger.streams.iter().filter(|(_, stream)| !stream.reset) {
                assert_eq!(stream.read, stream.written.len(), "{id:?} stopped");
                assert_eq!(stream.finished, stream.end_seen, "{id:?} has no end");
            }
            let missing = ledger.messages.keys().filter(|key| !ledger.got.contains(*key));
            let missing = missing.filter(|(channel, _)| delivery(*channel) != Delivery::Newest).count() as u64;
            assert!(missing <= ledger.given_up, "{missing} messages are missing, {} given up", ledger.given_up);
            assert_eq!(self.pair.lanes[side].queued_bytes(), 0);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn everything_arrives_once_and_in_order(seed: u64, loss in 0.0..0.5f64, steps in 100..6_000usize, is_tight: bool) {
        let mut limits = limits();
        if is_tight {
            (limits.data_max, limits.stream_data_max, limits.send_bytes_max) = (5_000, 3_000, 9_000);
            (limits.message_bytes_max, limits.message_max) = (30_000, 20_000);
            limits.streams_bidirectional_max = 2;
        }
        let messages = limits.message_bytes_max * 3;
        let most = limits.data_window_max * 2 + messages + limits.datagram_receive_bytes_max + 65_536;
        let mut world = World::new(seed, loss, &limits);
        for _ in 0..steps {
            let side = world.pair.rng.random_range(0..2);
            world.act(side);
            assert!(world.pair.lanes[side].received_bytes() <= most);
        }
        world.finish_all();
    }
}
