//! A batch of publications on its way to disk: what a shard does for it beside the kernel's work.

use std::{hint::black_box, io, time::Instant};

use bytes::BytesMut;
use handler::{Cx, DiskOperation, Effect, FileId, Map, Message, Out, Outcome, Peer, PeerInfo, ShardId, Ticket};
use rand::{SeedableRng, rngs::StdRng};
use topic::{Limits, Mail, Topics, journal::Segments};

/// Publications of one turn, which are committed together.
const BATCH: u32 = 32;

const PEER: Peer = Peer { index: 0, generation: 0 };
const BODY: &[u8] = br#"{"type":"text","text":"The quick brown fox jumps over the lazy dog, and nobody is surprised by that any more."}"#;

/// A folder without segments.
struct Empty;

impl Segments for Empty {
    fn numbers(&mut self) -> io::Result<Vec<u64>> {
        Ok(Vec::new())
    }

    fn read(&mut self, _number: u64, _most: usize) -> io::Result<Vec<u8>> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn cut(&mut self, _number: u64, _length: u64) -> io::Result<()> {
        Err(io::ErrorKind::NotFound.into())
    }
}

/// One shard whose disk takes everything at once.
struct Shard {
    topics: Topics,
    out: Out<Mail>,
    arena: BytesMut,
    rng: StdRng,
    map: Map,
    now: Instant,
    answers: u64,
}

impl Shard {
    fn new() -> Self {
        let mut topics = Topics::new(Limits::default(), 7);
        topics.recover((ShardId(0), 1), Vec::new(), &mut Empty).expect("there is nothing to be wrong");
        let (rng, map, now) = (StdRng::seed_from_u64(7), Map::even(1), Instant::now());
        let mut shard = Self { topics, out: Out::default(), arena: BytesMut::new(), rng, map, now, answers: 0 };
        shard.call(|topics, cx| topics.on_start(cx));
        let info = PeerInfo { user: "ada".into(), device: "phone".into(), guest: false };
        shard.topics.on_open(PEER, &info);
        shard
    }

    /// One call, and all that comes of it.
    fn call(&mut self, work: impl FnOnce(&mut Topics, &mut Cx<'_, Mail>)) {
        self.step(work);
        self.settle();
        // What was gathered meanwhile is written, and what is on disk is answered.
        self.step(|topics, cx| topics.on_turn_end(cx));
        self.settle();
    }

    fn step(&mut self, work: impl FnOnce(&mut Topics, &mut Cx<'_, Mail>)) {
        let Self { topics, out, arena, rng, map, now, .. } = self;
        let mut cx = Cx { now: *now, wall_ms: 1_800_000_000_000, shard: ShardId(0), rng, map, arena, out };
        work(topics, &mut cx);
    }

    fn settle(&mut self) {
        while !self.out.effects.is_empty() {
            let Out { mut effects, peers } = std::mem::take(&mut self.out);
            for effect in effects.drain(..) {
                match effect {
                    Effect::Mail { mail, .. } => self.step(|topics, cx| _ = topics.on_mail(cx, ShardId(0), mail)),
                    Effect::Disk { ticket, operation } => self.do_on_disk(ticket, &operation),
                    Effect::Send { push, .. } => {
                        black_box(&push);
                        self.answers += 1;
                    }
                    Effect::Publish { .. } | Effect::WakeAt { .. } | Effect::Close { .. } => {}
                }
            }
            self.out.restore(effects, peers);
        }
    }

    fn do_on_disk(&mut self, ticket: Ticket, operation: &DiskOperation) {
        let outcome = match operation {
            DiskOperation::Open { .. } => Outcome::Opened { file: FileId(ticket.0 as u32), len: 0 },
            _ => Outcome::Done,
        };
        self.step(|topics, cx| topics.on_disk(cx, ticket, outcome));
    }
}

/// Batches of [`BATCH`] publications in as many topics: taken, written in one piece, told.
pub(crate) fn publish(count: u64) {
    let mut shard = Shard::new();
    let topics: Vec<String> = (0..BATCH).map(|n| format!("chat/room-{n}")).collect();
    for round in 1..=count {
        shard.call(|it, cx| {
            for (id, topic) in (0..).zip(&topics) {
                it.on_message(cx, PEER, Message::Pub { id, topic, seq: Some(round), body: BODY });
            }
        });
    }
    assert_eq!(shard.answers, count * u64::from(BATCH), "each publication is answered once");
}
