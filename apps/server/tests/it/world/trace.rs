//! What happened in a world, as one number: two runs of a seed must agree on it.

/// A running hash of events (FNV-1a over their bytes).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Trace {
    pub(crate) hash: u64,
    pub(crate) count: u64,
}

impl Default for Trace {
    fn default() -> Self {
        Self { hash: 0xcbf2_9ce4_8422_2325, count: 0 }
    }
}

impl Trace {
    /// Adds an event: its kind, whom it happened to, and its bytes.
    pub(crate) fn note(&mut self, kind: u8, whom: u64, bytes: &[u8]) {
        self.count += 1;
        let whom = whom.to_le_bytes();
        for byte in [kind].iter().chain(&whom).chain(bytes) {
            self.hash = (self.hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}
