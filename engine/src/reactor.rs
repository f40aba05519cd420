//! What the engine calls: the trait `Reactor`, and the handles and events it is called with.

use std::{fmt, io, net::SocketAddr};

use bytes::Bytes;

use crate::io::{FileId, Io};

/// What a shard is: `on_*` in, a queue of effects out. Nothing in it may block, read a clock or touch a socket.
pub trait Reactor {
    /// What shards send each other, moved by value through bounded mailboxes.
    type Mail: Send + 'static;

    /// The shard is up and its sockets are listening; called once, before everything else.
    fn on_start(&mut self, _io: &mut Io<Self::Mail>) {}
    /// A train of datagrams from one sender arrived on `socket`.
    fn on_datagrams(&mut self, io: &mut Io<Self::Mail>, socket: Socket, train: Datagrams<'_>);
    /// Something happened to `stream`.
    fn on_stream(&mut self, io: &mut Io<Self::Mail>, stream: Stream, event: StreamEvent<'_>);
    /// A disk operation ended.
    fn on_disk(&mut self, io: &mut Io<Self::Mail>, ticket: Ticket, outcome: Outcome);
    /// Another shard, or the control thread ([`ShardId::CONTROL`]), sent mail. Mail of one sender arrives in order.
    fn on_mail(&mut self, io: &mut Io<Self::Mail>, from: ShardId, mail: Self::Mail);
    /// The turn is over: drain the cores, set the next deadline with [`Io::wake_at`].
    fn on_turn_end(&mut self, io: &mut Io<Self::Mail>);
}

/// One shard, counted from 0 without holes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ShardId(pub u16);

impl ShardId {
    /// The control thread: not a shard, but a party that shards exchange mail with.
    pub const CONTROL: ShardId = ShardId(u16::MAX);

    /// As an index into a table of shards.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::CONTROL { f.write_str("control") } else { self.0.fmt(f) }
    }
}

/// A listening TCP address, numbered in the order of the configuration; every shard has one of each.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Listener(pub u16);

/// A bound UDP address, numbered in the order of the configuration; every shard has one of each.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Socket(pub u16);

/// A TCP connection of one shard: a slot and the generation of its use, so that a stale handle never hits a new stream.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Stream {
    /// The slot, dense and small: good as an index into a table.
    pub index: u32,
    /// Counts the uses of the slot.
    pub generation: u32,
}

/// A pending disk operation, named by the reactor.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Ticket(pub u64);

/// What happened to a stream. The first event of a stream is `Accepted` or `Connected`, the last is `Closed`.
#[derive(Debug)]
pub enum StreamEvent<'a> {
    /// A client connected to `listener`.
    Accepted {
        /// Which of the configured addresses.
        listener: Listener,
        /// The client's address.
        peer: SocketAddr,
    },
    /// The connection that [`Io::connect`] asked for is up.
    Connected {
        /// The token given to [`Io::connect`].
        token: u64,
    },
    /// The connection that [`Io::connect`] asked for failed; the handle is dead and no `Closed` follows.
    ConnectFailed {
        /// The token given to [`Io::connect`].
        token: u64,
        /// Why.
        error: io::ErrorKind,
    },
    /// Bytes arrived. They are the reactor's to scribble on until it returns.
    Data(&'a mut [u8]),
    /// The kernel took this many bytes of what was queued by [`Io::send`]; every queued byte is reported once.
    Sent {
        /// How many.
        bytes: usize,
    },
    /// The kernel has no room for what was queued in an earlier turn: the peer does not read, or not as fast. What is
    /// queued from now on waits in this process, until the next [`StreamEvent::Sent`]. Told once until then, in a later
    /// turn, before mail and disk operations are.
    Behind,
    /// The peer will send no more (FIN); sending is still possible.
    Ended,
    /// The stream is gone and its handle dead. Queued bytes that were not reported as sent are lost.
    Closed(StreamClose),
}

/// Why a stream is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StreamClose {
    /// [`Io::close`] asked for it, or both sides have ended.
    Local,
    /// The peer reset the connection.
    Reset,
    /// The kernel reported another error.
    Failed(io::ErrorKind),
}

/// Datagrams of one sender, received together: all of `segment` bytes, the last one maybe shorter.
#[derive(Debug)]
pub struct Datagrams<'a> {
    /// Who sent them.
    pub peer: SocketAddr,
    /// Bytes per datagram.
    pub segment: usize,
    /// The two ECN bits of the IP header.
    pub ecn: u8,
    /// All datagrams, one after the other.
    pub bytes: &'a mut [u8],
}

impl Datagrams<'_> {
    /// Each datagram in the order of arrival.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut [u8]> {
        self.bytes.chunks_mut(self.segment.max(1))
    }

    /// How many datagrams.
    #[must_use]
    pub fn count(&self) -> usize {
        self.bytes.len().div_ceil(self.segment.max(1))
    }
}

/// How a disk operation ended.
#[derive(Debug)]
pub enum Outcome {
    /// The file is open.
    Opened {
        /// Its handle, until it is closed.
        file: FileId,
        /// Its length in bytes.
        len: u64,
    },
    /// What was read; shorter than asked for at the end of the file.
    Read(Bytes),
    /// A write, reservation, sync, close, rename or removal is done.
    Done,
    /// It failed.
    Failed(io::Error),
}
