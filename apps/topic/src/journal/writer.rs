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
    making::{Draft, Spare},
    reading::{Reading, Removal},
};
use crate::{mail::Mail, mutant::Mutant};

/// Bytes of records that wait for the disk. More are refused: the disk is slower than those who publish.
const WAITING_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Batches that are under way at a time: while the device works on one, the next one is on its way.
const FLIGHTS_MAX: usize = 2;

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
    ticket: u64,
    /// What came of its write, which may be known before that of the one before.
    outcome: Option<Result<(), io::Error>>,
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
pub(super) enum Purpose {
    OpenDraft,
    Reserve,
    OpenSpare,
    ReserveSpare,
    Fill,
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
pub(super) enum State {
    /// A new segment is being made.
    Making,
    /// Batches can be written.
    Ready,
    /// Nothing can be written.
    Stuck { trouble: Trouble, retry_at: Option<Instant> },
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Current {
    pub(super) number: u64,
    pub(super) file: FileId,
    /// Where the next batch goes.
    pub(super) at: u64,
    /// All before this is on disk.
    pub(super) settled: u64,
    /// So much of it was filled with zeros.
    pub(super) filled: u64,
}

/// The journal of one shard.
#[derive(Debug)]
pub(crate) struct Journal {
    pub(super) shard: ShardId,
    pub(super) origin: u64,
    pub(super) segment_bytes: u64,
    pub(super) state: State,
    pub(super) current: Option<Current>,
    /// The number of the segment that is made next, and how many bytes of the one before count.
    pub(super) next: (u64, u64),
    pub(super) draft: Option<Draft>,
    /// How many drafts there were.
    pub(super) drafts: u64,
    pub(super) spare: Spare,
    /// There is no space for a spare segment.
    pub(super) is_tight: bool,
    pub(crate) segments: BTreeMap<u64, Segment>,
    pub(super) files: BTreeMap<u64, Reading>,
    open: Batch,
    queue: VecDeque<Batch>,
    queued_bytes: usize,
    flights: VecDeque<Flight>,
    purposes: BTreeMap<u64, Purpose>,
    pub(super) tickets: u64,
    /// The oldest segment, which goes before any other does, so that a crash never leaves a hole.
    pub(super) removal: Option<Removal>,
    hasher: RandomState,
    /// Counts what happens, for whoever shows it.
    pub(crate) revision: u64,
    pub(crate) commits: u64,
    pub(crate) bytes_written: u64,
    pub(crate) troubles: u64,
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
            flights: VecDeque::new(),
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
            + self.flights.iter().map(|flight| flight.blocks as usize * BLOCK_BYTES).sum::<usize>()
    }

    /// Whether nothing waits for the disk.
    pub(crate) fn is_settled(&self) -> bool {
        self.open.is_empty() && self.queue.is_empty() && self.flights.is_empty()
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
        match last.or(self.flights.back_mut().map(|flight| &mut flight.batch)) {
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

    /// Writes the next batches, as many as may be under way. While they are, the next one grows: that is all that group
    /// commit needs.
    pub(crate) fn flush(&mut self, cx: &mut Cx<'_, Mail>) {
        while matches!(self.state, State::Ready) && self.flights.len() < FLIGHTS_MAX && self.take_off(cx) {}
    }

    fn take_off(&mut self, cx: &mut Cx<'_, Mail>) -> bool {
        if self.is_failing() {
            return false;
        }
        if self.queue.is_empty() && !self.open.is_empty() {
            self.close_batch();
        }
        let (Some(current), Some(batch)) = (&self.current, self.queue.front()) else { return false };
        let end = current.at + batch.span() as u64;
        let is_over = end > self.segment_bytes || (end > current.filled && self.has_filled_spare());
        if is_over && current.at > BLOCK_BYTES as u64 {
            if self.flights.is_empty() {
                self.roll(cx);
            }
            return false;
        }
        let (Some(current), Some(mut batch)) = (&mut self.current, self.queue.pop_front()) else { return false };
        self.queued_bytes -= batch.len();
        let Current { number, file, at, settled, .. } = *current;
        current.at = end;
        let header = Header { shard: self.shard.0, origin: self.origin, number, previous: 0, own: 0 };
        let blocks = |bytes: u64| u32::try_from(bytes / BLOCK_BYTES as u64).expect("a segment is below 16 TiB");
        let bytes = batch.seal(blocks(at - settled), header.seed(at));
        let (block, blocks) = (blocks(at), blocks(bytes.len() as u64));
        self.disk(cx, Purpose::Commit, DiskOperation::Write { file, offset: at, bytes });
        self.flights.push_back(Flight { batch, segment: number, block, blocks, ticket: self.tickets, outcome: None });
        true
    }

    /// The next segment.
    fn roll(&mut self, cx: &mut Cx<'_, Mail>) {
        if let Some(Current { number, file, settled, .. }) = self.current.take() {
            self.next = (number + 1, settled);
            self.disk(cx, Purpose::Other, DiskOperation::Close { file });
        }
        self.make(cx);
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
                Spare::Making(_) | Spare::Held(_) | Spare::Impossible => None,
            },
        }
    }

    pub(super) fn disk(&mut self, cx: &mut Cx<'_, Mail>, purpose: Purpose, operation: DiskOperation) {
        self.tickets += 1;
        self.purposes.insert(self.tickets, purpose);
        cx.disk(Ticket(self.tickets), operation);
    }

