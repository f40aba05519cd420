//! Which packet carried which FEC symbol.

use std::{collections::VecDeque, ops::Range};

/// Stands for a symbol that no packet carried.
const NONE: u64 = u64::MAX;

/// Packet numbers by symbol number. Symbols are counted without gaps, in the order of the packets.
#[derive(Debug, Default)]
pub(crate) struct Symbols {
    numbers: VecDeque<u64>,
    first: u64,
}

impl Symbols {
    /// One more than the largest symbol that was sent.
    pub(crate) fn next(&self) -> u64 {
        self.first + self.numbers.len() as u64
    }

    /// Packet `number` carries symbol `sid`.
    ///
    /// # Panics
    /// If that symbol, or one behind it, was sent before.
    pub(crate) fn push(&mut self, sid: u64, number: u64) {
        assert!(sid >= self.next(), "a symbol is sent once");
        if self.numbers.is_empty() {
            self.first = sid;
        }
        while self.next() < sid {
            self.numbers.push_back(NONE);
        }
        self.numbers.push_back(number);
    }

    /// Forgets symbols in packets below `floor`.
    pub(crate) fn forget_below(&mut self, floor: u64) {
        while self.numbers.front().is_some_and(|number| *number < floor || *number == NONE) {
            self.numbers.pop_front();
            self.first += 1;
        }
    }

    /// Packets of a range of symbols.
    pub(crate) fn packets(&self, sids: Range<u64>) -> impl Iterator<Item = u64> + '_ {
        let start = sids.start.clamp(self.first, self.next());
        let end = sids.end.clamp(start, self.next());
        let at = (start - self.first) as usize..(end - self.first) as usize;
        self.numbers.range(at).copied().filter(|number| *number != NONE)
    }

    /// Gives memory back that nothing is remembered in.
    pub(crate) fn shrink(&mut self) {
        self.numbers.shrink_to(8);
    }
}
