//! What the application is to be told: each thing at most once until it was told.

use std::collections::VecDeque;

use crate::{frame::Direction, lane::limits::LaneEvent};

/// The queue. `Readable` and `Writable` are deduplicated by their streams, which happen at most once anyway otherwise.
#[derive(Default, Debug)]
pub(super) struct Events {
    queue: VecDeque<LaneEvent>,
    message: bool,
    datagram: bool,
    messages_writable: bool,
    streams: [bool; 2],
}

impl Events {
    pub(super) fn push(&mut self, event: LaneEvent) {
        let is_told = match event {
            LaneEvent::Message => &mut self.message,
            LaneEvent::Datagram => &mut self.datagram,
            LaneEvent::MessagesWritable => &mut self.messages_writable,
            LaneEvent::StreamsAvailable(direction) => &mut self.streams[direction.bit() as usize],
            _ => return self.queue.push_back(event),
        };
        if !std::mem::replace(is_told, true) {
            self.queue.push_back(event);
        }
    }

    pub(super) fn pop(&mut self) -> Option<LaneEvent> {
        let event = self.queue.pop_front()?;
        match event {
            LaneEvent::Message => self.message = false,
            LaneEvent::Datagram => self.datagram = false,
            LaneEvent::MessagesWritable => self.messages_writable = false,
            LaneEvent::StreamsAvailable(direction) => self.streams[direction.bit() as usize] = false,
            _ => {}
        }
        Some(event)
    }

    pub(super) fn trim(&mut self) {
        if self.queue.is_empty() {
            self.queue = VecDeque::new();
        }
    }
}

/// Both kinds of streams, in the order of their index.
pub(super) const DIRECTIONS: [Direction; 2] = [Direction::Bidirectional, Direction::Unidirectional];
