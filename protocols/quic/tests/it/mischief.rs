//! Two applications that open, write, read, end, reset and stop streams at random: what must be told is told, once.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use quic::{CODE_FORGOTTEN, Connection, Direction, Event, Handle, Side, StreamError, StreamId, Transport};
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::{
    traffic::bad,
    world::{World, plain},
};

/// One way of one stream, as its two ends know it.
#[derive(Default, Debug)]
struct Way {
    written: Vec<u8>,
    /// What did not fit, and waits to be told that it may.
    rest: Vec<u8>,
    end_asked: bool,
    ended: bool,
    reset: Option<u64>,
    /// The writer knows that the reader wants no more.
    told_stop: bool,
    stops: usize,
    got: Vec<u8>,
    got_end: bool,
    got_reset: Option<u64>,
    stopped: bool,
}

struct Play {
    world: World,
    client: Handle,
    server: (usize, Handle),
    told: (usize, usize),
    /// By who writes and on which stream.
    ways: BTreeMap<(Side, StreamId), Way>,
    /// Which side knows of which stream.
    known: BTreeSet<(Side, StreamId)>,
    rng: StdRng,
    /// Codes that quiche had forgotten.
    forgotten: usize,
}

const SIDES: [Side; 2] = [Side::Client, Side::Server];

fn other(side: Side) -> Side {
    if side == Side::Client { Side::Server } else { Side::Client }
}

impl Play {
    fn at(&mut self, side: Side) -> &mut Connection {
        match side {
            Side::Client => self.world.client_at(self.client),
            Side::Server => self.world.server_at(self.server),
        }
    }

    fn open(&mut self, side: Side) {
        let direction = if self.rng.random() { Direction::Bidirectional } else { Direction::Unidirectional };
        match self.at(side).open(direction) {
            Ok(id) => self.know(side, id),
            Err(error) => assert_eq!(error, StreamError::Limit),
        }
    }

    fn know(&mut self, side: Side, id: StreamId) {
        self.known.insert((side, id));
        self.ways.entry((id.side(), id)).or_default();
        if !id.is_uni() {
            self.ways.entry((other(id.side()), id)).or_default();
        }
    }

    /// A way that one side writes, or reads.
    fn any(&mut self, side: Side, writes: bool) -> Option<StreamId> {
        let writer = if writes { side } else { other(side) };
        let ways = self.ways.keys().filter(|(other, id)| *other == writer && self.known.contains(&(side, *id)));
        let ids: Vec<_> = ways.map(|(_, id)| *id).collect();
        (!ids.is_empty()).then(|| ids[self.rng.random_range(0..ids.len())])
    }

    fn write(&mut self, side: Side, id: StreamId, bytes: &[u8], end: bool) {
        let taken = self.at(side).write(id, bytes, end);
        let way = self.ways.get_mut(&(side, id)).unwrap();
        match taken {
            Ok(taken) => {
                way.written.extend_from_slice(&bytes[..taken]);
                way.rest = bytes[taken..].to_vec();
                way.ended = end && way.rest.is_empty();
                way.end_asked = end;
            }
            Err(error) => {
                assert!(matches!(error, StreamError::Stopped(_) | StreamError::Unknown), "{error}");
                way.told_stop = true;
                way.rest.clear();
            }
        }
    }

    fn read(&mut self, side: Side, id: StreamId) {
        let mut chunk = [0; 700];
        loop {
            let read = self.at(side).read(id, &mut chunk);
            let way = self.ways.get_mut(&(other(side), id)).unwrap();
            match read {
                Ok((len, end)) => {
                    way.got.extend_from_slice(&chunk[..len]);
                    assert!(!(end && way.got_end), "an end is read once: {id:?}");
                    way.got_end |= end;
                }
                Err(StreamError::Reset(code)) => way.got_reset = Some(code),
                Err(_) => {}
            }
            if read.is_err() || way.got_end {
                return;
            }
        }
    }

