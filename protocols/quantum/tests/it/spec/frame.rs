//! The frames and the parity that SPEC.md draws.

use quantum::{
    error::Checked,
    frame::{
        Ack, Close, Datagram, Delivery, Direction, EcnCounts, Frame, Message, Ranges, Repair, Stream, StreamId,
        SymbolAck, encode_ack, encode_ranges,
    },
    guuid::Guuid,
    range::RangeSet,
};
use reed_solomon_simd::{
    engine::DefaultEngine,
    rate::{HighRateEncoder, RateEncoder},
};

fn id() -> Guuid {
    Guuid::from_bytes([0xA0; 16])
}

fn message(number: u64, delivery: Delivery, offset: u64, total: u64, data: &[u8]) -> Frame<'_> {
    Frame::Message(Message { channel: 1, number, delivery, offset, total, data })
}

fn stream(id: u64, offset: u64, fin: bool, data: &[u8]) -> Frame<'_> {
    Frame::Stream(Stream { id: StreamId(id), offset, fin, has_len: !fin, data })
}

/// All but those with ranges.
fn plain() -> Vec<(&'static str, Frame<'static>)> {
    let (one, two) = (Direction::Unidirectional, Direction::Bidirectional);
    vec![
        ("frame-padding", Frame::Padding(3)),
        ("frame-ping", Frame::Ping),
        ("frame-handshake-done", Frame::HandshakeDone),
        ("frame-immediate-ack", Frame::ImmediateAck),
        ("frame-reset-stream", Frame::ResetStream { id: StreamId(4), code: 7, final_size: 1024 }),
        ("frame-stop-sending", Frame::StopSending { id: StreamId(8), code: 9 }),
        ("frame-crypto", Frame::Crypto { offset: 1200, data: b"fin!" }),
        ("frame-new-token", Frame::NewToken(b"token")),
        ("frame-stream", stream(4, 0, false, b"abc")),
        ("frame-stream-offset-fin", stream(200, 256, true, b"abc\0\0")),
        ("frame-max-data", Frame::MaxData(1 << 20)),
        ("frame-max-stream-data", Frame::MaxStreamData { id: StreamId(4), limit: 1 << 18 }),
        ("frame-max-streams", Frame::MaxStreams { direction: one, limit: 100 }),
        ("frame-data-blocked", Frame::DataBlocked(1 << 20)),
        ("frame-stream-data-blocked", Frame::StreamDataBlocked { id: StreamId(4), limit: 1 << 18 }),
        ("frame-streams-blocked", Frame::StreamsBlocked { direction: two, limit: 100 }),
        ("frame-new-id", Frame::NewId { sequence: 3, retire_prior_to: 2, id: id(), reset_token: [7; 16] }),
        ("frame-retire-id", Frame::RetireId(1)),
        ("frame-path-challenge", Frame::PathChallenge([1, 2, 3, 4, 5, 6, 7, 8])),
        ("frame-path-response", Frame::PathResponse([1, 2, 3, 4, 5, 6, 7, 8])),
        ("frame-close", Frame::Close(Close { application: false, code: 10, reason: b"bad" })),
        ("frame-close-application", Frame::Close(Close { application: true, code: 70_000, reason: b"" })),
        ("frame-goaway", Frame::GoAway { last_stream: 8, code: 1, reason: b"restart" }),
        (
            "frame-ack-frequency",
            Frame::AckFrequency { sequence: 1, threshold: 10, delay_max_us: 25_000, reordering: 3 },
        ),
        ("frame-symbol", Frame::Symbol { sid: 7, data: b"\x31\x04game" }),
        ("frame-repair", Frame::Repair(Repair { base: 7, k: 8, row: 2, class: 2, data: &[9; 12] })),
        ("frame-fec-window", Frame::FecWindow { symbols: 256, bytes: 1 << 18 }),
        ("frame-message", message(0, Delivery::Independent, 0, 4, b"game")),
        ("frame-message-piece", message(70, Delivery::Ordered, 5, 10, b"piece")),
        ("frame-message-empty", message(1, Delivery::Newest, 0, 0, b"")),
        ("frame-message-floor", Frame::MessageFloor { channel: 1, floor: 71 }),
        ("frame-datagram", Frame::Datagram(Datagram { has_len: true, data: b"one" })),
        ("frame-datagram-open", Frame::Datagram(Datagram { has_len: false, data: b"two" })),
    ]
}

