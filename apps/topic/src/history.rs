//! The history of one topic: the newest records with dense offsets, their bodies in chunks that are used again.

use std::collections::VecDeque;

use crate::{chain::Chain, limit::Limits, name::Name, record::Record};

/// The smallest chunk that is allocated: a few short messages.
const CHUNK_BYTES_MIN: usize = 1024;

/// Chunks double up to this size. One costs the kernel eight pages: a thousand histories that grow in the same moment
/// hold up their shard for a few milliseconds, and not for the time in which all they hold is copied.
const CHUNK_BYTES_MAX: usize = 32 * 1024;

/// A longer body has a chunk of its own size: of a chunk at most a third stays empty because the next body is too long.
const SHARED_BODY_BYTES_MAX: usize = CHUNK_BYTES_MAX / 3;

/// A chunk is at most this part of what a history may have, so that few records go at once when it is full.
const CHUNKS_MIN: usize = 8;

/// The newest records of a topic.
#[derive(Debug)]
pub(crate) struct History {
    records: Chain<Entry>,
    first: u64,
    /// Bodies in the order of their records. None but the last is empty.
    chunks: VecDeque<Chunk>,
    /// The number of the first of them.
    first_chunk: u64,
    /// An empty one that waits for its next use.
    spare: Option<Vec<u8>>,
    /// Bytes allocated for bodies, the spare chunk's too.
    bytes: usize,
}

#[derive(Debug)]
struct Chunk {
    /// Never longer than what was allocated for it: bodies do not move.
    bytes: Vec<u8>,
    /// Records whose bodies are in it.
    records: usize,
}

#[derive(Debug)]
struct Entry {
    at_ms: u64,
    chunk: u64,
    start: u32,
    len: u32,
    user: Name,
    /// The device and its counter, if it counts.
    seq: Option<(Name, u64)>,
}

impl History {
    pub(crate) fn new() -> Self {
        Self::resumed(1)
    }

    /// A history that goes on with the offset `first`.
    pub(crate) fn resumed(first: u64) -> Self {
        let (records, chunks) = (Chain::default(), VecDeque::new());
        Self { records, first, chunks, first_chunk: 0, spare: None, bytes: 0 }
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

    /// Records before `first` go.
    pub(crate) fn trim_to(&mut self, first: u64) {
        while self.first < first && !self.records.is_empty() {
            self.trim();
        }
    }

    /// Bytes allocated for bodies.
    pub(crate) fn body_bytes(&self) -> usize {
        self.bytes
    }

    /// Appends a record and gives its offset, or `None` when its body does not fit `bytes_max`. Older records make room.
    pub(crate) fn push(
        &mut self,
        limits: &Limits,
        bytes_max: usize,
        at_ms: u64,
        user: Name,
        seq: Option<(Name, u64)>,
        body: &[u8],
    ) -> Option<u64> {
        if body.len() > bytes_max {
            return None;
        }
        if self.records.len() >= limits.history_records_max {
            self.trim();
        }
        self.make_room(body.len(), bytes_max);
        Some(self.append(at_ms, user, seq, body))
    }

    /// Appends a record of an earlier run; gives its offset. Its body takes no more bytes than it has, once
    /// [`History::fit`] was called.
    pub(crate) fn restore(&mut self, at_ms: u64, user: Name, seq: Option<(Name, u64)>, body: &[u8]) -> u64 {
        if self.chunks.back().is_none_or(|chunk| chunk.bytes.len() + body.len() > CHUNK_BYTES_MAX) {
            self.fit();
            self.chunks.push_back(Chunk { bytes: Vec::new(), records: 0 });
        }
        let before = self.last_capacity();
        let offset = self.append(at_ms, user, seq, body);
        self.bytes += self.last_capacity() - before;
        offset
    }

    /// Gives back what the last chunk has too much.
    pub(crate) fn fit(&mut self) {
        let before = self.last_capacity();
        if let Some(chunk) = self.chunks.back_mut() {
            chunk.bytes.shrink_to_fit();
        }
        self.bytes -= before - self.last_capacity();
    }

    /// The record at `offset`, if it is held.
    pub(crate) fn get(&self, offset: u64) -> Option<Record<'_>> {
        let place = usize::try_from(offset.checked_sub(self.first)?).ok()?;
        self.records.get(place).map(|entry| Record {
            offset,
            at_ms: entry.at_ms,
            from: &entry.user.text,
            body: self.body(entry),
        })
    }

