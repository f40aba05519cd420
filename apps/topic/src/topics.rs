//! The topics of one shard: both their parts, and the door through which an app reaches them.

use std::sync::Arc;

use ahash::RandomState;
use handler::{Cx, Message, Peer, PeerInfo, Pressure, ShardId, Timer};

use crate::{
    desk::Desk,
    due::{Chore, TIMER},
    home::Home,
    limit::Limits,
    local::Local,
    mail::{Letter, Mail},
    page::Page,
    snapshot::{Restored, Share, Snapshot},
    stats::{Size, Stats},
    watermark::Watermark,
};

/// The topics of one shard. The app that embeds it passes on what it is told.
#[derive(Debug)]
pub struct Topics {
    desk: Desk,
    local: Local,
    home: Home,
}

impl Topics {
    /// No topics yet. The seed keeps hashes secret from whoever chooses names.
    #[must_use]
    pub fn new(limits: Limits, seed: u64) -> Self {
        let hasher = RandomState::with_seeds(seed, !seed, seed.rotate_left(21), seed.rotate_left(42));
        let (local, home) = (Local::new(hasher.clone()), Home::new(hasher.clone()));
        Self { desk: Desk::new(limits, hasher), local, home }
    }

    /// A session opened.
    pub fn on_open(&mut self, peer: Peer, info: &PeerInfo) {
        self.local.on_open(peer, info);
    }

    /// A session asks for something about a topic; `Req` is the app's own business and ignored here.
    pub fn on_message(&mut self, cx: &mut Cx<'_, Mail>, peer: Peer, message: Message<'_>) {
        let Self { desk, local, .. } = self;
        match message {
            Message::Sub { id, topic, epoch, after } => local.on_sub(cx, desk, (peer, id), topic, (epoch, after)),
            Message::Unsub { id, topic } => local.on_unsub(cx, desk, (peer, id), topic),
            Message::Pub { id, topic, seq, body } => local.on_pub(cx, desk, (peer, id), topic, (seq, body)),
            Message::Eph { topic, key, body } => local.on_eph(cx, desk, peer, topic, (key, body)),
            Message::Ack { topic, delivered, read } => local.on_ack(cx, desk, peer, topic, (delivered, read)),
            Message::Req { .. } => {}
        }
    }

    /// Asks for at most `limit` records before the offset `before`, or the newest; [`Topics::on_mail`] gives the page.
    pub fn browse(
        &mut self,
        cx: &mut Cx<'_, Mail>,
        (peer, id): (Peer, u32),
        topic: &str,
        before: Option<u64>,
        limit: u32,
    ) {
        self.local.on_browse(cx, &mut self.desk, (peer, id), topic, (before, limit));
    }

    /// A peer's outbound queue crossed its soft limit, or is empty again.
    pub fn on_pressure(&mut self, cx: &mut Cx<'_, Mail>, peer: Peer, pressure: Pressure) {
        self.local.on_pressure(cx, &mut self.desk, peer, pressure);
    }

    /// A session is gone.
    pub fn on_close(&mut self, cx: &mut Cx<'_, Mail>, peer: Peer) {
        self.local.on_close(cx, &mut self.desk, peer);
    }

