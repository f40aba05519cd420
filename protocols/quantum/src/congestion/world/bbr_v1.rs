//! BBRv1 as Linux has it, as far as competition needs it: it does not look at losses.

use super::{MS, MTU, S};
use crate::{
    congestion::{
        Stamp,
        delivery::Sampler,
        pacer::Pacer,
        unit::{bytes_in, percent, rate_of},
    },
    rtt::Rtt,
};

const CYCLE: [u64; 8] = [125, 75, 100, 100, 100, 100, 100, 100];

#[derive(Clone, Copy, PartialEq)]
enum State {
    Startup,
    Drain,
    ProbeBw,
    ProbeRtt,
}

pub(crate) struct BbrV1 {
    sampler: Sampler,
    pacer: Pacer,
    state: State,
    /// (rate, round), of the last ten rounds.
    rates: [u64; 10],
    round: u64,
    next_round_delivered: u64,
    full_bw: u64,
    full_rounds: u32,
    min_rtt: u64,
    min_rtt_at: u64,
    done_at: u64,
    phase: usize,
    phase_at: u64,
    window: u64,
    rate: u64,
    lost: u64,
    /// `C.delivered` at which the loss recovery ends, and the window before it.
    recovery: Option<(u64, u64)>,
    conserves: bool,
}

impl BbrV1 {
    pub(crate) fn new(now: u64) -> Self {
        Self {
            sampler: Sampler::new(now),
            pacer: Pacer::new(now),
            state: State::Startup,
            rates: [0; 10],
            round: 0,
            next_round_delivered: 0,
            full_bw: 0,
            full_rounds: 0,
            min_rtt: u64::MAX,
            min_rtt_at: now,
            done_at: 0,
            phase: 2,
            phase_at: now,
            window: 10 * u64::from(MTU),
            rate: 10 * u64::from(MTU) * 1_000,
            lost: 0,
            recovery: None,
            conserves: false,
        }
    }

    pub(crate) fn window(&self) -> u64 {
        self.window
    }

    pub(crate) fn budget(&mut self, now: u64) -> Result<usize, u64> {
        self.pacer.budget(now, self.rate, MTU.into()).map(|bytes| bytes as usize)
    }

    pub(crate) fn set_app_limited(&mut self, in_flight: u64) {
        self.sampler.set_app_limited(in_flight);
    }

    pub(crate) fn on_sent(&mut self, now: u64, in_flight: u64) -> Stamp {
        self.pacer.on_sent(MTU.into());
        self.sampler.on_sent(now, MTU.into(), in_flight)
    }

    pub(crate) fn on_acked(&mut self, now: u64, number: u64, sent_at: u64, stamp: &Stamp) {
        self.sampler.on_acked(now, number, MTU.into(), sent_at, stamp);
    }

    pub(crate) fn on_lost(&mut self) {
        self.sampler.on_lost(MTU.into());
        self.lost += u64::from(MTU);
    }

    pub(crate) fn on_ack_end(&mut self, now: u64, rtt: &Rtt, in_flight: u64) {
        let sample = self.sampler.take_sample(now, rtt.min().as_nanos() as u64);
        if sample.newly_acked == 0 {
            return;
        }
        let round_start = sample.stamp.delivered >= self.next_round_delivered;
        if round_start {
            self.next_round_delivered = self.sampler.delivered;
            self.round += 1;
            self.rates[(self.round % 10) as usize] = 0;
        }
        if !sample.stamp.app_limited || sample.rate() > self.bw() {
            let rate = &mut self.rates[(self.round % 10) as usize];
            *rate = sample.rate().max(*rate);
        }
        self.update_state(now, round_start, in_flight);
        self.update_min_rtt(now, sample.rtt.unwrap_or(u64::MAX), round_start, in_flight);
        self.control(sample.newly_acked, round_start, sample.stamp.delivered, in_flight);
    }

    fn bw(&self) -> u64 {
        self.rates.iter().copied().max().unwrap_or(0)
    }

