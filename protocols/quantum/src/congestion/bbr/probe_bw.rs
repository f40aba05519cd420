//! ProbeBW: cycles through sending slower, as fast as, and faster than the path delivers (draft section 5.3.3).

use super::{
    super::{
        Ack,
        unit::{Nanos, SECOND, percent},
    },
    Bbr, State, UNLIMITED,
};

/// What is left free of the inflight that is known to be too much (`Headroom`).
const HEADROOM: u64 = 15;

/// A probe ends when it has added a queue of this part of a round trip, and at least so much, and has not gained this part
/// of the rate: measured on a queue of one BDP, where it keeps the longest wait below 15 ms at 40 ms.
const QUEUE_ADDED: u64 = 10;
const QUEUE_ADDED_FLOOR: Nanos = 1_000_000;
const RATE_GAINED: u64 = 20;

/// It may add this part of the queue that stood before, in percent: where others keep a long one, a little more harms
/// nobody, and who adds less is left with less by them. Measured beside CUBIC on four BDP: 31 % of the link, 17 without.
const QUEUE_ADDED_TO: u64 = 50;

/// Round trips after which a probe is due, so that Reno and CUBIC flows of a usual size, which grow by a packet in
/// each, are neither starved nor followed (draft section 5.3.3.5).
const RENO_ROUNDS_MAX: u64 = 63;

/// What the acknowledgements that come in now are about, with regard to probing.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) enum AckPhase {
    #[default]
    Init,
    Refilling,
    ProbeStarting,
    ProbeFeedback,
    ProbeStopping,
}

/// The state of the cycle.
#[derive(Debug)]
pub(super) struct Probe {
    pub(super) ack_phase: AckPhase,
    /// Rate samples now are of a probe.
    pub(super) is_sample: bool,
    pub(super) prev_too_high: bool,
    prev_precautionary: bool,
    up_rounds: u8,
    pub(super) rounds_since_up: u32,
    pub(super) drain_start_round: u64,
    up_acked: u64,
    up_acked_per_increase: u64,
    /// The queue and the rate when the probe began.
    up_queue: Nanos,
    up_rate: u64,
    wait: Nanos,
    cycle_at: Nanos,
}

impl Default for Probe {
    fn default() -> Self {
        Self {
            ack_phase: AckPhase::Init,
            is_sample: false,
            prev_too_high: false,
            prev_precautionary: false,
            up_rounds: 0,
            rounds_since_up: 0,
            drain_start_round: 0,
            up_acked: 0,
            up_acked_per_increase: UNLIMITED,
            up_queue: 0,
            up_rate: 0,
            wait: 0,
            cycle_at: 0,
        }
    }
}

impl Bbr {
    pub(super) fn enter_probe_bw(&mut self, now: Nanos) {
        self.start_probe_bw_down(now);
    }

    pub(super) fn start_probe_bw_down(&mut self, now: Nanos) {
        self.reset_congestion_signals();
        self.probe.up_acked_per_increase = UNLIMITED;
        self.pick_probe_wait(now);
        self.probe.cycle_at = now;
        self.probe.ack_phase = AckPhase::ProbeStopping;
        self.start_round();
        self.state = State::Down;
    }

    pub(super) fn start_probe_bw_cruise(&mut self) {
        self.state = State::Cruise;
    }

    pub(super) fn start_probe_bw_refill(&mut self) {
        self.model.reset_short_term();
        self.probe.up_rounds = 0;
        self.probe.up_acked = 0;
        self.probe.prev_precautionary = false;
        self.probe.ack_phase = AckPhase::Refilling;
        self.start_round();
        self.state = State::Refill;
    }

    fn start_probe_bw_up(&mut self, ack: &Ack, rate: u64) {
        self.probe.up_queue = ack.path_rtt.saturating_sub(ack.path_rtt_min);
        self.probe.up_rate = self.model.max_bw();
        self.probe.ack_phase = AckPhase::ProbeStarting;
        self.start_round();
        self.reset_full_bw(rate);
        self.state = State::Up;
        self.raise_inflight_longterm_slope();
    }

    /// The state machine of ProbeBW, on every ACK.
    pub(super) fn update_probe_bw_cycle_phase(&mut self, now: Nanos, ack: &Ack, rate: u64) {
        if !self.full_bw.reached || self.adapt_long_term_model(ack) {
            return;
        }
        match self.state {
            State::Startup | State::Drain | State::ProbeRtt => {}
            State::Down => {
                if self.is_time_to_probe_bw(now) {
                    self.start_probe_bw_refill();
                } else if self.is_time_to_cruise(ack.in_flight) {
                    self.start_probe_bw_cruise();
                }
            }
            State::Cruise => {
                if self.is_time_to_probe_bw(now) {
                    self.start_probe_bw_refill();
                }
            }
            State::Refill => {
                if self.model.round_start {
                    self.probe.is_sample = true;
                    self.start_probe_bw_up(ack, rate);
                }
            }
            State::Up => {
                if self.is_time_to_go_down(now, ack, rate) {
                    self.probe.prev_too_high = false;
                    self.start_probe_bw_down(now);
                }
            }
        }
    }

