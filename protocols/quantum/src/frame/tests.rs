//! Frames against their encodings: all of them, at the edges of their numbers, whole and cut.

use std::collections::BTreeSet;

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::{packet::Space, range::RangeSet};

/// Sizes of varints, and their edges.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        0..0x40u64,
        0..0x4000u64,
        0..0x4000_0000u64,
        0..=varint::MAX,
        prop::sample::select(vec![0, 0x3F, 0x40, 0x3FFF, 0x4000, 0x3FFF_FFFF, 0x4000_0000, varint::MAX]),
    ]
}

/// What [`build`] makes frames of.
#[derive(Clone, Debug)]
struct Parts {
    pick: usize,
    numbers: [u64; 4],
    flags: [bool; 2],
    data: Vec<u8>,
    ranges: Vec<u8>,
}

const PICKS: usize = 31;

fn parts() -> impl Strategy<Value = Parts> {
    let numbers = [number(), number(), number(), number()];
    (0..PICKS, numbers, any::<[bool; 2]>(), vec(any::<u8>(), 1..80), set(300)).prop_map(
        |(pick, numbers, flags, data, set)| {
            let mut ranges = Vec::new();
            encode_ranges(&set.into_iter().collect(), usize::MAX, |_| {}, &mut ranges);
            Parts { pick, numbers, flags, data, ranges }
        },
    )
}

fn set(end: u64) -> impl Strategy<Value = BTreeSet<u64>> {
    prop::collection::btree_set(0..end, 1..200)
}

impl FromIterator<u64> for RangeSet {
    fn from_iter<T: IntoIterator<Item = u64>>(numbers: T) -> Self {
        let mut set = RangeSet::new();
        for number in numbers {
            set.insert_one(number);
        }
        set
    }
}

/// A frame of each type that a peer may send.
fn build(parts: &Parts) -> Frame<'_> {
    let ([a, b, c, d], data, [flag, other]) = (parts.numbers, &parts.data[..], parts.flags);
    let direction = Direction::of(a);
    let mut ranges = &parts.ranges[..];
    let largest = varint::read(&mut ranges).unwrap();
    let ranges = Ranges::parse(largest, &mut ranges).unwrap();
    let offset = a.min(varint::MAX - data.len() as u64);
    let eight = [data[0]; 8];
    match parts.pick {
        0 => Frame::Padding(data.len()),
        1 => Frame::Ping,
        2 => Frame::Ack(Ack { largest, delay: a, ranges, ecn: flag.then_some(EcnCounts { ect0: b, ect1: c, ce: d }) }),
        3 => Frame::ResetStream { id: StreamId(a), code: b, final_size: c },
        4 => Frame::StopSending { id: StreamId(a), code: b },
        5 => Frame::Crypto { offset, data },
        6 => Frame::NewToken(data),
        7 => Frame::Stream(Stream { id: StreamId(b), offset, fin: flag, has_len: other, data }),
        8 => Frame::MaxData(a),
        9 => Frame::MaxStreamData { id: StreamId(a), limit: b },
        10 => Frame::MaxStreams { direction, limit: b >> 2 },
        11 => Frame::DataBlocked(a),
        12 => Frame::StreamDataBlocked { id: StreamId(a), limit: b },
        13 => Frame::StreamsBlocked { direction, limit: b >> 2 },
        14 => Frame::NewId { sequence: a.max(b), retire_prior_to: b, id: Guuid::new(c, [9; 10]), reset_token: [7; 16] },
        15 => Frame::RetireId(a),
        16 => Frame::PathChallenge(eight),
        17 => Frame::PathResponse(eight),
        18 => Frame::Close(Close { application: flag, code: a, reason: data }),
        19 => Frame::HandshakeDone,
        20 => Frame::ImmediateAck,
        21 => Frame::AckFrequency { sequence: a, threshold: b, delay_max_us: c, reordering: d },
        22 => Frame::GoAway { last_stream: a, code: b, reason: data },
        23 => Frame::Symbol { sid: a as u16, data },
        24 => Frame::Repair(repair(offset, b, c, data)),
        25 => Frame::SymbolAck(SymbolAck { largest, ranges }),
        26 => Frame::FecWindow { symbols: a, bytes: b },
        27 => Frame::MessageFloor { channel: a, floor: b },
        28 => Frame::Message(message(b, c, offset, data)),
        29 => Frame::Message(message(b, c, 0, data)),
        _ => Frame::Datagram(Datagram { has_len: flag, data }),
    }
}

