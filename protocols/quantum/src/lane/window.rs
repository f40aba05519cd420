//! A flow control window: how far the peer may send, and when it is told to go on (RFC 9000, section 4.2).

use std::time::{Duration, Instant};

use crate::varint;

/// The window of a stream or of the connection.
#[derive(Debug)]
pub(super) struct Window {
    size: u64,
    size_max: u64,
    /// The limit that the peer was told.
    limit: u64,
    granted_at: Option<Instant>,
}

impl Window {
    pub(super) fn new(size: u64, size_max: u64) -> Self {
        Self { size, size_max: size_max.max(size), limit: size, granted_at: None }
    }

    /// How far the peer may send.
    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    /// Bytes that it may have unread.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Whether half the window is used up, now that all bytes below `read` were read.
    pub(super) fn is_due(&self, read: u64) -> bool {
        self.limit - read <= self.size / 2
    }

    /// Moves the window to `read`, and doubles it when it took less than two round trips to use it up: the peer might
    /// send faster than the window lets it.
    pub(super) fn grant(&mut self, now: Instant, rtt: Duration, read: u64) -> u64 {
        if self.granted_at.is_some_and(|at| now.saturating_duration_since(at) < 2 * rtt) {
            self.size = self.size.saturating_mul(2).min(self.size_max);
        }
        self.granted_at = Some(now);
        self.limit = self.limit.max(read.saturating_add(self.size).min(varint::MAX));
        self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_used_up_within_two_round_trips_doubles() {
        let (now, rtt) = (Instant::now(), Duration::from_millis(40));
        let mut window = Window::new(1000, 3000);
        assert!(!window.is_due(499));
        assert!(window.is_due(500));
        assert_eq!(window.grant(now, rtt, 500), 1500);
        assert_eq!(window.grant(now + 2 * rtt, rtt, 1000), 2000);
        assert_eq!(window.grant(now + 3 * rtt, rtt, 1500), 3500, "twice the size");
        assert_eq!(window.grant(now + 4 * rtt, rtt, 2500), 5500, "but not beyond its most");
    }
}
