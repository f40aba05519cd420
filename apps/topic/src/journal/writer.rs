//! The end of a journal that grows: batches are committed one after the other, segments follow each other, and trouble
//! with the disk is waited out or final.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    time::{Duration, Instant},
};

use ahash::RandomState;
use bytes::Bytes;
use handler::{Cx, DiskOperation, FileId, Outcome, ShardId, Ticket};

use super::{
    batch::{BATCH_BYTES, Batch, Waiting},
    format::{BLOCK_BYTES, Header},
    segment::{draft_of, name_of},
};
use crate::{mail::Mail, mutant::Mutant};

/// Bytes of records that wait for the disk. More are refused: the disk is slower than those who publish.
const WAITING_BYTES_MAX: usize = 16 * 1024 * 1024;

/// When a full or read-only disk is tried again.
pub(crate) const RETRY_AFTER: Duration = Duration::from_secs(1);

const _: () = assert!(WAITING_BYTES_MAX >= 8 * BATCH_BYTES, "there is something to commit while a batch is under way");

/// Why nothing can be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Trouble {
    /// There is no space left. It is tried again.
    Full,
    /// The file system is mounted read-only. It is tried again.
    ReadOnly,
    /// A file cannot be made for now: too many are open, or memory is short. It is tried again.
    NoFile,
    /// The disk failed: what it says from here on is not believed until the next start.
    Failed,
}

/// A segment that has what is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Segment {
    /// Bytes that count.
    pub(crate) length: u64,
    /// Bytes of records in it that are still needed.
    pub(crate) live: u64,
    /// How many bytes of the segment before it count, as its header says.
    pub(crate) previous: u64,
}

/// A batch that is being written, or has been.
#[derive(Debug)]
pub(crate) struct Flight {
    pub(crate) batch: Batch,
    pub(crate) segment: u64,
    pub(crate) block: u32,
    pub(crate) blocks: u32,
}

/// What came of a disk operation.
#[derive(Debug)]
pub(crate) enum Event {
    /// Nothing that others must know.
    None,
    /// A batch is on disk.
    Committed(Flight),
    /// Nothing more can be written: these batches are not on disk.
    Refused(Vec<Batch>),
    /// The oldest segment is gone.
    Removed,
    /// An operation of a compaction ended.
    Compact(Outcome),
    /// Blocks were read, or not.
    Read { segment: u64, block: u32, blocks: io::Result<Bytes> },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Purpose {
    OpenDraft,
    Reserve,
    OpenSpare,
    ReserveSpare,
    WriteHeader,
    Publish,
    Commit,
    Remove,
    Compact,
    Blank { file: FileId },
    OpenToRead { segment: u64 },
    Read { segment: u64, block: u32 },
    Other,
}

#[derive(Debug)]
enum State {
    /// A new segment is being made.
    Making,
    /// Batches can be written.
    Ready,
    /// Nothing can be written.
    Stuck { trouble: Trouble, retry_at: Option<Instant> },
}

#[derive(Clone, Copy, Debug)]
struct Current {
    number: u64,
    file: FileId,
    /// Where the next batch goes.
    at: u64,
}

/// A file in which a segment is prepared.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Draft {
    name: String,
    /// When it is open.
    file: Option<FileId>,
}

/// The segment after the next one, whose space is taken beforehand: while there is none, what is left of the segment that
/// is being written belongs to what frees space.
#[derive(PartialEq, Eq, Debug)]
enum Spare {
    Missing {
        try_at: Option<Instant>,
    },
    Making(Draft),
    Ready(Draft),
    /// This file system takes no space beforehand.
    Impossible,
}