    /// Mail of topics on another shard, or this one. A page that was asked for is the app's to answer.
    pub fn on_mail(&mut self, cx: &mut Cx<'_, Mail>, from: ShardId, mail: Mail) -> Option<Page> {
        let Self { desk, local, home } = self;
        match mail.0 {
            Letter::Subscribe { listener, sub, epoch, after, parcel } => {
                home.on_subscribe(cx, desk, from, (listener, sub), (epoch, after), parcel);
            }
            Letter::Unsubscribe { parcel } => home.on_unsubscribe(cx, desk, from, &parcel),
            Letter::Pull { listener, sub, next, parcel } => {
                home.on_pull(cx, desk, from, (listener, sub), next, &parcel);
            }
            Letter::Publish { peer, id, seq, parcel } => home.on_publish(cx, desk, from, (peer, id), seq, parcel),
            Letter::Wave { peer, parcel } => home.on_wave(cx, desk, from, peer, &parcel),
            Letter::Ack { delivered, read, parcel } => home.on_ack(desk, (delivered, read), &parcel),
            Letter::Browse { peer, id, before, limit, parcel } => {
                home.on_browse(cx, desk, from, (peer, id), (before, limit), parcel);
            }
            Letter::Subscribed { listener, sub, epoch, next, head, count, parcel } => {
                local.on_subscribed(cx, desk, (listener, sub), (epoch, next, head), count, parcel);
            }
            Letter::Roster { listener, sub, count, names } => {
                local.on_roster(cx, desk, (listener, sub), count, &names);
            }
            Letter::Refused { listener, sub, refusal } => local.on_refused(cx, desk, (listener, sub), refusal),
            Letter::Published { peer, id, offset, parcel } => {
                local.on_published(cx, desk, (peer, id), offset, &parcel);
            }
            Letter::Rejected { peer, id, refusal } => local.on_rejected(cx, desk, (peer, id), refusal),
            Letter::Chunk { listener, sub, next, first, head, records } => {
                local.on_chunk(cx, desk, (listener, sub), (next, first, head), &records);
            }
            Letter::Deliver { listener, offset, at_ms, parcel } => {
                local.on_deliver(cx, desk, listener, (offset, at_ms), &parcel);
            }
            Letter::Waved { listener, shard, peer, parcel } => {
                local.on_waved(cx, desk, listener, (shard, peer), &parcel);
            }
            Letter::Presence { listener, count, joined, left } => {
                local.on_presence(cx, desk, listener, count, (&joined, &left));
            }
            Letter::Page { peer, id, page } => {
                local.members.get(peer)?;
                let topic = desk.names.intern(page.parcel.text(0)).text;
                return Some(Page::new(peer, id, topic, *page));
            }
        }
        None
    }

    /// A timer is due; only [`TIMER`] concerns topics.
    pub fn on_timer(&mut self, cx: &mut Cx<'_, Mail>, timer: Timer) {
        if timer != TIMER {
            return;
        }
        let Self { desk, local, home } = self;
        desk.due.fired();
        while let Some(chore) = desk.due.pop(cx.now) {
            match chore {
                Chore::Presence(place) => home.tell_presence(cx, desk, place),
                Chore::Expire(alias) => local.expire(cx, desk, alias),
            }
        }
        desk.due.arm(cx);
    }

    /// All topics that are at home here, for the next run. From here on publications are refused, but for repeats.
    #[must_use]
    pub fn hand_over(&mut self) -> Share {
        self.home.hand_over()
    }

    /// Takes up the topics of an earlier run, of those that `keep` wants: it knows which are at home here.
    ///
    /// # Panics
    /// If there are topics already.
    pub fn take_up(&mut self, snapshot: &Snapshot, keep: impl Fn(&str) -> bool) -> Restored {
        self.home.take_up(&mut self.desk, snapshot, keep)
    }

    /// The topic that a peer means with an alias: only one that it subscribes to.
    #[must_use]
    pub fn topic_of(&self, peer: Peer, alias: u32) -> Option<Arc<str>> {
        self.local.topic_of(peer, alias)
    }

    /// How far a user has come in a topic that is at home here.
    #[must_use]
    pub fn watermark(&self, topic: &str, user: &str) -> Option<Watermark> {
        self.home.watermark(topic, user)
    }

    /// What has happened here.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.desk.stats
    }

    /// Topics that are at home here.
    #[must_use]
    pub fn count(&self) -> usize {
        self.home.topics()
    }

    /// What is held here. It counts, so it is not for every turn.
    #[must_use]
    pub fn size(&self) -> Size {
        Size {
            topics: self.home.topics(),
            history_bytes: self.home.history_bytes(),
            listeners: self.home.listeners(),
            listening: self.local.aliases.len(),
            peers: self.local.members.len(),
            subs: self.local.members.subs(),
            pending: self.local.aliases.pending(),
            names: self.desk.names.held(),
            chores: self.desk.due.len(),
        }
    }
}
