//! Whether the wall clock is to be believed: one that is wrong for a moment must not make all messages too old.

use std::time::{Duration, Instant};

/// A wall clock that gains or loses more from one look to the next, compared to the one that is never set, was set. Clocks
/// that are slewed gain or lose a few milliseconds in the time between two looks.
const DRIFT_MAX: Duration = Duration::from_secs(2);

/// So long it has to go on without being set before it is believed again: time for whoever set it to see that it is wrong,
/// and messages are kept for that much longer.
const SETTLES_AFTER: Duration = Duration::from_secs(3_600);

/// What the looks have shown. A machine that was asleep looks like one whose clock was set.
#[derive(Default, Debug)]
pub(super) struct Clock {
    /// When the last look was, by both clocks.
    last: Option<(Instant, u64)>,
    /// When a look has shown last that the wall clock was set.
    set: Option<Instant>,
}

impl Clock {
    /// Looks at both clocks, the second one in milliseconds since 1970; whether the wall clock is to be believed. It is at
    /// the first look: there is nothing yet that says otherwise.
    pub(super) fn look(&mut self, now: Instant, wall_ms: u64) -> bool {
        if let Some((then, then_ms)) = self.last.replace((now, wall_ms)) {
            let expected_ms = u128::from(then_ms) + (now - then).as_millis();
            if u128::from(wall_ms).abs_diff(expected_ms) > DRIFT_MAX.as_millis() {
                self.set = Some(now);
            }
        }
        self.set.is_none_or(|set| now - set >= SETTLES_AFTER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const YEAR_MS: u64 = 365 * 24 * 3_600 * 1_000;

    #[test]
    fn a_clock_that_was_set_is_believed_when_it_has_settled() {
        let (mut clock, mut now, mut wall_ms) = (Clock::default(), Instant::now(), 7 * YEAR_MS);
        let mut pass = |clock: &mut Clock, secs, gains_ms| {
            now += Duration::from_secs(secs);
            wall_ms = (wall_ms + secs * 1_000).saturating_add_signed(gains_ms);
            clock.look(now, wall_ms)
        };
        assert!(pass(&mut clock, 0, 0));
        // It is slewed.
        assert!((0..10_000).all(|_| pass(&mut clock, 5, 3)));
        assert!(!pass(&mut clock, 5, YEAR_MS as i64));
        assert!(!pass(&mut clock, 3_599, 0));
        assert!(pass(&mut clock, 1, 0), "it was set for good");
        // Ahead for a moment, and right for a moment.
        assert!(!pass(&mut clock, 5, YEAR_MS as i64));
        assert!(!pass(&mut clock, 1_800, -(YEAR_MS as i64)));
        assert!(!pass(&mut clock, 3_599, 0));
        assert!(pass(&mut clock, 1, 0));
        // To the beginning of time and back.
        assert!(!pass(&mut clock, 5, -20 * YEAR_MS as i64));
    }
}
