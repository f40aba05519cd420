//! The response to loss (draft section 5.5.10), and which losses deserve none.
//!
//! The draft yields when more than 2 % are lost. A path that loses 5 % by itself, as radio links do, would then be left
//! to whoever does not yield. The two differ in one thing: a queue that overflows is long when it does, so that packets
//! around a congestion loss took longer than the path's smallest round trip. Losses between packets that did not are
//! the path's own: their rate is the baseline, and what is tolerated is the baseline, and a margin. The same rate also
//! says how much more must be sent for the path to be full where it loses. It is used only while queues are seen at all
//! at other times: a policer drops without one, and must be obeyed.

use super::{
    super::{
        Ack, Stamp,
        delivery::{Sample, Sampler},
        unit::{MILLISECOND, Nanos, SECOND, mul_div, percent, span_of},
    },
    Bbr, State, UNLIMITED,
};

/// Loss above the baseline that says too much is in flight, in percent. The draft's `LossThresh` is 2. BBRv1 keeps a queue
/// of one BDP full, and that loses 2 to 3 % all the time: whoever heeds it is left with 23 % of the link by Linux's, and
/// with this, `THRESHOLD_ROUND` and `BETA` with 28.
const THRESHOLD: u64 = 4;

/// The same of a whole round trip, outside of a probe.
const THRESHOLD_ROUND: u64 = 8;

/// The same in Startup while no queue is seen: the baseline is but a guess then.
const THRESHOLD_UNSURE: u64 = 10;

/// What is kept of a short-term bound, at least, in a round trip with losses, in percent. The draft's `Beta` is 70.
const BETA: u64 = 85;

/// What is kept of the inflight at which losses crossed the threshold, in percent. With 90 a TCP CUBIC beside it on a queue
/// of one BDP was left with 23 % of the link (five seeds), with 85 with 30.
const LONGTERM_KEPT: u64 = 85;

/// And of the inflight that the model aims at, at least (`Beta` of the draft).
const LONGTERM_LEAST: u64 = 70;

/// Rates of loss are fractions of this.
const ONE: u64 = 1 << 16;

/// The most that is believed to be the path's own loss: 20 %.
const BASELINE_MAX: u64 = ONE / 5;

/// Losses above the expected number that chance explains, in standard deviations: 3 happen once in 740 times.
const DEVIATIONS: u64 = 3;

/// Packets after which what was counted for the baseline counts half.
const BASELINE_PACKETS: u32 = 4_096;

/// Time after which it does.
const BASELINE_MEMORY: Nanos = 2 * SECOND;

/// As few packets say nothing about a rate of loss.
const CALM_PACKETS_MIN: u32 = 64;

/// At least this part of the packets must have met no queue. Where a queue always stands, it may be ours, and the few
/// that seem to have met none prove nothing: eight flows that take the loss they cause together for the path's own
/// would go on causing it.
const CALM_PART: u32 = 8;

/// For how long a queue that was seen says that there are queues on this path. ProbeBW makes one at least every 3 s.
const QUEUE_MEMORY: Nanos = 10 * SECOND;

/// A round trip above the smallest one by less than this says nothing about a queue, on the shortest paths.
const QUEUE_FLOOR: Nanos = 3 * MILLISECOND / 10;

/// Losses, and what to undo when they were none.
#[derive(Debug)]
pub(super) struct Loss {
    /// A loss was noted in this round trip, and this round trip of losses ends at ..
    pub(super) in_round: bool,
    pub(super) round_start: bool,
    round_delivered: u64,
    /// `C.delivered` when it began.
    round_began: u64,
    /// Bytes lost in it that may be due to congestion, and how many separate times.
    lost_in_round: u64,
    pub(super) events_in_round: u16,
    last_number: u64,
    /// Bytes lost since the last ACK, of packets that the application limited.
    app_limited_lost: u64,
    /// Packets acknowledged and lost while there was no queue.
    calm_acked: u32,
    calm_lost: u32,
    /// Packets acknowledged while there was one.
    busy: u32,
    aged_at: Nanos,
    /// No queue stood when the latest packet passed.
    is_calm: bool,
    /// When a queue was last seen; 0: never.
    queue_seen_at: Nanos,
    /// The baseline as of the latest ACK, of `ONE`.
    baseline: u32,
    pub(super) undo: Undo,
}

