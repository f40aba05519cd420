//! The time of a turn: one clock read, from which the wall clock's time follows too.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long the wall clock is reckoned from the monotonic one before it is read again: an adjusted clock shows up
/// within a second.
const WALL_KEPT: Duration = Duration::from_secs(1);

/// Reads the clocks for one shard.
pub(crate) struct Clock {
    read_at: Instant,
    wall: Duration,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self { read_at: Instant::now(), wall: wall() }
    }

    /// The time now, and the milliseconds since 1970.
    pub(crate) fn now(&mut self) -> (Instant, u64) {
        let now = Instant::now();
        if now.saturating_duration_since(self.read_at) > WALL_KEPT {
            (self.read_at, self.wall) = (now, wall());
        }
        let wall = self.wall + now.saturating_duration_since(self.read_at);
        (now, u64::try_from(wall.as_millis()).unwrap_or(u64::MAX))
    }
}

fn wall() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// How often the thread's CPU time is read: reading it is a system call.
const CPU_TIME_EVERY: Duration = Duration::from_millis(10);

/// The CPU time of one shard's thread, the kernel's work for it included.
pub(crate) struct CpuTime {
    started: Instant,
    read_at: Instant,
}

impl CpuTime {
    pub(crate) fn new(now: Instant) -> Self {
        Self { started: now, read_at: now }
    }

    /// Nanoseconds busy and idle since the start, if it is time to look again. Called on the thread itself.
    pub(crate) fn sample(&mut self, now: Instant) -> Option<(u64, u64)> {
        if now.saturating_duration_since(self.read_at) < CPU_TIME_EVERY {
            return None;
        }
        self.read_at = now;
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the time is ours to write.
        unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
        let busy = (time.tv_sec as u64).saturating_mul(1_000_000_000).saturating_add(time.tv_nsec as u64);
        let wall = u64::try_from((now - self.started).as_nanos()).unwrap_or(u64::MAX);
        Some((busy, wall.saturating_sub(busy)))
    }
}
