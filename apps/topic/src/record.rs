//! Records as they travel: packed one after the other, offsets implied by the first.

use bytes::Bytes;

/// A message in a history.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record<'a> {
    /// Its place in the topic.
    pub offset: u64,
    /// When its home took it, milliseconds since 1970.
    pub at_ms: u64,
    /// The user who published it.
    pub from: &'a str,
    /// The body.
    pub body: &'a [u8],
}

/// Time, length of the name, length of the body.
const HEAD_BYTES: usize = 8 + 2 + 4;

impl Record<'_> {
    /// Bytes that it takes packed.
    pub(crate) fn packed_bytes(&self) -> usize {
        HEAD_BYTES + self.from.len() + self.body.len()
    }

    pub(crate) fn pack(&self, out: &mut Vec<u8>) {
        let from_len = u16::try_from(self.from.len()).expect("names are short");
        let body_len = u32::try_from(self.body.len()).expect("bodies fit a frame");
        out.extend_from_slice(&self.at_ms.to_le_bytes());
        out.extend_from_slice(&from_len.to_le_bytes());
        out.extend_from_slice(&body_len.to_le_bytes());
        out.extend_from_slice(self.from.as_bytes());
        out.extend_from_slice(self.body);
    }
}

/// Reads packed records in order.
#[derive(Clone, Debug)]
pub(crate) struct Records<'a> {
    data: &'a Bytes,
    at: usize,
    offset: u64,
}

impl<'a> Records<'a> {
    pub(crate) fn new(data: &'a Bytes, first: u64) -> Self {
        Self { data, at: 0, offset: first }
    }
}

impl<'a> Iterator for Records<'a> {
    /// A record, and where its body lies in the packed bytes.
    type Item = (Record<'a>, std::ops::Range<usize>);

    fn next(&mut self) -> Option<Self::Item> {
        let (head, rest) = self.data[self.at..].split_first_chunk::<HEAD_BYTES>()?;
        let [a, b, c, d, e, f, g, h, from_low, from_high, body_0, body_1, body_2, body_3] = *head;
        let from_len = usize::from(u16::from_le_bytes([from_low, from_high]));
        let body_len = usize::try_from(u32::from_le_bytes([body_0, body_1, body_2, body_3])).expect("packed here");
        let (from, rest) = rest.split_at(from_len);
        let start = self.at + HEAD_BYTES + from_len;
        let record = Record {
            offset: self.offset,
            at_ms: u64::from_le_bytes([a, b, c, d, e, f, g, h]),
            from: str::from_utf8(from).expect("packed from a text"),
            body: &rest[..body_len],
        };
        self.at = start + body_len;
        self.offset += 1;
        Some((record, start..self.at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_out_as_they_went_in() {
        let records = [
            Record { offset: 7, at_ms: 1, from: "ada", body: b"{}" },
            Record { offset: 8, at_ms: u64::MAX, from: "", body: b"" },
            Record { offset: 9, at_ms: 3, from: "grace", body: &[9; 300] },
        ];
        let mut packed = Vec::new();
        for record in &records {
            record.pack(&mut packed);
        }
        assert_eq!(packed.len(), records.iter().map(Record::packed_bytes).sum::<usize>());
        let packed = Bytes::from(packed);
        let mut read = Records::new(&packed, 7);
        for record in &records {
            let (got, body) = read.next().expect("as many as packed");
            assert_eq!(got, *record);
            assert_eq!(&packed[body], record.body);
        }
        assert!(read.next().is_none());
    }
}
