//! How often a user may ask: several rates at once, all of which must allow it.

mod ledger;

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use ahash::RandomState;
use handler::ShardId;

pub(crate) use self::ledger::{Ledger, Letter, TIMER};

/// The rates of a user.
pub const RATES: usize = 3;

/// Users that are remembered on one shard. Who asked for nothing for so long that all of it is forgiven is forgotten
/// first.
pub const RATE_USERS_MAX: usize = 65_536;

/// Users looked at per new one once the table is large: more than one, so that it shrinks faster than it grows.
const SWEEP: usize = 4;

/// So many at once, and as many again in every period: a bucket that leaks evenly (GCRA). In the first period of a user
/// who was silent before, that is at most twice as many.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    /// How many; 0: no limit.
    pub count: u32,
    /// In which time.
    pub per: Duration,
}

/// The rates of a user, as 10 a second, 100 a minute and 1,000 an hour.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rates(pub [Rate; RATES]);

impl Rates {
    /// As often as one likes.
    pub const OFF: Self = Self([Rate { count: 0, per: Duration::ZERO }; RATES]);

    /// So many in a second, a minute and an hour; 0: no limit.
    #[must_use]
    pub fn new(sec: u32, min: u32, hour: u32) -> Self {
        let rate = |count, secs| Rate { count, per: Duration::from_secs(secs) };
        Self([rate(sec, 1), rate(min, 60), rate(hour, 3_600)])
    }
}

impl Rates {
    /// Fills buckets by so many, from some time on.
    fn fill(&self, empty_at: &mut [u64; RATES], from: u64, count: u32) {
        for (rate, empty_at) in self.0.iter().zip(empty_at) {
            *empty_at = from.max(*empty_at).saturating_add(rate.interval().saturating_mul(count.into()));
        }
    }
}

impl Default for Rates {
    fn default() -> Self {
        Self::new(10, 100, 1_000)
    }
}

/// The users of one shard and what they have used up, there and, as far as it was told, elsewhere.
#[derive(Debug)]
pub struct RateTable {
    rates: Rates,
    users_max: usize,
    start: Instant,
    places: HashMap<Arc<str>, usize, RandomState>,
    users: Vec<User>,
    hand: usize,
}

/// When each bucket of a user is empty again, in nanoseconds after the table's start.
#[derive(Debug)]
struct User {
    name: Arc<str>,
    empty_at: [u64; RATES],
    /// It took something of this very table.
    is_here: bool,
    /// Where else it did.
    elsewhere: Vec<ShardId>,
}

/// What a user took somewhere since some time.
#[derive(Debug)]
pub(crate) struct Spent {
    user: Arc<str>,
    count: u32,
    first: Instant,
}

/// When each bucket of a user is empty again.
#[derive(Debug)]
pub(crate) struct Level {
    user: Arc<str>,
    empty_at: [Instant; RATES],
}

impl Rate {
    /// The time that one takes to leak away; without a limit, none.
    fn interval(self) -> u64 {
        nanos(self.per).checked_div(self.count.into()).unwrap_or(0)
    }

    /// How full a bucket may be that takes one more.
    fn level_max(self) -> u64 {
        self.interval().saturating_mul(u64::from(self.count.saturating_sub(1)))
    }
}

impl RateTable {
    /// Nobody yet. The seed keeps the places of names secret from whoever chooses names.
    #[must_use]
    pub fn new(start: Instant, rates: Rates, users_max: usize, seed: u64) -> Self {
        let hasher = RandomState::with_seeds(seed, !seed, seed.rotate_left(21), seed.rotate_left(42));
        let users_max = users_max.max(1);
        Self { rates, users_max, start, places: HashMap::with_hasher(hasher), users: Vec::new(), hand: 0 }
    }

    /// Takes one from each bucket of a user, or from none.
    ///
    /// # Errors
    /// In how many milliseconds all of them have one.
    pub fn take(&mut self, now: Instant, user: &str) -> Result<(), u32> {
        self.take_here(now, user).map(drop)
    }

