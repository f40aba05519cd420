//! What may go: messages by age, by bytes of their topic and by bytes of the journal, then segments with nothing in them
//! that is needed, and marks that are written now and then.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use handler::{Cx, Level};

use super::Home;
use crate::{
    desk::Desk,
    due::Chore,
    facts::{self, Change},
    history::History,
    journal::Place,
    mail::Mail,
    seen::Seen,
};

/// How often it is looked at what may go.
const EVERY: Duration = Duration::from_secs(5);

/// How often marks are written that have risen.
const MARKS_EVERY: Duration = Duration::from_millis(500);

/// What the keys of marks begin with.
const MARK: &str = "mark/";

/// The fact that says which epoch and offset a topic had when its last message went.
const HEAD: &str = "~head";

/// The token of changes that nobody waits for.
pub(crate) const NOBODY: u64 = u64::MAX;

impl Home {
    pub(super) fn plan_retention(&self, cx: &mut Cx<'_, Mail>, desk: &mut Desk) {
        desk.due.plan(cx, cx.now + EVERY, Chore::Retain);
    }

    /// The time to look at what may go.
    pub(crate) fn retain(&mut self, cx: &mut Cx<'_, Mail>, desk: &mut Desk) {
        let places: Vec<usize> = self.topics.iter().map(|(place, _)| place).collect();
        let oldest_ms = cx.wall_ms.saturating_sub(desk.limits.retention_ms);
        let bytes_max = desk.limits.retention_bytes;
        for place in &places {
            let is_over = |topic: &crate::topic::Topic, oldest: &Place| {
                oldest.newest_ms < oldest_ms || topic.index.bytes() > bytes_max
            };
            while let Some(oldest) = self.topics[*place].index.oldest().copied()
                && is_over(&self.topics[*place], &oldest)
                && self.trim(desk, *place)
            {}
        }
        self.let_segments_go(cx, desk);
        self.compacted.retain(|number| self.journal.as_ref().is_some_and(|it| it.segments.contains_key(number)));
        self.compact(cx);
        self.plan_retention(cx, desk);
    }

    /// Lets the oldest segment go if it may. The next one follows when it is gone.
    pub(super) fn let_segments_go(&mut self, cx: &mut Cx<'_, Mail>, desk: &mut Desk) {
        self.crowd_out(desk);
        self.let_oldest_go(cx);
    }

    /// The oldest batch of a topic goes; whether it has. With the last one goes what says how far the topic has come, so
    /// that is on disk before.
    fn trim(&mut self, desk: &mut Desk, place: usize) -> bool {
        if self.topics[place].index.len() == 1 && !self.keeps_head(place) {
            return false;
        }
        let topic = &mut self.topics[place];
        let Some(gone) = topic.index.drop_oldest() else { return false };
        if topic.index.first().is_none() {
            // The ring has nothing that is older than what is on disk.
            self.forget_ring(place);
        }
        desk.stats.trimmed_batches += 1;
        self.count_live(gone.segment, -i64::from(gone.bytes));
        true
    }

    /// Whether epoch and head of a topic are a fact on disk; if not they are on their way.
    fn keeps_head(&mut self, place: usize) -> bool {
        let topic = &self.topics[place];
        let value: Vec<u8> = topic.epoch.to_le_bytes().into_iter().chain(topic.history.head().to_le_bytes()).collect();
        let full = facts::full(&topic.name, HEAD);
        if self.facts.on_disk(&full).is_some_and(|fact| fact.value == value) {
            return true;
        }
        if self.facts.get(&topic.name, HEAD).is_none_or(|known| *known != value) {
            let (name, change) = (topic.name.clone(), Change { key: HEAD.to_owned(), value: Some(value.into()) });
            // If it is refused now, the next look tries again.
            let _ = self.record(&name, &[change], NOBODY);
        }
        false
    }

    /// Topics go on where they were although their last messages are gone. What is found of such a topic is older than
    /// what went.
    pub(super) fn wake_heads(&mut self, desk: &Desk, mut gone: impl FnMut(&Place)) {
        let heads: Vec<(Arc<str>, u64, u64)> =
            self.facts.iter().filter_map(|(name, key, value)| head(name, key, value)).collect();
        for (name, epoch, head) in heads {
            let place = self.find(&name).unwrap_or_else(|| self.insert(desk, &name, epoch));
            let topic = &mut self.topics[place];
            topic.level = Level::Durable;
            if topic.epoch == epoch && topic.history.head() < head {
                topic.index.clear().for_each(|place| gone(&place));
                self.history_bytes -= topic.history.body_bytes();
                (topic.history, topic.seen) = (History::resumed(head + 1), Seen::new(desk.hasher.clone()));
            }
        }
    }

