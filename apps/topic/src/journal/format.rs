//! The bytes of a journal: a segment's header, a batch's head, and records.

use crate::mutant::Mutant;

/// What a segment is made of: the largest sector that disks have, so that no write touches what another one wrote.
pub const BLOCK_BYTES: usize = 4096;

/// Bytes before the records of a batch.
pub(crate) const HEAD_BYTES: usize = 20;
/// The same of version 1.
const OLD_HEAD_BYTES: usize = 16;

const SEGMENT_MAGIC: [u8; 8] = *b"ringjrnl";
const BATCH_MAGIC: [u8; 4] = *b"bAt2";
const OLD_BATCH_MAGIC: [u8; 4] = *b"bAtC";
const VERSION: u32 = 2;
/// Version 1 has batches that say nothing of those before.
const OLDEST_VERSION: u32 = 1;
const HEADER_BYTES: usize = 52;

/// Stands for the length of a device's name when the publication has no counter.
const NO_DEVICE: u16 = u16::MAX;
/// Stands for the length of a value when the fact was taken back.
const NO_VALUE: u32 = u32::MAX;

const NAME: u8 = 1;
const MESSAGE: u8 = 2;
const FACT: u8 = 3;

/// The head of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// Whose segment it is.
    pub shard: u16,
    /// A random number that all segments of one journal have in common: nobody can guess what a batch begins with.
    pub origin: u64,
    /// The segment's number, without holes.
    pub number: u64,
    /// How many bytes of the segment before it count; 0: there was none.
    pub previous: u64,
    /// How many bytes of this segment count, if it was written in one piece; else 0.
    pub own: u64,
}

/// One thing in a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Record<'a> {
    /// Gives the next number of this batch to a name.
    Name {
        /// The identity of a topic's history; 0 for anything else.
        epoch: u64,
        /// The name.
        name: &'a str,
    },
    /// A message of a topic.
    Message {
        /// The topic's number in this batch.
        name: u16,
        /// Its place in the topic.
        offset: u64,
        /// When its home took it, milliseconds since 1970.
        at_ms: u64,
        /// The device and its counter, if it counts.
        seq: Option<(&'a str, u64)>,
        /// The user who published it.
        from: &'a str,
        /// The body.
        body: &'a [u8],
    },
    /// A fact about something.
    Fact {
        /// The number in this batch of what it is about.
        name: u16,
        /// Which fact.
        key: &'a str,
        /// What is true now; `None`: nothing any more.
        value: Option<&'a [u8]>,
    },
}

impl Header {
    /// The block that a segment begins with.
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        let mut block = Vec::with_capacity(BLOCK_BYTES);
        block.extend_from_slice(&SEGMENT_MAGIC);
        block.extend_from_slice(&VERSION.to_le_bytes());
        block.extend_from_slice(&u32::from(self.shard).to_le_bytes());
        for number in [self.origin, self.number, self.previous, self.own] {
            block.extend_from_slice(&number.to_le_bytes());
        }
        let crc = crc32c::crc32c(&block);
        block.extend_from_slice(&crc.to_le_bytes());
        assert_eq!(block.len(), HEADER_BYTES, "the header is drawn so");
        block.resize(BLOCK_BYTES, 0);
        block
    }

    /// Reads the head of a segment, or says what is wrong with it.
    ///
    /// # Errors
    /// It is something else, of another version, or damaged.
    pub fn read(bytes: &[u8]) -> Result<Self, &'static str> {
        let mut rest = bytes.get(..HEADER_BYTES).ok_or("it is too short for a header")?;
        let crc = crc32c::crc32c(&rest[..HEADER_BYTES - 4]);
        let mut read = || {
            let (magic, version, shard) = (take(&mut rest)?, take(&mut rest)?, take(&mut rest)?);
            let numbers = [take(&mut rest)?, take(&mut rest)?, take(&mut rest)?, take(&mut rest)?];
            Some((magic, u32::from_le_bytes(version), u32::from_le_bytes(shard), numbers, take(&mut rest)?))
        };
        let Some((magic, version, shard, numbers, said)) = read() else { return Err("it is too short for a header") };
        let [origin, number, previous, own] = numbers.map(u64::from_le_bytes);
        if magic != SEGMENT_MAGIC {
            return Err("it is not a segment of a journal");
        }
        if u32::from_le_bytes(said) != crc {
            return Err("its header is damaged");
        }
        if !(OLDEST_VERSION..=VERSION).contains(&version) {
            return Err("its version is not known here");
        }
        let shard = u16::try_from(shard).map_err(|_| "its header is impossible")?;
        Ok(Self { shard, origin, number, previous, own })
    }

    /// Where the checksums of this segment's batches begin.
    pub(crate) fn seed(&self, place: u64) -> u32 {
        let mut seed = [0; 24];
        seed[..8].copy_from_slice(&self.origin.to_le_bytes());
        seed[8..16].copy_from_slice(&self.number.to_le_bytes());
        seed[16..].copy_from_slice(&place.to_le_bytes());
        crc32c::crc32c(&seed)
    }
}

