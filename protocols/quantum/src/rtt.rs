//! The round-trip time of one path (RFC 9002 section 5).

use std::time::{Duration, Instant};

/// Timers are not set finer than this (RFC 9002 section 6.1.2).
pub(crate) const GRANULARITY: Duration = Duration::from_millis(1);

/// What is known about the round-trip time of a path.
#[derive(Clone, Debug)]
pub(crate) struct Rtt {
    latest_ns: u64,
    latest_adjusted_ns: u64,
    smoothed_ns: u64,
    var_ns: u64,
    min_ns: u64,
    first_sample_at: Option<Instant>,
}

impl Rtt {
    /// Nothing was measured yet: `initial` stands in (RFC 9002 section 6.2.2).
    pub(crate) fn new(initial: Duration) -> Self {
        let initial_ns = nanos(initial);
        Self {
            latest_ns: initial_ns,
            latest_adjusted_ns: initial_ns,
            smoothed_ns: initial_ns,
            var_ns: initial_ns / 2,
            min_ns: initial_ns,
            first_sample_at: None,
        }
    }

    /// Takes a sample: the time since the largest newly acknowledged, ack-eliciting packet was sent, and how long the
    /// peer says it kept the acknowledgement back. `ack_delay` is already scaled, and capped at what the peer promised.
    pub(crate) fn update(&mut self, now: Instant, sample: Duration, ack_delay: Duration) {
        let (sample_ns, ack_delay_ns) = (nanos(sample).max(1), nanos(ack_delay));
        self.latest_ns = sample_ns;
        self.latest_adjusted_ns = sample_ns;
        if self.first_sample_at.is_none() {
            self.first_sample_at = Some(now);
            self.min_ns = sample_ns;
            self.smoothed_ns = sample_ns;
            self.var_ns = sample_ns / 2;
            return;
        }
        // The minimum ignores the peer's delay: a peer that lies about it cannot pull the minimum below the truth.
        self.min_ns = self.min_ns.min(sample_ns);
        let adjusted_ns =
            if sample_ns >= self.min_ns.saturating_add(ack_delay_ns) { sample_ns - ack_delay_ns } else { sample_ns };
        self.latest_adjusted_ns = adjusted_ns;
        let deviation_ns = self.smoothed_ns.abs_diff(adjusted_ns);
        self.var_ns = self.var_ns - self.var_ns / 4 + deviation_ns / 4;
        self.smoothed_ns = self.smoothed_ns - self.smoothed_ns / 8 + adjusted_ns / 8;
    }

    /// Forgets the minimum, which the next sample sets anew: after persistent congestion (RFC 9002 section 5.2).
    pub(crate) fn reset_min(&mut self) {
        self.min_ns = u64::MAX;
    }

    /// The smoothed round-trip time.
    pub(crate) fn smoothed(&self) -> Duration {
        Duration::from_nanos(self.smoothed_ns)
    }

    /// The latest sample, the peer's delay included.
    pub(crate) fn latest(&self) -> Duration {
        Duration::from_nanos(self.latest_ns)
    }

    /// The latest sample without the peer's delay, as far as that is believed.
    pub(crate) fn latest_adjusted(&self) -> Duration {
        Duration::from_nanos(self.latest_adjusted_ns)
    }

    /// The smallest sample of this path.
    pub(crate) fn min(&self) -> Duration {
        Duration::from_nanos(if self.min_ns == u64::MAX { self.latest_ns } else { self.min_ns })
    }

    /// The mean deviation.
    pub(crate) fn var(&self) -> Duration {
        Duration::from_nanos(self.var_ns)
    }

    /// The probe timeout without the peer's delay (RFC 9002 section 6.2.1).
    pub(crate) fn pto_base(&self) -> Duration {
        self.smoothed() + (self.var() * 4).max(GRANULARITY)
    }

    /// Whether anything was measured.
    pub(crate) fn has_sample(&self) -> bool {
        self.first_sample_at.is_some()
    }

    /// When the first sample came: losses before it are no persistent congestion (RFC 9002 section 7.6.2).
    pub(crate) fn first_sample_at(&self) -> Option<Instant> {
        self.first_sample_at
    }
}

/// A year is more than any round trip; it keeps sums of a few of them far from overflow.
fn nanos(span: Duration) -> u64 {
    const YEAR_NS: u128 = 365 * 24 * 3_600 * 1_000_000_000;
    span.as_nanos().min(YEAR_NS) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn the_first_sample_replaces_the_guess() {
        let (now, mut rtt) = (Instant::now(), Rtt::new(ms(333)));
        assert!(!rtt.has_sample());
        assert_eq!(rtt.pto_base(), ms(999), "srtt + 4 * (srtt / 2)");
        rtt.update(now, ms(40), ms(5));
        assert!(rtt.has_sample());
        assert_eq!((rtt.latest(), rtt.smoothed(), rtt.var(), rtt.min()), (ms(40), ms(40), ms(20), ms(40)));
        assert_eq!(rtt.first_sample_at(), Some(now));
    }

    #[test]
    fn a_delay_of_the_peer_is_taken_off_unless_the_minimum_contradicts_it() {
        let (now, mut rtt) = (Instant::now(), Rtt::new(ms(333)));
        rtt.update(now, ms(40), ms(0));
        rtt.update(now, ms(56), ms(8));
        assert_eq!(rtt.smoothed(), ms(41), "7/8 of 40 + 1/8 of 48");
        assert_eq!(rtt.var(), ms(17), "3/4 of 20 + 1/4 of 8");
        rtt.update(now, ms(41), ms(25));
        assert_eq!(rtt.smoothed(), ms(41), "41 - 25 is below the minimum of 40: the delay is not believed");
        assert_eq!(rtt.min(), ms(40));
    }

    #[test]
    fn after_persistent_congestion_the_next_sample_is_the_minimum() {
        let (now, mut rtt) = (Instant::now(), Rtt::new(ms(333)));
        rtt.update(now, ms(40), ms(0));
        rtt.reset_min();
        rtt.update(now, ms(120), ms(0));
        assert_eq!(rtt.min(), ms(120));
    }

    #[test]
    fn a_tiny_path_has_a_tiny_time_and_a_timer_of_a_millisecond() {
        let (now, mut rtt) = (Instant::now(), Rtt::new(ms(333)));
        for _ in 0..100 {
            rtt.update(now, Duration::from_micros(30), Duration::ZERO);
        }
        assert_eq!(rtt.smoothed().as_micros(), 30);
        assert!(rtt.pto_base() < ms(2));
    }

    #[test]
    fn absurd_samples_do_not_overflow() {
        let (now, mut rtt) = (Instant::now(), Rtt::new(Duration::MAX));
        rtt.update(now, Duration::MAX, Duration::MAX);
        rtt.update(now, Duration::ZERO, Duration::MAX);
        assert!(rtt.pto_base() > Duration::ZERO);
    }
}
