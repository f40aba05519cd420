//! What this machine is, and what a shard would want of it: topology, a catalogue of settings, checks and jitter.
//!
//! Everything here only reads. All files are taken from below a [`Root`], so that a captured or invented machine in a
//! folder is read by the same code as `/`.
#![forbid(unsafe_code)]

mod account;
mod catalogue;
mod check;
mod cpulist;
mod error;
mod explain;
mod interrupt;
mod jitter;
mod nic;
mod reading;
mod root;
mod table;
mod topology;
mod wanted;

pub use account::{involuntary_switches, steal_ticks};
pub use catalogue::{Catalogue, Kind, Profile, Scope, Setting};
pub use check::{Finding, Report, Status, check};
pub use cpulist::CpuList;
pub use error::Error;
pub use explain::explain;
pub use interrupt::{Interrupt, queue_of};
pub use jitter::{CpuJitter, Gaps, Jitter, SECS_MAX, jitter};
pub use nic::Nic;
pub use reading::{Reading, read};
pub use root::Root;
pub use table::Table;
pub use topology::{CpuRow, Topology};
pub use wanted::{Op, Wanted};