/// Fills in the head of a batch whose records stand behind it, and pads it to whole blocks.
pub(crate) fn seal(batch: &mut Vec<u8>, count: u32, unsettled: u32, seed: u32) {
    let bytes = u32::try_from(batch.len() - HEAD_BYTES).expect("a batch is small");
    batch[..4].copy_from_slice(&BATCH_MAGIC);
    for (at, number) in [(4, bytes), (8, count), (12, unsettled)] {
        batch[at..at + 4].copy_from_slice(&number.to_le_bytes());
    }
    let crc = checksum(seed, &batch[..HEAD_BYTES - 4], &batch[HEAD_BYTES..]);
    batch[HEAD_BYTES - 4..HEAD_BYTES].copy_from_slice(&crc.to_le_bytes());
    batch.resize(batch.len().next_multiple_of(BLOCK_BYTES), 0);
}

/// A batch as it was read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Whole<'a> {
    pub(crate) records: &'a [u8],
    pub(crate) count: u32,
    /// How many blocks before it were not on disk for sure when it was written.
    pub(crate) unsettled: u32,
    /// Bytes that it takes on disk.
    pub(crate) span: usize,
}

/// The batch at the beginning of these bytes.
pub(crate) fn open(bytes: &[u8], seed: u32) -> Result<Whole<'_>, &'static str> {
    const ENDS: &str = "the file ends there";
    let magic: &[u8; 4] = bytes.first_chunk().ok_or(ENDS)?;
    let head_bytes = match *magic {
        BATCH_MAGIC => HEAD_BYTES,
        OLD_BATCH_MAGIC => OLD_HEAD_BYTES,
        [0, 0, 0, 0] => return Err("nothing was written there"),
        _ => return Err("it is no batch"),
    };
    let (head, rest) = bytes.split_at_checked(head_bytes).ok_or(ENDS)?;
    let (fields, mut said) = head.split_at(head_bytes - 4);
    let mut after = &fields[4..];
    let mut next = || take(&mut after).map(u32::from_le_bytes);
    let (Some(length), Some(count), unsettled) = (next(), next(), next().unwrap_or(0)) else { return Err(ENDS) };
    let records =
        usize::try_from(length).ok().and_then(|length| rest.get(..length)).ok_or("its length is impossible")?;
    if take(&mut said).map(u32::from_le_bytes) != Some(checksum(seed, fields, records)) && !Mutant::NoCrc.is_in() {
        return Err("its checksum does not match");
    }
    Ok(Whole { records, count, unsettled, span: (head_bytes + records.len()).next_multiple_of(BLOCK_BYTES) })
}

fn checksum(seed: u32, fields: &[u8], records: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c_append(seed, fields), records)
}

/// Bytes that a batch takes on disk whose records have so many.
pub(crate) fn span(records: usize) -> usize {
    (HEAD_BYTES + records).next_multiple_of(BLOCK_BYTES)
}

