//! Ids that sort by the time they were made at, from a generator per shard: nothing is shared, nothing waits, and a
//! clock that steps back makes no id twice.

use std::fmt;

use rand::RngCore;
use uuid::Uuid;

use crate::ShardId;

/// 69 years, to 2094.
const MS_BITS: u32 = 41;
const MS_MAX: u64 = (1 << MS_BITS) - 1;
const SHARD_BITS: u32 = 8;
const SEQUENCE_BITS: u32 = 14;

/// RFC 9562's `rand_a`.
const UUID_COUNT_BITS: u32 = 12;

const _: () = assert!(MS_BITS + SHARD_BITS + SEQUENCE_BITS == 63, "an id is a positive i64 too");
const _: () = assert!(1_u32 << SHARD_BITS == u8::MAX as u32 + 1, "a shard is a byte of an id");

/// A 64-bit id: 41 bits of milliseconds since [`Self::EPOCH_MS`], 8 bits of shard, 14 bits of sequence. The highest bit
/// is 0, so it is the same number in an `i64`. JavaScript's numbers are exact up to 2^53 only: there it must be a
/// string.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TimeId(pub u64);

/// The ids of one shard.
///
/// Both kinds are unique among the shards of one server and rise within a shard; between shards the order is that of
/// their clocks. An id tells when and on which shard it was made. 64-bit ids can be guessed; UUIDs have 54 random bits.
///
/// A clock that steps back is not followed, nor one that is before 2025 or after 2094: ids go on from the last one. A
/// clock that jumps ahead is, and ids stay ahead when it comes back.
#[derive(Debug)]
pub struct TimeIds {
    shard: u8,
    numbers: Ticks,
    uuids: Ticks,
}

/// The last pair of a millisecond, counted from [`TimeId::EPOCH_MS`], and a number within it that was given out.
#[derive(Debug)]
struct Ticks {
    ms: u64,
    /// How many were given out in this millisecond.
    used: u32,
    per_ms: u32,
}

impl TimeIds {
    /// The most shards that ids can tell apart: as many as the engine runs.
    pub const SHARDS_MAX: u16 = 1 << SHARD_BITS;

    /// 64-bit ids per millisecond and shard before they borrow from the next one: 16 million per second.
    pub const IDS_PER_MS: u32 = 1 << SEQUENCE_BITS;

    /// The same for UUIDs: 4 million per second.
    pub const UUIDS_PER_MS: u32 = 1 << UUID_COUNT_BITS;

    /// A generator that makes no id of a time before `not_before_ms`, in milliseconds since 1970: 0 for the first run
    /// on a machine, afterwards what [`Self::not_before_ms`] said in the run before; the highest of all shards, if
    /// their number may change. A caller that writes it down only now and then writes a time that the run will not
    /// reach before it writes again.
    ///
    /// # Panics
    /// If the shard is not below [`Self::SHARDS_MAX`], or the time is after 2094.
    #[must_use]
    pub fn new(shard: ShardId, not_before_ms: u64) -> Self {
        let shard = u8::try_from(shard.0).expect("ids have room for 256 shards");
        let ms = not_before_ms.saturating_sub(TimeId::EPOCH_MS);
        assert!(ms <= MS_MAX, "there are no ids beyond this time");
        Self { shard, numbers: Ticks::new(ms, Self::IDS_PER_MS), uuids: Ticks::new(ms, Self::UUIDS_PER_MS) }
    }

    /// The first millisecond since 1970 that no id of this generator is of, nor of an earlier run's. It is ahead of the
    /// clock while ids are borrowed from the future, or after the clock stepped back.
    #[must_use]
    pub fn not_before_ms(&self) -> u64 {
        TimeId::EPOCH_MS + self.numbers.unused_ms().max(self.uuids.unused_ms())
    }

    /// The next 64-bit id.
    ///
    /// # Panics
    /// When all of 2094 is given out.
    pub fn next_id(&mut self, now_ms: u64) -> TimeId {
        let (ms, sequence) = self.numbers.next(now_ms);
        TimeId(ms << (SHARD_BITS + SEQUENCE_BITS) | u64::from(self.shard) << SEQUENCE_BITS | u64::from(sequence))
    }

    /// The next UUID of version 7 (RFC 9562, section 5.7): the time, a counter from 0 in each millisecond instead of
    /// `rand_a` (section 6.2, method 1), and in `rand_b` the shard as the second byte, all else random.
    ///
    /// # Panics
    /// When all of 2094 is given out.
    pub fn next_uuid(&mut self, now_ms: u64, rng: &mut impl RngCore) -> Uuid {
        let (ms, count) = self.uuids.next(now_ms);
        let mut rest = [0; 10];
        rng.fill_bytes(&mut rest[2..]);
        // The builder puts the version and the variant over the high bits of `rest[0]` and `rest[2]`.
        [rest[0], rest[1]] = [(count >> 8) as u8, count as u8];
        rest[3] = self.shard;
        uuid::Builder::from_unix_timestamp_millis(TimeId::EPOCH_MS + ms, &rest).into_uuid()
    }
}

