//! HTTP/2 as an attacker uses it: each flood ends the connection, or costs nothing.

use ringshard_http::{Connection, INPUT_MAX, Limits, OUTPUT_PAUSE, Rule};

use crate::{
    client::{GET, block, frame, frames, hello},
    owner::Owner,
};

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const ENHANCE_YOUR_CALM: u8 = 0xb;

fn raw() -> Owner {
    let mut owner = Owner::of(Connection::http2);
    owner.feed(hello());
    owner
}

/// The error code of the GOAWAY in the output.
fn goaway(owner: &mut Owner) -> Option<u8> {
    let output = owner.output_bytes();
    frames(&output).into_iter().find(|frame| frame.0 == GOAWAY).map(|frame| frame.3[7])
}

#[test]
fn rapid_reset_ends_the_connection() {
    // All in one read, and one pair per read: the first is h2's own defence, the second ours.
    for pairs_per_read in [1, 50] {
        let mut owner = raw();
        let mut stream = 1;
        let mut requests = 0;
        while owner.refused.is_empty() {
            let mut bytes = Vec::new();
            for _ in 0..pairs_per_read {
                bytes.extend(frame(HEADERS, 5, stream, &block(&GET)));
                bytes.extend(frame(RST_STREAM, 0, stream, &8u32.to_be_bytes()));
                stream += 2;
            }
            owner.feed(bytes);
            requests += owner.requests.len();
            while !owner.requests.is_empty() {
                owner.echo();
            }
            assert!(stream < 2000, "{requests}");
        }
        assert_eq!(owner.refused, [Rule::Flood]);
        assert_eq!(goaway(&mut owner), Some(ENHANCE_YOUR_CALM));
        owner.poll();
        assert!(owner.connection.wants_close());
    }
}

#[test]
fn reset_requests_that_the_owner_still_works_on_are_bounded() {
    let mut owner = raw();
    let mut stream = 1;
    while owner.refused.is_empty() {
        owner.feed(frame(HEADERS, 5, stream, &block(&GET)));
        owner.feed(frame(RST_STREAM, 0, stream, &8u32.to_be_bytes()));
        stream += 2;
        assert!(owner.requests.len() <= 256);
    }
    assert_eq!(owner.refused, [Rule::Flood]);
}

#[test]
fn a_continuation_flood_ends_the_connection() {
    let mut owner = raw();
    owner.feed(frame(HEADERS, 1, 1, &block(&GET)));
    for _ in 0..10 {
        owner.feed(frame(CONTINUATION, 0, 1, &block(&[("x", "y")])));
    }
    assert_eq!(owner.refused, [Rule::Flood]);
    assert_eq!(goaway(&mut owner), Some(ENHANCE_YOUR_CALM));
}

#[test]
fn a_header_list_beyond_the_limit_is_431() {
    let mut owner = raw();
    let value = "v".repeat(120);
    let fields: Vec<(&str, &str)> = GET.into_iter().chain(std::iter::repeat_n(("x", value.as_str()), 110)).collect();
    let fields = block(&fields);
    owner.feed(frame(HEADERS, 1, 1, &fields[..8000]));
    owner.feed(frame(CONTINUATION, 4, 1, &fields[8000..]));
    assert!(owner.requests.is_empty());
    let answered = frames(&owner.output_bytes()).into_iter().any(|frame| frame.0 == HEADERS || frame.0 == RST_STREAM);
    assert!(answered);
    let mut owner = raw();
    let many: Vec<(&str, &str)> = GET.into_iter().chain(std::iter::repeat_n(("x", "y"), 101)).collect();
    owner.feed(frame(HEADERS, 5, 1, &block(&many)));
    assert_eq!(owner.refused, [Rule::TooManyHeaders]);
}

#[test]
fn answers_to_pings_do_not_pile_up() {
    for (kind, payload) in [(PING, &[0; 8][..]), (SETTINGS, &[])] {
        let mut owner = raw();
        let _ = owner.output_bytes();
        let flood = frame(kind, 0, 0, payload).repeat(1000);
        let mut fed = 0;
        while owner.connection.wants_input() {
            owner.feed(&flood);
            fed += flood.len();
            assert!(fed < INPUT_MAX, "the owner must be asked to pause");
        }
        let mut out = bytes::BytesMut::new();
        owner.connection.take_output(owner.now, &mut out, usize::MAX);
        assert!(out.len() <= fed + OUTPUT_PAUSE);
        while owner.refused.is_empty() {
            owner.feed(&flood);
            let _ = owner.connection.take_piece(owner.now, 1);
            fed += flood.len();
            assert!(fed < 3 * INPUT_MAX);
        }
        assert!(owner.connection.wants_close());
    }
}

