//! How connections end: the payload of Close frames, and which rule a peer broke.

use thiserror::Error;
use tungstenite::protocol::frame::coding::CloseCode;

/// Bytes of a control frame's payload (RFC 6455, 5.5).
pub(crate) const CONTROL_MAX: usize = 125;

/// The code that stands for a Close frame without a code; it never travels.
pub(crate) const NO_CODE: u16 = 1005;

/// Which rule the peer broke.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub(crate) enum Violation {
    #[error("{0}")]
    Protocol(&'static str),
    #[error("text is not UTF-8")]
    Utf8,
    #[error("message too big")]
    TooBig,
}

impl Violation {
    pub(crate) fn code(self) -> u16 {
        match self {
            Self::Protocol(_) => CloseCode::Protocol.into(),
            Self::Utf8 => CloseCode::Invalid.into(),
            Self::TooBig => CloseCode::Size.into(),
        }
    }
}

/// Reads the payload of a Close frame: the code and the reason, if there are any.
pub(crate) fn parse(payload: &[u8]) -> Result<Option<(u16, &str)>, Violation> {
    let Some((code, reason)) = payload.split_first_chunk::<2>() else {
        return if payload.is_empty() { Ok(None) } else { Err(Violation::Protocol("half a close code")) };
    };
    let code = u16::from_be_bytes(*code);
    if !CloseCode::from(code).is_allowed() {
        return Err(Violation::Protocol("forbidden close code"));
    }
    let reason = str::from_utf8(reason).map_err(|_| Violation::Utf8)?;
    Ok(Some((code, reason)))
}

/// Writes the payload of a Close frame into `buffer`; a code that must not travel leaves it empty.
pub(crate) fn format<'a>(code: u16, reason: &str, buffer: &'a mut [u8; CONTROL_MAX]) -> &'a [u8] {
    if !CloseCode::from(code).is_allowed() {
        return &[];
    }
    let mut end = reason.len().min(CONTROL_MAX - 2);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    buffer[..2].copy_from_slice(&code.to_be_bytes());
    buffer[2..2 + end].copy_from_slice(&reason.as_bytes()[..end]);
    &buffer[..2 + end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_a_long_reason_is_cut_between_characters() {
        let mut buffer = [0; CONTROL_MAX];
        assert_eq!(parse(format(1000, "bye", &mut buffer)), Ok(Some((1000, "bye"))));
        assert_eq!(parse(format(NO_CODE, "never", &mut buffer)), Ok(None));
        let long = "é".repeat(100);
        assert_eq!(parse(format(4000, &long, &mut buffer)), Ok(Some((4000, &long[..122]))));
    }

    #[test]
    fn codes_that_must_not_travel_are_refused() {
        for code in [0_u16, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535] {
            assert_eq!(parse(&code.to_be_bytes()), Err(Violation::Protocol("forbidden close code")), "{code}");
        }
        for code in [1000_u16, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999] {
            assert_eq!(parse(&code.to_be_bytes()), Ok(Some((code, ""))));
        }
        assert_eq!(parse(&[3]), Err(Violation::Protocol("half a close code")));
        assert_eq!(parse(&[3, 232, 0xff]), Err(Violation::Utf8));
    }
}
