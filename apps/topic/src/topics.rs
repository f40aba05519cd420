//! The topics of one shard: both their parts, and the door through which an app reaches them.

use std::sync::Arc;

use ahash::RandomState;
use handler::{Code, Cx, Message, Outcome, Peer, PeerInfo, Pressure, ShardId, Ticket, Timer};

use crate::{
    desk::Desk,
    due::{Chore, TIMER},
    facts::Change,
    home::{Home, NO_PEER, is_own},
    journal::{RecoverError, Recovered, Segments},
    limit::Limits,
    local::Local,
    mail::{Letter, Mail, Refusal},
    own::News,
    page::Page,
    snapshot::{Restored, Share, Snapshot},
    stats::{JournalSize, Size, Stats},
    watermark::Watermark,
};

/// The topics of one shard. The app that embeds it passes on what it is told.
#[derive(Debug)]
pub struct Topics {
    pub(crate) desk: Desk,
    pub(crate) local: Local,
    pub(crate) home: Home,
}

impl Topics {
    /// No topics yet. The seed keeps hashes secret from whoever chooses names.
    #[must_use]
    pub fn new(limits: Limits, seed: u64) -> Self {
        let hasher = RandomState::with_seeds(seed, !seed, seed.rotate_left(21), seed.rotate_left(42));
        let (local, home) = (Local::new(hasher.clone()), Home::new(hasher.clone()));
        Self { desk: Desk::new(limits, hasher), local, home }
    }

    /// Brings back what a shard's journal has, and journals from now on. Topics that `in_memory` means (names, or
    /// beginnings of names with a `*` behind) are not journaled. All segments of a journal have `origin` in common.
    ///
    /// # Errors
    /// The journal cannot be read, or is damaged.
    pub fn recover(
        &mut self,
        (shard, origin): (ShardId, u64),
        in_memory: Vec<String>,
        source: &mut dyn Segments,
    ) -> Result<Recovered, RecoverError> {
        let segment_bytes = self.desk.limits.segment_bytes;
        self.home.recover(&mut self.desk, (shard, origin), (segment_bytes, in_memory), source)
    }

    /// The shard runs: the journal may write.
    pub fn on_start(&mut self, cx: &mut Cx<'_, Mail>) {
        self.home.start(cx, &mut self.desk);
    }

    /// A disk operation ended.
    pub fn on_disk(&mut self, cx: &mut Cx<'_, Mail>, ticket: Ticket, outcome: Outcome) {
        self.home.on_disk(cx, &mut self.desk, ticket, outcome);
    }

    /// The shard has done what was to be done for now: what was gathered is written.
    pub fn on_turn_end(&mut self, cx: &mut Cx<'_, Mail>) {
        self.home.flush(cx, &mut self.desk);
    }

    /// Whether nothing waits for the disk.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.home.is_settled()
    }

    /// Changes facts about something that is at home here, named like a topic. They are true at once;
    /// [`Topics::settled`] tells when they are on disk, or that they were taken back.
    ///
    /// # Errors
    /// Why they were not taken: nothing has changed.
    pub fn record(&mut self, name: &str, changes: &[Change], token: u64) -> Result<(), (Code, &'static str)> {
        let refused = |refusal: Refusal| (refusal.code, refusal.message);
        self.home.record(&name.into(), changes, token).map_err(refused)
    }

    /// The tokens of changes that were settled since it was last asked.
    pub fn settled(&mut self) -> impl Iterator<Item = (u64, Result<(), (Code, &'static str)>)> {
        let refused = |refusal: Refusal| (refusal.code, refusal.message);
        let settled = self.home.take_settled().into_iter();
        settled.filter(|settled| !is_own(settled.token)).map(move |it| (it.token, it.outcome.map_err(refused)))
    }

    /// A fact about something that is at home here.
    #[must_use]
    pub fn fact(&self, name: &str, key: &str) -> Option<&[u8]> {
        self.home.fact(name, key).map(|value| &value[..])
    }

    /// The facts about something that is at home here whose keys begin with `prefix` and come after `after`, in order.
    pub fn facts<'a>(
        &'a self,
        name: &str,
        prefix: &str,
        after: Option<&str>,
    ) -> impl Iterator<Item = (&'a str, &'a [u8])> + use<'a> {
        self.home.facts().range(name, prefix, after)
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
            Message::Pub { id, topic, seq, body } => local.on_pub(cx, desk, (peer, id), topic, (seq, body, 0)),
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

    /// Mail of topics on another shard, or this one. A page that was asked for is the app's to answer, and what the app
    /// wrote is its own to read.
    pub fn on_mail(&mut self, cx: &mut Cx<'_, Mail>, from: ShardId, mail: Mail) -> Option<News> {
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
            Letter::Ack { delivered, read, parcel } => home.on_ack(cx, desk, (delivered, read), &parcel),
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
            Letter::Published { peer, id, offset, level, parcel } => {
                local.on_published(cx, desk, (peer, id), (offset, level), &parcel);
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
                if peer != NO_PEER {
                    local.members.get(peer)?;
                }
                let topic = desk.names.intern(page.parcel.text(0)).text;
                return Some(News::Page(Page::new(peer, id, topic, *page)));
            }
            Letter::App(letter) => return Some(News::App(letter)),
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
                Chore::Retry => home.retry(cx),
                Chore::ReadAgain => home.read_again(cx, desk),
                Chore::Retain => home.retain(cx, desk),
                Chore::Carry => home.carry_facts(cx, desk),
                Chore::Marks => home.write_marks(cx, desk),
            }
        }
        desk.due.arm(cx);
    }

    /// The run ends: marks that have risen are written before their time. [`Topics::is_settled`] tells when they are on disk.
    pub fn finish(&mut self, cx: &mut Cx<'_, Mail>) {
        self.home.write_marks(cx, &mut self.desk);
        self.desk.due.arm(cx);
    }

    /// All topics that are at home here, for the next run. From here on publications are refused, but for repeats.
    #[must_use]
    pub fn hand_over(&mut self) -> Share {
        self.home.hand_over()
    }

    /// Takes up the topics of an earlier run, of those that `keep` wants: it knows which are at home here. Those that are
    /// in the journal stay as they are; the others are written to it, if there is one that is to have them.
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

    /// Changes whenever [`Topics::journal`] may have; 0: there is no journal.
    #[must_use]
    pub fn journal_revision(&self) -> u64 {
        self.home.journal_revision()
    }

    /// What the journal is like, if there is one.
    #[must_use]
    pub fn journal(&self) -> Option<JournalSize> {
        self.home.journal_size()
    }

    /// What is held here. It counts, so it is not for every turn.
    #[must_use]
    pub fn size(&self) -> Size {
        Size {
            topics: self.home.topics(),
            asleep: self.home.asleep(),
            history_bytes: self.home.history_bytes(),
            listeners: self.home.listeners(),
            listening: self.local.aliases.len(),
            peers: self.local.members.len(),
            subs: self.local.members.subs(),
            pending: self.local.aliases.pending(),
            names: self.desk.names.held(),
            chores: self.desk.due.len(),
            places: self.home.places(),
        }
    }
}
