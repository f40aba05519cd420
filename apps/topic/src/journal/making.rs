//! The segments of a journal that are made: space is taken and filled with zeros beforehand, and a name makes one of it.

use std::{io, time::Instant};

use bytes::Bytes;
use handler::{Cx, DiskOperation, FileId, Outcome};

use super::{
    format::{BLOCK_BYTES, Header},
    segment::{draft_of, name_of},
    writer::{Current, Event, Journal, Purpose, RETRY_AFTER, Segment, State, is_full},
};
use crate::mail::Mail;

/// Zeros that are written at once: little enough that a batch that comes meanwhile hardly waits for it.
const FILL_BYTES: usize = 64 * 1024;

/// How much of a segment without a spare one before it is filled before it is used: enough for what comes until its
/// spare is filled, and no more than what a start can wait for.
const FILLED_AT_START: u64 = 4 * 1024 * 1024;

/// How many times faster a spare segment is filled than the one before it is used up, and how many bytes are filled for
/// each that is committed at most.
const FILL_PACE: u64 = 2;
const FILL_PACE_MAX: u64 = 32;

static ZEROS: [u8; FILL_BYTES] = [0; FILL_BYTES];

/// A file in which a segment is prepared.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Draft {
    name: String,
    /// When it is open.
    file: Option<FileId>,
    /// How much of it is filled with zeros.
    filled: u64,
    /// The operation that fills more of it.
    filling: Option<u64>,
}

/// The segment after the next one, whose space is taken beforehand: while there is none, what is left of the segment that
/// is being written belongs to what frees space.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Spare {
    Missing {
        try_at: Option<Instant>,
    },
    Making(Draft),
    /// Its space is taken, and is being filled while batches are committed.
    Held(Draft),
    /// This file system takes no space beforehand.
    Impossible,
}

impl Draft {
    fn new(name: String) -> Self {
        Self { name, file: None, filled: 0, filling: None }
    }
}

impl Journal {
    /// Makes the next segment of what is prepared, or from nothing.
    pub(super) fn make(&mut self, cx: &mut Cx<'_, Mail>) {
        self.state = State::Making;
        match std::mem::replace(&mut self.spare, Spare::Missing { try_at: None }) {
            Spare::Held(draft) => {
                // What is being filled now would otherwise be zeros after a batch was written there.
                let waits = draft.filling.is_some();
                self.draft = Some(draft);
                if !waits {
                    self.write_header(cx);
                }
                return;
            }
            other => self.spare = other,
        }
        let name = self.draft_name(self.next.0);
        self.draft = Some(Draft::new(name.clone()));
        self.disk(cx, Purpose::OpenDraft, DiskOperation::Open { name, create: true });
    }

    /// A name for a draft that no other one had in this run.
    pub(crate) fn draft_name(&mut self, number: u64) -> String {
        self.drafts += 1;
        draft_of(number, self.drafts)
    }

    pub(super) fn draft_opened(&mut self, cx: &mut Cx<'_, Mail>, file: FileId) {
        if let Some(draft) = &mut self.draft {
            draft.file = Some(file);
        }
        let bytes = self.segment_bytes;
        self.disk(cx, Purpose::Reserve, DiskOperation::Allocate { file, bytes });
    }

    /// Where the file system cannot reserve room, a full disk shows itself later.
    pub(super) fn reserved(&mut self, cx: &mut Cx<'_, Mail>, outcome: Outcome) -> Event {
        match outcome {
            Outcome::Failed(error) if error.kind() != io::ErrorKind::Unsupported => {
                return self.failed(cx, Purpose::Reserve, &error);
            }
            Outcome::Failed(_) => self.write_header(cx),
            Outcome::Opened { .. } | Outcome::Read(_) | Outcome::Done => self.fill_draft(cx),
        }
        Event::None
    }

    /// Fills what a segment needs at its beginning.
    fn fill_draft(&mut self, cx: &mut Cx<'_, Mail>) {
        let enough = self.segment_bytes.min(FILLED_AT_START);
        match self.draft.take() {
            Some(draft) if draft.filled < enough => self.draft = Some(self.fill(cx, draft)),
            draft => {
                self.draft = draft;
                self.write_header(cx);
            }
        }
    }

    /// Goes on with the spare segment, so that it is filled in time.
    pub(super) fn fill_spare(&mut self, cx: &mut Cx<'_, Mail>) {
        let Some(Current { at, filled, .. }) = self.current else { return };
        let pace = (FILL_PACE * (self.segment_bytes / filled.max(1)).max(1)).min(FILL_PACE_MAX);
        let wanted = at.saturating_mul(pace).min(self.segment_bytes);
        match std::mem::replace(&mut self.spare, Spare::Impossible) {
            Spare::Held(draft) if draft.filling.is_none() && draft.filled < wanted => {
                self.spare = Spare::Held(self.fill(cx, draft));
            }
            other => self.spare = other,
        }
    }