/// What was before the first loss of a round trip.
#[derive(Debug)]
pub(super) struct Undo {
    pub(super) state: Option<State>,
    bw_shortterm: u64,
    inflight_shortterm: u64,
    inflight_longterm: u64,
    /// The first packet lost, and how many are since, less those that turned out to have arrived.
    first_number: u64,
    lost: u32,
}

impl Default for Loss {
    fn default() -> Self {
        Self {
            in_round: false,
            round_start: false,
            round_delivered: 0,
            round_began: 0,
            lost_in_round: 0,
            events_in_round: 0,
            last_number: 0,
            app_limited_lost: 0,
            calm_acked: 0,
            calm_lost: 0,
            busy: 0,
            aged_at: 0,
            is_calm: true,
            queue_seen_at: 0,
            baseline: 0,
            undo: Undo {
                state: None,
                bw_shortterm: 0,
                inflight_shortterm: 0,
                inflight_longterm: 0,
                first_number: 0,
                lost: 0,
            },
        }
    }
}

impl Loss {
    /// What passed the path in a sample: what was delivered, and what the path lost on its own, but no more than that.
    pub(super) fn carried(&self, sample: &Sample) -> u64 {
        let most = mul_div(sample.delivered, ONE, ONE - u64::from(self.baseline));
        most.min(sample.delivered + sample.lost)
    }

    /// The rate of loss of the path itself, of `ONE`, as counted.
    fn calm_rate(&self) -> u64 {
        let total = u64::from(self.calm_acked) + u64::from(self.calm_lost);
        (u64::from(self.calm_lost) * ONE / total.max(1)).min(BASELINE_MAX)
    }

    /// There are queues on this path.
    pub(super) fn see_queue(&mut self, now: Nanos) {
        self.queue_seen_at = now.max(1);
    }

    /// Old counts weigh half.
    fn age(&mut self) {
        self.calm_acked /= 2;
        self.calm_lost /= 2;
        self.busy /= 2;
    }

    /// Whether the baseline is to be trusted.
    fn is_calm_often(&self) -> bool {
        self.calm_acked >= CALM_PACKETS_MIN && self.calm_acked >= self.busy / CALM_PART
    }

    /// How much of `bytes` may be lost by chance at a rate of loss, or by `margin` percent more.
    fn allowance(&self, bytes: u64, rate: u64, margin: u64, mtu: u64) -> u64 {
        let expected = mul_div(bytes, rate, ONE);
        // Both the losses and the counted rate are uncertain, as sums of independent events are.
        let counted = (u64::from(self.calm_acked) + u64::from(self.calm_lost)).max(1) * mtu;
        let variance = mul_div(expected.saturating_mul(mtu), counted.saturating_add(bytes), counted);
        expected + percent(bytes, margin).max(DEVIATIONS * variance.isqrt())
    }
}

impl Bbr {
    /// `HandleLostPacket`.
    pub(in crate::congestion) fn on_lost(
        &mut self,
        now: Nanos,
        number: u64,
        bytes: u64,
        stamp: &Stamp,
        sampler: &Sampler,
    ) {
        self.delivered = sampler.delivered;
        self.note_loss(number);
        let event = u16::from(number != self.loss.last_number.wrapping_add(1));
        if stamp.app_limited {
            self.loss.app_limited_lost += bytes;
        } else {
            self.loss.lost_in_round += bytes;
        }
        self.loss.events_in_round = self.loss.events_in_round.saturating_add(event);
        self.loss.last_number = number;
        self.check_probe_loss(now, bytes, stamp, sampler);
    }

    /// A mark says what a loss would have, of a packet that arrived all the same.
    pub(in crate::congestion) fn on_ecn(&mut self, now: Nanos, newly_ce: u64, sampler: &mut Sampler) {
        // No more can be marked than arrived, whatever the peer says.
        let bytes = newly_ce.saturating_mul(self.mtu()).min(sampler.newly_acked());
        self.delivered = sampler.delivered;
        sampler.on_marked(bytes);
        self.note_loss(self.loss.last_number);
        self.loss.lost_in_round += bytes;
        self.loss.events_in_round = self.loss.events_in_round.saturating_add(1);
        if let Some(stamp) = sampler.newest_stamp() {
            self.check_probe_loss(now, self.mtu(), &stamp, sampler);
        }
    }

