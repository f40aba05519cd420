//! The packets, ids, numbers and parameters that SPEC.md draws.

use std::time::Duration;

use quantum::{
    frame::{Datagram, Frame, Side},
    guuid::{Guuid, Router},
    packet::{
        self, Draft, Header, LongKind, Space, VERSION, encode_long, encode_retry, encode_short,
        encode_version_negotiation, expand, number_len,
    },
    parameters::Parameters,
    token::{reset_token, retry_tag},
};
use rustls::{
    Error,
    crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256,
    quic::{DirectionalKeys, HeaderProtectionKey, Keys, PacketKey, Tag, Version},
};

const MULTIPLIER: u32 = 0x9E37_79B1;

fn to() -> Guuid {
    Guuid::from_bytes([0xA0; 16])
}

fn from() -> Guuid {
    Guuid::from_bytes([0xB0; 16])
}

fn original() -> Guuid {
    Guuid::from_bytes([1; 16])
}

/// No protection at all: for drawings.
struct Bare;

impl HeaderProtectionKey for Bare {
    fn encrypt_in_place(&self, _: &[u8], _: &mut u8, _: &mut [u8]) -> Result<(), Error> {
        Ok(())
    }

    fn decrypt_in_place(&self, _: &[u8], _: &mut u8, _: &mut [u8]) -> Result<(), Error> {
        Ok(())
    }

    fn sample_len(&self) -> usize {
        16
    }
}

impl PacketKey for Bare {
    fn encrypt_in_place(&self, _: u64, _: &[u8], _: &mut [u8]) -> Result<Tag, Error> {
        Ok(Tag::from(&[0; 16][..]))
    }

    fn decrypt_in_place<'a>(&self, _: u64, _: &[u8], payload: &'a mut [u8]) -> Result<&'a [u8], Error> {
        payload.split_last_chunk::<16>().map(|(payload, _)| payload).ok_or(Error::DecryptError)
    }

    fn tag_len(&self) -> usize {
        16
    }

    fn confidentiality_limit(&self) -> u64 {
        u64::MAX
    }

    fn integrity_limit(&self) -> u64 {
        u64::MAX
    }
}

fn client_keys() -> DirectionalKeys {
    let suite = TLS13_AES_128_GCM_SHA256.tls13().unwrap().quic_suite().unwrap();
    Keys::initial(Version::V1, suite.suite, suite.quic, to().as_bytes(), rustls::Side::Client).local
}

fn packet(begin: impl FnOnce(&mut Vec<u8>) -> Draft, frame: Frame<'_>, keys: Option<DirectionalKeys>) -> Vec<u8> {
    let mut out = Vec::new();
    let draft = begin(&mut out);
    frame.encode(&mut out);
    match keys {
        Some(keys) => draft.seal(&*keys.header, &*keys.packet, &mut out),
        None => draft.seal(&Bare, &Bare, &mut out),
    };
    out
}

const GAME: Frame<'_> = Frame::Datagram(Datagram { has_len: false, data: b"game" });
const HELLO: Frame<'_> = Frame::Crypto { offset: 0, data: b"hello" };

fn first_flight() -> [u8; 32] {
    std::array::from_fn(|at| at as u8)
}

fn client() -> Parameters {
    Parameters { initial_from: Some(from()), ..Parameters::default() }
}

fn server() -> Parameters {
    Parameters {
        original_to: Some(to()),
        initial_from: Some(from()),
        reset_token: Some([7; 16]),
        ack_delay_min: Some(Duration::from_millis(1)),
        idle_timeout: Duration::from_secs(30),
        udp_payload_max: 1452,
        data_max: 1 << 20,
        stream_data_max: 1 << 18,
        streams_bidirectional_max: 100,
        datagram_max: 1200,
        symbols_max: 256,
        symbol_bytes_max: 1 << 18,
        ..Parameters::default()
    }
}

