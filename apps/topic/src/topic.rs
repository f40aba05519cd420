//! One topic at its home: its history, who listens to it, and who is there.

use std::sync::Arc;

use ahash::RandomState;
use bytes::Bytes;
use handler::{Cx, Level, ShardId};

use crate::{
    desk::Desk,
    due::Chore,
    history::History,
    journal::Index,
    limit::{CHUNK_BYTES_MAX, PAGE_RECORDS_MAX},
    mail::{Letter, Listener, Mail, SubId},
    name::Name,
    presence::Presence,
    record::Record,
    seen::Seen,
    watermark::Watermarks,
};

#[derive(Debug)]
pub(crate) struct Topic {
    pub(crate) name: Arc<str>,
    pub(crate) epoch: u64,
    /// How safe its messages are when they are acknowledged.
    pub(crate) level: Level,
    /// The newest messages. Those of a durable topic are all on disk, unless it is on the move.
    pub(crate) history: History,
    /// How far the messages of an earlier run have come that no journal had; `None`: all are on disk.
    pub(crate) moving: Option<Moving>,
    /// Where messages lie on disk.
    pub(crate) index: Index,
    /// Messages that have an offset above the head and are on their way to disk.
    pub(crate) in_flight: u64,
    /// When the newest message was taken, with those on their way to disk.
    pub(crate) newest_ms: u64,
    pub(crate) seen: Seen,
    pub(crate) audiences: Vec<Audience>,
    pub(crate) presence: Presence,
    pub(crate) watermarks: Watermarks,
    /// The newest segment that may have a message of it.
    pub(crate) last_segment: u64,
    /// Answers that are being gathered from the disk.
    pub(crate) gathers: u32,
    /// When it was last used, in ticks of its home.
    pub(crate) used: u64,
    /// Its place in the order of topics that may go, while nobody listens.
    pub(crate) idle_since: Option<u64>,
}

/// Messages of an earlier run on their way to disk. Nothing is added to them: newer ones have their place when these do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Moving {
    /// The newest one that is on disk.
    pub(crate) newest: u64,
    /// The others are being written.
    pub(crate) is_under_way: bool,
}

/// A shard that listens, and for how many subscriptions.
#[derive(Debug)]
pub(crate) struct Audience {
    pub(crate) shard: ShardId,
    pub(crate) listener: Listener,
    subs: u32,
}

impl Topic {
    pub(crate) fn new(name: Arc<str>, (epoch, level): (u64, Level), hasher: RandomState, used: u64) -> Self {
        Self {
            name,
            epoch,
            level,
            history: History::new(),
            moving: None,
            index: Index::default(),
            in_flight: 0,
            newest_ms: 0,
            seen: Seen::new(hasher),
            audiences: Vec::new(),
            presence: Presence::default(),
            watermarks: Watermarks::default(),
            last_segment: 0,
            gathers: 0,
            used,
            idle_since: None,
        }
    }

    /// One more subscription on a shard.
    pub(crate) fn enter(&mut self, shard: ShardId, listener: Listener) {
        match self.audiences.iter_mut().find(|audience| audience.shard == shard) {
            Some(audience) => {
                assert_eq!(audience.listener, listener, "a shard lists a topic once");
                audience.subs += 1;
            }
            None => self.audiences.push(Audience { shard, listener, subs: 1 }),
        }
    }

    /// One subscription on a shard less; whether there was one.
    pub(crate) fn leave(&mut self, shard: ShardId) -> bool {
        let Some(at) = self.audiences.iter().position(|audience| audience.shard == shard) else { return false };
        self.audiences[at].subs -= 1;
        if self.audiences[at].subs == 0 {
            self.audiences.remove(at);
        }
        true
    }

    /// The first offset that a subscriber wants; `None`: it claims to have what does not exist.
    pub(crate) fn resume(&self, epoch: Option<u64>, after: Option<u64>) -> Option<u64> {
        let head = self.history.head();
        match after {
            None => Some(head + 1),
            Some(_) if epoch.is_some_and(|epoch| epoch != self.epoch) => Some(1),
            Some(after) if after > head => None,
            Some(after) => Some(after + 1),
        }
    }

    /// Whether all that it holds is on disk.
    pub(crate) fn is_on_disk(&self) -> bool {
        self.level == Level::Durable && self.moving.is_none()
    }

    /// How safe the messages are that it holds.
    pub(crate) fn level_held(&self) -> Level {
        if self.is_on_disk() { Level::Durable } else { Level::Memory }
    }

    /// The oldest offset that there is, or the next one to come.
    pub(crate) fn first(&self) -> u64 {
        self.index.first().unwrap_or_else(|| self.history.first())
    }

    /// The offset that this publication got or is about to get, if the topic still holds it.
    pub(crate) fn find(&self, user: &Name, device: &Name, seq: u64) -> Option<u64> {
        self.seen.find(user, device, seq).filter(|offset| *offset >= self.first())
    }

    /// Tells everybody who listens about a new message.
    pub(crate) fn deliver(&self, cx: &mut Cx<'_, Mail>, desk: &mut Desk, record: &Record<'_>) {
        for audience in &self.audiences {
            let parcel = desk.pack(cx, &[record.from], record.body);
            let (listener, offset, at_ms) = (audience.listener, record.offset, record.at_ms);
            cx.mail(audience.shard, Mail(Letter::Deliver { listener, offset, at_ms, parcel }));
        }
    }

    /// Packs records from `next` on until a chunk is full; gives the first offset that is not in it.
    pub(crate) fn pack_from(&self, next: u64, out: &mut Vec<u8>) -> u64 {
        for record in (next..=self.history.head()).map_while(|offset| self.history.get(offset)) {
            if !out.is_empty() && out.len() + record.packed_bytes() > CHUNK_BYTES_MAX {
                return record.offset;
            }
            record.pack(out);
        }
        self.history.head() + 1
    }

    /// Where a page of at most `limit` records and a chunk's bytes starts that ends before `end`.
    pub(crate) fn page_start(&self, end: u64, limit: u32) -> u64 {
        let limit = (limit as usize).min(PAGE_RECORDS_MAX);
        let mut bytes = 0;
        let mut start = end.max(self.history.first());
        for record in (1..end).rev().take(limit).map_while(|offset| self.history.get(offset)) {
            bytes += record.packed_bytes();
            if bytes > CHUNK_BYTES_MAX && start < end {
                break;
            }
            start = record.offset;
        }
        start
    }

    pub(crate) fn send_roster(
        &self,
        cx: &mut Cx<'_, Mail>,
        desk: &mut Desk,
        to: ShardId,
        listener: Listener,
        sub: SubId,
    ) {
        let names = match self.presence.roster() {
            Some(roster) => desk.pack_names(cx, roster.map(|name| &**name)),
            None => Bytes::new(),
        };
        let count = self.presence.count();
        cx.mail(to, Mail(Letter::Roster { listener, sub, count, names }));
    }

    pub(crate) fn plan_presence(&mut self, cx: &mut Cx<'_, Mail>, desk: &mut Desk, place: usize) {
        if self.presence.due.is_none() {
            let at = cx.now + self.presence.window();
            self.presence.due = Some(at);
            desk.due.plan(cx, at, Chore::Presence(place));
        }
    }
}
