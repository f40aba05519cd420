//! What must hold for any bytes that a peer sends: shared by the fuzz targets and the replay of their corpora.

mod endpoint;
mod pair;
mod peer;

use std::{collections::BTreeSet, net::SocketAddr, time::Instant};

use quantum::{
    error::Code,
    fec,
    frame::{Frame, RANGES_MAX, Side, encode_ranges},
    guuid::Guuid,
    lane,
    packet::{self, Header, LongKind, Packet, ParseError, Unprotected},
    parameters::Parameters,
    range::RangeSet,
    token::{RETRY_LIFE_MS, TOKEN_BYTES_MAX, Token, TokenError, TokenKey},
    varint,
};
use rustls::quic::{DirectionalKeys, Keys, Version};

/// What a target runs on its input.
#[allow(dead_code, reason = "only the replay names it")]
pub(crate) type Check = fn(&[u8]);

/// All targets: the name of each is that of its corpus.
#[allow(dead_code, reason = "a target runs one of them, the replay all")]
pub(crate) const TARGETS: &[(&str, Check)] = &[
    ("packet", packet),
    ("frames", frames),
    ("parameters", parameters),
    ("tokens", tokens),
    ("ranges", ranges),
    ("repair", repair),
    ("reassembly", reassembly),
    ("endpoint", endpoint),
    ("peer", peer),
];

/// A datagram is cut into packets without a rest, and what opens can be sealed and opened again.
pub(crate) fn packet(data: &[u8]) {
    let mut datagram = data.to_vec();
    let mut rest = &mut datagram[..];
    while !rest.is_empty() {
        let (whole, is_quic) = (rest.to_vec(), rest[0] & 0x40 != 0);
        let parsed = packet::parse(rest);
        assert_eq!(is_quic, matches!(parsed, Err(ParseError::Foreign)), "bit 6 tells QUIC and Quantum apart");
        let Ok((packet, behind)) = parsed else { return };
        assert_eq!([&*packet.bytes, behind].concat(), whole, "packets are pieces of their datagram");
        assert_eq!(packet::destination(&whole), Some(packet.header.to()));
        assert!(packet.token().len() <= packet.bytes.len() && packet.versions().count() * 4 <= packet.bytes.len());
        alone(packet);
        rest = behind;
    }
}

/// One packet without its neighbours.
fn alone(packet: Packet<'_>) {
    let mut copy = packet.bytes.to_vec();
    assert_eq!(packet::parse(&mut copy).map(|(packet, _)| packet.header), Ok(packet.header.clone()));
    let Some((_, number_at)) = packet.header.number() else { return };
    let (keys, token) = (keys(packet.header.to()), packet.token().to_vec());
    let bare = packet::unprotect(packet.bytes, number_at, &*keys.header, 0).expect("parse made sure of a sample");
    let Ok(payload) = packet::open(packet.bytes, &bare, &*keys.packet) else { return };
    frames(&packet.bytes[payload.clone()]);
    again(&packet.header, &token, &bare, &packet.bytes[payload]);
}

/// Seals what was opened, and opens it.
fn again(header: &Header, token: &[u8], bare: &Unprotected, payload: &[u8]) {
    let (to, from) = (header.to(), header.from().unwrap_or_default());
    let largest = bare.number.checked_sub(1);
    let mut out = Vec::new();
    let draft = match header {
        Header::Initial { .. } => {
            packet::encode_long(LongKind::Initial, to, from, token, bare.number, largest, &mut out)
        }
        Header::ZeroRtt { .. } => packet::encode_long(LongKind::ZeroRtt, to, from, &[], bare.number, largest, &mut out),
        Header::Handshake { .. } => {
            packet::encode_long(LongKind::Handshake, to, from, &[], bare.number, largest, &mut out)
        }
        _ => packet::encode_short(to, bare.key_phase(), false, bare.number, largest, &mut out),
    };
    out.extend_from_slice(payload);
    let keys = keys(to);
    draft.seal(&*keys.header, &*keys.packet, &mut out);
    let (packet, rest) = packet::parse(&mut out).expect("what was sealed is a packet");
    assert!(rest.is_empty() && packet.token() == token);
    let number_at = packet.header.number().expect("it has a number").1;
    let second = packet::unprotect(packet.bytes, number_at, &*keys.header, bare.number).expect("it is long enough");
    let opened = packet::open(packet.bytes, &second, &*keys.packet).expect("the same key opens what it sealed");
    assert_eq!((second.number, second.key_phase()), (bare.number, bare.key_phase()));
    assert!(packet.bytes[opened].ends_with(payload), "padding stands in front");
}

