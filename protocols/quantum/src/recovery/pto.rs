//! The probe timeout: what to do when nothing comes back at all (RFC 9002, section 6.2).

use std::time::{Duration, Instant};

use crate::{frame::Side, packet::Space, rtt::Rtt};

/// Packets that a timeout sends: two, so that one more loss does not double the wait (RFC 9002, section 6.2.4).
pub(crate) const PROBES: u8 = 2;

/// Doublings of the timeout, at most. By then it is hours, and the idle timeout has spoken.
const DOUBLINGS_MAX: u32 = 16;

/// The state of the probe timer.
#[derive(Debug)]
pub(crate) struct Pto {
    /// Timeouts since something came back.
    count: u32,
    /// When it last fired: without a probe (nothing fits, the socket is full) the next one counts from here.
    fired_at: Option<Instant>,
    /// The last time that anything went on: where a client with nothing outstanding counts from.
    progress_at: Instant,
    /// Whether the peer knows that this address is not forged (RFC 9002, section 6.2.2.1).
    validated: bool,
    handshake_keys: bool,
    /// This side of the handshake is complete.
    complete: bool,
    confirmed: bool,
    blocked: bool,
    ack_delay_max: Duration,
    due: [u8; 3],
}

impl Pto {
    pub(crate) fn new(now: Instant, side: Side, ack_delay_max: Duration) -> Self {
        Self {
            count: 0,
            fired_at: None,
            progress_at: now,
            validated: side == Side::Server,
            handshake_keys: false,
            complete: false,
            confirmed: false,
            blocked: false,
            ack_delay_max,
            due: [0; 3],
        }
    }

    /// The timeout of a space before any backoff.
    pub(crate) fn base(&self, rtt: &Rtt, space: Space) -> Duration {
        match space {
            //= SPEC.md#9
            //# The probe timer is srtt + max(4 var, 1 ms), and for packets with a short header the peer's
            //# `ack_delay_max` more; it doubles each time it fires.
            Space::Application => rtt.pto_base() + self.ack_delay_max,
            Space::Initial | Space::Handshake => rtt.pto_base(),
        }
    }

    /// When the timer fires, and for which space, given when each sent its last ack-eliciting packet that is outstanding.
    pub(crate) fn deadline(&self, rtt: &Rtt, eliciting: [Option<Instant>; 3]) -> Option<(Instant, Space)> {
        if self.blocked {
            // Only the peer can change that, and it will when it sends something (RFC 9002, section 6.2.2.1).
            return None;
        }
        // A server that has acknowledged the last of the handshake can read 1-RTT packets, though it could not say so yet:
        // a NAT may have forgotten us in the meantime, and then only such a packet tells it where we are.
        let is_read = self.complete && self.validated && eliciting[Space::Handshake.index()].is_none();
        let waiting = Space::ALL
            .into_iter()
            .filter(|space| *space != Space::Application || self.confirmed || is_read)
            .filter_map(|space| Some((self.at(rtt, space, eliciting[space.index()]?), space)))
            .min_by_key(|(at, _)| *at);
        waiting.or_else(|| {
            // The server may be kept back by the limit against amplification, and only this side can lift it.
            let space = if self.handshake_keys { Space::Handshake } else { Space::Initial };
            (!self.validated).then(|| (self.at(rtt, space, self.progress_at), space))
        })
    }

    fn at(&self, rtt: &Rtt, space: Space, since: Instant) -> Instant {
        let since = self.fired_at.map_or(since, |fired| fired.max(since));
        since + self.base(rtt, space) * (1 << self.count.min(DOUBLINGS_MAX))
    }

    /// The timer fired: probes are due.
    pub(crate) fn on_fired(&mut self, now: Instant, space: Space, probes: u8) {
        self.count = self.count.saturating_add(1);
        self.fired_at = Some(now);
        self.due[space.index()] = probes;
    }

    /// A probe of this space goes with those of another.
    pub(crate) fn ride_along(&mut self, space: Space) {
        self.due[space.index()] = 1;
    }

    /// An ack-eliciting packet was sent.
    pub(crate) fn on_sent(&mut self, now: Instant, space: Space) {
        self.progress_at = now;
        let due = &mut self.due[space.index()];
        *due = due.saturating_sub(1);
    }

    /// Something was acknowledged. A client whose address is not validated keeps the backoff: the server may be able to
    /// acknowledge and still not to send (RFC 9002, section 6.2.1).
    pub(crate) fn on_acked(&mut self, now: Instant, space: Space) {
        self.progress_at = now;
        self.validated |= space == Space::Handshake;
        if self.validated {
            self.rest();
        }
    }

    /// Starts the backoff anew.
    pub(crate) fn rest(&mut self) {
        (self.count, self.fired_at, self.due) = (0, None, [0; 3]);
    }

    /// A space and its keys are gone (RFC 9002, section 6.2.2).
    pub(crate) fn on_discarded(&mut self, now: Instant) {
        self.progress_at = self.progress_at.max(now);
        self.rest();
    }

    pub(crate) fn on_handshake_keys(&mut self) {
        self.handshake_keys = true;
    }

    pub(crate) fn on_complete(&mut self) {
        self.complete = true;
    }

    pub(crate) fn on_confirmed(&mut self) {
        (self.confirmed, self.validated) = (true, true);
    }

    pub(crate) fn set_blocked(&mut self, blocked: bool) {
        self.blocked = blocked;
    }

    pub(crate) fn set_ack_delay_max(&mut self, delay: Duration) {
        self.ack_delay_max = delay;
    }

    pub(crate) fn ack_delay_max(&self) -> Duration {
        self.ack_delay_max
    }

    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// Probes of a space that are still to be sent.
    pub(crate) fn due(&self, space: Space) -> u8 {
        self.due[space.index()]
    }
}
