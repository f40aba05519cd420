//! One clock for all processes of a run: CLOCK_MONOTONIC, which network namespaces share.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds of CLOCK_MONOTONIC.
#[must_use]
pub fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

/// Turns instants into nanoseconds of that clock and back.
#[derive(Clone, Copy, Debug)]
pub struct Anchor {
    instant: Instant,
    ns: u64,
}

impl Anchor {
    /// Looks at both clocks at once; they are the same one, so any moment will do.
    #[must_use]
    pub fn now() -> Self {
        Self { instant: Instant::now(), ns: now_ns() }
    }

    /// Nanoseconds of an instant.
    #[must_use]
    pub fn ns(&self, at: Instant) -> u64 {
        let nanos = |span: Duration| u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        match at.checked_duration_since(self.instant) {
            Some(later) => self.ns.saturating_add(nanos(later)),
            None => self.ns.saturating_sub(nanos(self.instant - at)),
        }
    }

    /// The instant of nanoseconds.
    #[must_use]
    pub fn instant(&self, ns: u64) -> Instant {
        if ns >= self.ns {
            self.instant + Duration::from_nanos(ns - self.ns)
        } else {
            self.instant - Duration::from_nanos(self.ns - ns)
        }
    }
}
