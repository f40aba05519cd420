//! The two directions of one space's CRYPTO stream: what TLS wrote until it is acknowledged, what the peer's TLS wrote
//! until it is in order.

use std::ops::Range;

use crate::{
    error::{Checked, Code, TransportError},
    range::RangeSet,
};

/// Bytes that may arrive ahead of what TLS has read. A chain of certificates with long RSA keys has 10 KiB, the largest
/// handshake message that rustls takes 64 KiB.
pub(crate) const AHEAD_BYTES_MAX: u64 = 64 * 1024;

/// Pieces that may wait for a gap to close. An honest flight is some 50 packets, and their loss leaves fewer gaps.
pub(crate) const PIECES_MAX: usize = 64;

const TOO_MUCH: TransportError = TransportError::new(Code::CryptoBuffer, "handshake bytes too far ahead");
const TOO_MANY: TransportError = TransportError::new(Code::CryptoBuffer, "handshake bytes in too many pieces");
const TOO_FAR: TransportError = TransportError::new(Code::FrameEncoding, "handshake bytes beyond the largest offset");

/// What this side's TLS wrote.
#[derive(Default, Debug)]
pub(super) struct Outgoing {
    // All of it from the first byte that is not acknowledged: a flight has a few KiB and lives for a round trip.
    bytes: Vec<u8>,
    // Offset of `bytes[0]`.
    base: u64,
    // Everything below was sent at least once.
    sent: u64,
    lost: RangeSet,
    acked: RangeSet,
}

impl Outgoing {
    /// Appends what TLS wrote.
    pub(super) fn write(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Whether all that was written was sent and acknowledged.
    pub(super) fn is_done(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Whether something waits to be sent.
    pub(super) fn is_pending(&self) -> bool {
        self.sent < self.end() || !self.lost.is_empty()
    }

    /// Where the next CRYPTO frame would begin.
    pub(super) fn next_offset(&self) -> Option<u64> {
        self.is_pending().then(|| self.lost.min().unwrap_or(self.sent))
    }

    /// Bytes for one CRYPTO frame, at most `room`: lost ones before new ones.
    pub(super) fn poll(&mut self, room: usize) -> Option<(u64, &[u8])> {
        if room == 0 {
            return None;
        }
        let range = match self.lost.first() {
            Some(lost) => lost.start..lost.end.min(lost.start + room as u64),
            None => self.sent..self.end().min(self.sent + room as u64),
        };
        if range.is_empty() {
            return None;
        }
        self.lost.remove(range.clone());
        self.sent = self.sent.max(range.end);
        let start = (range.start - self.base) as usize;
        Some((range.start, &self.bytes[start..start + (range.end - range.start) as usize]))
    }

    /// The peer has these bytes.
    pub(super) fn on_acked(&mut self, range: Range<u64>) {
        let range = self.known(range);
        self.lost.remove(range.clone());
        self.acked.insert(range);
        if let Some(first) = self.acked.first().filter(|first| first.start <= self.base) {
            self.acked.pop_first();
            self.bytes.drain(..(first.end - self.base) as usize);
            self.base = first.end;
        }
        if self.bytes.is_empty() {
            self.bytes = Vec::new();
        }
    }

    /// A packet with these bytes was lost: those that did not arrive otherwise must be sent again.
    pub(super) fn on_lost(&mut self, range: Range<u64>) {
        self.lost.insert(self.known(range));
        for acked in self.acked.iter() {
            self.lost.remove(acked);
        }
    }

    /// Everything that is not acknowledged must be sent again: its packets were never read (Retry), or the peer is
    /// silent and a probe wants something to carry.
    pub(super) fn on_all_lost(&mut self) {
        self.on_lost(self.base..self.sent);
    }

    /// The part of a range that was sent and is still here: the space may have been discarded meanwhile.
    fn known(&self, range: Range<u64>) -> Range<u64> {
        range.start.clamp(self.base, self.sent)..range.end.clamp(self.base, self.sent)
    }

    fn end(&self) -> u64 {
        self.base + self.bytes.len() as u64
    }
}

/// What the peer's TLS wrote.
#[derive(Default, Debug)]
pub(super) struct Incoming {
    // TLS has read everything below.
    read: u64,
    // Ascending, disjoint, all of it above `read`. Memory follows what really arrived: a byte far ahead costs a byte.
    ahead: Vec<(u64, Vec<u8>)>,
}

impl Incoming {
    /// Whether bytes wait: for a gap to close, or for TLS to be ready.
    pub(super) fn is_ahead(&self) -> bool {
        !self.ahead.is_empty()
    }

    /// Takes a CRYPTO frame. If TLS is `ready` for this space, bytes that continue what it has read come back at once;
    /// others wait for [`Self::next`].
    pub(super) fn on_frame<'a>(&mut self, offset: u64, data: &'a [u8], ready: bool) -> Checked<Option<&'a [u8]>> {
        let end = offset.checked_add(data.len() as u64).filter(|end| *end <= crate::varint::MAX).ok_or(TOO_FAR)?;
        if end <= self.read {
            return Ok(None);
        }
        //= SPEC.md#5.4
        //# An end MUST hold CRYPTO data up to 64 KiB beyond what it has read, in each space; more is CRYPTO_BUFFER.
        if end - self.read > AHEAD_BYTES_MAX {
            return Err(TOO_MUCH);
        }
        if ready && offset <= self.read && self.ahead.is_empty() {
            let fresh = &data[(self.read - offset) as usize..];
            self.read = end;
            return Ok(Some(fresh));
        }
        self.keep(offset, data);
        if self.ahead.len() > PIECES_MAX { Err(TOO_MANY) } else { Ok(None) }
    }