    /// A disk operation ended.
    pub(crate) fn on_disk(&mut self, cx: &mut Cx<'_, Mail>, ticket: Ticket, outcome: Outcome) -> Vec<Event> {
        self.revision += 1;
        let Some(purpose) = self.purposes.remove(&ticket.0) else { return Vec::new() };
        let event = match (purpose, outcome) {
            (Purpose::Commit, outcome) => return self.landed(cx, ticket.0, outcome),
            (Purpose::OpenDraft, Outcome::Opened { file, .. }) => {
                self.draft_opened(cx, file);
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
            (Purpose::Fill, outcome) => self.filled(cx, ticket.0, &outcome),
            (Purpose::WriteHeader, Outcome::Done) => {
                self.publish(cx);
                Event::None
            }
            (Purpose::Publish, Outcome::Done) => self.made(cx),
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

    /// A fault: what is being written counts as committed.
    pub(crate) fn believe(&mut self, cx: &mut Cx<'_, Mail>) -> Option<Event> {
        if !Mutant::AckBeforeSync.is_in() {
            return None;
        }
        let event = self.flights.pop_front().map(|flight| self.committed(flight));
        self.flush(cx);
        event
    }

    /// The write of a batch ended. One counts when those before it do.
    fn landed(&mut self, cx: &mut Cx<'_, Mail>, ticket: u64, outcome: Outcome) -> Vec<Event> {
        let Some(flight) = self.flights.iter_mut().find(|flight| flight.ticket == ticket) else { return Vec::new() };
        flight.outcome = Some(match outcome {
            Outcome::Failed(error) => Err(error),
            Outcome::Opened { .. } | Outcome::Read(_) | Outcome::Done => Ok(()),
        });
        let mut events = Vec::with_capacity(FLIGHTS_MAX);
        let counts = |flight: &Flight| matches!(flight.outcome, Some(Ok(())));
        let looks_at = if Mutant::OutOfOrder.is_in() { FLIGHTS_MAX } else { 1 };
        while (!self.is_failing() || Mutant::BelieveTheRest.is_in()) && self.flights.iter().take(looks_at).any(counts) {
            let Some(flight) = self.flights.pop_front() else { break };
            events.push(self.committed(flight));
        }
        if self.is_failing() {
            events.extend(self.give_up(cx));
        } else {
            self.flush(cx);
            self.fill_spare(cx);
        }
        events
    }

    /// With one batch all that are under way have failed: a sync that fails may take from the next one of the same file
    /// what that would have failed for. Nothing may be under way in a file that is given up.
    fn give_up(&mut self, cx: &mut Cx<'_, Mail>) -> Option<Event> {
        if self.flights.iter().any(|flight| flight.outcome.is_none()) {
            return None;
        }
        // What the disk is not believed for until the next start outweighs what is tried again.
        let errors = self.flights.iter_mut().filter_map(|flight| flight.outcome.take()?.err());
        let worst = errors.max_by_key(|error| trouble_of(Purpose::Commit, error) == Trouble::Failed)?;
        Some(self.failed(cx, Purpose::Commit, &worst))
    }

    fn is_failing(&self) -> bool {
        self.flights.iter().any(|flight| matches!(flight.outcome, Some(Err(_))))
    }

    fn committed(&mut self, flight: Flight) -> Event {
        let bytes = u64::from(flight.blocks) * BLOCK_BYTES as u64;
        if let Some(current) = &mut self.current {
            current.settled += bytes;
            if let Some(segment) = self.segments.get_mut(&current.number) {
                segment.length = current.settled;
            }
        }
        self.commits += 1;
        self.bytes_written += bytes;
        Event::Committed(flight)
    }

    /// A batch that failed is behind what counts of its segment: the next one says so before anything else is written.
    pub(super) fn failed(&mut self, cx: &mut Cx<'_, Mail>, purpose: Purpose, error: &io::Error) -> Event {
        let trouble = trouble_of(purpose, error);
        self.troubles += 1;
        if let Some(draft) = self.draft.take() {
            self.discard(cx, draft);
        }
        if let Some(Current { number, file, settled: offset, .. }) = self.current.take() {
            self.next = (number + 1, offset);
            if !self.flights.is_empty() && !Mutant::NoBlank.is_in() {
                // The kernel may show a batch to the next run that is not on the disk: nothing must be built on it.
                let bytes = Bytes::from_static(&[0; BLOCK_BYTES]);
                self.disk(cx, Purpose::Blank { file }, DiskOperation::Write { file, offset, bytes });
            } else {
                self.disk(cx, Purpose::Other, DiskOperation::Close { file });
            }
        }
        let retry_at = (trouble != Trouble::Failed).then(|| cx.now + RETRY_AFTER);
        self.state = State::Stuck { trouble, retry_at };
        self.queued_bytes = 0;
        let flights = self.flights.drain(..).map(|flight| flight.batch);
        let open = std::mem::replace(&mut self.open, Batch::new(self.hasher.clone()));
        Event::Refused(flights.chain(self.queue.drain(..)).chain([open]).collect())
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
}

/// What an error means for the journal.
fn trouble_of(purpose: Purpose, error: &io::Error) -> Trouble {
    match error.kind() {
        _ if is_full(error) => Trouble::Full,
        io::ErrorKind::ReadOnlyFilesystem => Trouble::ReadOnly,
        // Nothing was written that could be believed wrongly: another file does as well.
        _ if matches!(purpose, Purpose::OpenDraft | Purpose::Fill) => Trouble::NoFile,
        _ if is_passing(error) && matches!(purpose, Purpose::Reserve | Purpose::Publish) => Trouble::NoFile,
        _ => Trouble::Failed,
    }
}

pub(super) fn is_full(error: &io::Error) -> bool {
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