    /// Whether a queue stood when the packets passed that an ACK is about, and what was lost while none did.
    pub(super) fn note_queue(&mut self, now: Nanos, ack: &Ack) {
        let app_limited_lost = std::mem::take(&mut self.loss.app_limited_lost);
        if ack.sample.rtt.is_some() {
            let noise = (ack.path_rtt_min / 16).max(QUEUE_FLOOR);
            let noise = noise + span_of(2 * self.mtu(), self.model.max_bw()).min(noise);
            let queue = ack.path_rtt.saturating_sub(ack.path_rtt_min);
            self.loss.is_calm = queue <= noise;
            if queue > 2 * noise {
                self.loss.see_queue(now);
            }
        }
        let acked = ack.sample.newly_acked.div_ceil(self.mtu()) as u32;
        if self.loss.is_calm {
            self.loss.calm_acked += acked;
            self.loss.calm_lost += ack.sample.newly_lost.div_ceil(self.mtu()) as u32;
        } else {
            self.loss.busy += acked;
            // Without a queue, and sending less than the path can take, nothing of ours overflowed. This is not that.
            self.loss.lost_in_round += app_limited_lost;
        }
        if self.loss.calm_acked > BASELINE_PACKETS || now > self.loss.aged_at + BASELINE_MEMORY {
            self.loss.aged_at = now;
            self.loss.age();
        }
        let queues = self.loss.queue_seen_at != 0 && now < self.loss.queue_seen_at + QUEUE_MEMORY;
        self.loss.baseline = if queues && self.loss.is_calm_often() { self.loss.calm_rate() as u32 } else { 0 };
    }

    /// Near the start of the processing of an ACK.
    pub(super) fn update_latest_delivery_signals(&mut self, sample: &Sample, rate: u64) {
        self.loss.round_start = false;
        self.model.bw_latest = self.model.bw_latest.max(rate);
        self.model.inflight_latest = self.model.inflight_latest.max(self.loss.carried(sample));
        if sample.stamp.delivered >= self.loss.round_delivered {
            self.loss.round_delivered = self.delivered;
            self.loss.round_start = true;
        }
    }

    /// Near its end.
    pub(super) fn advance_latest_delivery_signals(&mut self, sample: &Sample, rate: u64) {
        if self.loss.round_start {
            self.model.bw_latest = rate;
            self.model.inflight_latest = self.loss.carried(sample);
        }
    }

    pub(super) fn reset_congestion_signals(&mut self) {
        self.start_loss_round();
        self.model.bw_latest = 0;
        self.model.inflight_latest = 0;
    }

    /// Once per round trip: slows down to what was delivered, if more was lost than is tolerated. The draft does so for
    /// any loss; then a tenth of a percent of random loss costs a part of the rate in every round trip until the next
    /// probe.
    pub(super) fn adapt_lower_bounds_from_congestion(&mut self) {
        let passed = self.delivered.saturating_sub(self.loss.round_began) + self.loss.lost_in_round;
        let allowance = self.loss.allowance(passed, self.loss.baseline.into(), THRESHOLD_ROUND, self.mtu());
        let responds = self.loss.in_round && self.loss.lost_in_round > allowance && !self.state.is_probing();
        self.start_loss_round();
        if !responds {
            return;
        }
        let model = &mut self.model;
        if model.bw_shortterm == UNLIMITED {
            model.bw_shortterm = model.max_bw();
        }
        if model.inflight_shortterm == UNLIMITED {
            model.inflight_shortterm = self.window;
        }
        model.bw_shortterm = model.bw_latest.max(percent(model.bw_shortterm, BETA));
        model.inflight_shortterm = model.inflight_latest.max(percent(model.inflight_shortterm, BETA));
    }

    /// Whether the losses of this round trip say that Startup has filled the path.
    pub(super) fn is_startup_loss_high(&self) -> bool {
        let passed = self.delivered.saturating_sub(self.loss.round_began) + self.loss.lost_in_round;
        let margin = if self.loss.is_calm { THRESHOLD_UNSURE } else { THRESHOLD };
        self.loss.lost_in_round > self.loss.allowance(passed, self.loss.calm_rate(), margin, self.mtu())
    }

