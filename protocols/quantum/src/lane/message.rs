//! Messages: numbered per channel, delivered exactly once unless they expire, in the order that the channel wants.

mod channel;
mod receiver;
mod sender;

pub(super) use self::sender::Wish;
use self::{receiver::Receiver, sender::Sender};

/// Channels of one side.
pub(crate) const CHANNELS_MAX: usize = 64;

/// Numbers of a channel that may be unresolved: neither received nor given up, as far as the sender knows.
pub(crate) const NUMBERS_MAX: u64 = 1024;

/// Both sides' channels.
#[derive(Default, Debug)]
pub(super) struct Messages {
    pub(super) sender: Sender,
    pub(super) receiver: Receiver,
}

impl Messages {
    /// Gives idle memory back.
    pub(super) fn trim(&mut self) {
        self.sender.trim();
        self.receiver.trim();
    }
}

/// What a message counts at least against the limit of unresolved bytes, on both sides: its bookkeeping is not free.
pub(crate) const COST_MIN: u64 = 128;

/// What a message of so many bytes counts against the limit of unresolved bytes.
fn cost(total: u64) -> u64 {
    //= SPEC.md#13
    //# A message counts at least 128 bytes.
    total.max(COST_MIN)
}

/// Where `len` bytes at `offset` of a message lie. The empty message has one place, so that it can be lost too.
fn span(offset: u64, len: u64, total: u64) -> std::ops::Range<u64> {
    if total == 0 { 0..1 } else { offset..offset + len }
}
