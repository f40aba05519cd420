//! History that is not in memory any more, gathered from the disk batch by batch for whoever asked for it.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    time::{Duration, Instant},
};

use bytes::Bytes;
use handler::{Code, Cx, Peer, ShardId};

use super::{Home, own::NO_PEER};
use crate::{
    desk::Desk,
    due::Chore,
    journal::{Header, messages},
    limit::{CHUNK_BYTES_MAX, PAGE_RECORDS_MAX},
    mail::{Letter, Listener, Mail, PageLetter, Refusal, SubId},
};

/// Bytes of batches that are kept for the next who reads: many catch up with the same topic at once.
const CACHE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// When a batch that could not be read is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// How long a batch is tried again before readers go on without it: a disk comes back in this time that has lost its
/// cable or its network.
const GIVE_UP_AFTER: Duration = Duration::from_secs(120);

/// Batches that were given up and are remembered, so that the next reader does not wait for them as long.
const BAD_MAX: usize = 4_096;

const UNREADABLE: Refusal = Refusal::new(Code::Internal, "that piece of the history cannot be read");

/// Where a batch begins: segment and block.
type Spot = (u64, u32);

/// What is being read, and for whom.
#[derive(Default, Debug)]
pub(super) struct Reads {
    waiting: BTreeMap<Spot, Vec<Gather>>,
    /// Those whose batch could not be read.
    again: Vec<Gather>,
    /// Batches that readers went on without, the last ones of them: they are tried once each time.
    bad: VecDeque<Spot>,
    cache: VecDeque<(Spot, Bytes)>,
    cached_bytes: usize,
}

/// History for one who asked.
#[derive(Debug)]
struct Gather {
    /// The topic's place and epoch.
    topic: (usize, u64),
    to: ShardId,
    want: Want,
    /// What it needs is not where it should be: it asks again later.
    lost: bool,
    /// Since when that is so, or it could not be read.
    since: Option<Instant>,
}

#[derive(Debug)]
enum Want {
    /// A chunk from `first` on, for a pull from `asked`; packed up to `next`.
    Forward { listener: Listener, sub: SubId, asked: u64, first: u64, next: u64, packed: Vec<u8> },
    /// A page of at most `limit` records before `end`; those from `first` on are packed, the newest piece first.
    Back { peer: Peer, id: u32, first: u64, left: u32, pieces: Vec<Vec<u8>>, bytes: usize, page: Box<PageLetter> },
}

impl Reads {
    fn cached(&self, spot: Spot) -> Option<Bytes> {
        self.cache.iter().find(|(place, _)| *place == spot).map(|(_, bytes)| bytes.clone())
    }

    fn keep(&mut self, spot: Spot, bytes: Bytes) {
        self.cached_bytes += bytes.len();
        self.cache.push_back((spot, bytes));
        while self.cached_bytes > CACHE_BYTES_MAX {
            let Some((_, old)) = self.cache.pop_front() else { break };
            self.cached_bytes -= old.len();
        }
    }

    /// A segment was written anew or is gone.
    pub(super) fn forget(&mut self, segment: u64) {
        self.cache.retain(|((number, _), _)| *number != segment);
        self.bad.retain(|(number, _)| *number != segment);
        self.cached_bytes = self.cache.iter().map(|(_, bytes)| bytes.len()).sum();
    }

    /// Whether somebody waits for a batch of a segment.
    pub(super) fn waits_for(&self, segment: u64) -> bool {
        self.waiting.range((segment, 0)..=(segment, u32::MAX)).next().is_some()
    }

    /// Those who wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.values().map(Vec::len).sum::<usize>() + self.again.len()
    }
}

impl Home {
    pub(super) fn gather_forward(
        &mut self,
        cx: &mut Cx<'_, Mail>,
        desk: &mut Desk,
        place: usize,
        to: ShardId,
        (listener, sub): (Listener, SubId),
        (asked, first): (u64, u64),
    ) {
        self.topics[place].gathers += 1;
        let topic = (place, self.topics[place].epoch);
        let want = Want::Forward { listener, sub, asked, first, next: first, packed: Vec::new() };
        self.gather(cx, desk, Gather { topic, to, want, lost: false, since: None });
    }

    pub(super) fn gather_back(
        &mut self,
        cx: &mut Cx<'_, Mail>,
        desk: &mut Desk,
        (place, to): (usize, ShardId),
        (peer, id): (Peer, u32),
        (end, limit): (u64, u32),
        page: Box<PageLetter>,
    ) {
        self.topics[place].gathers += 1;
        let topic = (place, self.topics[place].epoch);
        let left = limit.min(u32::try_from(PAGE_RECORDS_MAX).unwrap_or(u32::MAX));
        let want = Want::Back { peer, id, first: end, left, pieces: Vec::new(), bytes: 0, page };
        self.gather(cx, desk, Gather { topic, to, want, lost: false, since: None });
    }

