//! However the network cuts and mixes what streams bring, the app is told the same.

use std::collections::BTreeMap;

use http::HeaderMap;

use super::*;
use crate::webtransport::capsule;

/// A small generator, so that a seed says everything (xorshift64*).
struct Rng(u64);

impl Rng {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % end
    }
}

/// What a busy client sends, per stream.
fn script() -> Vec<(u64, Vec<u8>)> {
    let grease = frame(frame::grease(2), &[7; 70]);
    let post = concat(&[
        &grease,
        &with(&GET, &[(b"content-length", b"600")]),
        &frame(0, &[1; 300]),
        &grease,
        &frame(0, &[2; 300]),
    ]);
    let trailed =
        concat(&[&headers(&GET), &frame(0, b"a"), &frame(0, b""), &frame(0, b"b"), &headers(&[(b"x", b"y")]), &grease]);
    let session = concat(&[
        &headers(&CONNECT_WT),
        &frame(0, &concat(&[&frame(frame::grease(9), b"grease"), &frame(0, b"datagram")])),
        &frame(0, &capsule::close_bytes(77, "good bye")),
    ]);
    vec![
        (
            2,
            concat(&[
                &settings(),
                &grease,
                &frame(kind::MAX_PUSH_ID, &[9]),
                &frame(kind::PRIORITY_UPDATE_REQUEST, b"\x04u=1"),
            ]),
        ),
        (6, b"\x02\x20\x20".to_vec()),
        (10, b"\x03\x44\x7f\x80\x01".to_vec()),
        (14, concat(&[b"\x40\x54\x0c", &[5; 500]])),
        (0, post),
        (4, trailed),
        (8, headers(&[(b":method", b"GET")])),
        (12, session),
        (16, concat(&[b"\x40\x41\x0c", &[6; 500]])),
    ]
}

/// What the app is told of each stream, in order: chunks joined, ends of sessions where they belong.
fn told(connection: &mut Connection, log: &mut BTreeMap<u64, String>) {
    while let Some(event) = connection.poll_event() {
        match event {
            Event::Readable(id) => read(connection, id.0, log),
            Event::SessionRequest { id, .. } => {
                // It may have been closed right behind its request.
                if connection.accept_session(id, HeaderMap::new()).is_ok() {
                    *log.entry(id.0).or_default() += "session ";
                }
            }
            Event::Request { id, request, .. } => *log.entry(id.0).or_default() += &format!("{} ", request.uri()),
            Event::Refused { id, verdict, .. } => *log.entry(id.0).or_default() += &format!("{verdict:?} "),
            Event::Stream { id, session } => *log.entry(id.0).or_default() += &format!("of {} ", session.0),
            Event::SessionClosed { id, code, reason } => *log.entry(id.0).or_default() += &format!("{code} {reason}"),
            Event::Datagram { id, payload } => *log.entry(id.0).or_default() += &format!("{payload:?} "),
            Event::Settings(settings) => *log.entry(2).or_default() += &format!("{settings:?}"),
            Event::Cancelled { .. } | Event::StreamReset { .. } | Event::StreamStopped { .. } => {}
            other => panic!("nothing else is expected: {other:?}"),
        }
    }
}

fn read(connection: &mut Connection, id: u64, log: &mut BTreeMap<u64, String>) {
    let log = log.entry(id).or_default();
    while let Some(piece) = connection.read(StreamId(id)) {
        match piece {
            Piece::Data(bytes) => bytes.iter().for_each(|byte| *log += &byte.to_string()),
            Piece::Trailers(map) => *log += &format!(" {map:?} "),
            Piece::End => *log += "end",
        }
    }
}

/// Plays the script, cut and mixed by the seed; the session is closed last, as its end takes its streams along.
fn play(seed: u64) -> BTreeMap<u64, String> {
    let mut rng = Rng(seed);
    let mut connection = fresh(true, config());
    let mut log = BTreeMap::new();
    let mut streams: Vec<(u64, Vec<u8>, usize)> = script().into_iter().map(|(id, bytes)| (id, bytes, 0)).collect();
    let close = capsule::close_bytes(77, "good bye").len() + 2;
    while !streams.is_empty() {
        let which = rng.below(streams.len());
        let accepted = log.get(&12).is_some_and(|log: &String| log.ends_with("\" "));
        let hold = streams.len() > 1 || !accepted;
        let (id, bytes, at) = &mut streams[which];
        let held = if *id == 12 && hold { close } else { 0 };
        let left = bytes.len() - *at - held;
        let len = [1, 2, 3, 50, 1_000][rng.below(5)].min(left);
        let fin = *at + len == bytes.len();
        feed(&mut connection, *id, &bytes[*at..*at + len], fin && !matches!(*id, 2 | 6 | 10));
        *at += len;
        told(&mut connection, &mut log);
        let actions = drain_actions(&mut connection);
        assert_eq!(closed(&actions), None, "seed {seed}");
        if fin {
            streams.remove(which);
        }
    }
    assert_eq!((connection.in_bytes(), connection.sessions.len()), (0, 0), "seed {seed}");
    log
}

#[test]
fn resets_and_stops_in_every_state_leave_nothing() {
    for (id, bytes) in script().into_iter().filter(|(id, _)| !matches!(id, 2 | 6 | 10)) {
        for cut in 0..=bytes.len() {
            for both in [&[true, false][..], &[true], &[false], &[false, true]] {
                let mut connection = server(config());
                if matches!(id, 14 | 16) {
                    feed(&mut connection, 12, &headers(&CONNECT_WT), false);
                }
                feed(&mut connection, id, &bytes[..cut], false);
                told(&mut connection, &mut BTreeMap::new());
                for by_reset in both {
                    match by_reset {
                        true => connection.on_reset(Instant::now(), StreamId(id), Code::REQUEST_CANCELLED),
                        false => connection.on_stop(Instant::now(), StreamId(id), Code::REQUEST_CANCELLED),
                    }
                }
                feed(&mut connection, id, &bytes[cut..], true);
                assert_eq!(closed(&drain_actions(&mut connection)), None, "stream {id} at {cut}");
                for id in [id, 12] {
                    connection.reset(StreamId(id), Code::REQUEST_CANCELLED);
                }
                assert_eq!((connection.streams_len(), connection.in_bytes(), connection.requests), (0, 0, 0));
                assert!(connection.early.deadline().is_none() && connection.sessions.is_empty());
            }
        }
    }
}

#[test]
fn any_split_gives_the_same_events() {
    let expected = play(1);
    assert!(expected[&0].starts_with("/ 111") && expected[&0].ends_with("222end"), "{expected:?}");
    assert!(expected[&8].contains("Reset") && expected[&16].starts_with("of 12 666"), "{expected:?}");
    assert_eq!(expected[&12], "session b\"datagram\" 77 good bye");
    for seed in 2..2_000 {
        assert_eq!(play(seed), expected, "seed {seed}");
    }
}
