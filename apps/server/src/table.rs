//! The connections of a shard, by the slot of their stream.

use engine::Stream;

use crate::connection::Connection;

/// Connections by slot. One may be taken out to be worked on, and is put back.
#[derive(Default)]
pub(crate) struct Table {
    slots: Vec<Slot>,
    len: usize,
    /// Bytes queued on the connections that are not taken out.
    queued: usize,
}

#[derive(Default)]
struct Slot {
    connection: Option<Box<Connection>>,
    /// The stream that the slot belongs to, even while its connection is taken out.
    owner: Option<Stream>,
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
        let stream = connection.stream;
        let index = stream.index as usize;
        if self.slots.len() <= index {
            self.slots.resize_with(index + 1, Slot::default);
        }
        assert!(self.slots[index].owner.is_none(), "the engine closes a stream before it uses its slot again");
        self.slots[index] = Slot { connection: Some(connection), owner: Some(stream) };
        self.len += 1;
        self.queued += self.slots[index].connection.as_ref().map_or(0, |connection| connection.queued);
    }

    /// Takes a connection out to work on it; none if it is gone, or taken out already.
    pub(crate) fn take(&mut self, stream: Stream) -> Option<Box<Connection>> {
        let slot = self.slots.get_mut(stream.index as usize)?;
        let connection = if slot.owner == Some(stream) { slot.connection.take() } else { None }?;
        self.queued -= connection.queued;
        Some(connection)
    }

    /// Puts a connection back after [`Table::take`].
    pub(crate) fn put_back(&mut self, connection: Box<Connection>) {
        let slot = &mut self.slots[connection.stream.index as usize];
        assert!(slot.connection.is_none() && slot.owner == Some(connection.stream), "put back what was taken");
        self.queued += connection.queued;
        slot.connection = Some(connection);
    }

    /// Ends a slot's use; its connection was taken out.
    pub(crate) fn forget(&mut self, stream: Stream) {
        let slot = &mut self.slots[stream.index as usize];
        assert!(slot.connection.is_none() && slot.owner == Some(stream), "forget what was taken");
        *slot = Slot::default();
        self.len -= 1;
    }

    /// Whether a connection has not said yet what it wants.
    pub(crate) fn is_half_open(&self, stream: Stream) -> bool {
        let slot = self.slots.get(stream.index as usize).filter(|slot| slot.owner == Some(stream));
        slot.and_then(|slot| slot.connection.as_ref()).is_some_and(|connection| connection.half_open)
    }

    /// Every stream that has a connection.
    pub(crate) fn streams(&self) -> Vec<Stream> {
        self.slots.iter().filter_map(|slot| slot.owner).collect()
    }
}
