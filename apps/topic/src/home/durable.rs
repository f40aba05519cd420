//! What is acknowledged when it is on disk: messages and facts wait in batches, and are told when theirs was committed.

use std::sync::Arc;

use bytes::Bytes;
use handler::{Code, Cx, Level, Outcome, Peer, ShardId, Ticket};

use super::{Home, NOBODY, STOPPING, marks, own::NO_PEER};
use crate::{
    desk::Desk,
    due::Chore,
    facts::{self, Change, Fact, HEAD},
    journal::{Batch, Event, Flight, Journal, Message, Place, Record, Trouble, Waiting},
    mail::{Letter, Mail, Parcel, Refusal},
    name::Name,
    record,
    stats::JournalSize,
};

const DISK_FULL: Refusal = unavailable("the disk is full");
const READ_ONLY: Refusal = unavailable("the disk is read-only");
const NO_FILE: Refusal = unavailable("no file can be made for now");
const DISK_FAILED: Refusal = Refusal::new(Code::Unavailable, "the disk has failed");
const DISK_SLOW: Refusal = Refusal { code: Code::ResourceExhausted, ..unavailable("the disk is too slow") };
const BAD_FACT: Refusal = Refusal::new(Code::InvalidArgument, "a name, key or value is too long");

/// When to try again what a disk did not take.
const RETRY_MS: u32 = 2_000;

/// Repeats of publications that wait for the disk. Whoever comes back repeats what was not answered: some hundreds, which
/// take about as many bytes each.
const REPEATS_MAX: usize = 1_024;

const fn unavailable(message: &'static str) -> Refusal {
    Refusal { code: Code::Unavailable, message, retry_ms: Some(RETRY_MS) }
}

/// Facts that come to disk in one batch with a publication.
#[derive(Debug)]
pub(crate) struct Rider {
    pub(super) name: Arc<str>,
    pub(super) changes: Vec<Change>,
    pub(super) token: u64,
}

/// Facts are on disk, or were taken back.
#[derive(Debug)]
pub(crate) struct Settled {
    pub(crate) token: u64,
    pub(crate) outcome: Result<(), Refusal>,
}

impl From<Trouble> for Refusal {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Full => DISK_FULL,
            Trouble::ReadOnly => READ_ONLY,
            Trouble::NoFile => NO_FILE,
            Trouble::Failed => DISK_FAILED,
        }
    }
}

impl Home {
    pub(crate) fn journal_revision(&self) -> u64 {
        self.journal.as_ref().map_or(0, |journal| journal.revision)
    }

    /// What the journal is like, if there is one.
    pub(crate) fn journal_size(&self) -> Option<JournalSize> {
        let journal = self.journal.as_ref()?;
        Some(JournalSize {
            trouble: journal.trouble().map(|trouble| Refusal::from(trouble).message),
            segments: journal.segments.len(),
            bytes: journal.segments.values().map(|segment| segment.length).sum(),
            live_bytes: journal.segments.values().map(|segment| segment.live).sum(),
            waiting_bytes: journal.waiting_bytes(),
            commits: journal.commits,
            bytes_written: journal.bytes_written,
            troubles: journal.troubles,
            facts: self.facts.len(),
            readers: self.reads.len(),
        })
    }

    /// Begins to write. Called once, when the shard runs.
    pub(crate) fn start(&mut self, cx: &mut Cx<'_, Mail>, desk: &mut Desk) {
        if let Some(journal) = &mut self.journal {
            journal.start(cx);
            // What was trimmed and is still in a segment goes before anybody reads it: facts about it may be gone.
            self.trim_old(cx, desk);
            self.crowd_out(desk);
            self.plan_retention(cx, desk);
        }
    }

    /// Whether nothing waits for the disk.
    pub(crate) fn is_settled(&self) -> bool {
        self.journal.as_ref().is_none_or(|journal| journal.is_settled())
    }

    /// Writes what was gathered.
    pub(crate) fn flush(&mut self, cx: &mut Cx<'_, Mail>, desk: &mut Desk) {
        self.move_some(desk);
        if let Some(journal) = &mut self.journal {
            journal.flush(cx);
        }
        while let Some(Event::Committed(flight)) = self.journal.as_mut().and_then(|journal| journal.believe(cx)) {
            self.committed(cx, desk, flight);
        }
    }

