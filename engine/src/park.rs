//! Who sleeps and must be woken, and whether looking for work a little longer is worth it.

use std::{
    os::fd::{AsRawFd, OwnedFd},
    sync::atomic::{AtomicBool, Ordering, fence},
    time::Duration,
};

use crossbeam::utils::CachePadded;

/// A won spin saves a wake-up (30-50 µs until the other side is served), a lost one costs at most 20 µs of an idle
/// core: spinning stays on while a third of the spins find work.
const CREDIT_WON: i32 = 2;
const CREDIT_LOST: i32 = 1;
const CREDIT_MAX: i32 = 16;

/// Parks without a spin after which one is tried again: three percent of the cost of spinning always.
const RETRY_AFTER: u32 = 32;

/// How other threads reach a shard.
pub(crate) struct Berth {
    parked: CachePadded<AtomicBool>,
    /// The shard's ring, as a bell for other shards. A duplicate: it must not name another file when the shard is gone.
    pub(crate) ring: OwnedFd,
    /// Read by the ring: the bell of the control thread.
    pub(crate) eventfd: OwnedFd,
}

impl Berth {
    pub(crate) fn new(ring: OwnedFd, eventfd: OwnedFd) -> Self {
        Self { parked: CachePadded::default(), ring, eventfd }
    }

    /// The owner is about to park. It must look for work once more afterwards, and leave with [`Berth::leave`].
    pub(crate) fn enter(&self) {
        self.parked.store(true, Ordering::Relaxed);
        // Pairs with the fence in `must_ring`: either the sender sees the flag, or we see its mail.
        fence(Ordering::SeqCst);
    }

    /// The owner is awake.
    pub(crate) fn leave(&self) {
        self.parked.store(false, Ordering::Relaxed);
    }

    /// Whether the owner sleeps and nobody has rung yet. Called after publishing something for it.
    pub(crate) fn must_ring(&self) -> bool {
        fence(Ordering::SeqCst);
        self.parked.load(Ordering::Relaxed) && self.parked.swap(false, Ordering::Relaxed)
    }

    /// Rings from a thread that has no ring.
    pub(crate) fn ring_eventfd(&self) {
        let one = 1u64.to_ne_bytes();
        // SAFETY: eight readable bytes, as an eventfd wants them. It cannot fail but for an overflow, and then it rings.
        unsafe { libc::write(self.eventfd.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }
}

/// Decides whether to spin.
pub(crate) struct Spin {
    most: Duration,
    credit: i32,
    skipped: u32,
}

impl Spin {
    pub(crate) fn new(spin_us: u32) -> Self {
        Self { most: Duration::from_micros(u64::from(spin_us)), credit: 0, skipped: 0 }
    }

    /// How long to look for work before parking now.
    pub(crate) fn allowance(&mut self) -> Option<Duration> {
        if self.most.is_zero() {
            return None;
        }
        if self.credit >= 0 {
            return Some(self.most);
        }
        self.skipped += 1;
        if self.skipped < RETRY_AFTER {
            return None;
        }
        self.skipped = 0;
        Some(self.most)
    }

    /// How the last spin ended.
    pub(crate) fn learn(&mut self, won: bool) {
        let change = if won { CREDIT_WON } else { -CREDIT_LOST };
        self.credit = (self.credit + change).clamp(-CREDIT_MAX, CREDIT_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spinning_stops_when_it_does_not_pay_and_starts_again_when_it_does() {
        let mut spin = Spin::new(20);
        for _ in 0..2 * CREDIT_MAX {
            spin.learn(false);
        }
        let tried = (0..RETRY_AFTER * 10).filter(|_| spin.allowance().is_some()).count();
        assert_eq!(tried, 10);
        for _ in 0..CREDIT_MAX {
            spin.learn(true);
        }
        assert!(spin.allowance().is_some());
        assert!(Spin::new(0).allowance().is_none());
    }
}
