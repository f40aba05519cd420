//! Memory of small messages and datagrams that are handed to the application: many share a buffer, which is used again
//! when the application has let go of all of them.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// Bytes of a buffer: what arrives in a few packets. Whoever keeps one message keeps the whole buffer, which
/// `Connection::recv_message` says. A copy of the small ones would be an allocation for each.
const BUFFER_BYTES: usize = 8 * 1024;

/// Longer ones have memory of their own. What came in one packet is not longer.
const SHARED_MAX: usize = 2 * 1024;
const _: () = assert!(BUFFER_BYTES == 8 * 1024 && SHARED_MAX == 2 * 1024, "as `Connection::recv_message` says");

/// Used up buffers whose return is waited for: as much as a long train brings before the application looks.
const SPENT_MAX: usize = 16;

/// The buffers.
#[derive(Default, Debug)]
pub(super) struct Pool(Option<Box<Buffers>>);

#[derive(Debug)]
struct Buffers {
    current: BytesMut,
    /// The longest used up first.
    spent: VecDeque<BytesMut>,
}

impl Pool {
    /// A copy of `data`.
    pub(super) fn copy(&mut self, data: &[u8]) -> Bytes {
        if data.len() > SHARED_MAX {
            return Bytes::copy_from_slice(data);
        }
        let buffers = self.0.get_or_insert_with(|| {
            Box::new(Buffers { current: BytesMut::with_capacity(BUFFER_BYTES), spent: VecDeque::new() })
        });
        if buffers.current.capacity() < data.len() {
            buffers.next();
        }
        buffers.current.extend_from_slice(data);
        buffers.current.split().freeze()
    }

    /// Gives idle memory back.
    pub(super) fn trim(&mut self) {
        self.0 = None;
    }
}

impl Buffers {
    fn next(&mut self) {
        if self.current.try_reclaim(BUFFER_BYTES) {
            return;
        }
        let is_free = self.spent.front_mut().is_some_and(|oldest| oldest.try_reclaim(BUFFER_BYTES));
        let free = if is_free { self.spent.pop_front() } else { None };
        let fresh = free.unwrap_or_else(|| BytesMut::with_capacity(BUFFER_BYTES));
        let spent = std::mem::replace(&mut self.current, fresh);
        if self.spent.len() == SPENT_MAX {
            // One of its messages is kept for long: it will not come back soon.
            self.spent.pop_front();
        }
        self.spent.push_back(spent);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_come_back_when_their_last_message_is_gone() {
        let mut pool = Pool::default();
        let mut held = VecDeque::new();
        let mut seen = std::collections::BTreeSet::new();
        for round in 0..10_000u32 {
            let message = pool.copy(&round.to_be_bytes().repeat(50));
            seen.insert(message.as_ptr() as usize / BUFFER_BYTES);
            held.push_back((round, message));
            if held.len() > 100 {
                let (round, message) = held.pop_front().expect("a message");
                assert_eq!(message, round.to_be_bytes().repeat(50));
            }
        }
        assert!(seen.len() <= 2 * (SPENT_MAX + 1), "{} places", seen.len());
    }

    #[test]
    fn a_message_that_is_kept_stays_as_it_is() {
        let mut pool = Pool::default();
        let kept: Vec<_> = (0..100u8).map(|first| (first, pool.copy(&[first; 1_000]))).collect();
        (0..1_000).for_each(|_| drop(pool.copy(&[255; 1_000])));
        assert!(kept.iter().all(|(first, message)| message == &[*first; 1_000][..]));
        assert_eq!(pool.copy(&[]), Bytes::new());
        assert_eq!(pool.copy(&[1; 3_000]).len(), 3_000);
    }
}
