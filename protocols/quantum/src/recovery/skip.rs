//! Packet numbers that are left out, so that a peer cannot acknowledge what it did not receive to make us send faster
//! (RFC 9000, section 21.4).

use std::ops::Range;

use rand::Rng;

/// Numbers between two that are left out, about: a window's worth, so that who acknowledges ahead runs into one per round
/// trip; and not so few that honest peers acknowledge holes all the time.
const DISTANCE_MIN: u64 = 64;

/// Numbers left out that are remembered.
const REMEMBERED: usize = 4;

/// Stands for no number.
const NONE: u64 = u64::MAX;

/// Which numbers of a space are left out.
#[derive(Debug)]
pub(crate) struct Skips {
    next: u64,
    recent: [u64; REMEMBERED],
}

impl Default for Skips {
    fn default() -> Self {
        Self { next: NONE, recent: [NONE; REMEMBERED] }
    }
}

impl Skips {
    /// Whether `number` is left out. `window` is in packets.
    pub(crate) fn skips(&mut self, number: u64, window: u64, rng: &mut impl Rng) -> bool {
        let chosen = self.next != NONE;
        let skips = chosen && number >= self.next;
        if skips {
            self.recent.rotate_right(1);
            self.recent[0] = number;
        }
        if skips || !chosen {
            let distance = window.clamp(DISTANCE_MIN, u64::from(u32::MAX));
            self.next = number + rng.random_range(distance / 2..=distance * 2);
        }
        skips
    }

    /// Whether a range has a number that was left out.
    pub(crate) fn in_range(&self, range: &Range<u64>) -> bool {
        self.recent.iter().any(|number| range.contains(number))
    }
}
