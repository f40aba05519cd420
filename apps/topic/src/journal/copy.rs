//! A journal written anew in one piece: what was found in others goes to whoever is its home now.

use std::{collections::HashMap, sync::Arc};

use super::{
    batch::BATCH_BYTES,
    format::{BLOCK_BYTES, HEAD_BYTES, Header, Record, seal},
    recovery::Found,
};

/// Writes the segments of one shard.
#[derive(Debug)]
pub struct Copyist {
    header: Header,
    segment_bytes: usize,
    segment: Vec<u8>,
    batch: Vec<u8>,
    count: u32,
    names: HashMap<Arc<str>, (u16, u64)>,
    names_count: u16,
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
            names_count: 0,
        }
    }

    /// Adds what was found in another journal; gives the number and the bytes of a segment that is full.
    pub fn add(&mut self, found: &Found<'_>) -> Option<(u64, Vec<u8>)> {
        let mut record = found.record;
        match &mut record {
            Record::Name { .. } => return None,
            Record::Message { name, .. } | Record::Fact { name, .. } => *name = self.name(found.name, found.epoch),
        }
        record.write(&mut self.batch);
        self.count += 1;
        if self.batch.len() < BATCH_BYTES && self.names_count < u16::MAX / 2 {
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
        let number = self.names_count;
        Record::Name { epoch, name }.write(&mut self.batch);
        self.count += 1;
        self.names_count += 1;
        self.names.insert(name.into(), (number, epoch));
        number
    }

    fn close_batch(&mut self) {
        if self.count == 0 {
            return;
        }
        let place = self.segment.len().max(BLOCK_BYTES) as u64;
        if self.segment.is_empty() {
            self.segment.resize(BLOCK_BYTES, 0);
        }
        let mut batch = std::mem::replace(&mut self.batch, vec![0; HEAD_BYTES]);
        seal(&mut batch, self.count, self.header.seed(place));
        self.segment.extend_from_slice(&batch);
        (self.count, self.names_count) = (0, 0);
        self.names.clear();
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