/// The journal of one shard.
#[derive(Debug)]
pub(crate) struct Journal {
    shard: ShardId,
    origin: u64,
    segment_bytes: u64,
    state: State,
    current: Option<Current>,
    /// The number of the segment that is made next, and how many bytes of the one before count.
    next: (u64, u64),
    draft: Option<Draft>,
    /// How many drafts there were.
    drafts: u64,
    spare: Spare,
    /// There is no space for a spare segment.
    is_tight: bool,
    pub(crate) segments: BTreeMap<u64, Segment>,
    files: BTreeMap<u64, Reading>,
    open: Batch,
    queue: VecDeque<Batch>,
    queued_bytes: usize,
    flight: Option<Flight>,
    purposes: BTreeMap<u64, Purpose>,
    tickets: u64,
    /// The oldest segment, which goes before any other does, so that a crash never leaves a hole.
    removal: Option<Removal>,
    hasher: RandomState,
    /// Counts what happens, for whoever shows it.
    pub(crate) revision: u64,
    pub(crate) commits: u64,
    pub(crate) bytes_written: u64,
    pub(crate) troubles: u64,
}

/// A segment that goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Removal {
    UnderWay(u64),
    Failed(u64),
}

/// A file that is read.
#[derive(Debug)]
enum Reading {
    Opening(Vec<(u32, u32)>),
    Open(FileId),
}

impl Journal {
    pub(crate) fn new(
        (shard, origin): (ShardId, u64),
        segment_bytes: u64,
        segments: BTreeMap<u64, Segment>,
        hasher: RandomState,
    ) -> Self {
        let next = segments.last_key_value().map_or((1, 0), |(number, last)| (number + 1, last.length));
        Self {
            shard,
            origin,
            segment_bytes,
            state: State::Making,
            current: None,
            next,
            draft: None,
            drafts: 0,
            spare: Spare::Missing { try_at: None },
            is_tight: false,
            segments,
            files: BTreeMap::new(),
            open: Batch::new(hasher.clone()),
            queue: VecDeque::new(),
            queued_bytes: 0,
            flight: None,
            purposes: BTreeMap::new(),
            tickets: 0,
            removal: None,
            hasher,
            revision: 1,
            commits: 0,
            bytes_written: 0,
            troubles: 0,
        }
    }

    /// What all segments have in common.
    pub(crate) fn origin(&self) -> u64 {
        self.origin
    }

    /// Makes the first segment of this run.
    pub(crate) fn start(&mut self, cx: &mut Cx<'_, Mail>) {
        self.make(cx);
    }

    /// Why nothing can be written, if so.
    pub(crate) fn trouble(&self) -> Option<Trouble> {
        match self.state {
            State::Stuck { trouble, .. } => Some(trouble),
            State::Making | State::Ready => self.is_tight.then_some(Trouble::Full),
        }
    }

    /// Whether records are taken that free space.
    pub(crate) fn takes_upkeep(&self) -> bool {
        !matches!(self.state, State::Stuck { .. }) && self.queued_bytes + self.open.len() < WAITING_BYTES_MAX
    }

    /// Whether records are taken; if not, there is trouble or the disk is too slow.
    pub(crate) fn takes_records(&self) -> bool {
        self.trouble().is_none() && self.queued_bytes + self.open.len() < WAITING_BYTES_MAX
    }

