//! Pacing: spreads a window over its round trip, so that a burst does not become a queue, or a loss.

use super::unit::{MILLISECOND, Nanos, bytes_in, span_of};

/// The largest train that is handed out at once, and the largest burst after idleness: what one GSO send can take.
const BURST_BYTES_MAX: u64 = 64 * 1024;

/// The initial window of RFC 9002 may always leave at once.
const BURST_PACKETS: u64 = 10;

/// What may leave at once after idleness, as time at the pacing rate.
const BURST: Nanos = 2 * MILLISECOND;

/// How much of the time by which a timer came late is made good. Timers late by 1 to 2 ms, which loaded machines have
/// all the time, then cost no throughput.
const LATENESS_MAX: Nanos = 4 * MILLISECOND;

/// And so many bytes at most: no path is that fast, and the bucket stays four bytes.
const MADE_GOOD_MAX: u64 = 1 << 30;

/// For how long sends are gathered into one train, unless that is less than two packets.
const TRAIN: Nanos = MILLISECOND / 2;

/// A token bucket that refills at the pacing rate.
#[derive(Debug)]
pub(super) struct Pacer {
    /// Bytes that may leave; below zero after a packet that could not wait.
    tokens: i32,
    refilled_at: Nanos,
    /// When a sender that was told to wait may go on; 0: none waits.
    waits_until: Nanos,
    /// Bytes that the bucket is deeper by, as the timer came late, until the burst that makes it good is over: that is
    /// many packets, and the bucket is refilled before each.
    made_good: u32,
}

/// A train that takes longer to gather is not waited for.
const TRAIN_WAIT_MAX: Nanos = 1_000_000;

impl Pacer {
    pub(super) fn new(now: Nanos) -> Self {
        Self { tokens: BURST_BYTES_MAX as i32, refilled_at: now, waits_until: 0, made_good: 0 }
    }

    /// Bytes that may leave now, or when some may.
    pub(super) fn budget(&mut self, now: Nanos, rate: u64, mtu: u64) -> Result<u64, Nanos> {
        self.refill(now, rate, mtu);
        // Who waits does so for a whole train, whatever it is woken up by before: a send of one packet costs nearly as
        // much as one of fifty. Where a train takes long, the sends are few, and evenness is worth more.
        let waits = now < self.waits_until && span_of(train(rate, mtu), rate) <= TRAIN_WAIT_MAX;
        let wanted = if waits { train(rate, mtu) } else { mtu };
        if i64::from(self.tokens) >= wanted as i64 {
            self.waits_until = 0;
            return Ok((self.tokens as u64).min(BURST_BYTES_MAX));
        }
        let missing = (train(rate, mtu) as i64 - i64::from(self.tokens)) as u64;
        let at = now + span_of(missing, rate);
        self.waits_until = if waits { at.min(self.waits_until) } else { at };
        Err(self.waits_until)
    }

    /// A packet left.
    pub(super) fn on_sent(&mut self, bytes: u64) {
        let bytes = i32::try_from(bytes).unwrap_or(i32::MAX);
        self.tokens = self.tokens.saturating_sub(bytes);
        if self.tokens < bytes {
            self.made_good = 0;
        }
    }

    /// The sender has nothing to wait for: time that passes from now on is idleness, not lateness.
    pub(super) fn on_idle(&mut self) {
        (self.waits_until, self.made_good) = (0, 0);
    }

    fn refill(&mut self, now: Nanos, rate: u64, mtu: u64) {
        let since = now.saturating_sub(self.refilled_at);
        let earned = bytes_in(rate, since);
        if earned == 0 {
            return;
        }
        if since > BURST {
            // The burst broke off, as the window was full: what is earned meanwhile is idleness, not lateness.
            self.made_good = 0;
        }
        // Not `now`: what is less than a byte must not be lost each time, however often this is called.
        self.refilled_at += span_of(earned, rate) - 1;
        let usual = bytes_in(rate, BURST).max(BURST_PACKETS * mtu).min(BURST_BYTES_MAX);
        if self.waits_until != 0 {
            let lateness = now.saturating_sub(self.waits_until).min(LATENESS_MAX);
            self.made_good = bytes_in(rate, lateness).min(MADE_GOOD_MAX) as u32;
        }
        let deeper = if self.made_good > 0 {
            // The path may carry less by now.
            train(rate, mtu) + u64::from(self.made_good).min(bytes_in(rate, LATENESS_MAX))
        } else {
            0
        };
        let earned = i32::try_from(earned).unwrap_or(i32::MAX);
        self.tokens = self.tokens.saturating_add(earned).min(usual.max(deeper) as i32);
    }
}