    fn mischief(&mut self) {
        let side = SIDES[self.rng.random_range(0..2)];
        match self.rng.random_range(0..20) {
            0..4 => self.open(side),
            4..12 => {
                let Some(id) = self.any(side, true) else { return };
                let way = &self.ways[&(side, id)];
                if way.end_asked || way.reset.is_some() || way.told_stop || !way.rest.is_empty() {
                    return;
                }
                let end = self.rng.random_ratio(1, 3);
                // An end without bytes may be lost: see `Connection::write`.
                let is_empty = (!end || way.written.is_empty()) && self.rng.random_ratio(1, 4);
                let len = if is_empty { 0 } else { self.rng.random_range(1..6_000) };
                let bytes: Vec<u8> = (0..len).map(|_| self.rng.random()).collect();
                self.write(side, id, &bytes, end);
            }
            12..18 => {
                let Some(id) = self.any(side, false) else { return };
                self.read(side, id);
            }
            18 => {
                let Some(id) = self.any(side, true) else { return };
                let way = self.ways.get_mut(&(side, id)).unwrap();
                if !way.ended && !way.told_stop && way.reset.is_none() {
                    way.reset = Some(id.0 + 7);
                    way.rest.clear();
                    self.at(side).reset(id, id.0 + 7);
                }
            }
            _ => {
                let Some(id) = self.any(side, false) else { return };
                self.ways.get_mut(&(other(side), id)).unwrap().stopped = true;
                self.at(side).stop(id, id.0 + 9);
            }
        }
    }

    /// Takes what both ends are told.
    fn listen(&mut self, reads: bool) {
        let client = self.world.client_events[self.told.0..].iter().map(|(_, event)| (Side::Client, event.clone()));
        let server = self.world.server_events[self.told.1..].iter().map(|(_, _, event)| (Side::Server, event.clone()));
        let news: Vec<_> = client.chain(server).collect();
        self.told = (self.world.client_events.len(), self.world.server_events.len());
        for (side, event) in news {
            match event {
                Event::Opened(id) => self.know(side, id),
                Event::Readable(id) if reads => self.read(side, id),
                Event::Writable(id) => {
                    let way = self.ways.get_mut(&(side, id)).unwrap();
                    let (rest, end) = (std::mem::take(&mut way.rest), way.end_asked);
                    if !rest.is_empty() {
                        self.write(side, id, &rest, end);
                    }
                }
                Event::Stopped { id, code } => {
                    let way = self.ways.get_mut(&(side, id)).unwrap();
                    assert!(way.stopped && way.stops == 0, "{id:?} {way:?}");
                    assert!(code == id.0 + 9 || code == CODE_FORGOTTEN, "{id:?} {way:?}");
                    self.forgotten += usize::from(code == CODE_FORGOTTEN);
                    way.stops += 1;
                    way.told_stop = true;
                    way.rest.clear();
                }
                Event::Reset { id, code } => {
                    let way = self.ways.get_mut(&(other(side), id)).unwrap();
                    assert!(way.got_reset.is_none_or(|before| before == code));
                    assert!(Some(code) == way.reset || code == CODE_FORGOTTEN, "{id:?} {way:?}");
                    self.forgotten += usize::from(code == CODE_FORGOTTEN);
                    way.got_reset = Some(code);
                }
                Event::Closed(reason) => panic!("{reason}"),
                _ => {}
            }
        }
        self.world.flush();
    }

    /// Reads whatever has not ended.
    fn read_on(&mut self) {
        for side in SIDES {
            let ids: Vec<_> = self.ways.keys().filter(|(writer, _)| *writer != side).map(|(_, id)| *id).collect();
            for id in ids {
                if !self.ways[&(other(side), id)].got_end {
                    self.read(side, id);
                }
            }
        }
        self.listen(true);
        self.world.run_for(Duration::from_millis(20));
    }

