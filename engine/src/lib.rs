//! The engine of a shard: one pinned thread, one ring, nothing shared. It knows bytes, streams, datagrams, mail and
//! tickets, and no protocol.
//!
//! A shard is a value that implements [`Reactor`]: the engine calls `on_*`, the reactor answers by queueing effects in
//! [`Io`]. `Io` is plain data, so the same reactor runs on io_uring and inside a simulator that drains the queue itself.

mod buffers;
mod io;
mod reactor;
mod stats;

pub use buffers::Arena;
pub use io::{DiskOperation, Effect, FileId, Io, Train};
pub use reactor::{
    Datagrams, Listener, Outcome, Reactor, ShardId, Socket, Stream, StreamClose, StreamEvent, Ticket,
};
pub use stats::Counter;
