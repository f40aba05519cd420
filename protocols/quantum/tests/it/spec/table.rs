//! The tables of SPEC.md against the constants of the code: error codes and limits.

use std::collections::BTreeMap;

use quantum::{
    Algorithm, EndpointConfig, FecMode, Transport,
    config::{DATAGRAM_MAX, DATAGRAM_MIN},
    error::Code,
    frame::{GROUP_MAX, RANGES_MAX, REASON_BYTES_MAX},
    limits::*,
    packet::LENGTH_MAX,
    parameters::{MESSAGE_BYTES_MAX, VERSIONS_MAX},
    token::{ADDRESS_LIFE_MS, RETRY_LIFE_MS},
};

/// The rows of the only table in a section, without its head.
fn rows(section: &str) -> Vec<Vec<&'static str>> {
    let lines = super::section(section).lines().filter(|line| line.starts_with('|'));
    lines.skip(2).map(|line| line.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

/// What SPEC.md calls a code. A code that is new here does not compile until it has a name there.
fn name(code: Code) -> &'static str {
    match code {
        Code::NoError => "NO_ERROR",
        Code::Internal => "INTERNAL",
        Code::ConnectionRefused => "CONNECTION_REFUSED",
        Code::FlowControl => "FLOW_CONTROL",
        Code::StreamLimit => "STREAM_LIMIT",
        Code::StreamState => "STREAM_STATE",
        Code::FinalSize => "FINAL_SIZE",
        Code::FrameEncoding => "FRAME_ENCODING",
        Code::TransportParameter => "TRANSPORT_PARAMETER",
        Code::IdLimit => "ID_LIMIT",
        Code::ProtocolViolation => "PROTOCOL_VIOLATION",
        Code::InvalidToken => "INVALID_TOKEN",
        Code::Application => "APPLICATION_ERROR",
        Code::CryptoBuffer => "CRYPTO_BUFFER",
        Code::KeyUpdate => "KEY_UPDATE",
        Code::AeadLimit => "AEAD_LIMIT",
        Code::Fec => "FEC",
        Code::Message => "MESSAGE",
    }
}

const CODES: [Code; 18] = [
    Code::NoError,
    Code::Internal,
    Code::ConnectionRefused,
    Code::FlowControl,
    Code::StreamLimit,
    Code::StreamState,
    Code::FinalSize,
    Code::FrameEncoding,
    Code::TransportParameter,
    Code::IdLimit,
    Code::ProtocolViolation,
    Code::InvalidToken,
    Code::Application,
    Code::CryptoBuffer,
    Code::KeyUpdate,
    Code::AeadLimit,
    Code::Fec,
    Code::Message,
];

#[test]
fn errors_have_the_codes_of_the_table() {
    let told: Vec<(String, String)> = rows("17").iter().map(|row| (row[0].to_owned(), row[1].to_owned())).collect();
    let mut expected: Vec<_> =
        CODES.map(|code| (format!("{:#04x}", code as u64), name(code).to_owned())).into_iter().collect();
    expected.push((format!("{:#x} + n", Code::crypto(0)), "CRYPTO".to_owned()));
    assert_eq!(told, expected);
}

/// 16383 as 16,383.
fn number(number: u64) -> String {
    let digits = number.to_string();
    let (head, tail) = digits.split_at((digits.len() - 1) % 3 + 1);
    tail.as_bytes()
        .as_chunks::<3>()
        .0
        .iter()
        .fold(head.to_owned(), |text, group| format!("{text},{}", std::str::from_utf8(group).unwrap()))
}

fn kib(bytes: u64) -> String {
    assert!(bytes.is_multiple_of(1024), "{bytes}");
    format!("{} KiB", number(bytes / 1024))
}