/// Those of a client's first flight, which everybody can derive.
fn keys(to: Guuid) -> DirectionalKeys {
    let suite = rustls::crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256;
    let suite = suite.tls13().and_then(|suite| suite.quic_suite()).expect("a suite of QUIC");
    Keys::initial(Version::V1, suite.suite, suite.quic, to.as_bytes(), rustls::Side::Client).local
}

/// What a payload says can be said again, in no more bytes; a symbol's inside too.
pub(crate) fn frames(data: &[u8]) {
    let mut rest = data;
    while !rest.is_empty() {
        let before = rest;
        let frame = match Frame::parse(&mut rest) {
            Ok(frame) => frame,
            Err(error) => return assert_eq!(error.code, Code::FrameEncoding as u64),
        };
        let used = before.len() - rest.len();
        assert!(used > 0 && before.ends_with(rest), "frames are pieces of their payload");
        let mut encoded = Vec::new();
        frame.encode(&mut encoded);
        assert!(encoded.len() <= used, "{frame:?} grew");
        assert_eq!(varint::read(&mut &encoded[..]), Some(frame.kind()));
        assert_eq!(Frame::parse(&mut &encoded[..]), Ok(frame));
        match frame {
            Frame::Ack(ack) => descending(ack.largest, ack.ranges.iter()),
            Frame::SymbolAck(ack) => descending(ack.largest, ack.ranges.iter()),
            Frame::Symbol { data, .. } => frames(data),
            _ => {}
        }
    }
}

fn descending(largest: u64, ranges: impl Iterator<Item = std::ops::RangeInclusive<u64>>) {
    let (mut end, mut count) = (largest + 2, 0);
    for range in ranges {
        assert!(range.start() <= range.end() && *range.end() + 1 < end, "ranges meet");
        assert!(count > 0 || *range.end() == largest);
        (end, count) = (*range.start(), count + 1);
    }
    assert!((1..=RANGES_MAX).contains(&count));
}

/// The first byte says whose; what was told can be told again.
pub(crate) fn parameters(data: &[u8]) {
    let Some((&first, bytes)) = data.split_first() else { return };
    let side = if first & 1 == 0 { Side::Client } else { Side::Server };
    let parameters = match Parameters::parse(side, bytes) {
        Ok(parameters) => parameters,
        Err(error) => return assert_eq!(error.code, Code::TransportParameter as u64),
    };
    assert!(parameters.initial_from.is_some() && parameters.original_to.is_some() == (side == Side::Server));
    assert!(parameters.udp_payload_max >= 1200 && parameters.ids_max >= 2 && parameters.ack_delay_exponent <= 20);
    assert!(parameters.honours(&parameters));
    let mut encoded = Vec::new();
    parameters.encode(side, &mut encoded);
    assert_eq!(Parameters::parse(side, &encoded), Ok(parameters));
}

/// Nobody can make a token; one that is good is good for one address and for a time, to the bit.
pub(crate) fn tokens(data: &[u8]) {
    let now = 1_800_000_000_000;
    let here: SocketAddr = ([192, 0, 2, 7], 4433).into();
    let there: SocketAddr = ([192, 0, 2, 8], 4433).into();
    let key = TokenKey::new([1; 32], Some([2; 32]));
    let Ok(token) = key.open(now, here, data) else { return made(&key, data) };
    assert!(data.len() <= TOKEN_BYTES_MAX);
    assert_eq!(key.open(now, there, data), Err(TokenError::Address));
    assert_eq!(key.open(now + 2 * 24 * 3600 * 1000, here, data), Err(TokenError::Expired));
    if matches!(token, Token::Retry { .. }) {
        assert_eq!(key.open(now + RETRY_LIFE_MS + 5_000, here, data), Err(TokenError::Expired));
    }
    let mut damaged = data.to_vec();
    for at in 0..damaged.len() {
        damaged[at] ^= 1 << (at % 8);
        assert_eq!(key.open(now, here, &damaged), Err(TokenError::Unknown));
        damaged[at] ^= 1 << (at % 8);
    }
}

