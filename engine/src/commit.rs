//! Writes of whole blocks that are synced: one operation of the shard's own ring each, which is all that a commit takes.

use std::{collections::VecDeque, io, rc::Rc};

use bytes::Bytes;
use io_uring::{opcode, types};

use crate::{
    file::File,
    io::FileId,
    reactor::{Outcome, Ticket},
    ring::{Completion, Ring},
    stats::ShardStats,
    tag::{Operation, tag},
    tcp::Sink,
};

/// Where a direct write must begin in memory, whatever the device.
const ALIGNMENT: usize = 4096;

/// Buffers that are kept for the next writes, and the longest of them: a batch of a journal under way and one behind it.
const KEPT_MAX: usize = 2;
const KEPT_BYTES_MAX: usize = 512 * 1024;

/// Writes that are with the kernel.
#[derive(Default)]
pub(crate) struct Commits {
    slots: Vec<Option<Commit>>,
    free: Vec<u32>,
    buffers: Vec<Buffer>,
    /// What the kernel does not do this way: it is done by other means.
    refused: VecDeque<(Ticket, FileId, u64, Bytes)>,
}

/// One write. Its memory neither moves nor changes until the last completion was taken.
struct Commit {
    ticket: Ticket,
    id: FileId,
    /// Kept open, and its writes kept in order.
    file: Rc<File>,
    offset: u64,
    bytes: Bytes,
    buffer: Buffer,
    written: usize,
}

/// Memory that begins at a multiple of [`ALIGNMENT`].
#[derive(Default)]
struct Buffer(Vec<u8>);

impl Buffer {
    fn start(&self) -> usize {
        self.0.as_ptr().align_offset(ALIGNMENT)
    }

    fn fill(&mut self, bytes: &[u8]) {
        self.0.clear();
        self.0.reserve(bytes.len() + ALIGNMENT);
        // A pointer to bytes is aligned at most `ALIGNMENT - 1` bytes further on.
        self.0.resize(self.start(), 0);
        self.0.extend_from_slice(bytes);
    }

    fn bytes(&self) -> &[u8] {
        &self.0[self.start()..]
    }
}

impl Commits {
    /// Writes and syncs, if the file takes it this way now; if not, it must be done by other means.
    pub(crate) fn start(
        &mut self,
        ring: &mut Ring,
        ticket: Ticket,
        (id, file): (FileId, &Rc<File>),
        (offset, bytes): (u64, &Bytes),
    ) -> bool {
        if bytes.is_empty() || !file.begin_commit(offset, bytes.len()) {
            return false;
        }
        let mut buffer = self.buffers.pop().unwrap_or_default();
        buffer.fill(bytes);
        let commit = Commit { ticket, id, file: file.clone(), offset, bytes: bytes.clone(), buffer, written: 0 };
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() as u32 - 1
        });
        let commit = self.slots[slot as usize].insert(commit);
        push(ring, slot, commit);
        true
    }

    /// How many are under way.
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether there is one that must be done by other means.
    pub(crate) fn has_refused(&self) -> bool {
        !self.refused.is_empty()
    }

    /// One that must be done by other means after all.
    pub(crate) fn next_refused(&mut self) -> Option<(Ticket, FileId, u64, Bytes)> {
        self.refused.pop_front()
    }

    /// The kernel has written, or not.
    pub(crate) fn on_written<S: Sink>(
        &mut self,
        ring: &mut Ring,
        stats: &ShardStats,
        done: Completion,
        slot: u32,
        sink: &mut S,
    ) {
        let Some(commit) = &mut self.slots[slot as usize] else { unreachable!("a completion without its write") };
        let again = matches!(-done.result, libc::EAGAIN | libc::EINTR);
        commit.written += usize::try_from(done.result).unwrap_or(0);
        if again || (done.result > 0 && commit.written < commit.bytes.len()) {
            return push(ring, slot, commit);
        }
        let Some(Commit { ticket, id, file, offset, bytes, buffer, written }) = self.slots[slot as usize].take() else {
            return;
        };
        self.free.push(slot);
        if self.buffers.len() < KEPT_MAX && buffer.0.capacity() <= KEPT_BYTES_MAX {
            self.buffers.push(buffer);
        }
        file.end_commit(offset + written as u64);
        if matches!(-done.result, libc::EOPNOTSUPP | libc::EINVAL) {
            file.refuses_commits();
            return self.refused.push_back((ticket, id, offset, bytes));
        }
        let outcome = match done.error() {
            None if written < bytes.len() => Outcome::Failed(io::ErrorKind::WriteZero.into()),
            None => Outcome::Done,
            Some(error) => Outcome::Failed(error),
        };
        stats.disk_done.add(1);
        stats.disk_errors.add(u64::from(matches!(outcome, Outcome::Failed(_))));
        sink.on_disk(ticket, outcome);
    }
}

/// Gives the kernel what is not written yet. A write that syncs itself is one operation; a sync of its own always runs on
/// another thread of the kernel's.
fn push(ring: &mut Ring, slot: u32, commit: &Commit) {
    let rest = &commit.buffer.bytes()[commit.written..];
    let entry = opcode::Write::new(types::Fd(commit.file.descriptor()), rest.as_ptr(), rest.len() as u32)
        .offset(commit.offset + commit.written as u64)
        .rw_flags(libc::RWF_DSYNC)
        .build();
    // SAFETY: the buffer is in its slot, unchanged, until `on_written` has taken the completion; moving a `Commit` does
    // not move what its vector points to. The descriptor is open, because the file is kept with it.
    unsafe { ring.push(&entry.user_data(tag(Operation::Commit, slot))) };
}
