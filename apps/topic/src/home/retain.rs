//! What may go: messages by age, by bytes of their topic and by bytes of the journal, then segments with nothing in them
//! that is needed. Facts that are needed are carried from the oldest segment to the newest one, in steps.

use std::{sync::Arc, time::Duration};

use handler::Cx;

use super::Home;
use crate::{
    desk::Desk,
    due::Chore,
    facts::{self, Change, HEAD, Head},
    history::History,
    journal::Place,
    mail::Mail,
    seen::Seen,
    topic::Topic,
};

/// How often it is looked at what may go.
const EVERY: Duration = Duration::from_secs(5);

/// Bytes of facts that are carried in one turn: a few batches.
const CARRY_BYTES: usize = 256 * 1024;

/// Facts that are looked at in one turn to find those.
const CARRY_LOOKS: usize = 4_096;

/// When the next step follows.
const CARRY_EVERY: Duration = Duration::from_millis(10);

/// The token of changes that nobody waits for.
pub(crate) const NOBODY: u64 = u64::MAX;

/// Facts of a segment on their way to the newest one.
#[derive(Debug)]
pub(super) struct Carry {
    segment: u64,
    /// The fact that was looked at last.
    after: Option<Arc<str>>,
}

impl Home {
    pub(super) fn plan_retention(&self, cx: &mut Cx<'_, Mail>, desk: &mut Desk) {
        desk.due.plan(cx, cx.now + EVERY, Chore::Retain);
    }

    /// The time to look at what may go.
    pub(crate) fn retain(&mut self, cx: &mut Cx<'_, Mail>, desk: &mut Desk) {
        self.trim_old(cx, desk);
        self.sweep();
        self.fall_asleep(desk);
        self.forget_topics(desk);
        self.forget_stale_marks();
        self.let_segments_go(cx, desk);
        self.compacted.retain(|number| self.journal.as_ref().is_some_and(|it| it.segments.contains_key(number)));
        self.compact(cx);
        self.plan_retention(cx, desk);
    }

    /// Batches go that are too old, if the clock is to be believed, or too many.
    pub(super) fn trim_old(&mut self, cx: &Cx<'_, Mail>, desk: &mut Desk) {
        let places: Vec<usize> = self.topics.iter().map(|(place, _)| place).collect();
        let is_steady = self.clock.look(cx.now, cx.wall_ms);
        let oldest_ms = if is_steady { cx.wall_ms.saturating_sub(desk.limits.retention_ms) } else { 0 };
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
    }

    /// Lets the oldest segment go if it may. The next one follows when it is gone.
    pub(super) fn let_segments_go(&mut self, cx: &mut Cx<'_, Mail>, desk: &mut Desk) {
        self.crowd_out(desk);
        self.let_oldest_go(cx, desk);
    }

    /// The oldest batch of a topic goes; whether it has. With the last one goes what says how far the topic has come, so
    /// that is on disk before.
    fn trim(&mut self, desk: &mut Desk, place: usize) -> bool {
        if self.topics[place].moving.is_some() {
            // What is in the ring may be nowhere else.
            return false;
        }
        if self.topics[place].index.len() == 1 && !self.keeps_head(place) {
            return false;
        }
        let topic = &mut self.topics[place];
        let Some(gone) = topic.index.drop_oldest() else { return false };
        // The ring has nothing that is older than what is on disk.
        match topic.index.first() {
            Some(first) => self.trim_ring(place, first),
            None => self.forget_ring(place),
        }
        desk.stats.trimmed_batches += 1;
        self.count_live(gone.segment, -i64::from(gone.bytes));
        true
    }

    /// Whether epoch and head of a topic are a fact on disk; if not they are on their way.
    pub(super) fn keeps_head(&mut self, place: usize) -> bool {
        let topic = &self.topics[place];
        if self.has_head(topic) {
            return true;
        }
        let value = Head::of(topic).write();
        if self.facts.get(&topic.name, HEAD).is_none_or(|known| *known != value) {
            let (name, change) = (topic.name.clone(), Change { key: HEAD.to_owned(), value: Some(value) });
            // If it is refused now, the next look tries again.
            let _ = self.record_upkeep(&name, &[change]);
        }
        false
    }

    /// Whether epoch and head of a topic are a fact on disk.
    pub(super) fn has_head(&self, topic: &Topic) -> bool {
        let known = self.facts.on_disk(&facts::full(&topic.name, HEAD));
        // One that was written before there was a time says as much.
        let known = known.and_then(|fact| Head::read(&fact.value));
        known.is_some_and(|known| (known.epoch, known.offset) == (topic.epoch, topic.history.head()))
    }

    /// Topics go on where they were although their last messages are gone. What is found of such a topic is older than
    /// what went.
    pub(super) fn wake_heads(&mut self, desk: &Desk, mut gone: impl FnMut(&Place)) {
        let heads: Vec<(Arc<str>, Head)> =
            self.facts.iter().filter_map(|(name, key, value)| head(name, key, value)).collect();
        for (name, head) in heads {
            let Some(place) = self.find(&name) else {
                // There is no message of it in any segment.
                self.sleep(name, 0);
                continue;
            };
            let topic = &mut self.topics[place];
            if topic.epoch == head.epoch && topic.history.head() < head.offset {
                topic.index.clear().for_each(|place| gone(&place));
                self.history_bytes -= topic.history.body_bytes();
                (topic.history, topic.seen) = (History::resumed(head.offset + 1), Seen::new(desk.hasher.clone()));
                topic.newest_ms = topic.newest_ms.max(head.at_ms);
            }
        }
    }

    /// When the journal is too long, the oldest segment's messages go, whatever their age.
    pub(super) fn crowd_out(&mut self, desk: &mut Desk) {
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
    fn let_oldest_go(&mut self, cx: &mut Cx<'_, Mail>, desk: &mut Desk) {
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
            self.carry = None;
            self.reads.forget(number);
            journal.remove_oldest(cx);
            return;
        }
        if self.carry.as_ref().is_some_and(|carry| carry.segment == number) || !journal.takes_upkeep() {
            return;
        }
        let in_messages: u64 = self.topics.iter().map(|(_, topic)| topic.index.bytes_in(number)).sum();
        if in_messages == 0 {
            self.carry = Some(Carry { segment: number, after: None });
            self.carry_facts(cx, desk);
        }
    }

    /// Writes some of the facts of a segment anew, so that it can go.
    pub(crate) fn carry_facts(&mut self, cx: &mut Cx<'_, Mail>, desk: &mut Desk) {
        let Some(Carry { segment, after }) = self.carry.take() else { return };
        let (facts, after) = self.facts.of_segment(segment, after.as_ref(), (CARRY_LOOKS, CARRY_BYTES));
        for (name, change) in facts {
            // What is refused now is tried at the next look.
            if self.record_upkeep(&name, &[change]).is_err() {
                return;
            }
        }
        if after.is_some() {
            self.carry = Some(Carry { segment, after });
            desk.due.plan(cx, cx.now + CARRY_EVERY, Chore::Carry);
        }
    }
}

impl Head {
    fn of(topic: &Topic) -> Self {
        Self { epoch: topic.epoch, offset: topic.history.head(), at_ms: topic.newest_ms }
    }
}

fn head(name: &str, key: &str, value: &[u8]) -> Option<(Arc<str>, Head)> {
    (key == HEAD).then(|| Some((name.into(), Head::read(value)?)))?
}
