//! The running kernel's version, and which of its features the engine may use.

use std::fs;

/// A kernel version, as far as features depend on it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Kernel(pub u16, pub u16);

/// The oldest kernel that has everything that the engine cannot do without: provided buffer rings, direct descriptors
/// that the kernel allocates, multishot accept.
pub const KERNEL_MIN: Kernel = Kernel(5, 19);

/// Multishot receive, single issuer, zero-copy sends.
pub(crate) const MULTISHOT_RECEIVE: Kernel = Kernel(6, 0);

/// Completions are worked off when the shard asks for them, not by interrupting it.
pub(crate) const DEFER_TASKRUN: Kernel = Kernel(6, 1);

impl Kernel {
    /// The running one; 0.0 when it cannot be read.
    #[must_use]
    pub fn running() -> Self {
        fs::read_to_string("/proc/sys/kernel/osrelease").ok().and_then(|text| Self::parse(&text)).unwrap_or(Self(0, 0))
    }

    /// `6.18.4-whatever` → 6.18.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.trim().split(|c: char| !c.is_ascii_digit());
        Some(Self(numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    }

    /// The running one, or an older one that the caller wants to see simulated.
    pub(crate) fn usable(kernel_max: Option<(u16, u16)>) -> Self {
        let running = Self::running();
        kernel_max.map_or(running, |(major, minor)| running.min(Self(major, minor)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_parsed_and_ordered() {
        assert_eq!(Kernel::parse("6.18.44-fc-v669\n"), Some(Kernel(6, 18)));
        assert_eq!(Kernel::parse("5.19"), Some(Kernel(5, 19)));
        assert_eq!(Kernel::parse("six"), None);
        assert!(Kernel(6, 1) > Kernel(5, 19));
    }
}
