//! The topics that are at home on this shard: the one place that gives offsets, keeps history and knows who is there.

mod clock;
mod compact;
mod cover;
mod durable;
mod floor;
mod forget;
mod gather;
mod handover;
mod marks;
mod moving;
mod own;
mod places;
mod recover;
mod retain;
mod sweep;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
};

use ahash::RandomState;
use handler::{Code, Cx, Level, ShardId};
use slab::Slab;

use crate::{
    desk::Desk,
    facts::Facts,
    home::{clock::Clock, durable::Settled, gather::Reads, marks::Rank, places::Open, retain::Carry},
    journal::Journal,
    mail::{Letter, Listener, Mail, PageLetter, Parcel, Refusal, SubId},
    name::Name,
    topic::Topic,
    watermark::Watermark,
};

pub use own::NO_PEER;
pub(crate) use {marks::is_own, retain::NOBODY};

/// All topics of this home.
#[derive(Debug)]
pub(crate) struct Home {
    topics: Slab<Box<Topic>>,
    by_name: HashMap<Arc<str>, usize, RandomState>,
    /// Topics that are not in memory although they have begun, and the newest segment that may have a message of them.
    asleep: BTreeMap<Arc<str>, u64>,
    /// What the names begin with that a part of the places is kept for.
    reserved: &'static [&'static str],
    /// Topics in memory, and topics that are asleep, whose names are not among these.
    open: Open,
    /// Topics in memory that nobody listens to, in the order in which they may go: those that places are kept for, and
    /// the others.
    idle: [BTreeSet<(u64, usize)>; 2],
    /// Durable topics that nobody listens to, in the order in which their rings may go.
    idle_rings: BTreeSet<(u64, usize)>,
    /// Counts what happens, for the order of `idle`.
    ticks: u64,
    history_bytes: usize,
    /// The topics were handed over: nothing gets an offset any more.
    closed: bool,
    pub(crate) journal: Option<Box<Journal>>,
    /// Topics with messages of an earlier run that are not on disk, nor on their way.
    to_move: BTreeSet<usize>,
    /// Repeats of publications that wait for the disk.
    repeats: usize,
    /// Topics whose messages are acknowledged from memory although there is a journal.
    in_memory: Vec<String>,
    pub(crate) facts: Facts,
    /// What the keys of the app's facts about messages begin with.
    pub(crate) kinds: &'static [&'static str],
    reads: Reads,
    settled: Vec<Settled>,
    /// Facts that come with the next publication.
    rider: Option<durable::Rider>,
    /// Topics and users whose marks have risen since they were written.
    risen: BTreeMap<(Arc<str>, Arc<str>), Rank>,
    /// Those of durable topics that have risen and are neither on disk nor on their way.
    unwritten: BTreeMap<(Arc<str>, Arc<str>), Rank>,
    /// Marks of histories that are gone: name and key.
    stale: VecDeque<(Arc<str>, String)>,
    /// What is known of the wall clock.
    clock: Clock,
    /// The fact about a message that was looked at last when those went whose messages are gone.
    swept: Option<Arc<str>>,
    /// Facts of the oldest segment on their way to the newest one.
    carry: Option<Carry>,
    compaction: Option<compact::Compaction>,
    /// Segments that were written anew in this run, or could not be: once is enough.
    compacted: BTreeSet<u64>,
    /// Those that were written last, until the app has asked or more are.
    pub(crate) marked: Vec<(Arc<str>, Arc<str>, Watermark)>,
}

const NO_ROOM: Refusal = Refusal::full("no room for more history");
const STOPPING: Refusal = Refusal::new(Code::Unavailable, "the server is stopping");
const BEYOND: Refusal = Refusal::new(Code::OutOfRange, "`after` is beyond the newest offset");