pub(super) fn written() -> Vec<(&'static str, Vec<u8>)> {
    let frames = plain().into_iter().map(|(name, frame)| (name, encode(&frame)));
    let mut ack_ecn = Vec::new();
    encode_ack(&set(&[(0, 6)]), 0, Some(EcnCounts { ect0: 4, ect1: 0, ce: 2 }), 100, &mut ack_ecn);
    let mut ack = Vec::new();
    encode_ack(&set(&[(100, 101), (180, 188), (190, 200)]), 8, None, 100, &mut ack);
    let mut symbol_ack = vec![0x24];
    encode_ranges(&set(&[(4, 6), (9, 10)]), 100, |_| {}, &mut symbol_ack);
    let ranges = [("frame-ack-ecn", ack_ecn), ("frame-ack", ack), ("frame-symbol-ack", symbol_ack)];
    frames.chain(ranges).chain(parity()).collect()
}

fn encode(frame: &Frame<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    frame.encode(&mut out);
    out
}

fn set(ranges: &[(u64, u64)]) -> RangeSet {
    let mut set = RangeSet::new();
    for (start, end) in ranges {
        set.insert(*start..*end);
    }
    set
}

/// Two symbols and parity of them, by the words of section 11.1 and not by the crate's own coder.
fn parity() -> Vec<(&'static str, Vec<u8>)> {
    let symbols = [&b"\x31\x04game\x31\x00"[..], b"\x10\x80\x10\x00\x00"];
    let rows = symbols.map(|symbol| {
        let mut row = (symbol.len() as u16).to_be_bytes().to_vec();
        row.extend_from_slice(&crc32c::crc32c(symbol).to_be_bytes());
        row.extend_from_slice(symbol);
        row.resize(14, 0);
        row
    });
    let xor: Vec<u8> = rows[0].iter().zip(&rows[1]).map(|(one, other)| one ^ other).collect();
    let mut code = HighRateEncoder::new(2, 2, 14, DefaultEngine::new(), None).unwrap();
    rows.iter().for_each(|row| code.add_original_shard(row).unwrap());
    let coded = code.encode().unwrap().recovery(1).unwrap().to_vec();
    let repair = |row, class, data: &[u8]| encode(&Frame::Repair(Repair { base: 0, k: 2, row, class, data }));
    vec![
        ("fec-symbols", symbols.iter().flat_map(|symbol| [&[symbol.len() as u8], *symbol].concat()).collect()),
        ("fec-repair-xor", repair(0, 0, &xor)),
        ("fec-repair-rs", repair(1, 1, &coded)),
    ]
}

fn parse(bytes: &[u8]) -> Checked<Frame<'_>> {
    let mut rest = bytes;
    let frame = Frame::parse(&mut rest);
    assert!(rest.is_empty() || frame.is_err());
    frame
}

#[test]
fn the_frames_of_the_page_are_read() {
    let vectors = super::vectors();
    let bytes = |name: &str| super::bytes(&vectors[name].concat());
    for (name, frame) in plain() {
        assert_eq!(parse(&bytes(name)), Ok(frame), "{name}");
    }
    let told = |ranges: Ranges<'_>| ranges.iter().collect::<Vec<_>>();
    let ack = bytes("frame-ack");
    let Ok(Frame::Ack(Ack { largest: 199, delay: 8, ranges, ecn: None })) = parse(&ack) else { panic!("frame-ack") };
    assert_eq!(told(ranges), [190..=199, 180..=187, 100..=100]);
    let ack = bytes("frame-ack-ecn");
    let Ok(Frame::Ack(Ack { ranges, ecn: Some(ecn), .. })) = parse(&ack) else { panic!("frame-ack-ecn") };
    assert_eq!((told(ranges), ecn), (vec![0..=5], EcnCounts { ect0: 4, ect1: 0, ce: 2 }));
    let ack = bytes("frame-symbol-ack");
    let Ok(Frame::SymbolAck(SymbolAck { ranges, .. })) = parse(&ack) else { panic!("frame-symbol-ack") };
    assert_eq!(told(ranges), [9..=9, 4..=5]);
    assert!(matches!(
        parse(&bytes("fec-repair-xor")),
        Ok(Frame::Repair(Repair { base: 0, k: 2, row: 0, class: 0, .. }))
    ));
    assert!(matches!(
        parse(&bytes("fec-repair-rs")),
        Ok(Frame::Repair(Repair { base: 0, k: 2, row: 1, class: 1, .. }))
    ));
}
