//! The engine of a shard: one pinned thread, one ring, nothing shared. It knows bytes, streams, datagrams, mail and
//! tickets, and no protocol.
//!
//! A shard is a value that implements [`Reactor`]: the engine calls `on_*`, the reactor answers by queueing effects in
//! [`Io`]. `Io` is plain data, so the same reactor runs on io_uring and inside a simulator that drains the queue itself.
#![deny(unsafe_op_in_unsafe_fn)]

#[allow(unsafe_code, reason = "accepts write peers' addresses into memory of ours")]
mod accept;
#[allow(unsafe_code, reason = "socket addresses are unions in all but name")]
mod address;
#[allow(unsafe_code, reason = "reads and writes point to memory")]
mod blocks;
mod buffers;
#[allow(unsafe_code, reason = "memory shared with the kernel")]
mod bufring;
#[allow(unsafe_code, reason = "clock_gettime for the thread's CPU time")]
mod clock;
mod config;
#[allow(unsafe_code, reason = "connects read addresses out of memory of ours")]
mod connect;
mod control;
mod cores;
#[allow(unsafe_code, reason = "an eventfd is handed to glommio")]
mod disk;
mod error;
mod file;
mod io;
mod kernel;
#[allow(unsafe_code, reason = "getrlimit and setrlimit")]
mod limits;
#[allow(unsafe_code, reason = "slots shared by two threads")]
mod mailbox;
#[allow(unsafe_code, reason = "a read into memory of ours")]
mod net;
#[allow(unsafe_code, reason = "a zeroed msghdr")]
mod outbox;
#[allow(unsafe_code, reason = "a write to an eventfd")]
mod park;
mod post;
mod probe;
mod queue;
mod reactor;
#[allow(unsafe_code, reason = "operations point to memory")]
mod ring;
#[allow(unsafe_code, reason = "an eventfd and a borrowed ring")]
mod runtime;
mod shard;
#[allow(unsafe_code, reason = "setsockopt")]
mod socket;
mod stats;
mod steer;
mod stream;
mod tag;
#[allow(unsafe_code, reason = "operations point to memory")]
mod tcp;
mod timers;
#[allow(unsafe_code, reason = "message headers point to memory")]
mod udp;

pub use buffers::Arena;
pub use config::{Config, ListenerConfig, SHARDS_MAX, SocketConfig};
pub use cores::{Cores, Cpu};
pub use error::EngineError;
pub use io::{DiskOperation, Effect, FileId, Io, MAIL_WAITING_HIGH, Train};
pub use kernel::{KERNEL_MIN, Kernel};
pub use probe::{Finding, Probe, Verdict, probe};
pub use reactor::{Datagrams, Listener, Outcome, Reactor, ShardId, Socket, Stream, StreamClose, StreamEvent, Ticket};
pub use runtime::{Bound, Running, bind};
pub use stats::{Counter, ShardStats};
pub use steer::{DATAGRAM_MIN, Instruction, Steer};
pub use timers::{TimerId, Wheel};
