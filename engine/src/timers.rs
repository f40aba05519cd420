//! The timers of a shard: a hierarchical wheel over keys. It has no clock, and every operation takes constant time.

use std::time::{Duration, Instant};

/// Slots per level: one bit each in a `u64`, so that the next occupied one is a single instruction away.
const SLOTS: usize = 64;
const SLOT_BITS: u32 = SLOTS.trailing_zeros();

/// Levels. Six of 64 slots reach 64^6 ticks: more than two years of milliseconds.
const LEVELS: usize = 6;

/// The furthest tick that the wheel can hold; later timers go off there and may be set again.
const TICKS_MAX: u64 = (1 << (SLOT_BITS as usize * LEVELS)) - 1;

/// The end of a list.
const NONE: u32 = u32::MAX;

/// A timer in a [`Wheel`]. It may outlive its timer: a handle of one that went off or was cancelled does nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct TimerId {
    index: u32,
    generation: u32,
}

#[derive(Debug)]
struct Entry<K> {
    key: Option<K>,
    tick: u64,
    next: u32,
    previous: u32,
    generation: u32,
    slot: u16,
}

#[derive(Clone, Copy, Debug)]
struct List {
    first: u32,
    last: u32,
}

const EMPTY: List = List { first: NONE, last: NONE };

/// Timers by the tick. A timer never goes off early, and at most one tick late; those of one tick go off in the order
/// they were set. Memory per timer: the key and 32 bytes, kept for the next one.
#[derive(Debug)]
pub struct Wheel<K> {
    start: Instant,
    tick: Duration,
    elapsed: u64,
    len: usize,
    occupied: [u64; LEVELS],
    lists: Box<[List; SLOTS * LEVELS]>,
    entries: Vec<Entry<K>>,
    free: u32,
}

impl<K> Wheel<K> {
    /// An empty wheel with ticks of one millisecond; `start` is the time now.
    #[must_use]
    pub fn new(start: Instant) -> Self {
        Self::with_tick(start, Duration::from_millis(1))
    }

    /// An empty wheel with ticks of `tick`, at least one microsecond.
    #[must_use]
    pub fn with_tick(start: Instant, tick: Duration) -> Self {
        Self {
            start,
            tick: tick.max(Duration::from_micros(1)),
            elapsed: 0,
            len: 0,
            occupied: [0; LEVELS],
            lists: Box::new([EMPTY; SLOTS * LEVELS]),
            entries: Vec::new(),
            free: NONE,
        }
    }

    /// How many timers are set.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no timer is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Sets a timer that goes off at `at`; one in the past goes off with the next [`Wheel::expire`] of a later tick.
    pub fn insert(&mut self, now: Instant, at: Instant, key: K) -> TimerId {
        let tick = self.tick_of(now, at);
        let index = self.take_entry(key, tick);
        self.link(index);
        self.len += 1;
        TimerId { index, generation: self.entries[index as usize].generation }
    }

    /// Removes a timer and gives its key back, if it is still set.
    pub fn cancel(&mut self, timer: TimerId) -> Option<K> {
        self.live(timer)?;
        self.unlink(timer.index);
        self.release(timer.index)
    }

    /// Moves a timer to another time; false if it is no longer set.
    pub fn reset(&mut self, now: Instant, timer: TimerId, at: Instant) -> bool {
        if self.live(timer).is_none() {
            return false;
        }
        let tick = self.tick_of(now, at);
        self.unlink(timer.index);
        self.entries[timer.index as usize].tick = tick;
        self.link(timer.index);
        true
    }

    /// Takes out every timer whose time has come, oldest first.
    pub fn expire(&mut self, now: Instant, mut on_key: impl FnMut(K)) {
        let target = self.ticks_until(now);
        while let Some((level, slot, tick)) = self.next_slot() {
            if tick > target {
                break;
            }
            self.elapsed = self.elapsed.max(tick);
            let mut index = self.take_list(level, slot);
            while index != NONE {
                let next = self.entries[index as usize].next;
                if self.entries[index as usize].tick <= self.elapsed {
                    if let Some(key) = self.release(index) {
                        on_key(key);
                    }
                } else {
                    self.link(index);
                }
                index = next;
            }
        }
        self.elapsed = self.elapsed.max(target);
    }

