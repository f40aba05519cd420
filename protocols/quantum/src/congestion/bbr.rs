//! BBR as draft-ietf-ccwg-bbr has it (text of August 2026), with one addition: losses that come while no queue stands
//! are taken as the path's own and tolerated (`loss.rs`). One file per state, and the draft's names.

mod control;
mod drain;
mod loss;
mod model;
mod probe_bw;
mod probe_rtt;
mod startup;

use self::{loss::Loss, model::Model, probe_bw::Probe, probe_rtt::MinRtt, startup::FullBw};
use super::{
    Ack, Stamp,
    delivery::Sampler,
    initial_window,
    unit::{MILLISECOND, Nanos, Percent, percent, rate_of},
};

/// No limit is known: the draft's Infinity.
const UNLIMITED: u64 = u64::MAX;

/// What is always allowed in flight, in packets, so that a receiver that acknowledges every other one keeps it moving
/// (`MinPipeCwnd`).
const MIN_PIPE_PACKETS: u64 = 4;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    Startup,
    Drain,
    Down,
    Cruise,
    Refill,
    Up,
    ProbeRtt,
}

impl State {
    /// Draft section 5.6.1, column "Pacing Gain".
    fn pacing_gain(self) -> Percent {
        match self {
            Self::Startup => 277,
            Self::Drain => 50,
            Self::Down => 90,
            Self::Cruise | Self::Refill | Self::ProbeRtt => 100,
            Self::Up => 125,
        }
    }

    /// Draft section 5.6.1, column "Cwnd Gain".
    fn window_gain(self) -> Percent {
        match self {
            Self::Startup | Self::Drain | Self::Down | Self::Cruise | Self::Refill => 200,
            Self::Up => 225,
            Self::ProbeRtt => 50,
        }
    }

    fn is_probe_bw(self) -> bool {
        matches!(self, Self::Down | Self::Cruise | Self::Refill | Self::Up)
    }

    /// Whether the flow accelerates: what is lost meanwhile is judged by the rate of loss, not by every single one.
    fn is_probing(self) -> bool {
        matches!(self, Self::Startup | Self::Refill | Self::Up)
    }
}

/// The state of one BBR flow.
#[derive(Debug)]
pub(super) struct Bbr {
    state: State,
    mtu: u16,
    /// Restarted from idleness, which drained the queue as well as ProbeRTT would have.
    idle_restart: bool,
    /// Whether the window was all used in this round trip, and in the one before.
    window_limited: [bool; 2],
    window: u64,
    /// The last good window, for after ProbeRTT and spurious loss (`prior_cwnd`).
    prior_window: u64,
    pacing_rate: u64,
    /// `C.delivered`, as of the event that is being processed.
    delivered: u64,
    model: Model,
    full_bw: FullBw,
    probe: Probe,
    min_rtt: MinRtt,
    loss: Loss,
}

impl Bbr {
    pub(super) fn new(now: Nanos, mtu: u16) -> Self {
        let window = initial_window(mtu);
        Self {
            state: State::Startup,
            mtu,
            idle_restart: false,
            window_limited: [false; 2],
            window,
            prior_window: 0,
            // Until the first round trip is measured, as if it took a millisecond (`InitPacingRate`).
            pacing_rate: percent(rate_of(window, MILLISECOND), State::Startup.pacing_gain()),
            delivered: 0,
            model: Model::new(now),
            full_bw: FullBw::default(),
            probe: Probe::default(),
            min_rtt: MinRtt::new(now),
            loss: Loss::default(),
        }
    }

    pub(super) fn window(&self) -> u64 {
        self.window
    }

    pub(super) fn pacing_rate(&self) -> u64 {
        self.pacing_rate
    }

    pub(super) fn on_mtu(&mut self, mtu: u16) {
        self.mtu = mtu;
        self.window = self.window.max(self.min_pipe_window());
    }

    /// `HandleRestartFromIdle` of the draft, and whether the window is what limits.
    pub(super) fn on_sent(&mut self, now: Nanos, stamp: &Stamp, in_flight_before: u64, app_limited: bool) {
        if u64::from(stamp.in_flight) + self.mtu() > self.window {
            self.window_limited[0] = true;
        }
        if in_flight_before != 0 || !app_limited {
            return;
        }
        self.idle_restart = true;
        self.model.restart_ack_aggregation(now);
        if self.state.is_probe_bw() {
            self.set_pacing_rate(100);
        } else if self.state == State::ProbeRtt {
            self.check_probe_rtt_done(now);
        }
    }

    /// `UpdateOnACK` of the draft.
    pub(super) fn on_ack(&mut self, now: Nanos, ack: &Ack, sampler: &mut Sampler) {
        self.delivered = ack.delivered;
        self.note_queue(now, ack);
        if ack.sample.newly_acked == 0 {
            return;
        }
        let rate = self.rate_sample(&ack.sample);
        self.update_latest_delivery_signals(&ack.sample, rate);
        self.update_max_bw(&ack.sample, rate);
        if self.loss.round_start {
            self.check_startup_high_loss();
            self.adapt_lower_bounds_from_congestion();
        }
        self.model.update_ack_aggregation(now, ack.sample.newly_acked, self.window, self.full_bw.reached);
        self.check_full_bw_reached(&ack.sample, rate);
        self.check_startup_done();
        self.check_drain_done(now, ack.in_flight);
        self.update_probe_bw_cycle_phase(now, ack, rate);
        self.update_min_rtt(now, &ack.sample);
        self.check_probe_rtt(now, ack, sampler);
        self.advance_latest_delivery_signals(&ack.sample, rate);
        self.update_control_parameters(ack);
    }

    /// The pipe may be empty for all that is known: the least window, which acknowledgements open again. The model
    /// stays: it is what the path could do, and is bounded by what they show next (`OnEnterRTO`).
    pub(super) fn on_persistent_congestion(&mut self) {
        self.save_window();
        self.window = self.min_pipe_window();
    }

    /// Which state it is in, for tests.
    #[cfg(test)]
    pub(super) fn state(&self) -> State {
        self.state
    }

    /// The model's rate in bytes per second, for tests.
    #[cfg(test)]
    pub(super) fn max_bw(&self) -> u64 {
        self.model.max_bw()
    }

    /// Round trips so far, for tests.
    #[cfg(test)]
    pub(super) fn round_count(&self) -> u64 {
        self.model.round_count
    }

    fn mtu(&self) -> u64 {
        self.mtu.into()
    }

    fn min_pipe_window(&self) -> u64 {
        MIN_PIPE_PACKETS * self.mtu()
    }

    /// `SaveCwnd`.
    fn save_window(&mut self) {
        self.prior_window = if self.loss.in_round || self.state == State::ProbeRtt {
            self.prior_window.max(self.window)
        } else {
            self.window
        };
    }

    /// `RestoreCwnd`.
    fn restore_window(&mut self) {
        self.window = self.window.max(self.prior_window);
    }
}
