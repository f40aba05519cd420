//! Drain: sends slowly until the queue that Startup made is gone (draft section 5.3.2).

use super::{super::unit::Nanos, Bbr, State};

/// Round trips after which it is enough: the rate may have been overestimated, and is measured again in ProbeBW.
const ROUNDS_MAX: u64 = 3;

impl Bbr {
    pub(super) fn enter_drain(&mut self) {
        self.state = State::Drain;
        self.probe.drain_start_round = self.model.round_count;
    }

    pub(super) fn check_drain_done(&mut self, now: Nanos, in_flight: u64) {
        if self.state == State::Drain
            && (in_flight <= self.inflight(self.model.bw(), 100)
                || self.model.round_count > self.probe.drain_start_round + ROUNDS_MAX)
        {
            self.enter_probe_bw(now);
        }
    }
}
