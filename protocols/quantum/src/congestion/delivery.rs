//! Delivery rate sampling: how fast the network delivers, told from acknowledgements (draft-ietf-ccwg-bbr section 4.1).

use super::unit::Nanos;
#[cfg(test)]
use super::unit::rate_of;

/// What was known when a packet was sent; it travels with the packet until that is acknowledged or lost.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Stamp {
    /// `C.delivered` at that time.
    pub(super) delivered: u64,
    /// `C.lost` at that time.
    pub(super) lost: u64,
    pub(super) delivered_at: Nanos,
    pub(super) first_sent_at: Nanos,
    /// Bytes in flight, this packet included.
    pub(super) in_flight: u32,
    /// Whether the application had left the path idle: the sample says nothing about the path's limit.
    pub(super) app_limited: bool,
}

/// The connection's side of the sampling.
#[derive(Debug)]
pub(super) struct Sampler {
    pub(super) delivered: u64,
    pub(super) lost: u64,
    delivered_at: Nanos,
    first_sent_at: Nanos,
    /// Samples are limited by the application until this much is delivered; 0: they are not.
    app_limited_until: u64,
    /// The most recently sent packet of those that the ACK being processed acknowledges.
    newest: Option<Newest>,
    newly_acked: u32,
    newly_lost: u32,
}

#[derive(Clone, Copy, Debug)]
struct Newest {
    stamp: Stamp,
    sent_at: Nanos,
    number: u64,
}

/// What one ACK says about the path (the draft's `RS`).
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Sample {
    /// Of the newest packet: the sample covers what happened from its sending until now.
    pub(super) stamp: Stamp,
    /// Bytes delivered over the interval; 0 when the ACK acknowledged nothing.
    pub(super) delivered: u64,
    /// Bytes declared lost over the interval.
    pub(super) lost: u64,
    /// The longer one of the times that sending and acknowledging took; 0: no reliable rate.
    pub(super) interval: Nanos,
    pub(super) rtt: Option<Nanos>,
    /// When the newest packet was sent.
    pub(super) sent_at: Nanos,
    pub(super) newly_acked: u64,
    pub(super) newly_lost: u64,
}

impl Sample {
    /// Bytes per second; 0: this ACK gives none.
    #[cfg(test)]
    pub(super) fn rate(&self) -> u64 {
        if self.interval == 0 { 0 } else { rate_of(self.delivered, self.interval) }
    }
}

impl Sampler {
    pub(super) fn new(now: Nanos) -> Self {
        Self {
            delivered: 0,
            lost: 0,
            delivered_at: now,
            first_sent_at: now,
            app_limited_until: 0,
            newest: None,
            newly_acked: 0,
            newly_lost: 0,
        }
    }

    pub(super) fn on_sent(&mut self, now: Nanos, bytes: u64, in_flight_before: u64) -> Stamp {
        if in_flight_before == 0 {
            self.first_sent_at = now;
            self.delivered_at = now;
        }
        Stamp {
            delivered: self.delivered,
            lost: self.lost,
            delivered_at: self.delivered_at,
            first_sent_at: self.first_sent_at,
            in_flight: u32::try_from(in_flight_before + bytes).unwrap_or(u32::MAX),
            app_limited: self.is_app_limited(),
        }
    }

    pub(super) fn on_acked(&mut self, now: Nanos, number: u64, bytes: u64, sent_at: Nanos, stamp: &Stamp) {
        self.delivered += bytes;
        self.delivered_at = now;
        self.newly_acked = self.newly_acked.saturating_add(bytes as u32);
        if self.newest.is_none_or(|newest| (newest.sent_at, newest.number) < (sent_at, number)) {
            self.newest = Some(Newest { stamp: *stamp, sent_at, number });
            self.first_sent_at = self.first_sent_at.max(sent_at);
        }
    }

    /// Bytes arrived that the network marked instead of dropping them: for the model they count as lost.
    pub(super) fn on_marked(&mut self, bytes: u64) {
        self.lost = self.lost.saturating_add(bytes);
    }

    /// When the newest packet was sent that the ACK being processed acknowledges.
    pub(super) fn newest_sent_at(&self) -> Option<Nanos> {
        self.newest.map(|newest| newest.sent_at)
    }

    /// Bytes that the ACK being processed acknowledges, so far.
    pub(super) fn newly_acked(&self) -> u64 {
        self.newly_acked.into()
    }

    pub(super) fn newest_stamp(&self) -> Option<Stamp> {
        self.newest.map(|newest| newest.stamp)
    }

    pub(super) fn on_lost(&mut self, bytes: u64) {
        self.lost += bytes;
        self.newly_lost = self.newly_lost.saturating_add(bytes as u32);
    }

