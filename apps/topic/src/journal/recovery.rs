//! A journal that is read from its beginning to its end: what is whole is told, a torn end is cut off, and anything else
//! that is wrong is an error.

use std::{collections::BTreeMap, io};

use super::{
    format::{BLOCK_BYTES, Header, Record, Whole, open},
    segment::name_of,
    writer::Segment,
};
use crate::mutant::Mutant;

/// Where the segments of a journal are.
pub trait Segments {
    /// The numbers of all segments, ascending.
    ///
    /// # Errors
    /// The folder cannot be read.
    fn numbers(&mut self) -> io::Result<Vec<u64>>;
    /// A segment's first `most` bytes, or all that there are.
    ///
    /// # Errors
    /// It cannot be read.
    fn read(&mut self, number: u64, most: usize) -> io::Result<Vec<u8>>;
    /// Makes a segment so long, if it is longer, and has all of it on disk.
    ///
    /// # Errors
    /// It cannot be cut or synced.
    fn cut(&mut self, number: u64, length: u64) -> io::Result<()>;
}

/// Where a batch lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct At {
    /// The segment.
    pub segment: u64,
    /// Its first block.
    pub block: u32,
    /// How many blocks it has.
    pub blocks: u32,
}

/// A message or fact in a journal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Found<'a> {
    /// The batch that it lies in.
    pub at: At,
    /// The topic, or what the fact is about.
    pub name: &'a str,
    /// The identity of the topic's history; 0 for a fact.
    pub epoch: u64,
    /// The record.
    pub record: Record<'a>,
    /// Bytes that it takes.
    pub bytes: u32,
}

/// Something that is not as it was written.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{}: at byte {place}: {reason}", name_of(*.segment))]
pub struct Damage {
    /// In which segment.
    pub segment: u64,
    /// From which byte on.
    pub place: u64,
    /// What is wrong.
    pub reason: String,
}

/// Why a journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// It cannot be read or cut.
    #[error("{what}: {error}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        error: io::Error,
    },
    /// What was on disk has changed.
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// It is somebody else's.
    #[error("{}: it belongs to another journal", name_of(*.0))]
    Foreign(u64),
}

/// What a journal had.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Recovered {
    /// Segments.
    pub segments: u64,
    /// Bytes of them that count.
    pub bytes: u64,
    /// Batches.
    pub batches: u64,
    /// Messages.
    pub messages: u64,
    /// Facts, with those that were replaced later.
    pub facts: u64,
    /// Bytes at the end that were no whole batch: what was under way when the power went.
    pub torn_bytes: u64,
}

/// Where a segment ends.
enum End {
    At(u64),
    /// Where the batches do: it is the last one.
    Open,
}

