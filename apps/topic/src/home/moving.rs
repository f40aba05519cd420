//! Messages of an earlier run that was stopped in good order and had them in memory only: with a journal they go to disk,
//! at the start or before the topic's next message. Until then they are as safe as they were: handed over when this run
//! stops, and acknowledged as no more.

use super::{Home, NOBODY};
use crate::{
    desk::Desk,
    journal::{Index, Place, Record, Waiting},
    topic::Moving,
};

/// Bytes that wait for the disk beyond which no more topics follow by themselves: as fast as the disk is, and others who
/// publish do not wait long behind them.
const MOVE_BYTES: usize = 1024 * 1024;

impl Home {
    /// All of a topic's ring behind `newest` has to go to disk.
    pub(super) fn is_to_move(&mut self, place: usize, newest: u64) {
        self.topics[place].moving = Some(Moving { newest, is_under_way: false });
        self.to_move.insert(place);
    }

    /// Topics follow each other as the disk takes them.
    pub(super) fn move_some(&mut self, desk: &mut Desk) {
        while !self.closed
            && let Some(place) = self.to_move.first().copied()
            && self.journal.as_ref().is_some_and(|it| it.takes_records() && it.waiting_bytes() < MOVE_BYTES)
        {
            self.move_out(desk, place);
        }
    }

    /// Writes what is not on disk of a topic, if there is something and it is not on its way, as far as the disk
    /// takes anything. What is said of the messages
    /// comes first: wherever the power goes, the one is not there without the other.
    pub(super) fn move_out(&mut self, desk: &mut Desk, place: usize) {
        let Some(Moving { newest, is_under_way: false }) = self.topics[place].moving else { return };
        if !self.journal.as_ref().is_some_and(|journal| journal.takes_records()) {
            return;
        }
        self.is_used(place);
        self.to_move.remove(&place);
        let name = self.topics[place].name.clone();
        let said: Vec<_> = self.kinds().flat_map(|kind| self.facts.in_memory_of(&name, kind)).collect();
        said.into_iter().for_each(|change| self.record_changes(&name, vec![change], NOBODY));
        let (topic, Some(journal)) = (&mut self.topics[place], &mut self.journal) else { return };
        let head = topic.history.head();
        if newest == head {
            topic.moving = None;
            // Nothing else says how far it has come.
            self.keeps_head(place);
            return self.tidy(desk, place);
        }
        for offset in newest + 1..=head {
            let record = topic.history.get(offset).expect("nothing leaves a ring before it is on disk");
            let batch = journal.batch();
            let name = batch.name(&topic.name, topic.epoch);
            let (at_ms, seq) = (record.at_ms, topic.history.seq(offset));
            let bytes = batch.add(&Record::Message { name, offset, at_ms, seq, from: record.from, body: record.body });
            let message = Place { first: offset, newest_ms: at_ms, segment: 0, block: 0, blocks: 0, bytes };
            batch.waiting.push(Waiting::Moved { place, message });
        }
        topic.moving = Some(Moving { newest, is_under_way: true });
    }

    /// One of these messages is on disk.
    pub(super) fn moved(&mut self, desk: &mut Desk, place: usize, message: Place) {
        let topic = &mut self.topics[place];
        topic.index.add(message);
        topic.last_segment = message.segment;
        let is_last = message.first == topic.history.head();
        topic.moving = (!is_last).then_some(Moving { newest: message.first, is_under_way: true });
        self.count_live(message.segment, i64::from(message.bytes));
        desk.stats.moved += 1;
        if is_last {
            self.tidy(desk, place);
        }
    }

    /// The disk did not take them: they stay where they are until it does.
    pub(super) fn not_moved(&mut self, desk: &mut Desk, place: usize) {
        if let Some(Moving { newest, is_under_way: true }) = self.topics[place].moving {
            self.is_to_move(place, newest);
            self.tidy(desk, place);
        }
    }

    /// A topic is gone before its messages were all on disk; those that are there are not needed.
    pub(super) fn stay(&mut self, place: usize, mut index: Index) {
        self.to_move.remove(&place);
        for gone in index.clear() {
            self.count_live(gone.segment, -i64::from(gone.bytes));
        }
    }
}