    /// `InflightWithHeadroom`.
    pub(super) fn inflight_with_headroom(&self) -> u64 {
        let longterm = self.model.inflight_longterm;
        if longterm == UNLIMITED {
            return UNLIMITED;
        }
        let headroom = percent(longterm, HEADROOM).max(self.mtu());
        longterm.saturating_sub(headroom).max(self.min_pipe_window())
    }

    fn is_time_to_cruise(&self, in_flight: u64) -> bool {
        in_flight <= self.inflight_with_headroom() && in_flight <= self.inflight(self.model.max_bw(), 100)
    }

    fn is_time_to_go_down(&mut self, now: Nanos, ack: &Ack, rate: u64) -> bool {
        let in_flight = ack.in_flight;
        if self.is_probe_in_vain(ack, rate) {
            // It ends before the queue is long enough to be seen as one otherwise.
            self.loss.see_queue(now);
            return true;
        }
        if self.probe.prev_too_high && in_flight >= self.model.inflight_longterm {
            self.probe.prev_precautionary = true;
            return true;
        }
        if self.is_window_limited() && self.window >= self.model.inflight_longterm {
            // The rate is limited by what is known to be safe in flight, so it says nothing.
            self.reset_full_bw(rate);
            return false;
        }
        self.full_bw.now
    }

    /// Whether the probe only lengthens a queue. The draft waits for three rounds without growth, in which the queue becomes
    /// most of a round trip long; whoever shares the path waits behind it. A queue that others keep is no reason to end:
    /// what counts is what was added since the probe began, and brought nothing.
    fn is_probe_in_vain(&self, ack: &Ack, rate: u64) -> bool {
        let added = (ack.path_rtt_min / QUEUE_ADDED).max(QUEUE_ADDED_FLOOR);
        let added = added.max(percent(self.probe.up_queue, QUEUE_ADDED_TO));
        let queue = ack.path_rtt.saturating_sub(ack.path_rtt_min);
        ack.sample.rtt.is_some()
            && queue > self.probe.up_queue + added
            && rate <= self.probe.up_rate + self.probe.up_rate / RATE_GAINED
    }

    fn is_time_to_probe_bw(&self, now: Nanos) -> bool {
        now > self.probe.cycle_at + self.probe.wait || self.is_reno_coexistence_probe_time()
    }

    fn is_reno_coexistence_probe_time(&self) -> bool {
        let rounds = (self.target_inflight() / self.mtu()).min(RENO_ROUNDS_MAX);
        u64::from(self.probe.rounds_since_up) >= rounds
    }

    /// When to probe next: 2 to 3 seconds, and one round trip more or less, so that flows do not probe together. The
    /// core has no randomness of its own: what it mixes differs between any two flows.
    fn pick_probe_wait(&mut self, now: Nanos) {
        let mixed = mix(now ^ self.delivered.rotate_left(32) ^ self.model.max_bw().rotate_left(16));
        self.probe.rounds_since_up = (mixed & 1) as u32;
        self.probe.wait = 2 * SECOND + (mixed >> 1) % SECOND;
    }

    /// `RaiseInflightLongtermSlope`: doubles the growth every round trip.
    fn raise_inflight_longterm_slope(&mut self) {
        let growth = 1_u64 << self.probe.up_rounds;
        self.probe.up_rounds = (self.probe.up_rounds + 1).min(30);
        self.probe.up_acked_per_increase = (self.window / growth).max(self.mtu());
    }

    /// `ProbeInflightLongtermUpward`.
    fn probe_inflight_longterm_upward(&mut self, newly_acked: u64) {
        if !self.is_window_limited() || self.window < self.model.inflight_longterm {
            return;
        }
        self.probe.up_acked += newly_acked;
        let increases = self.probe.up_acked / self.probe.up_acked_per_increase;
        self.probe.up_acked %= self.probe.up_acked_per_increase;
        self.model.inflight_longterm = self.model.inflight_longterm.saturating_add(increases * self.mtu());
        if self.model.round_start {
            self.raise_inflight_longterm_slope();
        }
    }

    /// `AdaptLongTermModel`: whether it changed the state.
    fn adapt_long_term_model(&mut self, ack: &Ack) -> bool {
        if self.model.round_start && self.probe.ack_phase == AckPhase::ProbeStarting {
            self.probe.ack_phase = AckPhase::ProbeFeedback;
        }
        if self.model.round_start && self.probe.ack_phase == AckPhase::ProbeStopping {
            self.probe.is_sample = false;
            self.probe.ack_phase = AckPhase::Init;
            if self.state.is_probe_bw() {
                if !ack.sample.stamp.app_limited {
                    self.model.advance_max_bw_filter();
                }
                if self.probe.prev_precautionary && !self.probe.prev_too_high {
                    self.start_probe_bw_refill();
                    return true;
                }
            }
        }
        if self.model.inflight_longterm == UNLIMITED || self.is_sample_loss_high(&ack.sample) {
            return false;
        }
        self.model.inflight_longterm = self.model.inflight_longterm.max(ack.sample.stamp.in_flight.into());
        if self.state == State::Up {
            self.probe_inflight_longterm_upward(ack.sample.newly_acked);
        }
        false
    }
}

/// The finalizer of SplitMix64.
fn mix(seed: u64) -> u64 {
    let seed = (seed ^ (seed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let seed = (seed ^ (seed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    seed ^ (seed >> 31)
}
