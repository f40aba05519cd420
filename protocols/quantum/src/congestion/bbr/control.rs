//! What follows from the model: pacing rate, train, window (draft section 5.6).

use super::{
    super::{
        Ack, initial_window,
        unit::{MILLISECOND, Percent, bytes_in, percent, rate_of},
    },
    Bbr, State, UNLIMITED,
};

/// `PacingMarginPercent` is 1: paced a little below the rate, queues drain on average.
const PACING_MARGIN: Percent = 99;

/// What one train may hold.
const TRAIN_BYTES_MAX: u64 = 64 * 1024;

/// Trains that may be under way beside the data in the network: one being sent, one being received, one unacknowledged.
const TRAINS: u64 = 3;

impl Bbr {
    /// `UpdateControlParameters`.
    pub(super) fn update_control_parameters(&mut self, ack: &Ack) {
        if self.delivered == ack.sample.newly_acked && !self.full_bw.reached {
            // The first round trip is measured: the guess that it takes a millisecond is replaced, downwards too.
            self.pacing_rate =
                percent(rate_of(initial_window(self.mtu), ack.smoothed_rtt), State::Startup.pacing_gain());
        }
        self.set_pacing_rate(self.state.pacing_gain());
        self.set_window(ack.sample.newly_acked);
    }

    /// `SetPacingRateWithGain`: until the path was full once, the rate only rises.
    pub(super) fn set_pacing_rate(&mut self, gain: Percent) {
        let rate = percent(percent(self.model.bw(), gain), PACING_MARGIN);
        if rate > 0 && (self.full_bw.reached || rate > self.pacing_rate) {
            self.pacing_rate = rate;
        }
    }

    /// `UpdateOffloadBudget`, of the larger one of the draft's two proposals: Quantum's receivers get trains by GRO and
    /// acknowledge them at once.
    pub(super) fn offload_budget(&self) -> u64 {
        TRAINS * bytes_in(self.pacing_rate, MILLISECOND).clamp(2 * self.mtu(), TRAIN_BYTES_MAX)
    }

    /// `SetCwnd`.
    fn set_window(&mut self, newly_acked: u64) {
        let max_inflight = self.max_inflight();
        if self.full_bw.reached {
            self.window = self.window.saturating_add(newly_acked).min(max_inflight);
        } else if self.window < max_inflight || self.delivered < initial_window(self.mtu) {
            self.window = self.window.saturating_add(newly_acked);
        }
        self.window = self.window.max(self.min_pipe_window());
        if self.state == State::ProbeRtt {
            self.window = self.window.min(self.probe_rtt_window());
        }
        self.bound_window_for_model();
    }

    /// `BoundCwndForModel`.
    fn bound_window_for_model(&mut self) {
        let cap = match self.state {
            State::Startup | State::Drain => UNLIMITED,
            State::Down | State::Refill | State::Up => self.model.inflight_longterm,
            State::Cruise | State::ProbeRtt => self.inflight_with_headroom(),
        };
        let cap = cap.min(self.model.inflight_shortterm).max(self.min_pipe_window());
        self.window = self.window.min(cap);
    }
}
