//! What arrived of a numbered sequence: each number once, in order, or not.

use std::collections::VecDeque;

/// Numbers that may be outstanding behind a gap, in words of 64. A number that is missing while 65,536 later ones
/// arrived is given up as lost; if it arrives after that it counts as a duplicate as well.
const WORDS_MAX: usize = 1_024;
const WORD_BITS: u64 = u64::BITS as u64;

/// Exact accounting of one sequence that starts at 0.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    // All numbers below `base` are settled; bit i of word w stands for base + 64 w + i.
    base: u64,
    words: VecDeque<u64>,
    newest: Option<u64>,
    unique: u64,
    duplicates: u64,
    reordered: u64,
}

/// The sums of any number of ledgers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Account {
    /// Sent, or due to be received.
    pub expected: u64,
    /// Different numbers that arrived.
    pub received: u64,
    /// Never arrived.
    pub lost: u64,
    /// Arrived more than once.
    pub duplicates: u64,
    /// Arrived after a later one.
    pub reordered: u64,
}

impl Ledger {
    /// Notes an arrival; true if it is the first of its number.
    pub fn note(&mut self, number: u64) -> bool {
        let Some(distance) = number.checked_sub(self.base) else {
            self.duplicates += 1;
            return false;
        };
        self.make_room(distance);
        // `make_room` may have moved the base up to the word of this number, never beyond it.
        let distance = number - self.base;
        let (word, bit) = ((distance / WORD_BITS) as usize, 1 << (distance % WORD_BITS));
        if self.words[word] & bit != 0 {
            self.duplicates += 1;
            return false;
        }
        self.words[word] |= bit;
        self.unique += 1;
        match self.newest {
            Some(newest) if number < newest => self.reordered += 1,
            _ => self.newest = Some(number),
        }
        while self.words.front() == Some(&u64::MAX) {
            self.words.pop_front();
            self.base += WORD_BITS;
        }
        true
    }

    /// Different numbers that arrived.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.unique
    }

    /// The account, when `expected` numbers were sent.
    #[must_use]
    pub fn close(&self, expected: u64) -> Account {
        Account {
            expected,
            received: self.unique,
            lost: expected.saturating_sub(self.unique),
            duplicates: self.duplicates,
            reordered: self.reordered,
        }
    }

    fn make_room(&mut self, distance: u64) {
        let mut word = distance / WORD_BITS;
        if word >= WORDS_MAX as u64 {
            // Far ahead: what does not fit in the window any more is given up.
            let given_up = word - (WORDS_MAX as u64 - 1);
            self.words.drain(..self.words.len().min(usize::try_from(given_up).unwrap_or(usize::MAX)));
            self.base += given_up * WORD_BITS;
            word -= given_up;
        }
        if self.words.len() <= word as usize {
            self.words.resize(word as usize + 1, 0);
        }
    }
}

impl Account {
    /// Adds another account.
    pub fn add(&mut self, other: Account) {
        self.expected += other.expected;
        self.received += other.received;
        self.lost += other.lost;
        self.duplicates += other.duplicates;
        self.reordered += other.reordered;
    }

    /// Whether everything arrived exactly once and in order.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.lost == 0 && self.duplicates == 0 && self.reordered == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(numbers: impl IntoIterator<Item = u64>, expected: u64) -> Account {
        let mut ledger = Ledger::default();
        for number in numbers {
            ledger.note(number);
        }
        ledger.close(expected)
    }

    #[test]
    fn a_clean_sequence_is_clean_and_holds_no_memory() {
        let mut ledger = Ledger::default();
        (0..1_000_000).for_each(|number| assert!(ledger.note(number)));
        assert!(ledger.close(1_000_000).is_clean());
        assert!(ledger.words.capacity() <= 8, "{}", ledger.words.capacity());
    }

    #[test]
    fn every_fault_is_counted_once() {
        let lost = account([0, 1, 3, 4], 5);
        assert_eq!(lost, Account { expected: 5, received: 4, lost: 1, ..Account::default() });
        let tail = account([0, 1], 5);
        assert_eq!(tail.lost, 3);
        let doubled = account([0, 1, 1, 2, 0], 3);
        assert_eq!((doubled.duplicates, doubled.lost, doubled.reordered), (2, 0, 0));
        let swapped = account([0, 2, 1, 3], 4);
        assert_eq!((swapped.duplicates, swapped.lost, swapped.reordered), (0, 0, 1));
    }

    #[test]
    fn a_gap_that_is_never_filled_stays_one_loss() {
        let numbers = (0..1_000_000).filter(|number| *number != 5);
        assert_eq!(
            account(numbers, 1_000_000),
            Account { expected: 1_000_000, received: 999_999, lost: 1, ..Account::default() }
        );
    }

    #[test]
    fn a_wild_number_costs_bounded_memory() {
        let mut ledger = Ledger::default();
        ledger.note(3);
        ledger.note(u64::MAX - 1);
        ledger.note(7);
        assert!(ledger.words.len() <= WORDS_MAX);
        assert_eq!(ledger.close(2).received, 2);
        assert_eq!(ledger.close(2).duplicates, 1);
    }
}