    pub(crate) fn take_settled(&mut self) -> Vec<Settled> {
        std::mem::take(&mut self.settled)
    }

    /// Takes a message for a durable topic. It is answered and shown to readers when it is on disk.
    pub(super) fn publish_durable(
        &mut self,
        cx: &mut Cx<'_, Mail>,
        place: usize,
        (to, peer, id): (ShardId, Peer, u32),
        user: Name,
        seq: Option<(Name, u64)>,
        parcel: &Parcel,
    ) -> Result<(), Refusal> {
        let topic = &mut self.topics[place];
        let Some(journal) = &mut self.journal else { return Err(DISK_FAILED) };
        refuse_when_stuck(journal)?;
        let offset = topic.history.head() + topic.in_flight + 1;
        let at_ms = cx.wall_ms.max(topic.newest_ms);
        let batch = journal.batch();
        // One batch is on disk as a whole or not at all.
        let rides = self.rider.take().map(|rider| write_facts(&mut self.facts, batch, rider));
        let name = batch.name(&topic.name, topic.epoch);
        let bytes = batch.add(&Record::Message {
            name,
            offset,
            at_ms,
            seq: seq.as_ref().map(|(device, seq)| (&*device.text, *seq)),
            from: &user.text,
            body: parcel.body(),
        });
        if let Some((device, seq)) = &seq {
            topic.seen.add(&user, device, *seq, offset, topic.first());
        }
        (topic.in_flight, topic.newest_ms) = (topic.in_flight + 1, at_ms);
        let parcel = parcel.clone();
        let message = Message { place, offset, at_ms, user, seq, bytes, to, peer, id, parcel };
        batch.waiting.extend(rides);
        batch.waiting.push(Waiting::Message(Box::new(message)));
        Ok(())
    }

    /// A repeat of a publication that is on its way to disk is answered with it. Its body is that one's, and not kept.
    pub(super) fn publish_again(
        &mut self,
        cx: &mut Cx<'_, Mail>,
        desk: &mut Desk,
        (to, peer, id): (ShardId, Peer, u32),
        offset: u64,
        parcel: &Parcel,
    ) -> Result<Option<(u64, Level)>, Refusal> {
        let Some(journal) = &mut self.journal else { return Ok(Some((offset, Level::Durable))) };
        if self.repeats >= REPEATS_MAX {
            return Err(DISK_SLOW);
        }
        let parcel = desk.pack(cx, &[parcel.text(0), parcel.text(1), parcel.text(2)], &[]);
        let waits = journal.wait(Waiting::Repeat { to, peer, id, offset, parcel }).is_none();
        self.repeats += usize::from(waits);
        Ok((!waits).then_some((offset, Level::Durable)))
    }

    /// Changes facts about something that is at home here. They are true at once, and settled when they are on disk;
    /// if that fails they are taken back. Those that are in memory only, as the messages that they are about, stay.
    pub(crate) fn record(&mut self, name: &Arc<str>, changes: &[Change], token: u64) -> Result<(), Refusal> {
        if !changes.iter().all(|change| facts::fits(name, change)) {
            return Err(BAD_FACT);
        }
        let stays = |change: &&Change| self.is_kept_in_memory(name, &change.key);
        let (in_memory, to_disk): (Vec<&Change>, Vec<&Change>) = changes.iter().partition(stays);
        let is_written = self.journal.is_some() && (in_memory.is_empty() || !to_disk.is_empty());
        if self.closed && !(in_memory.is_empty() && is_written) {
            // They were handed over: what is not in the snapshot must not be answered.
            return Err(STOPPING);
        }
        if let Some(journal) = self.journal.as_ref().filter(|_| is_written) {
            refuse_when_stuck(journal)?;
        }
        for Change { key, value } in in_memory {
            self.facts.set(&facts::full(name, key), value.clone().map(Fact::in_memory));
        }
        if is_written {
            self.record_changes(name, to_disk.into_iter().cloned().collect(), token);
        } else {
            self.settled.push(Settled { token, outcome: Ok(()) });
        }
        Ok(())
    }

    /// Changes facts that are the journal's own: they free space, so that they are taken also when it is scarce.
    pub(super) fn record_upkeep(&mut self, name: &Arc<str>, changes: &[Change]) -> Result<(), Refusal> {
        let takes = self.journal.as_ref().is_some_and(|journal| journal.takes_upkeep());
        if !takes || !changes.iter().all(|change| facts::fits(name, change)) {
            return Err(DISK_FULL);
        }
        self.record_changes(name, changes.to_vec(), NOBODY);
        Ok(())
    }

