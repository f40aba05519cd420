//! Bytes that wait to be sent on one stream, and the one send that is with the kernel.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};
use io_uring::{opcode, squeue, types};

/// Pieces that one send gathers. The kernel copies the vector on its own stack up to 8 and allocates beyond; at 32 the
/// cost of a send is spread well enough.
const GATHER_MAX: usize = 32;

/// Bytes that one send offers to the kernel: more than a socket's buffer usually takes is prepared in vain.
const SEND_BYTES_MAX: usize = 1 << 20;

/// Pieces that a pooled outbox keeps room for; a queue that grew beyond gives its memory back.
const QUEUE_KEPT: usize = 64;

/// Pieces below this are copied when their stream is behind. They are slices of chunks that many streams share, and one
/// that waits holds its whole chunk ([`crate::buffers::CHUNK_BYTES`]): a few hundred bytes for a reader that has stalled
/// would cost megabytes. From here on a piece holds at most 16 times its length. The pieces of the turn in which a stream
/// fell behind stay where they are: one chunk or two, less than the kernel's own buffer holds for the same reader.
const COPY_BELOW: usize = 4096;

/// Bytes of a block that such copies go to: at most half of it is left unused at its end. The first ones are shorter: a
/// thousand readers that stall and are told two lines more would take megabytes for them.
const BLOCK_BYTES: usize = 2 * COPY_BELOW;
const BLOCK_BYTES_MIN: usize = 256;

/// Outboxes that are kept for the next stream with something to send: as many as a turn can bring completions for. Each
/// may keep one block: 8 MiB per shard in all.
const POOL_MAX: usize = 1024;

/// What is queued on a stream. It is boxed and does not move while a send points into it.
pub(crate) struct Outbox {
    queue: VecDeque<Bytes>,
    // Copies that follow the queue. They join it with the next send, so that no byte moves while the kernel reads it.
    tail: BytesMut,
    // Bytes of the next block.
    block: usize,
    // A send was prepared and not all was taken yet. Readers that keep up are never behind, and get no copies: what the
    // kernel takes at once leaves the outbox before the reactor sends more.
    behind: bool,
    message: libc::msghdr,
    pieces: [libc::iovec; GATHER_MAX],
}

impl std::fmt::Debug for Outbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outbox").field("pieces", &self.queue.len()).finish_non_exhaustive()
    }
}

impl Outbox {
    fn new() -> Self {
        const NOTHING: libc::iovec = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        // SAFETY: a msghdr is plain numbers and pointers, for which all zeros mean "nothing".
        let message = unsafe { std::mem::zeroed() };
        Self {
            queue: VecDeque::with_capacity(4),
            tail: BytesMut::new(),
            block: BLOCK_BYTES_MIN,
            behind: false,
            message,
            pieces: [NOTHING; GATHER_MAX],
        }
    }

    pub(crate) fn push(&mut self, bytes: Bytes) {
        if !self.behind || bytes.len() >= COPY_BELOW {
            self.seal();
            return self.queue.push_back(bytes);
        }
        if self.tail.capacity() - self.tail.len() < bytes.len() {
            self.seal();
            // Takes the block again that is there, if nothing waits in it any more.
            self.tail.reserve(self.block.max(bytes.len()));
            self.block = (self.block * 2).min(BLOCK_BYTES);
        }
        self.tail.extend_from_slice(&bytes);
    }

    // Appends the copies to the queue.
    fn seal(&mut self) {
        if !self.tail.is_empty() {
            self.queue.push_back(self.tail.split().freeze());
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.tail.is_empty()
    }

    /// A send of as much as fits in one. Its memory is this outbox: it must not be dropped, moved or changed (except by
    /// [`Outbox::push`], which moves no byte of a piece) until the send has completed.
    pub(crate) fn prepare(&mut self, fd: types::Fd) -> squeue::Entry {
        self.seal();
        self.behind = true;
        if let [only] = self.queue.as_slices().0
            && self.queue.len() == 1
        {
            let len = only.len().min(SEND_BYTES_MAX) as u32;
            return opcode::Send::new(fd, only.as_ptr(), len).flags(libc::MSG_NOSIGNAL).build();
        }
        let (mut count, mut bytes) = (0, 0);
        for piece in self.queue.iter().take(GATHER_MAX) {
            self.pieces[count] = libc::iovec { iov_base: piece.as_ptr().cast_mut().cast(), iov_len: piece.len() };
            count += 1;
            bytes += piece.len();
            if bytes >= SEND_BYTES_MAX {
                break;
            }
        }
        self.message.msg_iov = self.pieces.as_mut_ptr();
        self.message.msg_iovlen = count;
        opcode::SendMsg::new(fd, &self.message).flags(libc::MSG_NOSIGNAL as u32).build()
    }

    /// The kernel took `count` bytes off the front.
    pub(crate) fn advance(&mut self, mut count: usize) {
        while count > 0 {
            let Some(front) = self.queue.front_mut() else {
                unreachable!("the kernel took more bytes than it was given");
            };
            if count < front.len() {
                front.advance(count);
                return;
            }
            count -= front.len();
            self.queue.pop_front();
        }
    }
}

/// Outboxes that are not in use, so that the next send allocates nothing.
#[derive(Default)]
pub(crate) struct Pool {
    // Boxed on purpose: an outbox must not move while a send points into it.
    #[allow(clippy::vec_box, reason = "the boxes move between the pool and the slots, their contents must not")]
    free: Vec<Box<Outbox>>,
}

impl Pool {
    pub(crate) fn take(&mut self) -> Box<Outbox> {
        self.free.pop().unwrap_or_else(|| Box::new(Outbox::new()))
    }

