//! Packets with the keys of a first flight: there and back, coalesced, cut, and damaged at every byte.

use proptest::{collection::vec, prelude::*};
use rustls::{
    Side,
    crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256,
    quic::{DirectionalKeys, Keys, Version},
};

use super::*;

const TO: [u8; 16] = [0xA0; 16];
const FROM: [u8; 16] = [0xB0; 16];

fn to() -> Guuid {
    Guuid::from_bytes(TO)
}

fn from() -> Guuid {
    Guuid::from_bytes(FROM)
}

/// What a client seals with; a server opens with the same.
fn keys() -> DirectionalKeys {
    let suite = TLS13_AES_128_GCM_SHA256.tls13().unwrap().quic_suite().unwrap();
    Keys::initial(Version::V1, suite.suite, suite.quic, &TO, Side::Client).local
}

fn seal(draft: &Draft, out: &mut Vec<u8>) -> usize {
    let keys = keys();
    draft.seal(&*keys.header, &*keys.packet, out)
}

/// Number, first byte and payload of a packet, if it is one.
fn read(packet: Packet<'_>, expected: u64) -> Result<(Unprotected, &[u8]), OpenError> {
    let keys = keys();
    let Some((_, number_at)) = packet.header.number() else { return Err(OpenError::Forged) };
    let bare = unprotect(packet.bytes, number_at, &*keys.header, expected).ok_or(OpenError::Forged)?;
    let payload = open(packet.bytes, &bare, &*keys.packet)?;
    Ok((bare, &packet.bytes[payload]))
}

#[test]
fn four_packets_share_a_datagram() {
    let mut out = Vec::new();
    for (kind, token, payload) in [
        (LongKind::Initial, &b"a token"[..], &b"hello"[..]),
        (LongKind::ZeroRtt, b"", b"early"),
        (LongKind::Handshake, b"", b"certificate"),
    ] {
        let draft = encode_long(kind, to(), from(), token, 7, None, &mut out);
        assert!(draft.is_empty(&out) && draft.number() == 7 && draft.start() + LONG_HEAD < draft.payload_at());
        out.extend_from_slice(payload);
        seal(&draft, &mut out);
    }
    let draft = encode_short(to(), true, false, 300, Some(200), &mut out);
    out.extend_from_slice(b"data");
    seal(&draft, &mut out);

    assert_eq!(destination(&out), Some(to()));
    let (initial, rest) = parse(&mut out).unwrap();
    assert_eq!((initial.header.to(), initial.header.from(), initial.token()), (to(), Some(from()), &b"a token"[..]));
    assert_eq!(initial.header.number().unwrap().0, Space::Initial);
    assert_eq!(read(initial, 0).unwrap().1, b"hello");
    let (early, rest) = parse(rest).unwrap();
    assert!(matches!(early.header, Header::ZeroRtt { .. }));
    assert_eq!(read(early, 5).unwrap().1, b"early");
    let (handshake, rest) = parse(rest).unwrap();
    assert_eq!((handshake.header.number().unwrap().0, handshake.token()), (Space::Handshake, &[][..]));
    assert_eq!(read(handshake, 9).unwrap().1, b"certificate");
    let (short, rest) = parse(rest).unwrap();
    assert!(rest.is_empty());
    assert_eq!((short.header.from(), short.header.number()), (None, Some((Space::Application, SHORT_HEAD))));
    let (bare, payload) = read(short, 290).unwrap();
    assert!(bare.key_phase() && bare.number == 300 && payload == b"data");
}

//= SPEC.md#3.2
//= type=test
//# Padding MUST stand in front of the other frames, if the last of them reaches to the packet's end.
#[test]
fn padding_stands_in_front() {
    let mut out = vec![1, 2, 3];
    let draft = encode_long(LongKind::Initial, to(), from(), &[], 0, None, &mut out);
    out.extend_from_slice(b"open end");
    assert_eq!(draft.room(INITIAL_BYTES_MIN, &out), 3 + INITIAL_BYTES_MIN - out.len() - TAG_LEN);
    draft.pad(INITIAL_BYTES_MIN, &mut out);
    assert_eq!(seal(&draft, &mut out), INITIAL_BYTES_MIN);
    let payload = read(parse(&mut out[3..]).unwrap().0, 0).unwrap().1;
    assert!(payload.ends_with(b"\0\0\0open end"));
    assert!(payload.strip_suffix(b"open end").unwrap().iter().all(|byte| *byte == 0));
}