#[test]
fn more_streams_than_announced_are_refused() {
    let mut owner = raw();
    let settings = owner.output_bytes();
    let announced = frames(&settings).into_iter().find(|frame| frame.0 == SETTINGS).map(|frame| frame.3);
    assert!(announced.is_some_and(|payload| payload.windows(6).any(|setting| setting == [0, 3, 0, 0, 0, 128])));
    owner.feed(frame(SETTINGS, 1, 0, &[]));
    for index in 0..150 {
        owner.feed(frame(HEADERS, 5, 1 + 2 * index, &block(&GET)));
    }
    assert_eq!(owner.requests.len(), 128);
    let refused = frames(&owner.output_bytes()).into_iter().filter(|frame| frame.0 == RST_STREAM).count();
    assert_eq!(refused, 22);
}

#[test]
fn all_bodies_together_are_bounded() {
    let limits = Limits { bodies_max: 100_000, ..Limits::default() };
    let mut owner = Owner::with(Connection::http2, limits);
    owner.feed(hello());
    for index in 0..20 {
        owner.feed(frame(HEADERS, 4, 1 + 2 * index, &block(&GET)));
        owner.feed(frame(0, 0, 1 + 2 * index, &[0; 10_000]));
        let _ = owner.output_bytes();
    }
    assert!(owner.refused.contains(&Rule::BodiesTooLarge));
    assert!(owner.requests.is_empty());
}

#[test]
fn broken_frames_end_the_connection() {
    let cases: [Vec<u8>; 9] = [
        frame(0, 0, 1, b"data on an idle stream"),
        frame(HEADERS, 5, 2, &block(&GET)),
        frame(HEADERS, 5, 0, &block(&GET)),
        frame(HEADERS, 5, 1, &[0xff; 20]),
        frame(PING, 0, 0, &[0; 7]),
        frame(SETTINGS, 0, 1, &[]),
        frame(CONTINUATION, 4, 1, &[]),
        frame(8, 0, 0, &0u32.to_be_bytes()),
        vec![0xff; 100],
    ];
    for bytes in cases {
        let mut owner = raw();
        let _ = owner.output_bytes();
        owner.feed(&bytes);
        assert_eq!(owner.refused, [Rule::Protocol], "{}", bytes.escape_ascii());
        let code = goaway(&mut owner);
        assert!(code.is_some_and(|code| code != 0), "{}", bytes.escape_ascii());
        assert!(owner.connection.wants_close());
    }
    let mut owner = Owner::of(Connection::http2);
    owner.feed("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(owner.refused, [Rule::Protocol]);
    let _ = owner.output_bytes();
    assert!(owner.connection.wants_close());
}

#[test]
fn malformed_requests_never_reach_the_owner() {
    let with = |extra: &[(&'static str, &'static str)]| block(&[&GET[..], extra].concat());
    let cases = [
        block(&GET[1..]),
        block(&[GET[0], GET[2], GET[3]]),
        block(&[GET[0], GET[1], GET[3]]),
        block(&GET[..3]),
        with(&[(":path", "/")]),
        with(&[("x", "y"), (":authority", "b")]),
        with(&[("Upper", "case")]),
        with(&[("connection", "close")]),
        with(&[("transfer-encoding", "chunked")]),
        with(&[("upgrade", "websocket")]),
        with(&[("te", "gzip")]),
        with(&[("host", "b")]),
        with(&[("host", "a"), ("host", "a")]),
        with(&[("content-length", "1")]),
        with(&[("content-length", "+0")]),
        with(&[("content-length", "0"), ("content-length", "0")]),
        with(&[("x", "a\r\nb: c")]),
        with(&[("x", "a\0b")]),
        with(&[("a b", "c")]),
        with(&[("x", " a")]),
        with(&[("x", "a\t")]),
        block(&[GET[0], GET[1], (":path", "nowhere"), GET[3]]),
        block(&[GET[0], GET[1], (":path", "*"), GET[3]]),
        block(&[GET[0], GET[1], (":path", ""), GET[3]]),
        block(&[GET[0], GET[1], GET[2], (":authority", "u@a")]),
        block(&[GET[0], GET[1], GET[2], (":authority", "")]),
        block(&[(":method", "CONNECT"), GET[3]]),
        block(&[(":method", "CONNECT"), (":protocol", "websocket"), GET[1], GET[2], GET[3]]),
        block(&[(":method", "G T"), GET[1], GET[2], GET[3]]),
    ];
    for (index, fields) in cases.iter().enumerate() {
        let mut owner = raw();
        owner.feed(frame(HEADERS, 5, 1, fields));
        assert!(owner.requests.is_empty(), "case {index}");
        let answered =
            frames(&owner.output_bytes()).into_iter().any(|frame| matches!(frame.0, HEADERS | RST_STREAM | GOAWAY));
        assert!(answered, "case {index}");
    }
}