impl TimeId {
    /// Where the time of an id begins: 2025-01-01, in milliseconds since 1970.
    pub const EPOCH_MS: u64 = 1_735_689_600_000;

    /// When it was made, in milliseconds since 1970; a little ahead of that if ids were borrowed.
    #[must_use]
    pub fn ms(self) -> u64 {
        (self.0 >> (SHARD_BITS + SEQUENCE_BITS)) + TimeId::EPOCH_MS
    }

    /// Which shard made it.
    #[must_use]
    pub fn shard(self) -> ShardId {
        ShardId((self.0 >> SEQUENCE_BITS) as u16 & (TimeIds::SHARDS_MAX - 1))
    }
}

impl fmt::Display for TimeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Ticks {
    fn new(ms: u64, per_ms: u32) -> Self {
        Self { ms, used: 0, per_ms }
    }

    /// The next pair, above all before. What does not fit a millisecond is borrowed from the next.
    fn next(&mut self, now_ms: u64) -> (u64, u32) {
        let now_ms = now_ms.saturating_sub(TimeId::EPOCH_MS);
        if now_ms > self.ms && now_ms <= MS_MAX {
            (self.ms, self.used) = (now_ms, 0);
        } else if self.used == self.per_ms {
            (self.ms, self.used) = (self.ms + 1, 0);
        }
        assert!(self.ms <= MS_MAX, "there are no ids beyond this time");
        self.used += 1;
        (self.ms, self.used - 1)
    }

    /// The first millisecond that nothing was given out of.
    fn unused_ms(&self) -> u64 {
        self.ms + u64::from(self.used > 0)
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng, rngs::StdRng};

    use super::*;

    const NOW_MS: u64 = 1_760_000_000_000;

    /// A clock that mostly creeps, and now and then jumps to and fro.
    fn tick(rng: &mut StdRng, clock_ms: &mut u64) -> u64 {
        match rng.random_range(0..100_000_u32) {
            0 => *clock_ms -= rng.random_range(0..60_000),
            1 => *clock_ms += rng.random_range(0..60_000),
            2 => *clock_ms += 1_000,
            3..50 => *clock_ms -= 1,
            50..200 => *clock_ms += 1,
            _ => {}
        }
        *clock_ms
    }

    /// Ids that rise within each shard and name the shard that made them are all different.
    #[test]
    fn ten_million_ids_of_four_shards_are_all_different_whatever_the_clock_does() {
        const SEED: u64 = 11;
        let mut rng = StdRng::seed_from_u64(SEED);
        let mut shards = [0, 1, 7, 255].map(|shard| (TimeIds::new(ShardId(shard), 0), ShardId(shard), TimeId(0)));
        let (mut clock_ms, mut borrowed) = (NOW_MS, 0);
        for n in 0..10_000_000 / shards.len() {
            let now_ms = tick(&mut rng, &mut clock_ms);
            for (ids, shard, last) in &mut shards {
                let id = ids.next_id(now_ms);
                assert!(id > *last && id.shard() == *shard, "seed {SEED}, id {n}: {last:?}, then {id:?} of {shard:?}");
                borrowed += u32::from(id.ms() > last.ms() && id.ms() > now_ms);
                *last = id;
            }
        }
        assert!(borrowed > 100, "the clock is too quiet: {borrowed}");
        assert!(shards.iter().all(|(ids, _, last)| ids.not_before_ms() == last.ms() + 1 && last.0 <= i64::MAX as u64));
    }

    #[test]
    fn uuids_of_four_shards_are_all_different_whatever_the_clock_does() {
        const SEED: u64 = 12;
        let mut rng = StdRng::seed_from_u64(SEED);
        let mut shards = [0, 1, 7, 255].map(|shard| (TimeIds::new(ShardId(shard), 0), shard as u8, Uuid::nil()));
        let mut clock_ms = NOW_MS;
        for n in 0..500_000 {
            let now_ms = tick(&mut rng, &mut clock_ms);
            for (ids, shard, last) in &mut shards {
                let id = ids.next_uuid(now_ms, &mut rng);
                // The order is in the time and the counter, whatever the random bits are.
                let ((before, old), (after, fresh)) = (last.as_u64_pair(), id.as_u64_pair());
                let right = id.as_bytes()[9] == *shard && id.get_version_num() == 7;
                assert!(right && id.get_variant() == uuid::Variant::RFC4122, "seed {SEED}, id {n}: {id} of {shard}");
                assert!(after > before && fresh != old, "seed {SEED}, id {n}: {last}, then {id}");
                *last = id;
            }
        }
    }

