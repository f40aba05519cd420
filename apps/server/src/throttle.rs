//! How often the same name or address may try: a fixed table of leaky buckets, so that nobody can fill it or empty it.

use std::{
    hash::Hash,
    net::IpAddr,
    time::{Duration, Instant},
};

use ahash::RandomState;

/// Buckets. Two keys share one with a chance of 1 in 65,536; then they share their rate, which is only stricter.
const BUCKETS: usize = 1 << 16;

/// Limits the attempts of each key. Memory is fixed at 512 KiB, whatever keys come.
#[derive(Debug)]
pub struct Throttle {
    // The time, in microseconds after `start`, at which the bucket of a key is empty again (GCRA).
    empty_at: Vec<u64>,
    hasher: RandomState,
    start: Instant,
    interval_us: u64,
    burst: u64,
}

impl Throttle {
    /// Allows `per_minute` attempts per minute and key, also all at once. `seed` makes it unknowable which keys share a
    /// bucket.
    #[must_use]
    pub fn new(start: Instant, per_minute: u32, seed: [u64; 4]) -> Self {
        let [a, b, c, d] = seed;
        Self {
            empty_at: vec![0; BUCKETS],
            hasher: RandomState::with_seeds(a, b, c, d),
            start,
            interval_us: 60_000_000 / u64::from(per_minute.max(1)),
            burst: u64::from(per_minute.max(1)),
        }
    }

    /// Takes one attempt.
    ///
    /// # Errors
    /// How long to wait for the next one.
    pub fn take(&mut self, now: Instant, key: impl Hash) -> Result<(), Duration> {
        let now = u64::try_from(now.saturating_duration_since(self.start).as_micros()).unwrap_or(u64::MAX);
        let index = usize::try_from(self.hasher.hash_one(key) % BUCKETS as u64).unwrap_or(0);
        let Some(bucket) = self.empty_at.get_mut(index) else { return Ok(()) };
        let level = bucket.saturating_sub(now);
        let most = self.interval_us.saturating_mul(self.burst - 1);
        if level > most {
            return Err(Duration::from_micros(level - most));
        }
        *bucket = now.saturating_add(level).saturating_add(self.interval_us);
        Ok(())
    }
}

/// What counts as one address: all of IPv4, and the /64 of IPv6, which is what one household or machine is given.
#[must_use]
pub fn network(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(v4) => u64::from(v4.to_bits()),
        IpAddr::V6(v6) => u64::try_from(v6.to_bits() >> 64).unwrap_or(0) | (1 << 63),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn throttle(per_minute: u32) -> (Throttle, Instant) {
        let start = Instant::now();
        (Throttle::new(start, per_minute, [1, 2, 3, 4]), start)
    }

    #[test]
    fn a_minutes_worth_may_come_at_once_and_then_waits() {
        let (mut throttle, start) = throttle(6);
        (0..6).for_each(|_| assert_eq!(throttle.take(start, "alice"), Ok(())));
        assert_eq!(throttle.take(start, "alice"), Err(Duration::from_secs(10)));
        assert_eq!(throttle.take(start, "bob"), Ok(()));
        assert_eq!(throttle.take(start + Duration::from_secs(9), "alice"), Err(Duration::from_secs(1)));
        assert_eq!(throttle.take(start + Duration::from_secs(10), "alice"), Ok(()));
        assert!(throttle.take(start + Duration::from_secs(10), "alice").is_err());
        let later = start + Duration::from_secs(3600);
        (0..6).for_each(|_| assert_eq!(throttle.take(later, "alice"), Ok(())));
        assert!(throttle.take(later, "alice").is_err());
    }

    #[test]
    fn a_million_keys_take_no_memory_and_free_nobody() {
        let (mut throttle, start) = throttle(1);
        assert_eq!(throttle.take(start, "alice"), Ok(()));
        (0..1_000_000_u32).for_each(|key| _ = throttle.take(start, key));
        assert_eq!(throttle.empty_at.len(), BUCKETS);
        assert!(throttle.take(start, "alice").is_err());
    }

    #[test]
    fn one_network_is_one_key() {
        let key = |text: &str| network(text.parse().expect("an address"));
        assert_eq!(key("2001:db8::1"), key("2001:db8::ffff:1"));
        assert_ne!(key("2001:db8::1"), key("2001:db8:0:1::1"));
        assert_eq!(key("::ffff:192.0.2.1"), key("192.0.2.1"));
        assert_ne!(key("192.0.2.2"), key("192.0.2.1"));
    }
}