    /// Gets on as far as memory goes, then waits for the disk.
    fn gather(&mut self, cx: &mut Cx<'_, Mail>, desk: &mut Desk, mut gather: Gather) {
        while let Some(offset) = self.wanted(&gather) {
            let spot = self.step(desk, &mut gather, offset);
            if std::mem::take(&mut gather.lost) {
                return self.put_off(cx, desk, gather);
            }
            let Some(spot) = spot else { continue };
            let waiting = self.reads.waiting.entry((spot.0, spot.1)).or_default();
            waiting.push(gather);
            if waiting.len() == 1
                && let Some(journal) = &mut self.journal
            {
                journal.read(cx, spot.0, (spot.1, spot.2));
            }
            return;
        }
        self.answer(cx, desk, gather);
    }

    /// What it needs could not be read: it asks again in a while, or goes on without it.
    fn put_off(&mut self, cx: &mut Cx<'_, Mail>, desk: &mut Desk, mut gather: Gather) {
        let since = *gather.since.get_or_insert(cx.now);
        let place = self.wanted(&gather).and_then(|offset| self.topics[gather.topic.0].index.find(offset));
        let Some(spot) = place.map(|place| (place.segment, place.block)) else {
            // It was trimmed meanwhile.
            return self.gather(cx, desk, gather);
        };
        let is_bad = self.reads.bad.contains(&spot);
        if cx.now - since < GIVE_UP_AFTER && !is_bad {
            self.reads.again.push(gather);
            return desk.due.plan(cx, cx.now + RETRY_AFTER, Chore::ReadAgain);
        }
        if !is_bad {
            self.reads.bad.push_back(spot);
            while self.reads.bad.len() > BAD_MAX {
                self.reads.bad.pop_front();
            }
        }
        desk.stats.given_up += 1;
        gather.since = None;
        let topic = &self.topics[gather.topic.0];
        let in_memory = topic.history.first();
        let behind = topic.index.behind(spot).map_or(in_memory, |behind| behind.min(in_memory));
        match &mut gather.want {
            // Its reader is told of the gap.
            Want::Forward { next, first, packed, .. } if packed.is_empty() => (*next, *first) = (behind, behind),
            Want::Forward { next, .. } => *next = u64::MAX,
            // The app itself is told by a page without it.
            Want::Back { left, pieces, peer, .. } if !pieces.is_empty() || *peer == NO_PEER => *left = 0,
            Want::Back { peer, id, .. } => {
                let (peer, id, to) = (*peer, *id, gather.to);
                self.topics[gather.topic.0].gathers -= 1;
                return cx.mail(to, Mail(Letter::Rejected { peer, id, refusal: UNREADABLE }));
            }
        }
        self.gather(cx, desk, gather);
    }

    /// The offset that is needed next; `None`: it has what it can have.
    fn wanted(&self, gather: &Gather) -> Option<u64> {
        let topic = self.topics.get(gather.topic.0).filter(|topic| topic.epoch == gather.topic.1)?;
        match &gather.want {
            Want::Forward { next, packed, .. } => {
                (*next <= topic.history.head() && packed.len() < CHUNK_BYTES_MAX).then_some(*next)
            }
            Want::Back { first, left, bytes, .. } => {
                (*left > 0 && *bytes < CHUNK_BYTES_MAX && *first > topic.first()).then(|| first - 1)
            }
        }
    }

    /// Takes what memory has at this offset, or says which batch has to be read: segment, block and blocks.
    fn step(&mut self, desk: &mut Desk, gather: &mut Gather, offset: u64) -> Option<(u64, u32, u32)> {
        let topic = &self.topics[gather.topic.0];
        if offset >= topic.history.first() {
            match &mut gather.want {
                Want::Forward { next, packed, .. } => {
                    let after = topic.pack_from(*next, packed);
                    // A full chunk ends here.
                    *next = if after == *next { u64::MAX } else { after };
                }
                Want::Back { first, left, pieces, bytes, .. } => {
                    let start = topic.page_start(*first, *left);
                    let mut piece = Vec::new();
                    for record in (start..*first).filter_map(|offset| topic.history.get(offset)) {
                        record.pack(&mut piece);
                    }
                    *left -= u32::try_from(*first - start).unwrap_or(*left).min(*left);
                    (*first, *bytes) = (start, *bytes + piece.len());
                    pieces.push(piece);
                }
            }
            return None;
        }
        let Some(place) = topic.index.find(offset) else {
            // It was trimmed meanwhile.
            match &mut gather.want {
                Want::Forward { next, first, packed, .. } if packed.is_empty() => {
                    *next = topic.first();
                    *first = *next;
                }
                Want::Forward { next, .. } => *next = u64::MAX,
                Want::Back { left, .. } => *left = 0,
            }
            return None;
        };
        let (segment, block, blocks) = (place.segment, place.block, place.blocks);
        let Some(batch) = self.reads.cached((segment, block)) else { return Some((segment, block, blocks)) };
        let (name, epoch, oldest) = (topic.name.clone(), topic.epoch, topic.first());
        if gather.take(&self.header(segment), (block, &batch), (&name, epoch), oldest).is_err() {
            desk.stats.unreadable += 1;
            self.reads.forget(segment);
            gather.lost = true;
        }
        None
    }