impl<'a> Record<'a> {
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Record::Name { epoch, name } => {
                out.push(NAME);
                out.extend_from_slice(&epoch.to_le_bytes());
                out.extend_from_slice(&short(name.len()).to_le_bytes());
                out.extend_from_slice(name.as_bytes());
            }
            Record::Message { name, offset, at_ms, seq, from, body } => {
                out.push(MESSAGE);
                out.extend_from_slice(&name.to_le_bytes());
                let (device, counter) = seq.unwrap_or(("", 0));
                for number in [offset, at_ms, &counter] {
                    out.extend_from_slice(&number.to_le_bytes());
                }
                out.extend_from_slice(&short(from.len()).to_le_bytes());
                let device_len = if seq.is_some() { short(device.len()) } else { NO_DEVICE };
                out.extend_from_slice(&device_len.to_le_bytes());
                out.extend_from_slice(&long(body.len()).to_le_bytes());
                out.extend_from_slice(from.as_bytes());
                out.extend_from_slice(device.as_bytes());
                out.extend_from_slice(body);
            }
            Record::Fact { name, key, value } => {
                out.push(FACT);
                out.extend_from_slice(&name.to_le_bytes());
                out.extend_from_slice(&short(key.len()).to_le_bytes());
                out.extend_from_slice(&value.map_or(NO_VALUE, |value| long(value.len())).to_le_bytes());
                out.extend_from_slice(key.as_bytes());
                out.extend_from_slice(value.unwrap_or_default());
            }
        }
    }

    /// Reads the next record; `None`: there is none, or it is none.
    pub(crate) fn read(rest: &mut &'a [u8]) -> Option<Self> {
        let [kind] = take(rest)?;
        match kind {
            NAME => {
                let (epoch, len) = (u64::from_le_bytes(take(rest)?), u16::from_le_bytes(take(rest)?));
                Some(Record::Name { epoch, name: text(rest, usize::from(len))? })
            }
            MESSAGE => Self::read_message(rest),
            FACT => {
                let (name, key_len) = (u16::from_le_bytes(take(rest)?), u16::from_le_bytes(take(rest)?));
                let value_len = u32::from_le_bytes(take(rest)?);
                let key = text(rest, usize::from(key_len))?;
                let value =
                    if value_len == NO_VALUE { None } else { Some(cut(rest, usize::try_from(value_len).ok()?)?) };
                Some(Record::Fact { name, key, value })
            }
            _ => None,
        }
    }

    fn read_message(rest: &mut &'a [u8]) -> Option<Self> {
        let name = u16::from_le_bytes(take(rest)?);
        let [offset, at_ms, counter] = [take(rest)?, take(rest)?, take(rest)?].map(u64::from_le_bytes);
        let (from_len, device_len) = (u16::from_le_bytes(take(rest)?), u16::from_le_bytes(take(rest)?));
        let body_len = usize::try_from(u32::from_le_bytes(take(rest)?)).ok()?;
        let from = text(rest, usize::from(from_len))?;
        let seq = if device_len == NO_DEVICE { None } else { Some((text(rest, usize::from(device_len))?, counter)) };
        Some(Record::Message { name, offset, at_ms, seq, from, body: cut(rest, body_len)? })
    }
}

fn short(len: usize) -> u16 {
    u16::try_from(len).expect("names are short")
}

fn long(len: usize) -> u32 {
    u32::try_from(len).expect("bodies fit a frame")
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (first, after) = rest.split_first_chunk::<N>()?;
    *rest = after;
    Some(*first)
}

fn cut<'a>(rest: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (first, after) = rest.split_at_checked(len)?;
    *rest = after;
    Some(first)
}

