//! The topics of a server that stops, as bytes that the next run takes up again: names, epochs, offsets, histories, and
//! under which device's counter each message was published. Who listens and how far readers have come is not in it:
//! they say so themselves when they come back. Facts are in it that no journal has.
//!
//! All numbers are little endian.
//!
//! ```text
//! snapshot  head, then `sections` sections of together `bytes` bytes, then nothing more
//! head      magic "ringtops"  version:u32=2  sections:u32  bytes:u64  crc:u32    crc: of the 24 bytes before it
//! section   bytes:u64  crc:u32  topic[bytes] or facts[bytes]                     crc: of `bytes` and what follows
//! facts     zero:u64  name_len:u16  name  fact[..]                               as many as there are
//! fact      key_len:u16  value_len:u32  key  value
//! topic     epoch:u64  first:u64  head:u64  name_len:u16  name  record[head + 1 - first]
//! record    at_ms:u64  seq:u64  from_len:u16  device_len:u16  body_len:u32  from  device  body
//! ```
//!
//! Offsets are dense: the first record has the offset `first`, the last one `head`. A message that was published without
//! a counter has `device_len` 0xffff and `seq` 0. No epoch is 0: that tells facts from topics. Version 1 had no facts. Every crc is a CRC-32C. Each shard writes the sections of the topics
//! that are at home there ([`Share`]); whoever writes the file puts the head before them.

use std::{collections::BTreeSet, fmt};

use crate::section::{FactSection, Record, SECTION_HEAD_BYTES, Section, take};

/// Bytes before the first section.
pub const HEAD_BYTES: usize = 28;

const MAGIC: [u8; 8] = *b"ringtops";
const VERSION: u32 = 2;

/// The version before, which had topics only.
const VERSION_WITHOUT_FACTS: u32 = 1;

/// What one shard hands over: the sections of its topics.
#[derive(Default)]
pub struct Share {
    topics: u32,
    sections: u32,
    bytes: Vec<u8>,
}

impl Share {
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self { topics: 0, sections: 0, bytes: Vec::with_capacity(bytes) }
    }

    pub(crate) fn add<'a>(&mut self, section: &Section<'_>, records: impl Iterator<Item = Record<'a>>) {
        section.write(records, &mut self.bytes);
        (self.topics, self.sections) = (self.topics + 1, self.sections + 1);
    }

    pub(crate) fn add_facts<'a>(&mut self, name: &str, facts: impl Iterator<Item = (&'a str, &'a [u8])>) {
        FactSection::write(name, facts, &mut self.bytes);
        self.sections += 1;
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sections == 0
    }

    /// How many topics there are in it.
    #[must_use]
    pub fn topics(&self) -> u32 {
        self.topics
    }

    /// The sections.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// The head of a snapshot that is made of these shares, in any order.
#[must_use]
pub fn head(shares: &[Share]) -> [u8; HEAD_BYTES] {
    let sections: u32 = shares.iter().map(|share| share.sections).sum();
    let bytes: u64 = shares.iter().map(|share| share.bytes.len() as u64).sum();
    let mut head = [0; HEAD_BYTES];
    head[..8].copy_from_slice(&MAGIC);
    head[8..12].copy_from_slice(&VERSION.to_le_bytes());
    head[12..16].copy_from_slice(&sections.to_le_bytes());
    head[16..24].copy_from_slice(&bytes.to_le_bytes());
    let crc = crc32c::crc32c(&head[..24]);
    head[24..].copy_from_slice(&crc.to_le_bytes());
    head
}

/// A snapshot that was read and found to be whole. Taking it up cannot fail any more.
pub struct Snapshot {
    bytes: Vec<u8>,
    /// Where the topics lie, least recently published to first.
    places: Vec<Place>,
    /// Where facts lie.
    facts: Vec<(usize, usize)>,
    records: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    newest_ms: u64,
    start: usize,
    end: usize,
}

/// Why bytes are no snapshot.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SnapshotError {
    /// They are something else.
    #[error("it is not a snapshot of topics")]
    Foreign,
    /// A version that is not known here.
    #[error("it has version {0}, but only {VERSION} is known")]
    Version(u32),
    /// The head is damaged.
    #[error("its head is damaged")]
    Head,
    /// Bytes are missing, or too many.
    #[error("its sections have {found} bytes instead of {said}")]
    Length {
        /// What the head says.
        said: u64,
        /// What there is.
        found: u64,
    },
    /// A section is damaged.
    #[error("section {number} is damaged: {reason}")]
    Section {
        /// Which one, from 1.
        number: u32,
        /// What is wrong with it.
        reason: &'static str,
    },
}

impl Snapshot {
    /// How many bytes a snapshot has, by its first [`HEAD_BYTES`]: so that it can be read without trusting it.
    ///
    /// # Errors
    /// It is no snapshot, or of another version, or its head is damaged.
    pub fn length(head: &[u8]) -> Result<u64, SnapshotError> {
        let (_, bytes) = read_head(head)?;
        bytes.checked_add(HEAD_BYTES as u64).ok_or(SnapshotError::Head)
    }

