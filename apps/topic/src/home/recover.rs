//! What a journal had, brought back: topics with their newest messages in memory, and facts.

use std::collections::BTreeMap;

use ahash::RandomState;
use handler::{Level, ShardId};

use super::Home;
use crate::{
    desk::Desk,
    facts::{self, Fact},
    history::History,
    journal::{At, Found, Index, Journal, Place, Record, RecoverError, Recovered, Segments, walk_segments},
    mutant::Mutant,
    seen::Seen,
};

/// Bytes that are still needed, by segment.
type Live = BTreeMap<u64, u64>;

impl Home {
    /// Reads a journal, and writes what comes to its end from now on.
    pub(crate) fn recover(
        &mut self,
        desk: &mut Desk,
        (shard, origin): (ShardId, u64),
        (segment_bytes, in_memory): (u64, Vec<String>),
        source: &mut dyn Segments,
    ) -> Result<Recovered, RecoverError> {
        let hasher: RandomState = desk.hasher.clone();
        let journal = |segments| Journal::new((shard, origin), segment_bytes, segments, hasher.clone());
        // Levels depend on there being a journal.
        self.journal = Some(Box::new(journal(BTreeMap::new())));
        self.in_memory = in_memory;
        let mut live = Live::new();
        let mut each = |found: Found<'_>| self.take_record(desk, &mut live, &found);
        let (mut segments, recovered) = walk_segments((shard.0, origin), source, true, &mut each)?;
        let mut gone = |gone: &Place| *live.entry(gone.segment).or_default() -= u64::from(gone.bytes);
        self.wake_heads(desk, &mut gone);
        self.wake_floors(desk, &mut gone);
        for (number, segment) in &mut segments {
            segment.live = live.get(number).copied().unwrap_or(0);
        }
        self.journal = Some(Box::new(journal(segments)));
        self.wake_marks(desk);
        let places: Vec<usize> = self.topics.iter().map(|(place, _)| place).collect();
        places.into_iter().for_each(|place| self.tidy(desk, place));
        self.fall_asleep(desk);
        Ok(recovered)
    }

    fn take_record(&mut self, desk: &mut Desk, live: &mut Live, found: &Found<'_>) {
        match found.record {
            Record::Name { .. } => {}
            Record::Message { .. } => self.take_message(desk, live, found),
            Record::Fact { key, value, .. } => {
                let (segment, bytes) = (found.at.segment, found.bytes);
                let fact = value.map(|value| Fact { value: value.to_vec().into(), segment, bytes });
                if fact.is_some() {
                    *live.entry(segment).or_default() += u64::from(bytes);
                }
                if let Some(before) = self.facts.set(&facts::full(found.name, key), fact) {
                    *live.entry(before.segment).or_default() -= u64::from(before.bytes);
                }
            }
        }
    }

    fn take_message(&mut self, desk: &mut Desk, live: &mut Live, found: &Found<'_>) {
        let Record::Message { offset, at_ms, seq, from, body, .. } = found.record else { return };
        let place = self.find(found.name).unwrap_or_else(|| self.insert(desk, found.name, found.epoch));
        let topic = &mut self.topics[place];
        // It was in memory by configuration then, or is now: what is on disk is kept all the same.
        topic.level = Level::Durable;
        topic.last_segment = found.at.segment;
        let is_new = topic.index.first().is_none();
        if topic.epoch == found.epoch && !is_new && offset <= topic.history.head() {
            // It was written again before the segment that had it was removed.
            return;
        }
        if topic.epoch != found.epoch || is_new || offset > topic.history.head() + 1 {
            // The history begins here; if there was one, a piece between is missing.
            for gone in std::mem::take(&mut topic.index).clear() {
                *live.entry(gone.segment).or_default() -= u64::from(gone.bytes);
            }
            self.history_bytes -= topic.history.body_bytes();
            (topic.epoch, topic.history) = (found.epoch, History::resumed(offset));
            (topic.index, topic.seen) = (Index::default(), Seen::new(desk.hasher.clone()));
        }
        let (At { segment, block, blocks }, bytes) = (found.at, found.bytes);
        topic.index.add(Place { first: offset, newest_ms: at_ms, segment, block, blocks, bytes });
        topic.newest_ms = at_ms;
        *live.entry(segment).or_default() += u64::from(bytes);
        let user = desk.names.intern(from);
        let seq = seq.map(|(device, seq)| (desk.names.intern(device), seq));
        if let Some((device, seq)) = seq.as_ref().filter(|_| !Mutant::NoCounters.is_in()) {
            topic.seen.add(&user, device, *seq, offset, topic.first());
        }
        if self.remember(desk, place, at_ms, user, seq, body).is_none() {
            self.forget_ring(place);
            self.topics[place].history.skip();
        }
    }
}
