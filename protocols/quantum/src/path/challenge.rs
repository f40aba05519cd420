//! Whether somebody is at an address: PATH_CHALLENGE until the right PATH_RESPONSE (RFC 9000, section 8.2).

use std::time::{Duration, Instant};

use rand::RngCore;
use smallvec::SmallVec;

/// The probe timeout of a path about which nothing is known (RFC 9002, sections 6.2.2 and 6.2.4).
const PTO_UNKNOWN: Duration = Duration::from_secs(1);

/// Tries within the life of a challenge: intervals double.
const TRIES_MAX: usize = 6;

/// One validation. Every try has its own data, and an answer to any of them counts.
#[derive(Debug)]
pub(super) struct Challenge {
    tries: SmallVec<[Try; TRIES_MAX]>,
    send_at: Instant,
    interval: Duration,
    expires_at: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Try {
    data: [u8; 8],
    // Whether its datagram had the full size.
    full: bool,
}

impl Challenge {
    /// Starts now; `pto` is the present probe timeout.
    pub(super) fn new(now: Instant, pto: Duration) -> Box<Self> {
        let expires_at = now + 3 * pto.max(PTO_UNKNOWN);
        Box::new(Self { tries: SmallVec::new(), send_at: now, interval: pto, expires_at })
    }

    /// When something is to be done.
    pub(super) fn deadline(&self, can_send: bool) -> Instant {
        if can_send && self.tries.len() < TRIES_MAX { self.send_at.min(self.expires_at) } else { self.expires_at }
    }

    /// Whether nobody answered in time.
    pub(super) fn is_expired(&self, now: Instant) -> bool {
        self.expires_at <= now
    }

    /// Whether a PATH_CHALLENGE is to be sent.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.tries.len() < TRIES_MAX && self.send_at <= now
    }

    /// Data of the next PATH_CHALLENGE; `full` says whether its datagram will have the full size.
    pub(super) fn next(&mut self, now: Instant, full: bool, rng: &mut impl RngCore) -> [u8; 8] {
        let mut data = [0; 8];
        rng.fill_bytes(&mut data);
        self.tries.push(Try { data, full });
        self.send_at = now + self.interval;
        self.interval *= 2;
        data
    }

    /// Whether a PATH_RESPONSE answers; and then, whether the full size is shown to pass.
    pub(super) fn answers(&self, data: [u8; 8]) -> Option<bool> {
        self.tries.iter().find(|challenge| challenge.data == data).map(|challenge| challenge.full)
    }
}
