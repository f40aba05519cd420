//! How the 32-bit error codes of an app travel as error codes of HTTP/3 (draft-ietf-webtrans-http3, section 4.3).

use crate::h3::Code;

/// The HTTP/3 code of app code 0.
const FIRST: u64 = 0x52e4_a40f_a8db;

/// The code in a reset or stop for the app's `code`; codes that HTTP/3 reserves for grease are left out.
#[must_use]
pub fn to_http(code: u32) -> Code {
    let code = u64::from(code);
    Code(FIRST + code + code / 0x1e)
}

/// The app's code of a reset or stop; `None` when the peer used another code than an app's.
#[must_use]
pub fn from_http(code: Code) -> Option<u32> {
    let shifted = code.0.checked_sub(FIRST)?;
    if (code.0 - 0x21).is_multiple_of(0x1f) {
        return None;
    }
    u32::try_from(shifted - shifted / 0x1f).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_comes_back() {
        for code in (0..200).chain([u32::MAX / 2, u32::MAX - 1, u32::MAX]) {
            assert_eq!(from_http(to_http(code)), Some(code));
        }
        assert_eq!((to_http(0), to_http(u32::MAX)), (Code(0x52e4_a40f_a8db), Code(0x52e5_ac98_3162)));
    }

    #[test]
    fn other_codes_are_not_the_apps() {
        let reserved = Code(FIRST + 30);
        assert!((reserved.0 - 0x21).is_multiple_of(0x1f));
        for code in [Code(0), Code::NO_ERROR, Code(FIRST - 1), reserved, Code(0x52e5_ac98_3163), Code(u64::MAX)] {
            assert_eq!(from_http(code), None);
        }
    }
}