    /// Reads a snapshot and checks all of it.
    ///
    /// # Errors
    /// Whatever is wrong with it; it is taken whole or not at all.
    pub fn read(bytes: Vec<u8>) -> Result<Self, SnapshotError> {
        let (sections, said) = read_head(&bytes)?;
        let found = (bytes.len() - HEAD_BYTES) as u64;
        if said != found {
            return Err(SnapshotError::Length { said, found });
        }
        let mut snapshot = Self { places: Vec::new(), facts: Vec::new(), records: 0, bytes };
        snapshot.read_sections(sections)?;
        Ok(snapshot)
    }

    fn read_sections(&mut self, sections: u32) -> Result<(), SnapshotError> {
        let (mut names, mut with_facts) = (BTreeSet::new(), BTreeSet::new());
        let mut rest = &self.bytes[HEAD_BYTES..];
        for number in 1..=sections {
            let damaged = |reason| SnapshotError::Section { number, reason };
            let topic = cut_section(&mut rest).map_err(damaged)?;
            let end = self.bytes.len() - rest.len();
            if FactSection::is(topic) {
                let facts = FactSection::check(topic).map_err(damaged)?;
                if !with_facts.insert(facts.name) {
                    return Err(damaged("the facts of a name come twice"));
                }
                self.facts.push((end - topic.len(), end));
                continue;
            }
            let (section, newest_ms) = Section::check(topic).map_err(damaged)?;
            if !names.insert(section.name) {
                return Err(damaged("a topic comes twice"));
            }
            self.places.push(Place { newest_ms, start: end - topic.len(), end });
            self.records += section.count();
        }
        if !rest.is_empty() {
            return Err(SnapshotError::Section { number: sections, reason: "bytes follow the last one" });
        }
        self.places.sort_unstable();
        Ok(())
    }

    /// How many topics there are in it.
    #[must_use]
    pub fn topics(&self) -> usize {
        self.places.len()
    }

    /// How many messages their histories have.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.records
    }

    /// All of its bytes, as they were read.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The topics, least recently published to first.
    pub(crate) fn sections(&self) -> impl Iterator<Item = Section<'_>> {
        self.places.iter().filter_map(|place| Section::read(&self.bytes[place.start..place.end]).ok())
    }

    /// The facts, by name.
    pub(crate) fn facts(&self) -> impl Iterator<Item = FactSection<'_>> {
        self.facts.iter().filter_map(|(start, end)| FactSection::read(&self.bytes[*start..*end]).ok())
    }
}

/// What became of the topics of a snapshot on one shard.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Restored {
    /// Topics that are here again.
    pub topics: u64,
    /// Messages of their histories.
    pub records: u64,
    /// Topics that found no room, so that the next subscriber gets a new epoch, or of which the journal has another history.
    pub topics_dropped: u64,
    /// Messages that found no room, the oldest of their topics, and those of such other histories.
    pub records_dropped: u64,
    /// Facts that are true again.
    pub facts: u64,
    /// Facts that the journal had no room for.
    pub facts_dropped: u64,
}

/// How many sections there are, and their bytes.
fn read_head(bytes: &[u8]) -> Result<(u32, u64), SnapshotError> {
    let head: &[u8; HEAD_BYTES] = bytes.first_chunk().ok_or(SnapshotError::Foreign)?;
    let mut rest = &head[..];
    let fields =
        (|| Some((take(&mut rest)?, take(&mut rest)?, take(&mut rest)?, take(&mut rest)?, take(&mut rest)?)))();
    let Some((magic, version, sections, bytes, crc)) = fields else { return Err(SnapshotError::Foreign) };
    let version = u32::from_le_bytes(version);
    if magic != MAGIC {
        Err(SnapshotError::Foreign)
    } else if version != VERSION && version != VERSION_WITHOUT_FACTS {
        Err(SnapshotError::Version(version))
    } else if u32::from_le_bytes(crc) != crc32c::crc32c(&head[..24]) {
        Err(SnapshotError::Head)
    } else {
        Ok((u32::from_le_bytes(sections), u64::from_le_bytes(bytes)))
    }
}

/// The topic of the next section.
fn cut_section<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], &'static str> {
    let (head, after) = rest.split_first_chunk::<SECTION_HEAD_BYTES>().ok_or("it is cut off")?;
    let (length, crc) = head.split_at(8);
    let mut said = length;
    let bytes = take(&mut said).map(u64::from_le_bytes).and_then(|bytes| usize::try_from(bytes).ok());
    let (topic, after) = bytes.and_then(|bytes| after.split_at_checked(bytes)).ok_or("it is cut off")?;
    if crc != crc32c::crc32c_append(crc32c::crc32c(length), topic).to_le_bytes() {
        return Err("its checksum does not match");
    }
    *rest = after;
    Ok(topic)
}

impl fmt::Debug for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Share({} topics, {} bytes)", self.topics, self.bytes.len())
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Snapshot({} topics, {} bytes)", self.places.len(), self.bytes.len())
    }
}
