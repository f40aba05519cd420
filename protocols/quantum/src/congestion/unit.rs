//! Integer arithmetic on bytes, times and rates.

/// Nanoseconds since a controller began, or between two such times. Eight bytes where an `Instant` has sixteen: every
/// packet in flight remembers several.
pub(super) type Nanos = u64;

/// A factor in hundredths: all gains of the BBR draft are whole percent, so none is cut off by integer division.
pub(super) type Percent = u64;

pub(super) const MILLISECOND: Nanos = 1_000_000;
pub(super) const SECOND: Nanos = 1_000_000_000;

/// `a * b / c`, saturating; `c` of zero counts as one.
pub(super) fn mul_div(a: u64, b: u64, c: u64) -> u64 {
    let c = c.max(1);
    // 128-bit division is slow, and almost never needed.
    match a.checked_mul(b) {
        Some(product) => product / c,
        None => u64::try_from(u128::from(a) * u128::from(b) / u128::from(c)).unwrap_or(u64::MAX),
    }
}

/// `gain` percent of `value`.
pub(super) fn percent(value: u64, gain: Percent) -> u64 {
    mul_div(value, gain, 100)
}

/// Bytes that `rate` (bytes per second) carries in `span`.
pub(super) fn bytes_in(rate: u64, span: Nanos) -> u64 {
    mul_div(rate, span, SECOND)
}

/// The rate in bytes per second at which `bytes` take `span`.
pub(super) fn rate_of(bytes: u64, span: Nanos) -> u64 {
    mul_div(bytes, SECOND, span)
}

/// How long `bytes` take at `rate`, rounded up.
pub(super) fn span_of(bytes: u64, rate: u64) -> Nanos {
    mul_div(bytes, SECOND, rate).saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_factors_neither_wrap_nor_lose_precision() {
        assert_eq!(mul_div(u64::MAX, 3, 3), u64::MAX);
        assert_eq!(mul_div(u64::MAX, u64::MAX, 1), u64::MAX);
        assert_eq!(bytes_in(100_000_000_000, 10 * SECOND), 1_000_000_000_000);
        assert_eq!(rate_of(1_200, 96_000), 12_500_000);
        assert_eq!(span_of(1_200, 12_500_000), 96_001);
        assert_eq!(span_of(1, 0), SECOND + 1);
    }

    #[test]
    fn gains_are_not_cut_to_whole_numbers() {
        assert_eq!(percent(1_000, 125), 1_250);
        assert_eq!(percent(1_000, 277), 2_770);
        assert_eq!(percent(3, 90), 2);
    }
}