/// A token made of these bytes reads as what it was made of.
fn made(key: &TokenKey, data: &[u8]) {
    let byte = |at: usize| data.get(at).copied().unwrap_or(at as u8);
    let id = |from: usize| Guuid::from_bytes(std::array::from_fn(|at| byte(from + at)));
    let ip: [u8; 16] = std::array::from_fn(|at| byte(40 + at));
    let (remote, nonce) = (SocketAddr::from((ip, u16::from(byte(60)))), [byte(61); 12]);
    let unix_ms = u64::from_be_bytes(std::array::from_fn(|at| byte(64 + at)));
    let token = key.retry(unix_ms, remote, id(0), id(16), nonce);
    assert_eq!(key.open(unix_ms, remote, &token), Ok(Token::Retry { original_to: id(0), retry_from: id(16) }));
    let token = key.address(unix_ms, remote.ip(), nonce);
    assert_eq!(key.open(unix_ms, remote, &token), Ok(Token::Address));
}

/// Three bytes a step: what to do, where, how far. The set and a set of numbers stay the same, and so does what an ACK
/// frame says of them.
pub(crate) fn ranges(data: &[u8]) {
    let (mut set, mut model) = (RangeSet::new(), BTreeSet::new());
    for [step, start, len] in data.as_chunks().0.iter().take(200) {
        let (start, end) = (u64::from(*start), u64::from(*start) + u64::from(len % 32));
        let before = model.len();
        let changed = match step % 4 {
            0 => {
                model.extend(start..end);
                set.insert(start..end)
            }
            1 => {
                model.insert(start);
                set.insert_one(start)
            }
            2 => {
                model.retain(|number| !(start..end).contains(number));
                set.remove(start..end)
            }
            _ => {
                model.retain(|number| *number >= end);
                set.remove_below(end);
                before != model.len()
            }
        };
        assert_eq!(changed, before != model.len());
        assert!(set.iter().flatten().eq(model.iter().copied()), "{set:?} is not {model:?}");
        assert_eq!((set.min(), set.max()), (model.first().copied(), model.last().copied()));
        assert!(set.contains(start) == model.contains(&start) && set.contains(end) == model.contains(&end));
    }
    told(&set);
}

fn told(set: &RangeSet) {
    let mut bytes = vec![0x24];
    encode_ranges(set, 4_000, |_| {}, &mut bytes);
    if set.is_empty() {
        return assert_eq!(bytes.len(), 1);
    }
    let Ok(Frame::SymbolAck(ack)) = Frame::parse(&mut &bytes[..]) else { panic!("what was written cannot be read") };
    let newest = set.iter().rev().take(RANGES_MAX).map(|range| range.start..=range.end - 1);
    assert!(ack.ranges.iter().eq(newest));
}

/// Symbols and parity in any order restore nothing that is not whole, and take bounded memory.
pub(crate) fn repair(data: &[u8]) {
    fec::fuzz_repair(Instant::now(), data);
}

/// Pieces of streams and messages in any order: the first that names a byte is right about it.
pub(crate) fn reassembly(data: &[u8]) {
    lane::fuzz::reassembly(data);
}

/// Strangers get little, and nobody who showed no address gets more than three times what came from there.
pub(crate) fn endpoint(data: &[u8]) {
    endpoint::run(data);
}

/// Whatever an authenticated peer says, the connection goes on or ends with a code, and holds little.
pub(crate) fn peer(data: &[u8]) {
    peer::run(data);
}
