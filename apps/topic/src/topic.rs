//! One topic at its home: its history, who listens to it, and who is there.

use std::sync::Arc;

use ahash::RandomState;
use bytes::Bytes;
use handler::{Cx, ShardId};

use crate::{
    desk::Desk,
    due::Chore,
    history::History,
    limit::{CHUNK_BYTES_MAX, PAGE_RECORDS_MAX},
    mail::{Letter, Listener, Mail, SubId},
    presence::Presence,
    watermark::Watermarks,
};

#[derive(Debug)]
pub(crate) struct Topic {
    pub(crate) name: Arc<str>,
    pub(crate) epoch: u64,
    pub(crate) history: History,
    pub(crate) audiences: Vec<Audience>,
    pub(crate) presence: Presence,
    pub(crate) watermarks: Watermarks,
    /// When it was last used, in ticks of its home.
    pub(crate) used: u64,
    /// Its place in the order of topics that may go, while nobody listens.
    pub(crate) idle_since: Option<u64>,
}

/// A shard that listens, and for how many subscriptions.
#[derive(Debug)]
pub(crate) struct Audience {
    pub(crate) shard: ShardId,
    pub(crate) listener: Listener,
    subs: u32,
}

impl Topic {
    pub(crate) fn new(name: Arc<str>, epoch: u64, hasher: RandomState, used: u64) -> Self {
        Self {
            name,
            epoch,
            history: History::new(hasher),
            audiences: Vec::new(),
            presence: Presence::default(),
            watermarks: Watermarks::default(),
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

    pub(crate) fn deliver(&self, cx: &mut Cx<'_, Mail>, desk: &mut Desk, offset: u64) {
        let Some(record) = self.history.get(offset) else { return };
        for audience in &self.audiences {
            let parcel = desk.pack(cx, &[record.from], record.body);
            let (listener, at_ms) = (audience.listener, record.at_ms);
            cx.mail(audience.shard, Mail(Letter::Deliver { listener, offset, at_ms, parcel }));
        }
    }

    /// Packs records from `first` on until a chunk is full.
    pub(crate) fn pack_from(&self, first: u64, out: &mut Vec<u8>) {
        for record in (first..=self.history.head()).map_while(|offset| self.history.get(offset)) {
            if !out.is_empty() && out.len() + record.packed_bytes() > CHUNK_BYTES_MAX {
                return;
            }
            record.pack(out);
        }
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
