//! What one stream has to send: a queue with a bound, whose front the transport takes as it can.

use std::collections::VecDeque;

use bytes::Bytes;

/// How far the message on the stream has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Stage {
    /// No final head was sent.
    #[default]
    Head,
    /// Bytes may be sent.
    Body,
    /// The end is queued.
    Ended,
    /// The end was handed to the transport, or this side was given up.
    Done,
}

#[derive(Debug, Default)]
pub(crate) struct Outbox {
    pieces: VecDeque<Bytes>,
    len: usize,
    pub(crate) stage: Stage,
    /// The transport took not all of the last piece.
    blocked: bool,
    /// It stands in the connection's list of streams that have something to send.
    listed: bool,
    /// The app was refused for want of room, and waits to be told.
    asked: bool,
}

impl Outbox {
    /// The outbox of a stream that only the peer sends on.
    pub(crate) fn none() -> Self {
        Self { stage: Stage::Done, ..Self::default() }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn push(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.len += piece.len();
            self.pieces.push_back(piece);
        }
    }

    /// Queues the end.
    pub(crate) fn end(&mut self) {
        if self.stage != Stage::Done {
            self.stage = Stage::Ended;
        }
    }

    /// Drops all. `false`: there was nothing left to give up.
    pub(crate) fn give_up(&mut self) -> bool {
        let open = self.stage != Stage::Done;
        *self = Self { listed: self.listed, ..Self::none() };
        open
    }

    pub(crate) fn is_done(&self) -> bool {
        self.stage == Stage::Done
    }

    /// Whether it is to be put into the list of streams that have something to send; it counts as there then.
    pub(crate) fn list(&mut self) -> bool {
        let has = !self.pieces.is_empty() || self.stage == Stage::Ended;
        has && !self.blocked && !std::mem::replace(&mut self.listed, true)
    }

    /// The next piece, and whether it is the last. `None` takes it off the list.
    pub(crate) fn take(&mut self) -> Option<(Bytes, bool)> {
        let piece = match self.blocked {
            true => None,
            false => self.pieces.pop_front().or_else(|| (self.stage == Stage::Ended).then(Bytes::new)),
        };
        let Some(piece) = piece else {
            self.listed = false;
            return None;
        };
        self.len -= piece.len();
        let fin = self.stage == Stage::Ended && self.pieces.is_empty();
        if fin {
            self.stage = Stage::Done;
        }
        Some((piece, fin))
    }

    /// The transport gave back what it did not take of the last piece.
    pub(crate) fn put_back(&mut self, rest: Bytes, fin: bool) {
        self.blocked = true;
        if fin {
            self.stage = Stage::Ended;
        }
        if !rest.is_empty() {
            self.len += rest.len();
            self.pieces.push_front(rest);
        }
    }

    /// The transport takes again.
    pub(crate) fn unblock(&mut self) {
        self.blocked = false;
    }

    /// Whether there is room below `max`; if not, the app is told once half of it is free.
    pub(crate) fn has_room(&mut self, max: u32) -> bool {
        let room = self.len < max as usize;
        self.asked |= !room;
        room
    }

    /// Whether the app waits for room, and there is enough.
    pub(crate) fn tell_room(&mut self, max: u32) -> bool {
        self.asked && self.len <= max as usize / 2 && std::mem::take(&mut self.asked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_leave_in_order_and_what_is_put_back_leaves_first() {
        let mut outbox = Outbox::default();
        outbox.push(Bytes::from_static(b"one"));
        outbox.push(Bytes::from_static(b"two"));
        outbox.end();
        assert!(outbox.list() && !outbox.list());
        assert_eq!(outbox.take(), Some((Bytes::from_static(b"one"), false)));
        outbox.put_back(Bytes::from_static(b"ne"), false);
        assert_eq!((outbox.take(), outbox.list(), outbox.len()), (None, false, 5));
        outbox.unblock();
        assert!(outbox.list());
        assert_eq!(outbox.take(), Some((Bytes::from_static(b"ne"), false)));
        assert_eq!(outbox.take(), Some((Bytes::from_static(b"two"), true)));
        outbox.put_back(Bytes::new(), true);
        outbox.unblock();
        assert_eq!(outbox.take(), Some((Bytes::new(), true)));
        assert_eq!((outbox.take(), outbox.is_done()), (None, true));
    }

    #[test]
    fn the_app_is_told_of_room_once() {
        let mut outbox = Outbox::default();
        outbox.push(Bytes::from_static(b"0123456789"));
        assert!(outbox.has_room(11) && !outbox.tell_room(11));
        assert!(!outbox.has_room(10) && !outbox.tell_room(10));
        outbox.take();
        assert!(outbox.tell_room(10) && !outbox.tell_room(10));
    }
}
