//! The bytes that wait to be sent: small ones gathered, large ones by reference.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// Pieces up to this size are copied behind their head, so that a small answer leaves as one piece.
const COPY_MAX: usize = 2 * 1024;

/// A queue that costs nothing while it is empty: its buffers are given back.
#[derive(Debug, Default)]
pub(crate) struct Output {
    pieces: VecDeque<Bytes>,
    tail: BytesMut,
    len: usize,
}

impl Output {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Room for a head and its body, so that writing them piece by piece allocates once.
    pub(crate) fn reserve(&mut self, head: usize, body: usize) {
        self.tail.reserve(head + if body <= COPY_MAX { body } else { 0 });
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.tail.extend_from_slice(bytes);
        self.len += bytes.len();
    }

    pub(crate) fn push(&mut self, bytes: Bytes) {
        if bytes.len() <= COPY_MAX {
            return self.write(&bytes);
        }
        if !self.tail.is_empty() {
            self.pieces.push_back(self.tail.split().freeze());
        }
        self.len += bytes.len();
        self.pieces.push_back(bytes);
    }

    /// The next piece, at most `max` bytes of it, without a copy.
    pub(crate) fn take(&mut self, max: usize) -> Option<Bytes> {
        if self.is_empty() || max == 0 {
            return None;
        }
        let piece = match self.pieces.front_mut() {
            Some(front) if front.len() > max => front.split_to(max),
            Some(_) => self.pieces.pop_front()?,
            None => self.tail.split_to(max.min(self.tail.len())).freeze(),
        };
        self.len -= piece.len();
        if self.is_empty() {
            self.clear();
        }
        Some(piece)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_come_out_in_order_and_within_the_bound() {
        let mut output = Output::default();
        let large = Bytes::from(vec![b'L'; COPY_MAX * 3]);
        output.write(b"head");
        output.push(large.clone());
        output.push(Bytes::from_static(b"small"));
        output.write(b"tail");
        let mut expected = b"head".to_vec();
        expected.extend_from_slice(&large);
        expected.extend_from_slice(b"smalltail");
        assert_eq!(output.len(), expected.len());
        let mut got = Vec::new();
        while let Some(piece) = output.take(1000) {
            assert!((1..=1000).contains(&piece.len()));
            got.extend_from_slice(&piece);
        }
        assert_eq!(got, expected);
        assert_eq!(output.pieces.capacity() + output.tail.capacity(), 0);
    }
}