    /// The device and its counter under which the record at `offset` was published, if it counts.
    pub(crate) fn seq(&self, offset: u64) -> Option<(&str, u64)> {
        let place = usize::try_from(offset.checked_sub(self.first)?).ok()?;
        let (device, seq) = self.records.get(place)?.seq.as_ref()?;
        Some((&device.text, *seq))
    }

    fn body(&self, entry: &Entry) -> &[u8] {
        let start = entry.start as usize;
        let place = usize::try_from(entry.chunk - self.first_chunk).expect("fewer chunks than bytes");
        &self.chunks[place].bytes[start..start + entry.len as usize]
    }

    /// Appends to the last chunk.
    fn append(&mut self, at_ms: u64, user: Name, seq: Option<(Name, u64)>, body: &[u8]) -> u64 {
        let (offset, chunk) = (self.head() + 1, self.first_chunk + self.chunks.len() as u64 - 1);
        let at_ms = self.records.back().map_or(at_ms, |last| last.at_ms.max(at_ms));
        let last = self.chunks.back_mut().expect("room was made");
        let short = |bytes: usize| u32::try_from(bytes).expect("bodies fit a frame, and chunks a few");
        let (start, len) = (short(last.bytes.len()), short(body.len()));
        last.bytes.extend_from_slice(body);
        last.records += 1;
        self.records.push_back(Entry { at_ms, chunk, start, len, user, seq });
        offset
    }

    /// The oldest record goes, and its chunk if it was the last one in it.
    fn trim(&mut self) {
        let Some(_) = self.records.pop_front() else { return };
        self.first += 1;
        let is_last = self.chunks.len() == 1;
        let chunk = self.chunks.front_mut().expect("a record has a chunk");
        chunk.records -= 1;
        if chunk.records == 0 && is_last {
            chunk.bytes.clear();
        } else if chunk.records == 0 {
            self.free_first_chunk();
        }
    }

    /// An empty chunk waits for its next use. Of two the larger one does: more fits it.
    fn free_first_chunk(&mut self) {
        let Some(Chunk { mut bytes, .. }) = self.chunks.pop_front() else { return };
        self.first_chunk += 1;
        bytes.clear();
        if let Some(spare) = &mut self.spare {
            if spare.capacity() < bytes.capacity() {
                std::mem::swap(spare, &mut bytes);
            }
            self.bytes -= bytes.capacity();
        } else {
            self.spare = Some(bytes);
        }
    }

    /// Makes the last chunk one that has room for a body. Chunks are added while they may be, then the oldest records go.
    fn make_room(&mut self, len: usize, bytes_max: usize) {
        while self.chunks.back().is_none_or(|chunk| chunk.bytes.capacity() - chunk.bytes.len() < len) {
            if self.records.is_empty() {
                self.free_first_chunk();
            }
            match self.new_chunk(len, bytes_max) {
                Some(bytes) => self.chunks.push_back(Chunk { bytes, records: 0 }),
                None => self.trim(),
            }
        }
    }

    /// The spare chunk if a body fits it, or a new one if there may be one.
    fn new_chunk(&mut self, len: usize, bytes_max: usize) -> Option<Vec<u8>> {
        if let Some(spare) = self.spare.take() {
            if spare.capacity() >= len {
                return Some(spare);
            }
            self.bytes -= spare.capacity();
        }
        let left = bytes_max.saturating_sub(self.bytes);
        if left < len {
            return None;
        }
        let shared = (self.last_capacity() * 2).clamp(CHUNK_BYTES_MIN, CHUNK_BYTES_MAX).min(bytes_max / CHUNKS_MIN);
        let bytes = if len > SHARED_BODY_BYTES_MAX { len } else { shared.max(len).min(left) };
        self.bytes += bytes;
        let mut chunk = Vec::new();
        chunk.reserve_exact(bytes);
        Some(chunk)
    }

