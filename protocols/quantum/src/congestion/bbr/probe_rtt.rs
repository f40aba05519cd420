//! ProbeRTT: empties the path's queue now and then, to see its round-trip time (draft section 5.3.4).

use super::{
    super::{
        Ack,
        delivery::{Sample, Sampler},
        unit::{MILLISECOND, Nanos, SECOND},
    },
    Bbr, State, UNLIMITED,
    probe_bw::AckPhase,
};

/// How long the smallest round trip is believed (`MinRTTFilterLen`).
const MIN_RTT_FILTER: Nanos = 10 * SECOND;

/// How often it is looked for, if traffic does not show it by itself (`ProbeRTTInterval`).
const INTERVAL: Nanos = 5 * SECOND;

/// How long little is kept in flight (`ProbeRTTDuration`).
const DURATION: Nanos = 200 * MILLISECOND;

/// A sample this close to the smallest round trip, as a part of it, shows that the queue is empty as it is.
const REFRESH_PART: u64 = 64;

/// The smallest round trip, and when to look for it.
#[derive(Debug)]
pub(super) struct MinRtt {
    min_rtt: Nanos,
    min_rtt_at: Nanos,
    /// The smallest one since ProbeRTT was last due.
    probe_delay: Nanos,
    probe_delay_at: Nanos,
    expired: bool,
    round_done: bool,
    /// When ProbeRTT may end; 0: too much is in flight yet.
    done_at: Nanos,
}

impl MinRtt {
    pub(super) fn new(now: Nanos) -> Self {
        Self {
            min_rtt: UNLIMITED,
            min_rtt_at: now,
            probe_delay: UNLIMITED,
            probe_delay_at: now,
            expired: false,
            round_done: false,
            done_at: 0,
        }
    }

    pub(super) fn get(&self) -> Option<Nanos> {
        (self.min_rtt != UNLIMITED).then_some(self.min_rtt)
    }
}

impl Bbr {
    pub(super) fn update_min_rtt(&mut self, now: Nanos, sample: &Sample) {
        let min = &mut self.min_rtt;
        min.expired = now > min.probe_delay_at + INTERVAL;
        if let Some(rtt) = sample.rtt {
            if rtt < min.probe_delay || min.expired {
                min.probe_delay = rtt;
                min.probe_delay_at = now;
            } else if rtt <= min.min_rtt.saturating_add(min.min_rtt / REFRESH_PART) {
                // The draft asks for a smaller one; a queue that empties by itself needs no ProbeRTT either.
                min.probe_delay_at = now;
                min.min_rtt_at = now;
            }
        }
        if min.probe_delay < min.min_rtt || now > min.min_rtt_at + MIN_RTT_FILTER {
            min.min_rtt = min.probe_delay;
            min.min_rtt_at = min.probe_delay_at;
        }
    }

    pub(super) fn check_probe_rtt(&mut self, now: Nanos, ack: &Ack, sampler: &mut Sampler) {
        if self.state != State::ProbeRtt && self.min_rtt.expired && !self.idle_restart {
            self.save_window();
            self.state = State::ProbeRtt;
            self.min_rtt.done_at = 0;
            self.probe.ack_phase = AckPhase::ProbeStopping;
            self.start_round();
        }
        if self.state == State::ProbeRtt {
            self.handle_probe_rtt(now, ack, sampler);
        }
        if ack.sample.delivered > 0 {
            self.idle_restart = false;
        }
    }

    /// `ProbeRTTCwnd`.
    pub(super) fn probe_rtt_window(&self) -> u64 {
        self.bdp_multiple(self.model.bw(), State::ProbeRtt.window_gain()).max(self.min_pipe_window())
    }

    pub(super) fn check_probe_rtt_done(&mut self, now: Nanos) {
        if self.min_rtt.done_at != 0 && now > self.min_rtt.done_at {
            self.min_rtt.probe_delay_at = now;
            self.restore_window();
            self.exit_probe_rtt(now);
        }
    }

    fn handle_probe_rtt(&mut self, now: Nanos, ack: &Ack, sampler: &mut Sampler) {
        // The rates of this state say nothing about the path.
        sampler.set_app_limited(ack.in_flight);
        if self.min_rtt.done_at != 0 {
            self.min_rtt.round_done |= self.model.round_start;
            if self.min_rtt.round_done {
                self.check_probe_rtt_done(now);
            }
        } else if ack.in_flight <= self.probe_rtt_window() {
            self.min_rtt.done_at = now + DURATION;
            self.min_rtt.round_done = false;
            self.start_round();
        }
    }

    fn exit_probe_rtt(&mut self, now: Nanos) {
        self.model.reset_short_term();
        if self.full_bw.reached {
            self.start_probe_bw_down(now);
            self.start_probe_bw_cruise();
        } else {
            self.enter_startup();
        }
    }
}