pub(super) fn written() -> Vec<(&'static str, Vec<u8>)> {
    let to_vec = |write: &dyn Fn(&mut Vec<u8>)| {
        let mut out = Vec::new();
        write(&mut out);
        out
    };
    let handshake = |out: &mut Vec<u8>| encode_long(LongKind::Handshake, to(), from(), &[], 513, Some(200), out);
    let short = |out: &mut Vec<u8>| encode_short(to(), true, false, 7, None, out);
    let initial = |out: &mut Vec<u8>| encode_long(LongKind::Initial, to(), from(), &[], 0, None, out);
    let crypto = Frame::Crypto { offset: 0, data: &first_flight() };
    let id = Guuid::new(0x0199_8877_6655, [0xAB; 10]).with_word(0x0102_0304);
    vec![
        ("guuid", id.as_bytes().to_vec()),
        ("packet-handshake-bare", packet(handshake, HELLO, None)),
        ("packet-short-bare", packet(short, GAME, None)),
        ("packet-initial-protected", packet(initial, crypto, Some(client_keys()))),
        ("retry", to_vec(&|out| encode_retry(to(), from(), b"come again", original(), out))),
        (
            "version-negotiation",
            to_vec(&|out| encode_version_negotiation(to(), from(), &[VERSION, 0x1A2A_3A4A], 0x15, out)),
        ),
        ("reset-token", reset_token(&[1; 32], to()).to_vec()),
        ("parameters-client", to_vec(&|out| client().encode(Side::Client, out))),
        ("parameters-server", to_vec(&|out| server().encode(Side::Server, out))),
    ]
}

fn vector(name: &str) -> Vec<u8> {
    super::bytes(&super::vectors()[name].concat())
}

/// Space, number and payload.
fn read(bytes: &mut [u8], header_key: &dyn HeaderProtectionKey, key: &dyn PacketKey) -> (Header, u64, Vec<u8>) {
    let (packet, rest) = packet::parse(bytes).unwrap();
    assert!(rest.is_empty());
    let (space, number_at) = packet.header.number().unwrap();
    let expected = if space == Space::Handshake { 500 } else { 0 };
    let bare = packet::unprotect(packet.bytes, number_at, header_key, expected).unwrap();
    let payload = packet::open(packet.bytes, &bare, key).unwrap();
    (packet.header, bare.number, packet.bytes[payload].to_vec())
}

fn payload(frame: &Frame<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    frame.encode(&mut out);
    out
}

#[test]
fn the_packets_of_the_page_are_read() {
    let (header, number, frames) = read(&mut vector("packet-handshake-bare"), &Bare, &Bare);
    assert_eq!((header.to(), header.from(), number, frames), (to(), Some(from()), 513, payload(&HELLO)));
    let (header, number, frames) = read(&mut vector("packet-short-bare"), &Bare, &Bare);
    assert_eq!((header.to(), header.from(), number, frames), (to(), None, 7, payload(&GAME)));
    let keys = client_keys();
    let (header, number, frames) = read(&mut vector("packet-initial-protected"), &*keys.header, &*keys.packet);
    let crypto = payload(&Frame::Crypto { offset: 0, data: &first_flight() });
    assert_eq!((header.to(), header.from(), number, frames), (to(), Some(from()), 0, crypto));

    let mut retry = vector("retry");
    let expected = retry_tag(original(), &retry[..retry.len() - 16]);
    let (packet, _) = packet::parse(&mut retry).unwrap();
    assert_eq!(packet.token(), b"come again");
    assert!(matches!(packet.header, Header::Retry { tag, .. } if tag == expected));
    let mut negotiation = vector("version-negotiation");
    let (packet, _) = packet::parse(&mut negotiation).unwrap();
    assert!(packet.versions().eq([VERSION, 0x1A2A_3A4A]));
}

#[test]
fn the_parameters_of_the_page_are_read() {
    assert_eq!(Parameters::parse(Side::Client, &vector("parameters-client")), Ok(client()));
    assert_eq!(Parameters::parse(Side::Server, &vector("parameters-server")), Ok(server()));
}

#[test]
fn datagrams_are_steered_as_the_page_says() {
    for [word, shard] in super::table("steering") {
        assert_eq!(u64::from(Router::new(MULTIPLIER, 4, 0).shard_of(word as u32)), shard, "{word:08x}");
    }
    let router = Router::new(MULTIPLIER, 4, 3);
    for [entropy, word] in super::table("issued-word") {
        let made = router.word(entropy as u32);
        assert_eq!(u64::from(made), word, "SPEC.md should say {entropy:08x} {made:08x}");
        assert_eq!(router.shard_of(made), 3);
    }
}

#[test]
fn numbers_are_cut_and_expanded_as_the_page_says() {
    for [number, acked, len] in super::table("number-lengths") {
        assert_eq!(number_len(number, Some(acked)) as u64, len, "{number:x}");
    }
    for [truncated, len, expected, number] in super::table("number-expansion") {
        assert_eq!(expand(truncated, len as usize, expected), number, "{truncated:x} after {expected:x}");
    }
}