    #[test]
    fn an_exhausted_millisecond_borrows_from_the_next_and_gives_back() {
        let mut ids = TimeIds::new(ShardId(3), 0);
        let made: Vec<TimeId> = (0..=TimeIds::IDS_PER_MS).map(|_| ids.next_id(NOW_MS)).collect();
        assert_eq!(made[0].0, (NOW_MS - TimeId::EPOCH_MS) << 22 | 3 << 14);
        assert_eq!(made[TimeIds::IDS_PER_MS as usize - 1].0, made[0].0 + 16_383);
        assert_eq!(made[TimeIds::IDS_PER_MS as usize].0, (NOW_MS + 1 - TimeId::EPOCH_MS) << 22 | 3 << 14);
        assert_eq!(
            ids.next_id(NOW_MS + 1).0,
            made[TimeIds::IDS_PER_MS as usize].0 + 1,
            "its own millisecond is begun already"
        );
        assert_eq!(ids.next_id(NOW_MS + 2).ms(), NOW_MS + 2);

        let mut rng = StdRng::seed_from_u64(1);
        let made: Vec<u64> =
            (0..=TimeIds::UUIDS_PER_MS).map(|_| ids.next_uuid(NOW_MS, &mut rng).as_u64_pair().0).collect();
        assert_eq!(made[TimeIds::UUIDS_PER_MS as usize - 1], NOW_MS << 16 | 0x7fff);
        assert_eq!(made[TimeIds::UUIDS_PER_MS as usize], (NOW_MS + 1) << 16 | 0x7000);
    }

    #[test]
    fn a_restart_with_a_clock_that_stepped_back_repeats_nothing() {
        for seed in 0..200 {
            let mut rng = StdRng::seed_from_u64(seed);
            let (mut clock_ms, mut not_before_ms) = (NOW_MS, 0);
            let (mut last, mut last_uuid) = (TimeId(0), 0);
            for run in 0..10 {
                let mut ids = TimeIds::new(ShardId(1), not_before_ms);
                for _ in 0..rng.random_range(0..400) {
                    let now_ms = tick(&mut rng, &mut clock_ms);
                    if rng.random() {
                        let id = ids.next_id(now_ms);
                        assert!(id > last, "seed {seed}, run {run}: {last:?}, then {id:?}");
                        last = id;
                    } else {
                        let uuid = ids.next_uuid(now_ms, &mut rng).as_u64_pair().0;
                        assert!(uuid > last_uuid, "seed {seed}, run {run}: {last_uuid:x}, then {uuid:x}");
                        last_uuid = uuid;
                    }
                }
                not_before_ms = ids.not_before_ms();
                let unused = TimeIds::new(ShardId(1), not_before_ms);
                assert_eq!(unused.not_before_ms(), not_before_ms, "seed {seed}: nothing was given out");
                // Within the millisecond, or long before.
                clock_ms -= *[0, 0, 1, 5_000].get(rng.random_range(0..4)).expect("one of four");
            }
        }
    }

    #[test]
    fn a_clock_that_is_wildly_wrong_stops_nothing() {
        let (mut ids, mut rng) = (TimeIds::new(ShardId(0), 0), StdRng::seed_from_u64(1));
        assert_eq!(
            [ids.next_id(0), ids.next_id(u64::MAX), ids.next_id(TimeId::EPOCH_MS)],
            [TimeId(0), TimeId(1), TimeId(2)]
        );
        assert_eq!(ids.next_id(TimeId::EPOCH_MS + (1 << 41)), TimeId(3));
        let last = TimeId(((1 << 41) - 1) << 22);
        assert_eq!(ids.next_id(last.ms()), last);
        for wrong in [0, 1 << 48, u64::MAX] {
            assert_eq!(ids.next_uuid(wrong, &mut rng).as_u64_pair().0 >> 16, TimeId::EPOCH_MS);
        }
        assert_eq!(
            TimeIds::new(ShardId(0), ids.not_before_ms() - 1).next_id(0).ms(),
            last.ms(),
            "a restart is possible"
        );
    }

    #[test]
    #[should_panic(expected = "no ids beyond")]
    fn nothing_is_repeated_when_the_time_is_over() {
        let mut ids = TimeIds::new(ShardId(0), 0);
        let end_ms = TimeId::EPOCH_MS + (1 << 41) - 1;
        for _ in 0..=TimeIds::IDS_PER_MS {
            ids.next_id(end_ms);
        }
    }

    #[test]
    #[should_panic(expected = "256 shards")]
    fn there_is_no_shard_256() {
        let _ = TimeIds::new(ShardId(TimeIds::SHARDS_MAX), 0);
    }

    #[test]
    fn ids_are_written_as_others_write_them() {
        let id = TimeIds::new(ShardId(255), NOW_MS).next_id(0);
        assert_eq!((id.to_string().as_str(), id.ms(), id.shard()), ("101965207965777920", NOW_MS, ShardId(255)));
        let uuid = TimeIds::new(ShardId(255), NOW_MS).next_uuid(0, &mut StdRng::seed_from_u64(1)).to_string();
        assert!(uuid.starts_with("0199c82c-c000-7000-") && uuid[21..].starts_with("ff-"), "{uuid}");
    }
}
