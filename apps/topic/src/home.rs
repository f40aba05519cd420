//! The topics that are at home on this shard: the one place that gives offsets, keeps history and knows who is there.

mod handover;

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use ahash::RandomState;
use handler::{Code, Cx, ShardId};
use rand::Rng;
use slab::Slab;

use crate::{
    desk::Desk,
    due::Chore,
    mail::{Letter, Listener, Mail, PageLetter, Parcel, Refusal, SubId},
    topic::Topic,
    watermark::Watermark,
};

/// All topics of this home.
#[derive(Debug)]
pub(crate) struct Home {
    topics: Slab<Box<Topic>>,
    by_name: HashMap<Arc<str>, usize, RandomState>,
    /// Topics that nobody listens to, in the order in which they may go.
    idle: BTreeSet<(u64, usize)>,
    /// Counts what happens, for the order of `idle`.
    ticks: u64,
    history_bytes: usize,
    /// The topics were handed over: nothing gets an offset any more.
    closed: bool,
}

const FULL: Refusal = Refusal::full("too many topics");
const NO_ROOM: Refusal = Refusal::full("no room for more history");
const STOPPING: Refusal = Refusal::new(Code::Unavailable, "the server is stopping");
const BEYOND: Refusal = Refusal::new(Code::OutOfRange, "`after` is beyond the newest offset");

impl Home {
    pub(crate) fn new(hasher: RandomState) -> Self {
        Self {
            topics: Slab::new(),
            by_name: HashMap::with_hasher(hasher),
            idle: BTreeSet::new(),
            ticks: 0,
            history_bytes: 0,
            closed: false,
        }
    }

    pub(crate) fn on_subscribe(
        &mut self,
        cx: &mut Cx<'_, Mail>,
        desk: &mut Desk,
        from: ShardId,
        (listener, sub): (Listener, SubId),
        (epoch, after): (Option<u64>, Option<u64>),
        parcel: Parcel,
    ) {
        let Some(place) = self.open(cx, desk, parcel.text(0)) else {
            return cx.mail(from, Mail(Letter::Refused { listener, sub, refusal: FULL }));
        };
        let topic = &mut self.topics[place];
        let Some(next) = topic.resume(epoch, after) else {
            self.tidy(desk, place);
            return cx.mail(from, Mail(Letter::Refused { listener, sub, refusal: BEYOND }));
        };
        topic.enter(from, listener);
        if let Some(since) = topic.idle_since.take() {
            self.idle.remove(&(since, place));
        }
        let came = topic.presence.enter(desk.names.intern(parcel.text(1)).text);
        if came {
            topic.plan_presence(cx, desk, place);
        }
        let (epoch, head, count) = (topic.epoch, topic.history.head(), topic.presence.tell_one());
        cx.mail(from, Mail(Letter::Subscribed { listener, sub, epoch, next, head, count, parcel }));
        topic.send_roster(cx, desk, from, listener, sub);
    }

    pub(crate) fn on_unsubscribe(&mut self, cx: &mut Cx<'_, Mail>, desk: &mut Desk, from: ShardId, parcel: &Parcel) {
        let Some(place) = self.find(parcel.text(0)) else { return };
        let topic = &mut self.topics[place];
        if !topic.leave(from) {
            return;
        }
        if topic.presence.leave(parcel.text(1)) && !topic.audiences.is_empty() {
            topic.plan_presence(cx, desk, place);
        }
        self.tidy(desk, place);
    }

    pub(crate) fn on_pull(
        &mut self,
        cx: &mut Cx<'_, Mail>,
        desk: &mut Desk,
        from: ShardId,
        (listener, sub): (Listener, SubId),
        next: u64,
        parcel: &Parcel,
    ) {
        let Some(place) = self.find(parcel.text(0)) else { return };
        let topic = &self.topics[place];
        let first = next.max(topic.history.first());
        desk.scratch.clear();
        topic.pack_from(first, &mut desk.scratch);
        let records = cx.copy(&desk.scratch);
        let head = topic.history.head();
        cx.mail(from, Mail(Letter::Chunk { listener, sub, next, first, head, records }));
    }

