//! RFC 9218: how urgent a response is, from the `priority` header or a PRIORITY_UPDATE frame.

/// Urgency and incremental delivery of one response.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Priority {
    /// 0 (first) to 7 (last).
    pub urgency: u8,
    /// Whether it is of use in pieces, so that equals may share the way.
    pub incremental: bool,
}

impl Default for Priority {
    /// RFC 9218 section 4: urgency 3, not incremental.
    fn default() -> Self {
        Self { urgency: 3, incremental: false }
    }
}

impl Priority {
    /// Reads a field value. What is unknown or out of range is ignored, as section 4 says.
    #[must_use]
    pub fn parse(value: &[u8]) -> Self {
        let mut priority = Self::default();
        for member in value.split(|byte| *byte == b',') {
            let member = member.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
            match member {
                [b'u', b'=', digit @ b'0'..=b'7'] => priority.urgency = digit - b'0',
                b"i" | b"i=?1" => priority.incremental = true,
                b"i=?0" => priority.incremental = false,
                _ => {}
            }
        }
        priority
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn field_values() {
        for (value, urgency, incremental) in [
            ("", 3, false),
            ("u=0", 0, false),
            ("u=5, i", 5, true),
            ("i,u=7", 7, true),
            ("i=?0", 3, false),
            ("i;a=1, u=1;b", 1, true),
            ("u=8", 3, false),
            ("u=-1", 3, false),
            ("u=2, u=4", 4, false),
            ("x=9, i=?1", 3, true),
            ("u", 3, false),
            (",,;,=", 3, false),
        ] {
            assert_eq!(Priority::parse(value.as_bytes()), Priority { urgency, incremental }, "{value}");
        }
    }
}
