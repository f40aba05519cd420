//! Forward error correction: parity packets that let a receiver restore lost packets without waiting for a resend.
//!
//! ```text
//! packet with SYMBOL -> Protector: group of k -> rows of parity -> REPAIR packets
//! packet with SYMBOL -> Restorer: window ----+-> restored frames, SYMBOL_ACK
//!               REPAIR -> Restorer: groups --+
//! acknowledged, lost -> Policy: how many rows, how soon
//! ```
//!
//! A row is as long as the group's longest symbol with its virtual columns, made even by zeros. The columns are not in
//! the packets of the symbols: both sides put them in front before coding.

mod engine;
mod policy;
mod protector;
mod redundancy;
mod restorer;
mod store;

#[cfg(test)]
mod pitfalls;
#[cfg(test)]
mod simulation;

use std::time::{Duration, Instant};

#[doc(hidden)]
pub use engine::{cost_decode, cost_encode};
pub(crate) use policy::Policy;
pub(crate) use protector::Protector;
pub(crate) use restorer::{Known, LIFE_MAX, Restorer};

use crate::frame::Frame;

/// Bytes of the virtual columns in front of a symbol: its length and its CRC-32C, both big-endian.
pub(crate) const COLUMNS: usize = 6;

/// Whether a connection sends parity. What it receives is used in any case.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum FecMode {
    /// As much as the measured loss asks for; none on a clean path.
    #[default]
    Adaptive,
    /// Never.
    Off,
    /// Always `r` rows behind `k` packets.
    Fixed {
        /// Packets of a group, 1 to 32.
        k: u8,
        /// Rows behind them, 1 to 16.
        r: u8,
    },
}

/// What a receiver keeps for recovery; goes over the wire as a transport parameter and as FEC_WINDOW.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Window {
    pub(crate) symbols: u64,
    pub(crate) bytes: u64,
}

impl Default for Window {
    fn default() -> Self {
        Self { symbols: 256, bytes: 256 * 1024 }
    }
}

/// How the next groups are built.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Ratio {
    /// Symbols that fill a group.
    pub(crate) k: u8,
    /// Rows behind a full group; a partial one gets its share.
    pub(crate) r: u8,
    /// Time between two rows of a group, and between the last symbol and the first row.
    pub(crate) spread: Duration,
    /// A group closes so long after its first symbol.
    pub(crate) flush: Duration,
    /// When nothing waits to be sent, a group closes so long after its last symbol.
    pub(crate) dry: Duration,
    /// A row that could not be sent for so long is worth nothing: the resend is on its way.
    pub(crate) life: Duration,
    /// Bytes of parity packets per hundred bytes of symbol packets, at most in the long run.
    pub(crate) overhead_percent: u32,
}

/// Bytes of a row for a group whose longest symbol has `longest`.
pub(crate) fn row_len(longest: usize) -> usize {
    (COLUMNS + longest).next_multiple_of(2)
}

/// Whether the receiver's decoder has room for a group, which it insists on: it works on a power of two of shards.
fn fits(window: Window, k: usize, class: u8, len: usize) -> bool {
    let shards = (engine::class_rows(class) + k).next_power_of_two();
    shards as u64 * len as u64 <= 2 * window.bytes
}

//= SPEC.md#11.1
//# `len` and CRC-32C (RFC 3720) of the frames are big-endian.
/// The virtual columns of a symbol.
fn columns(data: &[u8]) -> [u8; COLUMNS] {
    let mut columns = [0; COLUMNS];
    columns[..2].copy_from_slice(&(data.len() as u16).to_be_bytes());
    columns[2..].copy_from_slice(&crc32c::crc32c(data).to_be_bytes());
    columns
}

/// Builds the tables of the code (8 MiB, some 20 ms), once: with the first endpoint, or the first lost packet waits.
pub fn warm() {
    static BUILT: std::sync::Once = std::sync::Once::new();
    BUILT.call_once(engine::warm);
}

/// Feeds a receiver with what a hostile peer might send: frames, each behind a byte of its length and one of the
/// milliseconds since the last. For the fuzzer.
#[doc(hidden)]
pub fn fuzz_repair(mut now: Instant, mut bytes: &[u8]) {
    let window = Window { symbols: 64, bytes: 16 * 1024 };
    let mut restorer = Restorer::new(window);
    while let Some(([len, wait], rest)) = bytes.split_first_chunk() {
        let (mut frame, rest) = rest.split_at(usize::from(*len).min(rest.len()));
        bytes = rest;
        now += Duration::from_millis(u64::from(*wait));
        restorer.expire(now);
        let taken = match Frame::parse(&mut frame) {
            Ok(Frame::Symbol { sid, data }) => restorer.on_symbol(now, sid, data).map(|_| ()),
            Ok(Frame::Repair(repair)) => restorer.on_repair(now, &repair),
            _ => continue,
        };
        if taken.is_err() {
            return;
        }
        while let Some((sid, data)) = restorer.poll_recovered() {
            assert!(restorer.symbol_ack().is_some_and(|told| told.contains(sid)));
            restorer.recycle(data);
        }
        assert!(restorer.heap() <= 8 * window.bytes as usize, "memory has a bound whatever the peer sends");
        assert!(restorer.deadline().is_some());
    }
}