    fn last_capacity(&self) -> usize {
        self.chunks.back().map_or(0, |chunk| chunk.bytes.capacity())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::{Rng, SeedableRng, rngs::StdRng};

    use ahash::RandomState;

    use super::*;
    use crate::name::Names;

    fn hasher() -> RandomState {
        RandomState::with_seeds(1, 2, 3, 4)
    }

    #[test]
    fn it_holds_what_a_plain_list_holds() {
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
                assert!(history.body_bytes() <= bytes_max);
                assert_eq!(history.body_bytes(), allocated(&history));
                let bodies: usize = model[history.first() as usize - 1..].iter().map(Vec::len).sum();
                let full = history.head() + 1 - history.first() == limits.history_records_max as u64;
                // At most half is lost at the ends of chunks, and one chunk and the body that made room.
                let lost_max = bytes_max / 2 + bytes_max / CHUNKS_MIN + 2 * 600;
                assert!(full || history.first() == 1 || bodies + lost_max >= bytes_max, "{bodies} of {bytes_max}");
                for offset in history.first()..=history.head() {
                    let record = history.get(offset).expect("held");
                    assert_eq!(record.body, model[offset as usize - 1]);
                }
                assert!(history.get(history.first() - 1).is_none());
            }
            // What retention takes.
            for _ in 0..3 {
                let first = rng.random_range(history.first()..=history.head() + 1);
                history.trim_to(first);
                assert_eq!((history.first(), history.head()), (first, model.len() as u64));
                assert_eq!(history.body_bytes(), allocated(&history));
                let held =
                    (first..=history.head()).all(|at| history.get(at).expect("held").body == model[at as usize - 1]);
                assert!(held && history.get(first - 1).is_none());
            }
        }
    }

    #[test]
    fn all_records_fit_while_there_may_be_chunks() {
        let mut names = Names::new(hasher());
        let mut history = History::new();
        let limits = Limits::default();
        for _ in 0..2_000 {
            history.push(&limits, limits.history_bytes_max, 0, names.intern("ada"), None, &[7; 128]);
        }
        assert_eq!(history.head() - history.first() + 1, limits.history_records_max as u64);
        assert!(history.body_bytes() <= 256 * 1024, "{}", history.body_bytes());
        assert_eq!(history.body_bytes(), allocated(&history));
        assert!(history.push(&limits, 100, 0, names.intern("ada"), None, &[7; 128]).is_none());
    }

    fn allocated(history: &History) -> usize {
        let chunks = history.chunks.iter().map(|chunk| chunk.bytes.capacity());
        chunks.chain(history.spare.iter().map(Vec::capacity)).sum()
    }

    #[test]
    fn what_slides_along_allocates_nothing_and_moves_nothing() {
        let mut names = Names::new(hasher());
        let mut history = History::new();
        let limits = Limits::default();
        let mut push = |history: &mut History| {
            history.push(&limits, limits.history_bytes_max, 0, names.intern("ada"), None, &[7; 128]);
        };
        (0..3_000).for_each(|_| push(&mut history));
        let blocks = |history: &History| {
            let chunks = history.chunks.iter().map(|chunk| chunk.bytes.as_ptr() as usize);
            chunks.chain(history.spare.iter().map(|bytes| bytes.as_ptr() as usize)).collect::<BTreeSet<_>>()
        };
        let before = blocks(&history);
        for _ in 0..3_000 {
            push(&mut history);
            assert!(blocks(&history).is_subset(&before));
        }
    }

    #[test]
    fn what_is_restored_takes_no_more_than_its_bodies() {
        let mut names = Names::new(hasher());
        let mut history = History::resumed(5);
        let lens = [0, 1, 20_000, 40_000, 0, 65_536, 7, 12_000, 12_000, 12_000];
        for (n, len) in lens.into_iter().enumerate() {
            assert_eq!(history.restore(0, names.intern("ada"), None, &vec![n as u8; len]), 5 + n as u64);
        }
        history.fit();
        assert_eq!((history.body_bytes(), allocated(&history)), (lens.iter().sum(), lens.iter().sum()));
        for (n, len) in lens.into_iter().enumerate() {
            assert_eq!(history.get(5 + n as u64).expect("held").body, vec![n as u8; len]);
        }
        let most = history.body_bytes();
        history.push(&Limits::default(), most, 0, names.intern("ada"), None, &[1; 10]);
        assert!(history.body_bytes() <= most && history.head() == 15 && history.first() > 5);
    }
}
