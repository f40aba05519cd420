//! The table of streams: one small slot each, without heap memory while nothing is queued.

use std::io;

use io_uring::{squeue, types};

use crate::{
    outbox::Outbox,
    reactor::{Stream, StreamClose},
};

/// The end of the free list.
const NONE: u32 = u32::MAX;

/// An open socket: an entry of the ring's own table (which RLIMIT_NOFILE does not count), or a plain descriptor once
/// that table is full.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum File {
    None,
    Direct(u32),
    Plain(i32),
}

/// Makes an entry that was built for a plain descriptor use the file of a stream.
pub(crate) fn on_file(file: File, entry: squeue::Entry) -> squeue::Entry {
    match file {
        File::Direct(_) => entry.flags(squeue::Flags::FIXED_FILE),
        File::Plain(_) | File::None => entry,
    }
}

/// The number that goes in the descriptor's place.
pub(crate) fn number(file: File) -> types::Fd {
    match file {
        File::Direct(index) => types::Fd(index as i32),
        File::Plain(fd) => types::Fd(fd),
        File::None => types::Fd(-1),
    }
}

/// What is going on with a stream.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct State {
    /// A receive is with the kernel.
    pub(crate) receiving: bool,
    /// A send is with the kernel.
    pub(crate) sending: bool,
    /// It is looked after whether the kernel takes that send.
    pub(crate) offered: bool,
    /// The slot is in the list of those with something to send.
    pub(crate) dirty: bool,
    /// The reactor wants no more bytes for now.
    pub(crate) paused: bool,
    /// The peer has sent FIN.
    pub(crate) ended: bool,
    /// FIN goes out after what is queued.
    pub(crate) finishing: bool,
    /// The shutdown that sends FIN is with the kernel.
    pub(crate) shutting: bool,
    /// FIN has gone out.
    pub(crate) finished: bool,
    /// The connection that we asked for is not up yet.
    pub(crate) connecting: bool,
    /// The socket is being closed; nothing reaches the reactor any more except the end.
    pub(crate) closing: bool,
}

/// One stream, or a free place for one.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) outbox: Option<Box<Outbox>>,
    pub(crate) file: File,
    pub(crate) generation: u32,
    pub(crate) state: State,
    // Operations whose last completion is outstanding. The slot is not used again before it is 0.
    pub(crate) owed: u8,
    pub(crate) live: bool,
    pub(crate) reason: StreamClose,
    next_free: u32,
}

const _: () = assert!(size_of::<Slot>() <= 64, "an idle stream fits in a cache line");

/// All slots of a shard.
#[derive(Debug)]
pub(crate) struct Streams {
    slots: Vec<Slot>,
    free: u32,
    open: u32,
    open_max: u32,
    direct: u32,
}

impl Streams {
    pub(crate) fn new(open_max: u32) -> Self {
        Self { slots: Vec::new(), free: NONE, open: 0, open_max, direct: 0 }
    }

    /// How many are in the ring's own table.
    pub(crate) fn direct(&self) -> u32 {
        self.direct
    }

    pub(crate) fn open_max(&self) -> u32 {
        self.open_max
    }

    /// The stream's socket is another one from now on.
    pub(crate) fn set_file(&mut self, index: u32, file: File) {
        let old = std::mem::replace(&mut self.slots[index as usize].file, file);
        self.direct -= u32::from(matches!(old, File::Direct(_)));
        self.direct += u32::from(matches!(file, File::Direct(_)));
    }

    pub(crate) fn open(&self) -> u32 {
        self.open
    }

    pub(crate) fn is_full(&self) -> bool {
        self.open >= self.open_max
    }

    /// A slot for a new stream.
    pub(crate) fn insert(&mut self, file: File) -> u32 {
        let index = self.take_slot();
        self.open += 1;
        self.set_file(index, file);
        let slot = &mut self.slots[index as usize];
        slot.state = State::default();
        slot.live = true;
        slot.reason = StreamClose::Local;
        index
    }

    fn take_slot(&mut self) -> u32 {
        if self.free == NONE {
            self.slots.push(Slot {
                outbox: None,
                file: File::None,
                generation: 0,
                state: State::default(),
                owed: 0,
                live: false,
                reason: StreamClose::Local,
                next_free: NONE,
            });
            return (self.slots.len() - 1) as u32;
        }
        let index = self.free;
        self.free = self.slots[index as usize].next_free;
        index
    }

    /// Makes the slot free for the next stream; handles of this one are stale from now on.
    pub(crate) fn remove(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        assert!(slot.live && slot.owed == 0, "a slot with operations under way must not be used again");
        slot.live = false;
        slot.generation = slot.generation.wrapping_add(1);
        slot.next_free = self.free;
        self.free = index;
        self.open -= 1;
        self.set_file(index, File::None);
    }

    /// The slot that a completion names.
    pub(crate) fn slot(&mut self, index: u32) -> &mut Slot {
        &mut self.slots[index as usize]
    }

    /// The slot of a handle, if its stream is still open.
    pub(crate) fn find(&mut self, stream: Stream) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(stream.index as usize)?;
        let open = slot.live && slot.generation == stream.generation && !slot.state.closing;
        open.then_some(slot)
    }

    /// The handle of the stream in a slot.
    pub(crate) fn handle(&self, index: u32) -> Stream {
        Stream { index, generation: self.slots[index as usize].generation }
    }
}

/// What an error on a socket means for its stream.
pub(crate) fn close_reason(error: &io::Error) -> StreamClose {
    match error.raw_os_error() {
        Some(libc::ECONNRESET | libc::EPIPE | libc::ENOTCONN) => StreamClose::Reset,
        _ => StreamClose::Failed(error.kind()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_handle_finds_nothing_and_slots_stay_dense() {
        let mut streams = Streams::new(2);
        let a = streams.insert(File::Direct(9));
        let first = streams.handle(a);
        let b = streams.insert(File::Plain(5));
        assert!(streams.is_full());
        streams.remove(a);
        assert!(streams.find(first).is_none());
        let c = streams.insert(File::Direct(9));
        assert_eq!((a, b, c), (0, 1, 0));
        assert!(streams.find(first).is_none());
        let second = streams.handle(c);
        assert!(streams.find(second).is_some());
        streams.slot(c).state.closing = true;
        assert!(streams.find(second).is_none());
    }
}
