//! CUBIC (RFC 9438): the window follows a cubic function of the time since the last loss.

mod hystart;

use self::hystart::HyStart;
use super::{
    Ack, initial_window,
    unit::{MILLISECOND, Nanos, mul_div, percent, rate_of},
};

/// What is kept of the window at a congestion event (`beta_cubic`), in percent.
const BETA: u64 = 70;

/// With fast convergence, what is kept of the old maximum: (1 + beta) / 2.
const CONVERGENCE: u64 = 85;

/// The constant C is 0.4 packets per second cubed: 4 / 10.
const C: (u128, u128) = (4, 10);

/// `alpha_cubic` = 3 * (1 - beta) / (1 + beta) = 9 / 17.
const ALPHA: (u64, u64) = (9, 17);

/// RFC 9002 section 7.2.
const WINDOW_MIN_PACKETS: u64 = 2;

/// The window over the round-trip time, and a little more, so that pacing never is what limits.
const PACING_GAIN: u64 = 125;

/// Slow start doubles the window within the round trip that is paced.
const PACING_GAIN_SLOW_START: u64 = 200;

const NONE: u64 = u64::MAX;

/// The state of one CUBIC flow. All windows are in bytes.
#[derive(Debug)]
pub(super) struct Cubic {
    mtu: u16,
    /// Whether the window was all used in this round trip, and in the one before.
    window_limited: [bool; 2],
    last_ack_at: Nanos,
    smoothed_rtt: Nanos,
    curve: Curve,
    hystart: HyStart,
    /// When the last congestion event was noticed: losses of packets sent until then belong to it; `NONE`: never.
    recovery_at: Nanos,
    /// `C.delivered` at the end of the round trip that HyStart++ looks at.
    round_delivered: u64,
    /// The curve before the last congestion event, and how many packets were lost in it.
    undo: Option<Curve>,
    undo_lost: u32,
}

/// The part of the state that a spurious loss gives back (RFC 9438 section 4.9).
#[derive(Clone, Copy, Debug)]
struct Curve {
    window: u64,
    ssthresh: u64,
    /// `W_max`.
    window_max: u64,
    /// `cwnd_epoch`: the window when congestion avoidance began.
    window_epoch: u64,
    /// `W_est`: what Reno would have.
    window_reno: u64,
    /// `cwnd_prior`: the window before the last congestion event.
    window_prior: u64,
    /// `t_epoch`; `NONE`: congestion avoidance has not begun.
    epoch_at: Nanos,
    /// `K`.
    k: Nanos,
}

impl Cubic {
    pub(super) fn new(mtu: u16) -> Self {
        let window = initial_window(mtu);
        let curve = Curve {
            window,
            ssthresh: NONE,
            window_max: 0,
            window_epoch: 0,
            window_reno: 0,
            window_prior: 0,
            epoch_at: NONE,
            k: 0,
        };
        Self {
            mtu,
            window_limited: [false; 2],
            last_ack_at: 0,
            smoothed_rtt: MILLISECOND,
            curve,
            hystart: HyStart::default(),
            recovery_at: NONE,
            round_delivered: 0,
            undo: None,
            undo_lost: 0,
        }
    }

    pub(super) fn window(&self) -> u64 {
        self.curve.window
    }

    pub(super) fn pacing_rate(&self) -> u64 {
        let gain = if self.is_slow_start() { PACING_GAIN_SLOW_START } else { PACING_GAIN };
        percent(rate_of(self.curve.window, self.smoothed_rtt), gain)
    }

    pub(super) fn on_mtu(&mut self, mtu: u16) {
        self.mtu = mtu;
        self.curve.window = self.curve.window.max(WINDOW_MIN_PACKETS * self.mtu());
    }

    pub(super) fn on_sent(&mut self, in_flight: u64) {
        if in_flight + 2 * self.mtu() > self.curve.window {
            self.window_limited[0] = true;
        }
    }

    pub(super) fn on_lost(&mut self, now: Nanos, sent_at: Nanos) {
        if self.is_in_recovery(sent_at) {
            self.undo_lost += 1;
            return;
        }
        self.undo = Some(self.curve);
        self.undo_lost = 1;
        self.on_congestion(now);
    }

    /// The peer reports marks, together with the packet that was sent at `sent_at`.
    pub(super) fn on_ecn(&mut self, now: Nanos, sent_at: Nanos) {
        if !self.is_in_recovery(sent_at) {
            self.undo = None;
            self.on_congestion(now);
        }
    }

