//! A bad network between two real programs: two network namespaces joined by an emulated link, the programs that talk
//! over it, and the matrix of links, transports and workloads.
//!
//! ```text
//! server's namespace  <- TUN ->  emulator thread: seeded simnet links, NAT, log  <- TUN ->  client's namespace
//! ```
//!
//! [`clock`], [`plan`] and [`talk`] are compiled into the peers' programs too, so that all of them keep the same
//! schedule and the same account.

pub mod cell;
pub mod clock;
pub mod driver;
pub mod emulator;
pub mod floor;
pub mod journal;
pub mod matrix;
pub mod nat;
pub mod plan;
pub mod report;
pub mod row;
pub mod scenario;
pub mod space;
pub mod stack;
pub mod talk;

use crate::{schedule, stamp};