    /// Ends what is open, after which quiche knows of no stream in both directions. Only one that was given up, and stopped
    /// when that was acknowledged, stays for ever: see `Connection::stop`.
    fn finish(&mut self, seed: u64) {
        // Some are known to the other side only then.
        for _ in 0..2 {
            let ways: Vec<_> = self.ways.keys().filter(|way| self.known.contains(way)).copied().collect();
            for (side, id) in ways {
                let way = &self.ways[&(side, id)];
                if !way.end_asked && way.reset.is_none() && !way.told_stop {
                    self.write(side, id, b"last", true);
                }
            }
            (0..60).for_each(|_| self.read_on());
        }
        let ways: Vec<_> = self.ways.keys().copied().collect();
        for (side, id) in ways.into_iter().filter(|(_, id)| !id.is_uni()) {
            if self.ways[&(side, id)].reset.is_none() || !self.ways[&(other(side), id)].stopped {
                let capacity = self.at(side).capacity(id);
                assert_eq!(capacity, Err(StreamError::Unknown), "seed {seed}, {side:?} keeps {id:?}");
            }
        }
    }

    /// Whether what must be told was told; how many streams that were given up have an end nevertheless.
    fn check(&self, seed: u64) -> usize {
        let mut cut = 0;
        for ((side, id), way) in &self.ways {
            let why = format!(
                "seed {seed}, {side:?} on {id:?}: {} written, {} wait, {} got, ended {}, told of a stop {}",
                way.written.len(),
                way.rest.len(),
                way.got.len(),
                way.ended,
                way.told_stop
            );
            assert!(way.written.starts_with(&way.got), "{why}");
            if way.got_end && !way.ended {
                assert!(way.reset.is_some(), "{why}");
                cut += 1;
            } else if way.stopped {
                assert!(way.told_stop || way.ended || way.reset.is_some(), "{why}: a stop is told");
            } else if way.reset.is_some() {
                // An idle stream is opened by nothing that is reset before it was sent.
                assert!(way.got_reset.is_some() || way.written.is_empty(), "{why}: a reset is told");
            } else {
                assert!(way.rest.is_empty() && !way.told_stop, "{why}: what waits may go");
                assert!(way.got == way.written && way.got_end == way.ended, "{why}: all arrives");
            }
        }
        cut
    }
}

#[test]
fn what_happens_to_streams_is_told() {
    // In the last ones, as a rule, quiche forgets a stop or a reset before they can be asked for. Its packets are not the same
    // in every run: it draws random numbers of its own.
    let (mut forgotten, mut cut) = (0, 0);
    for seed in (0..200).chain([1155, 1935, 2485]) {
        println!("seed {seed}");
        let transport = Transport {
            data_max: 30_000,
            data_window_max: 30_000,
            stream_data_max: 8_000,
            stream_window_max: 8_000,
            streams_bidirectional_max: 12,
            streams_unidirectional_max: 12,
            ..Transport::default()
        };
        let link = if seed % 2 == 0 { plain() } else { bad() };
        let mut world = World::with(seed, 1, link, &transport, |_| {});
        let (client, server) = world.connected();
        let rng = StdRng::seed_from_u64(seed);
        let mut play = Play {
            world,
            client,
            server,
            told: (0, 0),
            ways: BTreeMap::new(),
            known: BTreeSet::new(),
            rng,
            forgotten: 0,
        };
        for _ in 0..300 {
            play.mischief();
            if play.rng.random_ratio(1, 3) {
                let pause = play.rng.random_range(0..30);
                play.world.run_for(Duration::from_millis(pause));
            }
            play.listen(false);
        }
        // All is read from now on: what was told before and left has to be asked for.
        (0..400).for_each(|_| play.read_on());
        cut += play.check(seed);
        forgotten += play.forgotten;
        let told = play.world.client_events.len() + play.world.server_events.len();
        assert!(told < 2_000, "{told} events, seed {seed}");
        play.finish(seed);
    }
    assert!((1..10).contains(&forgotten), "{forgotten} codes are forgotten");
    // See `Connection::reset`: of so few worlds hardly one has any.
    assert!(cut <= 1, "{cut} streams that were given up look ended");
}