impl Home {
    pub(crate) fn new(hasher: RandomState) -> Self {
        Self {
            topics: Slab::new(),
            by_name: HashMap::with_hasher(hasher),
            asleep: BTreeMap::new(),
            reserved: &[],
            open: Open::default(),
            idle: [BTreeSet::new(), BTreeSet::new()],
            idle_rings: BTreeSet::new(),
            ticks: 0,
            history_bytes: 0,
            closed: false,
            journal: None,
            to_move: BTreeSet::new(),
            repeats: 0,
            in_memory: Vec::new(),
            facts: Facts::default(),
            kinds: &[],
            reads: Reads::default(),
            settled: Vec::new(),
            rider: None,
            risen: BTreeMap::new(),
            unwritten: BTreeMap::new(),
            stale: VecDeque::new(),
            clock: Clock::default(),
            swept: None,
            carry: None,
            compaction: None,
            compacted: BTreeSet::new(),
            marked: Vec::new(),
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
        let place = match self.open(cx, desk, parcel.text(0)) {
            Ok(place) => place,
            Err(refusal) => return cx.mail(from, Mail(Letter::Refused { listener, sub, refusal })),
        };
        let topic = &mut self.topics[place];
        let Some(next) = topic.resume(epoch, after) else {
            self.tidy(desk, place);
            return cx.mail(from, Mail(Letter::Refused { listener, sub, refusal: BEYOND }));
        };
        topic.enter(from, listener);
        self.is_used(place);
        let topic = &mut self.topics[place];
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
        let first = next.max(topic.first());
        if first < topic.history.first() {
            return self.gather_forward(cx, desk, place, from, (listener, sub), (next, first));
        }
        desk.scratch.clear();
        topic.pack_from(first, &mut desk.scratch);
        let (head, of) = (topic.history.head(), (&*topic.name, topic.epoch));
        let records = cx.copy(&desk.scratch);
        let records = self.cover_chunk(cx, of, first, records);
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
        let published = self.publish(cx, desk, (from, peer, id), seq, &parcel);
        self.leave_behind(published.as_ref().err());
        let letter = match published {
            Ok(Some((offset, level))) => Letter::Published { peer, id, offset, level, parcel },
            // It is told when it is on disk.
            Ok(None) => return,
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

    pub(crate) fn on_ack(
        &mut self,
        cx: &mut Cx<'_, Mail>,
        desk: &mut Desk,
        (delivered, read): (u64, u64),
        parcel: &Parcel,
    ) {
        let Some(place) = self.find_asleep(desk, parcel.text(0)) else { return };
        let user = desk.names.intern(parcel.text(1));
        let topic = &mut self.topics[place];
        if topic.watermarks.raise(&user.text, topic.history.head(), delivered, read) {
            let rank = if parcel.guest { Rank::Guest } else { Rank::Account };
            self.plan_mark(cx, desk, place, (&user.text, rank));
        }
        self.tidy(desk, place);
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
            (page.epoch, page.head) = (topic.epoch, topic.history.head());
            page.first = topic.page_start(end, limit);
            let reaches_back = end.saturating_sub(u64::from(limit)).max(topic.first()) < topic.history.first();
            if reaches_back && page.first <= topic.history.first() {
                return self.gather_back(cx, desk, (place, from), (peer, id), (end, limit), Box::new(page));
            }
            page.more = page.first > topic.first();
            desk.scratch.clear();
            for record in (page.first..end).filter_map(|offset| topic.history.get(offset)) {
                record.pack(&mut desk.scratch);
            }
            page.records = cx.copy(&desk.scratch);
            self.cover_page(cx, (&topic.name, topic.epoch), &mut page);
        } else if let Some(head) = self.head_of(page.parcel.text(0)) {
            (page.epoch, page.head, page.first) = (head.epoch, head.offset, head.offset + 1);
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

    pub(crate) fn topics(&self) -> usize {
        self.topics.len()
    }

    pub(crate) fn asleep(&self) -> usize {
        self.asleep.len()
    }

    pub(crate) fn history_bytes(&self) -> usize {
        self.history_bytes
    }

    pub(crate) fn places(&self) -> usize {
        self.topics.iter().map(|(_, topic)| topic.index.len()).sum()
    }

    pub(crate) fn listeners(&self) -> usize {
        self.topics.iter().map(|(_, topic)| topic.audiences.len()).sum()
    }

    /// Gives a publication its place; `None`: it has one, and is told of it when it is on disk.
    fn publish(
        &mut self,
        cx: &mut Cx<'_, Mail>,
        desk: &mut Desk,
        (from, peer, id): (ShardId, handler::Peer, u32),
        seq: Option<u64>,
        parcel: &Parcel,
    ) -> Result<Option<(u64, Level)>, Refusal> {
        let place = self.open(cx, desk, parcel.text(0))?;
        let user = desk.names.intern(parcel.text(1));
        let seq = seq.map(|seq| (desk.names.intern(parcel.text(2)), seq));
        let topic = &self.topics[place];
        if let Some((device, seq)) = &seq
            && let Some(offset) = topic.find(&user, device, *seq)
        {
            desk.stats.repeated += 1;
            if offset > topic.history.head() {
                return self.publish_again(cx, desk, (from, peer, id), offset, parcel);
            }
            return Ok(Some((offset, topic.level_held())));
        }
        if self.closed {
            self.tidy(desk, place);
            return Err(STOPPING);
        }
        if topic.level == Level::Durable {
            // What came before has its place before.
            self.move_out(desk, place);
            let taken = self.publish_durable(cx, place, (from, peer, id), user, seq, parcel);
            self.tidy(desk, place);
            return taken.map(|()| None);
        }
        // What rides is true only if the message gets a place.
        let bytes = parcel.body().len();
        if self.rider.is_some() && bytes > self.allowance(desk, place, bytes) {
            self.tidy(desk, place);
            return Err(NO_ROOM);
        }
        if let Some(durable::Rider { name, changes, token }) = self.rider.take()
            && let Err(refusal) = self.record(&name, &changes, token)
        {
            self.settled.push(Settled { token, outcome: Err(refusal) });
            self.tidy(desk, place);
            return Err(refusal);
        }
        let at_ms = cx.wall_ms;
        let offset = self.remember(desk, place, at_ms, user.clone(), seq.clone(), parcel.body());
        let Some(offset) = offset else {
            self.tidy(desk, place);
            return Err(NO_ROOM);
        };
        let topic = &mut self.topics[place];
        if let Some((device, seq)) = &seq {
            topic.seen.add(&user, device, *seq, offset, topic.history.first());
        }
        if let Some(record) = topic.history.get(offset) {
            topic.deliver(cx, desk, &record);
        }
        desk.stats.published += 1;
        self.tidy(desk, place);
        Ok(Some((offset, Level::Memory)))
    }

    /// Puts a message into a topic's ring; gives its offset, or `None` if there is no room for it.
    fn remember(
        &mut self,
        desk: &mut Desk,
        place: usize,
        at_ms: u64,
        user: Name,
        seq: Option<(Name, u64)>,
        body: &[u8],
    ) -> Option<u64> {
        let bytes_max = self.allowance(desk, place, body.len());
        let topic = &mut self.topics[place];
        let held = topic.history.body_bytes();
        let offset = topic.history.push(&desk.limits, bytes_max, at_ms, user, seq, body);
        self.history_bytes = self.history_bytes - held + topic.history.body_bytes();
        self.ticks += 1;
        topic.used = self.ticks;
        offset
    }

    /// The bytes to which a topic's ring may grow for a body. Topics that nobody listens to go first, so that it may.
    fn allowance(&mut self, desk: &mut Desk, place: usize, body_bytes: usize) -> usize {
        let limits = desk.limits;
        loop {
            let held = self.topics[place].history.body_bytes();
            let left = limits.history_total_bytes_max.saturating_sub(self.history_bytes);
            let allowance = limits.history_bytes_max.min(held + left / 8).max(held);
            let mut helped = || self.evict_ring(desk, place) || self.evict(desk, Some(place), &places::ALL);
            if body_bytes <= allowance || !helped() {
                return allowance;
            }
        }
    }
}
