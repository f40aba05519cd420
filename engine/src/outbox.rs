//! Bytes that wait to be sent on one stream, and the one send that is with the kernel.

use std::collections::VecDeque;

use bytes::{Buf, Bytes};
use io_uring::{opcode, squeue, types};

/// Pieces that one send gathers. The kernel copies the vector on its own stack up to 8 and allocates beyond; at 32 the
/// cost of a send is spread well enough.
const GATHER_MAX: usize = 32;

/// Bytes that one send offers to the kernel: more than a socket's buffer usually takes is prepared in vain.
const SEND_BYTES_MAX: usize = 1 << 20;

/// Pieces that a pooled outbox keeps room for; a queue that grew beyond gives its memory back.
const QUEUE_KEPT: usize = 64;

/// Outboxes that are kept for the next stream with something to send: as many as a turn can bring completions for.
const POOL_MAX: usize = 1024;

/// What is queued on a stream. It is boxed and does not move while a send points into it.
pub(crate) struct Outbox {
    queue: VecDeque<Bytes>,
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
        Self { queue: VecDeque::with_capacity(4), message, pieces: [NOTHING; GATHER_MAX] }
    }

    pub(crate) fn push(&mut self, bytes: Bytes) {
        self.queue.push_back(bytes);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// A send of as much as fits in one. Its memory is this outbox: it must not be dropped, moved or changed (except by
    /// [`Outbox::push`], which moves no byte of a piece) until the send has completed.
    pub(crate) fn prepare(&mut self, fd: types::Fd) -> squeue::Entry {
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
        if self.free.len() < POOL_MAX && outbox.queue.capacity() <= QUEUE_KEPT {
            self.free.push(outbox);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
