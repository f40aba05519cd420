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