    /// Bytes of records that wait for the disk.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.queued_bytes
            + self.open.len()
            + self.flight.as_ref().map_or(0, |flight| flight.blocks as usize * BLOCK_BYTES)
    }

    /// Whether nothing waits for the disk.
    pub(crate) fn is_settled(&self) -> bool {
        self.open.is_empty() && self.queue.is_empty() && self.flight.is_none()
    }

    /// The batch that is being filled.
    pub(crate) fn batch(&mut self) -> &mut Batch {
        if self.open.is_full() {
            self.close_batch();
        }
        &mut self.open
    }

    /// Lets something wait until all that was recorded before is on disk; gives it back if that is so already.
    pub(crate) fn wait(&mut self, waiting: Waiting) -> Option<Waiting> {
        let last = if self.open.is_empty() { self.queue.back_mut() } else { Some(&mut self.open) };
        match last.or(self.flight.as_mut().map(|flight| &mut flight.batch)) {
            Some(batch) => batch.waiting.push(waiting),
            None => return Some(waiting),
        }
        None
    }

    fn close_batch(&mut self) {
        let batch = std::mem::replace(&mut self.open, Batch::new(self.hasher.clone()));
        self.queued_bytes += batch.len();
        self.queue.push_back(batch);
    }

    /// Writes the next batch, if there is one and none is under way. While one is, the next one grows: that is all that
    /// group commit needs.
    pub(crate) fn flush(&mut self, cx: &mut Cx<'_, Mail>) {
        if !matches!(self.state, State::Ready) || self.flight.is_some() {
            return;
        }
        if self.queue.is_empty() && !self.open.is_empty() {
            self.close_batch();
        }
        let Some(current) = &mut self.current else { return };
        let Some(batch) = self.queue.front() else { return };
        if current.at + batch.span() as u64 > self.segment_bytes && current.at > BLOCK_BYTES as u64 {
            return self.roll(cx);
        }
        let Some(mut batch) = self.queue.pop_front() else { return };
        self.queued_bytes -= batch.len();
        let Current { number, file, at } = *current;
        let header = Header { shard: self.shard.0, origin: self.origin, number, previous: 0, own: 0 };
        let bytes = batch.seal(header.seed(at));
        let blocks = |bytes: u64| u32::try_from(bytes / BLOCK_BYTES as u64).expect("a segment is below 16 TiB");
        let (block, blocks) = (blocks(at), blocks(bytes.len() as u64));
        self.flight = Some(Flight { batch, segment: number, block, blocks });
        self.disk(cx, Purpose::Commit, DiskOperation::Write { file, offset: at, bytes });
    }

    /// The next segment.
    fn roll(&mut self, cx: &mut Cx<'_, Mail>) {
        if let Some(Current { number, file, at }) = self.current.take() {
            self.next = (number + 1, at);
            self.disk(cx, Purpose::Other, DiskOperation::Close { file });
        }
        self.make(cx);
    }

    fn make(&mut self, cx: &mut Cx<'_, Mail>) {
        self.state = State::Making;
        if matches!(self.spare, Spare::Ready(_))
            && let Spare::Ready(draft) = std::mem::replace(&mut self.spare, Spare::Missing { try_at: None })
        {
            self.draft = Some(draft);
            return self.write_header(cx);
        }
        let name = self.draft_name(self.next.0);
        self.draft = Some(Draft { name: name.clone(), file: None });
        self.disk(cx, Purpose::OpenDraft, DiskOperation::Open { name, create: true });
    }

    /// A name for a draft that no other one had in this run.
    pub(crate) fn draft_name(&mut self, number: u64) -> String {
        self.drafts += 1;
        draft_of(number, self.drafts)
    }

    /// Takes the space of the segment after the next one.
    fn make_spare(&mut self, cx: &mut Cx<'_, Mail>) {
        if let Spare::Missing { try_at } = self.spare
            && try_at.is_none_or(|at| at <= cx.now)
        {
            let name = self.draft_name(self.next.0 + 1);
            self.spare = Spare::Making(Draft { name: name.clone(), file: None });
            self.disk(cx, Purpose::OpenSpare, DiskOperation::Open { name, create: true });
        }
    }

    fn spare_opened(&mut self, cx: &mut Cx<'_, Mail>, outcome: Outcome) {
        match (&mut self.spare, outcome) {
            (Spare::Making(draft), Outcome::Opened { file, .. }) => {
                draft.file = Some(file);
                let bytes = self.segment_bytes;
                self.disk(cx, Purpose::ReserveSpare, DiskOperation::Allocate { file, bytes });
            }
            (_, Outcome::Failed(error)) => self.spare_failed(cx, &error),
            (_, Outcome::Opened { .. } | Outcome::Read(_) | Outcome::Done) => {}
        }
    }

    fn spare_reserved(&mut self, cx: &mut Cx<'_, Mail>, outcome: &Outcome) {
        if let Outcome::Failed(error) = outcome {
            return self.spare_failed(cx, error);
        }
        self.spare = match std::mem::replace(&mut self.spare, Spare::Impossible) {
            Spare::Making(draft) => Spare::Ready(draft),
            other => other,
        };
        self.is_tight = false;
    }

    /// There is no spare segment for now. A disk in other trouble than lack of space shows that elsewhere.
    fn spare_failed(&mut self, cx: &mut Cx<'_, Mail>, error: &io::Error) {
        let next = match error.kind() {
            io::ErrorKind::Unsupported => Spare::Impossible,
            _ => Spare::Missing { try_at: Some(cx.now + RETRY_AFTER) },
        };
        if let Spare::Making(draft) = std::mem::replace(&mut self.spare, next) {
            self.discard(cx, draft);
        }
        if is_full(error) {
            self.troubles += u64::from(!self.is_tight);
            self.is_tight = true;
        }
    }

    fn discard(&mut self, cx: &mut Cx<'_, Mail>, Draft { name, file }: Draft) {
        if let Some(file) = file {
            self.disk(cx, Purpose::Other, DiskOperation::Close { file });
            self.disk(cx, Purpose::Other, DiskOperation::Remove { name });
        }
    }

    /// Tries again what trouble kept from being done.
    pub(crate) fn retry(&mut self, cx: &mut Cx<'_, Mail>) {
        if let State::Stuck { retry_at: Some(at), .. } = self.state
            && at <= cx.now
        {
            return self.make(cx);
        }
        if matches!(self.state, State::Ready) {
            self.make_spare(cx);
        }
    }

    /// When to call [`Journal::retry`].
    pub(crate) fn retry_at(&self) -> Option<Instant> {
        match self.state {
            State::Stuck { retry_at, .. } => retry_at,
            State::Making | State::Ready => match self.spare {
                Spare::Missing { try_at } => try_at,
                Spare::Making(_) | Spare::Ready(_) | Spare::Impossible => None,
            },
        }
    }

    /// Reads blocks of a segment; [`Event::Read`] brings them.
    pub(crate) fn read(&mut self, cx: &mut Cx<'_, Mail>, segment: u64, (block, blocks): (u32, u32)) {
        match self.files.get_mut(&segment) {
            Some(Reading::Opening(wanted)) => wanted.push((block, blocks)),
            Some(Reading::Open(file)) => {
                let file = *file;
                self.start_read(cx, file, segment, (block, blocks));
            }
            None => {
                self.files.insert(segment, Reading::Opening(vec![(block, blocks)]));
                let operation = DiskOperation::Open { name: name_of(segment), create: false };
                self.disk(cx, Purpose::OpenToRead { segment }, operation);
            }
        }
    }

    fn start_read(&mut self, cx: &mut Cx<'_, Mail>, file: FileId, segment: u64, (block, blocks): (u32, u32)) {
        let (offset, len) = (u64::from(block) * BLOCK_BYTES as u64, blocks as usize * BLOCK_BYTES);
        self.disk(cx, Purpose::Read { segment, block }, DiskOperation::Read { file, offset, len });
    }

    fn disk(&mut self, cx: &mut Cx<'_, Mail>, purpose: Purpose, operation: DiskOperation) {
        self.tickets += 1;
        self.purposes.insert(self.tickets, purpose);
        cx.disk(Ticket(self.tickets), operation);
    }

    /// A disk operation ended.
    pub(crate) fn on_disk(&mut self, cx: &mut Cx<'_, Mail>, ticket: Ticket, outcome: Outcome) -> Vec<Event> {
        self.revision += 1;
        let Some(purpose) = self.purposes.remove(&ticket.0) else { return Vec::new() };
        let event = match (purpose, outcome) {
            (Purpose::OpenDraft, Outcome::Opened { file, .. }) => {
                if let Some(draft) = &mut self.draft {
                    draft.file = Some(file);
                }
                let bytes = self.segment_bytes;
                self.disk(cx, Purpose::Reserve, DiskOperation::Allocate { file, bytes });
                Event::None
            }
            (Purpose::Reserve, outcome) => self.reserved(cx, outcome),
            (Purpose::OpenSpare, outcome) => {
                self.spare_opened(cx, outcome);
                Event::None
            }
            (Purpose::ReserveSpare, outcome) => {
                self.spare_reserved(cx, &outcome);
                Event::None
            }
            (Purpose::WriteHeader, Outcome::Done) => {
                if let Some(Draft { name, .. }) = &self.draft {
                    let (from, to) = (name.clone(), name_of(self.next.0));
                    self.disk(cx, Purpose::Publish, DiskOperation::Rename { from, to });
                }
                Event::None
            }
            (Purpose::Publish, Outcome::Done) => self.made(cx),
            (Purpose::Commit, Outcome::Done) => self.committed(cx),
            (Purpose::OpenToRead { segment }, outcome) => return self.opened_to_read(cx, segment, outcome),
            (Purpose::Read { segment, block }, outcome) => {
                let blocks = match outcome {
                    Outcome::Read(bytes) => Ok(bytes),
                    Outcome::Failed(error) => Err(error),
                    Outcome::Opened { .. } | Outcome::Done => Err(io::ErrorKind::Other.into()),
                };
                Event::Read { segment, block, blocks }
            }
            (Purpose::Remove, outcome) => self.removed(&outcome),
            // Whether that went well or not: the disk is in trouble anyway.
            (Purpose::Blank { file }, _) => {
                self.disk(cx, Purpose::Other, DiskOperation::Close { file });
                Event::None
            }
            (Purpose::Compact, outcome) => Event::Compact(outcome),
            (Purpose::Other, _) => Event::None,
            (purpose, Outcome::Failed(error)) => self.failed(cx, purpose, &error),
            (_, Outcome::Opened { .. } | Outcome::Read(_) | Outcome::Done) => Event::None,
        };
        vec![event]
    }

    /// Where the file system cannot reserve room, a full disk shows itself later.
    fn reserved(&mut self, cx: &mut Cx<'_, Mail>, outcome: Outcome) -> Event {
        if let Outcome::Failed(error) = &outcome
            && error.kind() != io::ErrorKind::Unsupported
        {
            return self.failed(cx, Purpose::Reserve, error);
        }
        self.write_header(cx);
        Event::None
    }

    fn write_header(&mut self, cx: &mut Cx<'_, Mail>) {
        let Some(file) = self.draft.as_ref().and_then(|draft| draft.file) else { return };
        let (number, previous) = self.next;
        let header = Header { shard: self.shard.0, origin: self.origin, number, previous, own: 0 };
        let bytes = header.write().into();
        self.disk(cx, Purpose::WriteHeader, DiskOperation::Write { file, offset: 0, bytes });
    }

    fn made(&mut self, cx: &mut Cx<'_, Mail>) -> Event {
        let Some(file) = self.draft.take().and_then(|draft| draft.file) else { return Event::None };
        let at = BLOCK_BYTES as u64;
        self.current = Some(Current { number: self.next.0, file, at });
        self.segments.insert(self.next.0, Segment { length: at, live: 0, previous: self.next.1 });
        self.state = State::Ready;
        self.flush(cx);
        self.make_spare(cx);
        Event::None
    }

    /// A fault: what is being written counts as committed.
    pub(crate) fn believe(&mut self, cx: &mut Cx<'_, Mail>) -> Option<Event> {
        (Mutant::AckBeforeSync.is_in() && self.flight.is_some()).then(|| self.committed(cx))
    }

    fn committed(&mut self, cx: &mut Cx<'_, Mail>) -> Event {
        let (Some(flight), Some(current)) = (self.flight.take(), &mut self.current) else { return Event::None };
        let bytes = u64::from(flight.blocks) * BLOCK_BYTES as u64;
        current.at += bytes;
        if let Some(segment) = self.segments.get_mut(&current.number) {
            segment.length = current.at;
        }
        self.commits += 1;
        self.bytes_written += bytes;
        self.flush(cx);
        Event::Committed(flight)
    }

    /// A batch that failed is behind what counts of its segment: the next one says so before anything else is written.
    fn failed(&mut self, cx: &mut Cx<'_, Mail>, purpose: Purpose, error: &io::Error) -> Event {
        let trouble = match error.kind() {
            _ if is_full(error) => Trouble::Full,
            io::ErrorKind::ReadOnlyFilesystem => Trouble::ReadOnly,
            // Nothing was written that could be believed wrongly.
            _ if purpose == Purpose::OpenDraft => Trouble::NoFile,
            _ if is_passing(error) && matches!(purpose, Purpose::Reserve | Purpose::Publish) => Trouble::NoFile,
            _ => Trouble::Failed,
        };
        self.troubles += 1;
        if let Some(draft) = self.draft.take() {
            self.discard(cx, draft);
        }
        if let Some(Current { number, file, at }) = self.current.take() {
            self.next = (number + 1, at);
            if self.flight.is_some() && !Mutant::NoBlank.is_in() {
                // The kernel may show a batch to the next run that is not on the disk: nothing must be built on it.
                let bytes = Bytes::from_static(&[0; BLOCK_BYTES]);
                self.disk(cx, Purpose::Blank { file }, DiskOperation::Write { file, offset: at, bytes });
            } else {
                self.disk(cx, Purpose::Other, DiskOperation::Close { file });
            }
        }
        let retry_at = (trouble != Trouble::Failed).then(|| cx.now + RETRY_AFTER);
        self.state = State::Stuck { trouble, retry_at };
        self.queued_bytes = 0;
        let flight = self.flight.take().map(|flight| flight.batch);
        let open = std::mem::replace(&mut self.open, Batch::new(self.hasher.clone()));
        Event::Refused(flight.into_iter().chain(self.queue.drain(..)).chain([open]).collect())
    }

    fn opened_to_read(&mut self, cx: &mut Cx<'_, Mail>, segment: u64, outcome: Outcome) -> Vec<Event> {
        if !matches!(self.files.get(&segment), Some(Reading::Opening(_))) {
            // It is held open already; what this name means now may be something else.
            if let Outcome::Opened { file, .. } = outcome {
                self.close(cx, file);
            }
            return Vec::new();
        }
        let Some(Reading::Opening(wanted)) = self.files.remove(&segment) else { return Vec::new() };
        match outcome {
            Outcome::Opened { file, .. } if !self.segments.contains_key(&segment) => {
                // It went meanwhile. Those who wait find out when they ask again.
                self.disk(cx, Purpose::Other, DiskOperation::Close { file });
                let read = |block| Event::Read { segment, block, blocks: Err(io::ErrorKind::NotFound.into()) };
                wanted.into_iter().map(|(block, _)| read(block)).collect()
            }
            Outcome::Opened { file, .. } => {
                self.files.insert(segment, Reading::Open(file));
                wanted.into_iter().for_each(|blocks| self.start_read(cx, file, segment, blocks));
                Vec::new()
            }
            Outcome::Failed(error) => {
                let read = |block| Event::Read { segment, block, blocks: Err(error.kind().into()) };
                wanted.into_iter().map(|(block, _)| read(block)).collect()
            }
            Outcome::Read(_) | Outcome::Done => Vec::new(),
        }
    }

    /// Whether nothing is written to a segment any more.
    pub(crate) fn is_sealed(&self, number: u64) -> bool {
        number < self.next.0 && self.current.is_none_or(|current| current.number != number)
    }

    /// The header of a segment, but for lengths.
    pub(crate) fn header(&self, number: u64) -> Header {
        Header { shard: self.shard.0, origin: self.origin, number, previous: 0, own: 0 }
    }

    /// Starts an operation of a compaction.
    pub(crate) fn compact(&mut self, cx: &mut Cx<'_, Mail>, operation: DiskOperation) {
        self.disk(cx, Purpose::Compact, operation);
    }

    pub(crate) fn close(&mut self, cx: &mut Cx<'_, Mail>, file: FileId) {
        self.disk(cx, Purpose::Other, DiskOperation::Close { file });
    }

    /// Removes what was prepared for a segment.
    pub(crate) fn remove_draft(&mut self, cx: &mut Cx<'_, Mail>, name: String) {
        self.disk(cx, Purpose::Other, DiskOperation::Remove { name });
    }

    /// The oldest segment that is on disk, also if it is going.
    pub(crate) fn oldest_on_disk(&self) -> Option<u64> {
        let going = self.removal.map(|(Removal::UnderWay(number) | Removal::Failed(number))| number);
        going.or_else(|| self.segments.first_key_value().map(|(number, _)| *number))
    }

    /// The file of a segment that gets another one of the same name: whoever reads goes on with it. What was asked of the
    /// name meanwhile is read here, too.
    pub(crate) fn hold(&mut self, cx: &mut Cx<'_, Mail>, segment: u64, file: FileId) {
        match self.files.remove(&segment) {
            Some(Reading::Open(open)) => {
                self.files.insert(segment, Reading::Open(open));
                self.close(cx, file);
            }
            waiting => {
                self.files.insert(segment, Reading::Open(file));
                if let Some(Reading::Opening(wanted)) = waiting {
                    wanted.into_iter().for_each(|blocks| self.start_read(cx, file, segment, blocks));
                }
            }
        }
    }

    /// A segment was written anew: it is so long now, and is read from this file.
    pub(crate) fn replaced(&mut self, cx: &mut Cx<'_, Mail>, number: u64, length: u64, file: FileId) {
        if let Some(segment) = self.segments.get_mut(&number) {
            segment.length = length;
        }
        if let Some(Reading::Open(old)) = self.files.insert(number, Reading::Open(file)) {
            self.close(cx, old);
        }
    }

    /// Removes the oldest segment, if nothing is written to it.
    pub(crate) fn remove_oldest(&mut self, cx: &mut Cx<'_, Mail>) {
        let Some((number, _)) = self.segments.first_key_value() else { return };
        let number = *number;
        if self.is_removing(cx) || number >= self.next.0 {
            return;
        }
        self.segments.remove(&number);
        if let Some(Reading::Open(file)) = self.files.get(&number) {
            let file = *file;
            self.files.remove(&number);
            self.disk(cx, Purpose::Other, DiskOperation::Close { file });
        }
        self.start_removal(cx, number);
    }

    /// Whether a segment is being removed; if that has failed it is tried again.
    pub(crate) fn is_removing(&mut self, cx: &mut Cx<'_, Mail>) -> bool {
        if let Some(Removal::Failed(number)) = self.removal {
            self.start_removal(cx, number);
        }
        self.removal.is_some()
    }

    fn start_removal(&mut self, cx: &mut Cx<'_, Mail>, number: u64) {
        self.removal = Some(Removal::UnderWay(number));
        self.disk(cx, Purpose::Remove, DiskOperation::Remove { name: name_of(number) });
    }

    fn removed(&mut self, outcome: &Outcome) -> Event {
        match (self.removal, outcome) {
            // One that is gone is so for sure when the next one is.
            (Some(Removal::UnderWay(number)), Outcome::Failed(error))
                if error.kind() != io::ErrorKind::NotFound && !Mutant::HastyRemoval.is_in() =>
            {
                self.removal = Some(Removal::Failed(number));
                Event::None
            }
            _ => {
                self.removal = None;
                Event::Removed
            }
        }
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Whether an error says nothing of the disk: something was scarce for a moment.
fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, OutOfMemory, ResourceBusy, WouldBlock};
    /// EMFILE and ENFILE of Linux, which have no name in the standard library.
    const TOO_MANY_OPEN: [i32; 2] = [24, 23];
    matches!(error.kind(), Interrupted | OutOfMemory | ResourceBusy | WouldBlock)
        || error.raw_os_error().is_some_and(|number| TOO_MANY_OPEN.contains(&number))
}
