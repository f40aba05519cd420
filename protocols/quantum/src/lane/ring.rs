//! A ring of bytes that grows: out-of-order bytes are put where they belong, in-order bytes leave at the front.

/// The smallest ring: a packet and a half.
const SMALLEST: usize = 2048;

/// The ring. It does not know which of its bytes were written.
#[derive(Default, Debug)]
pub(super) struct Ring {
    bytes: Vec<u8>,
    /// Where the front is.
    head: usize,
}

impl Ring {
    /// Bytes on the heap.
    pub(super) fn capacity(&self) -> usize {
        self.bytes.len()
    }

    /// Makes room for `needed` bytes behind the front, `kept` of which are there; never more than `most`.
    pub(super) fn reserve(&mut self, needed: usize, kept: usize, most: usize) {
        if needed <= self.bytes.len() {
            return;
        }
        assert!(needed <= most, "flow control bounds what a stream holds");
        let mut bytes = vec![0; needed.next_power_of_two().max(SMALLEST).min(most)];
        let (front, back) = self.slices(kept.min(self.bytes.len()));
        bytes[..front.len()].copy_from_slice(front);
        bytes[front.len()..front.len() + back.len()].copy_from_slice(back);
        (self.bytes, self.head) = (bytes, 0);
    }

    /// Puts bytes `at` behind the front.
    pub(super) fn put(&mut self, at: usize, data: &[u8]) {
        let from = self.index(at);
        let (first, second) = data.split_at(data.len().min(self.bytes.len() - from));
        self.bytes[from..from + first.len()].copy_from_slice(first);
        self.bytes[..second.len()].copy_from_slice(second);
    }

    /// The first `len` bytes, or as many of them as lie in one piece.
    pub(super) fn front(&self, len: usize) -> &[u8] {
        self.slices(len).0
    }

    /// Drops `len` bytes at the front.
    pub(super) fn advance(&mut self, len: usize) {
        self.head = self.index(len);
    }

    /// Starts over at the beginning, where the longest piece is.
    pub(super) fn rewind(&mut self) {
        self.head = 0;
    }

    fn index(&self, at: usize) -> usize {
        let index = self.head + at;
        if index >= self.bytes.len() { index - self.bytes.len() } else { index }
    }

    fn slices(&self, len: usize) -> (&[u8], &[u8]) {
        let first = len.min(self.bytes.len() - self.head);
        (&self.bytes[self.head..self.head + first], &self.bytes[..len - first])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_wrap_and_survive_growth() {
        let mut ring = Ring::default();
        ring.reserve(100, 0, 10_000);
        assert_eq!(ring.capacity(), SMALLEST);
        ring.advance(2000);
        ring.put(0, &[1; 40]);
        ring.put(40, &[2; 60]);
        assert_eq!(ring.front(100), [&[1; 40][..], &[2; 8][..]].concat());
        ring.reserve(5000, 100, 5000);
        assert_eq!(ring.capacity(), 5000, "never beyond the window");
        assert_eq!(ring.front(100), [&[1; 40][..], &[2; 60][..]].concat());
    }
}
