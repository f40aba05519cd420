//! One topic in a snapshot, or the facts of one name: written at its home, read back bit for bit or not at all.

use crate::{
    facts::{FACT_KEY_BYTES_MAX, FACT_VALUE_BYTES_MAX},
    limit::{BODY_BYTES_MAX, NAME_BYTES_MAX, TOPIC_BYTES_MAX},
};

/// Length and checksum.
pub(crate) const SECTION_HEAD_BYTES: usize = 8 + 4;

/// The largest offset: clients in JavaScript count exactly up to here. A topic with a million messages a second needs
/// 285 years for it.
const OFFSET_MAX: u64 = (1 << 53) - 1;

/// Stands for the length of a device's name when the publication has no counter.
const NO_DEVICE: u16 = u16::MAX;

const _: () =
    assert!(NAME_BYTES_MAX < NO_DEVICE as usize && TOPIC_BYTES_MAX <= u16::MAX as usize, "lengths are told apart");

/// A topic, and its records as bytes that are read one by one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Section<'a> {
    pub(crate) name: &'a str,
    pub(crate) epoch: u64,
    pub(crate) first: u64,
    pub(crate) head: u64,
    records: &'a [u8],
}

/// A record of a section.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Record<'a> {
    pub(crate) at_ms: u64,
    pub(crate) from: &'a str,
    /// The device and its counter, if it counts.
    pub(crate) seq: Option<(&'a str, u64)>,
    pub(crate) body: &'a [u8],
}

impl<'a> Section<'a> {
    /// A topic to be written; its records are given to [`Section::write`].
    pub(crate) fn new(name: &'a str, epoch: u64, first: u64, head: u64) -> Self {
        Self { name, epoch, first, head, records: &[] }
    }

    /// Records that it has.
    pub(crate) fn count(&self) -> u64 {
        self.head + 1 - self.first
    }

    pub(crate) fn write<'r>(&self, records: impl Iterator<Item = Record<'r>>, out: &mut Vec<u8>) {
        let at = begin(out);
        for number in [self.epoch, self.first, self.head] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&short(self.name.len()).to_le_bytes());
        out.extend_from_slice(self.name.as_bytes());
        let mut count = 0;
        for record in records {
            record.write(out);
            count += 1;
        }
        assert_eq!(count, self.count(), "a section has the records that it says");
        end(at, out);
    }

    /// Reads a topic; its records are not looked at.
    pub(crate) fn read(mut bytes: &'a [u8]) -> Result<Self, &'static str> {
        let rest = &mut bytes;
        let fields = (|| Some((take(rest)?, take(rest)?, take(rest)?, take(rest)?)))();
        let (epoch, first, head, name_len) = fields.ok_or("it is too short")?;
        let [epoch, first, head] = [epoch, first, head].map(u64::from_le_bytes);
        let name = text(rest, usize::from(u16::from_le_bytes(name_len))).ok_or("its name is no text")?;
        if name.is_empty() || name.len() > TOPIC_BYTES_MAX {
            Err("its name is empty or too long")
        } else if epoch == 0 || first == 0 || head == 0 || head > OFFSET_MAX || first > head + 1 {
            Err("its epoch or its offsets are impossible")
        } else {
            Ok(Self { name, epoch, first, head, records: bytes })
        }
    }

    /// Reads a topic with all of its records; gives it, and when its newest record is from.
    pub(crate) fn check(bytes: &'a [u8]) -> Result<(Self, u64), &'static str> {
        let section = Self::read(bytes)?;
        let (mut rest, mut count, mut newest_ms) = (section.records, 0, 0);
        while !rest.is_empty() {
            let record = Record::read(&mut rest).ok_or("a record is impossible")?;
            if record.at_ms < newest_ms {
                return Err("its records go back in time");
            }
            newest_ms = record.at_ms;
            count += 1;
        }
        if count == section.count() {
            Ok((section, newest_ms))
        } else {
            Err("it has more or fewer records than it says")
        }
    }

    /// Its records, oldest first.
    pub(crate) fn records(&self) -> impl Iterator<Item = Record<'a>> + use<'a> {
        let mut rest = self.records;
        std::iter::from_fn(move || Record::read(&mut rest))
    }
}

/// The facts of one name, as bytes that are read one by one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct FactSection<'a> {
    pub(crate) name: &'a str,
    facts: &'a [u8],
}

/// Stands where a topic has its epoch.
const NO_EPOCH: [u8; 8] = [0; 8];

