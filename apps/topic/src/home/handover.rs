//! Topics from one run to the next: what a home hands over when it stops, and what it takes up when it starts.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;
use handler::Level;

use super::{Home, NOBODY, places::ALL};
use crate::{
    about::said,
    desk::Desk,
    facts::{self, Change, Fact},
    history::History,
    section::{FactSection, Record, Section},
    seen::Seen,
    snapshot::{Restored, Share, Snapshot},
    topic::Topic,
};

impl Home {
    /// All topics that have messages. From here on nothing gets an offset: what is not in the snapshot must not be
    /// acknowledged.
    pub(crate) fn hand_over(&mut self) -> Share {
        self.closed = true;
        let mut share = Share::with_capacity(self.history_bytes);
        let in_memory = |topic: &Topic| !topic.is_on_disk() && topic.history.head() > 0;
        for (_, topic) in self.topics.iter().filter(|(_, topic)| in_memory(topic)) {
            let (first, head) = (topic.history.first(), topic.history.head());
            let records = (first..=head).filter_map(|offset| {
                let record = topic.history.get(offset)?;
                let seq = topic.history.seq(offset);
                Some(Record { at_ms: record.at_ms, from: record.from, seq, body: record.body })
            });
            share.add(&Section::new(&topic.name, topic.epoch, first, head), records);
        }
        self.hand_over_facts(&mut share);
        share
    }

    /// Those that no journal has, and those about messages that none has.
    fn hand_over_facts(&self, share: &mut Share) {
        let in_memory = self.facts.in_memory().map(|(name, key, value)| ((name, key), &value[..]));
        let mut facts: BTreeMap<(&str, &str), &[u8]> = in_memory.collect();
        for (_, topic) in self.topics.iter().filter(|(_, topic)| topic.moving.is_some()) {
            // The next run may have no journal to read what was said since.
            let said = self.kinds().flat_map(|kind| self.facts.range(&topic.name, kind, None));
            facts.extend(said.map(|(key, value)| ((&*topic.name, key), value)));
        }
        let mut facts = facts.into_iter().peekable();
        while let Some(((name, _), _)) = facts.peek().copied() {
            let of_name = std::iter::from_fn(|| facts.next_if(|((other, _), _)| *other == name));
            share.add_facts(name, of_name.map(|((_, key), value)| (key, value)));
        }
    }

    /// Facts of an earlier run that no journal has are true again: those of names that nothing is known of here, and what
    /// is said of messages that came from that run too.
    fn take_up_facts(&mut self, section: &FactSection<'_>, restored: &mut Restored) {
        let is_known = self.facts.range(section.name, "", None).next().is_some();
        let name = Arc::from(section.name);
        for (key, value) in section.facts() {
            if self.kind_of(key).is_some() {
                restored.facts += u64::from(self.take_up_said(&name, key, value));
                continue;
            }
            if is_known && !self.is_kept_in_memory(&name, key) {
                continue;
            }
            let change = Change { key: key.to_owned(), value: Some(Bytes::copy_from_slice(value)) };
            match self.record(&name, &[change], NOBODY) {
                Ok(()) => restored.facts += 1,
                Err(_) => restored.facts_dropped += 1,
            }
        }
    }

    /// What is said of a message is as safe as the message, and whatever else is known of the topic: in memory until both
    /// are on disk. Of topics that found no room, or that the journal has, nothing is said that comes from elsewhere.
    fn take_up_said(&mut self, name: &Arc<str>, key: &str, value: &[u8]) -> bool {
        let Some(topic) = self.at_home(name).filter(|topic| !topic.is_on_disk()) else { return false };
        let full = facts::full(name, key);
        if self.facts.on_disk(&full).is_some_and(|fact| said(&fact.value, topic.epoch).is_some()) {
            // It was on its way to disk, and got there.
            return false;
        }
        let before = self.facts.set(&full, Some(Fact::in_memory(Bytes::copy_from_slice(value))));
        if let Some(before) = before {
            self.count_live(before.segment, -i64::from(before.bytes));
        }
        true
    }

