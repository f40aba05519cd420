//! A batch that is being filled, and who waits for it to be on disk.

use std::{collections::HashMap, sync::Arc};

use ahash::RandomState;
use bytes::Bytes;
use handler::{Peer, ShardId};

use super::{
    Place,
    format::{HEAD_BYTES, Record, seal, span},
};
use crate::{facts::Fact, mail::Parcel, name::Name};

/// A batch that is longer is closed: long enough that a disk works at its full speed, short enough to be read at once.
pub(crate) const BATCH_BYTES: usize = 128 * 1024;

/// Names in one batch, so that their numbers fit.
const NAMES_MAX: usize = 1 << 15;

/// What is done when a batch is on disk, in order, or taken back when it cannot be.
#[derive(Debug)]
pub(crate) enum Waiting {
    /// A message gets its place.
    Message(Box<Message>),
    /// A message of an earlier run that was in memory: the topic's place in its home, and where it will lie but for the
    /// batch.
    Moved { place: usize, message: Place },
    /// Somebody repeated a publication that waits too. Texts: topic, user, device.
    Repeat { to: ShardId, peer: Peer, id: u32, offset: u64, parcel: Parcel },
    /// Facts that are true already.
    Facts { token: u64, changes: Vec<(Arc<str>, Option<Fact>)> },
}

/// A message on its way to disk.
#[derive(Debug)]
pub(crate) struct Message {
    /// The topic's place in its home.
    pub(crate) place: usize,
    pub(crate) offset: u64,
    pub(crate) at_ms: u64,
    pub(crate) user: Name,
    pub(crate) seq: Option<(Name, u64)>,
    /// Bytes of its record.
    pub(crate) bytes: u32,
    /// Who published it.
    pub(crate) to: ShardId,
    pub(crate) peer: Peer,
    pub(crate) id: u32,
    /// As it came: topic, user, device and body.
    pub(crate) parcel: Parcel,
}

/// Records for one write.
#[derive(Debug)]
pub(crate) struct Batch {
    bytes: Vec<u8>,
    count: u32,
    names: HashMap<Arc<str>, (u16, u64), RandomState>,
    names_count: usize,
    pub(crate) waiting: Vec<Waiting>,
}

impl Batch {
    pub(crate) fn new(hasher: RandomState) -> Self {
        let names = HashMap::with_hasher(hasher);
        Self { bytes: vec![0; HEAD_BYTES], count: 0, names, names_count: 0, waiting: Vec::new() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(crate) fn is_full(&self) -> bool {
        self.bytes.len() >= BATCH_BYTES || self.names_count >= NAMES_MAX
    }

    /// Bytes of its records.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - HEAD_BYTES
    }

    /// Bytes that it takes on disk.
    pub(crate) fn span(&self) -> usize {
        span(self.len())
    }

    /// The number of a name in this batch.
    pub(crate) fn name(&mut self, name: &Arc<str>, epoch: u64) -> u16 {
        if let Some((number, known)) = self.names.get(name)
            && (*known == epoch || epoch == 0)
        {
            return *number;
        }
        let number = u16::try_from(self.names_count).expect("a batch with more names is full");
        self.names_count += 1;
        self.names.insert(name.clone(), (number, epoch));
        self.add(&Record::Name { epoch, name });
        number
    }

    /// Adds a record; gives the bytes that it takes.
    pub(crate) fn add(&mut self, record: &Record<'_>) -> u32 {
        let before = self.bytes.len();
        record.write(&mut self.bytes);
        self.count += 1;
        u32::try_from(self.bytes.len() - before).expect("a record is small")
    }

    /// The bytes to be written at the place that the seed stands for, with so many blocks before that may not be on disk.
    pub(crate) fn seal(&mut self, unsettled: u32, seed: u32) -> Bytes {
        let mut bytes = std::mem::take(&mut self.bytes);
        seal(&mut bytes, self.count, unsettled, seed);
        bytes.into()
    }
}