    fn header(&self, segment: u64) -> Header {
        let origin = self.journal.as_ref().map_or(0, |journal| journal.origin());
        Header { shard: 0, origin, number: segment, previous: 0, own: 0 }
    }

    pub(super) fn on_read(&mut self, cx: &mut Cx<'_, Mail>, desk: &mut Desk, spot: Spot, blocks: io::Result<Bytes>) {
        let Some(waiting) = self.reads.waiting.remove(&spot) else { return };
        let mut whole = false;
        if let Ok(bytes) = &blocks {
            let header = self.header(spot.0);
            whole = messages(&header, (spot.1, bytes), ("", 0), |_, _| {}).is_ok();
        }
        match blocks {
            Ok(bytes) if whole => {
                self.reads.bad.retain(|bad| *bad != spot);
                self.reads.keep(spot, bytes);
                waiting.into_iter().for_each(|gather| self.gather(cx, desk, Gather { since: None, ..gather }));
            }
            // Nothing is skipped in silence: they wait until it can be read, or are told what is missing.
            Ok(_) | Err(_) => {
                desk.stats.unreadable += 1;
                waiting.into_iter().for_each(|gather| self.put_off(cx, desk, gather));
            }
        }
    }

    /// The time to try again what could not be read.
    pub(crate) fn read_again(&mut self, cx: &mut Cx<'_, Mail>, desk: &mut Desk) {
        for gather in std::mem::take(&mut self.reads.again) {
            self.gather(cx, desk, gather);
        }
    }

    fn answer(&mut self, cx: &mut Cx<'_, Mail>, desk: &mut Desk, gather: Gather) {
        let topic = self.topics.get_mut(gather.topic.0).filter(|topic| topic.epoch == gather.topic.1);
        let Some(topic) = topic else { return };
        topic.gathers -= 1;
        let (name, epoch, oldest, head) = (topic.name.clone(), topic.epoch, topic.first(), topic.history.head());
        desk.stats.gathered += 1;
        match gather.want {
            Want::Forward { listener, sub, asked, first, packed, .. } => {
                let records = cx.copy(&packed);
                let records = self.cover_chunk(cx, (&name, epoch), first, records);
                cx.mail(gather.to, Mail(Letter::Chunk { listener, sub, next: asked, first, head, records }));
            }
            Want::Back { peer, id, first, pieces, mut page, .. } => {
                (page.first, page.more, page.head) = (first, first > oldest, head);
                let packed: Vec<u8> = pieces.into_iter().rev().flatten().collect();
                page.records = cx.copy(&packed);
                self.cover_page(cx, (&name, epoch), &mut page);
                cx.mail(gather.to, Mail(Letter::Page { peer, id, page }));
            }
        }
    }
}

impl Gather {
    /// Takes what it needs out of a batch that was read, which may have messages that are older than the `oldest` of the
    /// topic.
    fn take(
        &mut self,
        header: &Header,
        batch: (u32, &[u8]),
        topic: (&str, u64),
        oldest: u64,
    ) -> Result<(), &'static str> {
        match &mut self.want {
            Want::Forward { next, packed, .. } => {
                let before = *next;
                messages(header, batch, topic, |offset, record| {
                    let fits = packed.is_empty() || packed.len() + record.packed_bytes() <= CHUNK_BYTES_MAX;
                    if offset == *next && fits {
                        record.pack(packed);
                        *next += 1;
                    }
                })?;
                if *next == before && packed.is_empty() {
                    return Err("the message is not in its batch");
                }
                if *next == before {
                    *next = u64::MAX;
                }
            }
            Want::Back { first, left, pieces, bytes, .. } => {
                let end = *first;
                let mut found = VecDeque::new();
                messages(header, batch, topic, |offset, record| {
                    if (oldest..end).contains(&offset) {
                        let mut packed = Vec::new();
                        record.pack(&mut packed);
                        found.push_back((offset, packed));
                    }
                })?;
                let mut taken = VecDeque::new();
                while let Some((offset, packed)) = found.pop_back() {
                    let fits = *bytes == 0 || *bytes + packed.len() <= CHUNK_BYTES_MAX;
                    if offset + 1 != *first || *left == 0 {
                        break;
                    }
                    if !fits {
                        *left = 0;
                        break;
                    }
                    (*first, *left, *bytes) = (offset, *left - 1, *bytes + packed.len());
                    taken.push_front(packed);
                }
                if *first == end && *left > 0 {
                    return Err("the message is not in its batch");
                }
                pieces.push(taken.into_iter().flatten().collect());
            }
        }
        Ok(())
    }
}
