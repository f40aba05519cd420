//! Whether the path carries ECN marks and the peer reports them (RFC 9000, section 13.4.2).

use crate::{frame::EcnCounts, packet::Space};

/// Packets that are marked to try it.
const TESTED: u8 = 10;

/// Probe timeouts in a row after which marks are suspected of being what the path drops.
const TIMEOUTS: u32 = 2;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// So many more packets are marked.
    Testing(u8),
    /// Nothing more is marked until one of the marked packets is acknowledged.
    Unknown,
    Capable,
    Failed,
}

/// What is known about ECN on the current path.
#[derive(Debug)]
pub(crate) struct Ecn {
    state: State,
    /// What the peer reported last, per space.
    counts: [EcnCounts; 3],
    /// Packets sent with ECT(0), per space.
    sent: [u64; 3],
}

impl Default for Ecn {
    fn default() -> Self {
        Self { state: State::Testing(TESTED), counts: [EcnCounts::default(); 3], sent: [0; 3] }
    }
}

impl Ecn {
    /// Whether the next packet is to be sent with ECT(0).
    pub(crate) fn marks(&self) -> bool {
        matches!(self.state, State::Testing(_) | State::Capable)
    }

    /// A packet was sent with ECT(0).
    pub(crate) fn on_sent(&mut self, space: Space) {
        self.sent[space.index()] += 1;
        if let State::Testing(left) = self.state {
            self.state = if left > 1 { State::Testing(left - 1) } else { State::Unknown };
        }
    }

    /// An ACK acknowledged something new and raised the largest number; `newly` of its packets were marked. How many of
    /// them the network says met congestion.
    pub(crate) fn on_ack(&mut self, space: Space, newly: u64, counts: Option<EcnCounts>) -> u64 {
        let last = self.counts[space.index()];
        let Some(counts) = counts else {
            if newly > 0 {
                self.state = State::Failed;
            }
            return 0;
        };
        self.counts[space.index()] = counts;
        let sum = counts.ect0.saturating_add(counts.ce);
        let grown = sum.saturating_sub(last.ect0.saturating_add(last.ce));
        let honest = counts.ect0 >= last.ect0
            && counts.ce >= last.ce
            && counts.ect1 == 0
            && grown >= newly
            && sum <= self.sent[space.index()];
        if !honest {
            self.state = State::Failed;
        } else if newly > 0 && self.state != State::Failed {
            self.state = State::Capable;
        }
        if self.state == State::Capable { counts.ce - last.ce } else { 0 }
    }

    /// The probe timer fired for the `count`th time in a row.
    pub(crate) fn on_timeout(&mut self, count: u32) {
        if count >= TIMEOUTS && matches!(self.state, State::Testing(_) | State::Unknown) {
            self.state = State::Failed;
        }
    }

    /// The path is another one: try again.
    pub(crate) fn on_path_changed(&mut self) {
        self.state = State::Testing(TESTED);
    }

    /// Whether marks are known to work.
    #[cfg(test)]
    pub(crate) fn is_capable(&self) -> bool {
        self.state == State::Capable
    }
}
