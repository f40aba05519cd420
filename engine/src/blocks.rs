//! Reads and writes of whole blocks: one operation of the shard's own ring each, so that the executor need not run.

use std::{io, rc::Rc};

use bytes::Bytes;
use io_uring::{opcode, types};

use crate::{
    file::File,
    io::DiskOperation,
    queue::Job,
    reactor::Outcome,
    ring::{Completion, Ring},
    stats::ShardStats,
    tag::{Operation, tag},
    tcp::Sink,
};

/// Where direct access must begin in memory, whatever the device.
const ALIGNMENT: usize = 4096;

/// Buffers that are kept for the next writes, and the longest of them: batches of a journal under way and one behind them.
const KEPT_MAX: usize = 4;
const KEPT_BYTES_MAX: usize = 512 * 1024;

/// Reads and writes that are with the kernel.
#[derive(Default)]
pub(crate) struct Blocks {
    slots: Vec<Option<Transfer>>,
    free: Vec<u32>,
    buffers: Vec<Buffer>,
    /// What has ended, and what was refused.
    ended: Vec<Job>,
}

/// One of them. Its memory neither moves nor changes until the last completion was taken.
struct Transfer {
    job: Job,
    /// Kept open.
    file: Rc<File>,
    direction: Direction,
    offset: u64,
    buffer: Buffer,
    /// Bytes that are read or written.
    done: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Read,
    Write,
    /// A write that counts when it is on disk.
    Commit,
}

/// Memory that begins at a multiple of [`ALIGNMENT`].
#[derive(Default)]
struct Buffer(Vec<u8>);

impl Buffer {
    fn start(&self) -> usize {
        self.0.as_ptr().align_offset(ALIGNMENT)
    }

    // Makes it empty, with room for so many bytes; a pointer to bytes is aligned at most `ALIGNMENT - 1` bytes further on.
    fn clear(&mut self, room: usize) {
        self.0.clear();
        self.0.reserve(room + ALIGNMENT);
        self.0.resize(self.start(), 0);
    }

    fn len(&self) -> usize {
        self.0.len() - self.start()
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.0[self.start()..]
    }
}

impl Blocks {
    /// Reads or writes whole blocks.
    pub(crate) fn start(&mut self, ring: &mut Ring, file: Rc<File>, job: Job) {
        let (direction, offset, buffer) = match &job.operation {
            DiskOperation::Write { offset, bytes, sync, .. } => {
                let mut buffer = self.buffers.pop().unwrap_or_default();
                buffer.clear(bytes.len());
                buffer.0.extend_from_slice(bytes);
                (if *sync { Direction::Commit } else { Direction::Write }, *offset, buffer)
            }
            DiskOperation::Read { offset, len, .. } => {
                let mut buffer = Buffer::default();
                buffer.clear(*len);
                buffer.0.resize(buffer.start() + len, 0);
                (Direction::Read, *offset, buffer)
            }
            other => unreachable!("{other:?} has no blocks"),
        };
        let transfer = Transfer { job, file, direction, offset, buffer, done: 0 };
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() as u32 - 1
        });
        let transfer = self.slots[slot as usize].insert(transfer);
        push(ring, slot, transfer);
    }

    /// How many are under way.
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// One that has ended and whose outcome was told, or that was refused and must be done by other means.
    pub(crate) fn next_ended(&mut self) -> Option<Job> {
        self.ended.pop()
    }

    /// The kernel has read or written, or not.
    pub(crate) fn on_done<S: Sink>(
        &mut self,
        ring: &mut Ring,
        stats: &ShardStats,
        done: Completion,
        slot: u32,
        sink: &mut S,
    ) {
        let Some(transfer) = &mut self.slots[slot as usize] else { unreachable!("a completion without its transfer") };
        let again = matches!(-done.result, libc::EAGAIN | libc::EINTR);
        transfer.done += usize::try_from(done.result).unwrap_or(0);
        if again || (done.result > 0 && transfer.goes_on()) {
            return push(ring, slot, transfer);
        }
        let Some(transfer) = self.slots[slot as usize].take() else { return };
        self.free.push(slot);
        let Transfer { mut job, file, direction, offset, mut buffer, done: count } = transfer;
        if direction != Direction::Read && count > 0 {
            file.grows(offset + count as u64);
        }
        job.refused = matches!(-done.result, libc::EOPNOTSUPP | libc::EINVAL);
        if !job.refused {
            let outcome = match (done.error(), direction) {
                (Some(error), _) => Outcome::Failed(error),
                (None, Direction::Read) => {
                    buffer.0.truncate(buffer.start() + count);
                    Outcome::Read(Bytes::from_owner(std::mem::take(&mut buffer)))
                }
                (None, _) if count < buffer.len() => Outcome::Failed(io::ErrorKind::WriteZero.into()),
                (None, _) => Outcome::Done,
            };
            stats.disk_done.add(1);
            stats.disk_errors.add(u64::from(matches!(outcome, Outcome::Failed(_))));
            sink.on_disk(job.ticket, outcome);
        }
        if self.buffers.len() < KEPT_MAX && (1..=KEPT_BYTES_MAX).contains(&buffer.0.capacity()) {
            self.buffers.push(buffer);
        }
        self.ended.push(job);
    }
}

impl Transfer {
    // Whether there is more to do. A file ends where a read ends within a block.
    fn goes_on(&self) -> bool {
        let is_whole = self.direction != Direction::Read || self.file.is_whole(self.offset, self.done);
        self.done < self.buffer.len() && is_whole
    }
}

/// Gives the kernel what is not done yet. A write that syncs itself is one operation; a sync of its own always runs on
/// another thread of the kernel's.
fn push(ring: &mut Ring, slot: u32, transfer: &mut Transfer) {
    let (from, descriptor) = (transfer.done, types::Fd(transfer.file.descriptor()));
    let offset = transfer.offset + from as u64;
    let start = transfer.buffer.start() + from;
    let rest = &mut transfer.buffer.0[start..];
    let entry = match transfer.direction {
        Direction::Read => opcode::Read::new(descriptor, rest.as_mut_ptr(), rest.len() as u32).offset(offset).build(),
        Direction::Write => opcode::Write::new(descriptor, rest.as_ptr(), rest.len() as u32).offset(offset).build(),
        Direction::Commit => opcode::Write::new(descriptor, rest.as_ptr(), rest.len() as u32)
            .offset(offset)
            .rw_flags(libc::RWF_DSYNC)
            .build(),
    };
    // SAFETY: the buffer is in its slot, untouched, until `on_done` has taken the completion; moving a `Transfer` does not
    // move what its vector points to. The descriptor is open, because the file is kept with it.
    unsafe { ring.push(&entry.user_data(tag(Operation::Blocks, slot))) };
}
