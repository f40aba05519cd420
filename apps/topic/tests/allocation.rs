//! In the steady state a message goes from its publisher through its home to its readers without an allocation.

use std::{alloc::System, time::Instant};

use bytes::{Bytes, BytesMut};
use handler::{Copier, Cx, Effect, Map, Message, Out, Peer, PeerInfo, ShardId};
use rand::{SeedableRng, rngs::StdRng};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use topic::{Limits, Mail, Topics};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const SHARDS: u16 = 2;
const READERS: u32 = 50;
const TOPIC: &str = "chat/lobby";

struct Shard {
    topics: Topics,
    out: Out<Mail>,
    /// The list of the last round, whose memory is used again.
    spare: Out<Mail>,
    arena: Arena,
    rng: StdRng,
    pushes: u64,
}

/// Blocks that are filled in turn: when one comes round again, nobody refers to it any more.
#[derive(Debug)]
struct Arena {
    blocks: [BytesMut; 3],
    current: usize,
}

impl Arena {
    const BLOCK_BYTES: usize = 1 << 17;

    fn new() -> Self {
        Self { blocks: std::array::from_fn(|_| BytesMut::with_capacity(Self::BLOCK_BYTES)), current: 0 }
    }
}

impl Copier for Arena {
    fn copy(&mut self, bytes: &[u8]) -> Bytes {
        if self.blocks[self.current].capacity() < bytes.len() {
            self.current = (self.current + 1) % self.blocks.len();
            assert!(self.blocks[self.current].try_reclaim(Self::BLOCK_BYTES), "somebody keeps a body");
        }
        self.blocks[self.current].copy(bytes)
    }
}

struct World {
    shards: Vec<Shard>,
    map: Map,
    now: Instant,
}

impl World {
    fn new() -> Self {
        let shard = |n: u64| Shard {
            topics: Topics::new(Limits::default(), n),
            out: Out::default(),
            spare: Out::default(),
            arena: Arena::new(),
            rng: StdRng::seed_from_u64(n),
            pushes: 0,
        };
        let mut world =
            Self { shards: (0..SHARDS.into()).map(shard).collect(), map: Map::even(SHARDS), now: Instant::now() };
        for shard in 0..SHARDS {
            for index in 0..READERS {
                let user = format!("user-{shard}-{index}");
                let info = PeerInfo { user: user.as_str().into(), device: "laptop".into(), guest: false };
                let peer = Peer { index, generation: 1 };
                world.call(shard, |topics, _| topics.on_open(peer, &info));
                world.say(shard, index, Message::Sub { id: 1, topic: TOPIC, epoch: None, after: None });
            }
        }
        world
    }

    fn say(&mut self, shard: u16, index: u32, message: Message<'_>) {
        self.call(shard, |topics, cx| topics.on_message(cx, Peer { index, generation: 1 }, message));
        while (0..SHARDS).any(|shard| self.carry_out(shard)) {}
    }

    fn call(&mut self, shard: u16, work: impl FnOnce(&mut Topics, &mut Cx<'_, Mail>)) {
        let Shard { topics, out, arena, rng, .. } = &mut self.shards[usize::from(shard)];
        let mut cx = Cx { now: self.now, wall_ms: 1, shard: ShardId(shard), rng, map: &self.map, arena, out };
        work(topics, &mut cx);
    }

    /// Carries out what one shard asks for; whether it was anything.
    fn carry_out(&mut self, from: u16) -> bool {
        let shard = &mut self.shards[usize::from(from)];
        std::mem::swap(&mut shard.out, &mut shard.spare);
        let mut asked = std::mem::take(&mut shard.spare);
        let busy = !asked.effects.is_empty();
        for effect in asked.effects.drain(..) {
            match effect {
                Effect::Mail { to, mail } => self.call(to.0, |topics, cx| {
                    topics.on_mail(cx, ShardId(from), mail);
                }),
                Effect::Publish { peers, .. } => self.shards[usize::from(from)].pushes += peers.len() as u64,
                Effect::Send { .. } => self.shards[usize::from(from)].pushes += 1,
                Effect::WakeAt { .. } | Effect::Disk { .. } | Effect::Close { .. } => {}
            }
        }
        asked.peers.clear();
        self.shards[usize::from(from)].spare = asked;
        busy
    }

    fn pushes(&self) -> u64 {
        self.shards.iter().map(|shard| shard.pushes).sum()
    }
}

/// One test in this file: the counter counts the whole process.
#[test]
fn a_message_costs_no_allocation_in_the_steady_state() {
    let mut world = World::new();
    let mut seq = 0;
    let mut round = |world: &mut World, count: u64| {
        for n in 0..count {
            seq += 1;
            let (shard, index) = ((n % u64::from(SHARDS)) as u16, (n % u64::from(READERS)) as u32);
            let body = &[b'x'; 256][..(100 + n % 100) as usize];
            world.say(shard, index, Message::Pub { id: 2, topic: TOPIC, seq: Some(seq), body });
            world.say(shard, index, Message::Eph { topic: TOPIC, key: "cursor", body: b"{\"x\":1}" });
        }
    };
    // Until the history is full and every list has its size.
    round(&mut world, 20_000);
    let before = world.pushes();
    let region = Region::new(ALLOCATOR);
    round(&mut world, 10_000);
    let change = region.change();
    assert_eq!(world.pushes() - before, 10_000 * u64::from(u32::from(SHARDS) * READERS * 2));
    assert_eq!((change.allocations, change.reallocations), (0, 0), "{change:?}");
}