fn text<'a>(rest: &mut &'a [u8], len: usize) -> Option<&'a str> {
    str::from_utf8(cut(rest, len)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: Header = Header { shard: 3, origin: 2, number: 77, previous: 8192, own: 0 };

    fn records() -> [Record<'static>; 6] {
        [
            Record::Name { epoch: 9, name: "chat/lobby" },
            Record::Message { name: 0, offset: 1, at_ms: 5, seq: Some(("phone", 7)), from: "ada", body: b"{}" },
            Record::Message { name: 0, offset: 2, at_ms: 6, seq: None, from: "bob", body: b"" },
            Record::Name { epoch: 0, name: "user/ada" },
            Record::Fact { name: 1, key: "c/chat/lobby", value: Some(b"1") },
            Record::Fact { name: 1, key: "gone", value: None },
        ]
    }

    fn batch() -> Vec<u8> {
        let mut batch = vec![0; HEAD_BYTES];
        records().iter().for_each(|record| record.write(&mut batch));
        seal(&mut batch, 6, 3, HEADER.seed(4096));
        batch
    }

    #[test]
    fn a_header_comes_out_as_it_went_in_and_no_bit_may_change() {
        let block = HEADER.write();
        assert_eq!(block.len(), BLOCK_BYTES);
        assert_eq!(Header::read(&block), Ok(HEADER));
        for bit in 0..HEADER_BYTES * 8 {
            let mut bad = block.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Header::read(&bad).is_err(), "bit {bit}");
        }
        for len in 0..HEADER_BYTES {
            assert!(Header::read(&block[..len]).is_err());
        }
    }

    #[test]
    fn a_batch_comes_out_as_it_went_in() {
        let batch = batch();
        assert_eq!(batch.len(), BLOCK_BYTES);
        let whole = open(&batch, HEADER.seed(4096)).expect("whole");
        assert_eq!((whole.count, whole.unsettled, whole.span), (6, 3, BLOCK_BYTES));
        let mut rest = whole.records;
        for record in records() {
            assert_eq!(Record::read(&mut rest), Some(record));
        }
        assert!(rest.is_empty());
    }

    #[test]
    fn no_bit_of_a_batch_may_change_and_it_is_one_only_in_its_place() {
        let whole = batch();
        let records = open(&whole, HEADER.seed(4096)).expect("whole").records.len();
        for bit in 0..(HEAD_BYTES + records) * 8 {
            let mut bad = whole.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(open(&bad, HEADER.seed(4096)).is_err(), "bit {bit}");
        }
        assert!(open(&whole, HEADER.seed(8192)).is_err());
        for other in [Header { number: 78, ..HEADER }, Header { origin: 3, ..HEADER }] {
            assert!(open(&whole, other.seed(4096)).is_err());
        }
        assert_eq!(open(&[0; BLOCK_BYTES], HEADER.seed(0)), Err("nothing was written there"));
    }

    #[test]
    fn what_version_1_wrote_is_read() {
        let mut batch = vec![0; OLD_HEAD_BYTES];
        records().iter().for_each(|record| record.write(&mut batch));
        let length = (batch.len() - OLD_HEAD_BYTES) as u32;
        batch[..4].copy_from_slice(&OLD_BATCH_MAGIC);
        batch[4..8].copy_from_slice(&length.to_le_bytes());
        batch[8..12].copy_from_slice(&6_u32.to_le_bytes());
        let crc = checksum(HEADER.seed(4096), &batch[..12], &batch[OLD_HEAD_BYTES..]);
        batch[12..OLD_HEAD_BYTES].copy_from_slice(&crc.to_le_bytes());
        let whole = open(&batch, HEADER.seed(4096)).expect("whole");
        assert_eq!((whole.count, whole.unsettled, whole.span), (6, 0, BLOCK_BYTES));
        let mut block = HEADER.write();
        block[8] = 1;
        let crc = crc32c::crc32c(&block[..HEADER_BYTES - 4]);
        block[HEADER_BYTES - 4..HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(Header::read(&block), Ok(HEADER));
    }

    #[test]
    fn cut_records_are_none() {
        for record in records() {
            let mut bytes = Vec::new();
            record.write(&mut bytes);
            for len in 0..bytes.len() {
                assert_eq!(Record::read(&mut &bytes[..len]), None, "{record:?} {len}");
            }
        }
    }
}
