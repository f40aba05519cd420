//! A seeded bad network and a seeded bad disk, sans-io: in virtual time [`Link`] carries datagrams one way, [`Pipe`] a
//! byte stream, and [`Duplex`] is a TCP connection of two pipes; [`Disk`] holds files and forgets what was not synced.
//! The same seed and the same calls give the same world, bit for bit.

mod chance;
mod disk;
mod duplex;
mod link;
mod pipe;

pub use crate::{
    disk::{CrashPlan, Disk, DiskConfig, DiskError, DiskKind, FileId, Latency},
    duplex::{Duplex, Side},
    link::{Fate, Link, LinkConfig, LinkStats, Loss, Reorder},
    pipe::{Arrival, Pipe, PipeConfig, PipeStats},
};
