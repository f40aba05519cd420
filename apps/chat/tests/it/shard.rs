//! One shard with chat, driven by hand.

use std::{sync::Arc, time::Instant};

use bytes::BytesMut;
use chat::{Chat, Settings, rate::Rates};
use handler::{App, Code, Cx, Effect, Map, Message, Out, Peer, PeerInfo, Push, ShardId};
use rand::{SeedableRng, rngs::StdRng};
use topic::{Limits, Mail};

/// A shard, and all that its peers were told.
pub(crate) struct Shard {
    chat: Chat,
    out: Out<Mail>,
    arena: BytesMut,
    rng: StdRng,
    now: Instant,
    pub(crate) told: Vec<(Peer, Push)>,
}

impl Shard {
    pub(crate) fn new() -> Self {
        let (arena, rng, now) = (BytesMut::new(), StdRng::seed_from_u64(1), Instant::now());
        Self {
            chat: Chat::new(
                Limits::default(),
                Settings { rates: Rates::OFF, ..Settings::default() },
                Arc::default(),
                1,
            ),
            out: Out::default(),
            arena,
            rng,
            now,
            told: Vec::new(),
        }
    }

    pub(crate) fn open(&mut self, index: u32, user: &str) -> Peer {
        let peer = Peer { index, generation: 1 };
        let info = PeerInfo { user: Arc::from(user), device: Arc::from("laptop"), guest: false };
        self.call(|chat, cx| chat.on_open(cx, peer, &info));
        peer
    }

    /// A peer says something; what it is told until nothing more happens. Others' pushes stay in `told`.
    pub(crate) fn say(&mut self, peer: Peer, message: Message<'_>) -> Vec<Push> {
        self.call(|chat, cx| chat.on_message(cx, peer, message));
        while !self.out.effects.is_empty() {
            let out = std::mem::take(&mut self.out);
            for effect in out.effects {
                match effect {
                    Effect::Mail { mail, .. } => self.call(|chat, cx| chat.on_mail(cx, ShardId(0), mail)),
                    Effect::Send { peer, push } => self.told.push((peer, push)),
                    Effect::Publish { peers, push } => {
                        self.told.extend(out.peers[peers].iter().map(|peer| (*peer, push.clone())));
                    }
                    Effect::WakeAt { .. } | Effect::Disk { .. } | Effect::Close { .. } => {}
                }
            }
        }
        let (own, others) = std::mem::take(&mut self.told).into_iter().partition(|(to, _)| *to == peer);
        self.told = others;
        let own: Vec<(Peer, Push)> = own;
        own.into_iter().map(|(_, push)| push).collect()
    }

    fn call(&mut self, work: impl FnOnce(&mut Chat, &mut Cx<'_, Mail>)) {
        let Self { chat, out, arena, rng, now, .. } = self;
        let mut cx = Cx { now: *now, wall_ms: 5, shard: ShardId(0), rng, map: &Map::even(1), arena, out };
        work(chat, &mut cx);
    }
}

/// The code and correlation of the one error that was told.
pub(crate) fn refusal(told: &[Push]) -> Option<(Option<u32>, Code)> {
    match told {
        [Push::Err { id, code, .. }] => Some((*id, *code)),
        _ => None,
    }
}
