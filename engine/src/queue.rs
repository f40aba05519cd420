//! The operations of one open file: its changes in the order in which they were started, as far as they meet.

use std::{collections::VecDeque, ops::Range, rc::Rc};

use crate::{
    file::File,
    io::{DiskOperation, FileId},
    reactor::Ticket,
};

/// Changes of one file that have begun at most: each is compared with all others.
const CHANGES_MAX: usize = 64;

/// What is changed by whoever must be alone: parts of blocks are written with the bytes around them, and a sync, a
/// reservation and a close are about all that was started before.
const WHOLE: Range<u64> = 0..u64::MAX;

/// A disk operation on its way.
pub(crate) struct Job {
    pub(crate) ticket: Ticket,
    pub(crate) operation: DiskOperation,
    /// The whole blocks that the shard's own ring reads or writes; by other means if there are none.
    pub(crate) blocks: Option<Range<u64>>,
    /// The kernel does not do it in the ring.
    pub(crate) refused: bool,
}

impl Job {
    pub(crate) fn new(ticket: Ticket, operation: DiskOperation) -> Self {
        Self { ticket, operation, blocks: None, refused: false }
    }

    /// On which file.
    pub(crate) fn file(&self) -> Option<FileId> {
        match &self.operation {
            DiskOperation::Read { file, .. }
            | DiskOperation::Write { file, .. }
            | DiskOperation::Allocate { file, .. }
            | DiskOperation::Sync { file }
            | DiskOperation::Close { file } => Some(*file),
            DiskOperation::Open { .. } | DiskOperation::Rename { .. } | DiskOperation::Remove { .. } => None,
        }
    }

    /// Whether the shard's own ring writes and syncs it at once.
    pub(crate) fn is_commit(&self) -> bool {
        self.blocks.is_some() && matches!(self.operation, DiskOperation::Write { sync: true, .. })
    }

    fn is_read(&self) -> bool {
        matches!(self.operation, DiskOperation::Read { .. })
    }

    fn is_close(&self) -> bool {
        matches!(self.operation, DiskOperation::Close { .. })
    }

    fn span(&self) -> Range<u64> {
        self.blocks.clone().unwrap_or(WHOLE)
    }
}

/// A file's place in the table. It is free again when a close has ended, and that is after everything else.
#[derive(Default)]
pub(crate) struct Queue {
    file: Option<Rc<File>>,
    closing: bool,
    // Reads that have not ended.
    reads: usize,
    // What is changed by those that have begun: no two of them meet.
    changes: Vec<Range<u64>>,
    // Changes that have not begun, in order.
    waiting: VecDeque<Job>,
}

impl Queue {
    /// Whether a file may have this place.
    pub(crate) fn is_free(&self) -> bool {
        self.file.is_none() && !self.closing
    }

    /// Whether operations may be started.
    pub(crate) fn is_open(&self) -> bool {
        self.file.is_some() && !self.closing
    }

    /// Gives the place to a file.
    pub(crate) fn open(&mut self, file: File) {
        self.file = Some(Rc::new(file));
    }

    /// Takes an operation in; a read comes back, because it may begin at once.
    pub(crate) fn add(&mut self, mut job: Job) -> Option<Job> {
        if job.is_read() {
            self.reads += 1;
            job.blocks = self.blocks(&job);
            return Some(job);
        }
        self.closing |= job.is_close();
        if job.refused {
            self.waiting.push_front(job)
        } else {
            self.waiting.push_back(job)
        }
        None
    }

    /// The next change that may begin: all that was started before and that it meets has ended.
    pub(crate) fn next(&mut self) -> Option<Job> {
        let job = self.waiting.front()?;
        let blocks = self.blocks(job);
        let span = blocks.clone().unwrap_or(WHOLE);
        let meets = |other: &Range<u64>| other.start < span.end && span.start < other.end;
        let held = job.is_close() && self.reads > 0;
        if held || self.changes.len() >= CHANGES_MAX || self.changes.iter().any(meets) {
            return None;
        }
        self.changes.push(span);
        self.waiting.pop_front().map(|job| Job { blocks, ..job })
    }

    /// The file, for an operation that has begun. Who closes it gets the last one.
    pub(crate) fn file(&mut self, job: &Job) -> Option<Rc<File>> {
        if job.is_close() { self.file.take() } else { self.file.clone() }
    }

    /// Something that has begun has ended, or was refused and comes again.
    pub(crate) fn end(&mut self, job: &Job) {
        if job.is_read() {
            self.reads -= 1;
            return;
        }
        let span = job.span();
        self.changes.retain(|other| *other != span);
        self.closing &= !job.is_close();
    }

    /// The kernel does not do in the ring what can be done by other means.
    pub(crate) fn refuse_blocks(&mut self) {
        if let Some(file) = &self.file {
            file.refuses_blocks();
        }
    }

    // A refused one is done by other means.
    fn blocks(&self, job: &Job) -> Option<Range<u64>> {
        let (offset, len) = match &job.operation {
            DiskOperation::Read { offset, len, .. } => (*offset, *len),
            DiskOperation::Write { offset, bytes, .. } => (*offset, bytes.len()),
            _ => return None,
        };
        let takes = !job.refused && self.file.as_ref().is_some_and(|file| file.takes_blocks(offset, len));
        takes.then(|| offset..offset + len as u64)
    }
}
