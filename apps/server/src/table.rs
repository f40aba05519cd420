//! The connections of a shard, by the slot of what carries them.

use handler::Peer;

use crate::{connection::Connection, line::Line};

/// Connections by slot. One may be taken out to be worked on, and is put back.
#[derive(Default)]
pub(crate) struct Table {
    /// By kind of line.
    slots: [Vec<Slot>; Line::KINDS],
    len: usize,
    /// Bytes queued on the connections that are not taken out.
    queued: usize,
}

#[derive(Default)]
struct Slot {
    connection: Option<Box<Connection>>,
    /// The line that the slot belongs to, even while its connection is taken out.
    owner: Option<Line>,
}

impl Table {
    /// How many connections there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Bytes that are queued on all connections; between turns, when none is taken out.
    pub(crate) fn queued(&self) -> usize {
        self.queued
    }

    /// Adds a connection.
    pub(crate) fn insert(&mut self, connection: Box<Connection>) {
        let line = connection.line;
        let (slots, index) = self.place(line);
        if slots.len() <= index {
            slots.resize_with(index + 1, Slot::default);
        }
        assert!(slots[index].owner.is_none(), "a line is closed before its slot is used again");
        let queued = connection.queued;
        slots[index] = Slot { connection: Some(connection), owner: Some(line) };
        self.len += 1;
        self.queued += queued;
    }

    /// Takes a connection out to work on it; none if it is gone, or taken out already.
    pub(crate) fn take(&mut self, line: Line) -> Option<Box<Connection>> {
        let (slots, index) = self.place(line);
        let slot = slots.get_mut(index)?;
        let connection = if slot.owner == Some(line) { slot.connection.take() } else { None }?;
        self.queued -= connection.queued;
        Some(connection)
    }

    /// The same by the apps' name.
    pub(crate) fn take_peer(&mut self, peer: Peer) -> Option<Box<Connection>> {
        let (kind, slot) = (peer.index as usize % Line::KINDS, peer.index as usize / Line::KINDS);
        let line = self.slots[kind].get(slot)?.owner?;
        if line.peer() == peer { self.take(line) } else { None }
    }

    /// Puts a connection back after [`Table::take`].
    pub(crate) fn put_back(&mut self, connection: Box<Connection>) {
        let (line, queued) = (connection.line, connection.queued);
        let (slots, index) = self.place(line);
        let slot = &mut slots[index];
        assert!(slot.connection.is_none() && slot.owner == Some(line), "put back what was taken");
        slot.connection = Some(connection);
        self.queued += queued;
    }

    /// Ends a slot's use; its connection was taken out.
    pub(crate) fn forget(&mut self, line: Line) {
        let (slots, index) = self.place(line);
        let slot = &mut slots[index];
        assert!(slot.connection.is_none() && slot.owner == Some(line), "forget what was taken");
        *slot = Slot::default();
        self.len -= 1;
    }

    /// Whether a line has a connection, taken out or not.
    pub(crate) fn has(&mut self, line: Line) -> bool {
        let (slots, index) = self.place(line);
        slots.get(index).is_some_and(|slot| slot.owner == Some(line))
    }

    /// Whether a connection has not said yet what it wants.
    pub(crate) fn is_half_open(&mut self, line: Line) -> bool {
        let (slots, index) = self.place(line);
        let slot = slots.get(index).filter(|slot| slot.owner == Some(line));
        slot.and_then(|slot| slot.connection.as_ref()).is_some_and(|connection| connection.half_open)
    }

    /// Every line that has a connection.
    pub(crate) fn lines(&self) -> Vec<Line> {
        self.slots.iter().flatten().filter_map(|slot| slot.owner).collect()
    }

    fn place(&mut self, line: Line) -> (&mut Vec<Slot>, usize) {
        let (kind, slot) = line.place();
        (&mut self.slots[kind], slot as usize)
    }
}