    pub(crate) fn give_back(&mut self, mut outbox: Box<Outbox>) {
        outbox.queue.clear();
        outbox.tail.clear();
        outbox.block = BLOCK_BYTES_MIN;
        outbox.behind = false;
        if self.free.len() < POOL_MAX && outbox.queue.capacity() <= QUEUE_KEPT {
            self.free.push(outbox);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffers::Arena;

    #[test]
    fn what_was_taken_leaves_the_front() {
        let mut outbox = Outbox::new();
        outbox.push(Bytes::from_static(b"hello "));
        outbox.push(Bytes::from_static(b"world"));
        outbox.advance(8);
        assert_eq!(outbox.queue.front().map(|b| &b[..]), Some(&b"rld"[..]));
        outbox.advance(3);
        assert!(outbox.is_empty());
    }

    // Sends 5,000 small frames, each out of a chunk that other streams fill, to a reader that takes nothing.
    fn stalled(arena: &mut Arena) -> Outbox {
        let mut outbox = Outbox::new();
        outbox.push(arena.copy(&[0; 50]));
        let _entry = outbox.prepare(types::Fd(-1));
        for n in 0..5_000u32 {
            outbox.push(arena.copy(&[n as u8; 50]));
            arena.copy(&[0; 5_000]);
        }
        outbox
    }

    #[test]
    fn a_stalled_reader_holds_its_own_bytes_and_not_the_chunks_of_all() {
        let mut arena = Arena::new();
        let outbox = stalled(&mut arena);
        // The one that is with the kernel, and the blocks.
        let short = (BLOCK_BYTES / BLOCK_BYTES_MIN).ilog2() as usize;
        assert!(outbox.queue.len() <= 2 + short + 5_000 * 50 / (BLOCK_BYTES - 50), "{} pieces", outbox.queue.len());
        let taken: usize = outbox.queue.iter().map(Bytes::len).sum();
        assert_eq!(taken + outbox.tail.len(), 50 + 5_000 * 50);
    }

    #[test]
    fn copies_and_shared_pieces_leave_in_order() {
        let mut outbox = Outbox::new();
        let mut expected = Vec::new();
        for n in 0..200usize {
            let piece = vec![n as u8; if n % 7 == 0 { COPY_BELOW + n } else { 3 * n + 1 }];
            expected.extend_from_slice(&piece);
            outbox.push(piece.into());
            if n % 40 == 0 {
                let _entry = outbox.prepare(types::Fd(-1));
            }
        }
        let mut left = Vec::new();
        while !outbox.is_empty() {
            let _entry = outbox.prepare(types::Fd(-1));
            let front = outbox.queue.front().cloned().unwrap_or_default();
            let count = front.len().min(1_000);
            left.extend_from_slice(&front[..count]);
            outbox.advance(count);
        }
        assert!(left == expected);
    }

    #[test]
    fn a_reader_that_keeps_up_gets_no_copy() {
        let mut pool = Pool::default();
        for _ in 0..3 {
            let mut outbox = pool.take();
            let shared = Bytes::from(vec![1; 100]);
            outbox.push(shared.clone());
            outbox.push(shared.clone());
            assert!(outbox.queue.iter().all(|piece| piece.as_ptr() == shared.as_ptr()));
            let _entry = outbox.prepare(types::Fd(-1));
            outbox.advance(200);
            assert!(outbox.is_empty());
            pool.give_back(outbox);
        }
    }

    #[test]
    fn a_block_is_used_again() {
        let mut pool = Pool::default();
        let mut blocks = std::collections::BTreeSet::new();
        for _ in 0..1_000 {
            let mut outbox = pool.take();
            outbox.push(Bytes::from_static(b"first"));
            let _entry = outbox.prepare(types::Fd(-1));
            outbox.push(Bytes::from(vec![2; 100]));
            outbox.advance(5);
            let _entry = outbox.prepare(types::Fd(-1));
            blocks.insert(outbox.queue[0].as_ptr() as usize / BLOCK_BYTES);
            outbox.advance(100);
            pool.give_back(outbox);
        }
        assert!(blocks.len() <= 2, "{} blocks", blocks.len());
    }

    #[test]
    fn who_is_told_little_more_holds_little() {
        let mut outbox = Outbox::new();
        outbox.push(Bytes::from_static(b"first"));
        let _entry = outbox.prepare(types::Fd(-1));
        outbox.push(Bytes::from(vec![1; 100]));
        outbox.push(Bytes::from(vec![2; 100]));
        assert!((200..=BLOCK_BYTES_MIN).contains(&outbox.tail.capacity()), "{} bytes", outbox.tail.capacity());
    }

    #[test]
    fn the_pool_keeps_no_grown_queue() {
        let mut pool = Pool::default();
        let mut outbox = pool.take();
        for _ in 0..1000 {
            outbox.push(Bytes::from_static(b"x"));
        }
        pool.give_back(outbox);
        assert!(pool.free.is_empty());
        let outbox = pool.take();
        pool.give_back(outbox);
        assert_eq!(pool.free.len(), 1);
    }
}