    fn bdp(&self) -> u64 {
        bytes_in(self.bw(), self.min_rtt)
    }

    fn update_state(&mut self, now: u64, round_start: bool, in_flight: u64) {
        if self.state == State::Startup && round_start {
            if self.bw() >= percent(self.full_bw, 125) {
                (self.full_bw, self.full_rounds) = (self.bw(), 0);
            } else {
                self.full_rounds += 1;
                if self.full_rounds >= 3 {
                    self.state = State::Drain;
                }
            }
        }
        if self.state == State::Drain && in_flight <= self.bdp() {
            self.state = State::ProbeBw;
            (self.phase, self.phase_at) = (2 + (now / 7) as usize % 6, now);
        }
        let elapsed = now - self.phase_at > self.min_rtt;
        let next = match CYCLE[self.phase] {
            125 => elapsed && in_flight >= percent(self.bdp(), 125),
            75 => elapsed || in_flight <= self.bdp(),
            _ => elapsed,
        };
        if self.state == State::ProbeBw && next {
            (self.phase, self.phase_at) = ((self.phase + 1) % 8, now);
        }
    }

    fn update_min_rtt(&mut self, now: u64, rtt: u64, round_start: bool, in_flight: u64) {
        let expired = now > self.min_rtt_at + 10 * S;
        if rtt <= self.min_rtt || expired {
            (self.min_rtt, self.min_rtt_at) = (rtt, now);
        }
        if expired && self.state != State::ProbeRtt {
            (self.state, self.done_at) = (State::ProbeRtt, 0);
        }
        if self.state == State::ProbeRtt {
            self.sampler.set_app_limited(in_flight);
            if self.done_at == 0 && in_flight <= 4 * u64::from(MTU) {
                self.done_at = now + 200 * MS;
            } else if self.done_at != 0 && now > self.done_at && round_start {
                self.min_rtt_at = now;
                self.state = if self.full_rounds >= 3 { State::ProbeBw } else { State::Startup };
            }
        }
    }

    fn control(&mut self, acked: u64, round_start: bool, prior_delivered: u64, in_flight: u64) {
        let (pacing, window) = match self.state {
            State::Startup => (289, 289),
            State::Drain => (35, 289),
            State::ProbeBw => (CYCLE[self.phase], 200),
            State::ProbeRtt => (100, 100),
        };
        let rate = percent(percent(self.bw(), pacing), 99).max(rate_of(u64::from(MTU), S));
        if self.full_rounds >= 3 || rate > self.rate {
            self.rate = rate;
        }
        let target = percent(self.bdp(), window) + 3 * bytes_in(self.rate, MS).max(2 * u64::from(MTU));
        if !self.recover(acked, round_start, prior_delivered, in_flight) {
            self.window = if self.full_rounds >= 3 { (self.window + acked).min(target) } else { self.window + acked };
        }
        self.window = self.window.max(4 * u64::from(MTU));
        if self.state == State::ProbeRtt {
            self.window = self.window.min(4 * u64::from(MTU));
        }
    }

    /// Linux lets one packet go for each that arrives, for one round trip after a loss.
    fn recover(&mut self, acked: u64, round_start: bool, prior_delivered: u64, in_flight: u64) -> bool {
        let lost = std::mem::take(&mut self.lost);
        self.window = self.window.saturating_sub(lost);
        match self.recovery {
            None if lost > 0 => {
                self.recovery = Some((self.sampler.delivered + in_flight, self.window + lost));
                self.conserves = true;
                self.next_round_delivered = self.sampler.delivered;
                self.window = in_flight + acked;
            }
            Some((until, prior)) if prior_delivered >= until => {
                self.recovery = None;
                self.conserves = false;
                self.window = self.window.max(prior);
            }
            _ => self.conserves &= !round_start,
        }
        if self.conserves {
            self.window = self.window.max(in_flight + acked);
        }
        self.conserves
    }
}