    /// Takes up the topics that are at home here. Those that were published to last stay when there is not room for all.
    pub(crate) fn take_up(&mut self, desk: &mut Desk, snapshot: &Snapshot, keep: impl Fn(&str) -> bool) -> Restored {
        let (mut topics, mut records) = (0, 0);
        let mut on_disk: BTreeSet<usize> = self.topics.iter().map(|(place, _)| place).collect();
        for section in snapshot.sections().filter(|section| keep(section.name)) {
            // What is in the journal is newer, and safer.
            let known = self.epoch_of(section.name);
            let place = self.find(section.name);
            let head = place.map_or(u64::MAX, |place| self.topics[place].history.head());
            if known == Some(section.epoch) && head >= section.head {
                continue;
            }
            topics += 1;
            records += section.count();
            match place {
                _ if known.is_none() => self.take_up_topic(desk, &section),
                Some(place) if known == Some(section.epoch) && section.first <= head + 1 => {
                    on_disk.remove(&place);
                    self.take_up_rest(desk, place, &section);
                }
                // The journal has another history.
                _ => {}
            }
        }
        let taken = self.topics.iter().filter(|(place, _)| !on_disk.contains(place));
        let held = |topic: &Topic| topic.history.head() + 1 - topic.history.first();
        let (topics_held, records_held) = taken.fold((0, 0), |(n, sum), (_, topic)| (n + 1, sum + held(topic)));
        let mut restored = Restored {
            topics: topics_held,
            records: records_held,
            topics_dropped: topics - topics_held,
            records_dropped: records - records_held,
            ..Restored::default()
        };
        for section in snapshot.facts().filter(|section| keep(section.name)) {
            self.take_up_facts(&section, &mut restored);
        }
        restored
    }

    fn take_up_topic(&mut self, desk: &mut Desk, section: &Section<'_>) {
        if self.make_room(desk, section.name).is_err() {
            return;
        }
        let limits = desk.limits;
        let (_, wanted) = newest(section, limits.history_records_max, limits.history_bytes_max);
        let left = loop {
            let left = limits.history_total_bytes_max.saturating_sub(self.history_bytes);
            if wanted <= left || !self.evict(desk, None, &ALL) {
                break left;
            }
        };
        let (skip, _) = newest(section, limits.history_records_max, limits.history_bytes_max.min(left));
        let place = self.insert(desk, section.name, section.epoch);
        let mut seen = Seen::new(desk.hasher.clone());
        let (history, newest_ms) = restore(desk, section, skip, &mut seen);
        self.history_bytes += history.body_bytes();
        let topic = &mut self.topics[place];
        let newest = history.first() - 1;
        (topic.history, topic.seen, topic.newest_ms) = (history, seen, newest_ms);
        if topic.level == Level::Durable {
            self.is_to_move(place, newest);
        }
        self.tidy(desk, place);
    }

    /// A run that stopped while these messages were on their way to disk has left some of them there.
    fn take_up_rest(&mut self, desk: &mut Desk, place: usize, section: &Section<'_>) {
        self.is_used(place);
        let newest = self.topics[place].history.head();
        self.forget_ring(place);
        let topic = &mut self.topics[place];
        let mut seen = std::mem::replace(&mut topic.seen, Seen::new(desk.hasher.clone()));
        // Whatever room there is: between these and those on disk there is no gap.
        let (history, newest_ms) = restore(desk, section, 0, &mut seen);
        self.history_bytes += history.body_bytes();
        let topic = &mut self.topics[place];
        (topic.history, topic.seen, topic.newest_ms) = (history, seen, topic.newest_ms.max(newest_ms));
        self.is_to_move(place, newest);
        self.tidy(desk, place);
    }
}

/// The ring that a section has behind the records that are skipped, and when the newest message was taken.
fn restore(desk: &mut Desk, section: &Section<'_>, skip: usize, seen: &mut Seen) -> (History, u64) {
    let (mut history, mut newest_ms) = (History::resumed(section.first + skip as u64), 0);
    for record in section.records().skip(skip) {
        let user = desk.names.intern(record.from);
        let seq = record.seq.map(|(device, seq)| (desk.names.intern(device), seq));
        let offset = history.restore(record.at_ms, user.clone(), seq.clone(), record.body);
        if let Some((device, seq)) = &seq {
            seen.add(&user, device, *seq, offset, section.first);
        }
        newest_ms = record.at_ms;
    }
    history.fit();
    assert_eq!(history.head(), section.head, "offsets go on where they were");
    (history, newest_ms)
}

/// How many records at the beginning of a topic have no room, and the bytes that the bodies of the others take.
fn newest(section: &Section<'_>, records_max: usize, bytes_max: usize) -> (usize, usize) {
    let mut bytes: usize = section.records().map(|record| record.body.len()).sum();
    let mut left = section.records().count();
    let mut skip = 0;
    for record in section.records() {
        if left <= records_max && bytes <= bytes_max {
            break;
        }
        bytes -= record.body.len();
        left -= 1;
        skip += 1;
    }
    (skip, bytes)
}