    /// The same; and whether the user took something elsewhere too.
    fn take_here(&mut self, now: Instant, user: &str) -> Result<bool, u32> {
        let (rates, now) = (self.rates, self.nanos(now));
        let Some(User { empty_at, is_here, elsewhere, .. }) = self.user(now, user) else { return Ok(false) };
        let late = |(rate, empty_at): (&Rate, &u64)| empty_at.saturating_sub(now).saturating_sub(rate.level_max());
        let wait = rates.0.iter().zip(&*empty_at).map(late).max().unwrap_or(0);
        if wait > 0 {
            return Err(u32::try_from(wait.div_ceil(1_000_000)).unwrap_or(u32::MAX));
        }
        rates.fill(empty_at, now, 1);
        *is_here = true;
        Ok(!elsewhere.is_empty())
    }

    /// Counts what a user took elsewhere, though it be too much; whether several tables are in it now.
    fn charge(&mut self, now: Instant, from: ShardId, spent: &Spent) -> bool {
        let (rates, now, first) = (self.rates, self.nanos(now), self.nanos(spent.first));
        let Some(User { empty_at, is_here, elsewhere, .. }) = self.user(now, &spent.user) else { return false };
        rates.fill(empty_at, first, spent.count);
        if !elsewhere.contains(&from) {
            elsewhere.push(from);
        }
        *is_here || elsewhere.len() > 1
    }

    /// What a user has taken of all tables, and where.
    fn level(&self, user: &Arc<str>) -> Option<(impl Fn() -> Level, &[ShardId])> {
        let User { empty_at, elsewhere, .. } = self.users.get(*self.places.get(user)?)?;
        let level = || {
            let empty_at = empty_at.map(|nanos| self.start + Duration::from_nanos(nanos));
            Level { user: Arc::clone(user), empty_at }
        };
        Some((level, elsewhere))
    }

    /// Learns what a user has taken of all tables.
    fn raise(&mut self, now: Instant, level: &Level) {
        let now = self.nanos(now);
        let told = level.empty_at.map(|at| self.nanos(at));
        let Some(user) = self.user(now, &level.user) else { return };
        for (empty_at, told) in user.empty_at.iter_mut().zip(told) {
            *empty_at = told.max(*empty_at);
        }
    }

    /// Users that are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.users.len()
    }

    /// Whether nobody is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    fn nanos(&self, time: Instant) -> u64 {
        nanos(time.saturating_duration_since(self.start))
    }

    fn user(&mut self, now: u64, user: &str) -> Option<&mut User> {
        let place = match self.places.get(user) {
            Some(place) => *place,
            None => self.enter(now, user),
        };
        self.users.get_mut(place)
    }

    /// A user who is new here, in a place of its own.
    fn enter(&mut self, now: u64, user: &str) -> usize {
        self.sweep(now);
        let name: Arc<str> = user.into();
        let place = self.users.len();
        self.users.push(User { name: name.clone(), empty_at: [0; RATES], is_here: false, elsewhere: Vec::new() });
        self.places.insert(name, place);
        place
    }

    /// Forgets a few users that are forgiven anyway, and of a full table one that nearly is.
    fn sweep(&mut self, now: u64) {
        for _ in 0..SWEEP.min(self.users.len()) {
            self.hand = if self.hand + 1 < self.users.len() { self.hand + 1 } else { 0 };
            if self.users.get(self.hand).is_some_and(|user| user.forgiven_at() <= now) {
                self.forget(self.hand);
            }
        }
        if self.users.len() >= self.users_max {
            let near = (0..SWEEP).map(|step| (self.hand + step) % self.users.len());
            let soonest = near.min_by_key(|place| self.users.get(*place).map(User::forgiven_at));
            self.forget(soonest.unwrap_or(0));
        }
    }

    fn forget(&mut self, place: usize) {
        let gone = self.users.swap_remove(place);
        self.places.remove(&gone.name);
        if let Some(moved) = self.users.get(place) {
            self.places.insert(moved.name.clone(), place);
        }
    }
}

impl User {
    fn forgiven_at(&self) -> u64 {
        self.empty_at.into_iter().max().unwrap_or(0)
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng, rngs::StdRng};