//= SPEC.md#3.7
//= type=test
//# A reset MUST be shorter than the packet that it answers, and have at least 37 bytes.
#[test]
fn the_shortest_packet_can_be_answered_by_a_reset() {
    for number in [0, 1000, 100_000, 10_000_000] {
        let mut out = Vec::new();
        let draft = encode_short(to(), false, false, number, None, &mut out);
        out.push(1);
        let len = seal(&draft, &mut out);
        assert!(len > RESET_BYTES_MIN && out.len() == len, "{len} bytes");
        let (bare, payload) = read(parse(&mut out).unwrap().0, number).unwrap();
        assert_eq!((bare.number, payload.last()), (number, Some(&1)));
    }
    for (trigger, byte) in [(0, 0), (RESET_BYTES_MIN, 0), (RESET_BYTES_MIN + 1, 255), (40, 7), (1200, 255), (1200, 0)] {
        let mut reset = Vec::new();
        let answered = encode_reset(&[9; 16], [byte; 32], trigger, &mut reset);
        assert_eq!(answered, trigger > RESET_BYTES_MIN);
        assert!(!answered || (RESET_BYTES_MIN..trigger).contains(&reset.len()) && reset.ends_with(&[9; 16]));
        assert!(!answered || matches!(parse(&mut reset).unwrap().0.header, Header::Short { .. }));
    }
}

#[test]
fn reserved_bits_and_empty_packets_are_violations() {
    let violation = |bits: u8, payload: &[u8]| {
        let mut out = Vec::new();
        let draft = encode_short(to(), false, true, 5, Some(4), &mut out);
        out[0] |= bits;
        out.extend_from_slice(payload);
        seal(&draft, &mut out);
        read(parse(&mut out).unwrap().0, 5).map(|(_, payload)| payload.to_vec())
    };
    assert_eq!(violation(0, b"1234"), Ok(b"1234".to_vec()));
    for bits in [0x08, 0x10, 0x18] {
        assert!(matches!(violation(bits, b"1234"), Err(OpenError::Violation(_))));
    }
    for bits in [0x04, 0x08] {
        let mut out = Vec::new();
        let draft = encode_long(LongKind::Handshake, to(), from(), &[], 5, Some(4), &mut out);
        out[0] |= bits;
        out.extend_from_slice(b"1234");
        seal(&draft, &mut out);
        assert!(matches!(read(parse(&mut out).unwrap().0, 5), Err(OpenError::Violation(_))));
    }
    // A Draft pads, so an empty payload is sealed by hand: 4 bytes of number, no frame.
    let (keys, mut out) = (keys(), Vec::from([0x03]));
    out.extend_from_slice(&TO);
    out.extend_from_slice(&[0, 0, 0, 5]);
    let tag = keys.packet.encrypt_in_place(5, &out, &mut []).unwrap();
    out.extend_from_slice(tag.as_ref());
    let (head, sealed) = out.split_at_mut(SHORT_HEAD);
    let (number, sample) = sealed.split_at_mut(4);
    keys.header.encrypt_in_place(sample, &mut head[0], number).unwrap();
    assert!(matches!(read(parse(&mut out).unwrap().0, 5), Err(OpenError::Violation(_))));
}

#[test]
fn retry_and_version_negotiation() {
    let mut out = Vec::new();
    encode_retry(to(), from(), b"come again", Guuid::from_bytes([1; 16]), &mut out);
    let len = out.len();
    let expected = crate::token::retry_tag(Guuid::from_bytes([1; 16]), &out[..len - TAG_LEN]);
    let (packet, rest) = parse(&mut out).unwrap();
    assert!(rest.is_empty() && packet.token() == b"come again" && packet.header.number().is_none());
    assert!(matches!(packet.header, Header::Retry { tag, .. } if tag == expected));
    for end in 0..LONG_HEAD + TAG_LEN + 1 {
        assert_eq!(parse(&mut out[..end]).map(|_| ()), Err(ParseError::Short));
    }

    let mut out = Vec::new();
    encode_version_negotiation(to(), from(), &[VERSION, 0x0A0A_0A0A], 0xFF, &mut out);
    let (packet, rest) = parse(&mut out).unwrap();
    assert!(rest.is_empty() && packet.versions().eq([VERSION, 0x0A0A_0A0A]));
    assert_eq!((packet.header.to(), packet.header.from(), packet.token()), (to(), Some(from()), &[][..]));
    for end in LONG_HEAD..out.len() {
        let cut = parse(&mut out[..end]).map(|(packet, _)| packet.versions().count());
        assert_eq!(cut, if end == LONG_HEAD + 4 { Ok(1) } else { Err(ParseError::Versions) });
    }
}

#[test]
fn other_versions_show_their_ids() {
    let mut out = Vec::new();
    let draft = encode_long(LongKind::Initial, to(), from(), &[], 0, None, &mut out);
    draft.pad(1200, &mut out);
    seal(&draft, &mut out);
    out[17] ^= 0xFF;
    let (packet, rest) = parse(&mut out).unwrap();
    assert_eq!(packet.header, Header::Unsupported { version: VERSION ^ 0xFF00_0000, to: to(), from: from() });
    assert!(rest.is_empty() && packet.bytes.len() == 1200 && packet.versions().count() == 0);
}

