//! The history of one topic: the newest records with dense offsets, their bodies in one ring of bytes that is reused.

use std::collections::VecDeque;

use crate::{limit::Limits, name::Name, record::Record};

/// The smallest ring that is allocated: a few short messages.
const RING_BYTES_MIN: usize = 1024;

/// The newest records of a topic.
#[derive(Debug)]
pub(crate) struct History {
    records: VecDeque<Entry>,
    first: u64,
    ring: Vec<u8>,
    tail: usize,
}

#[derive(Debug)]
struct Entry {
    at_ms: u64,
    start: usize,
    len: u32,
    user: Name,
    /// The device and its counter, if it counts.
    seq: Option<(Name, u64)>,
}

impl History {
    pub(crate) fn new() -> Self {
        Self { records: VecDeque::new(), first: 1, ring: Vec::new(), tail: 0 }
    }

    /// A history that goes on with the offset `first`, and has room for bodies of `ring_bytes` together.
    pub(crate) fn resumed(first: u64, ring_bytes: usize) -> Self {
        Self { first, ring: vec![0; ring_bytes], ..Self::new() }
    }

    /// The oldest offset that is held, or the next one to come.
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    /// The newest offset; 0: none yet.
    pub(crate) fn head(&self) -> u64 {
        self.first + self.records.len() as u64 - 1
    }

    /// The next message is not held: it is too long.
    pub(crate) fn skip(&mut self) {
        assert!(self.records.is_empty(), "only an empty history may skip");
        self.first += 1;
    }

    /// Bytes allocated for bodies.
    pub(crate) fn ring_bytes(&self) -> usize {
        self.ring.len()
    }

    /// Appends a record and gives its offset, or `None` when its body does not fit `ring_bytes_max`. Older records
    /// make room.
    pub(crate) fn push(
        &mut self,
        limits: &Limits,
        ring_bytes_max: usize,
        at_ms: u64,
        user: Name,
        seq: Option<(Name, u64)>,
        body: &[u8],
    ) -> Option<u64> {
        if body.len() > ring_bytes_max {
            return None;
        }
        if self.records.len() >= limits.history_records_max {
            self.trim();
        }
        let start = self.make_room(body.len(), ring_bytes_max);
        self.ring[start..start + body.len()].copy_from_slice(body);
        self.tail = start + room_bytes(body.len());
        let offset = self.head() + 1;
        let at_ms = self.records.back().map_or(at_ms, |last| last.at_ms.max(at_ms));
        let len = u32::try_from(body.len()).expect("bodies fit a frame");
        self.records.push_back(Entry { at_ms, start, len, user, seq });
        Some(offset)
    }

    /// The record at `offset`, if it is held.
    pub(crate) fn get(&self, offset: u64) -> Option<Record<'_>> {
        let place = usize::try_from(offset.checked_sub(self.first)?).ok()?;
        self.records.get(place).map(|entry| Record {
            offset,
            at_ms: entry.at_ms,
            from: &entry.user.text,
            body: &self.ring[entry.start..entry.start + entry.len as usize],
        })
    }

    /// The device and its counter under which the record at `offset` was published, if it counts.
    pub(crate) fn seq(&self, offset: u64) -> Option<(&str, u64)> {
        let place = usize::try_from(offset.checked_sub(self.first)?).ok()?;
        let (device, seq) = self.records.get(place)?.seq.as_ref()?;
        Some((&device.text, *seq))
    }

    fn trim(&mut self) {
        if self.records.pop_front().is_some() {
            self.first += 1;
        }
    }

    /// Where a body of this length goes. The ring grows while it may, then the oldest records go.
    fn make_room(&mut self, len: usize, ring_bytes_max: usize) -> usize {
        let len = room_bytes(len);
        loop {
            if let Some(start) = self.room(len) {
                return start;
            }
            let grown =
                (self.ring.len() * 2).max(len.next_power_of_two()).max(RING_BYTES_MIN).min(ring_bytes_max.max(len));
            if grown > self.ring.len() {
                self.grow(grown);
            } else {
                self.trim();
            }
        }
    }

    fn room(&mut self, len: usize) -> Option<usize> {
        let Some(oldest) = self.records.front().map(|entry| entry.start) else {
            return (len <= self.ring.len()).then_some(0);
        };
        // A full ring and an empty one must differ: the tail never catches up with the oldest record.
        if self.tail <= oldest {
            (self.tail + len < oldest).then_some(self.tail)
        } else if self.tail + len <= self.ring.len() {
            Some(self.tail)
        } else {
            (len < oldest).then_some(0)
        }
    }

    fn grow(&mut self, bytes: usize) {
        let mut ring = vec![0; bytes];
        let mut tail = 0;
        for entry in &mut self.records {
            let len = entry.len as usize;
            ring[tail..tail + len].copy_from_slice(&self.ring[entry.start..entry.start + len]);
            entry.start = tail;
            tail += room_bytes(len);
        }
        self.ring = ring;
        self.tail = tail;
    }
}

/// Bytes set aside for a body: an empty one takes one, so that every record has a place of its own.
pub(crate) fn room_bytes(len: usize) -> usize {
    len.max(1)
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng, rngs::StdRng};

    use ahash::RandomState;

    use super::*;
    use crate::name::Names;

    fn hasher() -> RandomState {
        RandomState::with_seeds(1, 2, 3, 4)
    }

    #[test]
    fn the_ring_holds_what_a_plain_list_holds() {
        for seed in 0..50 {
            println!("seed {seed}");
            let mut rng = StdRng::seed_from_u64(seed);
            let mut names = Names::new(hasher());
            let limits = Limits { history_records_max: rng.random_range(1..40), ..Limits::default() };
            let bytes_max = rng.random_range(1..8_000);
            let mut history = History::new();
            let mut model: Vec<Vec<u8>> = Vec::new();
            for n in 0..500_u32 {
                let body = vec![n as u8; rng.random_range(0..bytes_max.min(600))];
                let device = names.intern(["a", "b"][rng.random_range(0..2)]);
                let user = names.intern("ada");
                let offset = history.push(
                    &limits,
                    bytes_max,
                    u64::from(n),
                    user.clone(),
                    Some((device.clone(), u64::from(n))),
                    &body,
                );
                model.push(body);
                assert_eq!(offset, Some(model.len() as u64));
                assert_eq!(history.head(), model.len() as u64);
                assert!(history.ring_bytes() <= bytes_max.max(1));
                for offset in history.first()..=history.head() {
                    let record = history.get(offset).expect("held");
                    assert_eq!(record.body, model[offset as usize - 1]);
                }
                assert!(history.get(history.first() - 1).is_none());
            }
        }
    }

    #[test]
    fn all_records_fit_while_the_ring_may_grow() {
        let mut names = Names::new(hasher());
        let mut history = History::new();
        let limits = Limits::default();
        for _ in 0..2_000 {
            history.push(&limits, limits.history_bytes_max, 0, names.intern("ada"), None, &[7; 128]);
        }
        assert_eq!(history.head() - history.first() + 1, limits.history_records_max as u64);
        assert!(history.ring_bytes() <= 256 * 1024, "{}", history.ring_bytes());
        assert!(history.push(&limits, 100, 0, names.intern("ada"), None, &[7; 128]).is_none());
    }
}
