//! A seeded bad network in virtual time, sans-io: [`Link`] carries datagrams one way, [`Pipe`] a byte stream, and
//! [`Duplex`] is a TCP connection of two pipes. The same seed and the same calls give the same world, bit for bit.

mod chance;
mod duplex;
mod link;
mod pipe;

pub use crate::{
    duplex::{Duplex, Side},
    link::{Fate, Link, LinkConfig, LinkStats, Loss, Reorder},
    pipe::{Arrival, Pipe, PipeConfig, PipeStats},
};
