//! Streams that wait for something, first come first served: 8 bytes while there are none.

use std::collections::VecDeque;

use crate::frame::StreamId;

/// The list.
#[derive(Default, Debug)]
#[allow(clippy::box_collection, reason = "a million idle connections have three each, empty")]
pub(super) struct Waitlist(Option<Box<VecDeque<StreamId>>>);

impl Waitlist {
    pub(super) fn is_empty(&self) -> bool {
        self.0.as_ref().is_none_or(|list| list.is_empty())
    }

    pub(super) fn push(&mut self, id: StreamId) {
        self.0.get_or_insert_default().push_back(id);
    }

    /// Puts a stream where it is next.
    pub(super) fn push_front(&mut self, id: StreamId) {
        self.0.get_or_insert_default().push_front(id);
    }

    pub(super) fn pop(&mut self) -> Option<StreamId> {
        self.0.as_mut()?.pop_front()
    }

    pub(super) fn remove(&mut self, id: StreamId) {
        if let Some(list) = &mut self.0 {
            list.retain(|other| *other != id);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |list| list.len())
    }

    /// Gives idle memory back.
    pub(super) fn trim(&mut self) {
        if self.is_empty() {
            self.0 = None;
        }
    }
}