    /// `IsInflightTooHigh` of the sample of an ACK.
    pub(super) fn is_sample_loss_high(&self, sample: &Sample) -> bool {
        sample.lost > self.tolerated(sample.stamp.in_flight.into())
    }

    /// `HandleSpuriousLossDetection`, when all that was lost since the first loss of a round trip had arrived.
    pub(in crate::congestion) fn on_spurious_loss(&mut self, number: u64) {
        let undo = &mut self.loss.undo;
        if undo.lost == 0 || number < undo.first_number {
            return;
        }
        undo.lost -= 1;
        if undo.lost > 0 {
            return;
        }
        let (state, model) = (undo.state.take(), &mut self.model);
        model.bw_shortterm = model.bw_shortterm.max(undo.bw_shortterm);
        model.inflight_shortterm = model.inflight_shortterm.max(undo.inflight_shortterm);
        model.inflight_longterm = model.inflight_longterm.max(undo.inflight_longterm);
        self.restore_window();
        self.start_loss_round();
        self.reset_full_bw(0);
        match state {
            Some(State::Startup) if self.state != State::Startup => {
                self.full_bw.reached = false;
                if self.state != State::ProbeRtt {
                    self.enter_startup();
                }
            }
            Some(State::Up) if self.state != State::Up && self.state != State::ProbeRtt => self.start_probe_bw_refill(),
            _ => {}
        }
    }

    /// How much may be lost of so much in flight: `LossThresh`, above the baseline.
    fn tolerated(&self, in_flight: u64) -> u64 {
        self.loss.allowance(in_flight, self.loss.baseline.into(), THRESHOLD, self.mtu())
    }

    /// `NoteLoss` and `SaveStateUponLoss`.
    fn note_loss(&mut self, number: u64) {
        if !self.loss.in_round {
            self.save_window();
            self.loss.round_delivered = self.delivered;
            self.loss.undo = Undo {
                state: None,
                bw_shortterm: self.model.bw_shortterm,
                inflight_shortterm: self.model.inflight_shortterm,
                inflight_longterm: self.model.inflight_longterm,
                first_number: number,
                lost: 0,
            };
            self.start_loss_round();
        }
        self.loss.in_round = true;
        self.loss.undo.lost += 1;
    }

    fn start_loss_round(&mut self) {
        self.loss.in_round = false;
        self.loss.round_began = self.delivered;
        self.loss.lost_in_round = 0;
        self.loss.events_in_round = 0;
    }

    /// While probing: did it go too high?
    fn check_probe_loss(&mut self, now: Nanos, bytes: u64, stamp: &Stamp, sampler: &Sampler) {
        if !self.probe.is_sample {
            return;
        }
        let (lost, in_flight) = (sampler.lost.saturating_sub(stamp.lost), u64::from(stamp.in_flight));
        let tolerated = self.tolerated(in_flight);
        if lost > tolerated {
            let safe = inflight_at_loss(lost, in_flight, bytes, tolerated);
            self.handle_inflight_too_high(now, safe, stamp.app_limited);
        }
    }

    fn handle_inflight_too_high(&mut self, now: Nanos, in_flight: u64, app_limited: bool) {
        self.probe.prev_too_high = true;
        self.probe.is_sample = false;
        if !app_limited {
            // The draft keeps all of it. Then flows of unequal size that share a queue stay unequal: each grows by the
            // same number of packets, and none shrinks in proportion to what it has.
            self.model.inflight_longterm =
                percent(in_flight, LONGTERM_KEPT).max(percent(self.target_inflight(), LONGTERM_LEAST));
        }
        if self.state == State::Up {
            self.loss.undo.state = Some(State::Up);
            self.start_probe_bw_down(now);
        }
    }
}

/// `InflightAtLoss`: with how much in flight did the losses cross what is tolerated?
fn inflight_at_loss(lost: u64, in_flight: u64, bytes: u64, tolerated: u64) -> u64 {
    let before = in_flight.saturating_sub(bytes);
    let threshold = mul_div(tolerated, ONE, in_flight).min(ONE / 2);
    let lost_before = lost.saturating_sub(bytes);
    let missing = mul_div(before, threshold, ONE).saturating_sub(lost_before);
    before + mul_div(missing, ONE, ONE - threshold).min(bytes)
}