    fn fill(&mut self, cx: &mut Cx<'_, Mail>, draft: Draft) -> Draft {
        let Some(file) = draft.file else { return draft };
        let left = self.segment_bytes - draft.filled;
        let len = usize::try_from(left).unwrap_or(FILL_BYTES).min(FILL_BYTES);
        let (offset, bytes) = (draft.filled, Bytes::from_static(&ZEROS[..len]));
        // With the last of it the file system's own notes come to disk, so that no batch has to wait for them.
        let operation = match left - len as u64 {
            0 => DiskOperation::Write { file, offset, bytes },
            _ => DiskOperation::Fill { file, offset, bytes },
        };
        self.disk(cx, Purpose::Fill, operation);
        Draft { filled: offset + len as u64, filling: Some(self.tickets), ..draft }
    }

    /// More of a segment is filled, or not.
    pub(super) fn filled(&mut self, cx: &mut Cx<'_, Mail>, ticket: u64, outcome: &Outcome) -> Event {
        let is_it = |draft: &&mut Draft| draft.filling == Some(ticket);
        if let Some(draft) = self.draft.as_mut().filter(is_it) {
            draft.filling = None;
            match outcome {
                Outcome::Failed(error) => return self.failed(cx, Purpose::Fill, error),
                Outcome::Opened { .. } | Outcome::Read(_) | Outcome::Done => self.fill_draft(cx),
            }
        } else if let Spare::Held(draft) = &mut self.spare
            && is_it(&draft)
        {
            draft.filling = None;
            match outcome {
                Outcome::Failed(error) => self.spare_failed(cx, error),
                Outcome::Opened { .. } | Outcome::Read(_) | Outcome::Done => self.fill_spare(cx),
            }
        }
        Event::None
    }

    /// Whether the spare segment is filled.
    pub(super) fn has_filled_spare(&self) -> bool {
        matches!(&self.spare, Spare::Held(draft) if draft.filled >= self.segment_bytes && draft.filling.is_none())
    }

    /// Takes the space of the segment after the next one.
    pub(super) fn make_spare(&mut self, cx: &mut Cx<'_, Mail>) {
        if let Spare::Missing { try_at } = self.spare
            && try_at.is_none_or(|at| at <= cx.now)
        {
            let name = self.draft_name(self.next.0 + 1);
            self.spare = Spare::Making(Draft::new(name.clone()));
            self.disk(cx, Purpose::OpenSpare, DiskOperation::Open { name, create: true });
        }
    }

    pub(super) fn spare_opened(&mut self, cx: &mut Cx<'_, Mail>, outcome: Outcome) {
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

    pub(super) fn spare_reserved(&mut self, cx: &mut Cx<'_, Mail>, outcome: &Outcome) {
        if let Outcome::Failed(error) = outcome {
            return self.spare_failed(cx, error);
        }
        self.spare = match std::mem::replace(&mut self.spare, Spare::Impossible) {
            Spare::Making(draft) => Spare::Held(draft),
            other => other,
        };
        self.is_tight = false;
        self.fill_spare(cx);
    }

    /// There is no spare segment for now. A disk in other trouble than lack of space shows that elsewhere.
    fn spare_failed(&mut self, cx: &mut Cx<'_, Mail>, error: &io::Error) {
        let next = match error.kind() {
            io::ErrorKind::Unsupported => Spare::Impossible,
            _ => Spare::Missing { try_at: Some(cx.now + RETRY_AFTER) },
        };
        if let Spare::Making(draft) | Spare::Held(draft) = std::mem::replace(&mut self.spare, next) {
            self.discard(cx, draft);
        }
        if is_full(error) {
            self.troubles += u64::from(!self.is_tight);
            self.is_tight = true;
        }
    }

    pub(super) fn discard(&mut self, cx: &mut Cx<'_, Mail>, draft: Draft) {
        if let Some(file) = draft.file {
            self.disk(cx, Purpose::Other, DiskOperation::Close { file });
            self.disk(cx, Purpose::Other, DiskOperation::Remove { name: draft.name });
        }
    }

    fn write_header(&mut self, cx: &mut Cx<'_, Mail>) {
        let Some(file) = self.draft.as_ref().and_then(|draft| draft.file) else { return };
        let (number, previous) = self.next;
        let header = Header { shard: self.shard.0, origin: self.origin, number, previous, own: 0 };
        let bytes = header.write().into();
        self.disk(cx, Purpose::WriteHeader, DiskOperation::Write { file, offset: 0, bytes });
    }

    /// The header is on disk.
    pub(super) fn publish(&mut self, cx: &mut Cx<'_, Mail>) {
        if let Some(Draft { name, .. }) = &self.draft {
            let (from, to) = (name.clone(), name_of(self.next.0));
            self.disk(cx, Purpose::Publish, DiskOperation::Rename { from, to });
        }
    }

    /// It has its name: batches can be written.
    pub(super) fn made(&mut self, cx: &mut Cx<'_, Mail>) -> Event {
        let Some(Draft { file: Some(file), filled, .. }) = self.draft.take() else { return Event::None };
        let at = BLOCK_BYTES as u64;
        self.current = Some(Current { number: self.next.0, file, at, settled: at, filled });
        self.segments.insert(self.next.0, Segment { length: at, live: 0, previous: self.next.1 });
        self.state = State::Ready;
        self.flush(cx);
        self.make_spare(cx);
        Event::None
    }
}
