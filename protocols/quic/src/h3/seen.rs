//! Which of the peer's streams have been seen.

use std::collections::BTreeSet;

use super::{
    StreamId,
    code::{Code, Fault},
    varint,
};

/// How far a fresh stream may be ahead of the newest: more than any transport grants at once.
const AHEAD_MAX: u64 = 1 << 16;

/// The largest id of a request, as a GOAWAY names it that refuses nothing yet.
pub(crate) const REQUEST_LAST: StreamId = StreamId(varint::MAX & !3);

/// Which streams of one kind have been seen. QUIC opens them in order, but their bytes come in any.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    next: u64,
    gaps: BTreeSet<u64>,
}

impl Seen {
    /// Notes the stream; `false`: it was seen before.
    pub(crate) fn admit(&mut self, id: StreamId) -> Result<bool, Fault> {
        let index = id.index();
        if index < self.next {
            return Ok(self.gaps.remove(&index));
        }
        if index - self.next > AHEAD_MAX {
            return Err(Fault::Connection(Code::ID_ERROR, "a stream far ahead of the others"));
        }
        self.gaps.extend(self.next..index);
        self.next = index + 1;
        Ok(true)
    }

    /// Whether the stream is still to come.
    pub(crate) fn is_to_come(&self, id: StreamId) -> bool {
        id.index() >= self.next || self.gaps.contains(&id.index())
    }

    /// Whether a peer that may have `open_max` streams open could open this one.
    pub(crate) fn is_possible(&self, id: StreamId, open_max: u16) -> bool {
        id.index() < self.next + u64::from(open_max)
    }

    /// The index behind the newest.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_seen_once_in_any_order() {
        let mut seen = Seen::default();
        let mut admit = |id| seen.admit(StreamId(id)).ok();
        assert_eq!([admit(8), admit(0), admit(0), admit(8), admit(4)], [true, true, false, false, true].map(Some));
        assert_eq!((admit(12 + 4 * AHEAD_MAX + 4), admit(12)), (None, Some(true)));
        assert!(!seen.is_to_come(StreamId(12)) && seen.is_to_come(StreamId(16)));
        assert!(seen.is_possible(StreamId(16 + 36), 10) && !seen.is_possible(StreamId(16 + 40), 10));
    }
}
