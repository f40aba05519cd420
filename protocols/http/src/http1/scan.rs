//! Finds the end of a head, or of a trailer section, as it arrives, and refuses lines that end in two readings.

use memchr::memchr2;

use crate::rule::Rule;

/// How far a section was looked at. Every byte is looked at once, however finely it is sliced, and the first fault in
/// the order of the bytes decides: the same bytes in other pieces give the same answer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Scan {
    at: usize,
    line: usize,
    first_line_done: bool,
}

/// The bounds of a section, with the rule that each stands for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) first_line_max: usize,
    pub(crate) first_line_rule: Rule,
    pub(crate) section_max: usize,
    pub(crate) section_rule: Rule,
}

impl Scan {
    /// Nothing seen.
    pub(crate) const START: Self = Self { at: 0, line: 0, first_line_done: false };

    /// The length of the section with its empty line, or `None` while it is not whole.
    pub(crate) fn find_end(&mut self, input: &[u8], bounds: &Bounds) -> Result<Option<usize>, Rule> {
        let visible = &input[..input.len().min(bounds.section_max)];
        while let Some(found) = memchr2(b'\r', b'\n', &visible[self.at..]) {
            let at = self.at + found;
            if !self.first_line_done && at > bounds.first_line_max {
                return Err(bounds.first_line_rule);
            }
            if input[at] == b'\n' {
                return Err(Rule::BareLineFeed);
            }
            match input.get(at + 1) {
                Some(b'\n') => {}
                Some(_) => return Err(Rule::BareCarriageReturn),
                None => {
                    self.at = at;
                    return Ok(None);
                }
            }
            let end = at + 2;
            if end > bounds.section_max {
                return Err(bounds.section_rule);
            }
            if at == self.line {
                return Ok(Some(end));
            }
            (self.at, self.line, self.first_line_done) = (end, end, true);
        }
        self.at = visible.len();
        if !self.first_line_done && input.len() > bounds.first_line_max {
            return Err(bounds.first_line_rule);
        }
        if input.len() > bounds.section_max {
            return Err(bounds.section_rule);
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds {
        first_line_max: 10,
        first_line_rule: Rule::TargetTooLong,
        section_max: 24,
        section_rule: Rule::HeadTooLarge,
    };

    type Found = Result<Option<usize>, Rule>;

    fn whole(input: &[u8]) -> Found {
        Scan::default().find_end(input, &BOUNDS)
    }

    fn byte_by_byte(input: &[u8]) -> Found {
        let mut scan = Scan::default();
        for len in 0..=input.len() {
            match scan.find_end(&input[..len], &BOUNDS) {
                Ok(None) => {}
                decided => return decided,
            }
        }
        Ok(None)
    }

    #[test]
    fn the_same_bytes_in_other_pieces_give_the_same_answer() {
        let cases: [(&[u8], Found); 14] = [
            (b"one\r\ntwo\r\n\r\nrest", Ok(Some(12))),
            (b"\r\n", Ok(Some(2))),
            (b"one\r\ntwo\r\n", Ok(None)),
            (b"one\ntwo\r\n\r\n", Err(Rule::BareLineFeed)),
            (b"one\r\ntwo\r\n\n", Err(Rule::BareLineFeed)),
            (b"one\rtwo\r\n\r\n", Err(Rule::BareCarriageReturn)),
            (b"one\r\r\n\r\n", Err(Rule::BareCarriageReturn)),
            (b"0123456789\r\n\r\n", Ok(Some(14))),
            (b"0123456789a\r\n\r\n", Err(Rule::TargetTooLong)),
            (b"0123456789a\n", Err(Rule::TargetTooLong)),
            (b"0123456789\n", Err(Rule::BareLineFeed)),
            (b"one\r\n0123456789abcde\r\n\r\n", Ok(Some(24))),
            (b"one\r\n0123456789abcdef\r\n\r\n", Err(Rule::HeadTooLarge)),
            (b"one\r\n0123456789abcdefghijklmnop\n", Err(Rule::HeadTooLarge)),
        ];
        for (input, expected) in cases {
            assert_eq!(whole(input), expected, "{}", input.escape_ascii());
            assert_eq!(byte_by_byte(input), expected, "{}", input.escape_ascii());
        }
    }
}
