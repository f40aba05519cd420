//! When each request should leave: a fixed rate, counted from the start and never from the last answer.

/// Nanoseconds of a second.
pub const SECOND_NS: u64 = 1_000_000_000;

/// The plan of one shard in open loop: its share of the total rate, offset so that shards do not send at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    start_ns: u64,
    rate: u64,
    shard: u64,
    shards: u64,
    next: u64,
}

impl Schedule {
    /// Requests `shard`, `shard + shards`, `shard + 2 * shards`... of a plan with `rate` requests per second.
    #[must_use]
    pub fn new(start_ns: u64, rate: u64, shard: u16, shards: u16) -> Self {
        assert!(rate > 0 && shard < shards, "an open loop needs a rate, and a shard of its own");
        Self { start_ns, rate, shard: shard.into(), shards: shards.into(), next: 0 }
    }

    /// When the next request should leave.
    #[must_use]
    pub fn next_ns(&self) -> u64 {
        // 128 bits: neither rounding nor an overflow moves the thousandth request of a long run.
        let number = u128::from(self.next) * u128::from(self.shards) + u128::from(self.shard);
        let offset = number * u128::from(SECOND_NS) / u128::from(self.rate);
        self.start_ns.saturating_add(u64::try_from(offset).unwrap_or(u64::MAX))
    }

    /// Takes the next request if it is due by `now_ns`: its number on this shard and its intended time.
    pub fn take(&mut self, now_ns: u64) -> Option<(u64, u64)> {
        let planned_ns = self.next_ns();
        if planned_ns > now_ns {
            return None;
        }
        let number = self.next;
        self.next += 1;
        Some((number, planned_ns))
    }
}

/// Requests that a plan of `rate` per second holds between two times since its start.
#[must_use]
pub fn planned_between(rate: u64, from_ns: u64, to_ns: u64) -> u64 {
    // The request with number n leaves at n / rate, so those before a time t number ceil(t * rate).
    let before = |at_ns: u64| {
        (u128::from(at_ns) * u128::from(rate)).div_ceil(u128::from(SECOND_NS)).try_into().unwrap_or(u64::MAX)
    };
    let (from, to): (u64, u64) = (before(from_ns), before(to_ns));
    to.saturating_sub(from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_start_does_not_move_the_plan() {
        let mut schedule = Schedule::new(1_000, 1_000_000, 0, 1);
        assert_eq!(schedule.take(999), None);
        assert_eq!(schedule.take(1_000), Some((0, 1_000)));
        // A stall of 5 ms: all requests of these 5 ms are due at once, each with its own intended time.
        let due: Vec<u64> = std::iter::from_fn(|| schedule.take(5_001_000)).map(|(_, planned)| planned).collect();
        assert_eq!(due.len(), 5_000);
        assert_eq!((due[0], due[4_999]), (2_000, 5_001_000));
    }

    #[test]
    fn shards_share_the_plan_without_overlap() {
        let times = |shard| {
            let mut schedule = Schedule::new(0, 1_000, shard, 3);
            std::iter::from_fn(move || schedule.take(SECOND_NS - 1)).map(|(_, planned)| planned).collect::<Vec<_>>()
        };
        let mut all: Vec<u64> = (0..3).flat_map(times).collect();
        all.sort_unstable();
        let whole: Vec<u64> = (0..1_000).map(|number| number * 1_000_000).collect();
        assert_eq!(all, whole);
    }

    #[test]
    fn the_plan_does_not_drift_at_odd_rates() {
        let mut schedule = Schedule::new(0, 333_333, 0, 1);
        let hour_ns = 3_600 * SECOND_NS;
        schedule.next = 333_333 * 3_600;
        assert_eq!(schedule.next_ns(), hour_ns);
    }

    #[test]
    fn a_window_holds_as_many_as_the_schedule_takes() {
        for rate in [1, 7, 1_000, 333_333] {
            let (from, to) = (SECOND_NS / 3, 5 * SECOND_NS + 17);
            let mut schedule = Schedule::new(0, rate, 0, 1);
            let inside = std::iter::from_fn(|| schedule.take(to - 1)).filter(|(_, planned)| *planned >= from).count();
            assert_eq!(planned_between(rate, from, to), inside as u64, "rate {rate}");
        }
    }
}
