//! ACK: which packets were received, newest first (RFC 9000, section 19.3).

use std::ops::RangeInclusive;

use crate::{
    error::{Checked, Code, TransportError},
    frame::number,
    range::RangeSet,
    varint,
};

/// Ranges in one ACK frame at most: what is older was told before, and the ACK of it is on its way.
pub const RANGES_MAX: usize = 64;

/// Packets that arrived with each ECN mark, counted since the start.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct EcnCounts {
    /// ECT(0).
    pub ect0: u64,
    /// ECT(1).
    pub ect1: u64,
    /// Congestion experienced.
    pub ce: u64,
}

/// ACK and ACK_ECN.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ack<'a> {
    /// The largest packet number that was received.
    pub largest: u64,
    /// How long ago, in units of 2^exponent microseconds.
    pub delay: u64,
    /// The ranges.
    pub ranges: Ranges<'a>,
    /// ECN marks so far.
    pub ecn: Option<EcnCounts>,
}

/// Ranges of numbers in descending order, checked when they were parsed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ranges<'a> {
    largest: u64,
    first: u64,
    // Pairs of gap and length.
    rest: &'a [u8],
}

const MALFORMED: TransportError = TransportError::new(Code::FrameEncoding, "ranges below zero");
const MANY: TransportError = TransportError::new(Code::FrameEncoding, "too many ranges");

impl<'a> Ranges<'a> {
    /// Reads count, first range and pairs; every number in it is checked.
    pub(crate) fn parse(largest: u64, bytes: &mut &'a [u8]) -> Checked<Self> {
        let count = number(bytes)?;
        if count >= RANGES_MAX as u64 {
            return Err(MANY);
        }
        let first = number(bytes)?;
        let mut smallest = largest.checked_sub(first).ok_or(MALFORMED)?;
        let all = *bytes;
        for _ in 0..count {
            let (gap, len) = (number(bytes)?, number(bytes)?);
            smallest = smallest.checked_sub(gap + 2).and_then(|end| end.checked_sub(len)).ok_or(MALFORMED)?;
        }
        Ok(Self { largest, first, rest: &all[..all.len() - bytes.len()] })
    }

    /// The ranges, newest first.
    pub fn iter(&self) -> impl Iterator<Item = RangeInclusive<u64>> + 'a {
        let mut next = Some(self.largest - self.first..=self.largest);
        let mut rest = self.rest;
        std::iter::from_fn(move || {
            let range = next.take()?;
            if let Some(gap) = varint::read(&mut rest) {
                let len = varint::read(&mut rest).unwrap_or(0);
                let end = range.start() - gap - 2;
                next = Some(end - len..=end);
            }
            Some(range)
        })
    }

    pub(crate) fn encode_fields(&self, out: &mut Vec<u8>) {
        varint::write(self.count(), out);
        varint::write(self.first, out);
        out.extend_from_slice(self.rest);
    }

    fn count(&self) -> u64 {
        let (mut rest, mut numbers) = (self.rest, 0);
        while varint::read(&mut rest).is_some() {
            numbers += 1;
        }
        numbers / 2
    }
}

/// Appends largest, `between` the fields that stand there, count, first range and pairs of the newest ranges of a set
/// that is not empty, at most [`RANGES_MAX`] of them and at most so many as fit in `room` bytes.
pub fn encode_ranges(set: &RangeSet, room: usize, between: impl FnOnce(&mut Vec<u8>), out: &mut Vec<u8>) {
    let start = out.len();
    let mut ranges = set.iter().rev();
    let Some(first) = ranges.next() else { return };
    varint::write(first.end - 1, out);
    between(out);
    let count_at = out.len();
    out.push(0);
    varint::write(first.end - 1 - first.start, out);
    let (mut count, mut smallest) = (0u8, first.start);
    for range in ranges.take(RANGES_MAX - 1) {
        let (gap, len) = (smallest - range.end - 1, range.end - 1 - range.start);
        if out.len() - start + varint::len(gap) + varint::len(len) > room {
            break;
        }
        varint::write(gap, out);
        varint::write(len, out);
        count += 1;
        smallest = range.start;
    }
    out[count_at] = count;
}
const _: () = assert!(RANGES_MAX <= 64, "the count of further ranges takes one byte");

impl<'a> Ack<'a> {
    pub(crate) fn parse(with_ecn: bool, bytes: &mut &'a [u8]) -> Checked<Self> {
        let (largest, delay) = (number(bytes)?, number(bytes)?);
        let ranges = Ranges::parse(largest, bytes)?;
        let ecn = if with_ecn {
            Some(EcnCounts { ect0: number(bytes)?, ect1: number(bytes)?, ce: number(bytes)? })
        } else {
            None
        };
        Ok(Self { largest, delay, ranges, ecn })
    }

    pub(crate) fn encode_fields(&self, out: &mut Vec<u8>) {
        varint::write(self.largest, out);
        varint::write(self.delay, out);
        self.ranges.encode_fields(out);
        if let Some(ecn) = self.ecn {
            write_ecn(ecn, out);
        }
    }
}

fn write_ecn(ecn: EcnCounts, out: &mut Vec<u8>) {
    for count in [ecn.ect0, ecn.ect1, ecn.ce] {
        varint::write(count, out);
    }
}

/// Appends a whole ACK or ACK_ECN frame for a set that is not empty, in about `room` bytes beside the ECN counts.
pub fn encode_ack(set: &RangeSet, delay: u64, ecn: Option<EcnCounts>, room: usize, out: &mut Vec<u8>) {
    varint::write(super::kind::ACK + u64::from(ecn.is_some()), out);
    encode_ranges(set, room, |out| varint::write(delay, out), out);
    if let Some(ecn) = ecn {
        write_ecn(ecn, out);
    }
}
