//! One message to many readers.

use bytes::BytesMut;
use handler::{Cx, Effect, Map, Message, Out, Peer, PeerInfo, Push, ShardId};
use rand::{SeedableRng, rngs::StdRng};
use topic::{Limits, Mail, Topics};

const READERS: u32 = 5_000;

/// One shard by hand, so that its effects can be counted.
struct Shard {
    topics: Topics,
    out: Out<Mail>,
    arena: BytesMut,
    rng: StdRng,
    now: std::time::Instant,
}

impl Shard {
    fn new() -> Self {
        let (arena, rng, now) = (BytesMut::new(), StdRng::seed_from_u64(1), std::time::Instant::now());
        Self { topics: Topics::new(Limits::default(), 1), out: Out::default(), arena, rng, now }
    }

    fn call(&mut self, work: impl FnOnce(&mut Topics, &mut Cx<'_, Mail>)) {
        let Self { topics, out, arena, rng, now } = self;
        let mut cx = Cx { now: *now, wall_ms: 0, shard: ShardId(0), rng, map: &Map::even(1), arena, out };
        work(topics, &mut cx);
    }

    /// Delivers mail until there is none; what else was asked for.
    fn run(&mut self) -> (Vec<Effect<Mail>>, Vec<Peer>) {
        let (mut rest, mut peers) = (Vec::new(), Vec::new());
        while !self.out.effects.is_empty() {
            let out = std::mem::take(&mut self.out);
            for effect in out.effects {
                match effect {
                    Effect::Mail { mail, .. } => self.call(|topics, cx| {
                        topics.on_mail(cx, ShardId(0), mail);
                    }),
                    Effect::Publish { peers: range, push } => {
                        let start = peers.len();
                        peers.extend_from_slice(&out.peers[range]);
                        rest.push(Effect::Publish { peers: start..peers.len(), push });
                    }
                    other => rest.push(other),
                }
            }
        }
        (rest, peers)
    }
}

#[test]
fn five_thousand_readers_cost_one_effect() {
    let mut shard = Shard::new();
    for index in 0..READERS {
        let peer = Peer { index, generation: 1 };
        let info = PeerInfo { user: format!("user-{index}").as_str().into(), device: "one".into(), guest: false };
        let message = Message::Sub { id: 1, topic: "chat/lobby", epoch: None, after: None };
        shard.call(|topics, _| topics.on_open(peer, &info));
        shard.call(|topics, cx| topics.on_message(cx, peer, message));
        shard.run();
    }
    let publisher = Peer { index: 7, generation: 1 };
    let message = Message::Pub { id: 9, topic: "chat/lobby", seq: Some(1), body: b"{}" };
    shard.call(|topics, cx| topics.on_message(cx, publisher, message));
    let (effects, peers) = shard.run();
    let [first, second] = &effects[..] else { panic!("{} effects", effects.len()) };
    let published = |effect: &Effect<Mail>| matches!(effect, Effect::Publish { push: Push::Msg { offset: 1, .. }, .. });
    let answered = |effect: &Effect<Mail>| matches!(effect, Effect::Send { peer, push: Push::PubOk { id: 9, offset: 1, .. } } if *peer == publisher);
    assert!(published(first) && answered(second) || published(second) && answered(first));
    let mut readers: Vec<u32> = peers.iter().map(|peer| peer.index).collect();
    readers.sort_unstable();
    assert_eq!(readers, (0..READERS).collect::<Vec<_>>());
    assert_eq!(shard.topics.stats().pushed, u64::from(READERS));
}