    /// The next piece that is in order.
    pub(super) fn next(&mut self) -> Option<Vec<u8>> {
        if self.ahead.first().is_none_or(|(offset, _)| *offset != self.read) {
            return None;
        }
        let (_, bytes) = self.ahead.remove(0);
        self.read += bytes.len() as u64;
        if self.ahead.is_empty() {
            self.ahead = Vec::new();
        }
        Some(bytes)
    }

    /// Keeps what of `data` is not here yet.
    fn keep(&mut self, offset: u64, data: &[u8]) {
        let end = offset + data.len() as u64;
        let mut from = offset.max(self.read);
        let mut at = self.ahead.partition_point(|(start, bytes)| start + bytes.len() as u64 <= from);
        while from < end {
            let (start, after) = match self.ahead.get(at) {
                Some((start, bytes)) => (*start, start + bytes.len() as u64),
                None => (end, end),
            };
            let until = start.min(end);
            if from < until {
                self.insert(at, from, &data[(from - offset) as usize..(until - offset) as usize]);
                at = self.ahead.partition_point(|(start, _)| *start < until);
            } else {
                at += 1;
            }
            from = from.max(after.min(end)).max(until);
        }
    }

    /// Inserts a piece, or prolongs the one that it touches: pieces in order do not count as many.
    fn insert(&mut self, at: usize, from: u64, bytes: &[u8]) {
        if let Some((start, before)) = at.checked_sub(1).and_then(|before| self.ahead.get_mut(before))
            && *start + before.len() as u64 == from
        {
            return before.extend_from_slice(bytes);
        }
        self.ahead.insert(at, (from, bytes.to_vec()));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pattern(range: Range<u64>) -> Vec<u8> {
        range.map(|at| (at % 251) as u8).collect()
    }

    proptest! {
        #[test]
        fn whatever_arrives_in_whatever_order_is_read_once_and_in_order(
            pieces in prop::collection::vec((0u64..600, 0u64..120, any::<bool>()), 0..60),
        ) {
            let (mut incoming, mut read, mut seen) = (Incoming::default(), Vec::new(), RangeSet::new());
            for (offset, len, ready) in pieces {
                let data = pattern(offset..offset + len);
                if let Some(bytes) = incoming.on_frame(offset, &data, ready).unwrap() {
                    read.extend_from_slice(bytes);
                }
                while ready && let Some(bytes) = incoming.next() {
                    read.extend(bytes);
                }
                seen.insert(offset..offset + len);
                let contiguous = seen.first().filter(|first| first.start == 0).map_or(0, |first| first.end);
                prop_assert_eq!(&read, &pattern(0..read.len() as u64));
                prop_assert!(!ready || read.len() as u64 == contiguous);
                let all = seen.max().map_or(0, |last| last + 1);
                prop_assert_eq!(incoming.is_ahead(), all > read.len() as u64);
            }
        }

        #[test]
        fn all_that_is_written_arrives_whatever_is_lost(
            writes in prop::collection::vec(1usize..500, 1..6),
            fates in prop::collection::vec((1usize..200, 0u8..3), 0..300),
        ) {
            let (mut outgoing, mut written, mut flying, mut arrived) =
                (Outgoing::default(), 0, Vec::new(), RangeSet::new());
            for len in writes {
                outgoing.write(&pattern(written..written + len as u64));
                written += len as u64;
            }
            let calm = std::iter::repeat_n((200, 2), 200);
            for (room, fate) in fates.into_iter().chain(calm) {
                if let Some((offset, bytes)) = outgoing.poll(room) {
                    let range = offset..offset + bytes.len() as u64;
                    prop_assert!(bytes.len() <= room);
                    prop_assert_eq!(bytes, &pattern(range.clone())[..]);
                    flying.push(range);
                }
                match (fate, flying.pop()) {
                    (0, Some(range)) => outgoing.on_lost(range),
                    // Believed to be lost, and then it arrives.
                    (1, Some(range)) => {
                        outgoing.on_lost(range.clone());
                        arrived.insert(range.clone());
                        outgoing.on_acked(range);
                    }
                    (_, Some(range)) => {
                        arrived.insert(range.clone());
                        outgoing.on_acked(range);
                    }
                    (_, None) => {}
                }
            }
            for range in flying {
                arrived.insert(range.clone());
                outgoing.on_acked(range);
            }
            prop_assert!(outgoing.is_done() && !outgoing.is_pending());
            prop_assert_eq!(arrived.first(), Some(0..written));
        }
    }
}
