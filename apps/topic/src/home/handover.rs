//! Topics from one run to the next: what a home hands over when it stops, and what it takes up when it starts.

use std::sync::Arc;

use super::Home;
use crate::{
    desk::Desk,
    history::{History, room_bytes},
    section::{Record, Section},
    snapshot::{Restored, Share, Snapshot},
    topic::Topic,
};

impl Home {
    /// All topics that have messages. From here on nothing gets an offset: what is not in the snapshot must not be
    /// acknowledged.
    pub(crate) fn hand_over(&mut self) -> Share {
        self.closed = true;
        let mut share = Share::with_capacity(self.history_bytes);
        for (_, topic) in self.topics.iter().filter(|(_, topic)| topic.history.head() > 0) {
            let (first, head) = (topic.history.first(), topic.history.head());
            let records = (first..=head).filter_map(|offset| {
                let record = topic.history.get(offset)?;
                let seq = topic.history.seq(offset);
                Some(Record { at_ms: record.at_ms, from: record.from, seq, body: record.body })
            });
            share.add(&Section::new(&topic.name, topic.epoch, first, head), records);
        }
        share
    }

    /// Takes up the topics that are at home here. Those that were published to last stay when there is not room for all.
    pub(crate) fn take_up(&mut self, desk: &mut Desk, snapshot: &Snapshot, keep: impl Fn(&str) -> bool) -> Restored {
        assert_eq!(self.topics.len(), 0, "topics are taken up before there are any");
        let (mut topics, mut records) = (0, 0);
        for section in snapshot.sections().filter(|section| keep(section.name)) {
            topics += 1;
            records += section.count();
            self.take_up_topic(desk, &section);
        }
        let held = self.topics.iter().map(|(_, topic)| topic.history.head() + 1 - topic.history.first());
        let (topics_held, records_held) = (self.topics.len() as u64, held.sum());
        Restored {
            topics: topics_held,
            records: records_held,
            topics_dropped: topics - topics_held,
            records_dropped: records - records_held,
        }
    }

    fn take_up_topic(&mut self, desk: &mut Desk, section: &Section<'_>) {
        if self.topics.len() >= desk.limits.topics_max && !self.evict(desk, None) {
            return;
        }
        let limits = desk.limits;
        let (_, wanted) = newest(section, limits.history_records_max, limits.history_bytes_max);
        let left = loop {
            let left = limits.history_total_bytes_max.saturating_sub(self.history_bytes);
            if wanted <= left || !self.evict(desk, None) {
                break left;
            }
        };
        let (skip, ring_bytes) = newest(section, limits.history_records_max, limits.history_bytes_max.min(left));
        let mut history = History::resumed(desk.hasher.clone(), section.first + skip as u64, ring_bytes);
        for record in section.records().skip(skip) {
            let user = desk.names.intern(record.from);
            let seq = record.seq.map(|(device, seq)| (desk.names.intern(device), seq));
            let pushed = history.push(&limits, ring_bytes, record.at_ms, user, seq, record.body);
            assert!(pushed.is_some(), "the ring has room for exactly these");
        }
        assert_eq!(history.head(), section.head, "offsets go on where they were");
        self.history_bytes += history.ring_bytes();
        self.ticks += 1;
        let name: Arc<str> = section.name.into();
        let mut topic = Topic::new(name.clone(), section.epoch, desk.hasher.clone(), self.ticks);
        topic.history = history;
        let place = self.topics.insert(Box::new(topic));
        self.by_name.insert(name, place);
        self.tidy(desk, place);
    }
}

/// How many records at the beginning of a topic have no room, and the bytes that the bodies of the others take.
fn newest(section: &Section<'_>, records_max: usize, bytes_max: usize) -> (usize, usize) {
    let mut bytes: usize = section.records().map(|record| room_bytes(record.body.len())).sum();
    let mut left = section.records().count();
    let mut skip = 0;
    for record in section.records() {
        if left <= records_max && bytes <= bytes_max {
            break;
        }
        bytes -= room_bytes(record.body.len());
        left -= 1;
        skip += 1;
    }
    (skip, bytes)
}