/// What is worth waiting for.
fn train(rate: u64, mtu: u64) -> u64 {
    bytes_in(rate, TRAIN).clamp(2 * mtu, BURST_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::{super::unit::SECOND, *};

    const MTU: u64 = 1_200;

    /// Time to make a packet.
    const PACKET: Nanos = 100;

    /// Asks before every packet, as a connection does, waking up when told and up to `late` later; when and how much was
    /// sent.
    fn sends(rate: u64, late: Nanos, span: Nanos) -> Vec<(Nanos, u64)> {
        let (mut pacer, mut now, mut random) = (Pacer::new(0), 0, 7_u64);
        let mut sent = Vec::new();
        while now < span {
            match pacer.budget(now, rate, MTU) {
                Ok(_) => {
                    pacer.on_sent(MTU);
                    sent.push((now, MTU));
                    now += PACKET;
                }
                Err(at) => {
                    assert!(at > now, "it would be asked again at once");
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    now = at + (random >> 33) % late.max(1);
                }
            }
        }
        sent
    }

    #[test]
    fn who_is_woken_early_still_waits_for_a_whole_train() {
        let (rate, mut pacer) = (200_000_000, Pacer::new(0));
        while let Ok(bytes) = pacer.budget(0, rate, MTU) {
            pacer.on_sent(bytes);
        }
        // An acknowledgement comes every 20 us, which is time enough for three packets.
        let sent = (1..).map(|at| at * 20_000).find_map(|now| Some((now, pacer.budget(now, rate, MTU).ok()?)));
        let (now, bytes) = sent.expect("it goes on");
        assert!(bytes >= BURST_BYTES_MAX - MTU && now < 400_000, "{bytes} bytes after {now} ns");
    }

    fn rate_achieved(sends: &[(Nanos, u64)], span: Nanos) -> u64 {
        sends.iter().map(|(_, bytes)| bytes).sum::<u64>() * SECOND / span
    }

    #[test]
    fn no_ten_milliseconds_carry_a_quarter_more() {
        for (rate, late) in [(12_500_000, 0), (12_500_000, 2 * MILLISECOND), (1_250_000, 0), (125_000_000, 0)] {
            let sends = sends(rate, late, SECOND);
            // After the burst that a new flow may send.
            let steady: Vec<_> = sends.into_iter().filter(|(at, _)| *at > 100 * MILLISECOND).collect();
            for (first, (from, _)) in steady.iter().enumerate() {
                let until = from + 10 * MILLISECOND;
                let bytes: u64 = steady[first..].iter().take_while(|(at, _)| *at < until).map(|(_, bytes)| bytes).sum();
                // Two packets more: at 10 Mbit/s a packet is a tenth of ten milliseconds.
                let most = rate / 100 * 125 / 100 + 2 * MTU;
                assert!(bytes <= most, "{bytes} bytes in 10 ms at {rate} B/s, timers {late} ns late");
            }
        }
    }

    #[test]
    fn late_timers_cost_no_throughput() {
        for (rate, late) in [1_250_000, 12_500_000, 125_000_000, 2_000_000_000].into_iter().flat_map(|rate| {
            // The shorter one is what kernels are late by when they are asked for nothing better.
            [(rate, 2 * MILLISECOND), (rate, 100_000)]
        }) {
            let achieved = rate_achieved(&sends(rate, late, SECOND), SECOND);
            assert!(achieved >= rate / 100 * 98, "{achieved} of {rate} B/s, timers {late} ns late");
        }
    }

    #[test]
    fn frequent_questions_lose_no_fractions() {
        let (mut pacer, rate, mut sent) = (Pacer::new(0), 1_000_000, 0);
        for now in (0..SECOND).step_by(1_500) {
            if let Ok(bytes) = pacer.budget(now, rate, MTU) {
                pacer.on_sent(bytes.min(MTU));
                sent += bytes.min(MTU);
            }
        }
        assert!(sent >= rate * 99 / 100, "{sent} bytes in a second");
    }

    #[test]
    fn idleness_saves_up_no_more_than_a_burst() {
        let mut pacer = Pacer::new(0);
        pacer.on_sent(BURST_BYTES_MAX);
        let now = 100 * SECOND;
        pacer.on_idle();
        assert_eq!(pacer.budget(now, 12_500_000, MTU), Ok(25_000), "2 ms");
        let mut pacer = Pacer::new(0);
        pacer.on_sent(BURST_BYTES_MAX);
        assert_eq!(pacer.budget(now, 100_000, MTU), Ok(12_000), "ten packets");
        let mut pacer = Pacer::new(0);
        pacer.on_sent(BURST_BYTES_MAX);
        assert_eq!(pacer.budget(now, 1_000_000_000, MTU), Ok(65_536));
    }

    #[test]
    fn what_could_not_wait_is_paid_back() {
        let mut pacer = Pacer::new(0);
        pacer.on_sent(BURST_BYTES_MAX + 12_000);
        let until = pacer.budget(0, 1_200_000, MTU).expect_err("in debt");
        assert!((10 * MILLISECOND..14 * MILLISECOND).contains(&until), "{until} ns");
    }

    /// What leaves at once from now on.
    fn burst(pacer: &mut Pacer, now: Nanos, rate: u64) -> u64 {
        let mut burst = 0;
        while pacer.budget(now, rate, MTU).is_ok() {
            pacer.on_sent(MTU);
            burst += MTU;
        }
        burst
    }

    /// A pacer whose timer came 4 ms late, and whose window was full after a few packets.
    fn late_and_full(rate: u64) -> (Pacer, Nanos) {
        let mut pacer = Pacer::new(0);
        burst(&mut pacer, 0, rate);
        let now = pacer.budget(0, rate, MTU).expect_err("it is empty") + 4 * MILLISECOND;
        for _ in 0..5 {
            pacer.budget(now, rate, MTU).expect("it is late");
            pacer.on_sent(MTU);
        }
        (pacer, now)
    }

    #[test]
    fn what_is_made_good_is_not_made_good_again_after_a_full_window() {
        for rate in [12_500_000, 125_000_000, 1_000_000_000] {
            let (mut pacer, late_at) = late_and_full(rate);
            // The window opens when an acknowledgement comes.
            let burst = burst(&mut pacer, late_at + 40 * MILLISECOND, rate);
            assert!(burst <= BURST_BYTES_MAX, "{burst} bytes at once at {rate} B/s");
        }
    }

    #[test]
    fn what_is_made_good_is_no_more_than_the_path_carries_by_now() {
        let (mut pacer, now) = late_and_full(1_000_000_000);
        let burst = burst(&mut pacer, now + 100_000, 1_250_000);
        assert!(burst <= BURST_PACKETS * MTU, "{burst} bytes at once at 10 Mbit/s");
    }
}
