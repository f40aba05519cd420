//! The pieces in which bytes arrive must not matter: every split, byte by byte, and random ones.

use std::time::Instant;

use rand::{Rng, SeedableRng, rngs::StdRng};
use ringshard_http::{
    Connection, Limits,
    fuzz::{self, Outcome},
};

const STREAMS: [&[u8]; 13] = [
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nGET /3 HTTP/1.1\r\n",
    b"\r\nPOST /p?q HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\nhello worldGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n6\r\n world\r\n0\r\nT: v\r\n\r\n\
      HEAD /next HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
    b"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\n\
      Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n\x81\x80\0\0\0\0GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\nHost: a\n\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nX: y\rz\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloo\r\n0\r\n\r\n",
    b"\r\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"PRINT / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\nGET / HTTP/1.0\r\nHost: a\r\n\r\nGET / HTTP/1.0\r\n",
];

fn run(data: &[u8], sizes: &[usize]) -> Outcome {
    let now = Instant::now();
    let whole = fuzz::run(now, Connection::http1(now, Limits::default()), data, sizes, true);
    let sniffed = fuzz::run(now, Connection::sniffing(now, Limits::default()), data, sizes, true);
    assert_eq!(whole, sniffed, "sniffing for HTTP/2 must not change HTTP/1.1");
    whole
}

#[test]
fn every_split_in_two_gives_the_same() {
    for data in STREAMS {
        let expected = run(data, &[data.len()]);
        assert!(!expected.events.is_empty());
        for at in 1..data.len() {
            assert_eq!(run(data, &[at, data.len()]), expected, "{} at {at}", data.escape_ascii());
        }
    }
}

#[test]
fn single_bytes_give_the_same() {
    for data in STREAMS {
        assert_eq!(run(data, &[1]), run(data, &[data.len()]), "{}", data.escape_ascii());
    }
}

#[test]
fn random_splits_of_mutated_streams_give_the_same() {
    let seed = 0x5eed;
    let mut rng = StdRng::seed_from_u64(seed);
    let alphabet = b"\r\n\t\0 :;,.0123456789abcdefABCDEFxGET/HTTP\xff";
    for round in 0..4_000 {
        let mut data: Vec<u8> =
            (0..rng.random_range(1..3)).flat_map(|_| STREAMS[rng.random_range(0..STREAMS.len())].to_vec()).collect();
        for _ in 0..rng.random_range(0..4) {
            let (at, byte) = (rng.random_range(0..data.len()), alphabet[rng.random_range(0..alphabet.len())]);
            match rng.random_range(0..3) {
                0 => data[at] = byte,
                1 => data.insert(at, byte),
                _ => drop(data.remove(at)),
            }
        }
        let sizes: Vec<usize> = (0..8).map(|_| rng.random_range(1..40)).collect();
        let (whole, pieces) = (run(&data, &[data.len()]), run(&data, &sizes));
        assert_eq!(whole, pieces, "seed {seed} round {round}: {} in {sizes:?}", data.escape_ascii());
    }
}
