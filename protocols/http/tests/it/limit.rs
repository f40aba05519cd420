//! Memory stays bounded, whatever the peer does.

use bytes::{Bytes, BytesMut};
use http::Response;
use ringshard_http::{Connection, INPUT_MAX, Limits, OUTPUT_PAUSE, PIPELINE_MAX, Rule};

use crate::owner::Owner;

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn a_stalled_reader_that_pipelines_stops_being_read() {
    let page = Bytes::from(vec![b'p'; OUTPUT_PAUSE]);
    let mut owner = Owner::http1();
    let mut fed = 0;
    while owner.connection.wants_input() {
        fed += GET.len() * 100;
        owner.feed(GET.repeat(100));
        while !owner.requests.is_empty() {
            let id = owner.requests.remove(0).0;
            owner.answer(id, page.clone());
        }
        assert!(fed < INPUT_MAX, "the owner must be asked to pause");
    }
    // What was read before the pause is answered as the reader goes on.
    let (mut answers, mut taken) = (0, 0);
    loop {
        let bytes = owner.output_bytes();
        if bytes.is_empty() {
            break;
        }
        assert!(bytes.len() <= (PIPELINE_MAX + 1) * (OUTPUT_PAUSE + 100));
        taken += bytes.len();
        owner.poll();
        while !owner.requests.is_empty() {
            let id = owner.requests.remove(0).0;
            owner.answer(id, page.clone());
            answers += 1;
        }
    }
    assert!(answers > 0 && taken > page.len() * (fed / GET.len()));
    assert!(owner.connection.is_idle());
}

#[test]
fn an_owner_that_never_pauses_is_cut_off() {
    for new in [Connection::http1, Connection::sniffing] {
        let mut owner = Owner::of(new);
        let mut fed = 0;
        while owner.refused.is_empty() {
            owner.feed(GET.repeat(1000));
            fed += GET.len() * 1000;
            assert!(fed <= INPUT_MAX * 2);
        }
        assert_eq!(owner.refused, [Rule::InputFlood]);
        assert!(owner.connection.wants_close());
    }
}

#[test]
fn output_is_taken_in_pieces_of_any_size() {
    let body: Bytes = (0..200_000u32).map(|index| (index % 251) as u8).collect();
    for max in [1, 7, 1000, 65_536, usize::MAX] {
        let mut owner = Owner::http1();
        owner.feed(GET);
        let id = owner.requests.remove(0).0;
        owner.answer(id, body.clone());
        let (mut out, mut got) = (BytesMut::new(), Vec::new());
        while owner.connection.take_output(owner.now, &mut out, max) {
            assert!(out.len() <= max);
            got.extend_from_slice(&out.split());
        }
        assert!(got.ends_with(&body) && got.len() < body.len() + 100);
    }
}

#[test]
fn a_large_body_is_handed_on_without_a_copy() {
    let body = Bytes::from(vec![1; 100_000]);
    let mut owner = Owner::http1();
    owner.feed(GET);
    let id = owner.requests.remove(0).0;
    owner.connection.respond(owner.now, id, Response::new(body.clone()));
    let mut shared = false;
    while let Some(piece) = owner.connection.take_piece(owner.now, usize::MAX) {
        shared |= piece.as_ptr() == body.as_ptr();
    }
    assert!(shared);
}

#[test]
fn an_idle_connection_is_small() {
    assert!(size_of::<Connection>() <= 384, "{}", size_of::<Connection>());
}

#[test]
fn a_body_of_exactly_the_limit_is_taken() {
    let limits = Limits { body_max: 10, ..Limits::default() };
    for (request, refused) in [
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n0123456789", false),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n", true),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n01234\r\n5\r\n56789\r\n0\r\n\r\n",
            false,
        ),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n01234\r\n6\r\n", true),
    ] {
        let mut owner = Owner::with(Connection::http1, limits);
        owner.feed(request);
        assert_eq!(owner.refused == [Rule::BodyTooLarge], refused, "{request}");
        assert_eq!(owner.requests.len(), usize::from(!refused));
    }
}