    pub(crate) fn on_publish(
        &mut self,
        cx: &mut Cx<'_, Mail>,
        desk: &mut Desk,
        from: ShardId,
        (peer, id): (handler::Peer, u32),
        seq: Option<u64>,
        parcel: Parcel,
    ) {
        let letter = match self.publish(cx, desk, seq, &parcel) {
            Ok(offset) => Letter::Published { peer, id, offset, parcel },
            Err(refusal) => Letter::Rejected { peer, id, refusal },
        };
        cx.mail(from, Mail(letter));
    }

    pub(crate) fn on_wave(
        &mut self,
        cx: &mut Cx<'_, Mail>,
        desk: &mut Desk,
        from: ShardId,
        peer: handler::Peer,
        parcel: &Parcel,
    ) {
        let Some(place) = self.find(parcel.text(0)) else { return };
        desk.stats.waved += 1;
        for audience in &self.topics[place].audiences {
            let parcel = desk.pack(cx, &[parcel.text(1), parcel.text(2)], parcel.body());
            let listener = audience.listener;
            cx.mail(audience.shard, Mail(Letter::Waved { listener, shard: from, peer, parcel }));
        }
    }

    pub(crate) fn on_ack(&mut self, desk: &mut Desk, (delivered, read): (u64, u64), parcel: &Parcel) {
        let Some(place) = self.find(parcel.text(0)) else { return };
        let user = desk.names.intern(parcel.text(1));
        let topic = &mut self.topics[place];
        topic.watermarks.raise(&user.text, topic.history.head(), delivered, read);
    }

    pub(crate) fn on_browse(
        &mut self,
        cx: &mut Cx<'_, Mail>,
        desk: &mut Desk,
        from: ShardId,
        (peer, id): (handler::Peer, u32),
        (before, limit): (Option<u64>, u32),
        parcel: Parcel,
    ) {
        let mut page = PageLetter { epoch: 0, head: 0, first: 1, more: false, parcel, records: bytes::Bytes::new() };
        if let Some(place) = self.find(page.parcel.text(0)) {
            let topic = &self.topics[place];
            let end = before.unwrap_or(u64::MAX).clamp(1, topic.history.head() + 1);
            page.first = topic.page_start(end, limit);
            page.more = page.first > topic.history.first();
            (page.epoch, page.head) = (topic.epoch, topic.history.head());
            desk.scratch.clear();
            for record in (page.first..end).filter_map(|offset| topic.history.get(offset)) {
                record.pack(&mut desk.scratch);
            }
            page.records = cx.copy(&desk.scratch);
        }
        cx.mail(from, Mail(Letter::Page { peer, id, page: Box::new(page) }));
    }

    /// The end of a presence window.
    pub(crate) fn tell_presence(&mut self, cx: &mut Cx<'_, Mail>, desk: &mut Desk, place: usize) {
        let Some(topic) = self.topics.get_mut(place) else { return };
        let Some(changes) = topic.presence.take() else { return };
        let count = topic.presence.count();
        for audience in &topic.audiences {
            let joined = desk.pack_names(cx, changes.joined.iter().map(|name| &**name));
            let left = desk.pack_names(cx, changes.left.iter().map(|name| &**name));
            let listener = audience.listener;
            cx.mail(audience.shard, Mail(Letter::Presence { listener, count, joined, left }));
        }
    }

    pub(crate) fn watermark(&self, topic: &str, user: &str) -> Option<Watermark> {
        self.topics[self.find(topic)?].watermarks.get(user)
    }

    pub(crate) fn topics(&self) -> usize {
        self.topics.len()
    }

    pub(crate) fn history_bytes(&self) -> usize {
        self.history_bytes
    }

    pub(crate) fn listeners(&self) -> usize {
        self.topics.iter().map(|(_, topic)| topic.audiences.len()).sum()
    }