impl<'a> FactSection<'a> {
    pub(crate) fn write<'f>(name: &str, facts: impl Iterator<Item = (&'f str, &'f [u8])>, out: &mut Vec<u8>) {
        let at = begin(out);
        out.extend_from_slice(&NO_EPOCH);
        out.extend_from_slice(&short(name.len()).to_le_bytes());
        out.extend_from_slice(name.as_bytes());
        for (key, value) in facts {
            let value_len = u32::try_from(value.len()).expect("values are small");
            out.extend_from_slice(&short(key.len()).to_le_bytes());
            out.extend_from_slice(&value_len.to_le_bytes());
            out.extend_from_slice(key.as_bytes());
            out.extend_from_slice(value);
        }
        end(at, out);
    }

    /// Whether a section is one of facts.
    pub(crate) fn is(bytes: &[u8]) -> bool {
        bytes.starts_with(&NO_EPOCH)
    }

    /// Reads a section; its facts are not looked at.
    pub(crate) fn read(mut bytes: &'a [u8]) -> Result<Self, &'static str> {
        let rest = &mut bytes;
        let fields = (|| Some((take::<8>(rest)?, take(rest)?)))();
        let (_, name_len) = fields.ok_or("it is too short")?;
        let name = text(rest, usize::from(u16::from_le_bytes(name_len))).ok_or("its name is no text")?;
        if name.is_empty() || name.len() > TOPIC_BYTES_MAX || name.contains('\n') {
            return Err("its name is empty or too long");
        }
        Ok(Self { name, facts: bytes })
    }

    /// Reads a section with all of its facts.
    pub(crate) fn check(bytes: &'a [u8]) -> Result<Self, &'static str> {
        let section = Self::read(bytes)?;
        let mut rest = section.facts;
        while !rest.is_empty() {
            fact(&mut rest).ok_or("a fact is impossible")?;
        }
        Ok(section)
    }

    /// Its facts: keys and values.
    pub(crate) fn facts(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> + use<'a> {
        let mut rest = self.facts;
        std::iter::from_fn(move || fact(&mut rest))
    }
}

/// The next fact, none at the end or when it is not as we write them.
fn fact<'a>(rest: &mut &'a [u8]) -> Option<(&'a str, &'a [u8])> {
    let key_len = usize::from(u16::from_le_bytes(take(rest)?));
    let value_len = usize::try_from(u32::from_le_bytes(take(rest)?)).ok()?;
    if key_len > FACT_KEY_BYTES_MAX || value_len > FACT_VALUE_BYTES_MAX {
        return None;
    }
    let key = text(rest, key_len).filter(|key| !key.contains('\n'))?;
    let (value, after) = rest.split_at_checked(value_len)?;
    *rest = after;
    Some((key, value))
}

/// Leaves room for the head of a section; gives where it is.
fn begin(out: &mut Vec<u8>) -> usize {
    let at = out.len();
    out.extend_from_slice(&[0; SECTION_HEAD_BYTES]);
    at
}

/// Fills in the head of a section.
fn end(at: usize, out: &mut [u8]) {
    let (head, rest) = out[at..].split_at_mut(SECTION_HEAD_BYTES);
    let length = (rest.len() as u64).to_le_bytes();
    head[..8].copy_from_slice(&length);
    head[8..].copy_from_slice(&crc32c::crc32c_append(crc32c::crc32c(&length), rest).to_le_bytes());
}

impl<'a> Record<'a> {
    fn write(&self, out: &mut Vec<u8>) {
        let (device, device_len, seq) = match self.seq {
            Some((device, seq)) => (device, short(device.len()), seq),
            None => ("", NO_DEVICE, 0),
        };
        let body_len = u32::try_from(self.body.len()).expect("bodies fit a frame");
        out.extend_from_slice(&self.at_ms.to_le_bytes());
        out.extend_from_slice(&seq.to_le_bytes());
        out.extend_from_slice(&short(self.from.len()).to_le_bytes());
        out.extend_from_slice(&device_len.to_le_bytes());
        out.extend_from_slice(&body_len.to_le_bytes());
        out.extend_from_slice(self.from.as_bytes());
        out.extend_from_slice(device.as_bytes());
        out.extend_from_slice(self.body);
    }

    /// The next record, none at the end or when it is not as we write them.
    fn read(rest: &mut &'a [u8]) -> Option<Self> {
        let (at_ms, seq) = (u64::from_le_bytes(take(rest)?), u64::from_le_bytes(take(rest)?));
        let (from_len, device_len) = (u16::from_le_bytes(take(rest)?), u16::from_le_bytes(take(rest)?));
        let body_len = usize::try_from(u32::from_le_bytes(take(rest)?)).ok().filter(|len| *len <= BODY_BYTES_MAX)?;
        let from = name(rest, from_len)?;
        let seq = match device_len {
            NO_DEVICE if seq == 0 => None,
            NO_DEVICE => return None,
            len => Some((name(rest, len)?, seq)),
        };
        let (body, after) = rest.split_at_checked(body_len)?;
        *rest = after;
        Some(Self { at_ms, from, seq, body })
    }
}

/// The next bytes of a number or a mark.
pub(crate) fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (bytes, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(*bytes)
}

fn name<'a>(rest: &mut &'a [u8], len: u16) -> Option<&'a str> {
    let len = usize::from(len);
    if len <= NAME_BYTES_MAX { text(rest, len) } else { None }
}

fn text<'a>(rest: &mut &'a [u8], len: usize) -> Option<&'a str> {
    let (bytes, after) = rest.split_at_checked(len)?;
    *rest = after;
    str::from_utf8(bytes).ok()
}

fn short(len: usize) -> u16 {
    u16::try_from(len).expect("names are short")
}
