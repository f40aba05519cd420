//! Startup: doubles the rate every round trip, until the path is full (draft section 5.3.1).

use super::{
    super::{delivery::Sample, unit::percent},
    Bbr, State,
};

/// Round trips without growth that say the path is full.
const FULL_BW_ROUNDS: u8 = 3;

/// What counts as growth of the rate.
const GROWTH: u64 = 125;

/// Separate losses within a round trip that may say the path is full (`BBRStartupFullLossCnt`).
const FULL_LOSSES: u16 = 6;

/// The estimator of a full path.
#[derive(Default, Debug)]
pub(super) struct FullBw {
    /// The rate that has to be outgrown.
    bw: u64,
    rounds: u8,
    /// Since it was last looked for.
    pub(super) now: bool,
    /// Ever.
    pub(super) reached: bool,
}

impl Bbr {
    pub(super) fn enter_startup(&mut self) {
        self.state = State::Startup;
    }

    pub(super) fn check_startup_done(&mut self) {
        if self.state == State::Startup && self.full_bw.reached {
            self.enter_drain();
        }
    }

    /// `ResetFullBW`, with the rate to start from.
    pub(super) fn reset_full_bw(&mut self, bw: u64) {
        self.full_bw.bw = bw;
        self.full_bw.rounds = 0;
        self.full_bw.now = false;
    }

    pub(super) fn check_full_bw_reached(&mut self, sample: &Sample, rate: u64) {
        if self.full_bw.now || !self.model.round_start || sample.stamp.app_limited || rate == 0 {
            return;
        }
        if rate >= percent(self.full_bw.bw, GROWTH) {
            self.reset_full_bw(rate);
            return;
        }
        self.full_bw.rounds += 1;
        self.full_bw.now = self.full_bw.rounds >= FULL_BW_ROUNDS;
        self.full_bw.reached |= self.full_bw.now;
    }

    /// At the end of a round trip with losses.
    pub(super) fn check_startup_high_loss(&mut self) {
        if self.state != State::Startup || self.loss.events_in_round < FULL_LOSSES || !self.is_startup_loss_high() {
            return;
        }
        self.loss.undo.state = Some(State::Startup);
        self.full_bw.now = true;
        self.full_bw.reached = true;
        self.model.inflight_longterm = self.bdp_multiple(self.model.bw(), 100).max(self.model.inflight_latest);
    }
}