#[test]
fn lengths_beyond_the_datagram_are_refused() {
    let head = |tail: &[u8]| {
        let mut out = Vec::new();
        let _ = encode_long(LongKind::Initial, to(), from(), &[], 0, None, &mut out);
        out.truncate(LONG_HEAD);
        out.extend_from_slice(tail);
        parse(&mut out).map(|_| ())
    };
    let body = |head: &[u8], len: usize| [head, &vec![0; len]].concat();
    assert_eq!(head(&body(&[0, 20], 20)), Ok(()));
    assert_eq!(head(&body(&[0, 20], 19)), Err(ParseError::Length));
    assert_eq!(head(&body(&[0, 19], 30)), Err(ParseError::Short));
    assert_eq!(head(&body(&[3, 1, 2, 3, 20], 20)), Ok(()));
    assert_eq!(head(&body(&[21, 1, 2, 3, 20], 16)), Err(ParseError::Length));
    assert_eq!(head(&[0xFF; 40]), Err(ParseError::Length));
    assert_eq!(head(&[0xFF; 7]), Err(ParseError::Short));
    assert_eq!(head(&[0]), Err(ParseError::Short));
}

//= SPEC.md#3
//= type=test
//# A datagram whose first byte has it set is none of Quantum
#[test]
fn quic_is_not_ours() {
    for first in 0x40..=0xFF {
        let foreign = parse(&mut [first; 1200]).map(|_| ()) == Err(ParseError::Foreign);
        assert_eq!(foreign, first & 0x40 != 0);
    }
    assert_eq!(parse(&mut []).map(|_| ()), Err(ParseError::Short));
    assert_eq!((destination(&[0; 16]), destination(&[0; 17])), (None, Some(Guuid::default())));
}

#[test]
fn the_examples_of_the_rfc() {
    // RFC 9000, appendix A.2 and A.3.
    assert_eq!(number_len(0xAC_5C02, Some(0xAB_E8B3)), 2);
    assert_eq!(number_len(0xAC_E8FE, Some(0xAB_E8B3)), 3);
    assert_eq!(expand(0x9B32, 2, 0xA82F_30EB), 0xA82F_9B32);
}

proptest! {
    #[test]
    fn a_damaged_packet_does_not_open(at in 0..120usize, bit in 0..8u8, short: bool) {
        let mut out = Vec::new();
        let draft = if short {
            encode_short(to(), false, false, 77, Some(70), &mut out)
        } else {
            encode_long(LongKind::Initial, to(), from(), b"token", 77, Some(70), &mut out)
        };
        draft.pad(120, &mut out);
        seal(&draft, &mut out);
        out[at] ^= 1 << bit;
        if let Ok((packet, _)) = parse(&mut out) {
            prop_assert_eq!(read(packet, 77).map(|_| ()), Err(OpenError::Forged));
        }
    }

    #[test]
    fn a_cut_packet_does_not_open(end in 0..120usize, short: bool) {
        let mut out = Vec::new();
        let draft = if short {
            encode_short(to(), false, false, 77, Some(70), &mut out)
        } else {
            encode_long(LongKind::Handshake, to(), from(), &[], 77, Some(70), &mut out)
        };
        draft.pad(120, &mut out);
        seal(&draft, &mut out);
        if let Ok((packet, _)) = parse(&mut out[..end]) {
            prop_assert!(short);
            prop_assert_eq!(read(packet, 77).map(|_| ()), Err(OpenError::Forged));
        }
    }

    #[test]
    fn any_bytes_are_taken_calmly(mut bytes in vec(any::<u8>(), 0..100), version: bool, first: u8) {
        if let Some(byte) = bytes.first_mut() {
            *byte = first & !QUIC;
        }
        if version && bytes.len() > VERSION_AT.end {
            bytes[VERSION_AT].copy_from_slice(&VERSION.to_be_bytes());
        }
        let mut rest = &mut bytes[..];
        while !rest.is_empty() {
            let before = rest.len();
            let Ok((packet, behind)) = parse(rest) else { break };
            prop_assert_eq!(packet.bytes.len() + behind.len(), before);
            prop_assert!(!packet.bytes.is_empty());
            let _ = (packet.token(), packet.versions().count());
            prop_assert!(read(packet, 0).is_err());
            rest = behind;
        }
    }

    #[test]
    fn numbers_survive_truncation(largest in 0..(1u64 << 62) - (1 << 31), ahead in 1..1u64 << 31, seen in 0..1u64 << 31) {
        // The receiver has seen anything from what it acknowledged up to just before this packet.
        let (number, expected) = (largest + ahead, largest + 1 + seen % ahead);
        let len = number_len(number, Some(largest));
        let truncated = number & ((1 << (8 * len)) - 1);
        prop_assert_eq!(expand(truncated, len, expected), number);
    }

    #[test]
    fn expansion_is_the_nearest(truncated: u32, len in 1..=4usize, expected in 0..1u64 << 62) {
        let window = 1u64 << (8 * len);
        let truncated = u64::from(truncated) & (window - 1);
        let number = expand(truncated, len, expected);
        prop_assert!(number < 1 << 62 && number & (window - 1) == truncated);
        let nearer = |other: Option<u64>| {
            other.is_some_and(|other| other < 1 << 62 && other.abs_diff(expected) < number.abs_diff(expected))
        };
        prop_assert!(!nearer(number.checked_sub(window)) && !nearer(number.checked_add(window)));
    }
}