    pub(super) fn on_ack(&mut self, now: Nanos, ack: &Ack) {
        self.smoothed_rtt = ack.smoothed_rtt.max(1);
        let acked = ack.sample.newly_acked;
        if acked == 0 {
            return;
        }
        let is_round_start = ack.sample.stamp.delivered >= self.round_delivered;
        if is_round_start {
            self.round_delivered = ack.delivered;
            self.window_limited = [false, self.window_limited[0]];
        }
        if self.is_slow_start() && self.hystart.on_ack(ack.latest_rtt, is_round_start) {
            self.curve.ssthresh = self.curve.window;
        }
        // A window that is not used says nothing about what the path carries, and does not age (RFC 9438 section 5.8).
        let since_last_ack = now.saturating_sub(std::mem::replace(&mut self.last_ack_at, now));
        if !self.window_limited[0] && !self.window_limited[1] {
            if self.curve.epoch_at != NONE {
                self.curve.epoch_at += since_last_ack;
            }
            return;
        }
        if self.is_in_recovery(ack.sample.sent_at) {
            return;
        }
        if self.is_slow_start() {
            self.curve.window += acked / self.hystart.divisor();
        } else {
            self.curve.avoid(now, acked, self.smoothed_rtt, self.mtu.into());
        }
    }

    pub(super) fn on_persistent_congestion(&mut self) {
        self.undo = None;
        self.curve.window = WINDOW_MIN_PACKETS * self.mtu();
        self.curve.epoch_at = NONE;
        self.recovery_at = NONE;
        self.hystart = HyStart::default();
    }

    /// When all losses of the last congestion event turned out to be none, it did not happen.
    pub(super) fn on_spurious_loss(&mut self) {
        self.undo_lost = self.undo_lost.saturating_sub(1);
        if self.undo_lost == 0
            && let Some(curve) = self.undo.take()
        {
            let window = self.curve.window.max(curve.window);
            self.curve = Curve { window, ..curve };
            self.recovery_at = NONE;
        }
    }

    fn mtu(&self) -> u64 {
        self.mtu.into()
    }

    fn is_slow_start(&self) -> bool {
        self.curve.window < self.curve.ssthresh
    }

    fn is_in_recovery(&self, sent_at: Nanos) -> bool {
        self.recovery_at != NONE && sent_at <= self.recovery_at
    }

    /// RFC 9438 section 4.6.
    fn on_congestion(&mut self, now: Nanos) {
        self.recovery_at = now;
        let curve = &mut self.curve;
        // Fast convergence (section 4.7): a flow that meets loss earlier than last time leaves room for others.
        curve.window_max =
            if curve.window < curve.window_max { percent(curve.window, CONVERGENCE) } else { curve.window };
        curve.window_prior = curve.window;
        curve.ssthresh = percent(curve.window, BETA).max(WINDOW_MIN_PACKETS * u64::from(self.mtu));
        curve.window = curve.ssthresh;
        curve.epoch_at = NONE;
    }
}

impl Curve {
    /// Congestion avoidance (sections 4.2 to 4.5).
    fn avoid(&mut self, now: Nanos, acked: u64, rtt: Nanos, mtu: u64) {
        if self.epoch_at == NONE {
            self.epoch_at = now;
            self.window_epoch = self.window;
            self.window_reno = self.window;
            // After slow start without a loss, the curve begins at its plateau.
            self.window_max = self.window_max.max(self.window);
            self.k = cubic_root_span(self.window_max - self.window, mtu);
        }
        let elapsed = now.saturating_sub(self.epoch_at);
        let (alpha, divisor) = if self.window_reno >= self.window_prior { (1, 1) } else { ALPHA };
        self.window_reno += mul_div(alpha * mtu, acked, divisor * self.window);
        if self.at(elapsed, mtu) < self.window_reno {
            self.window = self.window.max(self.window_reno);
            return;
        }
        let target = self.at(elapsed.saturating_add(rtt), mtu).clamp(self.window, self.window + self.window / 2);
        self.window += mul_div(target - self.window, acked, self.window);
    }

    /// `W_cubic(t)` in bytes.
    fn at(&self, elapsed: Nanos, mtu: u64) -> u64 {
        let distance = u128::from(elapsed.abs_diff(self.k) / (MILLISECOND / 1_000)).min(1 << 32);
        // Microseconds cubed are 1e-18 s cubed.
        let bytes = C.0 * distance.pow(3) / 1_000_000 * u128::from(mtu) / (C.1 * 1_000_000_000_000);
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        if elapsed < self.k { self.window_max.saturating_sub(bytes) } else { self.window_max.saturating_add(bytes) }
    }
}

/// `K`: when the curve gets back to `W_max`, `missing` bytes above the window it starts with.
fn cubic_root_span(missing: u64, mtu: u64) -> Nanos {
    // In milliseconds: the cube root of (packets / C) s^3, of 1e9 ms^3 each.
    let cube = u128::from(missing) * 1_000_000_000 * C.1 / (C.0 * u128::from(mtu.max(1)));
    let (mut low, mut high) = (0_u64, 1 << 31);
    while low < high {
        let middle = (low + high).div_ceil(2);
        if u128::from(middle).pow(3) <= cube { low = middle } else { high = middle - 1 }
    }
    low * MILLISECOND
}

