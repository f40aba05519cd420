//! The model of the path: how much it carries a second, how much fits in flight, how its acknowledgements clump (draft
//! section 5.5).

use super::{
    super::{
        delivery::Sample,
        unit::{MILLISECOND, Nanos, bytes_in, percent, rate_of},
    },
    Bbr, UNLIMITED,
};

/// Round trips per half of the window of the aggregation filter (`ExtraAckedFilterLen` is 10).
const EXTRA_ACKED_ROUNDS: u8 = 5;

/// The shortest round trip that windows are computed for. Hosts neither wake up nor acknowledge finer than this, so
/// that a window of one shorter round trip, as on loopback, would be used up before anybody looks.
const RTT_FLOOR: Nanos = MILLISECOND;

#[derive(Debug)]
pub(super) struct Model {
    /// The largest rate of this ProbeBW cycle and of the one before, in bytes per second.
    max_bw: [u64; 2],
    pub(super) bw_shortterm: u64,
    pub(super) inflight_longterm: u64,
    pub(super) inflight_shortterm: u64,
    /// The largest rate and volume delivered in this round trip.
    pub(super) bw_latest: u64,
    pub(super) inflight_latest: u64,
    pub(super) round_count: u64,
    next_round_delivered: u64,
    pub(super) round_start: bool,
    extra_acked_rounds: u8,
    extra_acked: [u64; 2],
    extra_acked_interval_start: Nanos,
    extra_acked_delivered: u64,
}

impl Model {
    pub(super) fn new(now: Nanos) -> Self {
        Self {
            max_bw: [0; 2],
            bw_shortterm: UNLIMITED,
            inflight_longterm: UNLIMITED,
            inflight_shortterm: UNLIMITED,
            bw_latest: 0,
            inflight_latest: 0,
            round_count: 0,
            next_round_delivered: 0,
            round_start: false,
            extra_acked_rounds: 0,
            extra_acked: [0; 2],
            extra_acked_interval_start: now,
            extra_acked_delivered: 0,
        }
    }

    pub(super) fn max_bw(&self) -> u64 {
        self.max_bw[0].max(self.max_bw[1])
    }

    /// The rate that all that is known allows (`BoundBWForModel`).
    pub(super) fn bw(&self) -> u64 {
        self.max_bw().min(self.bw_shortterm)
    }

    pub(super) fn extra_acked(&self) -> u64 {
        self.extra_acked[0].max(self.extra_acked[1])
    }

    /// A ProbeBW cycle is over.
    pub(super) fn advance_max_bw_filter(&mut self) {
        if self.max_bw[0] != 0 {
            self.max_bw = [0, self.max_bw[0]];
        }
    }

    pub(super) fn reset_short_term(&mut self) {
        self.bw_shortterm = UNLIMITED;
        self.inflight_shortterm = UNLIMITED;
    }

    pub(super) fn restart_ack_aggregation(&mut self, now: Nanos) {
        self.extra_acked_interval_start = now;
        self.extra_acked_delivered = 0;
    }

    /// How much more than `bw` explains was acknowledged in a clump (draft section 5.5.9).
    pub(super) fn update_ack_aggregation(&mut self, now: Nanos, newly_acked: u64, window: u64, full_bw_reached: bool) {
        let mut expected = bytes_in(self.bw(), now.saturating_sub(self.extra_acked_interval_start));
        if self.extra_acked_delivered <= expected {
            self.restart_ack_aggregation(now);
            expected = 0;
        }
        self.extra_acked_delivered += newly_acked;
        let extra = self.extra_acked_delivered.saturating_sub(expected).min(window);
        if self.round_start {
            self.extra_acked_rounds += 1;
            // In Startup, where rates double, just one round is remembered.
            if self.extra_acked_rounds >= if full_bw_reached { EXTRA_ACKED_ROUNDS } else { 1 } {
                self.extra_acked_rounds = 0;
                self.extra_acked = [0, self.extra_acked[0]];
            }
        }
        self.extra_acked[0] = self.extra_acked[0].max(extra);
    }
}

impl Bbr {
    /// The rate at which the path took data over a sample; 0: unknown. What the path itself loses is added: it must be
    /// sent too for the rest to arrive at that rate.
    pub(super) fn rate_sample(&self, sample: &Sample) -> u64 {
        if sample.interval == 0 { 0 } else { rate_of(self.loss.carried(sample), sample.interval) }
    }

    /// `UpdateRound` and `UpdateMaxBw`: a round trip ends when a packet is acknowledged that was sent after it began.
    pub(super) fn update_max_bw(&mut self, sample: &Sample, rate: u64) {
        self.model.round_start = sample.stamp.delivered >= self.model.next_round_delivered;
        if self.model.round_start {
            self.start_round();
            self.model.round_count += 1;
            self.probe.rounds_since_up = self.probe.rounds_since_up.saturating_add(1);
            self.window_limited = [false, self.window_limited[0]];
        }
        // A rate that the application limited is a lower bound, and used as such.
        if rate > 0 && (rate >= self.model.max_bw() || !sample.stamp.app_limited) {
            self.model.max_bw[0] = self.model.max_bw[0].max(rate);
        }
    }

    /// `StartRound`.
    pub(super) fn start_round(&mut self) {
        self.model.next_round_delivered = self.delivered;
    }

    /// `C.is_cwnd_limited`.
    pub(super) fn is_window_limited(&self) -> bool {
        self.window_limited[0] || self.window_limited[1]
    }

    /// `BDPMultiple`, in percent.
    pub(super) fn bdp_multiple(&self, bw: u64, gain: u64) -> u64 {
        match self.min_rtt.get() {
            Some(rtt) => percent(bytes_in(bw, rtt.max(RTT_FLOOR)), gain),
            None => super::initial_window(self.mtu),
        }
    }

    /// `Inflight`.
    pub(super) fn inflight(&self, bw: u64, gain: u64) -> u64 {
        self.quantization_budget(self.bdp_multiple(bw, gain))
    }

    /// `UpdateMaxInflight`.
    pub(super) fn max_inflight(&self) -> u64 {
        let inflight = self.bdp_multiple(self.model.bw(), self.state.window_gain());
        self.quantization_budget(inflight.saturating_add(self.model.extra_acked()))
    }

    /// `TargetInflight`.
    pub(super) fn target_inflight(&self) -> u64 {
        self.bdp_multiple(self.model.bw(), 100).min(self.window)
    }

    /// `QuantizationBudget`: trains on the sending and the receiving side must fit beside what is on the way.
    fn quantization_budget(&self, inflight: u64) -> u64 {
        let inflight = inflight.max(self.offload_budget()).max(self.min_pipe_window());
        if self.state == super::State::Up { inflight + 2 * self.mtu() } else { inflight }
    }
}