    use super::*;

    fn table(users_max: usize) -> (RateTable, Instant) {
        let start = Instant::now();
        (RateTable::new(start, Rates::default(), users_max, 7), start)
    }

    #[test]
    fn ten_at_once_then_ten_a_second_until_the_minute_is_used_up() {
        let (mut table, start) = table(100);
        (0..10).for_each(|n| assert_eq!(table.take(start, "ada"), Ok(()), "{n}"));
        assert_eq!(table.take(start, "ada"), Err(100));
        assert_eq!(table.take(start, "bob"), Ok(()));
        assert_eq!(table.take(start + Duration::from_millis(99), "ada"), Err(1));
        assert_eq!(table.take(start + Duration::from_micros(99_500), "ada"), Err(1));
        let (mut now, mut taken) = (start, 10);
        while taken < 1_000 {
            now += Duration::from_millis(100);
            match table.take(now, "ada") {
                Ok(()) => taken += 1,
                Err(_) => break,
            }
        }
        // 100 at once, and one more for every 600 ms of the first 10.8 s.
        assert_eq!((taken, now - start), (118, Duration::from_millis(10_900)));
    }

    #[test]
    fn waiting_as_long_as_was_said_is_enough_and_no_window_has_too_many() {
        for seed in 0..20 {
            let mut rng = StdRng::seed_from_u64(seed);
            let (mut table, start) = table(100);
            let (mut at_ms, mut taken) = (0, Vec::new());
            while taken.len() < 3_000 {
                match table.take(start + Duration::from_millis(at_ms), "ada") {
                    Ok(()) => taken.push(at_ms),
                    Err(retry_ms) => {
                        assert!(retry_ms > 0, "seed {seed}");
                        at_ms += u64::from(retry_ms);
                        let now = start + Duration::from_millis(at_ms);
                        assert_eq!(table.take(now, "ada"), Ok(()), "seed {seed}, at {at_ms}");
                        taken.push(at_ms);
                    }
                }
                if rng.random_bool(0.05) {
                    at_ms += rng.random_range(0..20_000);
                }
            }
            for (count, per_ms) in [(10, 1_000), (100, 60_000), (1_000, 3_600_000)] {
                let mut first = 0;
                for (last, at_ms) in taken.iter().enumerate() {
                    first += taken[first..].iter().take_while(|old| **old + per_ms <= *at_ms).count();
                    assert!(last - first < 2 * count, "seed {seed}: {} in {per_ms} ms", last - first + 1);
                }
            }
        }
    }

    #[test]
    fn the_idle_are_forgotten_and_the_busy_are_not_freed_by_a_crowd() {
        let (mut table, start) = table(1_000);
        while table.take(start, "ada").is_ok() {}
        for n in 0..20_000 {
            assert_eq!(table.take(start + Duration::from_micros(n), &format!("u{n}")), Ok(()));
            assert!(table.len() <= 1_000);
        }
        assert!(table.take(start + Duration::from_millis(20), "ada").is_err(), "whoever used more is kept longer");
        let later = start + Duration::from_secs(3_600);
        for n in 0..500 {
            assert_eq!(table.take(later, &format!("v{n}")), Ok(()));
        }
        assert!(table.len() <= 510, "{} are remembered", table.len());
        assert_eq!(table.len(), table.places.len());
        assert!(table.users.iter().enumerate().all(|(place, user)| table.places[&user.name] == place));
    }

    #[test]
    fn a_rate_may_be_switched_off() {
        let off = Rate { count: 0, per: Duration::from_secs(1) };
        let one = Rate { count: 1, per: Duration::from_secs(60) };
        let start = Instant::now();
        let mut table = RateTable::new(start, Rates([off, off, off]), 1, 7);
        (0..10_000).for_each(|_| assert_eq!(table.take(start, "ada"), Ok(())));
        let mut table = RateTable::new(start, Rates([off, one, off]), 1, 7);
        assert_eq!((table.take(start, "ada"), table.take(start, "ada")), (Ok(()), Err(60_000)));
    }
}
