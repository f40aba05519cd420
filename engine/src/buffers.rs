//! Memory for outgoing bytes: shared slices out of pooled chunks, without an allocation per message.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// Bytes of a chunk. 64 KiB hold some hundred small frames, so a chunk's turn-over costs little.
pub(crate) const CHUNK_BYTES: usize = 64 * 1024;

/// Chunks that wait until their last slice is dropped. Beyond it the oldest is left to its readers and freed by them.
pub(crate) const RETIRED_MAX: usize = 64;

/// Builds [`Bytes`] one after the other in pooled chunks. A chunk is used again once all its slices are gone.
#[derive(Debug, Default)]
pub struct Arena {
    current: BytesMut,
    retired: VecDeque<BytesMut>,
}

impl Arena {
    /// An arena that holds no memory yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Copies `bytes` into shared memory.
    pub fn copy(&mut self, bytes: &[u8]) -> Bytes {
        self.build(bytes.len(), |buffer| buffer.extend_from_slice(bytes))
    }

    /// Shared memory of what `write` appends; `hint` is how much that will be, roughly.
    pub fn build(&mut self, hint: usize, write: impl FnOnce(&mut BytesMut)) -> Bytes {
        self.reserve(hint);
        debug_assert!(self.current.is_empty(), "somebody left bytes in the arena");
        write(&mut self.current);
        self.current.split().freeze()
    }

    pub(crate) fn fits(&self, len: usize) -> bool {
        self.current.capacity() - self.current.len() >= len
    }

    pub(crate) fn extend(&mut self, bytes: &[u8]) {
        self.current.extend_from_slice(bytes);
    }

    pub(crate) fn take(&mut self, len: usize) -> Bytes {
        assert_eq!(len, self.current.len(), "the open send owns all unsplit bytes");
        self.current.split().freeze()
    }

    /// Makes room for `len` bytes in one chunk: the current one, one that is free again, or a new one.
    pub(crate) fn reserve(&mut self, len: usize) {
        if self.fits(len) {
            return;
        }
        let wanted = len.max(CHUNK_BYTES);
        let spent = std::mem::take(&mut self.current);
        self.retired.push_back(spent);
        let free = self.retired.iter_mut().position(|chunk| chunk.try_reclaim(wanted));
        self.current = match free {
            Some(at) => self.retired.remove(at).unwrap_or_default(),
            None => BytesMut::with_capacity(wanted),
        };
        while self.retired.len() > RETIRED_MAX {
            self.retired.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_is_used_again_once_its_slices_are_gone() {
        let mut arena = Arena::new();
        let mut addresses = std::collections::BTreeSet::new();
        for _ in 0..10_000 {
            let bytes = arena.copy(&[1; 1000]);
            addresses.insert(bytes.as_ptr() as usize / CHUNK_BYTES);
        }
        assert!(addresses.len() <= 4, "{} chunks for one live slice at a time", addresses.len());
    }

    #[test]
    fn a_slice_larger_than_a_chunk_is_whole() {
        let mut arena = Arena::new();
        assert_eq!(arena.copy(&vec![5; CHUNK_BYTES * 3]).len(), CHUNK_BYTES * 3);
        assert_eq!(arena.copy(b"small"), "small");
    }
}
