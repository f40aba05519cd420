//! The engine's arena as apps see it: a place that copies bytes into shared memory.

use bytes::Bytes;
use engine::Arena;
use handler::Copier;

/// Copies into an arena.
#[derive(Debug)]
pub(crate) struct Copies<'a>(pub(crate) &'a mut Arena);

impl Copier for Copies<'_> {
    fn copy(&mut self, bytes: &[u8]) -> Bytes {
        self.0.copy(bytes)
    }
}
