//! The part of a packet that lanes fill: frames, and what is remembered of them.

use crate::{
    frame::Frame,
    item::{Item, Items},
};

/// Frames are appended up to a length of the packet.
pub(super) struct Payload<'a> {
    pub(super) out: &'a mut Vec<u8>,
    items: &'a mut Items,
    start: usize,
    end: usize,
}

impl<'a> Payload<'a> {
    /// At most `room` bytes behind what is there.
    pub(super) fn new(room: usize, out: &'a mut Vec<u8>, items: &'a mut Items) -> Self {
        let start = out.len();
        Self { out, items, start, end: start + room }
    }

    /// Bytes left.
    pub(super) fn room(&self) -> usize {
        self.end.saturating_sub(self.out.len())
    }

    /// Whether nothing was appended.
    pub(super) fn is_empty(&self) -> bool {
        self.out.len() == self.start
    }

    /// Remembers what a frame carried that was appended to `out`.
    pub(super) fn note(&mut self, item: Item) {
        self.items.push(item);
    }

    /// Appends a frame that was made sure to fit.
    pub(super) fn put(&mut self, frame: Frame<'_>, item: Item) {
        frame.encode(self.out);
        self.note(item);
    }
}
