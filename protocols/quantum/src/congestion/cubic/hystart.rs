//! HyStart++ (RFC 9406): leaves slow start when the round-trip time grows, before a queue overflows.

use super::super::unit::{MILLISECOND, Nanos};

const MIN_RTT_THRESH: Nanos = 4 * MILLISECOND;
const MAX_RTT_THRESH: Nanos = 16 * MILLISECOND;
const MIN_RTT_DIVISOR: Nanos = 8;
const RTT_SAMPLES: u8 = 8;
const CSS_GROWTH_DIVISOR: u64 = 4;
const CSS_ROUNDS: u8 = 5;
const UNKNOWN: Nanos = Nanos::MAX;

/// The state of slow start.
#[derive(Debug)]
pub(super) struct HyStart {
    last_round_min_rtt: Nanos,
    round_min_rtt: Nanos,
    samples: u8,
    /// Rounds of conservative slow start (CSS), once it has begun.
    css_rounds: u8,
    /// The smallest time of the round before; `UNKNOWN`: this is no CSS.
    css_baseline: Nanos,
}

impl Default for HyStart {
    fn default() -> Self {
        Self { last_round_min_rtt: UNKNOWN, round_min_rtt: UNKNOWN, samples: 0, css_rounds: 0, css_baseline: UNKNOWN }
    }
}

impl HyStart {
    /// Whether slow start ends now (RFC 9406 section 4.2).
    pub(super) fn on_ack(&mut self, rtt: Nanos, is_round_start: bool) -> bool {
        if is_round_start {
            self.last_round_min_rtt = self.round_min_rtt;
            self.round_min_rtt = UNKNOWN;
            self.samples = 0;
            if self.css_baseline != UNKNOWN {
                self.css_rounds += 1;
                if self.css_rounds >= CSS_ROUNDS {
                    return true;
                }
            }
        }
        self.round_min_rtt = self.round_min_rtt.min(rtt);
        self.samples = self.samples.saturating_add(1);
        if self.samples < RTT_SAMPLES {
            return false;
        }
        if self.css_baseline == UNKNOWN {
            if self.last_round_min_rtt != UNKNOWN {
                let thresh = (self.last_round_min_rtt / MIN_RTT_DIVISOR).clamp(MIN_RTT_THRESH, MAX_RTT_THRESH);
                if self.round_min_rtt >= self.last_round_min_rtt + thresh {
                    self.css_baseline = self.round_min_rtt;
                    self.css_rounds = 0;
                }
            }
        } else if self.round_min_rtt < self.css_baseline {
            // The growth was none: back to slow start.
            self.css_baseline = UNKNOWN;
        }
        false
    }

    /// By how much slower than in slow start the window grows. Sends are paced, so that there is no other limit (L).
    pub(super) fn divisor(&self) -> u64 {
        if self.css_baseline == UNKNOWN { 1 } else { CSS_GROWTH_DIVISOR }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rounds of ten packets, each with one time; how many it takes to leave slow start.
    fn rounds_until_exit(hystart: &mut HyStart, rtts_ms: impl IntoIterator<Item = u64>) -> Option<usize> {
        for (round, rtt) in rtts_ms.into_iter().enumerate() {
            for packet in 0..10 {
                if hystart.on_ack(rtt * MILLISECOND, packet == 0) {
                    return Some(round);
                }
            }
        }
        None
    }

    #[test]
    fn steady_times_never_end_slow_start() {
        assert_eq!(rounds_until_exit(&mut HyStart::default(), [40; 50]), None);
    }

    #[test]
    fn growing_times_end_it_after_five_careful_rounds() {
        let mut hystart = HyStart::default();
        assert_eq!(rounds_until_exit(&mut hystart, [40, 40, 46, 48, 50, 52, 54, 56, 58]), Some(7));
    }

    #[test]
    fn growth_below_the_threshold_is_noise() {
        // 40 / 8 = 5 ms.
        assert_eq!(rounds_until_exit(&mut HyStart::default(), [40, 44, 40, 44, 40, 44]), None);
    }

    #[test]
    fn it_goes_on_when_the_growth_was_passing() {
        let mut hystart = HyStart::default();
        assert_eq!(rounds_until_exit(&mut hystart, [40, 46, 40, 40, 40, 40, 40, 40, 40, 40]), None);
        assert_eq!(hystart.divisor(), 1);
    }
}
