//! How many messages a session may send: a bucket that is one point in time (GCRA).

use std::time::{Duration, Instant};

/// A bucket of messages. It holds the time at which it would be full again, so nothing has to run while nobody sends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    full_at: Instant,
}

impl Bucket {
    /// A full one.
    pub(crate) fn full(now: Instant) -> Self {
        Self { full_at: now }
    }

    /// Takes one message out, or says how long to wait for the next one.
    pub(crate) fn take(&mut self, now: Instant, per_sec: u32, burst: u32) -> Result<(), Duration> {
        let each = Duration::from_secs(1) / per_sec.max(1);
        let capacity = each * burst.max(1);
        let full_at = self.full_at.max(now) + each;
        let missing = full_at.saturating_duration_since(now);
        if missing > capacity {
            return Err(missing - capacity);
        }
        self.full_at = full_at;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::full(start);
        for _ in 0..100 {
            assert_eq!(bucket.take(start, 10, 100), Ok(()));
        }
        assert_eq!(bucket.take(start, 10, 100), Err(Duration::from_millis(100)));
        let later = start + Duration::from_millis(100);
        assert_eq!(bucket.take(later, 10, 100), Ok(()));
        assert_eq!(bucket.take(later, 10, 100), Err(Duration::from_millis(100)));
    }

    #[test]
    fn over_a_minute_exactly_the_rate_and_one_burst_pass() {
        let start = Instant::now();
        let mut bucket = Bucket::full(start);
        let passed = (0..60_000).filter(|ms| bucket.take(start + Duration::from_millis(*ms), 10, 100).is_ok()).count();
        assert_eq!(passed, 100 + 599);
    }

    #[test]
    fn a_refused_message_costs_nothing_and_a_pause_saves_no_more_than_a_burst() {
        let start = Instant::now();
        let mut bucket = Bucket::full(start);
        assert!((0..5).all(|_| bucket.take(start, 1, 5).is_ok()));
        assert!((0..1000).all(|_| bucket.take(start, 1, 5).is_err()));
        let later = start + Duration::from_secs(3600);
        assert_eq!((0..1000).filter(|_| bucket.take(later, 1, 5).is_ok()).count(), 5);
    }

    #[test]
    fn extreme_limits_do_not_overflow() {
        let now = Instant::now();
        for (per_sec, burst) in [(0, 0), (1, 1_000_000), (1_000_000, 1), (u32::MAX, u32::MAX)] {
            assert_eq!(Bucket::full(now).take(now, per_sec, burst), Ok(()), "{per_sec} {burst}");
        }
    }
}