/// What the table of limits is to say, row by row.
fn limits() -> BTreeMap<&'static str, String> {
    let (transport, endpoint) = (Transport::default(), EndpointConfig::single([0; 32], Transport::default()));
    BTreeMap::from([
        ("datagram with an Initial", format!("at least {} bytes", number(DATAGRAM_MIN as u64))),
        ("packet with a long header", format!("{} bytes of length", number(LENGTH_MAX as u64))),
        ("datagram that is sent, default", format!("{} bytes", number(transport.udp_payload_max as u64))),
        ("bytes to an address that is not validated", format!("{AMPLIFICATION} times those received")),
        (
            "the same beyond that, to another port of a validated address",
            format!("one window, at most {}, once", kib(CREDIT_BYTES_MAX)),
        ),
        ("handshakes that are open at a server, default", number(endpoint.retry_above as u64)),
        ("the same with a valid token", number(endpoint.half_open_max as u64)),
        ("time of a handshake, default", format!("{} s", transport.handshake_timeout.as_secs())),
        ("silence, default", format!("{} s", transport.idle_timeout.as_secs())),
        ("packets that wait for their keys", number(EARLY_MAX as u64)),
        ("CRYPTO data ahead, each space", format!("{} in {CRYPTO_PIECES_MAX} pieces", kib(CRYPTO_AHEAD_BYTES_MAX))),
        ("packets under one key", format!("2^{}", PACKETS_PER_KEY.ilog2())),
        ("ranges in ACK, SYMBOL_ACK", number(RANGES_MAX as u64)),
        ("received numbers of a space that are remembered", format!("{SEEN_MAX} ranges")),
        (
            "delay of an acknowledgement",
            format!("{} ms, with FEC {} ms", ACK_DELAY_MAX.as_millis(), ACK_DELAY_PROMPT_MAX.as_millis()),
        ),
        ("ids of the peer that are held", number(REMOTE_IDS_MAX as u64)),
        ("reason of CLOSE, GOAWAY", format!("{REASON_BYTES_MAX} bytes")),
        ("versions that are kept of a list", number(VERSIONS_MAX as u64)),
        ("life of a token", format!("Retry {} s, address {} h", RETRY_LIFE_MS / 1000, ADDRESS_LIFE_MS / 3_600_000)),
        (
            "pieces of a stream",
            format!("{STREAM_PIECES_MIN}, and one for each {} bytes of its window", number(STREAM_PIECE_BYTES)),
        ),
        ("channels", number(CHANNELS_MAX as u64)),
        ("numbers of a channel in use", number(NUMBERS_MAX)),
        ("what a message counts", format!("at least {MESSAGE_COST_MIN} bytes")),
        ("message", format!("`message_max`, below {} GiB", (MESSAGE_BYTES_MAX + 1) >> 30)),
        ("symbols and rows of a group", number(GROUP_MAX as u64)),
        ("symbols of a group that a sender makes", number(largest(|k| FecMode::Fixed { k, r: 1 }))),
        ("rows of a group that a sender makes", number(largest(|r| FecMode::Fixed { k: 1, r }))),
        ("symbols kept, default", format!("{}, {}", number(transport.symbols_max), kib(transport.symbol_bytes_max))),
        ("life of a group", format!("{} ms, or 2 srtt if less", GROUP_LIFE_MAX.as_millis())),
    ])
}

/// The largest number with which a mode of error correction is taken.
fn largest(mode: impl Fn(u8) -> FecMode) -> u64 {
    let takes = |number: &u8| Transport { fec: mode(*number), ..Transport::default() }.check().is_ok();
    u64::from((1..=u8::MAX).take_while(takes).last().unwrap())
}

#[test]
fn limits_are_those_of_the_table() {
    let mut expected = limits();
    for row in rows("18") {
        assert_eq!(expected.remove(row[0]).as_deref(), Some(row[1]), "{}", row[0]);
    }
    assert!(expected.is_empty(), "the table has nothing about {:?}", expected.keys());
    assert_eq!(Transport::default().udp_payload_max, DATAGRAM_MAX);
    assert_eq!(Transport::default().algorithm, Algorithm::Bbr);
    assert_eq!(number(1_234_567), "1,234,567");
}