#[cfg(test)]
mod tests {
    use super::*;

    const MTU: u64 = 1_200;

    fn curve(window: u64, window_max: u64) -> Curve {
        Curve {
            window,
            ssthresh: window,
            window_max,
            window_epoch: 0,
            window_reno: 0,
            window_prior: window_max,
            epoch_at: NONE,
            k: 0,
        }
    }

    #[test]
    fn k_is_the_cube_root_of_the_formula() {
        // K = cbrt((W_max - cwnd_epoch) / C): 100 packets lost 30 %: cbrt(30 / 0.4) = 4.217 s.
        assert_eq!(cubic_root_span(30 * MTU, MTU) / MILLISECOND, 4_217);
        assert_eq!(cubic_root_span(0, MTU), 0);
        // cbrt(0.4e6 / 0.4) = 100 s.
        assert_eq!(cubic_root_span(400_000 * MTU, MTU) / MILLISECOND, 100_000);
    }

    #[test]
    fn the_curve_is_the_one_of_the_formula() {
        let mut curve = curve(70 * MTU, 100 * MTU);
        curve.k = cubic_root_span(30 * MTU, MTU);
        let second = 1_000 * MILLISECOND;
        // W_cubic(t) = 0.4 * (t - 4.217)^3 + 100.
        for (seconds, packets) in
            [(0, 70.0), (1, 86.68), (2, 95.64), (4, 99.996), (5, 100.19), (7, 108.62), (10, 177.36)]
        {
            let at = curve.at(seconds * second, MTU) as f64 / MTU as f64;
            assert!((at - packets).abs() < 0.05, "{at} packets after {seconds} s, not {packets}");
        }
    }

    #[test]
    fn the_window_follows_the_curve() {
        let (rtt, mut curve) = (100 * MILLISECOND, curve(700 * MTU, 1_000 * MTU));
        let mut now = 0;
        let mut after = Vec::new();
        for _ in 0..100 {
            let window = curve.window;
            for _ in 0..window / (2 * MTU) {
                curve.avoid(now, 2 * MTU, rtt, MTU);
            }
            now += rtt;
            after.push(curve.window / MTU);
        }
        // K = cbrt(300 / 0.4) = 9.08 s.
        assert!((985..=1_000).contains(&after[60]), "near the plateau after 6 s: {}", after[60]);
        assert!((998..=1_003).contains(&after[90]), "on the plateau after K: {}", after[90]);
    }

    #[test]
    fn on_a_short_path_it_grows_as_reno_does() {
        // At 10 ms and 50 packets the curve is slower than Reno: alpha is 9 / 17 packets a round trip.
        let (rtt, mut curve) = (10 * MILLISECOND, curve(35 * MTU, 50 * MTU));
        let (mut now, before) = (0, curve.window);
        for _ in 0..10 {
            let mut acked = 0;
            while acked < curve.window {
                curve.avoid(now, MTU, rtt, MTU);
                acked += MTU;
            }
            now += rtt;
        }
        let grown = curve.window - before;
        assert!((5 * MTU..6 * MTU).contains(&grown), "{grown} bytes in 10 round trips");
    }

    #[test]
    fn one_round_trip_of_losses_is_one_event_and_convergence_is_fast() {
        let mut cubic = Cubic::new(MTU as u16);
        cubic.curve.window = 100 * MTU;
        cubic.on_lost(200, 100);
        cubic.on_lost(210, 200);
        assert_eq!((cubic.window(), cubic.curve.window_max), (70 * MTU, 100 * MTU));
        cubic.on_lost(400, 201);
        assert_eq!((cubic.window(), cubic.curve.window_max), (49 * MTU, 70 * MTU * 85 / 100));
        cubic.on_persistent_congestion();
        assert_eq!(cubic.window(), 2 * MTU);
    }

    #[test]
    fn what_was_not_lost_is_given_back() {
        let mut cubic = Cubic::new(MTU as u16);
        cubic.curve.window = 100 * MTU;
        cubic.on_lost(200, 100);
        cubic.on_lost(200, 101);
        cubic.on_spurious_loss();
        assert_eq!(cubic.window(), 70 * MTU, "one of two was");
        cubic.on_spurious_loss();
        assert_eq!((cubic.window(), cubic.curve.ssthresh), (100 * MTU, NONE));
    }

    #[test]
    fn a_mark_counts_once_a_round_trip() {
        let mut cubic = Cubic::new(MTU as u16);
        cubic.curve.window = 100 * MTU;
        cubic.on_ecn(200, 100);
        cubic.on_ecn(250, 120);
        assert_eq!(cubic.window(), 70 * MTU);
    }
}
