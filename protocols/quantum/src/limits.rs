//! The limits that SPEC.md tells and that are nobody's business otherwise, for the test that compares the two.

#![allow(missing_docs, reason = "each is the constant of its name, where it is explained")]

use std::time::Duration;

pub const AMPLIFICATION: u64 = crate::path::AMPLIFICATION;
pub const CREDIT_BYTES_MAX: u64 = crate::path::CREDIT_BYTES_MAX;
pub const EARLY_MAX: usize = crate::connection::EARLY_MAX;
pub const CRYPTO_AHEAD_BYTES_MAX: u64 = crate::crypto::AHEAD_BYTES_MAX;
pub const CRYPTO_PIECES_MAX: usize = crate::crypto::PIECES_MAX;
pub const PACKETS_PER_KEY: u64 = crate::crypto::PACKETS_PER_KEY;
pub const SEEN_MAX: usize = crate::received::SEEN_MAX;
pub const ACK_DELAY_MAX: Duration = crate::received::DELAY_MAX;
pub const ACK_DELAY_PROMPT_MAX: Duration = crate::received::DELAY_PROMPT_MAX;
pub const REMOTE_IDS_MAX: usize = crate::id::REMOTE_IDS_MAX;
pub const STREAM_PIECES_MIN: usize = crate::lane::PIECES_MIN;
pub const STREAM_PIECE_BYTES: u64 = crate::lane::PIECE_BYTES;
pub const CHANNELS_MAX: usize = crate::lane::CHANNELS_MAX;
pub const NUMBERS_MAX: u64 = crate::lane::NUMBERS_MAX;
pub const MESSAGE_COST_MIN: u64 = crate::lane::COST_MIN;
pub const GROUP_LIFE_MAX: Duration = crate::fec::LIFE_MAX;
