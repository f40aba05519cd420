//! How much parity: the raw loss, its bursts, what recovery yields and how quickly packets follow each other decide.

use std::time::{Duration, Instant};

use super::{
    FecMode, Ratio,
    redundancy::{K_MAX, R_MAX, STEPS, rows},
};

/// A group may take so long: with it a restored packet is at most 10 ms late, the timer and the way included.
const SPAN: Duration = Duration::from_millis(7);

/// Slow flows: so long is still well before the resend.
const SPAN_SLOW: Duration = Duration::from_millis(25);

/// The last group of a burst waits for more so long at most, if more usually comes sooner.
const DRY_MAX: Duration = Duration::from_millis(4);

/// Restoring saves a round trip; below this one there is nothing to save.
const RTT_MIN: Duration = Duration::from_millis(8);

/// Every packet twice is allowed up to so many bits a second.
const DUPLICATE_BITS_MAX: u64 = 64_000;

/// A longer time between two packets is a pause of the flow and says nothing about it.
const GAP_MAX: Duration = Duration::from_millis(100);

/// An epoch of the estimates: at its end the past counts half.
const EPOCH: Duration = Duration::from_secs(1);
const EPOCH_PACKETS: u64 = 64;

/// Fixed point of counters that are halved.
const ONE: u64 = 256;

/// Parity per hundred bytes, at most.
const OVERHEAD_PERCENT: u32 = 55;
const OVERHEAD_DUPLICATE_PERCENT: u32 = 120;
const OVERHEAD_UNLIMITED_PERCENT: u32 = 10_000;

/// A mean burst of this length is more than chance (in tenths; 5 % independent loss has 1.1).
const BURST_TENTHS: u64 = 16;

/// Parity that restores less than this much of what is lost, of so many losses at least, is not worth its bytes: it
/// stops, until losses come singly again or long after.
const YIELD_PERCENT: u64 = 30;
const YIELD_LOSSES: u64 = 20;
const BACK_OFF: Duration = Duration::from_secs(30);

/// Decides how groups are built.
pub(crate) struct Policy {
    mode: FecMode,
    acked: u64,
    lost: u64,
    bursts: u64,
    last_lost: Option<u64>,
    protected_lost: u64,
    recovered: u64,
    epoch_at: Option<Instant>,
    epoch_packets: u64,
    on: bool,
    backed_off_at: Option<Instant>,
    step: usize,
    step_at: Option<Instant>,
    // Of packets with data: the usual time between two, and their usual length.
    gap: Duration,
    has_gap: bool,
    data_bytes: u64,
    data_at: Option<Instant>,
}

impl Policy {
    /// With nothing known yet.
    pub(crate) fn new(mode: FecMode) -> Self {
        Self {
            mode,
            acked: 0,
            lost: 0,
            bursts: 0,
            last_lost: None,
            protected_lost: 0,
            recovered: 0,
            epoch_at: None,
            epoch_packets: 0,
            on: false,
            backed_off_at: None,
            step: 0,
            step_at: None,
            gap: GAP_MAX,
            has_gap: false,
            data_bytes: 0,
            data_at: None,
        }
    }

    /// A packet with data that parity could protect is sent, whether it is protected or not.
    pub(crate) fn on_data_sent(&mut self, now: Instant, bytes: usize) {
        if let Some(data_at) = self.data_at {
            let gap = now.saturating_duration_since(data_at).min(GAP_MAX);
            self.gap = if self.has_gap { (self.gap * 7 + gap) / 8 } else { gap };
            self.has_gap = true;
        }
        self.data_bytes = if self.data_at.is_some() { (self.data_bytes * 7 + bytes as u64) / 8 } else { bytes as u64 };
        self.data_at = Some(now);
    }

    /// So many packets were acknowledged.
    pub(crate) fn on_acked(&mut self, now: Instant, packets: u64) {
        self.acked += packets * ONE;
        self.count(now, packets);
    }

    /// A packet was declared lost, restored or not; `protected`: it carried a symbol.
    pub(crate) fn on_lost(&mut self, now: Instant, number: u64, protected: bool) {
        self.lost += ONE;
        // One number between two losses may have been an acknowledgement, which nobody acknowledges.
        if self.last_lost.is_none_or(|last| number > last + 2) {
            self.bursts += ONE;
        }
        self.last_lost = Some(number);
        self.protected_lost += if protected { ONE } else { 0 };
        self.count(now, 1);
    }

    /// A packet that was declared lost has arrived after all.
    pub(crate) fn on_spurious_loss(&mut self) {
        self.lost = self.lost.saturating_sub(ONE);
        self.acked += ONE;
    }

    /// SYMBOL_ACK told of so many restored symbols.
    pub(crate) fn on_recovered(&mut self, symbols: u64) {
        self.recovered += symbols * ONE;
    }

    /// The raw loss, rounded up.
    #[cfg(test)]
    pub(super) fn loss_percent(&self) -> u64 {
        self.loss().0.div_ceil(100)
    }