fn repair(base: u64, k: u64, row: u64, data: &[u8]) -> Repair<'_> {
    let class = (row % 7) as u8;
    let row = (row % (1 << class)).min(GROUP_MAX as u64 - 2) as u8;
    let k = 1 + (k % (GROUP_MAX as u64 - 1 - u64::from(row))) as u8;
    let data = if data.len() < 2 { b"xy" } else { &data[..data.len() & !1] };
    Repair { base: base.min(varint::MAX - 64), k, row, class, data }
}

fn message(channel: u64, number: u64, offset: u64, data: &[u8]) -> Message<'_> {
    let delivery = [Delivery::Independent, Delivery::Ordered, Delivery::Newest][(channel % 3) as usize];
    Message { channel, number, delivery, offset, total: offset + data.len() as u64, data }
}

fn encode(frame: &Frame<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    frame.encode(&mut out);
    out
}

proptest! {
    #[test]
    fn frames_survive_the_wire(parts in parts()) {
        let frame = build(&parts);
        let bytes = encode(&frame);
        let mut rest = &bytes[..];
        prop_assert_eq!(Frame::parse(&mut rest), Ok(frame));
        prop_assert!(rest.is_empty());
    }

    #[test]
    fn frames_follow_each_other(parts in vec(parts(), 1..6)) {
        let frames: Vec<_> = parts.iter().map(build).filter(|frame| ends_itself(frame)).collect();
        let bytes: Vec<u8> = frames.iter().flat_map(encode).collect();
        let (mut rest, mut at) = (&bytes[..], 0);
        while !rest.is_empty() {
            let frame = Frame::parse(&mut rest).unwrap();
            // One PADDING frame after another is one.
            match (frame, frames[at]) {
                (Frame::Padding(count), Frame::Padding(_)) => {
                    let mut sum = 0;
                    while let Some(Frame::Padding(count)) = frames.get(at) {
                        sum += count;
                        at += 1;
                    }
                    prop_assert_eq!(count, sum);
                }
                (frame, expected) => {
                    prop_assert_eq!(frame, expected);
                    at += 1;
                }
            }
        }
        prop_assert_eq!(at, frames.len());
    }

    #[test]
    fn a_cut_frame_is_refused_or_shorter(parts in parts()) {
        let frame = build(&parts);
        let bytes = encode(&frame);
        for end in 1..bytes.len() {
            let mut rest = &bytes[..end];
            let cut = Frame::parse(&mut rest);
            prop_assert!(rest.len() <= end);
            let may_be_cut = !ends_itself(&frame) || matches!(frame, Frame::Padding(_));
            prop_assert!(cut.is_err() || may_be_cut, "{:?} cut to {} bytes is {:?}", frame, end, cut);
        }
    }

    #[test]
    fn what_any_bytes_say_can_be_said_again(bytes in vec(any::<u8>(), 1..200), kind in 0..0x34u8) {
        let bytes = [&[kind][..], &bytes].concat();
        let mut rest = &bytes[..];
        if let Ok(frame) = Frame::parse(&mut rest) {
            let again = encode(&frame);
            prop_assert!(again.len() <= bytes.len() - rest.len(), "the shortest form grew");
            prop_assert_eq!(Frame::parse(&mut &again[..]), Ok(frame));
        }
    }

    #[test]
    fn an_ack_tells_the_newest_ranges_of_a_set(numbers in set(2_000), room in 10..200usize, delay in number()) {
        let set: RangeSet = numbers.iter().copied().collect();
        let mut bytes = Vec::new();
        encode_ack(&set, delay, None, room, &mut bytes);
        let mut rest = &bytes[..];
        let Ok(Frame::Ack(ack)) = Frame::parse(&mut rest) else { panic!("not an ACK") };
        prop_assert!(rest.is_empty());
        prop_assert_eq!((Some(ack.largest), ack.delay), (set.max(), delay));
        let told: Vec<_> = ack.ranges.iter().map(|range| *range.start()..*range.end() + 1).collect();
        let newest: Vec<_> = set.iter().rev().take(told.len()).collect();
        prop_assert_eq!(&told, &newest);
        prop_assert!(told.len() <= RANGES_MAX);
        prop_assert!(told.len() == 1 || bytes.len() <= room + 1, "{} bytes in {}", bytes.len(), room);
        let acked: BTreeSet<u64> = ack.ranges.iter().flatten().collect();
        prop_assert!(acked.is_subset(&numbers));
        prop_assert!(room < 150 || acked.len() == numbers.len() || told.len() == RANGES_MAX);
    }
}

/// Whether a frame says where it ends.
fn ends_itself(frame: &Frame<'_>) -> bool {
    match frame {
        Frame::Stream(stream) => stream.has_len,
        Frame::Datagram(datagram) => datagram.has_len,
        Frame::Symbol { .. } => false,
        _ => true,
    }
}