    /// When the journal is too long, the oldest segment's messages go, whatever their age.
    fn crowd_out(&mut self, desk: &mut Desk) {
        let Some(journal) = &self.journal else { return };
        let bytes: u64 = journal.segments.values().map(|segment| segment.length).sum();
        let Some((oldest, _)) = journal.segments.first_key_value() else { return };
        let oldest = *oldest;
        if bytes <= desk.limits.journal_bytes || journal.segments.len() < 2 {
            return;
        }
        let places: Vec<usize> = self.topics.iter().map(|(place, _)| place).collect();
        for place in places {
            while self.topics[place].index.oldest().is_some_and(|place| place.segment == oldest)
                && self.trim(desk, place)
            {}
        }
    }

    /// Lets the oldest segment go when no message in it is needed; facts in it are written anew first.
    fn let_oldest_go(&mut self, cx: &mut Cx<'_, Mail>) {
        let Some(journal) = &mut self.journal else { return };
        if journal.is_removing(cx) {
            return;
        }
        let oldest = journal.segments.first_key_value().map(|(number, segment)| (*number, segment.live));
        let Some((number, live)) = oldest.filter(|_| journal.segments.len() > 1) else { return };
        if self.compaction.as_ref().is_some_and(|it| it.is_of(number)) {
            return;
        }
        if live == 0 {
            self.reads.forget(number);
            journal.remove_oldest(cx);
            return;
        }
        let takes_records = journal.takes_records();
        let in_messages: u64 = self.topics.iter().map(|(_, topic)| topic.index.bytes_in(number)).sum();
        if in_messages == 0 && takes_records {
            self.carry_facts(number);
        }
    }

    /// Writes the facts of a segment anew, so that it can go.
    fn carry_facts(&mut self, segment: u64) {
        let facts: Vec<(Arc<str>, Change)> = self.facts.of_segment(segment).collect();
        for (name, change) in facts {
            // What is refused now is tried at the next look.
            if self.record(&name, &[change], NOBODY).is_err() {
                return;
            }
        }
    }

    /// A mark has risen: it is written soon.
    pub(super) fn plan_mark(&mut self, cx: &mut Cx<'_, Mail>, desk: &mut Desk, place: usize, user: &Arc<str>) {
        if self.risen.is_empty() {
            desk.due.plan(cx, cx.now + MARKS_EVERY, Chore::Marks);
        }
        self.risen.insert((self.topics[place].name.clone(), user.clone()));
    }

    /// The time to write marks that have risen.
    pub(crate) fn write_marks(&mut self, cx: &mut Cx<'_, Mail>, desk: &mut Desk) {
        let risen = std::mem::take(&mut self.risen);
        self.marked.clear();
        for (topic, user) in risen {
            let Some(place) = self.find(&topic) else { continue };
            let Some(mark) = self.topics[place].watermarks.get(&user) else { continue };
            self.marked.push((topic.clone(), user.clone(), mark));
            if self.topics[place].level != Level::Durable {
                continue;
            }
            // A history that begins anew later has been read by nobody.
            let value = [mark.delivered, mark.read, self.topics[place].epoch].map(u64::to_le_bytes).concat();
            let change = Change { key: format!("{MARK}{user}"), value: Some(Bytes::from(value)) };
            if self.record(&topic, &[change], NOBODY).is_err() {
                // Marks only rise, and a lost one rises again: a full disk must not fill the memory.
                desk.stats.marks_lost += 1;
            }
        }
        self.flush(cx, desk);
    }

    /// Marks that are facts are those of topics again.
    pub(super) fn wake_marks(&mut self, desk: &mut Desk) {
        for (name, key, value) in self.facts.iter() {
            let (Some(user), Some(place)) = (key.strip_prefix(MARK), self.by_name.get(name).copied()) else { continue };
            let Ok(numbers) = <[u8; 24]>::try_from(&value[..]) else { continue };
            let (numbers, _) = numbers.as_chunks::<8>();
            let &[delivered, read, epoch] = numbers else { continue };
            let [delivered, read, epoch] = [delivered, read, epoch].map(u64::from_le_bytes);
            let (user, topic) = (desk.names.intern(user), &mut self.topics[place]);
            if epoch == topic.epoch {
                topic.watermarks.raise(&user.text, topic.history.head(), delivered, read);
            }
        }
    }
}

fn head(name: &str, key: &str, value: &[u8]) -> Option<(Arc<str>, u64, u64)> {
    let (epoch, head) = value.split_first_chunk::<8>().filter(|_| key == HEAD)?;
    Some((name.into(), u64::from_le_bytes(*epoch), u64::from_le_bytes(head.try_into().ok()?)))
}