    /// When [`Wheel::expire`] has to be called next. For timers far away it is an earlier time, at which they are
    /// sorted more finely.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let (_, _, tick) = self.next_slot()?;
        Some(self.start + self.after(tick))
    }

    fn after(&self, tick: u64) -> Duration {
        let nanos = u128::from(tick) * self.tick.as_nanos();
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    // Whole ticks that have passed at `now`.
    fn ticks_until(&self, now: Instant) -> u64 {
        let ticks = now.saturating_duration_since(self.start).as_nanos() / self.tick.as_nanos();
        u64::try_from(ticks).unwrap_or(TICKS_MAX).min(TICKS_MAX)
    }

    // The tick that a timer at `at` belongs to: never early, and never one that was already expired.
    fn tick_of(&self, now: Instant, at: Instant) -> u64 {
        let at = at.max(now);
        let ticks = at.saturating_duration_since(self.start).as_nanos().div_ceil(self.tick.as_nanos());
        u64::try_from(ticks).unwrap_or(TICKS_MAX).clamp(self.elapsed + 1, TICKS_MAX)
    }

    fn live(&self, timer: TimerId) -> Option<()> {
        let entry = self.entries.get(timer.index as usize)?;
        (entry.generation == timer.generation && entry.key.is_some()).then_some(())
    }

    fn take_entry(&mut self, key: K, tick: u64) -> u32 {
        if self.free == NONE {
            let index = u32::try_from(self.entries.len()).unwrap_or(NONE);
            assert!(index < NONE, "a wheel holds fewer than 2^32 - 1 timers");
            self.entries.push(Entry { key: Some(key), tick, next: NONE, previous: NONE, generation: 0, slot: 0 });
            return index;
        }
        let index = self.free;
        let entry = &mut self.entries[index as usize];
        self.free = entry.next;
        entry.key = Some(key);
        entry.tick = tick;
        index
    }

    fn release(&mut self, index: u32) -> Option<K> {
        let entry = &mut self.entries[index as usize];
        entry.generation = entry.generation.wrapping_add(1);
        entry.next = self.free;
        self.free = index;
        self.len -= 1;
        entry.key.take()
    }

    // The level is the highest group of six bits in which the timer's tick differs from the time that has passed.
    fn link(&mut self, index: u32) {
        let tick = self.entries[index as usize].tick;
        let differing = (self.elapsed ^ tick) | (SLOTS as u64 - 1);
        let level = ((63 - differing.leading_zeros()) / SLOT_BITS) as usize;
        let level = level.min(LEVELS - 1);
        let slot = (tick >> (level as u32 * SLOT_BITS)) as usize % SLOTS;
        let at = level * SLOTS + slot;
        let last = self.lists[at].last;
        let entry = &mut self.entries[index as usize];
        entry.slot = at as u16;
        entry.next = NONE;
        entry.previous = last;
        match last {
            NONE => self.lists[at].first = index,
            _ => self.entries[last as usize].next = index,
        }
        self.lists[at].last = index;
        self.occupied[level] |= 1 << slot;
    }

    fn unlink(&mut self, index: u32) {
        let Entry { next, previous, slot, .. } = self.entries[index as usize];
        let at = usize::from(slot);
        match previous {
            NONE => self.lists[at].first = next,
            _ => self.entries[previous as usize].next = next,
        }
        match next {
            NONE => self.lists[at].last = previous,
            _ => self.entries[next as usize].previous = previous,
        }
        if self.lists[at].first == NONE {
            self.occupied[at / SLOTS] &= !(1 << (at % SLOTS));
        }
    }

    fn take_list(&mut self, level: usize, slot: usize) -> u32 {
        self.occupied[level] &= !(1 << slot);
        std::mem::replace(&mut self.lists[level * SLOTS + slot], EMPTY).first
    }

    // The first occupied slot after the time that has passed, and the tick at which it begins.
    fn next_slot(&self) -> Option<(usize, usize, u64)> {
        let level = self.occupied.iter().position(|&slots| slots != 0)?;
        let shift = level as u32 * SLOT_BITS;
        let now = (self.elapsed >> shift) as u32 % SLOTS as u32;
        let ahead = self.occupied[level].rotate_right(now).trailing_zeros();
        let slot = (now + ahead) % SLOTS as u32;
        let lap = self.elapsed & !((SLOTS as u64) << shift).wrapping_sub(1);
        let mut tick = lap + (u64::from(slot) << shift);
        if tick < self.elapsed {
            tick += (SLOTS as u64) << shift;
        }
        Some((level, slot as usize, tick))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng, rngs::StdRng};

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn expired(wheel: &mut Wheel<u32>, now: Instant) -> Vec<u32> {
        let mut keys = Vec::new();
        wheel.expire(now, |key| keys.push(key));
        keys
    }

    #[test]
    fn timers_go_off_in_order_and_never_early() {
        let start = Instant::now();
        let mut wheel = Wheel::new(start);
        for (key, at) in [(1, 5), (2, 70), (3, 5), (4, 5_000), (5, 300_000)] {
            wheel.insert(start, start + ms(at), key);
        }
        assert_eq!(expired(&mut wheel, start + ms(4)), []);
        assert_eq!(expired(&mut wheel, start + ms(5)), [1, 3]);
        assert_eq!(expired(&mut wheel, start + ms(69)), []);
        assert_eq!(expired(&mut wheel, start + ms(6_000)), [2, 4]);
        assert_eq!(expired(&mut wheel, start + ms(299_999)), []);
        assert_eq!(expired(&mut wheel, start + ms(400_000)), [5]);
        assert!(wheel.is_empty() && wheel.next_deadline().is_none());
    }

    #[test]
    fn a_cancelled_timer_is_gone_and_its_handle_is_stale() {
        let start = Instant::now();
        let mut wheel = Wheel::new(start);
        let first = wheel.insert(start, start + ms(10), 1);
        assert_eq!(wheel.cancel(first), Some(1));
        let second = wheel.insert(start, start + ms(10), 2);
        assert_eq!(wheel.cancel(first), None);
        assert!(!wheel.reset(start, first, start));
        assert!(wheel.reset(start, second, start + ms(20)));
        assert_eq!(expired(&mut wheel, start + ms(19)), []);
        assert_eq!(expired(&mut wheel, start + ms(20)), [2]);
    }

    #[test]
    fn following_the_deadlines_is_enough_for_any_mix_of_timers() {
        let seed = 11;
        let mut rng = StdRng::seed_from_u64(seed);
        let start = Instant::now();
        let mut wheel = Wheel::new(start);
        let mut due = std::collections::BTreeMap::new();
        let mut ids = Vec::new();
        let mut now = start;
        for key in 0..3_000u32 {
            let at = now + Duration::from_micros(1u64 << rng.random_range(0..36));
            ids.push(wheel.insert(now, at, key));
            due.insert(key, at);
            if rng.random_bool(0.2) {
                let key = rng.random_range(0..=key);
                assert_eq!(wheel.cancel(ids[key as usize]).is_some(), due.remove(&key).is_some(), "seed {seed}");
            }
            if rng.random_bool(0.3) {
                now = wheel.next_deadline().map_or(now, |at| at.max(now));
                for key in expired(&mut wheel, now) {
                    let at = due.remove(&key).expect("a timer goes off once");
                    assert!(at <= now && now < at + ms(2), "seed {seed}: {:?}", now - at);
                }
            }
        }
        while let Some(at) = wheel.next_deadline() {
            now = now.max(at);
            for key in expired(&mut wheel, now) {
                let at = due.remove(&key).expect("a timer goes off once");
                assert!(at <= now && now < at + ms(2), "seed {seed}");
            }
        }
        assert!(due.is_empty(), "seed {seed}: {} timers were lost", due.len());
    }
}