#[test]
fn every_type_is_built_above() {
    let parts = |pick, flag: bool| Parts {
        pick,
        numbers: [1, 2, 3, 4],
        flags: [flag; 2],
        data: vec![1, 2],
        ranges: vec![0, 0, 0],
    };
    let all: BTreeSet<u64> =
        (0..PICKS).flat_map(|pick| [false, true].map(|flag| build(&parts(pick, flag)).kind())).collect();
    // STREAM, MESSAGE, MAX_STREAMS and STREAMS_BLOCKED keep flags in their types.
    let plain = |kind: &u64| !matches!(kind, 0x08..=0x0F | 0x12 | 0x13 | 0x16 | 0x17 | 0x28..=0x2F);
    assert_eq!((0..0x40).filter(plain).filter(known).collect::<BTreeSet<_>>(), {
        all.into_iter().filter(plain).collect()
    });
}

/// Whether a type is that of a frame.
fn known(kind: &u64) -> bool {
    Frame::parse(&mut &[&[*kind as u8][..], &[1; 40]].concat()[..]) != Err(UNKNOWN)
}

fn refused(bytes: &[u8]) {
    let frame = Frame::parse(&mut &bytes[..]);
    assert_eq!(frame.map_err(|error| error.code), Err(Code::FrameEncoding as u64), "{bytes:02x?}");
}

#[test]
fn what_contradicts_itself_is_refused() {
    refused(&[]);
    // Types that nobody knows.
    refused(&[0x3F, 0, 0, 0]);
    refused(&[0xFF; 8]);
    // ACK: a first range, a gap and a further range below zero; 65 ranges.
    refused(&[0x02, 5, 0, 0, 6]);
    refused(&[0x02, 5, 0, 1, 0, 4, 0]);
    refused(&[0x02, 5, 0, 1, 0, 0, 4]);
    refused(&[&[0x02, 0x7F, 0xFF, 0, 0x40, 64, 0][..], &[0; 128]].concat());
    // STREAM and CRYPTO beyond 2^62 - 1.
    refused(&[&[0x0E, 0][..], &[0xFF; 8], &[1, 9]].concat());
    refused(&[&[0x06][..], &[0xFF; 8], &[1, 9]].concat());
    // More streams than can be numbered.
    refused(&[&[0x12][..], &[0xD0], &[0; 6], &[1]].concat());
    // NEW_ID that retires itself and more; NEW_TOKEN without one.
    refused(&[&[0x18, 1, 2][..], &[0; 32]].concat());
    refused(&[0x07, 0]);
    // SYMBOL without anything in it.
    refused(&[0x22, 0, 7]);
    // A reason of 513 bytes.
    refused(&[&[0x1C, 0, 0x42, 0x01][..], &[b'x'; 513]].concat());
    // REPAIR: no symbols, a row beyond its class, class 7, a group of 65, odd, empty, numbers beyond the last.
    refused(&[0x23, 0, 0, 0, 0, 2, 1, 1]);
    refused(&[0x23, 0, 4, 1, 0, 2, 1, 1]);
    refused(&[0x23, 0, 4, 0, 7, 2, 1, 1]);
    refused(&[0x23, 0, 33, 31, 5, 3, 1, 1]);
    refused(&[0x23, 0, 34, 31, 5, 2, 1, 1]);
    refused(&[0x23, 0, 4, 0, 0, 1, 1]);
    refused(&[0x23, 0, 4, 0, 0, 0]);
    refused(&[&[0x23][..], &[0xFF; 8], &[4, 0, 0, 2, 1, 1]].concat());
    // MESSAGE: the fourth delivery, a piece beyond the whole, an empty piece.
    refused(&[0x2E, 0, 0, 0]);
    refused(&[0x29, 0, 0, 3, 4, 2, 1, 1]);
    refused(&[0x29, 0, 0, 3, 4, 0]);
}

#[test]
fn frames_stand_where_they_may() {
    let all = || (0..0x40).filter(known);
    let count = |rule: &dyn Fn(u64) -> bool| all().filter(|kind| rule(*kind)).count();
    for space in [Space::Initial, Space::Handshake] {
        assert_eq!(count(&|kind| is_allowed(kind, space, false)), 6);
        assert!(!is_allowed(kind::CLOSE_APPLICATION, space, false), "it would tell the application's state");
    }
    assert!(all().all(|kind| is_allowed(kind, Space::Application, false)));
    assert_eq!(count(&|kind| !is_allowed(kind, Space::Application, true)), 11);
    for kind in all().filter(|kind| is_protectable(*kind)) {
        assert!(is_ack_eliciting(kind) && is_allowed(kind, Space::Application, true) && !is_probing(kind));
    }
}