    /// How groups are to be built now; `None`: not at all. `bulk`: more is queued than a flow that the application
    /// limits would have; its tail is not bulk any more.
    pub(crate) fn decide(&mut self, now: Instant, srtt: Duration, bulk: bool) -> Option<Ratio> {
        match self.mode {
            FecMode::Off => None,
            FecMode::Fixed { k, r } => Some(self.fixed(k, r, srtt)),
            FecMode::Adaptive => {
                self.update(now, srtt);
                (self.on && self.backed_off_at.is_none() && !bulk && srtt >= RTT_MIN)
                    .then(|| self.adaptive(srtt))
                    .flatten()
            }
        }
    }

    fn fixed(&self, k: u8, r: u8, srtt: Duration) -> Ratio {
        let (k, r) = (k.clamp(1, 32), r.clamp(1, R_MAX as u8));
        self.ratio(k, r, SPAN.max(srtt / 4), srtt, OVERHEAD_UNLIMITED_PERCENT)
    }

    fn adaptive(&self, srtt: Duration) -> Option<Ratio> {
        let (span, slow) = (SPAN.min(srtt / 4), SPAN_SLOW.min(srtt / 2));
        let gap_ns = (self.gap.as_nanos() as u64).max(1);
        let fit = |span: Duration| 1 + (span.as_nanos() as u64 / gap_ns).min(K_MAX as u64 - 1) as usize;
        let bits = self.data_bytes * 8_000_000_000 / gap_ns;
        let (k, span) = match (fit(span), fit(slow)) {
            (2.., _) => (fit(span), span),
            (_, 2..) => (2, slow),
            _ if bits <= DUPLICATE_BITS_MAX => return Some(self.ratio(1, 1, span, srtt, OVERHEAD_DUPLICATE_PERCENT)),
            _ => return None,
        };
        let overhead = (OVERHEAD_PERCENT + STEPS[self.step].saturating_sub(750) / 25).min(100);
        // Rounded up: what is more than the overhead, the protector's credit withholds from some of the groups.
        let r = rows(self.step, k).min((k * overhead as usize).div_ceil(105));
        Some(self.ratio(k as u8, r as u8, span, srtt, overhead))
    }

    fn ratio(&self, k: u8, r: u8, flush: Duration, srtt: Duration, overhead_percent: u32) -> Ratio {
        // When the next symbol is overdue, and soon after the last of many.
        let dry = (self.gap * 2).min(DRY_MAX).min(srtt / 8).max(self.gap * 5 / 4);
        // Rows in one burst with what they protect restore nothing.
        let spread = if self.is_bursty() { self.gap * (self.lost / self.bursts.max(1)) as u32 } else { Duration::ZERO };
        let spread = spread.min(SPAN / u32::from(r));
        Ratio { k, r, spread, flush, dry, life: srtt, overhead_percent }
    }

    fn count(&mut self, now: Instant, packets: u64) {
        self.epoch_packets += packets;
        let epoch_at = *self.epoch_at.get_or_insert(now);
        if self.epoch_packets < EPOCH_PACKETS || now < epoch_at + EPOCH {
            return;
        }
        let counters =
            [&mut self.acked, &mut self.lost, &mut self.bursts, &mut self.protected_lost, &mut self.recovered];
        counters.into_iter().for_each(|counter| *counter /= 2);
        self.epoch_at = Some(now);
        self.epoch_packets = 0;
    }

    fn is_bursty(&self) -> bool {
        self.lost * 10 >= self.bursts * BURST_TENTHS
    }

    // Loss in hundredths of a percent: as measured, and what it may be.
    fn loss(&self) -> (u64, u64) {
        let all = (self.acked + self.lost).max(1);
        let measured = self.lost * 10_000 / all;
        let deviation = (measured * (10_000 - measured) * ONE / all).isqrt();
        (measured, measured + deviation)
    }

