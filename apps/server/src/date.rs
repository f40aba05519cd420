//! The `Date` header, made once a second.

use http::HeaderValue;

/// The header of the second that it was last asked for.
pub(crate) struct Date {
    second: u64,
    header: HeaderValue,
}

impl Default for Date {
    fn default() -> Self {
        Self { second: 0, header: HeaderValue::from_static("Thu, 01 Jan 1970 00:00:00 GMT") }
    }
}

impl Date {
    /// The header at a time in milliseconds since 1970.
    pub(crate) fn header(&mut self, wall_ms: u64) -> &HeaderValue {
        let second = wall_ms / 1000;
        if second != self.second {
            self.second = second;
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(second);
            if let Ok(header) = HeaderValue::try_from(httpdate::fmt_http_date(time)) {
                self.header = header;
            }
        }
        &self.header
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_follows_the_clock() {
        let mut date = Date::default();
        assert_eq!(date.header(784_111_777_000), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(date.header(784_111_778_999), "Sun, 06 Nov 1994 08:49:38 GMT");
    }
}