    pub(super) fn record_changes(&mut self, name: &Arc<str>, changes: Vec<Change>, token: u64) {
        let Some(journal) = &mut self.journal else { return };
        let batch = journal.batch();
        let rider = Rider { name: name.clone(), changes, token };
        let waiting = write_facts(&mut self.facts, batch, rider);
        batch.waiting.push(waiting);
    }

    /// Facts for the next publication to bring.
    pub(crate) fn accompany(&mut self, name: &str, changes: Vec<Change>, token: u64) -> Result<(), Refusal> {
        if !changes.iter().all(|change| facts::fits(name, change)) {
            return Err(BAD_FACT);
        }
        self.rider = Some(Rider { name: name.into(), changes, token });
        Ok(())
    }

    /// A publication that was not taken leaves the facts behind that were to come with it.
    pub(super) fn leave_behind(&mut self, why: Option<&Refusal>) {
        if let Some(Rider { token, .. }) = self.rider.take() {
            let refusal = why.copied().unwrap_or(BAD_FACT);
            self.settled.push(Settled { token, outcome: Err(refusal) });
        }
    }

    /// A disk operation ended.
    pub(crate) fn on_disk(&mut self, cx: &mut Cx<'_, Mail>, desk: &mut Desk, ticket: Ticket, outcome: Outcome) {
        let Some(journal) = &mut self.journal else { return };
        for event in journal.on_disk(cx, ticket, outcome) {
            match event {
                Event::None => {}
                Event::Committed(flight) => self.committed(cx, desk, flight),
                Event::Refused(batches) => self.refused(cx, desk, batches),
                Event::Compact(outcome) => self.on_compact(cx, desk, outcome),
                Event::Removed => self.let_segments_go(cx, desk),
                Event::Read { segment, block, blocks } => {
                    self.on_read(cx, desk, (segment, block), blocks);
                    self.settle_compaction(cx, desk);
                }
            }
        }
        if let Some(at) = self.journal.as_ref().and_then(|journal| journal.retry_at()) {
            desk.due.plan(cx, at, Chore::Retry);
        }
    }

    /// The time to try again what trouble kept from being done.
    pub(crate) fn retry(&mut self, cx: &mut Cx<'_, Mail>) {
        if let Some(journal) = &mut self.journal {
            journal.retry(cx);
        }
    }

    fn committed(&mut self, cx: &mut Cx<'_, Mail>, desk: &mut Desk, flight: Flight) {
        let Flight { batch, segment, block, blocks, .. } = flight;
        for waiting in batch.waiting {
            match waiting {
                Waiting::Moved { place, message } => {
                    self.moved(desk, place, Place { segment, block, blocks, ..message });
                }
                Waiting::Message(message) => self.publish_committed(cx, desk, (segment, block, blocks), *message),
                Waiting::Repeat { to, peer, id, offset, parcel } => {
                    self.repeats -= 1;
                    cx.mail(to, Mail(Letter::Published { peer, id, offset, level: Level::Durable, parcel }));
                }
                Waiting::Facts { token, changes } => {
                    changes.into_iter().for_each(|(full, fact)| self.fact_committed(segment, &full, fact));
                    self.settled.push(Settled { token, outcome: Ok(()) });
                }
            }
        }
    }

    fn publish_committed(
        &mut self,
        cx: &mut Cx<'_, Mail>,
        desk: &mut Desk,
        (segment, block, blocks): (u64, u32, u32),
        message: Message,
    ) {
        let Message { place, offset, at_ms, user, seq, bytes, to, peer, id, parcel } = message;
        let topic = &mut self.topics[place];
        (topic.in_flight, topic.last_segment) = (topic.in_flight - 1, segment);
        topic.index.add(Place { first: offset, newest_ms: at_ms, segment, block, blocks, bytes });
        self.count_live(segment, i64::from(bytes));
        if self.remember(desk, place, at_ms, user.clone(), seq, parcel.body()).is_none() {
            // Too long for what memory is left: readers get it from the disk.
            self.forget_ring(place);
            self.topics[place].history.skip();
        }
        let topic = &self.topics[place];
        assert_eq!(topic.history.head(), offset, "batches are committed in order");
        let record = record::Record { offset, at_ms, from: &user.text, body: parcel.body() };
        topic.deliver(cx, desk, &record);
        desk.stats.published += 1;
        if peer != NO_PEER {
            cx.mail(to, Mail(Letter::Published { peer, id, offset, level: Level::Durable, parcel }));
        }
        self.tidy(desk, place);
    }