    fn update(&mut self, now: Instant, srtt: Duration) {
        let (measured, upper) = self.loss();
        let target = STEPS.iter().position(|step| u64::from(*step) >= upper).unwrap_or(STEPS.len() - 1);
        if !self.on {
            self.step = target;
        }
        self.on = if self.on { measured >= 10 } else { measured >= 20 && self.lost >= 2 * ONE };
        if let Some(backed_off_at) = self.backed_off_at {
            let long_ago = now >= backed_off_at + BACK_OFF;
            if long_ago || (now >= backed_off_at + EPOCH && !self.is_bursty()) {
                self.backed_off_at = None;
            }
        } else if self.protected_lost >= YIELD_LOSSES * ONE
            && self.recovered * 100 < self.protected_lost * YIELD_PERCENT
        {
            self.backed_off_at = Some(now);
            (self.protected_lost, self.recovered) = (0, 0);
        }
        if self.step_at.is_none_or(|step_at| now >= step_at + srtt) && target != self.step {
            self.step = if target > self.step { self.step + 1 } else { self.step - 1 };
            self.step_at = Some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    // A flow of 4,000 packets, a round trip of 40 ms: every so many microseconds so many bytes, and which are lost.
    fn after(every_us: u64, bytes: usize, lost: impl Fn(u64) -> bool) -> (Policy, Instant) {
        let (mut policy, start) = (Policy::new(FecMode::Adaptive), Instant::now());
        let mut now = start;
        for number in 0..4_000 {
            now = start + Duration::from_micros(every_us * number);
            policy.on_data_sent(now, bytes);
            if lost(number) {
                policy.on_lost(now, number, true);
                policy.on_recovered(1);
            } else {
                policy.on_acked(now, 1);
            }
            policy.decide(now, ms(40), false);
        }
        (policy, now)
    }

    #[test]
    fn decisions_in_a_table() {
        // Packets a second, bytes, one lost of so many: k and r.
        let table = [
            ((500, 200, 20), Some((4, 3))),
            ((500, 200, 100), Some((4, 1))),
            ((500, 200, 200), Some((4, 1))),
            ((500, 200, 5), Some((4, 4))),
            ((1_000, 200, 20), Some((8, 4))),
            ((300, 200, 20), Some((3, 2))),
            ((1_000, 200, 100), Some((8, 2))),
            ((3_000, 1_200, 20), Some((22, 6))),
            ((20_000, 1_200, 20), Some((24, 6))),
            ((200, 200, 20), Some((2, 2))),
            ((60, 200, 20), Some((2, 2))),
            ((20, 300, 20), Some((1, 1))),
            // Twice would be 96 kbit/s more.
            ((30, 400, 20), None),
            ((500, 200, 2_000), None),
        ];
        for ((rate, bytes, one_of), expected) in table {
            let (mut policy, now) = after(1_000_000 / rate, bytes, |number| number % one_of == one_of - 1);
            let ratio = policy.decide(now, ms(40), false);
            assert_eq!(ratio.map(|ratio| (ratio.k, ratio.r)), expected, "{rate} a second, one of {one_of}");
        }
    }

    #[test]
    fn off_means_off_and_fixed_means_fixed() {
        let now = Instant::now();
        assert_eq!(Policy::new(FecMode::Off).decide(now, ms(40), false), None);
        let fixed = Policy::new(FecMode::Fixed { k: 10, r: 3 }).decide(now, ms(1), true).unwrap();
        assert_eq!((fixed.k, fixed.r), (10, 3));
        let wild = Policy::new(FecMode::Fixed { k: 255, r: 0 }).decide(now, ms(40), true).unwrap();
        assert_eq!((wild.k, wild.r), (32, 1));
    }

    #[test]
    fn a_short_path_and_bulk_need_none() {
        let (mut policy, now) = after(2_000, 200, |number| number % 20 == 0);
        assert_eq!(policy.decide(now, ms(7), false), None);
        assert_eq!(policy.decide(now, ms(40), true), None);
        assert!(policy.decide(now, ms(40), false).is_some());
        // The shorter the path, the sooner a group closes.
        assert_eq!(policy.decide(now, ms(10), false).map(|ratio| (ratio.k, ratio.flush)), Some((2, ms(2) + ms(1) / 2)));
    }

    #[test]
    fn it_ends_when_losses_end_and_one_loss_does_not_begin_it() {
        let (mut policy, now) = after(2_000, 200, |number| number == 100);
        assert_eq!(policy.decide(now, ms(40), false), None);
        let (mut policy, now) = after(2_000, 200, |number| number < 1_000 && number % 20 == 0);
        assert_eq!(policy.decide(now, ms(40), false), None);
    }

    #[test]
    fn the_ratio_moves_one_step_in_a_round_trip() {
        let (mut policy, now) = after(2_000, 200, |number| number % 100 == 0);
        for number in 0..200 {
            policy.on_lost(now, 10_000 + 10 * number, true);
            policy.on_recovered(1);
        }
        let step = |policy: &mut Policy, at| {
            policy.decide(at, ms(40), false);
            policy.step
        };
        let first = step(&mut policy, now);
        assert_eq!([1, 39, 40, 79, 80].map(|at| step(&mut policy, now + ms(at)) - first), [0, 0, 1, 1, 2]);
    }

    #[test]
    fn little_yield_backs_off_until_losses_come_singly() {
        let (mut policy, mut now) = after(2_000, 200, |number| number % 20 == 0);
        (policy.protected_lost, policy.recovered) = (0, 0);
        // Bursts of four of which nothing comes back.
        let burst = |policy: &mut Policy, now: Instant, length: u64, number: u64| {
            (0..20 * length).for_each(|_| policy.on_acked(now, 1));
            (0..length).for_each(|at| policy.on_lost(now, number + at, true));
        };
        for round in 0..10 {
            now += ms(160);
            burst(&mut policy, now, 4, 100_000 + 100 * round);
            policy.decide(now, ms(40), false);
        }
        assert!(policy.is_bursty());
        assert_eq!(policy.decide(now, ms(40), false), None);
        for round in 0..200 {
            now += ms(40);
            burst(&mut policy, now, 1, 200_000 + 100 * round);
            policy.on_recovered(1);
            policy.decide(now, ms(40), false);
        }
        assert!(policy.decide(now, ms(40), false).is_some());
    }
}