    /// Ends the processing of one ACK. `rtt_min` is the smallest round trip of the path: what claims to have been
    /// measured in less is not reliable.
    pub(super) fn take_sample(&mut self, now: Nanos, rtt_min: Nanos) -> Sample {
        if self.app_limited_until != 0 && self.delivered > self.app_limited_until {
            self.app_limited_until = 0;
        }
        let mut sample =
            Sample { newly_acked: self.newly_acked.into(), newly_lost: self.newly_lost.into(), ..Sample::default() };
        (self.newly_acked, self.newly_lost) = (0, 0);
        let Some(newest) = self.newest.take() else { return sample };
        sample.stamp = newest.stamp;
        sample.sent_at = newest.sent_at;
        sample.rtt = Some(now.saturating_sub(newest.sent_at));
        sample.delivered = self.delivered.saturating_sub(newest.stamp.delivered);
        sample.lost = self.lost.saturating_sub(newest.stamp.lost);
        let ack_elapsed = self.delivered_at.saturating_sub(newest.stamp.delivered_at);
        let send_elapsed = newest.sent_at.saturating_sub(newest.stamp.first_sent_at);
        let interval = send_elapsed.max(ack_elapsed);
        if interval >= rtt_min {
            sample.interval = interval;
        }
        sample
    }

    /// There was room to send and nothing to be sent: what is in flight now will not show the path's limit.
    pub(super) fn set_app_limited(&mut self, in_flight: u64) {
        self.app_limited_until = (self.delivered + in_flight).max(1);
    }

    pub(super) fn is_app_limited(&self) -> bool {
        self.app_limited_until != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Nanos = 1_000_000;

    #[test]
    fn the_rate_is_of_the_slower_one_of_sending_and_acknowledging() {
        let mut sampler = Sampler::new(0);
        // Ten packets in 9 ms; their acknowledgements come at once, 40 ms after the last.
        let stamps: Vec<_> = (0..10).map(|i| sampler.on_sent(i * MS, 1_000, i * 1_000)).collect();
        for (i, stamp) in (0..10).zip(&stamps) {
            sampler.on_acked(49 * MS, i, 1_000, i * MS, stamp);
        }
        let sample = sampler.take_sample(49 * MS, 40 * MS);
        assert_eq!((sample.delivered, sample.interval, sample.rtt), (10_000, 49 * MS, Some(40 * MS)));
        // Then ten more within 9 ms, acknowledged in 1 ms: compressed acknowledgements are not the rate of the path.
        let stamps: Vec<_> = (0..10).map(|i| sampler.on_sent((50 + i) * MS, 1_000, i * 1_000)).collect();
        for (i, stamp) in (0..10).zip(&stamps) {
            sampler.on_acked(99 * MS + i * MS / 10, 10 + i, 1_000, (50 + i) * MS, stamp);
        }
        let sample = sampler.take_sample(100 * MS, 40 * MS);
        assert_eq!(sample.delivered, 10_000);
        assert!(sample.interval >= 49 * MS);
    }

    #[test]
    fn what_is_faster_than_the_smallest_round_trip_is_no_sample() {
        let mut sampler = Sampler::new(0);
        let stamp = sampler.on_sent(0, 1_000, 0);
        sampler.on_acked(10 * MS, 0, 1_000, 0, &stamp);
        let sample = sampler.take_sample(10 * MS, 40 * MS);
        assert_eq!((sample.rate(), sample.newly_acked), (0, 1_000));
    }

    #[test]
    fn a_bubble_marks_what_is_in_flight_and_passes() {
        let mut sampler = Sampler::new(0);
        let first = sampler.on_sent(0, 1_000, 0);
        sampler.set_app_limited(1_000);
        let second = sampler.on_sent(MS, 1_000, 1_000);
        assert_eq!((first.app_limited, second.app_limited), (false, true));
        sampler.on_acked(40 * MS, 0, 1_000, 0, &first);
        sampler.take_sample(40 * MS, 0);
        assert!(sampler.is_app_limited(), "what was in flight then is delivered, not more");
        sampler.on_acked(41 * MS, 1, 1_000, MS, &second);
        sampler.take_sample(41 * MS, 0);
        assert!(!sampler.is_app_limited());
    }

    #[test]
    fn the_newest_packet_makes_the_sample_whatever_the_order() {
        let mut sampler = Sampler::new(0);
        let stamps: Vec<_> = (0..3).map(|i| sampler.on_sent(0, 1_000, i * 1_000)).collect();
        for i in [1, 2, 0] {
            sampler.on_acked(40 * MS, i, 1_000, 0, &stamps[i as usize]);
        }
        let sample = sampler.take_sample(40 * MS, 0);
        assert_eq!((sample.stamp.in_flight, sample.delivered), (3_000, 3_000));
    }
}
