//! What the files of a journal are called.

/// Digits of a number: more segments than a disk can hold.
const DIGITS: usize = 12;
const ENDING: &str = ".seg";

/// The file of the segment with this number.
#[must_use]
pub fn name_of(number: u64) -> String {
    format!("{number:0DIGITS$}{ENDING}")
}

/// The number of the segment with this file; `None`: it is no segment.
#[must_use]
pub fn number_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(ENDING)?;
    (digits.len() == DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| digits.parse().ok()).flatten()
}

/// The file in which a segment is prepared. One that is found at the start was never used. In one run no two have the same
/// name: a removal that is late meets no other one.
pub(crate) fn draft_of(number: u64, draft: u64) -> String {
    format!("{number:0DIGITS$}-{draft}.draft")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_in_the_order_of_numbers() {
        assert_eq!(name_of(7), "000000000007.seg");
        for number in [1, 42, 999_999_999_999] {
            assert_eq!(number_of(&name_of(number)), Some(number));
        }
        for other in ["", ".seg", "7.seg", "000000000007-1.draft", "00000000000x.seg", "+00000000007.seg"] {
            assert_eq!(number_of(other), None, "{other}");
        }
    }
}