    fn publish(
        &mut self,
        cx: &mut Cx<'_, Mail>,
        desk: &mut Desk,
        seq: Option<u64>,
        parcel: &Parcel,
    ) -> Result<u64, Refusal> {
        let place = self.open(cx, desk, parcel.text(0)).ok_or(FULL)?;
        let user = desk.names.intern(parcel.text(1));
        let seq = seq.map(|seq| (desk.names.intern(parcel.text(2)), seq));
        if let Some((device, seq)) = &seq
            && let Some(offset) = self.topics[place].history.find(&user, device, *seq)
        {
            desk.stats.repeated += 1;
            return Ok(offset);
        }
        if self.closed {
            self.tidy(desk, place);
            return Err(STOPPING);
        }
        let ring_bytes_max = self.allowance(desk, place, parcel.body().len());
        let topic = &mut self.topics[place];
        let held = topic.history.ring_bytes();
        let pushed = topic.history.push(&desk.limits, ring_bytes_max, cx.wall_ms, user, seq, parcel.body());
        self.history_bytes = self.history_bytes - held + topic.history.ring_bytes();
        let Some(offset) = pushed else {
            self.tidy(desk, place);
            return Err(NO_ROOM);
        };
        desk.stats.published += 1;
        self.ticks += 1;
        topic.used = self.ticks;
        topic.deliver(cx, desk, offset);
        self.tidy(desk, place);
        Ok(offset)
    }

    /// The bytes to which a topic's ring may grow for a body. Topics that nobody listens to go first, so that it may.
    fn allowance(&mut self, desk: &mut Desk, place: usize, body_bytes: usize) -> usize {
        let limits = desk.limits;
        loop {
            let held = self.topics[place].history.ring_bytes();
            let left = limits.history_total_bytes_max.saturating_sub(self.history_bytes);
            let allowance = limits.history_bytes_max.min(held + left / 8).max(held);
            if body_bytes <= allowance || !self.evict(desk, Some(place)) {
                return allowance;
            }
        }
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// The topic of this name, made if there is none and room for it.
    fn open(&mut self, cx: &mut Cx<'_, Mail>, desk: &mut Desk, name: &str) -> Option<usize> {
        if let Some(place) = self.find(name) {
            return Some(place);
        }
        if self.topics.len() >= desk.limits.topics_max && !self.evict(desk, None) {
            return None;
        }
        let name: Arc<str> = name.into();
        self.ticks += 1;
        let epoch = cx.rng.random_range(1..=u64::MAX);
        let topic = Topic::new(name.clone(), epoch, desk.hasher.clone(), self.ticks);
        let place = self.topics.insert(Box::new(topic));
        self.by_name.insert(name, place);
        Some(place)
    }

    /// Removes a topic without listeners and history, and queues one without listeners for removal.
    fn tidy(&mut self, desk: &mut Desk, place: usize) {
        let topic = &mut self.topics[place];
        if !topic.audiences.is_empty() || topic.idle_since.is_some() {
            return;
        }
        if topic.history.head() == 0 {
            return self.remove(desk, place);
        }
        self.ticks += 1;
        topic.used = self.ticks;
        topic.idle_since = Some(self.ticks);
        self.idle.insert((self.ticks, place));
    }

    /// Removes the topic without listeners that was used least recently, but not `except`; whether there was one.
    fn evict(&mut self, desk: &mut Desk, except: Option<usize>) -> bool {
        // Each topic is asked at most twice: once it may have been used meanwhile.
        for _ in 0..=2 * self.idle.len() {
            let Some((since, place)) = self.idle.pop_first() else { return false };
            let topic = &mut self.topics[place];
            assert_eq!(topic.idle_since, Some(since), "an idle topic is queued once");
            if topic.used == since && except != Some(place) {
                topic.idle_since = None;
                self.remove(desk, place);
                desk.stats.evicted += 1;
                return true;
            }
            // It was published to since it was queued: its turn comes later.
            self.ticks += 1;
            (topic.used, topic.idle_since) = (self.ticks, Some(self.ticks));
            self.idle.insert((self.ticks, place));
        }
        false
    }

    fn remove(&mut self, desk: &mut Desk, place: usize) {
        let topic = self.topics.remove(place);
        self.by_name.remove(&topic.name);
        self.history_bytes -= topic.history.ring_bytes();
        if let Some(at) = topic.presence.due {
            desk.due.cancel(at, Chore::Presence(place));
        }
    }
}
