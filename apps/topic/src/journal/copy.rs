//! Records written anew: what was found in other journals for whoever is its home now, or what is needed of a segment.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::{
    batch::BATCH_BYTES,
    format::{BLOCK_BYTES, HEAD_BYTES, Header, Record, seal},
    place::Place,
    recovery::Found,
};

/// Names in one batch, so that their numbers fit.
const NAMES_MAX: usize = 1 << 15;

/// Writes the segments of one shard.
#[derive(Debug)]
pub struct Copyist {
    header: Header,
    segment_bytes: usize,
    segment: Vec<u8>,
    batch: Vec<u8>,
    count: u32,
    names: HashMap<Arc<str>, (u16, u64)>,
    /// The names of this batch and their epochs, by number.
    numbers: Vec<(Arc<str>, u64)>,
    /// Bytes of the segment that were taken away by [`Copyist::take_piece`].
    taken: usize,
    /// Messages of the batch that is being filled, and where those before lie.
    messages: Vec<(u16, Place)>,
    places: BTreeMap<(Arc<str>, u64), Vec<Place>>,
}

impl Copyist {
    /// A new journal of a shard.
    #[must_use]
    pub fn new(shard: u16, origin: u64, segment_bytes: u64) -> Self {
        Self {
            header: Header { shard, origin, number: 1, previous: 0, own: 0 },
            segment_bytes: usize::try_from(segment_bytes).unwrap_or(usize::MAX),
            segment: Vec::new(),
            batch: vec![0; HEAD_BYTES],
            count: 0,
            names: HashMap::new(),
            numbers: Vec::new(),
            taken: 0,
            messages: Vec::new(),
            places: BTreeMap::new(),
        }
    }

    /// The same segment once more, however long it gets; it is taken in pieces.
    pub(crate) fn again(header: Header) -> Self {
        Self { header, segment_bytes: usize::MAX, taken: BLOCK_BYTES, ..Self::new(header.shard, header.origin, 0) }
    }

    /// What is there of the segment that was not taken yet.
    pub(crate) fn take_piece(&mut self) -> Vec<u8> {
        self.taken += self.segment.len();
        std::mem::take(&mut self.segment)
    }

    /// Nothing more comes.
    pub(crate) fn finish_batch(&mut self) {
        self.close_batch();
    }

    /// Name and epoch of every topic, and where its messages lie.
    pub(crate) fn into_places(self) -> impl Iterator<Item = (Arc<str>, u64, Vec<Place>)> {
        self.places.into_iter().map(|((name, epoch), places)| (name, epoch, places))
    }

    /// Adds what was found in another journal; gives the number and the bytes of a segment that is full.
    pub fn add(&mut self, found: &Found<'_>) -> Option<(u64, Vec<u8>)> {
        let mut record = found.record;
        match &mut record {
            Record::Name { .. } => return None,
            Record::Message { name, .. } | Record::Fact { name, .. } => *name = self.name(found.name, found.epoch),
        }
        let before = self.batch.len();
        record.write(&mut self.batch);
        self.count += 1;
        if let Record::Message { name, offset, at_ms, .. } = record {
            let bytes = u32::try_from(self.batch.len() - before).unwrap_or(u32::MAX);
            let place =
                Place { first: offset, newest_ms: at_ms, segment: self.header.number, block: 0, blocks: 0, bytes };
            self.messages.push((name, place));
        }
        if self.batch.len() < BATCH_BYTES && self.numbers.len() < NAMES_MAX {
            return None;
        }
        self.close_batch();
        (self.segment.len() >= self.segment_bytes).then(|| self.close_segment())
    }

    /// The last segment, if there is anything in it.
    #[must_use]
    pub fn finish(mut self) -> Option<(u64, Vec<u8>)> {
        self.close_batch();
        (!self.segment.is_empty()).then(|| self.close_segment())
    }

    fn name(&mut self, name: &str, epoch: u64) -> u16 {
        if let Some((number, known)) = self.names.get(name)
            && *known == epoch
        {
            return *number;
        }
        let number = u16::try_from(self.numbers.len()).expect("a batch with more names is closed");
        Record::Name { epoch, name }.write(&mut self.batch);
        self.count += 1;
        let name: Arc<str> = name.into();
        self.numbers.push((name.clone(), epoch));
        self.names.insert(name, (number, epoch));
        number
    }

    fn close_batch(&mut self) {
        if self.count == 0 {
            return;
        }
        if self.segment.is_empty() && self.taken == 0 {
            self.segment.resize(BLOCK_BYTES, 0);
        }
        let place = (self.taken + self.segment.len()) as u64;
        let mut batch = std::mem::replace(&mut self.batch, vec![0; HEAD_BYTES]);
        seal(&mut batch, self.count, 0, self.header.seed(place));
        self.segment.extend_from_slice(&batch);
        self.place_messages(place, batch.len());
        self.count = 0;
        self.names.clear();
        self.numbers.clear();
    }

    fn place_messages(&mut self, at: u64, span: usize) {
        // Only whoever writes a segment in its place needs to know.
        let messages = std::mem::take(&mut self.messages);
        if self.taken == 0 {
            return;
        }
        let blocks = |bytes: u64| u32::try_from(bytes / BLOCK_BYTES as u64).unwrap_or(u32::MAX);
        for (number, message) in messages {
            let Some(name) = self.numbers.get(usize::from(number)) else { continue };
            let place = Place { block: blocks(at), blocks: blocks(span as u64), ..message };
            let places = self.places.entry(name.clone()).or_default();
            match places.last_mut() {
                Some(last) if last.block == place.block => {
                    last.bytes += place.bytes;
                    last.newest_ms = place.newest_ms;
                }
                _ => places.push(place),
            }
        }
    }

    fn close_segment(&mut self) -> (u64, Vec<u8>) {
        let mut segment = std::mem::take(&mut self.segment);
        let header = Header { own: segment.len() as u64, ..self.header };
        segment[..BLOCK_BYTES].copy_from_slice(&header.write());
        self.header.number += 1;
        self.header.previous = segment.len() as u64;
        (header.number, segment)
    }
}