    /// A fact is on disk; what it replaced there is needed no more.
    fn fact_committed(&mut self, segment: u64, full: &Arc<str>, fact: Option<Fact>) {
        let fact = fact.map(|fact| Fact { segment, ..fact });
        self.count_live(segment, fact.as_ref().map_or(0, |fact| i64::from(fact.bytes)));
        if let Some(before) = self.facts.settle(full, fact) {
            self.count_live(before.segment, -i64::from(before.bytes));
        }
    }

    pub(super) fn count_live(&mut self, segment: u64, bytes: i64) {
        let journal = self.journal.as_mut();
        if let Some(segment) = journal.and_then(|journal| journal.segments.get_mut(&segment)) {
            segment.live = segment.live.saturating_add_signed(bytes);
        }
    }

    /// These batches are not on disk: nothing in them has happened.
    fn refused(&mut self, cx: &mut Cx<'_, Mail>, desk: &mut Desk, batches: Vec<Batch>) {
        let trouble = self.journal.as_ref().and_then(|journal| journal.trouble());
        let refusal = trouble.map_or(DISK_FAILED, Refusal::from);
        for waiting in batches.into_iter().rev().flat_map(|batch| batch.waiting.into_iter().rev()) {
            match waiting {
                Waiting::Message(message) => {
                    let Message { place, user, seq, to, peer, id, .. } = *message;
                    let topic = &mut self.topics[place];
                    topic.in_flight -= 1;
                    if let Some((device, seq)) = &seq {
                        topic.seen.remove(&user, device, *seq);
                    }
                    if peer != NO_PEER {
                        cx.mail(to, Mail(Letter::Rejected { peer, id, refusal }));
                    }
                    self.tidy(desk, place);
                }
                Waiting::Repeat { to, peer, id, .. } => {
                    self.repeats -= 1;
                    cx.mail(to, Mail(Letter::Rejected { peer, id, refusal }));
                }
                Waiting::Moved { place, .. } => self.not_moved(desk, place),
                Waiting::Facts { token, changes } => {
                    changes.iter().for_each(|(full, _)| self.take_back(full));
                    if let Some(rank) = marks::rank_of(token) {
                        changes.iter().for_each(|(full, _)| self.keep_mark(cx, desk, (full, rank)));
                    }
                    self.settled.push(Settled { token, outcome: Err(refusal) });
                }
            }
        }
    }

    /// A fact is again what is on disk; a topic that was to be forgotten is known again.
    fn take_back(&mut self, full: &Arc<str>) {
        self.facts.take_back(full);
        if let Some((name, HEAD)) = facts::parts(full)
            && self.find(name).is_none()
            && self.head_of(name).is_some()
            && !self.asleep.contains_key(name)
        {
            self.sleep(name.into(), self.newest_segment());
        }
    }

    pub(crate) fn fact(&self, name: &str, key: &str) -> Option<&Bytes> {
        self.facts.get(name, key)
    }

    pub(crate) fn facts(&self) -> &facts::Facts {
        &self.facts
    }
}

/// Adds changes of facts to a batch; they are true at once.
fn write_facts(facts: &mut facts::Facts, batch: &mut Batch, Rider { name, changes, token }: Rider) -> Waiting {
    let number = batch.name(&name, 0);
    let mut taken = Vec::with_capacity(changes.len());
    for Change { key, value } in changes {
        let bytes = batch.add(&Record::Fact { name: number, key: &key, value: value.as_deref() });
        let full = facts::full(&name, &key);
        let fact = value.map(|value| Fact { value, segment: 0, bytes });
        facts.change(&full, fact.clone());
        taken.push((full, fact));
    }
    Waiting::Facts { token, changes: taken }
}

fn refuse_when_stuck(journal: &Journal) -> Result<(), Refusal> {
    match journal.trouble() {
        Some(trouble) => Err(trouble.into()),
        None if journal.takes_records() => Ok(()),
        None => Err(DISK_SLOW),
    }
}
