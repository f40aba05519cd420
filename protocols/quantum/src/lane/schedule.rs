//! Who sends next: strict priority between eight levels, round robin within one, and what was lost before what is new.

use std::collections::VecDeque;

use crate::{
    frame::StreamId,
    lane::{limits::PRIORITY_MAX, send::Class},
};

/// Something that has data to send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Lane {
    Stream(StreamId),
    Channel(u64),
    Datagrams,
}

/// A queue: a priority, and within it first what was lost, then what is new.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Slot(u8);

const SLOTS: usize = 2 * (PRIORITY_MAX as usize + 1);

impl Slot {
    pub(super) fn new(priority: u8, class: Class) -> Self {
        Self(priority << 1 | u8::from(class == Class::Fresh))
    }

    pub(super) fn class(self) -> Class {
        if self.0 & 1 == 0 { Class::Lost } else { Class::Fresh }
    }
}

/// All lanes that have something to send. Each is named at most once per class: its owner keeps the books.
#[derive(Default, Debug)]
pub(super) struct Schedule {
    /// Given back while there is nothing to send for long.
    queues: Option<Box<[VecDeque<Lane>; SLOTS]>>,
    /// A bit for each queue that is not empty.
    busy: u16,
}

impl Schedule {
    /// Whether nobody has anything to send.
    pub(super) fn is_empty(&self) -> bool {
        self.busy == 0
    }

    /// The first queue from `from` on, or behind it, that is not empty.
    pub(super) fn next(&self, from: Option<Slot>) -> Option<Slot> {
        let passed = from.map_or(0, |slot| u32::from(slot.0) + 1);
        let left = u32::from(self.busy) >> passed << passed;
        (left != 0).then(|| Slot(left.trailing_zeros() as u8))
    }

    /// The lane at a place of a queue.
    pub(super) fn get(&self, slot: Slot, at: usize) -> Option<Lane> {
        self.queues.as_ref()?[usize::from(slot.0)].get(at).copied()
    }

    pub(super) fn push(&mut self, slot: Slot, lane: Lane) {
        self.queues.get_or_insert_default()[usize::from(slot.0)].push_back(lane);
        self.busy |= 1 << slot.0;
    }

    /// Takes a lane out, wherever in the queue it is.
    pub(super) fn remove(&mut self, slot: Slot, lane: Lane) {
        let queue = self.queues.as_ref().map(|queues| &queues[usize::from(slot.0)]);
        if let Some(at) = queue.and_then(|queue| queue.iter().position(|other| *other == lane)) {
            self.remove_at(slot, at);
        }
    }

    /// Takes the lane at a place of a queue out.
    pub(super) fn remove_at(&mut self, slot: Slot, at: usize) {
        if let Some(queues) = &mut self.queues {
            let queue = &mut queues[usize::from(slot.0)];
            queue.remove(at);
            if queue.is_empty() {
                self.busy &= !(1 << slot.0);
            }
        }
    }

    /// The lane at a place had its turn, and goes to the end.
    pub(super) fn rotate(&mut self, slot: Slot, at: usize) {
        if let Some(queues) = &mut self.queues {
            let queue = &mut queues[usize::from(slot.0)];
            if at + 1 < queue.len()
                && let Some(lane) = queue.remove(at)
            {
                queue.push_back(lane);
            }
        }
    }

    /// Takes out all streams with something new.
    pub(super) fn take_fresh_streams(&mut self) -> Vec<StreamId> {
        let mut streams = Vec::new();
        for (at, queue) in self.queues.iter_mut().flat_map(|queues| queues.iter_mut().enumerate()) {
            if Slot(at as u8).class() == Class::Lost {
                continue;
            }
            queue.retain(|lane| match lane {
                Lane::Stream(id) => {
                    streams.push(*id);
                    false
                }
                Lane::Channel(_) | Lane::Datagrams => true,
            });
            if queue.is_empty() {
                self.busy &= !(1 << at);
            }
        }
        streams
    }

    /// Gives the memory back when nobody is named.
    pub(super) fn trim(&mut self) {
        if self.is_empty() {
            self.queues = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_goes_first_within_a_priority_and_priorities_are_strict() {
        let mut schedule = Schedule::default();
        let (high, low) = (Slot::new(2, Class::Fresh), Slot::new(4, Class::Lost));
        schedule.push(Slot::new(4, Class::Fresh), Lane::Datagrams);
        schedule.push(low, Lane::Channel(1));
        schedule.push(high, Lane::Channel(2));
        assert_eq!(schedule.next(None), Some(high));
        assert_eq!(schedule.next(Some(high)), Some(low));
        assert_eq!(schedule.next(Some(low)), Some(Slot::new(4, Class::Fresh)));
        assert_eq!(schedule.next(Some(Slot::new(7, Class::Fresh))), None);
        schedule.remove(high, Lane::Channel(2));
        assert_eq!(schedule.next(None), Some(low));
    }

    #[test]
    fn turns_go_round() {
        let mut schedule = Schedule::default();
        let slot = Slot::new(0, Class::Fresh);
        (0..3).for_each(|channel| schedule.push(slot, Lane::Channel(channel)));
        schedule.rotate(slot, 0);
        assert_eq!(schedule.get(slot, 0), Some(Lane::Channel(1)));
        assert_eq!(schedule.get(slot, 2), Some(Lane::Channel(0)));
        schedule.rotate(slot, 1);
        assert_eq!(schedule.get(slot, 2), Some(Lane::Channel(2)));
    }
}
