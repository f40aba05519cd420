//! Packed history as readers get it: with other bodies instead of those that were taken back.

use bytes::Bytes;
use handler::Cx;

use super::Home;
use crate::{
    limit::CHUNK_BYTES_MAX,
    mail::{Mail, PageLetter},
    record::{Record, Records},
};

impl Home {
    /// A chunk from `first` on. One that has become too long ends earlier: its reader asks for the rest.
    pub(super) fn cover_chunk(&self, cx: &mut Cx<'_, Mail>, topic: (&str, u64), first: u64, records: Bytes) -> Bytes {
        let Some(covered) = self.cover(topic, first, &records) else { return records };
        let mut bytes = 0;
        let fits = |record: &&Vec<u8>| {
            let is_first = bytes == 0;
            bytes += record.len();
            is_first || bytes <= CHUNK_BYTES_MAX
        };
        let kept: Vec<u8> = covered.iter().take_while(fits).flatten().copied().collect();
        cx.copy(&kept)
    }

    /// A page. One that has become too long begins later: there are more before it.
    pub(super) fn cover_page(&self, cx: &mut Cx<'_, Mail>, topic: (&str, u64), page: &mut PageLetter) {
        let Some(covered) = self.cover(topic, page.first, &page.records) else { return };
        let mut bytes = 0;
        let fits = |record: &&Vec<u8>| {
            let is_first = bytes == 0;
            bytes += record.len();
            is_first || bytes <= CHUNK_BYTES_MAX
        };
        let kept = covered.iter().rev().take_while(fits).count();
        let left_out = covered.len() - kept;
        let packed: Vec<u8> = covered.iter().skip(left_out).flatten().copied().collect();
        page.records = cx.copy(&packed);
        page.first += u64::try_from(left_out).unwrap_or(0);
        page.more |= left_out > 0;
    }

    /// Each record packed, with the body that readers get; `None`: they are as they were.
    fn cover(&self, topic: (&str, u64), first: u64, records: &Bytes) -> Option<Vec<Vec<u8>>> {
        let mut instead = self.replacements(topic, first).peekable();
        instead.peek()?;
        let mut packed = Vec::new();
        for (record, _) in Records::new(records, first) {
            while instead.peek().is_some_and(|(offset, _)| *offset < record.offset) {
                instead.next();
            }
            let body = instead.peek().filter(|(offset, _)| *offset == record.offset).map_or(record.body, |(_, it)| it);
            let mut one = Vec::new();
            Record { body, ..record }.pack(&mut one);
            packed.push(one);
        }
        Some(packed)
    }
}
