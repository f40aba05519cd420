//! What may go: messages by age, by bytes of their topic and by bytes of the journal, then segments with nothing in them
//! that is needed, and marks that are written now and then.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use handler::{Cx, Level};

use super::Home;
use crate::{desk::Desk, due::Chore, facts::Change, journal::Place, mail::Mail, watermark::Watermark};

/// How often it is looked at what may go.
const EVERY: Duration = Duration::from_secs(5);

/// How often marks are written that have risen.
const MARKS_EVERY: Duration = Duration::from_millis(500);

/// What the keys of marks begin with.
const MARK: &str = "mark/";

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
            {
                self.trim(desk, *place);
            }
        }
        self.let_segments_go(cx, desk);
        self.plan_retention(cx, desk);
    }

    /// Lets the oldest segment go if it may. The next one follows when it is gone.
    pub(super) fn let_segments_go(&mut self, cx: &mut Cx<'_, Mail>, desk: &mut Desk) {
        self.crowd_out(desk);
        self.let_oldest_go(cx);
    }

    /// The oldest batch of a topic goes.
    fn trim(&mut self, desk: &mut Desk, place: usize) {
        let topic = &mut self.topics[place];
        let Some(gone) = topic.index.drop_oldest() else { return };
        if topic.index.first().is_none() {
            // The ring has nothing that is older than what is on disk.
            self.forget_ring(place);
        }
        desk.stats.trimmed_batches += 1;
        self.count_live(gone.segment, -i64::from(gone.bytes));
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
            while self.topics[place].index.oldest().is_some_and(|place| place.segment == oldest) {
                self.trim(desk, place);
            }
        }
    }

    /// Lets the oldest segment go when no message in it is needed; facts in it are written anew first.
    fn let_oldest_go(&mut self, cx: &mut Cx<'_, Mail>) {
        let Some(journal) = &mut self.journal else { return };
        let oldest = journal.segments.first_key_value().map(|(number, segment)| (*number, segment.live));
        let Some((number, live)) = oldest.filter(|_| journal.segments.len() > 1) else { return };
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
            let place = self.find(&topic);
            let mark = place.and_then(|place| self.topics[place].watermarks.get(&user));
            let Some(mark @ Watermark { delivered, read }) = mark else { continue };
            self.marked.push((topic.clone(), user.clone(), mark));
            if place.is_none_or(|place| self.topics[place].level != Level::Durable) {
                continue;
            }
            let value: Vec<u8> = delivered.to_le_bytes().into_iter().chain(read.to_le_bytes()).collect();
            let change = Change { key: format!("{MARK}{user}"), value: Some(Bytes::from(value)) };
            if self.record(&topic, &[change], NOBODY).is_err() {
                // Marks only rise, and a lost one rises again: a full disk must not fill the memory.
                desk.stats.marks_lost += 1;
            }
        }
        self.flush(cx);
    }

    /// Marks that are facts are those of topics again.
    pub(super) fn wake_marks(&mut self, desk: &mut Desk) {
        for (name, key, value) in self.facts.iter() {
            let (Some(user), Some(place)) = (key.strip_prefix(MARK), self.by_name.get(name).copied()) else { continue };
            let Some((delivered, read)) = value.split_first_chunk::<8>() else { continue };
            let Ok(read) = <[u8; 8]>::try_from(read) else { continue };
            let (delivered, read) = (u64::from_le_bytes(*delivered), u64::from_le_bytes(read));
            let (user, topic) = (desk.names.intern(user), &mut self.topics[place]);
            topic.watermarks.raise(&user.text, topic.history.head(), delivered, read);
        }
    }
}
