//! When which connection wants to be called: a heap with one entry per connection.

use std::time::Instant;

use crate::event::Handle;

/// Deadlines of connections. One that moves later is not told: the connection is asked again when the entry comes up, so
/// that a packet costs no work here unless it makes a deadline earlier. Each connection has one entry at most, so that
/// what a busy one leaves behind does not pile up.
#[derive(Default, Debug)]
pub(super) struct Timers {
    /// No entry is later than those at twice its place, plus 1 and plus 2.
    heap: Vec<(Instant, Handle)>,
    /// Where the entry of a slot is.
    places: Vec<Option<u32>>,
}

impl Timers {
    /// Sets the deadline of a connection, in place of the one that it had.
    pub(super) fn arm(&mut self, at: Instant, handle: Handle) {
        let slot = handle.index as usize;
        if self.places.len() <= slot {
            self.places.resize(slot + 1, None);
        }
        if let Some(place) = self.places[slot] {
            self.heap[place as usize] = (at, handle);
            self.mend(place as usize);
        } else {
            self.heap.push((at, handle));
            self.rise(self.heap.len() - 1);
        }
    }

    /// The connection is gone.
    pub(super) fn disarm(&mut self, handle: Handle) {
        if let Some(place) = self.places.get(handle.index as usize).copied().flatten() {
            self.remove(place as usize);
        }
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.heap.first().map(|(at, _)| *at)
    }

    pub(super) fn pop(&mut self, now: Instant) -> Option<Handle> {
        self.next().filter(|at| *at <= now)?;
        Some(self.remove(0))
    }

    fn remove(&mut self, place: usize) -> Handle {
        let (_, handle) = self.heap.swap_remove(place);
        self.places[handle.index as usize] = None;
        if place < self.heap.len() {
            self.mend(place);
        }
        handle
    }

    /// Moves the entry at a place where it belongs.
    fn mend(&mut self, place: usize) {
        let place = self.rise(place);
        self.sink(place);
    }

    fn rise(&mut self, mut place: usize) -> usize {
        while place > 0 && self.heap[place] < self.heap[(place - 1) / 2] {
            self.heap.swap(place, (place - 1) / 2);
            self.note(place);
            place = (place - 1) / 2;
        }
        self.note(place);
        place
    }

    fn sink(&mut self, mut place: usize) {
        loop {
            let children = 2 * place + 1..(2 * place + 3).min(self.heap.len());
            let Some(least) = children.min_by_key(|child| self.heap[*child]) else { break };
            if self.heap[place] <= self.heap[least] {
                break;
            }
            self.heap.swap(place, least);
            self.note(place);
            place = least;
        }
        self.note(place);
    }

    fn note(&mut self, place: usize) {
        self.places[self.heap[place].1.index as usize] = Some(place as u32);
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_earliest_comes_first_and_each_connection_once(
            steps in prop::collection::vec((0u32..12, 0u64..50, 0u8..4), 0..200),
        ) {
            let (start, mut timers, mut model) = (Instant::now(), Timers::default(), BTreeMap::new());
            for (index, ms, what) in steps {
                let (handle, at) = (Handle { index, generation: 0 }, start + Duration::from_millis(ms));
                match what {
                    0 => {
                        timers.disarm(handle);
                        model.remove(&handle);
                    }
                    1 => {
                        let due = model.iter().map(|(handle, at)| (*at, *handle)).min().filter(|(due, _)| *due <= at);
                        let due = due.map(|(_, handle)| handle);
                        prop_assert_eq!(timers.pop(at), due);
                        due.map(|handle| model.remove(&handle));
                    }
                    _ => {
                        timers.arm(at, handle);
                        model.insert(handle, at);
                    }
                }
                prop_assert_eq!(timers.next(), model.values().min().copied());
                prop_assert_eq!(timers.heap.len(), model.len());
            }
        }
    }
}