/// Reads a journal from its beginning to its end, and gives each message and fact. A torn end is
/// cut off if `mend`.
///
/// # Errors
/// See [`RecoverError`]. What was given before is right.
pub fn walk(
    (shard, origin): (u16, u64),
    source: &mut dyn Segments,
    mend: bool,
    each: &mut dyn FnMut(Found<'_>),
) -> Result<Recovered, RecoverError> {
    let (_, recovered) = walk_segments((shard, origin), source, mend, each)?;
    Ok(recovered)
}

pub(crate) fn walk_segments(
    (shard, origin): (u16, u64),
    source: &mut dyn Segments,
    mend: bool,
    each: &mut dyn FnMut(Found<'_>),
) -> Result<(BTreeMap<u64, Segment>, Recovered), RecoverError> {
    let failed = |what: &str, error| RecoverError::Io { what: what.to_owned(), error };
    let numbers = source.numbers().map_err(|error| failed("the folder of the journal", error))?;
    let mut headers = Vec::new();
    for number in &numbers {
        let bytes = source.read(*number, BLOCK_BYTES).map_err(|error| failed(&name_of(*number), error))?;
        let damage = |reason: &str| Damage { segment: *number, place: 0, reason: reason.to_owned() };
        let header = Header::read(&bytes).map_err(damage)?;
        if (header.shard, header.origin, header.number) != (shard, origin, *number) {
            return Err(RecoverError::Foreign(*number));
        }
        headers.push(header);
    }
    if let Some(pair) = numbers.windows(2).find(|pair| pair[0] + 1 != pair[1]) {
        return Err(Damage { segment: pair[0] + 1, place: 0, reason: "it is missing".to_owned() }.into());
    }
    let (mut segments, mut recovered) = (BTreeMap::new(), Recovered::default());
    for (place, header) in headers.iter().enumerate() {
        let end = match headers.get(place + 1) {
            _ if Mutant::NoPrevious.is_in() => End::Open,
            _ if header.own > 0 => End::At(header.own),
            Some(next) => End::At(next.previous),
            None => End::Open,
        };
        let bytes = source.read(header.number, usize::MAX).map_err(|error| failed(&name_of(header.number), error))?;
        let length = walk_segment(header, &bytes, &end, &mut recovered, each)?;
        // A process that was killed leaves batches that can be read and are not on disk: they are before anybody sees them.
        let may_be_unsynced = matches!(end, End::Open) && !Mutant::NoSyncAtStart.is_in();
        if mend && (bytes.len() as u64 > length || may_be_unsynced) {
            source.cut(header.number, length).map_err(|error| failed(&name_of(header.number), error))?;
        }
        recovered.segments += 1;
        recovered.bytes += length;
        segments.insert(header.number, Segment { length, live: 0, previous: header.previous });
    }
    Ok((segments, recovered))
}

/// Gives the records of one segment, and how many of its bytes count.
fn walk_segment(
    header: &Header,
    bytes: &[u8],
    end: &End,
    recovered: &mut Recovered,
    each: &mut dyn FnMut(Found<'_>),
) -> Result<u64, Damage> {
    let (mut place, mut last) = (BLOCK_BYTES, BLOCK_BYTES);
    loop {
        if let End::At(end) = end
            && place as u64 >= *end
        {
            return if place as u64 == *end { Ok(*end) } else { Err(damage(header, place, "a batch is cut off")) };
        }
        let batch = bytes.get(place..).unwrap_or_default();
        match open(batch, header.seed(place as u64)) {
            Ok(Whole { records, count, span, .. }) => {
                let blocks = |bytes: usize| u32::try_from(bytes / BLOCK_BYTES).unwrap_or(u32::MAX);
                let at = At { segment: header.number, block: blocks(place), blocks: blocks(span) };
                walk_batch(at, records, count, recovered, each).map_err(|reason| damage(header, place, reason))?;
                recovered.batches += 1;
                (last, place) = (place, place + span);
            }
            Err(reason) if matches!(end, End::At(_)) => return Err(damage(header, place, reason)),
            Err(reason) => {
                if let Some(later) = settled_behind(header, bytes, place) {
                    return Err(damage(header, place, &format!("{reason}, but a batch follows at byte {later}")));
                }
                let torn = batch.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
                recovered.torn_bytes += torn as u64;
                return Ok(if Mutant::TruncateTooMuch.is_in() { last } else { place } as u64);
            }
        }
    }
}

/// A batch behind this place that was written when all before the place, and what lies there, was on disk. One that was
/// under way together with what lies there says so: it is part of a torn tail.
fn settled_behind(header: &Header, bytes: &[u8], place: usize) -> Option<usize> {
    (place + BLOCK_BYTES..bytes.len()).step_by(BLOCK_BYTES).find(|later| {
        let whole = open(&bytes[*later..], header.seed(*later as u64));
        whole.is_ok_and(|whole| {
            later.saturating_sub(whole.unsettled as usize * BLOCK_BYTES) > place && !Mutant::AnyTail.is_in()
        })
    })
}

/// Gives the records of the batches at the beginning of a piece of a segment, and how many bytes these take. A batch
/// that goes on behind the piece is left, unless nothing comes behind it.
pub(crate) fn batches(
    header: &Header,
    at: At,
    bytes: &[u8],
    is_last: bool,
    each: &mut dyn FnMut(Found<'_>),
) -> Result<usize, &'static str> {
    let mut read = 0;
    while read < bytes.len() {
        let place = u64::from(at.block) * BLOCK_BYTES as u64 + read as u64;
        let Whole { records, count, span, .. } = match open(&bytes[read..], header.seed(place)) {
            Ok(batch) => batch,
            Err(reason) if is_last => return Err(reason),
            // If it is damaged and not only cut off, the next piece begins with it.
            Err(reason) if read == 0 => return Err(reason),
            Err(_) => break,
        };
        let blocks = |bytes: usize| u32::try_from(bytes / BLOCK_BYTES).unwrap_or(u32::MAX);
        let here = At { segment: at.segment, block: at.block + blocks(read), blocks: blocks(span) };
        walk_batch(here, records, count, &mut Recovered::default(), each)?;
        read += span;
    }
    Ok(read)
}

fn walk_batch(
    at: At,
    mut records: &[u8],
    count: u32,
    recovered: &mut Recovered,
    each: &mut dyn FnMut(Found<'_>),
) -> Result<(), &'static str> {
    const IMPOSSIBLE: &str = "its records are impossible";
    let mut names: Vec<(&str, u64)> = Vec::new();
    for _ in 0..count {
        let before = records.len();
        let record = Record::read(&mut records).ok_or(IMPOSSIBLE)?;
        let bytes = u32::try_from(before - records.len()).map_err(|_| IMPOSSIBLE)?;
        let name = match record {
            Record::Name { epoch, name } => {
                names.push((name, epoch));
                continue;
            }
            Record::Message { name, .. } => {
                recovered.messages += 1;
                name
            }
            Record::Fact { name, .. } => {
                recovered.facts += 1;
                name
            }
        };
        let name = names.get(usize::from(name)).ok_or(IMPOSSIBLE)?;
        let (name, epoch) = *name;
        each(Found { at, name, epoch, record, bytes });
    }
    if records.is_empty() { Ok(()) } else { Err(IMPOSSIBLE) }
}

/// The messages of one topic in a batch that was read again: offset and record.
pub(crate) fn messages<'a>(
    header: &Header,
    (block, batch): (u32, &'a [u8]),
    (topic, epoch): (&str, u64),
    mut each: impl FnMut(u64, crate::record::Record<'a>),
) -> Result<(), &'static str> {
    let Whole { mut records, count, .. } = open(batch, header.seed(u64::from(block) * BLOCK_BYTES as u64))?;
    let (mut names, mut wanted) = (0_u16, None);
    for _ in 0..count {
        match Record::read(&mut records).ok_or("its records are impossible")? {
            Record::Name { epoch: found, name } => {
                if name == topic && found == epoch {
                    wanted = Some(names);
                }
                names = names.wrapping_add(1);
            }
            Record::Message { name, offset, at_ms, from, body, .. } if wanted == Some(name) => {
                each(offset, crate::record::Record { offset, at_ms, from, body });
            }
            Record::Message { .. } | Record::Fact { .. } => {}
        }
    }
    Ok(())
}

fn damage(header: &Header, place: usize, reason: &str) -> Damage {
    Damage { segment: header.number, place: place as u64, reason: reason.to_owned() }
}
