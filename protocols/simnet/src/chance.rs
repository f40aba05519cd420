//! The dice: all that happens by chance in this crate is thrown here.

use std::time::Duration;

use rand::{Rng, SeedableRng, rngs::StdRng};

/// Seeded dice.
#[derive(Clone, Debug)]
pub(crate) struct Chance(StdRng);

impl Chance {
    pub(crate) fn seeded(seed: u64) -> Self {
        Self(StdRng::seed_from_u64(seed))
    }

    /// Whether something of this probability happens. Nothing is thrown for what is impossible or certain, so that a
    /// feature that is off does not change the rest of the run.
    pub(crate) fn happens(&mut self, probability: f64) -> bool {
        assert!((0.0..=1.0).contains(&probability), "{probability} is no probability");
        if probability == 0.0 || probability == 1.0 { probability == 1.0 } else { self.0.random_bool(probability) }
    }

    /// Any time up to `max`.
    pub(crate) fn up_to(&mut self, max: Duration) -> Duration {
        if max.is_zero() { max } else { Duration::from_nanos(self.0.random_range(0..=nanos(max))) }
    }

    /// Any number from 1 to `max`, which is at least 1.
    pub(crate) fn count(&mut self, max: usize) -> usize {
        // As u64: a range of usize would throw other numbers on another machine.
        self.0.random_range(1..=max as u64) as usize
    }

    /// Noise.
    pub(crate) fn fill(&mut self, bytes: &mut [u8]) {
        self.0.fill(bytes);
    }
}

/// How long `len` bytes take at a rate; no time at all without a rate.
pub(crate) fn time_of(len: usize, rate_bytes_per_s: Option<u64>) -> Duration {
    let Some(rate) = rate_bytes_per_s else { return Duration::ZERO };
    assert!(rate > 0, "a rate of nothing never ends: take the link down instead");
    let nanos = len as u128 * 1_000_000_000 / u128::from(rate);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// How many bytes pass at a rate in a time.
pub(crate) fn bytes_in(time: Duration, rate_bytes_per_s: Option<u64>) -> usize {
    let bytes = time.as_nanos() * u128::from(rate_bytes_per_s.unwrap_or(0)) / 1_000_000_000;
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
